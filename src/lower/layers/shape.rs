//! Layers that move values: `flatten`, `expand`, `squeeze`, `transpose`, `repeat`, `merge` (kur-reference 3.9 to 3.13).

use kur_runtime::dim::Dim;

use super::sum;
use crate::diag::{Diagnostic, Reported};
use crate::ir::graph::{LayerRef, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::{Cx, unsound};
use crate::model::types::{Layer, MergeMode};
use crate::shapes::position;

/// One axis out of all but the batch.
pub(super) fn flatten(cx: &mut Cx<'_>, at: LayerRef, x: NodeId) -> NodeId {
    let mut b = cx.builder(at);
    let shape = b.shape(x);
    b.reshape(x, vec![shape[0], Dim::product(&shape[1..])])
}

/// Inserts an axis of size 1 (3.10).
pub(super) fn expand(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    dimension: i64,
) -> Result<NodeId, Reported> {
    let mut shape = cx.graph.shape(x).to_vec();
    let Some(axis) = position(dimension, shape.len()) else { return Err(unsound(cx, layer)) };
    shape.insert(axis + 1, Dim::ONE);
    Ok(cx.builder(at).reshape(x, shape))
}

/// Removes an axis of size 1 (3.10).
pub(super) fn squeeze(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    dimension: i64,
) -> Result<NodeId, Reported> {
    let mut shape = cx.graph.shape(x).to_vec();
    match position(dimension, shape.len() - 1).filter(|axis| shape[axis + 1] == Dim::ONE) {
        Some(axis) => {
            shape.remove(axis + 1);
            Ok(cx.builder(at).reshape(x, shape))
        }
        None => Err(unsound(cx, layer)),
    }
}

/// `[n, f]` to `[n, count, f]` (3.13).
pub(super) fn repeat(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: NodeId, count: u64) -> Result<NodeId, Reported> {
    let [n, f] = cx.graph.shape(x)[..] else { return Err(unsound(cx, layer)) };
    let mut b = cx.builder(at);
    let one = b.reshape(x, vec![n, Dim::ONE, f]);
    Ok(b.broadcast(one, vec![n, Dim::constant(count), f]))
}

/// Another order of axes (3.11). The batch stays the first axis.
pub(super) fn transpose(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    axes: &[u64],
    include_batch: bool,
) -> Result<NodeId, Reported> {
    let own = axes.iter().map(|a| usize::try_from(*a).unwrap_or(usize::MAX));
    let perm: Vec<usize> = if include_batch {
        own.collect()
    } else {
        std::iter::once(0).chain(own.map(|a| a.saturating_add(1))).collect()
    };
    if perm.len() != cx.graph.shape(x).len() || perm.first() != Some(&0) {
        return Err(unsound(cx, layer));
    }
    Ok(cx.builder(at).op(Op::Transpose { perm }, &[x]))
}

/// Joins values (3.12): elementwise, or one behind the other along an axis. One input goes through unchanged.
pub(super) fn merge(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    inputs: &[NodeId],
    mode: MergeMode,
    axis: i64,
) -> Result<NodeId, Reported> {
    let Some((first, rest)) = inputs.split_first() else { return Err(unsound(cx, layer)) };
    let shape = cx.graph.shape(*first).to_vec();
    let joined = if mode == MergeMode::Concat {
        let Some(axis) = position(axis, shape.len()).filter(|a| *a > 0) else { return Err(unsound(cx, layer)) };
        Some(axis)
    } else {
        None
    };
    for other in rest {
        let found = cx.graph.shape(*other).to_vec();
        let differs = (0..shape.len()).find(|a| Some(*a) != joined && found.get(*a) != shape.get(*a));
        let Some(bad) = differs.filter(|_| found.len() == shape.len()) else {
            if found.len() == shape.len() {
                continue;
            }
            return Err(unsound(cx, layer));
        };
        if shape[bad].is_const() && found[bad].is_const() {
            return Err(unsound(cx, layer));
        }
        let (a, b) = (cx.shape_text(*first), cx.shape_text(*other));
        let text = format!("`merge` cannot join {a} and {b}: nothing says that axis {bad} has one size in both");
        let d = Diagnostic::error("shape-mismatch", text)
            .at(layer.span, "different variable sizes meet here")
            .help("variable sizes are equal only when they come from the same input and went through the same layers");
        return Err(cx.sink.fail(d));
    }
    if let Some(axis) = joined {
        let parts: Vec<Dim> = inputs.iter().map(|x| cx.graph.shape(*x)[axis]).collect();
        let size = sum(cx, layer, &parts)?;
        return Ok(cx.builder(at).concat_to(inputs, axis, size));
    }
    let mut b = cx.builder(at);
    let mut y = *first;
    for other in rest {
        y = if mode == MergeMode::Multiply { b.mul(y, *other) } else { b.add(y, *other) };
    }
    if mode == MergeMode::Average && !rest.is_empty() {
        #[expect(clippy::cast_precision_loss, reason = "a layer has few inputs")]
        let count = b.constant(inputs.len() as f64);
        y = b.map(ScalarOp::Div, &[y, count]);
    }
    Ok(y)
}
