//! `recurrent` (kur-reference 3.5) as graph building: the products with the input kernel for all steps at once, then one
//! operation through time for each direction.

use kur_runtime::dim::Dim;
use kur_runtime::plan::{CellActivation, Init, PartOf, RnnCell, StateRole, StepPick};

use super::activation::elementwise;
use super::{state, torch_init};
use crate::diag::Reported;
use crate::ir::graph::{Builder, LayerRef, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::{Op, RnnAttrs};
use crate::lower::model::{Cx, unsound};
use crate::model::types::{Activation, Cell, Layer, MergeMode, Recurrent};

/// One direction of a layer.
struct Direction {
    /// Name of its weights: that of the layer, with `_fwd` or `_rev` where there are two (kur-reference 8.2).
    name: String,
    reverse: bool,
    /// Units.
    units: u64,
    /// Input features.
    inputs: u64,
    /// Number of directions.
    of: u32,
}

/// `[n, t, inputs]` to the states of all steps `[n, t, size]` or to the last ones `[n, size]`.
pub(super) fn recurrent(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    r: &Recurrent,
) -> Result<NodeId, Reported> {
    let shape = cx.graph.shape(x).to_vec();
    let &[_, _, inputs] = shape.as_slice() else { return Err(unsound(cx, layer)) };
    let Some(inputs) = inputs.as_const() else { return Err(unsound(cx, layer)) };
    let Some(mode) = r.bidirectional else {
        let d = Direction { name: layer.name.clone(), reverse: false, units: r.size.value, inputs, of: 1 };
        return Ok(direction(cx, layer, at, x, r, &d));
    };
    let units = if mode == MergeMode::Concat { r.size.value / 2 } else { r.size.value };
    let both = [("fwd", false), ("rev", true)].map(|(end, reverse)| {
        let d = Direction { name: format!("{}_{end}", layer.name), reverse, units, inputs, of: 2 };
        direction(cx, layer, at, x, r, &d)
    });
    Ok(join(&mut cx.builder(at), mode, both))
}

fn direction(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: NodeId, r: &Recurrent, d: &Direction) -> NodeId {
    match (r.cell, r.torch) {
        (Cell::Sru, _) => sru(cx, layer, at, x, r, d),
        (Cell::Gru, false) => cell(cx, layer, at, x, r, d, RnnCell::Gru),
        (Cell::Gru, true) => cell(cx, layer, at, x, r, d, RnnCell::GruAfter),
        (Cell::Lstm, _) => cell(cx, layer, at, x, r, d, RnnCell::Lstm),
    }
}

/// Which steps a layer hands on.
fn steps(r: &Recurrent, d: &Direction) -> StepPick {
    match (r.sequence, d.reverse) {
        (true, _) => StepPick::All,
        (false, false) => StepPick::Last,
        (false, true) => StepPick::First,
    }
}

/// GRU and LSTM. Weights as Keras 2 packs them; with `cell: torch` the order of gates and both biases of PyTorch.
fn cell(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    r: &Recurrent,
    d: &Direction,
    cell: RnnCell,
) -> NodeId {
    let (u, packed) = (d.units, d.units * cell.gates());
    let weight = |cx: &mut Cx<'_>, name: &str, shape: &[u64], init: Init| {
        let init = if r.torch { torch_init(u) } else { init };
        state(cx, layer, at, format!("{}/{name}", d.name), StateRole::Param, shape, init)
    };
    let glorot = Init::GlorotUniform { fan_in: d.inputs, fan_out: packed };
    // A new LSTM remembers: its forget gates start open.
    let bias = match cell {
        RnnCell::Lstm => Init::Block { value: 1.0, from: u, to: 2 * u },
        RnnCell::Gru | RnnCell::GruAfter => Init::Constant(0.0),
    };
    let kernel = weight(cx, "kernel", &[d.inputs, packed], glorot);
    let recurrent_kernel = weight(cx, "recurrent_kernel", &[u, packed], Init::Orthogonal);
    let bias = weight(cx, "bias", &[packed], bias);
    let second = r.torch.then(|| weight(cx, "recurrent_bias", &[packed], Init::Constant(0.0)));
    let outer = match (r.torch, r.outer_activation) {
        (true, _) => CellActivation::Tanh,
        (false, None) => CellActivation::Relu,
        (false, Some(a)) => function(a),
    };
    let inner = if r.torch { CellActivation::Sigmoid } else { CellActivation::HardSigmoid };
    let mut b = cx.builder(at);
    let mut xw = product(&mut b, x, kernel, packed);
    xw = b.add(xw, bias);
    let mut args = vec![xw, recurrent_kernel];
    match (cell, second) {
        (RnnCell::GruAfter, Some(second)) => args.push(second),
        (_, Some(second)) => args[0] = b.add(xw, second),
        (_, None) => {}
    }
    let tape = b.op(Op::Rnn(RnnAttrs { cell, inner, outer, reverse: d.reverse }), &args);
    let parts = u32::try_from(cell.parts()).unwrap_or(u32::MAX);
    b.op(Op::Part(PartOf { part: 0, parts, steps: steps(r, d) }), &[tape])
}

/// The elementwise activation of a cell.
fn function(a: Activation) -> CellActivation {
    match a {
        // All but the first are refused where the layer is read.
        Activation::Linear
        | Activation::Softmax
        | Activation::LeakyRelu
        | Activation::Gelu
        | Activation::Silu
        | Activation::Mish
        | Activation::Prelu => CellActivation::Linear,
        Activation::Relu => CellActivation::Relu,
        Activation::Tanh => CellActivation::Tanh,
        Activation::Sigmoid => CellActivation::Sigmoid,
        Activation::HardSigmoid => CellActivation::HardSigmoid,
        Activation::Elu => CellActivation::Elu,
        Activation::Selu => CellActivation::Selu,
        Activation::Softplus => CellActivation::Softplus,
        Activation::Softsign => CellActivation::Softsign,
    }
}

/// `x · w` at every step.
fn product(b: &mut Builder<'_>, x: NodeId, w: NodeId, columns: u64) -> NodeId {
    let shape = b.shape(x);
    let flat = b.reshape(x, vec![shape[0].times(shape[1]), shape[2]]);
    let y = b.op(Op::MatMul { ta: false, tb: false }, &[flat, w]);
    b.reshape(y, vec![shape[0], shape[1], Dim::constant(columns)])
}

/// Simple recurrent units (Lei et al. 2017): `c' = f∘c + (1 − f)∘x̃`, `h = r∘g(c) + (1 − r)∘x`, with g the identity unless
/// `outer_activation` names one. The kernel packs x̃, f, r and, where the input is not as wide as the output, a fourth
/// matrix through which x is handed on; the bias packs f, r.
fn sru(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: NodeId, r: &Recurrent, d: &Direction) -> NodeId {
    let u = d.units;
    let direct = d.inputs == u.saturating_mul(u64::from(d.of));
    let parts = if direct { 3 } else { 4 };
    let packed = u * u64::from(parts);
    let name = |end: &str| format!("{}/{end}", d.name);
    let init = Init::Uniform { limit: sru_limit(d.inputs) };
    let kernel = state(cx, layer, at, name("kernel"), StateRole::Param, &[d.inputs, packed], init);
    let bias = state(cx, layer, at, name("bias"), StateRole::Param, &[2 * u], Init::Constant(0.0));
    let mut b = cx.builder(at);
    let b = &mut b;
    let part = |b: &mut Builder<'_>, x, part, parts| match parts {
        1 => x,
        _ => b.op(Op::Part(PartOf { part, parts, steps: StepPick::All }), &[x]),
    };
    let xw = product(b, x, kernel, packed);
    let bias = b.reshape(bias, vec![Dim::ONE, Dim::ONE, Dim::constant(2 * u)]);
    let gate = |b: &mut Builder<'_>, at: u32| {
        let (sum, bias) = (part(b, xw, at, parts), part(b, bias, at - 1, 2));
        let sum = b.add(sum, bias);
        b.map(ScalarOp::Sigmoid, &[sum])
    };
    let (new, forget, reset) = (part(b, xw, 0, parts), gate(b, 1), gate(b, 2));
    let through = if direct { part(b, x, u32::from(d.reverse), d.of) } else { part(b, xw, 3, parts) };
    let one = b.constant(1.0);
    let keep = b.sub(one, forget);
    let add = b.mul(keep, new);
    let c = b.op(Op::Scan { reverse: d.reverse }, &[forget, add]);
    let c = elementwise(b, r.outer_activation.unwrap_or(Activation::Linear), c);
    let from_c = b.mul(reset, c);
    let rest = b.sub(one, reset);
    let from_x = b.mul(rest, through);
    let h = b.add(from_c, from_x);
    match steps(r, d) {
        StepPick::All => h,
        steps => b.op(Op::Part(PartOf { part: 0, parts: 1, steps }), &[h]),
    }
}

/// ±√(3 / inputs), which keeps the variance of x̃.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a limit of random numbers")]
fn sru_limit(inputs: u64) -> f32 {
    (3.0 / (inputs as f64).max(1.0)).sqrt() as f32
}

/// Both directions of the same steps in one (design, section 3: they are aligned).
fn join(b: &mut Builder<'_>, mode: MergeMode, [forward, backward]: [NodeId; 2]) -> NodeId {
    match mode {
        MergeMode::Multiply => b.mul(forward, backward),
        MergeMode::Add => b.add(forward, backward),
        MergeMode::Average => {
            let sum = b.add(forward, backward);
            b.mul_const(sum, 0.5)
        }
        MergeMode::Concat => {
            let axis = b.shape(forward).len() - 1;
            b.op(Op::Concat { axis }, &[forward, backward])
        }
    }
}
