//! Local simplification: folds constants and rewrites operations to simpler or cheaper ones. Rules point one way and
//! the right side is never more work than the left. Results keep their type; NaN and infinities keep their meaning
//! (so `x · 0` stays), save in sums: what is constant along their axes is multiplied once, behind the sum, and deviations
//! from their own mean add up to 0 (`sums`).

mod sums;

use super::{PassCx, PassError};
use crate::ir::graph::{Graph, Node, NodeId};
use crate::ir::interp::kernel::apply;
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::ir::types::{Type, broadcast};
use kur_runtime::dim::Dim;

pub(super) fn run(_cx: &PassCx, graph: &mut Graph) -> Result<bool, PassError> {
    let uses = graph.use_counts();
    let old = std::mem::take(&mut graph.nodes);
    // Uses of the values of the new graph, as far as they are the old ones.
    let mut new_uses: Vec<u32> = Vec::with_capacity(old.len());
    let mut map: Vec<NodeId> = Vec::with_capacity(old.len());
    let mut changed = false;
    for (i, mut node) in old.into_iter().enumerate() {
        for a in &mut node.args {
            *a = map[a.index()];
        }
        let before = graph.nodes.len();
        let id = match sums::merge(graph, &node, &new_uses).or_else(|| simplify(graph, &node)) {
            Some(id) => {
                changed = true;
                id
            }
            None => graph.push(node),
        };
        new_uses.resize(graph.nodes.len(), uses[i]);
        debug_assert!(graph.nodes.len() <= before + 2);
        map.push(id);
    }
    for r in &mut graph.results {
        r.value = map[r.value.index()];
    }
    Ok(changed)
}

fn constant(g: &Graph, id: NodeId) -> Option<f64> {
    match g.node(id).op {
        Op::Const(v) => Some(v),
        _ => None,
    }
}

/// A value to use instead of the node, if a rule applies.
fn simplify(g: &mut Graph, node: &Node) -> Option<NodeId> {
    match &node.op {
        Op::Map(op) => map_rules(g, *op, node),
        Op::Size(d) => {
            #[expect(clippy::cast_precision_loss, reason = "sizes above 2^53 cannot be allocated")]
            let v = d.as_const()? as f64;
            Some(push(g, Op::Const(v), Vec::new(), node))
        }
        Op::Broadcast | Op::Reshape if g.ty(node.args[0]) == &node.ty => Some(node.args[0]),
        Op::Reshape => {
            // Only the first shape of a chain matters.
            let inner = g.node(node.args[0]);
            if inner.op == Op::Reshape {
                let x = inner.args[0];
                return Some(if g.ty(x) == &node.ty { x } else { push(g, Op::Reshape, vec![x], node) });
            }
            None
        }
        Op::Broadcast => {
            let x = stretched(g, node.args[0]);
            (x != node.args[0]).then(|| push(g, Op::Broadcast, vec![x], node))
        }
        Op::Reduce { op, axes } => sums::simplify(g, node, *op, axes),
        Op::Transpose { perm } => {
            if perm.iter().enumerate().all(|(i, p)| i == *p) {
                return Some(node.args[0]);
            }
            let inner = g.node(node.args[0]);
            let Op::Transpose { perm: first } = &inner.op else { return None };
            let both: Vec<usize> = perm.iter().map(|p| first[*p]).collect();
            let x = inner.args[0];
            Some(push(g, Op::Transpose { perm: both }, vec![x], node))
        }
        Op::MatMul { ta, tb } => {
            // A transposed operand is a flag of the product, not a copy.
            let (l, r) = (untransposed(g, node.args[0]), untransposed(g, node.args[1]));
            if l.is_none() && r.is_none() {
                return None;
            }
            let op = Op::MatMul { ta: *ta != l.is_some(), tb: *tb != r.is_some() };
            Some(push(g, op, vec![l.unwrap_or(node.args[0]), r.unwrap_or(node.args[1])], node))
        }
        Op::Concat { .. } => (node.args.len() == 1).then_some(node.args[0]),
        Op::Slice { .. } | Op::Pad { .. } => (g.ty(node.args[0]) == &node.ty).then_some(node.args[0]),
        Op::Input { .. }
        | Op::State { .. }
        | Op::Control(_)
        | Op::Const(_)
        | Op::Random { .. }
        | Op::Conv(_)
        | Op::ConvGradInput(_)
        | Op::ConvGradWeight(_)
        | Op::Pool(_)
        | Op::PoolGrad(_)
        | Op::Softmax { .. }
        | Op::ArgMax
        | Op::Positions
        | Op::Rnn(_)
        | Op::RnnGrad(..)
        | Op::RnnGradWeight(_)
        | Op::RnnGradBias(_)
        | Op::Part(_)
        | Op::PartGrad(_)
        | Op::Scan { .. }
        | Op::Shift { .. }
        | Op::Ctc { .. }
        | Op::CtcGrad { .. }
        | Op::Lengths { .. }
        | Op::Gather
        | Op::GatherGrad => None,
    }
}

fn push(g: &mut Graph, op: Op, args: Vec<NodeId>, like: &Node) -> NodeId {
    g.push(Node { op, args, ty: like.ty.clone(), layer: like.layer })
}

/// The operand of a transposition of the last two axes.
fn untransposed(g: &Graph, id: NodeId) -> Option<NodeId> {
    let node = g.node(id);
    let Op::Transpose { perm } = &node.op else { return None };
    let r = perm.len();
    let swapped = r >= 2 && perm[..r - 2].iter().enumerate().all(|(i, p)| i == *p) && perm[r - 2..] == [r - 1, r - 2];
    swapped.then(|| node.args[0])
}

fn map_rules(g: &mut Graph, op: ScalarOp, node: &Node) -> Option<NodeId> {
    let consts: Vec<Option<f64>> = node.args.iter().map(|a| constant(g, *a)).collect();
    if node.ty.rank() == 0
        && op != ScalarOp::FromU32
        && let Some(values) = consts.iter().copied().collect::<Option<Vec<f64>>>()
    {
        return Some(push(g, Op::Const(apply(op, &values)), Vec::new(), node));
    }
    let same = |g: &Graph, i: usize| (g.ty(node.args[i]) == &node.ty).then(|| node.args[i]);
    let is = |i: usize, v: f64| consts.get(i).copied().flatten().is_some_and(|c| c.to_bits() == v.to_bits());
    let neutral = match op {
        ScalarOp::Mul if is(1, 1.0) => same(g, 0),
        ScalarOp::Mul if is(0, 1.0) => same(g, 1),
        ScalarOp::Div if is(1, 1.0) => same(g, 0),
        ScalarOp::Sub if is(1, 0.0) => same(g, 0),
        // −0 + 0 is 0: only the constant −0 would be exact, but the sign of a zero carries no meaning in a Kurfile.
        ScalarOp::Add if is(1, 0.0) => same(g, 0),
        ScalarOp::Add if is(0, 0.0) => same(g, 1),
        ScalarOp::Neg => {
            let inner = g.node(node.args[0]);
            (inner.op == Op::Map(ScalarOp::Neg)).then(|| inner.args[0])
        }
        _ => None,
    };
    if neutral.is_some() {
        return neutral;
    }
    // a + a is 2a, which a sum lets out.
    if op == ScalarOp::Add && node.args[0] == node.args[1] {
        let two = g.add(Op::Const(2.0), &[], node.layer);
        return Some(push(g, Op::Map(ScalarOp::Mul), vec![node.args[0], two], node));
    }
    if op == ScalarOp::Mul && (is(1, -1.0) || is(0, -1.0)) {
        let x = node.args[usize::from(is(0, -1.0))];
        if g.ty(x) == &node.ty {
            return Some(push(g, Op::Map(ScalarOp::Neg), vec![x], node));
        }
    }
    // a − (−b) and a + (−b) need no negation.
    if matches!(op, ScalarOp::Add | ScalarOp::Sub) {
        let inner = g.node(node.args[1]);
        if inner.op == Op::Map(ScalarOp::Neg) {
            let other = if op == ScalarOp::Add { ScalarOp::Sub } else { ScalarOp::Add };
            let b = inner.args[0];
            return Some(push(g, Op::Map(other), vec![node.args[0], b], node));
        }
    }
    // A map broadcasts its operands anyway: explicit broadcasts that do not decide the shape are dropped.
    let bare: Vec<NodeId> = node.args.iter().map(|a| stretched(g, *a)).collect();
    if bare != node.args {
        // None kept is best; else keep the one that decides the shape.
        let keep_none = std::iter::once(bare.len());
        for keep in keep_none.chain(0..bare.len()) {
            let candidate: Vec<NodeId> =
                (0..bare.len()).map(|i| if i == keep { node.args[i] } else { bare[i] }).collect();
            if candidate != node.args && shape_of(g, &candidate).as_deref() == Some(&node.ty.shape[..]) {
                return Some(push(g, Op::Map(op), candidate, node));
            }
        }
    }
    None
}

/// A value that broadcasts to the same elements: what an explicit broadcast stretches, or the scalar that a reshape
/// dresses up with axes of size 1.
fn stretched(g: &Graph, id: NodeId) -> NodeId {
    let node = g.node(id);
    let Some(x) = node.args.first().copied() else { return id };
    match node.op {
        Op::Broadcast => x,
        Op::Reshape if g.ty(x).rank() == 0 => x,
        _ => id,
    }
}

fn shape_of(g: &Graph, args: &[NodeId]) -> Option<Vec<Dim>> {
    let mut shape = Vec::new();
    for a in args {
        let Type { shape: s, .. } = g.ty(*a);
        shape = broadcast(&shape, s).ok()?;
    }
    Some(shape)
}
