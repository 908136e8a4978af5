//! The loss `ctc` (kur-reference 5.2) as graph building: which scores count as log-probabilities, and how many frames of
//! the output are real.

use kur_runtime::dim::Dim;
use kur_runtime::plan::InputRole;
use kur_runtime::spec::{MetricSpec, OutputSpec};

use crate::diag::{Diagnostic, Reported, Span};
use crate::ir::graph::{GraphResult, LayerRef, NodeId, Role};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::layers::span_of;
use crate::lower::model::{Cx, Mode, Value};
use crate::model::types::{Border, CtcLoss, LayerId, LayerKind, Spanned};
use crate::shapes::position;

/// Added to probabilities before the logarithm (Keras).
const EPSILON: f64 = 1e-8;

/// What `loss_scale` divides the mean number of frames by.
const FRAMES: f64 = 100.0;

/// The loss, a scalar.
///
/// # Errors
/// `shape-mismatch`, `crossentropy-over-one`, `target-shape-mismatch`, `invalid-value`.
pub(super) fn lower(
    cx: &mut Cx<'_>,
    output: usize,
    value: Value,
    ctc: &CtcLoss,
    at: LayerRef,
    loss: Span,
) -> Result<NodeId, Reported> {
    let shape = cx.graph.shape(value.node).to_vec();
    let index = output;
    let output = &cx.kurfile.outputs[output];
    if shape.len() != 3 {
        let text = format!("`ctc` needs an output of shape [frames, classes], found {}", cx.shape_text(value.node));
        let d = Diagnostic::error("shape-mismatch", text).at(output.span, "this output").also(loss, "the loss");
        return Err(cx.sink.fail(d));
    }
    if value.logits.is_none() != ctc.warp {
        let (text, help) = if ctc.warp {
            (
                "the variant `warp` of `ctc` applies the softmax itself",
                "remove `activation: softmax` before this output",
            )
        } else {
            (
                "`ctc` expects shares that sum to 1",
                "put `activation: softmax` before this output, or use `variant: warp`",
            )
        };
        let found = if ctc.warp { "this output is a softmax already" } else { "this output is no softmax" };
        let d = Diagnostic::warning("ctc-softmax", text).at(output.span, found).also(loss, "the loss").help(help);
        cx.sink.push(d);
    }
    let windows = match &ctc.relative_to {
        Some(from) => windows(cx, output.layer, from)?,
        None => Vec::new(),
    };
    let measured = measured(cx, index, &shape)?;
    let labels = labels(cx, &ctc.labels, at)?;
    let frames = lengths(cx, &ctc.input_length, at)?;
    let lengths = lengths(cx, &ctc.output_length, at)?;
    let mut b = cx.builder(at);
    let scores = if ctc.warp {
        value.node
    } else {
        let p = b.add_const(value.node, EPSILON);
        b.map(ScalarOp::Log, &[p])
    };
    let scores = b.op(Op::Softmax { log: true }, &[scores]);
    let frames = if windows.is_empty() {
        frames
    } else {
        let (window, stride) = windows.into_iter().unzip();
        b.op(Op::Lengths { window, stride }, &[frames])
    };
    if let Some(name) = measured {
        let role = Role::Output(OutputSpec::frames(&name));
        b.graph.results.push(GraphResult { role, value: frames });
    }
    let each = b.op(Op::Ctc { blank_first: ctc.warp }, &[scores, labels, frames, lengths]);
    let mean = b.mean_all(each);
    if !ctc.loss_scale {
        return Ok(mean);
    }
    let frames = b.mean_all(frames);
    let scale = b.mul_const(frames, 1.0 / FRAMES);
    Ok(b.mul(mean, scale))
}

/// The output, where the test step leaves behind what its labels are measured with.
fn measured(cx: &mut Cx<'_>, output: usize, shape: &[Dim]) -> Result<Option<String>, Reported> {
    let kurfile = cx.kurfile;
    let Some(loss) = kurfile.losses.iter().find(|l| l.output == output && !l.metrics.is_empty()) else {
        return Ok(None);
    };
    // One class is the blank.
    let labels = shape.last().and_then(|d| d.as_const()).unwrap_or(0).saturating_sub(1);
    for metric in &loss.metrics {
        let MetricSpec::Wer(Some(separator)) = metric else { continue };
        if *separator >= labels {
            let text = format!(
                "the separator {separator} of `wer` is no label: there are labels from 0 to {}, and the blank",
                labels.saturating_sub(1)
            );
            let d = Diagnostic::error("invalid-value", text).at(loss.span, "a metric of this loss");
            let classes = format!("this output has {} classes", labels + 1);
            return Err(cx.sink.fail(d.also(kurfile.outputs[output].span, classes)));
        }
    }
    Ok((cx.mode == Mode::Test).then(|| kurfile.outputs[output].name.clone()))
}

/// The labels `[n, l]`. How many there may be says the data; where it is not seen, that is a variable size.
fn labels(cx: &mut Cx<'_>, source: &Spanned<String>, at: LayerRef) -> Result<NodeId, Reported> {
    let found = cx.data.iter().find(|d| d.name == source.value).map(|d| (d.shape.clone(), d.source.clone()));
    let size = match found {
        Some((shape, from)) => match shape.as_slice() {
            [] => Dim::ONE,
            [0] => variable(cx, source)?,
            [most] => Dim::constant(*most),
            _ => return Err(misshapen(cx, source, "the labels of a sample are one row", &shape, &from)),
        },
        None => variable(cx, source)?,
    };
    Ok(target(cx, &source.value, vec![Dim::batch(), size], at))
}

/// A size of its own.
fn variable(cx: &mut Cx<'_>, source: &Spanned<String>) -> Result<Dim, Reported> {
    let names = (1..).map(|i| if i == 1 { "l".to_owned() } else { format!("l{i}") });
    let known = target_shape(cx, &source.value).and_then(|shape| shape.get(1).copied());
    if let Some(known) = known {
        return Ok(known);
    }
    let name = names.into_iter().find(|n| cx.graph.symbols.find(n).is_none()).unwrap_or_default();
    cx.graph.symbols.add(&name, None).map(Dim::symbol).ok_or_else(|| {
        let d = Diagnostic::error("model-too-large", "the model has too many different variable sizes")
            .at(source.span, "these labels would make one more")
            .help("name data from which their number is known");
        cx.sink.fail(d)
    })
}

/// Lengths `[n]`, from one number a sample.
fn lengths(cx: &mut Cx<'_>, source: &Spanned<String>, at: LayerRef) -> Result<NodeId, Reported> {
    let found = cx.data.iter().find(|d| d.name == source.value).map(|d| (d.shape.clone(), d.source.clone()));
    if let Some((shape, from)) = found.filter(|(shape, _)| shape.iter().any(|s| *s != 1)) {
        return Err(misshapen(cx, source, "a length is one number a sample", &shape, &from));
    }
    let node = target(cx, &source.value, vec![Dim::batch(), Dim::ONE], at);
    Ok(cx.builder(at).reshape(node, vec![Dim::batch()]))
}

fn misshapen(cx: &mut Cx<'_>, source: &Spanned<String>, rule: &str, shape: &[u64], from: &str) -> Reported {
    let text = format!("{rule}, but `{}` has shape {shape:?}", source.value);
    let d = Diagnostic::error("target-shape-mismatch", text)
        .at(source.span, "read by `ctc`")
        .note(format!("`{from}` gives {shape:?} per sample"));
    cx.sink.fail(d)
}

fn find_target(cx: &Cx<'_>, name: &str) -> Option<NodeId> {
    let same = |op: &Op| matches!(op, Op::Input { name: n, role: InputRole::Target } if n == name);
    cx.graph.ids().find(|id| same(&cx.graph.node(*id).op))
}

fn target_shape(cx: &Cx<'_>, name: &str) -> Option<Vec<Dim>> {
    find_target(cx, name).map(|id| cx.graph.shape(id).to_vec())
}

/// Data of the loss; what two losses read is one input.
fn target(cx: &mut Cx<'_>, name: &str, shape: Vec<Dim>, at: LayerRef) -> NodeId {
    match find_target(cx, name).filter(|id| cx.graph.shape(*id) == shape) {
        Some(id) => id,
        None => cx.input(name, InputRole::Target, shape, Some(at)),
    }
}

/// Windows and strides along the first axis, from a layer to another one.
type Windows = Vec<(u32, u32)>;

/// The windows between the output of `from` and that of `to`, in order.
fn windows(cx: &mut Cx<'_>, to: LayerId, from: &Spanned<LayerId>) -> Result<Windows, Reported> {
    let layers = &cx.kurfile.layers;
    // What is known of each layer up to the last: nothing where `from` has no part in it.
    let mut known: Vec<Option<Result<Windows, LayerId>>> = Vec::new();
    for (i, layer) in layers.iter().enumerate().take(to.0 as usize + 1) {
        let id = LayerId(u32::try_from(i).unwrap_or(u32::MAX));
        if id == from.value {
            known.push(Some(Ok(Vec::new())));
            continue;
        }
        let mut inputs = layer.inputs.iter().filter_map(|l| known.get(l.0 as usize)?.clone());
        let first = inputs.next();
        let same = inputs.all(|other| Some(&other) == first.as_ref());
        let rank = layer.inputs.first().and_then(|l| cx.shapes.layers.get(l.0 as usize)?.shape.as_ref().map(Vec::len));
        known.push(match first {
            None => None,
            Some(Err(lost)) => Some(Err(lost)),
            Some(Ok(_)) if !same => Some(Err(id)),
            Some(Ok(before)) => Some(match along(&layer.kind, rank.unwrap_or(0)) {
                Some(more) => Ok(before.into_iter().chain(more).collect()),
                None => Err(id),
            }),
        });
    }
    let name = &layers[from.value.0 as usize].name;
    let d = match known.pop().flatten() {
        Some(Ok(windows)) => return Ok(windows),
        Some(Err(lost)) => {
            let lost = &layers[lost.0 as usize];
            let text = format!("`{}` does not keep the frames of `{name}` on its first axis", lost.kind.word());
            Diagnostic::error("invalid-value", text)
                .at(from.span, "lengths are counted from here")
                .also(lost.span, "and cannot be followed through this layer")
                .help("name a layer behind it, with `input_length` to match")
        }
        None => {
            let text = format!("the output of this loss does not come from `{name}`");
            Diagnostic::error("invalid-value", text)
                .at(from.span, "lengths are counted from here")
                .also(span_of(cx, to), "but this output has other inputs")
                .help("name a layer that the output comes from")
        }
    };
    Err(cx.sink.fail(d))
}

/// What a layer does to the number of frames on its first axis; `None` when that axis goes away, or grows.
fn along(kind: &LayerKind, rank: usize) -> Option<Windows> {
    let small = |x: u64| u32::try_from(x).ok();
    let window = |size: &[u64], strides: &[u64], dilation: u64, border: Border| {
        let reach = size.first()?.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        Some(vec![(if border == Border::Same { 1 } else { small(reach)? }, small(*strides.first()?)?)])
    };
    let keeps = |kept: bool| kept.then(Vec::new);
    match kind {
        LayerKind::Convolution { size, strides, dilation, border, .. } => {
            window(&size.value, strides, dilation.first().copied()?, *border)
        }
        LayerKind::Pool { size, strides, border, .. } => window(&size.value, strides, 1, *border),
        LayerKind::Activation(_)
        | LayerKind::Dropout { .. }
        | LayerKind::BatchNormalization { .. }
        | LayerKind::LayerNormalization { .. }
        | LayerKind::PositionEmbedding
        | LayerKind::Attention { .. }
        | LayerKind::Embedding { .. }
        | LayerKind::Parallel { .. }
        | LayerKind::Output => Some(Vec::new()),
        LayerKind::Dense { flatten, .. } => keeps(!flatten && rank > 1),
        LayerKind::Recurrent(r) => keeps(r.sequence),
        LayerKind::Expand { dimension } => keeps(position(*dimension, rank + 1) != Some(0)),
        LayerKind::Squeeze { dimension } => keeps(position(*dimension, rank) != Some(0)),
        LayerKind::Transpose { axes, include_batch } => {
            keeps(axes.value.get(usize::from(*include_batch)) == Some(&u64::from(*include_batch)))
        }
        LayerKind::Merge { mode, axis } => {
            let concat = *mode == crate::model::types::MergeMode::Concat;
            keeps(!concat || position(*axis, rank + 1) != Some(1))
        }
        LayerKind::Reuse { kind, .. } => along(kind, rank),
        LayerKind::Flatten
        | LayerKind::Repeat { .. }
        | LayerKind::Upsample { .. }
        | LayerKind::Pad { .. }
        | LayerKind::GlobalPool { .. }
        | LayerKind::Input { .. } => None,
    }
}
