//! One function per update rule.

use super::{Step, norm};
use crate::ir::graph::{Builder, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::model::types::OptimizerKind;

/// Scalars of an update, shared by all parameters.
pub(super) struct Rates {
    /// The learning rate; for Adam with its bias correction.
    rate: NodeId,
    /// For AdamW and LAMB 1 / (1 − β₁ᵗ) and 1 / √(1 − β₂ᵗ).
    moments: Option<(NodeId, NodeId)>,
}

impl Rates {
    pub(super) fn new(step: &mut Step<'_>, kind: &OptimizerKind, rate: NodeId) -> Rates {
        let (OptimizerKind::Adam { beta_1, beta_2, .. }
        | OptimizerKind::AdamW { beta_1, beta_2, .. }
        | OptimizerKind::Lamb { beta_1, beta_2, .. }) = *kind
        else {
            return Rates { rate, moments: None };
        };
        let done = step.done();
        let mut b = Builder::new(step.graph, None);
        let t = b.add_const(done, 1.0);
        let second = correction(&mut b, t, beta_2);
        let second = b.map(ScalarOp::Sqrt, &[second]);
        let first = correction(&mut b, t, beta_1);
        if matches!(kind, OptimizerKind::Adam { .. }) {
            let c = b.div(second, first);
            return Rates { rate: b.mul(rate, c), moments: None };
        }
        let one = b.constant(1.0);
        let (first, second) = (b.div(one, first), b.div(one, second));
        Rates { rate, moments: Some((first, second)) }
    }
}

/// 1 − βᵗ as −expm1(t · ln β): exact also for the first steps, where 1 − 0.999ᵗ would lose four digits in f32.
fn correction(b: &mut Builder<'_>, t: NodeId, beta: f64) -> NodeId {
    if beta <= 0.0 {
        return b.constant(1.0);
    }
    let e = b.mul_const(t, beta.ln());
    let e = b.map(ScalarOp::Expm1, &[e]);
    b.neg(e)
}

/// Adds the updates of parameter `index` with value `p` and gradient `g`.
pub(super) fn apply(step: &mut Step<'_>, kind: &OptimizerKind, rates: &Rates, index: u32, p: NodeId, g: NodeId) {
    let rate = rates.rate;
    match *kind {
        OptimizerKind::Sgd { momentum, nesterov } => sgd(step, index, p, g, rate, momentum, nesterov),
        OptimizerKind::Adam { beta_1, beta_2, epsilon } => {
            let (m, root) = moments(step, index, g, (beta_1, beta_2));
            let mut b = builder(step, g);
            let root = b.add_const(root, epsilon);
            let change = b.mul(m, rate);
            let change = b.div(change, root);
            let new = b.sub(p, change);
            step.update(index, p, new);
        }
        OptimizerKind::AdamW { beta_1, beta_2, epsilon, weight_decay } => {
            let direction = corrected(step, index, p, g, rates, (beta_1, beta_2, epsilon, weight_decay));
            let mut b = builder(step, g);
            let change = b.mul(direction, rate);
            let new = b.sub(p, change);
            step.update(index, p, new);
        }
        OptimizerKind::Lamb { beta_1, beta_2, epsilon, weight_decay } => {
            let direction = corrected(step, index, p, g, rates, (beta_1, beta_2, epsilon, weight_decay));
            lamb(step, index, p, direction, rate);
        }
        OptimizerKind::Lion { beta_1, beta_2, weight_decay } => {
            let (mi, m) = step.slot(index, "lion.m");
            let mut b = builder(step, g);
            let towards = mix(&mut b, m, g, beta_1);
            let sign = b.map(ScalarOp::Sign, &[towards]);
            let direction = decayed(&mut b, sign, p, weight_decay);
            let change = b.mul(direction, rate);
            let new = b.sub(p, change);
            let kept = mix(&mut b, m, g, beta_2);
            step.update(mi, m, kept);
            step.update(index, p, new);
        }
        OptimizerKind::RmsProp { rho, epsilon } => {
            let (ai, a) = step.slot(index, "rmsprop.a");
            let mut b = builder(step, g);
            let gg = b.mul(g, g);
            let mean = mix(&mut b, a, gg, rho);
            let root = b.map(ScalarOp::Sqrt, &[mean]);
            let root = b.add_const(root, epsilon);
            let change = b.mul(g, rate);
            let change = b.div(change, root);
            let new = b.sub(p, change);
            step.update(ai, a, mean);
            step.update(index, p, new);
        }
        OptimizerKind::AdaDelta { rho, epsilon } => {
            let (ai, a) = step.slot(index, "adadelta.a");
            let (di, d) = step.slot(index, "adadelta.d");
            let mut b = builder(step, g);
            let gg = b.mul(g, g);
            let mean = mix(&mut b, a, gg, rho);
            let root = |b: &mut Builder<'_>, x| {
                let x = b.add_const(x, epsilon);
                b.map(ScalarOp::Sqrt, &[x])
            };
            let (top, bottom) = (root(&mut b, d), root(&mut b, mean));
            let u = b.mul(g, top);
            let u = b.div(u, bottom);
            let change = b.mul(u, rate);
            let new = b.sub(p, change);
            let uu = b.mul(u, u);
            let kept = mix(&mut b, d, uu, rho);
            step.update(ai, a, mean);
            step.update(di, d, kept);
            step.update(index, p, new);
        }
    }
}

fn builder<'b>(step: &'b mut Step<'_>, g: NodeId) -> Builder<'b> {
    let layer = step.graph.node(g).layer;
    Builder::new(step.graph, layer)
}

/// `share · old + (1 − share) · new`.
fn mix(b: &mut Builder<'_>, old: NodeId, new: NodeId, share: f64) -> NodeId {
    let old = b.mul_const(old, share);
    let new = b.mul_const(new, 1.0 - share);
    b.add(old, new)
}

/// `x + λp`.
fn decayed(b: &mut Builder<'_>, x: NodeId, p: NodeId, weight_decay: f64) -> NodeId {
    if weight_decay == 0.0 {
        return x;
    }
    let shrink = b.mul_const(p, weight_decay);
    b.add(x, shrink)
}

/// Adam's two moments, updated: the first, and the root of the second.
fn moments(step: &mut Step<'_>, index: u32, g: NodeId, (beta_1, beta_2): (f64, f64)) -> (NodeId, NodeId) {
    let (mi, old_m) = step.slot(index, "adam.m");
    let (vi, old_v) = step.slot(index, "adam.v");
    let mut b = builder(step, g);
    let m = mix(&mut b, old_m, g, beta_1);
    let gg = b.mul(g, g);
    let v = mix(&mut b, old_v, gg, beta_2);
    let root = b.map(ScalarOp::Sqrt, &[v]);
    step.update(mi, old_m, m);
    step.update(vi, old_v, v);
    (m, root)
}

/// `m̂ / (√v̂ + ε) + λp`.
fn corrected(
    step: &mut Step<'_>,
    index: u32,
    p: NodeId,
    g: NodeId,
    rates: &Rates,
    (beta_1, beta_2, epsilon, weight_decay): (f64, f64, f64, f64),
) -> NodeId {
    let (m, root) = moments(step, index, g, (beta_1, beta_2));
    let mut b = builder(step, g);
    let (mut top, mut bottom) = (m, root);
    if let Some((first, second)) = rates.moments {
        top = b.mul(top, first);
        bottom = b.mul(bottom, second);
    }
    let bottom = b.add_const(bottom, epsilon);
    let u = b.div(top, bottom);
    decayed(&mut b, u, p, weight_decay)
}

/// A step as long as the tensor's norm says.
fn lamb(step: &mut Step<'_>, index: u32, p: NodeId, direction: NodeId, rate: NodeId) {
    let mut b = builder(step, direction);
    let weights = norm(&mut b, std::iter::once(p));
    let steps = norm(&mut b, std::iter::once(direction));
    let mut length = rate;
    if let (Some(weights), Some(steps)) = (weights, steps) {
        let (zero, one) = (b.constant(0.0), b.constant(1.0));
        let ratio = b.div(weights, steps);
        let some_weights = b.map(ScalarOp::Lt, &[zero, weights]);
        let some_steps = b.map(ScalarOp::Lt, &[zero, steps]);
        let both = b.mul(some_weights, some_steps);
        let trust = b.map(ScalarOp::Select, &[both, ratio, one]);
        length = b.mul(rate, trust);
    }
    let change = b.mul(direction, length);
    let new = b.sub(p, change);
    step.update(index, p, new);
}

fn sgd(step: &mut Step<'_>, index: u32, p: NodeId, g: NodeId, rate: NodeId, momentum: f64, nesterov: bool) {
    let mut b = builder(step, g);
    let change = b.mul(g, rate);
    if momentum == 0.0 {
        let new = b.sub(p, change);
        return step.update(index, p, new);
    }
    let (slot, old) = step.slot(index, "momentum");
    let mut b = builder(step, g);
    let kept = b.mul_const(old, momentum);
    let v = b.sub(kept, change);
    let new = if nesterov {
        let ahead = b.mul_const(v, momentum);
        let ahead = b.sub(ahead, change);
        b.add(p, ahead)
    } else {
        b.add(p, v)
    };
    step.update(slot, old, v);
    step.update(index, p, new);
}
