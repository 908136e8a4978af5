//! One function per layer type: kur-reference section 3 as graph building.

use kur_runtime::dim::Dim;
use kur_runtime::plan::{Init, InputRole, StateRole};

use super::model::{Cx, Mode, Value, unsound};
use super::recurrent::recurrent;
use crate::diag::{Diagnostic, Reported, Span};
use crate::ir::graph::{Builder, LayerRef, Node, NodeId, State};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::{Control, ConvAttrs, Op, PoolAttrs};
use crate::ir::types::Type;
use crate::model::types::{Activation, Border, Layer, LayerId, LayerKind, PoolKind, Spanned};
use crate::shapes::{LayerShape, position, window};

/// ε of batch normalisation (Keras).
const BATCH_NORM_EPSILON: f64 = 1e-3;

pub(super) fn lower(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, inputs: &[Value]) -> Result<Value, Reported> {
    let plain = |node| Value { node, logits: None };
    if let LayerKind::Input { .. } = &layer.kind {
        return input(cx, layer, at).map(plain);
    }
    let [value] = inputs else {
        return Err(unsound(cx, layer));
    };
    let x = value.node;
    let node = match &layer.kind {
        LayerKind::Input { .. } => x,
        LayerKind::Dense { sizes, flatten, highway: None } => dense(cx, layer, at, x, sizes, *flatten)?,
        LayerKind::Activation(a) => return Ok(activation(cx, at, x, *a)),
        LayerKind::Dropout { fraction, independent: true } => dropout(cx, at, x, *fraction),
        LayerKind::Flatten => flatten(cx, at, x),
        LayerKind::Expand { dimension } => expand(cx, layer, at, x, *dimension)?,
        LayerKind::Squeeze { dimension } => squeeze(cx, layer, at, x, *dimension)?,
        LayerKind::Convolution { kernels, size, strides, border, separable: false, highway: None } => {
            convolution(cx, layer, at, x, *kernels, &size.value, strides, *border)?
        }
        LayerKind::Pool { kind, size, strides, border } => {
            pool(cx, layer, at, x, *kind, &size.value, strides, *border)?
        }
        LayerKind::BatchNormalization { axis, momentum } => batch_normalization(cx, layer, at, x, *axis, *momentum)?,
        LayerKind::Recurrent(r) => recurrent(cx, layer, at, x, r)?,
        LayerKind::Output => return Ok(*value),
        // The driver stops before such a layer is lowered; whoever calls this module alone learns of it here.
        kind => {
            let message =
                format!("this form of `{}` is part of the language, but kurc does not build it yet", kind.word());
            let d = Diagnostic::error("not-yet-supported", message).at(layer.span, "not built yet");
            return Err(cx.sink.fail(d));
        }
    };
    Ok(plain(node))
}

/// A placeholder (3.1) of the shape that was inferred.
fn input(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef) -> Result<NodeId, Reported> {
    let sizes = cx.shapes.layers.get(at.0 as usize).and_then(LayerShape::sizes);
    let Some(sizes) = sizes else { return Err(unsound(cx, layer)) };
    let dims = std::iter::once(Dim::batch()).chain(sizes.into_iter().map(Dim::constant)).collect();
    Ok(cx.input(&layer.name, InputRole::Data, dims, Some(at)))
}

/// Adds a parameter or running statistic of the layer and gives its value.
pub(super) fn state(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    name: String,
    role: StateRole,
    shape: &[u64],
    init: Init,
) -> NodeId {
    let ty = Type::f32(shape.iter().map(|s| Dim::constant(*s)).collect());
    let trainable = role == StateRole::Param && !layer.freeze;
    cx.graph.states.push(State { name, role, ty: ty.clone(), init, trainable });
    let index = u32::try_from(cx.graph.states.len() - 1).unwrap_or(u32::MAX);
    cx.graph.push(Node { op: Op::State { index }, args: Vec::new(), ty, layer: Some(at) })
}

fn flatten(cx: &mut Cx<'_>, at: LayerRef, x: NodeId) -> NodeId {
    let mut b = cx.builder(at);
    let shape = b.shape(x);
    b.reshape(x, vec![shape[0], Dim::product(&shape[1..])])
}

/// Successive affine maps over the last axis (3.2).
fn dense(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    sizes: &[Spanned<u64>],
    flat: bool,
) -> Result<NodeId, Reported> {
    let mut x = x;
    if flat {
        x = flatten(cx, at, x);
    }
    for (i, size) in sizes.iter().enumerate() {
        let shape = cx.graph.shape(x).to_vec();
        let Some(inputs) = shape.last().and_then(|d| d.as_const()).filter(|_| shape.len() >= 2) else {
            return Err(unsound(cx, layer));
        };
        let own = if i + 1 == sizes.len() { layer.name.clone() } else { format!("{}.{i}", layer.name) };
        let init = Init::GlorotUniform { fan_in: inputs, fan_out: size.value };
        let w = state(cx, layer, at, format!("{own}/kernel"), StateRole::Param, &[inputs, size.value], init);
        let bias = state(cx, layer, at, format!("{own}/bias"), StateRole::Param, &[size.value], Init::Constant(0.0));
        let mut b = cx.builder(at);
        let rows = Dim::product(&shape[..shape.len() - 1]);
        let flat = b.reshape(x, vec![rows, Dim::constant(inputs)]);
        let y = b.op(Op::MatMul { ta: false, tb: false }, &[flat, w]);
        let y = b.add(y, bias);
        let mut out = shape;
        if let Some(last) = out.last_mut() {
            *last = Dim::constant(size.value);
        }
        x = b.reshape(y, out);
    }
    Ok(x)
}

/// Elementwise functions and softmax (3.4).
fn activation(cx: &mut Cx<'_>, at: LayerRef, x: NodeId, kind: Activation) -> Value {
    let mut b = cx.builder(at);
    if kind == Activation::Softmax {
        return Value { node: b.op(Op::Softmax { log: false }, &[x]), logits: Some(x) };
    }
    Value { node: elementwise(&mut b, kind, x), logits: None }
}

/// An elementwise activation.
pub(super) fn elementwise(b: &mut Builder<'_>, kind: Activation, x: NodeId) -> NodeId {
    use ScalarOp::{Exp, Log1p, Max, Min, Sigmoid, Tanh};
    let zero = b.constant(0.0);
    match kind {
        Activation::Linear | Activation::Softmax => x,
        Activation::Relu => b.map(Max, &[x, zero]),
        Activation::Tanh => b.map(Tanh, &[x]),
        Activation::Sigmoid => b.map(Sigmoid, &[x]),
        Activation::HardSigmoid => {
            let y = b.mul_const(x, 0.2);
            let y = b.add_const(y, 0.5);
            let one = b.constant(1.0);
            let y = b.map(Max, &[y, zero]);
            b.map(Min, &[y, one])
        }
        // Both halves stay finite for every x, so that no gradient is 0 · ∞.
        Activation::Elu => elu(b, x, 1.0, 1.0),
        Activation::Selu => elu(b, x, 1.050_700_987_355_480_5, 1.673_263_242_354_377_2),
        Activation::Softplus => {
            let pos = b.map(Max, &[x, zero]);
            let neg = b.neg(x);
            let down = b.map(Min, &[x, neg]);
            let e = b.map(Exp, &[down]);
            let l = b.map(Log1p, &[e]);
            b.add(pos, l)
        }
        Activation::Softsign => {
            let a = b.map(ScalarOp::Abs, &[x]);
            let d = b.add_const(a, 1.0);
            b.div(x, d)
        }
    }
}

/// `scale · (max(x, 0) + alpha · expm1(min(x, 0)))`.
fn elu(b: &mut Builder<'_>, x: NodeId, scale: f64, alpha: f64) -> NodeId {
    let zero = b.constant(0.0);
    let pos = b.map(ScalarOp::Max, &[x, zero]);
    let low = b.map(ScalarOp::Min, &[x, zero]);
    let e = b.map(ScalarOp::Expm1, &[low]);
    let e = if (alpha - 1.0).abs() > 0.0 { b.mul_const(e, alpha) } else { e };
    let y = b.add(pos, e);
    if (scale - 1.0).abs() > 0.0 { b.mul_const(y, scale) } else { y }
}

/// Inverted dropout in training, identity otherwise (3.8).
fn dropout(cx: &mut Cx<'_>, at: LayerRef, x: NodeId, fraction: f64) -> NodeId {
    let key = cx.next_random;
    cx.next_random += 1;
    if cx.mode != Mode::Train || fraction <= 0.0 {
        return x;
    }
    let mut b = cx.builder(at);
    let seed = b.op(Op::Control(Control::Seed), &[]);
    let updates = b.op(Op::Control(Control::Updates), &[]);
    let shape = b.shape(x);
    let u = b.shaped(Op::Random { key }, &[seed, updates], shape);
    let p = b.constant(fraction);
    let kept = b.map(ScalarOp::Le, &[p, u]);
    let scale = b.constant(1.0 / (1.0 - fraction));
    let zero = b.constant(0.0);
    let mask = b.map(ScalarOp::Select, &[kept, scale, zero]);
    b.mul(x, mask)
}

/// Inserts an axis of size 1 (3.10).
fn expand(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: NodeId, dimension: i64) -> Result<NodeId, Reported> {
    let mut shape = cx.graph.shape(x).to_vec();
    let Some(axis) = position(dimension, shape.len()) else { return Err(unsound(cx, layer)) };
    shape.insert(axis + 1, Dim::ONE);
    Ok(cx.builder(at).reshape(x, shape))
}

/// Removes an axis of size 1 (3.10).
fn squeeze(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: NodeId, dimension: i64) -> Result<NodeId, Reported> {
    let mut shape = cx.graph.shape(x).to_vec();
    match position(dimension, shape.len() - 1).filter(|axis| shape[axis + 1] == Dim::ONE) {
        Some(axis) => {
            shape.remove(axis + 1);
            Ok(cx.builder(at).reshape(x, shape))
        }
        None => Err(unsound(cx, layer)),
    }
}

/// Spatial geometry of a convolution or pooling.
struct Windows {
    output: Vec<Dim>,
    pad: Vec<u32>,
    stride: Vec<u32>,
    window: Vec<u32>,
    channels: u64,
}

fn windows(
    cx: &mut Cx<'_>,
    layer: &Layer,
    x: NodeId,
    size: &[u64],
    strides: &[u64],
    border: Border,
) -> Result<Windows, Reported> {
    let shape = cx.graph.shape(x).to_vec();
    let [_, spatial @ .., channels] = shape.as_slice() else { return Err(unsound(cx, layer)) };
    let Some(channels) = channels.as_const() else { return Err(unsound(cx, layer)) };
    let mut w = Windows { output: Vec::new(), pad: Vec::new(), stride: Vec::new(), window: Vec::new(), channels };
    for ((n, &k), &s) in spatial.iter().zip(size).zip(strides) {
        let cells = n.as_const().and_then(|n| window(n, k, s, border));
        let small = |v: u64| u32::try_from(v).ok();
        let (Some((out, pad)), Some(k), Some(s)) = (cells, small(k), small(s)) else {
            return Err(unsound(cx, layer));
        };
        w.output.push(Dim::constant(out));
        w.pad.push(small(pad).unwrap_or(0));
        w.stride.push(s);
        w.window.push(k);
    }
    Ok(w)
}

#[expect(clippy::too_many_arguments, reason = "the arguments of the Kurfile layer, one by one")]
fn convolution(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    kernels: u64,
    size: &[u64],
    strides: &[u64],
    border: Border,
) -> Result<NodeId, Reported> {
    let w = windows(cx, layer, x, size, strides, border)?;
    let field: u64 = size.iter().product();
    let mut shape = size.to_vec();
    shape.extend([w.channels, kernels]);
    let init = Init::GlorotUniform { fan_in: field * w.channels, fan_out: field * kernels };
    let kernel = state(cx, layer, at, format!("{}/kernel", layer.name), StateRole::Param, &shape, init);
    let bias = state(cx, layer, at, format!("{}/bias", layer.name), StateRole::Param, &[kernels], Init::Constant(0.0));
    let dilation = vec![1; w.stride.len()];
    let attrs = ConvAttrs { stride: w.stride, pad: w.pad, dilation, output: w.output };
    let mut b = cx.builder(at);
    let y = b.op(Op::Conv(attrs), &[x, kernel]);
    Ok(b.add(y, bias))
}

#[expect(clippy::too_many_arguments, reason = "the arguments of the Kurfile layer, one by one")]
fn pool(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    kind: PoolKind,
    size: &[u64],
    strides: &[u64],
    border: Border,
) -> Result<NodeId, Reported> {
    let w = windows(cx, layer, x, size, strides, border)?;
    let attrs = PoolAttrs {
        average: kind == PoolKind::Average,
        window: w.window,
        stride: w.stride,
        pad: w.pad,
        output: w.output,
    };
    Ok(cx.builder(at).op(Op::Pool(attrs), &[x]))
}

/// Batch normalisation (3.7 and the design's section on semantics): batch statistics in training, running statistics
/// otherwise; batch statistics everywhere under `compat: kur`. Ioffe & Szegedy 2015, algorithm 1 with biased variance.
fn batch_normalization(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    axis: i64,
    momentum: f64,
) -> Result<NodeId, Reported> {
    let shape = cx.graph.shape(x).to_vec();
    let Some(axis) = position(axis, shape.len()).filter(|a| *a > 0) else {
        return Err(unsound(cx, layer));
    };
    let Some(c) = shape[axis].as_const() else { return Err(unsound(cx, layer)) };
    let one = |cx: &mut Cx<'_>, name: &str, role, v| {
        state(cx, layer, at, format!("{}/{name}", layer.name), role, &[c], Init::Constant(v))
    };
    let gamma = one(cx, "gamma", StateRole::Param, 1.0);
    let beta = one(cx, "beta", StateRole::Param, 0.0);
    let moving_mean = one(cx, "moving_mean", StateRole::Running, 0.0);
    let moving_variance = one(cx, "moving_variance", StateRole::Running, 1.0);
    let from_batch = cx.mode == Mode::Train || cx.kurfile.compat_kur;
    let train = cx.mode == Mode::Train;
    let mut b = cx.builder(at);
    // The kept axis alone, aligned for broadcasting against x.
    let mut kept = vec![Dim::ONE; shape.len()];
    kept[axis] = shape[axis];
    let axes: Vec<usize> = (0..shape.len()).filter(|a| *a != axis).collect();
    let (mean, variance) = if from_batch {
        let mean = b.mean(x, &axes);
        let centred = b.sub(x, mean);
        let sq = b.mul(centred, centred);
        (mean, b.mean(sq, &axes))
    } else {
        (b.reshape(moving_mean, kept.clone()), b.reshape(moving_variance, kept.clone()))
    };
    if train {
        for (running, batch) in [(moving_mean, mean), (moving_variance, variance)] {
            let batch = b.reshape(batch, vec![shape[axis]]);
            let old = b.mul_const(running, momentum);
            let new = b.mul_const(batch, 1.0 - momentum);
            let value = b.add(old, new);
            if let Op::State { index } = b.graph.node(running).op {
                use crate::ir::graph::{GraphResult, Role};
                b.graph.results.push(GraphResult { role: Role::Update(index), value });
            }
        }
    }
    let mut b = cx.builder(at);
    let centred = b.sub(x, mean);
    let v = b.add_const(variance, BATCH_NORM_EPSILON);
    let root = b.map(ScalarOp::Sqrt, &[v]);
    let gamma = b.reshape(gamma, kept.clone());
    let beta = b.reshape(beta, kept);
    let scale = b.div(gamma, root);
    let y = b.mul(centred, scale);
    Ok(b.add(y, beta))
}

/// A place of a layer for messages of other modules.
pub(super) fn span_of(cx: &Cx<'_>, id: LayerId) -> Span {
    cx.kurfile.layers[id.0 as usize].span
}
