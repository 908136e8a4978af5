//! Losses and metrics (kur-reference 5.1) as graph building.

use kur_runtime::dim::Dim;
use kur_runtime::plan::InputRole;

use super::layers::span_of;
use super::model::{Cx, Value};
use crate::diag::{Diagnostic, Reported, Span};
use crate::ir::graph::{Builder, GraphResult, LayerRef, NodeId, Role};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::model::types::LossKind;

/// Keras clips probabilities to this distance from 0 and 1 before the logarithm.
const PROBABILITY_EPSILON: f64 = 1e-7;

/// Adds the metrics `loss` and `accuracy` (with `:TARGET` when there are several targets).
pub(super) fn lower(cx: &mut Cx<'_>) -> Result<(), Reported> {
    let kurfile = cx.kurfile;
    if kurfile.losses.is_empty() {
        let outputs: Vec<&str> = kurfile.outputs.iter().map(|o| o.name.as_str()).collect();
        let name = outputs.first().copied().unwrap_or("OUTPUT");
        let mut d =
            Diagnostic::error("missing-loss", format!("`{}` needs a loss, and the Kurfile has none", cx.mode.name()));
        if let Some(o) = kurfile.outputs.first() {
            d = d.at(o.span, "no loss trains this output");
        }
        if let Some(t) = &kurfile.train {
            d = d.also(t.span, "training is asked for here");
        }
        return Err(cx
            .sink
            .fail(d.help(format!("add a section `loss: [{{target: {name}, name: mean_squared_error}}]`"))));
    }
    let several = kurfile.losses.len() > 1;
    let mut total: Option<NodeId> = None;
    let mut metrics = Vec::new();
    let mut failed = None;
    for loss in &kurfile.losses {
        let output = &kurfile.outputs[loss.output];
        let Some(value) = cx.value(output.layer) else { continue };
        let at = LayerRef(output.layer.0);
        let target = match target(cx, loss.output, value, at) {
            Ok(t) => t,
            Err(e) => {
                failed = Some(e);
                continue;
            }
        };
        if loss.kind == LossKind::CategoricalCrossentropy && value.logits.is_none() {
            not_probabilities(cx, loss.output, value, loss.span);
        }
        if loss.kind == LossKind::Ctc {
            // The driver stops before it is lowered; whoever calls this module alone learns of it here.
            let message = "the loss `ctc` is part of the language, but kurc does not build it yet";
            failed = Some(cx.sink.fail(Diagnostic::error("not-yet-supported", message).at(loss.span, "not built yet")));
            continue;
        }
        let mut b = cx.builder(at);
        let own = match loss.kind {
            LossKind::MeanSquaredError => {
                let d = b.sub(value.node, target);
                let sq = b.mul(d, d);
                b.mean_all(sq)
            }
            LossKind::CategoricalCrossentropy | LossKind::Ctc => crossentropy(&mut b, value, target),
        };
        let weighted = if (loss.weight - 1.0).abs() > 0.0 { b.mul_const(own, loss.weight) } else { own };
        total = Some(total.map_or(weighted, |t| b.add(t, weighted)));
        if several {
            metrics.push((format!("loss:{}", output.name), own));
        }
        if loss.kind == LossKind::CategoricalCrossentropy {
            let name = if several { format!("accuracy:{}", output.name) } else { "accuracy".to_owned() };
            let value = accuracy(&mut b, value, target);
            metrics.push((name, value));
        }
    }
    if let Some(e) = failed {
        return Err(e);
    }
    if let Some(value) = total {
        cx.graph.results.push(GraphResult { role: Role::Metric("loss".to_owned()), value });
    }
    for (name, value) in metrics {
        cx.graph.results.push(GraphResult { role: Role::Metric(name), value });
    }
    Ok(())
}

/// Cross-entropy compares shares that sum to 1; without a softmax they are made by division, and a single unit is
/// always right.
fn not_probabilities(cx: &mut Cx<'_>, output: usize, value: Value, loss: Span) {
    let output = &cx.kurfile.outputs[output];
    let one = cx.graph.shape(value.node).last() == Some(&Dim::ONE);
    let d = if one {
        Diagnostic::error("crossentropy-over-one", "categorical_crossentropy over one unit is always 0")
            .help("give one unit per class and end with `activation: softmax`, or use mean_squared_error for a number")
    } else {
        Diagnostic::warning("crossentropy-without-softmax", "categorical_crossentropy expects shares that sum to 1")
            .help("put `activation: softmax` before this output")
    };
    cx.sink.push(d.at(output.span, "this output is no softmax").also(loss, "the loss"));
}

/// The truth an output is compared with: an input of the same shape, checked against the data.
fn target(cx: &mut Cx<'_>, output: usize, value: Value, at: LayerRef) -> Result<NodeId, Reported> {
    let output = &cx.kurfile.outputs[output];
    let shape = cx.graph.shape(value.node).to_vec();
    let names = std::iter::once(&output.name).chain(&output.aliases);
    let data = names.into_iter().find_map(|n| cx.data.iter().find(|d| d.name == *n)).cloned();
    if let Some(d) = data {
        let want: Vec<Dim> = shape[1..].to_vec();
        let mut found: Vec<Dim> = d.shape.iter().map(|s| Dim::constant(*s)).collect();
        // Sizes that differ from batch to batch are compared when the batch is made.
        for (axis, (found, want)) in found.iter_mut().zip(&want).enumerate() {
            if want.as_const().is_none() || (axis == 0 && d.shape[0] == 0) {
                *found = *want;
            }
        }
        // A missing trailing axis of size 1 is added once (2.5).
        if found.len() + 1 == want.len() && want.last() == Some(&Dim::ONE) {
            found.push(Dim::ONE);
        }
        if found != want {
            let have = cx.shape_text(value.node);
            let text = format!(
                "output `{}` has shape {have}, but its target in the data has shape {:?}",
                output.name, d.shape
            );
            let layer = cx.kurfile.outputs.iter().find(|o| o.name == output.name).map_or(output.layer, |o| o.layer);
            let mut e = Diagnostic::error("target-shape-mismatch", text)
                .at(output.span, format!("this output is {have}"))
                .note(format!("`{}` gives {:?} per sample", d.source, d.shape));
            if span_of(cx, layer) != output.span {
                e = e.also(span_of(cx, layer), "computed here");
            }
            let units = d.shape.last().copied().unwrap_or(1);
            let help = format!("give the last layer {units} unit{}", if units == 1 { "" } else { "s" });
            return Err(cx.sink.fail(e.help(help)));
        }
    }
    Ok(cx.input(&output.name, InputRole::Target, shape, Some(at)))
}

/// Mean over all rows of −Σ t·ln p. Behind a softmax the logarithm is taken of the logits, so that no rounded 0
/// reaches it; otherwise Keras' formula: p ← p/Σp, clipped.
fn crossentropy(b: &mut Builder<'_>, value: Value, target: NodeId) -> NodeId {
    let last = b.shape(value.node).len() - 1;
    let log = match value.logits {
        Some(logits) => b.op(Op::Softmax { log: true }, &[logits]),
        None => {
            let s = b.sum(value.node, &[last]);
            let p = b.div(value.node, s);
            let (lo, hi) = (b.constant(PROBABILITY_EPSILON), b.constant(1.0 - PROBABILITY_EPSILON));
            let p = b.map(ScalarOp::Max, &[p, lo]);
            let p = b.map(ScalarOp::Min, &[p, hi]);
            b.map(ScalarOp::Log, &[p])
        }
    };
    let terms = b.mul(target, log);
    let rows = b.sum(terms, &[last]);
    let mean = b.mean_all(rows);
    b.neg(mean)
}

/// Share of rows whose largest prediction is the largest truth.
fn accuracy(b: &mut Builder<'_>, value: Value, target: NodeId) -> NodeId {
    let scores = value.logits.unwrap_or(value.node);
    let predicted = b.op(Op::ArgMax, &[scores]);
    let truth = b.op(Op::ArgMax, &[target]);
    let same = b.map(ScalarOp::Eq, &[predicted, truth]);
    b.mean_all(same)
}
