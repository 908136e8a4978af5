//! Layers to graph nodes: kur-reference section 3, one file per theme. What comes in is a layer whose shapes were
//! inferred, what goes out is its value. Holds throughout: axis 0 of every value is the batch, which inside a
//! `parallel` is samples times steps.

mod activation;
mod attention;
mod dense;
mod norm;
mod parallel;
mod recurrent;
mod shape;
mod window;

use kur_runtime::dim::{Dim, SymDef};
use kur_runtime::plan::{Init, InputRole, StateRole};

use super::model::{Cx, Value, unsound};
use crate::diag::{Diagnostic, Reported, Span};
use crate::ir::graph::{LayerRef, Node, NodeId, State};
use crate::ir::infer::sum_of;
use crate::ir::op::Op;
use crate::ir::types::Type;
use crate::model::types::{Activation, Layer, LayerId, LayerKind};
use crate::shapes::Size;

/// Lowers one layer. `at` is the layer of the model that it is, or that it stands in.
pub(super) fn lower(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, inputs: &[Value]) -> Result<Value, Reported> {
    let plain = |node| Value { node, logits: None };
    match &layer.kind {
        LayerKind::Input { .. } => return input(cx, layer, at).map(plain),
        LayerKind::Merge { mode, axis } => {
            let nodes: Vec<NodeId> = inputs.iter().map(|v| v.node).collect();
            return shape::merge(cx, layer, at, &nodes, *mode, *axis).map(plain);
        }
        LayerKind::Reuse { target, kind } => return parallel::reuse(cx, layer, at, inputs, &target.value, kind),
        _ => {}
    }
    let [value] = inputs else {
        return Err(unsound(cx, layer));
    };
    let x = value.node;
    let node = match &layer.kind {
        LayerKind::Dense { sizes, flatten, highway } => dense::dense(cx, layer, at, x, sizes, *flatten, *highway)?,
        LayerKind::Activation(Activation::Prelu) => activation::prelu(cx, layer, at, x)?,
        LayerKind::Activation(a) => return Ok(activation::activation(cx, at, x, *a)),
        LayerKind::Dropout { fraction, independent } => norm::dropout(cx, at, x, *fraction, *independent),
        LayerKind::Flatten => shape::flatten(cx, at, x),
        LayerKind::Expand { dimension } => shape::expand(cx, layer, at, x, *dimension)?,
        LayerKind::Squeeze { dimension } => shape::squeeze(cx, layer, at, x, *dimension)?,
        LayerKind::Repeat { count } => shape::repeat(cx, layer, at, x, *count)?,
        LayerKind::Transpose { axes, include_batch } => {
            shape::transpose(cx, layer, at, x, &axes.value, *include_batch)?
        }
        LayerKind::Embedding { vocab_size, size } => dense::embedding(cx, layer, at, x, *vocab_size, *size)?,
        LayerKind::Convolution { .. } => window::convolution(cx, layer, at, x)?,
        LayerKind::Pool { kind, size, strides, border } => {
            window::pool(cx, layer, at, x, *kind, &size.value, strides, *border)?
        }
        LayerKind::BatchNormalization { axis, momentum } => {
            norm::batch_normalization(cx, layer, at, x, *axis, *momentum)?
        }
        LayerKind::Upsample { size } => window::upsample(cx, layer, at, x, &size.value)?,
        LayerKind::Pad { before, after } => window::pad(cx, layer, at, x, &before.value, &after.value)?,
        LayerKind::GlobalPool { kind } => window::global_pool(cx, layer, at, x, *kind)?,
        LayerKind::LayerNormalization { epsilon } => norm::layer_normalization(cx, layer, at, x, *epsilon)?,
        LayerKind::PositionEmbedding => attention::position_embedding(cx, layer, at, x)?,
        LayerKind::Attention { heads, causal } => attention::attention(cx, layer, at, x, heads.value, *causal)?,
        LayerKind::Recurrent(r) => recurrent::recurrent(cx, layer, at, x, r)?,
        LayerKind::Parallel { apply } => return parallel::parallel(cx, layer, at, *value, apply),
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

/// A placeholder (3.1) of the shape that was inferred. Every variable size is a symbol of its own.
fn input(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef) -> Result<NodeId, Reported> {
    let row = cx.shapes.layers.get(at.0 as usize).and_then(|row| row.shape.clone());
    let Some(sizes) = row else { return Err(unsound(cx, layer)) };
    let mut dims = vec![Dim::batch()];
    for size in sizes {
        dims.push(match size {
            Size::Known(n) => Dim::constant(n),
            Size::Variable => {
                let free = (1..).map(|i| if i == 1 { "t".to_owned() } else { format!("t{i}") });
                let name = free.into_iter().find(|n| cx.graph.symbols.find(n).is_none()).unwrap_or_default();
                match cx.graph.symbols.add(&name, None) {
                    Some(symbol) => Dim::symbol(symbol),
                    None => return Err(too_many_sizes(cx, layer)),
                }
            }
            Size::Unknown => return Err(unsound(cx, layer)),
        });
    }
    Ok(cx.input(&layer.name, InputRole::Data, dims, Some(at)))
}

/// The size `⌊(base + add) / div⌋`; a symbol of its own where it is no multiple of one that there is.
fn derived(cx: &mut Cx<'_>, layer: &Layer, base: Dim, add: i64, div: u64) -> Result<Dim, Reported> {
    if add == 0 && div == 1 {
        return Ok(base);
    }
    match cx.graph.symbols.derived(SymDef { base, add, div }) {
        Some(symbol) => Ok(Dim::symbol(symbol)),
        None => Err(too_many_sizes(cx, layer)),
    }
}

/// The sum of sizes of which at most one varies.
fn sum(cx: &mut Cx<'_>, layer: &Layer, sizes: &[Dim]) -> Result<Dim, Reported> {
    let sum = sum_of(sizes);
    match sum[..] {
        [] => return Ok(Dim::constant(0)),
        [one] => return Ok(one),
        [a, b] => {
            let (fixed, base) = if a.is_const() { (a, b) } else { (b, a) };
            if let Some(add) = fixed.as_const().and_then(|n| i64::try_from(n).ok()) {
                return derived(cx, layer, base, add, 1);
            }
        }
        _ => {}
    }
    let text = format!("`{}` joins sizes that vary independently of each other", layer.kind.word());
    let d = Diagnostic::error("shape-mismatch", text)
        .at(layer.span, "the size of the result follows from more than one variable size")
        .help("give all but one of the inputs a fixed size on this axis");
    Err(cx.sink.fail(d))
}

fn too_many_sizes(cx: &mut Cx<'_>, layer: &Layer) -> Reported {
    let most = kur_runtime::dim::MAX_SYMS - 1;
    let text = format!("the model has more than {most} different variable sizes");
    let d = Diagnostic::error("model-too-large", text)
        .at(layer.span, "this layer would make one more")
        .help("give some of the sizes that are null a number, or use `border: same` with strides of 1");
    cx.sink.fail(d)
}

/// ±1/√inputs for weights and biases: what PyTorch starts from, and so Kur's layers that only PyTorch has (kur-reference
/// 3.2, 3.3, 3.5).
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a limit of random numbers")]
fn torch_init(inputs: u64) -> Init {
    Init::Uniform { limit: (1.0 / (inputs.max(1) as f64).sqrt()) as f32 }
}

/// A parameter or running statistic of the layer. The same name stands for the same state: that is how layers are
/// reused.
fn state(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    name: String,
    role: StateRole,
    shape: &[u64],
    init: Init,
) -> NodeId {
    if let Some(known) = cx.states.get(&name) {
        return *known;
    }
    let ty = Type::f32(shape.iter().map(|s| Dim::constant(*s)).collect());
    let trainable = role == StateRole::Param && !layer.freeze;
    cx.graph.states.push(State { name: name.clone(), role, ty: ty.clone(), init, trainable });
    let index = u32::try_from(cx.graph.states.len() - 1).unwrap_or(u32::MAX);
    let node = cx.graph.push(Node { op: Op::State { index }, args: Vec::new(), ty, layer: Some(at) });
    cx.states.insert(name, node);
    node
}

/// A trained tensor `LAYER/NAME`.
fn param(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, name: &str, shape: &[u64], init: Init) -> NodeId {
    state(cx, layer, at, format!("{}/{name}", layer.name), StateRole::Param, shape, init)
}

/// A place of a layer for messages of other modules.
pub(super) fn span_of(cx: &Cx<'_>, id: LayerId) -> Span {
    cx.kurfile.layers[id.0 as usize].span
}
