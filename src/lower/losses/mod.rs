//! Losses and metrics (kur-reference 5.1) as graph building: one file per kind of loss.

mod crossentropy;
mod ctc;
mod mask;
mod metrics;
mod regression;
mod regularizer;
mod target;

use super::model::{Cx, Value};
use crate::diag::{Diagnostic, Reported};
use crate::ir::graph::{Builder, GraphResult, LayerRef, NodeId, Role};
use crate::model::types::{Loss, LossKind};

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
        if let Some(parameters) = &loss.ctc {
            match ctc::lower(cx, loss.output, value, parameters, at, loss.span) {
                Ok(own) => {
                    let mut b = cx.builder(at);
                    let weighted = weighted(&mut b, own, loss.weight);
                    total = Some(total.map_or(weighted, |t| b.add(t, weighted)));
                    if several {
                        metrics.push((format!("loss:{}", output.name), own));
                    }
                }
                Err(e) => failed = Some(e),
            }
            continue;
        }
        let target = match target::lower(cx, loss.output, loss.kind, value, at) {
            Ok(t) => t,
            Err(e) => {
                failed = Some(e);
                continue;
            }
        };
        if loss.kind == LossKind::CategoricalCrossentropy && value.logits.is_none() {
            crossentropy::not_probabilities(cx, loss.output, value, loss.span);
        }
        if loss.kind == LossKind::BinaryCrossentropy && crossentropy::sigmoid_argument(&cx.builder(at), value).is_none()
        {
            crossentropy::not_shares(cx, loss.output, loss.span);
        }
        if let Err(e) = check_classes(cx, loss, value) {
            failed = Some(e);
            continue;
        }
        let mut b = cx.builder(at);
        let own = match loss.kind {
            LossKind::MeanSquaredError => regression::mean_squared(&mut b, value.node, target),
            LossKind::MeanAbsoluteError => regression::mean_absolute(&mut b, value.node, target),
            LossKind::Huber => regression::huber(&mut b, value.node, target, loss.delta),
            LossKind::BinaryCrossentropy => crossentropy::binary(&mut b, value, target, loss),
            // `ctc` reads data of its own and was lowered above.
            LossKind::CategoricalCrossentropy | LossKind::Ctc => crossentropy::categorical(&mut b, value, target, loss),
        };
        let weighted = weighted(&mut b, own, loss.weight);
        total = Some(total.map_or(weighted, |t| b.add(t, weighted)));
        if several {
            metrics.push((format!("loss:{}", output.name), own));
        }
        if loss.kind.is_crossentropy() {
            let name = if several { format!("accuracy:{}", output.name) } else { "accuracy".to_owned() };
            let value = match loss.kind {
                LossKind::BinaryCrossentropy => metrics::binary_accuracy(&mut b, value, target),
                _ => metrics::accuracy(&mut b, value, target),
            };
            metrics.push((name, value));
        }
    }
    if let Some(e) = failed {
        return Err(e);
    }
    let total = match (total, regularizer::penalty(cx)?) {
        (Some(total), Some(penalty)) => {
            let at = cx.graph.node(total).layer;
            Some(Builder::new(&mut cx.graph, at).add(total, penalty))
        }
        (total, _) => total,
    };
    if let Some(value) = total {
        cx.graph.results.push(GraphResult { role: Role::Metric("loss".to_owned()), value });
    }
    for (name, value) in metrics {
        cx.graph.results.push(GraphResult { role: Role::Metric(name), value });
    }
    Ok(())
}

/// A loss times its weight.
fn weighted(b: &mut Builder<'_>, own: NodeId, weight: f64) -> NodeId {
    if (weight - 1.0).abs() > 0.0 { b.mul_const(own, weight) } else { own }
}

/// Class weights need one number per class: two for the truths 0 and 1 of a binary loss.
fn check_classes(cx: &mut Cx<'_>, loss: &Loss, value: Value) -> Result<(), Reported> {
    let given = loss.class_weights.len();
    let classes = match loss.kind {
        LossKind::BinaryCrossentropy => 2,
        _ => cx.graph.shape(value.node).last().and_then(|d| d.as_const()).unwrap_or(0),
    };
    if given == 0 || given as u64 == classes {
        return Ok(());
    }
    let message = format!("`class_weights` of a loss must have a number for each of {classes} classes, found {given}");
    let output = &cx.kurfile.outputs[loss.output];
    let d = Diagnostic::error("invalid-value", message).at(loss.span, "the weights of this loss");
    Err(cx.sink.fail(d.also(output.span, format!("this output has {classes} classes"))))
}
