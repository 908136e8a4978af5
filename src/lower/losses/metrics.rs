//! Metrics of a batch beside the loss.

use crate::ir::graph::{Builder, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::Value;

/// Share of rows whose largest prediction is the largest truth.
pub(super) fn accuracy(b: &mut Builder<'_>, value: Value, target: NodeId) -> NodeId {
    let scores = value.logits.unwrap_or(value.node);
    let predicted = b.op(Op::ArgMax, &[scores]);
    let truth = b.op(Op::ArgMax, &[target]);
    let same = b.map(ScalarOp::Eq, &[predicted, truth]);
    b.mean_all(same)
}
