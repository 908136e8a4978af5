//! One function per layer type: kur-reference section 3 as graph building.

use kur_runtime::dim::Dim;
use kur_runtime::plan::{Init, InputRole, StateRole};

use super::model::{Cx, Mode, Value, mismatch};
use crate::diag::{Diagnostic, Reported, Span};
use crate::ir::graph::{Builder, LayerRef, Node, NodeId, State};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::{Control, ConvAttrs, Op, PoolAttrs};
use crate::ir::types::Type;
use crate::model::types::{Activation, Border, Layer, LayerId, LayerKind, PoolKind, Spanned};

/// Elements of one tensor, or of one sample of a layer, beyond which a model is refused: 256 GiB of f32.
const MAX_ELEMENTS: u64 = 1 << 36;

/// ε of batch normalisation (Keras).
const BATCH_NORM_EPSILON: f64 = 1e-3;

/// The input of a layer: which layer, and its value.
#[derive(Clone, Copy)]
struct From {
    id: LayerId,
    node: NodeId,
}

pub(super) fn lower(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, inputs: &[Value]) -> Result<Value, Reported> {
    let plain = |node| Value { node, logits: None };
    if let LayerKind::Input { shape, .. } = &layer.kind {
        return input(cx, layer, at, shape.as_ref()).map(plain);
    }
    let (Some(value), Some(id), 1) = (inputs.first(), layer.inputs.first(), inputs.len()) else {
        let d = Diagnostic::error(
            "too-many-inputs",
            format!("`{}` takes one input, found {}", layer.kind.word(), inputs.len()),
        )
        .at(layer.span, "several layers lead here")
        .help("merge them first, or name one of them under `inputs:`");
        return Err(cx.sink.fail(d));
    };
    let x = From { id: *id, node: value.node };
    let node = match &layer.kind {
        LayerKind::Input { .. } => x.node,
        LayerKind::Dense { sizes, flatten, highway: None } => dense(cx, layer, at, x, sizes, *flatten)?,
        LayerKind::Activation(a) => return activation(cx, layer, at, x, *a),
        LayerKind::Dropout { fraction, independent: true } => dropout(cx, at, x, *fraction),
        LayerKind::Flatten => flatten(cx, at, x),
        LayerKind::Expand { dimension } => expand(cx, layer, at, x, *dimension)?,
        LayerKind::Squeeze { dimension } => squeeze(cx, layer, at, x, *dimension)?,
        LayerKind::Convolution { kernels, size, strides, border, separable: false, highway: None } => {
            convolution(cx, layer, at, x, *kernels, size, strides, *border)?
        }
        LayerKind::Pool { kind, size, strides, border } => pool(cx, layer, at, x, *kind, size, strides, *border)?,
        LayerKind::BatchNormalization { axis, momentum } => batch_normalization(cx, layer, at, x, *axis, *momentum)?,
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

/// A placeholder (3.1): the shape from the data, from the Kurfile, or from both.
fn input(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    given: Option<&Spanned<Vec<Option<u64>>>>,
) -> Result<NodeId, Reported> {
    let data = cx.data.iter().find(|d| d.name == layer.name).cloned();
    let shape: Vec<u64> = match (given, data) {
        (None, None) => {
            let d =
                Diagnostic::error("unknown-input-shape", format!("the shape of input `{}` is not known", layer.name))
                    .at(layer.span, "no shape here, and no data to learn it from")
                    .help(format!("write `input: {{shape: [100], name: {}}}` (sizes of one sample)", layer.name))
                    .help("or name the data in the `train` section, or build with `--data FILE`");
            return Err(cx.sink.fail(d));
        }
        (None, Some(d)) => d.shape,
        (Some(s), None) => {
            let Some(full) = s.value.iter().copied().collect::<Option<Vec<u64>>>() else {
                let d = Diagnostic::error(
                    "not-yet-supported",
                    format!("variable sizes (null) in the shape of input `{}` are not built yet", layer.name),
                )
                .at(s.span, "a size is null here")
                .help("give a number, or data from which the size can be learned");
                return Err(cx.sink.fail(d));
            };
            full
        }
        (Some(s), Some(d)) => {
            let product = |v: &[u64]| v.iter().copied().fold(1u64, u64::saturating_mul);
            let full: Option<Vec<u64>> = s.value.iter().copied().collect();
            match full {
                // Columns have no shape of their own: any with as many elements will do.
                Some(full) if d.reshapes && product(&full) == product(&d.shape) => full,
                _ if s.value.len() == d.shape.len()
                    && s.value.iter().zip(&d.shape).all(|(a, b)| a.is_none_or(|a| a == *b)) =>
                {
                    d.shape
                }
                _ => {
                    let text = format!("input `{}` is declared with another shape than its data has", layer.name);
                    let mut e = Diagnostic::error("shape-mismatch", text)
                        .at(s.span, "declared here")
                        .note(format!("`{}` gives {:?} per sample", d.source, d.shape))
                        .help(format!("write `shape: {:?}`, or leave `shape` out", d.shape));
                    if d.reshapes {
                        e = e.help(format!("any shape of {} numbers fits the columns", product(&d.shape)));
                    }
                    return Err(cx.sink.fail(e));
                }
            }
        }
    };
    let mut dims = vec![Dim::batch()];
    // A scalar per sample is a vector of one (3.1).
    if shape.is_empty() {
        dims.push(Dim::ONE);
    }
    for s in &shape {
        if *s == 0 {
            let d = Diagnostic::error("shape-mismatch", format!("a size of input `{}` is 0", layer.name))
                .at(layer.span, "sizes are at least 1");
            return Err(cx.sink.fail(d));
        }
        dims.push(Dim::constant(*s));
    }
    if Dim::product(&dims).coef() > MAX_ELEMENTS {
        let d = Diagnostic::error("model-too-large", format!("one sample of input `{}` is too large", layer.name))
            .at(layer.span, format!("its shape is {shape:?}"));
        return Err(cx.sink.fail(d));
    }
    Ok(cx.input(&layer.name, InputRole::Data, dims, Some(at)))
}

/// Adds a parameter or running statistic of the layer and gives its value.
fn state(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    name: String,
    role: StateRole,
    shape: &[u64],
    init: Init,
) -> NodeId {
    if !cx.tensors.insert(name.clone()) {
        let message = format!("two layers keep a tensor called `{name}`");
        let help = format!("rename `{}`: the inner layers of a `dense` list are called NAME.0, NAME.1, …", layer.name);
        cx.sink.push(Diagnostic::error("duplicate-tensor", message).at(layer.span, "this name is taken").help(help));
    }
    let ty = Type::f32(shape.iter().map(|s| Dim::constant(*s)).collect());
    if ty.len().coef() > MAX_ELEMENTS {
        let message = format!("the tensor `{name}` of `{}` is too large", layer.kind.word());
        let d = Diagnostic::error("model-too-large", message)
            .at(layer.span, format!("it would have the shape {shape:?}"))
            .help("use fewer units or kernels, or make the layers before it smaller");
        cx.sink.push(d);
    }
    let trainable = role == StateRole::Param && !layer.freeze;
    cx.graph.states.push(State { name, role, ty: ty.clone(), init, trainable });
    let index = u32::try_from(cx.graph.states.len() - 1).unwrap_or(u32::MAX);
    cx.graph.push(Node { op: Op::State { index }, args: Vec::new(), ty, layer: Some(at) })
}

fn flatten(cx: &mut Cx<'_>, at: LayerRef, x: From) -> NodeId {
    let mut b = cx.builder(at);
    let shape = b.shape(x.node);
    b.reshape(x.node, vec![shape[0], Dim::product(&shape[1..])])
}

/// Successive affine maps over the last axis (3.2).
fn dense(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: From,
    sizes: &[Spanned<u64>],
    flat: bool,
) -> Result<NodeId, Reported> {
    let mut x = x;
    if flat {
        x.node = flatten(cx, at, x);
    }
    for (i, size) in sizes.iter().enumerate() {
        let shape = cx.graph.shape(x.node).to_vec();
        let Some(inputs) = shape.last().and_then(|d| d.as_const()).filter(|_| shape.len() >= 2) else {
            let text = "`dense` needs an input whose last size is known".to_owned();
            return Err(mismatch(
                cx,
                text,
                (layer.span, "this layer".into()),
                Some((x.id, x.node)),
                "flatten or pool first".into(),
            ));
        };
        if size.value == 0 {
            let d = Diagnostic::error("invalid-value", "`dense` needs at least one unit").at(size.span, "found 0");
            return Err(cx.sink.fail(d));
        }
        let own = if i + 1 == sizes.len() { layer.name.clone() } else { format!("{}.{i}", layer.name) };
        let init = Init::GlorotUniform { fan_in: inputs, fan_out: size.value };
        let w = state(cx, layer, at, format!("{own}/kernel"), StateRole::Param, &[inputs, size.value], init);
        let bias = state(cx, layer, at, format!("{own}/bias"), StateRole::Param, &[size.value], Init::Constant(0.0));
        let mut b = cx.builder(at);
        let rows = Dim::product(&shape[..shape.len() - 1]);
        let flat = b.reshape(x.node, vec![rows, Dim::constant(inputs)]);
        let y = b.op(Op::MatMul { ta: false, tb: false }, &[flat, w]);
        let y = b.add(y, bias);
        let mut out = shape;
        if let Some(last) = out.last_mut() {
            *last = Dim::constant(size.value);
        }
        x.node = b.reshape(y, out);
    }
    Ok(x.node)
}

/// Elementwise functions and softmax (3.4).
fn activation(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: From, kind: Activation) -> Result<Value, Reported> {
    let shape = cx.graph.shape(x.node).to_vec();
    if kind == Activation::Softmax {
        let from = &cx.kurfile.layers[x.id.0 as usize];
        // The front end warns where a dense layer of one unit stands directly before.
        if shape.last() == Some(&Dim::ONE) && !matches!(from.kind, LayerKind::Dense { .. }) {
            let w = Diagnostic::warning("softmax-over-one", "a softmax over one unit always gives 1, so the model learns nothing")
                .at(layer.span, "this softmax has nothing to choose from")
                .also(from.span, "one unit comes from here")
                .help("use `activation: sigmoid` for a probability, drop the activation for a number, or give one unit per class");
            cx.sink.push(w);
        }
        let node = cx.builder(at).op(Op::Softmax { log: false }, &[x.node]);
        return Ok(Value { node, logits: Some(x.node) });
    }
    let mut b = cx.builder(at);
    Ok(Value { node: elementwise(&mut b, kind, x.node), logits: None })
}

/// An elementwise activation.
fn elementwise(b: &mut Builder<'_>, kind: Activation, x: NodeId) -> NodeId {
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
fn dropout(cx: &mut Cx<'_>, at: LayerRef, x: From, fraction: f64) -> NodeId {
    let key = cx.next_random;
    cx.next_random += 1;
    if cx.mode != Mode::Train || fraction <= 0.0 {
        return x.node;
    }
    let mut b = cx.builder(at);
    let seed = b.op(Op::Control(Control::Seed), &[]);
    let updates = b.op(Op::Control(Control::Updates), &[]);
    let shape = b.shape(x.node);
    let u = b.shaped(Op::Random { key }, &[seed, updates], shape);
    let p = b.constant(fraction);
    let kept = b.map(ScalarOp::Le, &[p, u]);
    let scale = b.constant(1.0 / (1.0 - fraction));
    let zero = b.constant(0.0);
    let mask = b.map(ScalarOp::Select, &[kept, scale, zero]);
    b.mul(x.node, mask)
}

/// Inserts an axis of size 1 (3.10).
fn expand(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: From, dimension: i64) -> Result<NodeId, Reported> {
    let mut shape = cx.graph.shape(x.node).to_vec();
    let rank = shape.len() - 1;
    let Some(axis) = position(dimension, rank + 1) else {
        let text = format!("cannot expand dimension {dimension} of a shape with {}", sizes(rank));
        let help = format!("use a dimension from {} to {rank}", -i64::try_from(rank + 1).unwrap_or(0));
        return Err(mismatch(cx, text, (layer.span, "out of range".into()), Some((x.id, x.node)), help));
    };
    shape.insert(axis + 1, Dim::ONE);
    Ok(cx.builder(at).reshape(x.node, shape))
}

/// Removes an axis of size 1 (3.10).
fn squeeze(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: From, dimension: i64) -> Result<NodeId, Reported> {
    let mut shape = cx.graph.shape(x.node).to_vec();
    let rank = shape.len() - 1;
    match position(dimension, rank) {
        Some(axis) if shape[axis + 1] == Dim::ONE => {
            shape.remove(axis + 1);
            Ok(cx.builder(at).reshape(x.node, shape))
        }
        Some(axis) => {
            let size = shape[axis + 1].display(&cx.graph.symbols).to_string();
            let text = format!("cannot squeeze dimension {dimension}: its size is {size}, not 1");
            Err(mismatch(
                cx,
                text,
                (layer.span, "this layer".into()),
                Some((x.id, x.node)),
                "squeeze a dimension of size 1, or use `flatten`".into(),
            ))
        }
        None => {
            let text = format!("cannot squeeze dimension {dimension} of a shape with {}", sizes(rank));
            Err(mismatch(
                cx,
                text,
                (layer.span, "out of range".into()),
                Some((x.id, x.node)),
                "count dimensions from 0, or from the end with -1".into(),
            ))
        }
    }
}

/// `1 size`, `3 sizes`.
fn sizes(n: usize) -> String {
    format!("{n} size{}", if n == 1 { "" } else { "s" })
}

/// A dimension counted from either end, as an index below `n`.
fn position(d: i64, n: usize) -> Option<usize> {
    let n = i64::try_from(n).ok()?;
    let i = if d < 0 { d + n } else { d };
    (0..n).contains(&i).then(|| usize::try_from(i).ok()).flatten()
}

/// Output size and padding before the first cell of one spatial axis (3.3; TensorFlow's `same`).
fn window(n: u64, k: u64, s: u64, border: Border) -> Option<(u64, u64)> {
    match border {
        Border::Same => {
            let out = n.div_ceil(s);
            let total = ((out - 1) * s + k).saturating_sub(n);
            Some((out, total / 2))
        }
        Border::Valid => (k <= n).then(|| ((n - k) / s + 1, 0)),
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
    x: From,
    size: &Spanned<Vec<u64>>,
    strides: &[u64],
    border: Border,
) -> Result<Windows, Reported> {
    let word = layer.kind.word();
    let d = size.value.len();
    let shape = cx.graph.shape(x.node).to_vec();
    if shape.len() != d + 2 {
        let want = ["[width, channels]", "[height, width, channels]", "[depth, height, width, channels]"];
        let want = want.get(d.wrapping_sub(1)).copied().unwrap_or("one to three spatial sizes and channels");
        let found = cx.shape_text(x.node);
        let text = format!("a {d}-D {word} needs an input of shape {want}, found {found}");
        let help = if shape.len() + 1 == d + 2 {
            "add the missing channel axis with `expand: -1` before this layer, or change `size`".to_owned()
        } else {
            match shape.len().saturating_sub(2) {
                0 => format!(
                    "a {word} needs a picture or a sequence: put it before `flatten` and `dense`, or leave it out"
                ),
                1 => "give `size` one number, since its input has one spatial axis".to_owned(),
                axes => format!("give `size` {axes} numbers, one per spatial axis of its input"),
            }
        };
        return Err(mismatch(
            cx,
            text,
            (size.span, format!("{d} {} {d}-D", if d == 1 { "size makes it" } else { "sizes make it" })),
            Some((x.id, x.node)),
            help,
        ));
    }
    let small = |v: u64| u32::try_from(v).ok().filter(|v| *v < 1 << 16);
    let mut w = Windows { output: Vec::new(), pad: Vec::new(), stride: Vec::new(), window: Vec::new(), channels: 0 };
    for i in 0..d {
        let (n, k, s) = (shape[i + 1].as_const(), size.value[i], strides[i]);
        let (Some(n), Some(k32), Some(s32)) = (n, small(k).filter(|k| *k > 0), small(s).filter(|s| *s > 0)) else {
            let text = format!("size and strides of `{word}` must be from 1 to 65535");
            let d = Diagnostic::error("invalid-value", text).at(size.span, format!("size {k}, stride {s}"));
            return Err(cx.sink.fail(d));
        };
        let Some((out, pad)) = window(n, k, s, border) else {
            let text = format!("the {word} window is larger than its input: {k} > {n} along axis {i}");
            let help = "use a smaller `size`, `border: same`, or fewer pooling layers before".to_owned();
            return Err(mismatch(cx, text, (size.span, format!("size {k}")), Some((x.id, x.node)), help));
        };
        w.output.push(Dim::constant(out));
        w.pad.push(small(pad).unwrap_or(0));
        w.stride.push(s32);
        w.window.push(k32);
    }
    w.channels = shape[d + 1].as_const().unwrap_or(0);
    Ok(w)
}

#[expect(clippy::too_many_arguments, reason = "the arguments of the Kurfile layer, one by one")]
fn convolution(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: From,
    kernels: u64,
    size: &Spanned<Vec<u64>>,
    strides: &[u64],
    border: Border,
) -> Result<NodeId, Reported> {
    if kernels == 0 {
        let d = Diagnostic::error("invalid-value", "`convolution` needs at least one kernel")
            .at(layer.span, "`kernels` is 0");
        return Err(cx.sink.fail(d));
    }
    let w = windows(cx, layer, x, size, strides, border)?;
    let field: u64 = size.value.iter().product();
    let mut shape = size.value.clone();
    shape.extend([w.channels, kernels]);
    let init = Init::GlorotUniform { fan_in: field * w.channels, fan_out: field * kernels };
    let kernel = state(cx, layer, at, format!("{}/kernel", layer.name), StateRole::Param, &shape, init);
    let bias = state(cx, layer, at, format!("{}/bias", layer.name), StateRole::Param, &[kernels], Init::Constant(0.0));
    let dilation = vec![1; w.stride.len()];
    let attrs = ConvAttrs { stride: w.stride, pad: w.pad, dilation, output: w.output };
    let mut b = cx.builder(at);
    let y = b.op(Op::Conv(attrs), &[x.node, kernel]);
    Ok(b.add(y, bias))
}

#[expect(clippy::too_many_arguments, reason = "the arguments of the Kurfile layer, one by one")]
fn pool(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: From,
    kind: PoolKind,
    size: &Spanned<Vec<u64>>,
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
    Ok(cx.builder(at).op(Op::Pool(attrs), &[x.node]))
}

/// Batch normalisation (3.7 and the design's section on semantics): batch statistics in training, running statistics
/// otherwise; batch statistics everywhere under `compat: kur`. Ioffe & Szegedy 2015, algorithm 1 with biased variance.
fn batch_normalization(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: From,
    axis: i64,
    momentum: f64,
) -> Result<NodeId, Reported> {
    let shape = cx.graph.shape(x.node).to_vec();
    let Some(axis) = position(axis, shape.len()).filter(|a| *a > 0) else {
        let text = format!("batch_normalization has no axis {axis} to keep in a shape with {}", sizes(shape.len() - 1));
        let help = "the batch is axis 0; leave `axis` out to normalise the last axis".to_owned();
        return Err(mismatch(cx, text, (layer.span, "out of range".into()), Some((x.id, x.node)), help));
    };
    let Some(c) = shape[axis].as_const() else {
        let text = "batch_normalization needs a fixed size on its axis".to_owned();
        return Err(mismatch(
            cx,
            text,
            (layer.span, "this axis varies".into()),
            Some((x.id, x.node)),
            "choose another axis".into(),
        ));
    };
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
        let mean = b.mean(x.node, &axes);
        let centred = b.sub(x.node, mean);
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
    let centred = b.sub(x.node, mean);
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
