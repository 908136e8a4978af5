//! Cross-entropies: distances between shares of classes.

use kur_runtime::dim::Dim;

use super::target::Target;
use crate::diag::{Diagnostic, Span};
use crate::ir::graph::{Builder, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::{Cx, Value};
use crate::model::types::Loss;

/// Keras clips probabilities to this distance from 0 and 1 before the logarithm.
const PROBABILITY_EPSILON: f64 = 1e-7;

/// Cross-entropy compares shares that sum to 1; without a softmax they are made by division, and a single unit is
/// always right.
pub(super) fn not_probabilities(cx: &mut Cx<'_>, output: usize, value: Value, loss: Span) {
    let output = &cx.kurfile.outputs[output];
    let one = cx.graph.shape(value.node).last() == Some(&Dim::ONE);
    let d = if one {
        Diagnostic::error("crossentropy-over-one", "categorical_crossentropy over one unit is always 0")
            .help("for two classes take binary_crossentropy behind `activation: sigmoid`, for a number mean_squared_error")
            .help("for more give one unit per class and end with `activation: softmax`")
    } else {
        Diagnostic::warning("crossentropy-without-softmax", "categorical_crossentropy expects shares that sum to 1")
            .help("put `activation: softmax` before this output")
    };
    cx.sink.push(d.at(output.span, "this output is no softmax").also(loss, "the loss"));
}

/// Binary cross-entropy compares shares between 0 and 1; others are clipped to that range.
pub(super) fn not_shares(cx: &mut Cx<'_>, output: usize, loss: Span) {
    let output = &cx.kurfile.outputs[output];
    let d = Diagnostic::warning("crossentropy-without-sigmoid", "binary_crossentropy expects numbers between 0 and 1")
        .help("put `activation: sigmoid` before this output");
    cx.sink.push(d.at(output.span, "this output is no sigmoid").also(loss, "the loss"));
}

/// The argument of the sigmoid, when the value is one.
pub(super) fn sigmoid_argument(b: &Builder<'_>, value: Value) -> Option<NodeId> {
    let node = b.graph.node(value.node);
    matches!(node.op, Op::Map(ScalarOp::Sigmoid)).then(|| node.args[0])
}

/// The classes of a sparse target as rows with a single 1.
fn one_hot(b: &mut Builder<'_>, target: Target, classes: Dim) -> NodeId {
    if !target.sparse {
        return target.node;
    }
    let positions = b.shaped(Op::Positions, &[], vec![classes]);
    b.map(ScalarOp::Eq, &[target.node, positions])
}

/// Mean over all rows of −Σ t·ln p. Behind a softmax the logarithm is taken of the logits, so that no rounded 0
/// reaches it; otherwise Keras' formula: p ← p/Σp, clipped. The weight of a row is that of its class.
pub(super) fn categorical(b: &mut Builder<'_>, value: Value, target: Target, loss: &Loss) -> NodeId {
    let shape = b.shape(value.node);
    let last = shape.len() - 1;
    let log = match value.logits {
        Some(logits) => {
            let logits = target.real(b, logits, 0.0);
            b.op(Op::Softmax { log: true }, &[logits])
        }
        None => {
            // 1 in the padding: the sum there is no 0.
            let shares = target.real(b, value.node, 1.0);
            let s = b.sum(shares, &[last]);
            let p = b.div(shares, s);
            let p = clipped(b, p);
            b.map(ScalarOp::Log, &[p])
        }
    };
    let truth = one_hot(b, target, shape[last]);
    let mut soft = truth;
    if loss.label_smoothing > 0.0 {
        // t(1 − ε) + ε / classes.
        let spread = b.constant(loss.label_smoothing);
        let classes = b.size(shape[last]);
        let each = b.div(spread, classes);
        let kept = b.mul_const(truth, 1.0 - loss.label_smoothing);
        soft = b.add(kept, each);
    }
    let terms = b.mul(soft, log);
    let mut rows = b.sum(terms, &[last]);
    if !loss.class_weights.is_empty() {
        let weights = class_weights(b, &loss.class_weights);
        let own = b.mul(truth, weights);
        let own = b.sum(own, &[last]);
        rows = b.mul(rows, own);
    }
    let mean = target.mean(b, rows);
    b.neg(mean)
}

/// The weights as a vector.
fn class_weights(b: &mut Builder<'_>, weights: &[f64]) -> NodeId {
    let positions = b.shaped(Op::Positions, &[], vec![Dim::from(weights.len())]);
    let mut all = b.constant(*weights.last().unwrap_or(&1.0));
    for (i, weight) in weights.iter().enumerate().rev().skip(1) {
        #[expect(clippy::cast_precision_loss, reason = "there are few classes")]
        let at = b.constant(i as f64);
        let here = b.map(ScalarOp::Eq, &[positions, at]);
        let weight = b.constant(*weight);
        all = b.map(ScalarOp::Select, &[here, weight, all]);
    }
    let shape = vec![Dim::from(weights.len())];
    b.broadcast(all, shape)
}

/// Mean over all elements of −(t·ln p + (1−t)·ln(1−p)). Behind a sigmoid of z that is ln(1 + eᶻ) − tz; otherwise p is
/// clipped. The weights are those of truths 0 and 1.
pub(super) fn binary(b: &mut Builder<'_>, value: Value, target: Target, loss: &Loss) -> NodeId {
    let truth = target.node;
    let mut soft = truth;
    if loss.label_smoothing > 0.0 {
        let kept = b.mul_const(truth, 1.0 - loss.label_smoothing);
        soft = b.add_const(kept, loss.label_smoothing / 2.0);
    }
    let mut each = match sigmoid_argument(b, value) {
        Some(z) => {
            let z = target.real(b, z, 0.0);
            // max(z, 0) + ln(1 + e^(min(z, 0) − max(z, 0))): finite for every z, with the slope σ(z) also at 0.
            let zero = b.constant(0.0);
            let high = b.map(ScalarOp::Max, &[z, zero]);
            let low = b.map(ScalarOp::Min, &[z, zero]);
            let d = b.sub(low, high);
            let e = b.map(ScalarOp::Exp, &[d]);
            let tail = b.map(ScalarOp::Log1p, &[e]);
            let softplus = b.add(high, tail);
            let tz = b.mul(soft, z);
            b.sub(softplus, tz)
        }
        None => {
            let p = target.real(b, value.node, 0.5);
            let p = clipped(b, p);
            let one = b.constant(1.0);
            let (rest, other) = (b.sub(one, p), b.sub(one, soft));
            let (yes, no) = (b.map(ScalarOp::Log, &[p]), b.map(ScalarOp::Log, &[rest]));
            let (yes, no) = (b.mul(soft, yes), b.mul(other, no));
            let sum = b.add(yes, no);
            b.neg(sum)
        }
    };
    if let [no, yes] = loss.class_weights[..] {
        let more = b.mul_const(truth, yes - no);
        let own = b.add_const(more, no);
        each = b.mul(each, own);
    }
    target.mean(b, each)
}

fn clipped(b: &mut Builder<'_>, p: NodeId) -> NodeId {
    let (lo, hi) = (b.constant(PROBABILITY_EPSILON), b.constant(1.0 - PROBABILITY_EPSILON));
    let p = b.map(ScalarOp::Max, &[p, lo]);
    b.map(ScalarOp::Min, &[p, hi])
}
