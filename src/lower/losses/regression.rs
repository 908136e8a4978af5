//! Losses of numbers.

use super::target::Target;
use crate::ir::graph::{Builder, NodeId};
use crate::ir::kernel::ScalarOp;

/// Mean over all elements of (prediction − truth)².
pub(super) fn mean_squared(b: &mut Builder<'_>, found: NodeId, truth: Target) -> NodeId {
    let d = distance(b, found, truth);
    let sq = b.mul(d, d);
    truth.mean(b, sq)
}

/// Mean over all elements of |prediction − truth|.
pub(super) fn mean_absolute(b: &mut Builder<'_>, found: NodeId, truth: Target) -> NodeId {
    let d = distance(b, found, truth);
    let size = b.map(ScalarOp::Abs, &[d]);
    truth.mean(b, size)
}

/// Mean over all elements of ½d² where |d| ≤ δ, else δ(|d| − ½δ) (Huber 1964), as q(|d| − ½q) with q = min(|d|, δ).
pub(super) fn huber(b: &mut Builder<'_>, found: NodeId, truth: Target, delta: f64) -> NodeId {
    let d = distance(b, found, truth);
    let size = b.map(ScalarOp::Abs, &[d]);
    let delta = b.constant(delta);
    let near = b.map(ScalarOp::Min, &[size, delta]);
    let half = b.mul_const(near, 0.5);
    let rest = b.sub(size, half);
    let each = b.mul(near, rest);
    truth.mean(b, each)
}

/// Prediction − truth.
fn distance(b: &mut Builder<'_>, found: NodeId, truth: Target) -> NodeId {
    let found = truth.real(b, found, 0.0);
    b.sub(found, truth.node)
}
