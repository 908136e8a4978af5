//! `parallel` and `reuse` (kur-reference 3.15, 3.16): layers in layers.

use super::lower;
use crate::diag::Reported;
use crate::ir::graph::{LayerRef, NodeId};
use crate::lower::model::{Cx, Value, unsound};
use crate::model::types::{Kurfile, Layer, LayerKind};

/// A chain for every element of the first axis: `[n, steps, …]` becomes `[n · steps, …]`, goes through the chain, and
/// gets its steps back. What a layer of the chain calls the batch are all steps of all samples, as in Keras'
/// `TimeDistributed`.
pub(super) fn parallel(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: Value,
    apply: &[Layer],
) -> Result<Value, Reported> {
    if apply.is_empty() {
        return Ok(x);
    }
    let shape = cx.graph.shape(x.node).to_vec();
    let [n, steps, rest @ ..] = shape.as_slice() else { return Err(unsound(cx, layer)) };
    let rows = n.times(*steps);
    let inner = std::iter::once(rows).chain(rest.iter().copied()).collect();
    let node = cx.builder(at).reshape(x.node, inner);
    let mut value = Value { node, logits: None };
    for child in apply {
        value = lower(cx, child, at, &[value])?;
    }
    let back = |cx: &mut Cx<'_>, node: NodeId| {
        let inside = cx.graph.shape(node).to_vec();
        if inside.first() != Some(&rows) {
            return Err(unsound(cx, layer));
        }
        let outer = [*n, *steps].into_iter().chain(inside.into_iter().skip(1)).collect();
        Ok(cx.builder(at).reshape(node, outer))
    };
    let logits = value.logits.map(|l| back(cx, l)).transpose()?;
    Ok(Value { node: back(cx, value.node)?, logits })
}

/// A layer with the weights of another: what it does is lowered again under the name of the original, whose states are
/// found by that name.
pub(super) fn reuse(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    inputs: &[Value],
    target: &str,
    kind: &LayerKind,
) -> Result<Value, Reported> {
    // Whether weights are trained says the original, which may come later.
    let freeze = frozen(cx.kurfile, target).unwrap_or(layer.freeze);
    let again = Layer { name: target.to_owned(), kind: kind.clone(), freeze, ..layer.clone() };
    lower(cx, &again, at, inputs)
}

/// Whether the layer of a name, at any depth, is frozen.
fn frozen(kurfile: &Kurfile, name: &str) -> Option<bool> {
    let mut open: Vec<&Layer> = kurfile.layers.iter().collect();
    while let Some(layer) = open.pop() {
        if layer.name == name {
            return Some(layer.freeze);
        }
        if let LayerKind::Parallel { apply } = &layer.kind {
            open.extend(apply);
        }
    }
    None
}
