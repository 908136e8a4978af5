//! The learning rate of an update: decayed, scheduled, scaled by the batch.

use super::{Step, update};
use crate::ir::graph::{Builder, Graph, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::ir::types::Type;
use crate::model::types::{Curve, Optimizer, PLATEAU, PLATEAU_SEEN, ScaleRate, Schedule};

/// The factor that the column of `scale_rate` gives to this batch: its mean, or the root of it. `None` when the step
/// does not read the column.
pub(super) fn scaler(graph: &mut Graph, scale: &ScaleRate) -> Option<NodeId> {
    let of = |id: &NodeId| matches!(&graph.node(*id).op, Op::Input { name, .. } if *name == scale.source);
    let column = graph.ids().find(of)?;
    let mut b = Builder::new(graph, None);
    let mean = b.mean_all(column);
    Some(if scale.sqrt { b.map(ScalarOp::Sqrt, &[mean]) } else { mean })
}

/// The learning rate of this update, before a rule's own corrections.
pub(super) fn rate(step: &mut Step<'_>, opt: &Optimizer, scaler: Option<NodeId>) -> NodeId {
    let mut rate = Builder::new(step.graph, None).constant(opt.learning_rate);
    if opt.decay != 0.0 {
        let done = step.done();
        let mut b = Builder::new(step.graph, None);
        let d = b.mul_const(done, opt.decay);
        let d = b.add_const(d, 1.0);
        rate = b.div(rate, d);
    }
    for factor in [schedule(step, &opt.schedule), scaler].into_iter().flatten() {
        rate = Builder::new(step.graph, None).mul(rate, factor);
    }
    rate
}

/// The factor of a schedule; `None` where it is always 1.
fn schedule(step: &mut Step<'_>, schedule: &Schedule) -> Option<NodeId> {
    let warmup = f64::from(schedule.warmup);
    if warmup <= 0.0 {
        return match &schedule.curve {
            Curve::Constant => None,
            curve => {
                let t = step.done();
                curve_at(step, curve, t)
            }
        };
    }
    let done = step.done();
    let mut b = Builder::new(step.graph, None);
    let now = b.add_const(done, 1.0);
    let all = b.constant(warmup);
    let share = b.div(now, all);
    let one = b.constant(1.0);
    let rise = b.map(ScalarOp::Min, &[share, one]);
    let since = b.add_const(done, -warmup);
    let zero = b.constant(0.0);
    let t = b.map(ScalarOp::Max, &[since, zero]);
    Some(match curve_at(step, &schedule.curve, t) {
        Some(curve) => Builder::new(step.graph, None).mul(rise, curve),
        None => rise,
    })
}

/// The factor of a curve `t` updates after its beginning.
fn curve_at(step: &mut Step<'_>, curve: &Curve, t: NodeId) -> Option<NodeId> {
    match curve {
        Curve::Constant => None,
        Curve::Every { every, factor } => {
            // ⌊t / every⌋ grows by at most 1 from update to update, so counting it in a state needs no rounding.
            let (index, drops) = step.state("optimizer:drops".to_owned(), Type::scalar(), 0.0);
            let mut b = Builder::new(step.graph, None);
            let next = b.add_const(drops, 1.0);
            let place = b.mul_const(next, f64::from(*every));
            let due = b.map(ScalarOp::Le, &[place, t]);
            let drops = b.add(drops, due);
            let x = b.mul_const(drops, factor.ln());
            let value = b.map(ScalarOp::Exp, &[x]);
            update(step.graph, index, drops);
            Some(value)
        }
        Curve::At { at, factor } => {
            let mut b = Builder::new(step.graph, None);
            let (one, drop) = (b.constant(1.0), b.constant(*factor));
            let mut value = one;
            for place in at {
                let place = b.constant(f64::from(*place));
                let due = b.map(ScalarOp::Le, &[place, t]);
                let f = b.map(ScalarOp::Select, &[due, drop, one]);
                value = b.mul(value, f);
            }
            Some(value)
        }
        Curve::Exponential { every, factor } => {
            let mut b = Builder::new(step.graph, None);
            let x = b.mul_const(t, factor.ln() / f64::from(*every));
            Some(b.map(ScalarOp::Exp, &[x]))
        }
        Curve::Cosine { steps, last } => {
            let mut b = Builder::new(step.graph, None);
            let left = left(&mut b, t, *steps);
            // (1 + cos πx) / 2 = sin²(π(1 − x)/2), which never is below 0 and loses no digits near the end.
            let angle = b.mul_const(left, std::f64::consts::FRAC_PI_2);
            let sine = sine(&mut b, angle);
            let share = b.mul(sine, sine);
            Some(between(&mut b, share, *last))
        }
        Curve::Linear { steps, last } => {
            let mut b = Builder::new(step.graph, None);
            let left = left(&mut b, t, *steps);
            Some(between(&mut b, left, *last))
        }
        Curve::Plateau { .. } => {
            // The runtime writes both after an epoch; a step only reads the first.
            let (_, factor) = step.state(PLATEAU.to_owned(), Type::scalar(), 1.0);
            step.state(PLATEAU_SEEN.to_owned(), Type::f32(vec![kur_runtime::dim::Dim::constant(2)]), -1.0);
            Some(factor)
        }
    }
}

/// The share of `steps` that is left: from 1 to 0.
fn left(b: &mut Builder<'_>, t: NodeId, steps: u32) -> NodeId {
    let all = b.constant(f64::from(steps));
    let left = b.sub(all, t);
    let zero = b.constant(0.0);
    let left = b.map(ScalarOp::Max, &[left, zero]);
    b.div(left, all)
}

/// From `last` (share 0) to 1 (share 1).
fn between(b: &mut Builder<'_>, share: NodeId, last: f64) -> NodeId {
    let part = b.mul_const(share, 1.0 - last);
    b.add_const(part, last)
}

/// sin x for x from 0 to π/2: its Taylor series up to x¹⁵, whose rest is below 10⁻¹¹ there.
fn sine(b: &mut Builder<'_>, x: NodeId) -> NodeId {
    let sq = b.mul(x, x);
    let mut coefficient = 1.0;
    let coefficients: Vec<f64> = (0..8)
        .map(|i| {
            let k = f64::from(2 * i);
            if i > 0 {
                coefficient /= -(k * (k + 1.0));
            }
            coefficient
        })
        .collect();
    let mut sum = b.constant(coefficients[7]);
    for c in coefficients[..7].iter().rev() {
        let p = b.mul(sum, sq);
        sum = b.add_const(p, *c);
    }
    b.mul(sum, x)
}
