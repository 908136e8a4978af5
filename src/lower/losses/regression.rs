//! Losses of numbers.

use crate::ir::graph::{Builder, NodeId};

/// Mean over all elements of (prediction − truth)².
pub(super) fn mean_squared(b: &mut Builder<'_>, found: NodeId, truth: NodeId) -> NodeId {
    let d = b.sub(found, truth);
    let sq = b.mul(d, d);
    b.mean_all(sq)
}
