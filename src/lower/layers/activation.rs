//! Elementwise functions and softmax (kur-reference 3.4).

use kur_runtime::plan::Init;

use super::param;
use crate::diag::Reported;
use crate::ir::graph::{Builder, LayerRef, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::{Cx, Value, unsound};
use crate::model::types::{Activation, Layer};

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
    use ScalarOp::{Max, Min, Sigmoid, Tanh};
    let zero = b.constant(0.0);
    match kind {
        // Softmax is no elementwise function, and `prelu` has weights: both are lowered elsewhere.
        Activation::Linear | Activation::Softmax | Activation::Prelu => x,
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
        Activation::Softplus => softplus(b, x),
        Activation::Softsign => {
            let a = b.map(ScalarOp::Abs, &[x]);
            let d = b.add_const(a, 1.0);
            b.div(x, d)
        }
        Activation::LeakyRelu => {
            let small = b.mul_const(x, LEAK);
            b.map(Max, &[x, small])
        }
        Activation::Gelu => gelu(b, x),
        Activation::Silu => {
            let s = b.map(Sigmoid, &[x]);
            b.mul(x, s)
        }
        Activation::Mish => {
            let s = softplus(b, x);
            let t = b.map(Tanh, &[s]);
            b.mul(x, t)
        }
    }
}

/// Slope of `leaky_relu` below 0 (Maas, Hannun and Ng, Rectifier Nonlinearities, 2013).
const LEAK: f64 = 0.01;

/// Slope of `prelu` below 0 before training (He et al., Delving Deep into Rectifiers, 2015).
const SLOPE: f32 = 0.25;

/// `max(x, 0) + ln(1 + e^-|x|)`.
fn softplus(b: &mut Builder<'_>, x: NodeId) -> NodeId {
    let zero = b.constant(0.0);
    let pos = b.map(ScalarOp::Max, &[x, zero]);
    let neg = b.neg(x);
    let down = b.map(ScalarOp::Min, &[x, neg]);
    let e = b.map(ScalarOp::Exp, &[down]);
    let l = b.map(ScalarOp::Log1p, &[e]);
    b.add(pos, l)
}

/// Chebyshev coefficients of `ln(erfc(z) / t) + z²` in `t = 1 / (1 + z / 2)`, from the constant on: Numerical Recipes,
/// section 6.2. The relative error of erfc is below 1.2e-7 for all z ≥ 0, which is one unit in the last place of f32.
const ERFC: [f64; 10] = [
    -1.265_512_23,
    1.000_023_68,
    0.374_091_96,
    0.096_784_18,
    -0.186_288_06,
    0.278_868_07,
    -1.135_203_98,
    1.488_515_87,
    -0.822_152_23,
    0.170_872_77,
];

/// `x · Φ(x)` (Hendrycks and Gimpel, Gaussian Error Linear Units, 2016). `Φ(-|x|) = erfc(|x| / √2) / 2` is computed for
/// itself, so that the tail keeps its precision.
fn gelu(b: &mut Builder<'_>, x: NodeId) -> NodeId {
    let a = b.map(ScalarOp::Abs, &[x]);
    let z = b.mul_const(a, std::f64::consts::FRAC_1_SQRT_2);
    let half = b.mul_const(z, 0.5);
    let below = b.add_const(half, 1.0);
    let one = b.constant(1.0);
    let t = b.div(one, below);
    let mut sum = b.constant(ERFC[9]);
    for c in ERFC[..9].iter().rev() {
        let next = b.mul(sum, t);
        sum = b.add_const(next, *c);
    }
    let zz = b.mul(z, z);
    let exponent = b.sub(sum, zz);
    let e = b.map(ScalarOp::Exp, &[exponent]);
    let erfc = b.mul(t, e);
    let tail = b.mul_const(erfc, 0.5);
    let rest = b.sub(one, tail);
    let zero = b.constant(0.0);
    let negative = b.map(ScalarOp::Lt, &[x, zero]);
    let phi = b.map(ScalarOp::Select, &[negative, tail, rest]);
    b.mul(x, phi)
}

/// `max(x, 0) + a · min(x, 0)` with a trained slope a for each cell of the last axis.
pub(super) fn prelu(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: NodeId) -> Result<NodeId, Reported> {
    let Some(c) = cx.graph.shape(x).last().and_then(|d| d.as_const()) else { return Err(unsound(cx, layer)) };
    let slope = param(cx, layer, at, "slope", &[c], Init::Constant(SLOPE));
    let mut b = cx.builder(at);
    let zero = b.constant(0.0);
    let pos = b.map(ScalarOp::Max, &[x, zero]);
    let neg = b.map(ScalarOp::Min, &[x, zero]);
    let neg = b.mul(neg, slope);
    Ok(b.add(pos, neg))
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
