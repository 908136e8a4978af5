//! Runs a graph on ndarray tensors in f64. What comes in: a verified graph, batch inputs and state; what goes out:
//! every result. Nothing is optimised; each operation is written as its definition.

use kur_runtime::abi::rng;
use kur_runtime::dim::{Dim, Sym};
use kur_runtime::plan::InputRole;
use ndarray::{ArrayD, Axis, IxDyn};

use super::super::graph::{Graph, NodeId, Role};
use super::super::kernel::{ReduceOp, ScalarOp};
use super::super::op::{Control, Op};
use super::conv;
use super::ctc;
use super::kernel::apply;
use super::rnn;
use super::steps;

/// What a run reads.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Values of the free symbols.
    pub sizes: Vec<(Sym, u64)>,
    /// Batch inputs by role and name.
    pub tensors: Vec<(InputRole, String, ArrayD<f64>)>,
    /// One tensor per state, in the order of [`Graph::states`].
    pub states: Vec<ArrayD<f64>>,
    /// The run's seed.
    pub seed: u32,
    /// Updates done before this step.
    pub updates: u32,
}

/// What a run gives.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Outputs and metrics in result order.
    pub values: Vec<(String, ArrayD<f64>)>,
    /// New states: index and value.
    pub updates: Vec<(u32, ArrayD<f64>)>,
    /// Gradients: index of the parameter and value.
    pub gradients: Vec<(u32, ArrayD<f64>)>,
}

/// Runs a graph.
///
/// # Errors
/// A missing or misshapen input or state.
pub fn run(g: &Graph, inputs: &Inputs) -> Result<Outcome, String> {
    let sizes = g.symbols.values(&inputs.sizes);
    let mut values: Vec<ArrayD<f64>> = Vec::with_capacity(g.nodes.len());
    for id in g.ids() {
        let v = eval(g, id, inputs, &sizes, &values)?;
        let want: Vec<usize> = g.shape(id).iter().map(|d| to_usize(d.eval(&sizes))).collect();
        if v.shape() != want.as_slice() {
            return Err(format!("{}: shape {:?} where {want:?} was expected", g.node(id).op.name(), v.shape()));
        }
        values.push(v);
    }
    let mut out = Outcome::default();
    for r in &g.results {
        let v = values[r.value.index()].clone();
        match &r.role {
            Role::Output(n) | Role::Metric(n) => out.values.push((n.clone(), v)),
            Role::Update(i) => out.updates.push((*i, v)),
            Role::Gradient(i) => out.gradients.push((*i, v)),
        }
    }
    Ok(out)
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn scalar(v: f64) -> ArrayD<f64> {
    ArrayD::from_elem(IxDyn(&[]), v)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "u32 counters are exact in f64"
)]
fn eval(g: &Graph, id: NodeId, inputs: &Inputs, sizes: &[u64], values: &[ArrayD<f64>]) -> Result<ArrayD<f64>, String> {
    let node = g.node(id);
    let arg = |i: usize| &values[node.args[i].index()];
    let shape: Vec<usize> = node.ty.shape.iter().map(|d| to_usize(d.eval(sizes))).collect();
    Ok(match &node.op {
        Op::Input { name, role } => inputs
            .tensors
            .iter()
            .find(|(r, n, _)| r == role && n == name)
            .map(|(_, _, t)| t.clone())
            .ok_or_else(|| format!("no value for input `{name}`"))?,
        Op::State { index } => inputs.states.get(*index as usize).cloned().ok_or("a state has no value")?,
        Op::Control(Control::Seed) => scalar(f64::from(inputs.seed)),
        Op::Control(Control::Updates) => scalar(f64::from(inputs.updates)),
        Op::Const(v) => scalar(*v),
        Op::Size(d) => scalar(d.eval(sizes) as f64),
        Op::Map(op) => map(*op, &node.args.iter().map(|a| &values[a.index()]).collect::<Vec<_>>(), &shape)?,
        Op::Broadcast => broadcast(arg(0), &shape)?,
        Op::Random { key } => {
            let (seed, updates) = (first(arg(0)) as u32, first(arg(1)) as u32);
            let stream = rng::stream(seed, *key, updates);
            let n: usize = shape.iter().product();
            let data = (0..n).map(|i| f64::from(rng::uniform(stream, i as u32))).collect();
            ArrayD::from_shape_vec(IxDyn(&shape), data).map_err(|e| e.to_string())?
        }
        Op::Reduce { op, axes } => {
            let mut v = arg(0).clone();
            for a in axes {
                v = match op {
                    ReduceOp::Add => v.sum_axis(Axis(*a)),
                    ReduceOp::Max => v.fold_axis(Axis(*a), f64::NEG_INFINITY, |x, y| nan_max(*x, *y)),
                    ReduceOp::Min => v.fold_axis(Axis(*a), f64::INFINITY, |x, y| -nan_max(-*x, -*y)),
                }
                .insert_axis(Axis(*a));
            }
            v
        }
        Op::Reshape => standard(arg(0)).into_shape_with_order(IxDyn(&shape)).map_err(|e| e.to_string())?,
        Op::Transpose { perm } => standard(&arg(0).clone().permuted_axes(IxDyn(perm))),
        Op::MatMul { ta, tb } => matmul(arg(0), arg(1), *ta, *tb, &shape)?,
        Op::Conv(a) => conv::forward(a, arg(0), arg(1), &shape),
        Op::ConvGradInput(a) => conv::grad_input(a, arg(0), arg(1), &shape),
        Op::ConvGradWeight(a) => conv::grad_weight(a, arg(0), arg(1), &shape),
        Op::Pool(a) => conv::pool(a, arg(0), &shape),
        Op::PoolGrad(a) => conv::pool_grad(a, arg(0), arg(2)),
        Op::Softmax { log } => {
            let mut v = arg(0).clone();
            let last = Axis(v.ndim() - 1);
            for mut row in v.lanes_mut(last) {
                let max = row.iter().fold(f64::NEG_INFINITY, |a, b| nan_max(a, *b));
                let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
                row.mapv_inplace(|x| if *log { x - max - sum.ln() } else { (x - max).exp() / sum });
            }
            v
        }
        Op::Positions => ArrayD::from_shape_fn(IxDyn(&shape), |at| f64::from(u32::try_from(at[0]).unwrap_or(u32::MAX))),
        Op::ArgMax => {
            let v = arg(0);
            let last = Axis(v.ndim() - 1);
            v.map_axis(last, |row| {
                let mut best = 0;
                for (i, x) in row.iter().enumerate() {
                    if *x > row[best] {
                        best = i;
                    }
                }
                best as f64
            })
            .insert_axis(last)
        }
        Op::Rnn(a) => rnn::forward(a, arg(0), arg(1), (node.args.len() > 2).then(|| arg(2)), &shape),
        Op::RnnGrad(a, of) => rnn::grad(a, *of, arg(0), arg(1), arg(2), &shape),
        Op::RnnGradWeight(a) => rnn::grad_weight(a, arg(0), arg(1), &shape),
        Op::RnnGradBias(a) => rnn::grad_bias(a, arg(0), arg(1), &shape),
        Op::Part(p) => steps::part(*p, arg(0), &shape),
        Op::PartGrad(p) => steps::part_grad(*p, arg(0), &shape),
        Op::Scan { reverse } => steps::scan(*reverse, arg(0), arg(1)),
        Op::Shift { reverse } => steps::shift(*reverse, arg(0)),
        Op::Ctc { blank_first } => ctc::losses(*blank_first, [arg(0), arg(1), arg(2), arg(3)])?,
        Op::CtcGrad { blank_first } => ctc::grad(*blank_first, [arg(0), arg(1), arg(2), arg(3)], arg(4))?,
        Op::Lengths { window, stride } => arg(0).mapv(|x| steps::length(x, window, stride)),
        Op::Concat { axis } => {
            let parts: Vec<_> = node.args.iter().map(|a| values[a.index()].view()).collect();
            ndarray::concatenate(Axis(*axis), &parts).map_err(|e| e.to_string())?
        }
        Op::Slice { axis, start } => {
            let (first, len) = (sum(start, sizes), shape[*axis]);
            if first.checked_add(len).is_none_or(|end| end > arg(0).shape()[*axis]) {
                return Err("a part reaches beyond its axis".to_owned());
            }
            arg(0).slice_axis(Axis(*axis), (first..first + len).into()).to_owned()
        }
        Op::Pad { axis, start } => {
            let (first, len) = (sum(start, sizes), arg(0).shape()[*axis]);
            if first.checked_add(len).is_none_or(|end| end > shape[*axis]) {
                return Err("a part reaches beyond its axis".to_owned());
            }
            let mut v = ArrayD::zeros(IxDyn(&shape));
            v.slice_axis_mut(Axis(*axis), (first..first + len).into()).assign(arg(0));
            v
        }
        Op::Gather => {
            let (table, index) = (arg(0), arg(1));
            let mut data = Vec::new();
            for i in index {
                data.extend(table.index_axis(Axis(0), table_row(*i, table.shape()[0])?).iter().copied());
            }
            ArrayD::from_shape_vec(IxDyn(&shape), data).map_err(|e| e.to_string())?
        }
        Op::GatherGrad => {
            let mut v = ArrayD::zeros(IxDyn(&shape));
            let gy = standard(arg(1)).into_shape_with_order((arg(0).len(), shape[1])).map_err(|e| e.to_string())?;
            for (i, g) in arg(0).iter().zip(gy.rows()) {
                let mut row = v.index_axis_mut(Axis(0), table_row(*i, shape[0])?);
                row += &g;
            }
            v
        }
    })
}

fn sum(dims: &[Dim], sizes: &[u64]) -> usize {
    dims.iter().fold(0, |a, d| a.saturating_add(to_usize(d.eval(sizes))))
}

/// The row that an index means.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against the rows first")]
fn table_row(index: f64, rows: usize) -> Result<usize, String> {
    #[expect(clippy::cast_precision_loss, reason = "tables have at most 2^24 rows")]
    let inside = index.trunc() >= 0.0 && index.trunc() < rows as f64;
    if inside {
        Ok(index.trunc() as usize)
    } else {
        Err(format!("the index {index} is outside a table of {rows} rows"))
    }
}

fn first(a: &ArrayD<f64>) -> f64 {
    a.iter().next().copied().unwrap_or(0.0)
}

fn standard(a: &ArrayD<f64>) -> ArrayD<f64> {
    a.as_standard_layout().into_owned()
}

fn broadcast(a: &ArrayD<f64>, shape: &[usize]) -> Result<ArrayD<f64>, String> {
    a.broadcast(IxDyn(shape)).map(|v| v.to_owned()).ok_or_else(|| "operand does not broadcast".to_owned())
}

fn map(op: ScalarOp, args: &[&ArrayD<f64>], shape: &[usize]) -> Result<ArrayD<f64>, String> {
    let args = args.iter().map(|a| broadcast(a, shape)).collect::<Result<Vec<_>, _>>()?;
    let mut out = args[0].clone();
    match args.as_slice() {
        [_] => out.mapv_inplace(|x| apply(op, &[x])),
        [_, b] => out.zip_mut_with(b, |x, y| *x = apply(op, &[*x, *y])),
        [_, b, c] => ndarray::Zip::from(&mut out).and(b).and(c).for_each(|x, y, z| *x = apply(op, &[*x, *y, *z])),
        _ => return Err("no scalar operation has so many operands".to_owned()),
    }
    Ok(out)
}

/// The maximum that keeps NaN.
fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn matmul(a: &ArrayD<f64>, b: &ArrayD<f64>, ta: bool, tb: bool, shape: &[usize]) -> Result<ArrayD<f64>, String> {
    let swap = |x: &ArrayD<f64>, t: bool| {
        let mut v = x.clone();
        if t {
            let r = v.ndim();
            v.swap_axes(r - 2, r - 1);
        }
        v
    };
    let (a, b) = (swap(a, ta), swap(b, tb));
    let r = a.ndim();
    let (m, k, n) = (a.shape()[r - 2], a.shape()[r - 1], b.shape()[r - 1]);
    let batch: usize = a.shape()[..r - 2].iter().product();
    let a = standard(&a).into_shape_with_order((batch, m, k)).map_err(|e| e.to_string())?;
    let b = standard(&b).into_shape_with_order((batch, k, n)).map_err(|e| e.to_string())?;
    let mut out = ndarray::Array3::zeros((batch, m, n));
    for i in 0..batch {
        out.index_axis_mut(Axis(0), i).assign(&a.index_axis(Axis(0), i).dot(&b.index_axis(Axis(0), i)));
    }
    out.into_shape_with_order(IxDyn(shape)).map_err(|e| e.to_string())
}
