//! Penalties on weights: terms of the loss that read no data.

use crate::diag::{Diagnostic, Reported};
use crate::ir::graph::{Builder, LayerRef, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::Cx;
use crate::model::types::{Kurfile, Layer, LayerKind};

/// Σ l1·|w| + l2·w² over the kernels of layers with a `regularizer`, as Keras defines them; biases and scales, which have
/// one axis, go free. `None` where no layer has one. Weights that several layers share count once.
pub(super) fn penalty(cx: &mut Cx<'_>) -> Result<Option<NodeId>, Reported> {
    let mut seen = vec![false; cx.graph.states.len()];
    let mut found: Vec<(NodeId, LayerRef)> = Vec::new();
    for id in cx.graph.ids() {
        let node = cx.graph.node(id);
        let (Op::State { index }, Some(layer)) = (&node.op, node.layer) else { continue };
        let (index, wide) = (*index as usize, node.ty.rank() >= 2);
        let state = &cx.graph.states[index];
        if wide && state.role == kur_runtime::plan::StateRole::Param && !std::mem::replace(&mut seen[index], true) {
            found.push((id, layer));
        }
    }
    for layer in &cx.kurfile.layers {
        let LayerKind::Parallel { apply } = &layer.kind else { continue };
        if let Some(own) = apply.iter().find(|l| l.regularizer != layer.regularizer) {
            let message = "a `regularizer` of its own inside `parallel` is not built yet";
            let d = Diagnostic::error("not-yet-supported", message).at(own.span, "not built yet");
            return Err(cx.sink.fail(d.help("give it to the `parallel`, for all layers in it")));
        }
    }
    let mut total = None;
    for (weights, at) in found {
        let Some(r) = owner(cx.kurfile, at).and_then(|l| l.regularizer) else { continue };
        let mut b = cx.builder(at);
        for (factor, square) in [(r.l1, false), (r.l2, true)] {
            if factor > 0.0 {
                let sum = sum(&mut b, weights, square);
                let term = b.mul_const(sum, factor);
                total = Some(total.map_or(term, |t| b.add(t, term)));
            }
        }
    }
    Ok(total)
}

/// The layer that the weights of a layer belong to: a `reuse` may stand before its target.
fn owner(kurfile: &Kurfile, at: LayerRef) -> Option<&Layer> {
    let layer = kurfile.layers.get(at.0 as usize)?;
    match &layer.kind {
        LayerKind::Reuse { target, .. } => kurfile.layers.iter().find(|l| l.name == target.value),
        _ => Some(layer),
    }
}

fn sum(b: &mut Builder<'_>, x: NodeId, square: bool) -> NodeId {
    let each = if square { b.mul(x, x) } else { b.map(ScalarOp::Abs, &[x]) };
    let axes: Vec<usize> = (0..b.shape(each).len()).collect();
    let s = b.sum(each, &axes);
    b.reshape(s, Vec::new())
}
