//! The gradient table: one entry per operation. `g` is the gradient of the loss to the node's result `y`; an entry
//! gives the gradient to each operand, `None` where the operation is flat.

use crate::ir::graph::{Builder, Node, NodeId};
use crate::ir::infer::sum_of;
use crate::ir::kernel::{ReduceOp, ScalarOp};
use crate::ir::op::{Op, RnnAttrs};
use kur_runtime::plan::{PartOf, RnnGradOf, StepPick};

/// Vector–Jacobian products of one node, one entry per operand. `wanted` says which are needed.
///
/// # Errors
/// The operation is not differentiable.
pub(super) fn vjp(
    b: &mut Builder<'_>,
    y: NodeId,
    node: &Node,
    g: NodeId,
    wanted: &[bool],
) -> Result<Vec<Option<NodeId>>, String> {
    let x = &node.args;
    let some = |ids: Vec<NodeId>| Ok(ids.into_iter().map(Some).collect());
    match &node.op {
        Op::Map(op) => {
            let grads = scalar(b, *op, y, x, g, wanted);
            Ok(grads
                .into_iter()
                .zip(x)
                .map(|(grad, x)| {
                    let shape = b.shape(*x);
                    grad.map(|grad| b.unbroadcast(grad, &shape))
                })
                .collect())
        }
        Op::Broadcast => {
            let shape = b.shape(x[0]);
            some(vec![b.unbroadcast(g, &shape)])
        }
        Op::Reduce { op: ReduceOp::Add, .. } => {
            let shape = b.shape(x[0]);
            some(vec![b.broadcast(g, shape)])
        }
        Op::Reduce { axes, .. } => {
            // Equal winners share the gradient, so that the sum over operands stays g.
            let mask = b.map(ScalarOp::Eq, &[x[0], y]);
            let count = b.sum(mask, axes);
            let share = b.div(g, count);
            some(vec![b.mul(mask, share)])
        }
        Op::Reshape => {
            let shape = b.shape(x[0]);
            some(vec![b.reshape(g, shape)])
        }
        Op::Transpose { perm } => {
            let mut inverse = vec![0; perm.len()];
            for (i, p) in perm.iter().enumerate() {
                inverse[*p] = i;
            }
            some(vec![b.op(Op::Transpose { perm: inverse }, &[g])])
        }
        Op::MatMul { ta, tb } => {
            let mut mm =
                |on: bool, l: NodeId, r: NodeId, ta: bool, tb: bool| on.then(|| b.op(Op::MatMul { ta, tb }, &[l, r]));
            let (l, r) = (x[0], x[1]);
            Ok(vec![
                match (ta, tb) {
                    (false, false) => mm(wanted[0], g, r, false, true),
                    (false, true) => mm(wanted[0], g, r, false, false),
                    (true, false) => mm(wanted[0], r, g, false, true),
                    (true, true) => mm(wanted[0], r, g, true, true),
                },
                match (ta, tb) {
                    (false, false) => mm(wanted[1], l, g, true, false),
                    (false, true) => mm(wanted[1], g, l, true, false),
                    (true, false) => mm(wanted[1], l, g, false, false),
                    (true, true) => mm(wanted[1], g, l, true, true),
                },
            ])
        }
        Op::Conv(a) => {
            let (xs, ws) = (b.shape(x[0]), b.shape(x[1]));
            Ok(vec![
                wanted[0].then(|| b.shaped(Op::ConvGradInput(a.clone()), &[g, x[1]], xs)),
                wanted[1].then(|| b.shaped(Op::ConvGradWeight(a.clone()), &[x[0], g], ws)),
            ])
        }
        Op::ConvGradInput(a) => {
            let ws = b.shape(x[1]);
            Ok(vec![
                wanted[0].then(|| b.op(Op::Conv(a.clone()), &[g, x[1]])),
                wanted[1].then(|| b.shaped(Op::ConvGradWeight(a.clone()), &[g, x[0]], ws)),
            ])
        }
        Op::ConvGradWeight(a) => {
            let xs = b.shape(x[0]);
            Ok(vec![
                wanted[0].then(|| b.shaped(Op::ConvGradInput(a.clone()), &[x[1], g], xs)),
                wanted[1].then(|| b.op(Op::Conv(a.clone()), &[x[0], g])),
            ])
        }
        Op::Pool(a) => some(vec![b.op(Op::PoolGrad(a.clone()), &[x[0], y, g])]),
        Op::PoolGrad(_) => Err("`pool_grad` has no gradient: second derivatives of pooling are not built".to_owned()),
        Op::Softmax { log: false } => {
            let last = b.shape(y).len() - 1;
            let gy = b.mul(g, y);
            let s = b.sum(gy, &[last]);
            let centred = b.sub(g, s);
            some(vec![b.mul(centred, y)])
        }
        Op::Softmax { log: true } => {
            let last = b.shape(y).len() - 1;
            let s = b.sum(g, &[last]);
            let p = b.op(Op::Softmax { log: false }, &[x[0]]);
            let ps = b.mul(p, s);
            some(vec![b.sub(g, ps)])
        }
        Op::Rnn(a) => {
            let gxw = rnn(b, a, y, x[1], g)?;
            let mut grads = vec![Some(gxw), wanted[1].then(|| b.op(Op::RnnGradWeight(*a), &[y, gxw]))];
            if let Some(bias) = wanted.get(2) {
                grads.push(bias.then(|| b.op(Op::RnnGradBias(*a), &[y, gxw])));
            }
            Ok(grads)
        }
        Op::Part(p) => {
            let shape = b.shape(x[0]);
            some(vec![b.shaped(Op::PartGrad(*p), &[g], shape)])
        }
        Op::PartGrad(p) => some(vec![b.op(Op::Part(*p), &[g])]),
        Op::Scan { reverse } => {
            // The gradient to b runs the other way, with the factors of the step after.
            let next = b.op(Op::Shift { reverse: !reverse }, &[x[0]]);
            let gb = b.op(Op::Scan { reverse: !reverse }, &[next, g]);
            let before = wanted[0].then(|| b.op(Op::Shift { reverse: *reverse }, &[y]));
            Ok(vec![before.map(|before| b.mul(gb, before)), Some(gb)])
        }
        Op::Shift { reverse } => some(vec![b.op(Op::Shift { reverse: !reverse }, &[g])]),
        Op::Ctc { blank_first } => {
            let op = Op::CtcGrad { blank_first: *blank_first };
            Ok(vec![wanted[0].then(|| b.op(op, &[x[0], x[1], x[2], x[3], g])), None, None, None])
        }
        Op::RnnGrad(..) | Op::RnnGradWeight(_) | Op::RnnGradBias(_) | Op::CtcGrad { .. } => {
            Err(format!("`{}` has no gradient: second derivatives of it are not built", node.op.name()))
        }
        Op::Concat { axis } => {
            let mut start = Vec::new();
            let mut parts = Vec::with_capacity(x.len());
            for (operand, want) in x.iter().zip(wanted) {
                let shape = b.shape(*operand);
                let size = shape[*axis];
                let op = Op::Slice { axis: *axis, start: sum_of(&start) };
                parts.push(want.then(|| if x.len() == 1 { g } else { b.shaped(op, &[g], shape) }));
                start.push(size);
            }
            Ok(parts)
        }
        Op::Slice { axis, start } => {
            let shape = b.shape(x[0]);
            some(vec![b.shaped(Op::Pad { axis: *axis, start: start.clone() }, &[g], shape)])
        }
        Op::Pad { axis, start } => {
            let shape = b.shape(x[0]);
            some(vec![b.shaped(Op::Slice { axis: *axis, start: start.clone() }, &[g], shape)])
        }
        Op::Gather => {
            let shape = b.shape(x[0]);
            Ok(vec![wanted[0].then(|| b.shaped(Op::GatherGrad, &[x[1], g], shape)), None])
        }
        // Linear in gy: its gradient looks the rows up again.
        Op::GatherGrad => Ok(vec![None, wanted[1].then(|| b.op(Op::Gather, &[g, x[0]]))]),
        Op::ArgMax | Op::Random { .. } | Op::Lengths { .. } => Ok(vec![None; x.len()]),
        Op::Input { .. } | Op::State { .. } | Op::Control(_) | Op::Const(_) | Op::Size(_) | Op::Positions => {
            Ok(Vec::new())
        }
    }
}

/// The gradient of a recurrent layer to its input products. `g`, the gradient to the tape, is a sum of gradients that
/// came through [`Op::Part`] from the states.
fn rnn(b: &mut Builder<'_>, a: &RnnAttrs, tape: NodeId, kernel: NodeId, g: NodeId) -> Result<NodeId, String> {
    let end = if a.reverse { StepPick::First } else { StepPick::Last };
    let node = b.graph.node(g).clone();
    let of = match node.op {
        Op::Map(ScalarOp::Add) => {
            let left = rnn(b, a, tape, kernel, node.args[0])?;
            let right = rnn(b, a, tape, kernel, node.args[1])?;
            return Ok(b.add(left, right));
        }
        Op::PartGrad(PartOf { part: 0, steps: StepPick::All, .. }) => RnnGradOf::States,
        Op::PartGrad(PartOf { part: 0, steps, .. }) if steps == end => RnnGradOf::Final,
        _ => {
            let name = Op::Rnn(*a).name();
            return Err(format!("`{name}` is differentiated through its states and the final one only"));
        }
    };
    Ok(b.op(Op::RnnGrad(*a, of), &[tape, kernel, node.args[0]]))
}

/// Gradients of a scalar operation before the broadcast is undone.
fn scalar(
    b: &mut Builder<'_>,
    op: ScalarOp,
    y: NodeId,
    x: &[NodeId],
    g: NodeId,
    wanted: &[bool],
) -> Vec<Option<NodeId>> {
    let want = |i: usize| wanted.get(i).copied().unwrap_or(false);
    match op {
        ScalarOp::Add => vec![Some(g), Some(g)],
        ScalarOp::Sub => vec![Some(g), want(1).then(|| b.neg(g))],
        ScalarOp::Mul => vec![want(0).then(|| b.mul(g, x[1])), want(1).then(|| b.mul(g, x[0]))],
        ScalarOp::Div => {
            let q = b.div(g, x[1]);
            let second = want(1).then(|| {
                let t = b.mul(q, y);
                b.neg(t)
            });
            vec![Some(q), second]
        }
        // A tie goes to the second operand: relu(x) = max(x, 0) is flat at 0. The winner is read off the result, so
        // that the first operand need not be kept.
        ScalarOp::Max => {
            let first = b.map(ScalarOp::Lt, &[x[1], y]);
            split(b, first, g)
        }
        // A tie goes to the first operand, so that max(x, 0) + min(x, 0) has slope 1 at 0.
        ScalarOp::Min => {
            let first = b.map(ScalarOp::Le, &[x[0], x[1]]);
            split(b, first, g)
        }
        ScalarOp::Pow => vec![
            want(0).then(|| {
                let less = b.add_const(x[1], -1.0);
                let p = b.map(ScalarOp::Pow, &[x[0], less]);
                let p = b.mul(p, x[1]);
                b.mul(g, p)
            }),
            want(1).then(|| {
                let l = b.map(ScalarOp::Log, &[x[0]]);
                let t = b.mul(y, l);
                b.mul(g, t)
            }),
        ],
        ScalarOp::Select => {
            let zero = b.constant(0.0);
            vec![
                None,
                want(1).then(|| b.map(ScalarOp::Select, &[x[0], g, zero])),
                want(2).then(|| b.map(ScalarOp::Select, &[x[0], zero, g])),
            ]
        }
        ScalarOp::Neg => vec![Some(b.neg(g))],
        ScalarOp::Abs => {
            let s = b.map(ScalarOp::Sign, &[x[0]]);
            vec![Some(b.mul(g, s))]
        }
        ScalarOp::Sqrt => {
            let half = b.mul_const(g, 0.5);
            vec![Some(b.div(half, y))]
        }
        ScalarOp::Exp => vec![Some(b.mul(g, y))],
        ScalarOp::Log => vec![Some(b.div(g, x[0]))],
        ScalarOp::Log1p => {
            let d = b.add_const(x[0], 1.0);
            vec![Some(b.div(g, d))]
        }
        ScalarOp::Expm1 => {
            let e = b.add_const(y, 1.0);
            vec![Some(b.mul(g, e))]
        }
        ScalarOp::Tanh => {
            let yy = b.mul(y, y);
            let one = b.constant(1.0);
            let d = b.sub(one, yy);
            vec![Some(b.mul(g, d))]
        }
        ScalarOp::Sigmoid => {
            let one = b.constant(1.0);
            let d = b.sub(one, y);
            let d = b.mul(d, y);
            vec![Some(b.mul(g, d))]
        }
        ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq => vec![None, None],
        ScalarOp::Sign | ScalarOp::FromU32 => vec![None],
    }
}

/// `g` to the first operand where `first` is 1, else to the second.
fn split(b: &mut Builder<'_>, first: NodeId, g: NodeId) -> Vec<Option<NodeId>> {
    let zero = b.constant(0.0);
    vec![Some(b.map(ScalarOp::Select, &[first, g, zero])), Some(b.map(ScalarOp::Select, &[first, zero, g]))]
}
