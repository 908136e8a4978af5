//! Cross-entropies: distances between shares that sum to 1.

use kur_runtime::dim::Dim;

use crate::diag::{Diagnostic, Span};
use crate::ir::graph::{Builder, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::{Cx, Value};

/// Keras clips probabilities to this distance from 0 and 1 before the logarithm.
const PROBABILITY_EPSILON: f64 = 1e-7;

/// Cross-entropy compares shares that sum to 1; without a softmax they are made by division, and a single unit is
/// always right.
pub(super) fn not_probabilities(cx: &mut Cx<'_>, output: usize, value: Value, loss: Span) {
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

/// Mean over all rows of −Σ t·ln p. Behind a softmax the logarithm is taken of the logits, so that no rounded 0
/// reaches it; otherwise Keras' formula: p ← p/Σp, clipped.
pub(super) fn categorical(b: &mut Builder<'_>, value: Value, target: NodeId) -> NodeId {
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
