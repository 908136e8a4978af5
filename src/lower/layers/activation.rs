//! Elementwise functions and softmax (kur-reference 3.4).

use crate::ir::graph::{Builder, LayerRef, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::{Cx, Value};
use crate::model::types::Activation;

/// Elementwise functions and softmax (3.4).
pub(super) fn activation(cx: &mut Cx<'_>, at: LayerRef, x: NodeId, kind: Activation) -> Value {
    let mut b = cx.builder(at);
    if kind == Activation::Softmax {
        return Value { node: b.op(Op::Softmax { log: false }, &[x]), logits: Some(x) };
    }
    Value { node: elementwise(&mut b, kind, x), logits: None }
}

/// An elementwise activation.
pub(in crate::lower) fn elementwise(b: &mut Builder<'_>, kind: Activation, x: NodeId) -> NodeId {
    use ScalarOp::{Exp, Log1p, Max, Min, Sigmoid, Tanh};
    let zero = b.constant(0.0);
    match kind {
        Activation::Linear | Activation::Softmax => x,
        Activation::Relu => b.map(Max, &[x, zero]),
        Activation::Tanh => b.map(Tanh, &[x]),
        Activation::Sigmoid => b.map(Sigmoid, &[x]),
        Activation::HardSigmoid => {
            let y = b.mul_const(x, 0.2);
            let y = b.add_const(y, 0.5);
            let one = b.constant(1.0);
            let y = b.map(Max, &[y, zero]);
            b.map(Min, &[y, one])
        }
        // Both halves stay finite for every x, so that no gradient is 0 · ∞.
        Activation::Elu => elu(b, x, 1.0, 1.0),
        Activation::Selu => elu(b, x, 1.050_700_987_355_480_5, 1.673_263_242_354_377_2),
        Activation::Softplus => {
            let pos = b.map(Max, &[x, zero]);
            let neg = b.neg(x);
            let down = b.map(Min, &[x, neg]);
            let e = b.map(Exp, &[down]);
            let l = b.map(Log1p, &[e]);
            b.add(pos, l)
        }
        Activation::Softsign => {
            let a = b.map(ScalarOp::Abs, &[x]);
            let d = b.add_const(a, 1.0);
            b.div(x, d)
        }
    }
}

/// `scale · (max(x, 0) + alpha · expm1(min(x, 0)))`.
fn elu(b: &mut Builder<'_>, x: NodeId, scale: f64, alpha: f64) -> NodeId {
    let zero = b.constant(0.0);
    let pos = b.map(ScalarOp::Max, &[x, zero]);
    let low = b.map(ScalarOp::Min, &[x, zero]);
    let e = b.map(ScalarOp::Expm1, &[low]);
    let e = if (alpha - 1.0).abs() > 0.0 { b.mul_const(e, alpha) } else { e };
    let y = b.add(pos, e);
    if (scale - 1.0).abs() > 0.0 { b.mul_const(y, scale) } else { y }
}
