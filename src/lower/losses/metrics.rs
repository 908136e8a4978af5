//! Metrics of a batch beside the loss.

use super::target::Target;
use crate::ir::graph::{Builder, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::Value;

/// Share of rows whose largest prediction is the largest truth.
pub(super) fn accuracy(b: &mut Builder<'_>, value: Value, target: Target) -> NodeId {
    let scores = value.logits.unwrap_or(value.node);
    let predicted = b.op(Op::ArgMax, &[scores]);
    let truth = if target.sparse { target.node } else { b.op(Op::ArgMax, &[target.node]) };
    let same = b.map(ScalarOp::Eq, &[predicted, truth]);
    target.mean(b, same)
}

/// Share of elements on the same side of one half as the truth.
pub(super) fn binary_accuracy(b: &mut Builder<'_>, value: Value, target: Target) -> NodeId {
    let half = b.constant(0.5);
    let predicted = b.map(ScalarOp::Lt, &[half, value.node]);
    let truth = b.map(ScalarOp::Lt, &[half, target.node]);
    let same = b.map(ScalarOp::Eq, &[predicted, truth]);
    target.mean(b, same)
}
