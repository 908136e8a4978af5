//! `dropout` and normalisations (kur-reference 3.7, 3.8).

use kur_runtime::dim::Dim;
use kur_runtime::plan::{Init, StateRole};

use super::{param, state};
use crate::diag::Reported;
use crate::ir::graph::{GraphResult, LayerRef, NodeId, Role};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::{Control, Op};
use crate::lower::model::{Cx, Mode, unsound};
use crate::model::types::Layer;
use crate::shapes::position;

/// ε of batch normalisation (Keras).
const BATCH_NORM_EPSILON: f64 = 1e-3;

/// Inverted dropout in training, identity otherwise (3.8): Srivastava et al., Dropout (2014). Where values are not
/// independent, a picture or volume `[n, …, c]` keeps or loses whole channels; other ranks are dropped elementwise.
pub(super) fn dropout(cx: &mut Cx<'_>, at: LayerRef, x: NodeId, fraction: f64, independent: bool) -> NodeId {
    let key = cx.next_random;
    cx.next_random += 1;
    if cx.mode != Mode::Train || fraction <= 0.0 {
        return x;
    }
    let mut b = cx.builder(at);
    let seed = b.op(Op::Control(Control::Seed), &[]);
    let updates = b.op(Op::Control(Control::Updates), &[]);
    let mut shape = b.shape(x);
    let rank = shape.len();
    if !independent && matches!(rank, 4 | 5) {
        shape[1..rank - 1].fill(Dim::ONE);
    }
    let u = b.shaped(Op::Random { key }, &[seed, updates], shape);
    let p = b.constant(fraction);
    let kept = b.map(ScalarOp::Le, &[p, u]);
    let scale = b.constant(1.0 / (1.0 - fraction));
    let zero = b.constant(0.0);
    let mask = b.map(ScalarOp::Select, &[kept, scale, zero]);
    b.mul(x, mask)
}

/// Batch normalisation (3.7 and the design's section on semantics): batch statistics in training, running statistics
/// otherwise; batch statistics everywhere under `compat: kur`. Ioffe & Szegedy 2015, algorithm 1 with biased variance.
pub(super) fn batch_normalization(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    axis: i64,
    momentum: f64,
) -> Result<NodeId, Reported> {
    let shape = cx.graph.shape(x).to_vec();
    let Some(axis) = position(axis, shape.len()).filter(|a| *a > 0) else {
        return Err(unsound(cx, layer));
    };
    let Some(c) = shape[axis].as_const() else { return Err(unsound(cx, layer)) };
    let one = |cx: &mut Cx<'_>, name: &str, role, v| {
        state(cx, layer, at, format!("{}/{name}", layer.name), role, &[c], Init::Constant(v))
    };
    let gamma = one(cx, "gamma", StateRole::Param, 1.0);
    let beta = one(cx, "beta", StateRole::Param, 0.0);
    let moving_mean = one(cx, "moving_mean", StateRole::Running, 0.0);
    let moving_variance = one(cx, "moving_variance", StateRole::Running, 1.0);
    // A frozen layer works as it does outside training (Keras since 2.1.3): its statistics belong to its weights.
    let train = cx.mode == Mode::Train && !layer.freeze;
    let from_batch = train || cx.kurfile.compat_kur;
    let mut updates = std::mem::take(&mut cx.updates);
    let mut b = cx.builder(at);
    // The kept axis alone, aligned for broadcasting against x.
    let mut kept = vec![Dim::ONE; shape.len()];
    kept[axis] = shape[axis];
    let axes: Vec<usize> = (0..shape.len()).filter(|a| *a != axis).collect();
    let (mean, variance) = if from_batch {
        let mean = b.mean(x, &axes);
        let centred = b.sub(x, mean);
        let sq = b.mul(centred, centred);
        (mean, b.mean(sq, &axes))
    } else {
        (b.reshape(moving_mean, kept.clone()), b.reshape(moving_variance, kept.clone()))
    };
    if train {
        for (running, batch) in [(moving_mean, mean), (moving_variance, variance)] {
            let batch = b.reshape(batch, vec![shape[axis]]);
            let Op::State { index } = b.graph.node(running).op else { continue };
            // A layer that is used several times takes in its batches one after the other.
            let known = updates.get(&index).copied();
            let before = known.map_or(running, |i| b.graph.results[i].value);
            let old = b.mul_const(before, momentum);
            let new = b.mul_const(batch, 1.0 - momentum);
            let value = b.add(old, new);
            match known {
                Some(i) => b.graph.results[i].value = value,
                None => {
                    updates.insert(index, b.graph.results.len());
                    b.graph.results.push(GraphResult { role: Role::Update(index), value });
                }
            }
        }
    }
    cx.updates = updates;
    let mut b = cx.builder(at);
    let centred = b.sub(x, mean);
    let v = b.add_const(variance, BATCH_NORM_EPSILON);
    let root = b.map(ScalarOp::Sqrt, &[v]);
    let gamma = b.reshape(gamma, kept.clone());
    let beta = b.reshape(beta, kept);
    let scale = b.div(gamma, root);
    let y = b.mul(centred, scale);
    Ok(b.add(y, beta))
}

/// Mean 0 and variance 1 along the last axis of every sample, then a trained scale and shift: Ba, Kiros and Hinton,
/// Layer Normalization (2016), equation 4 with biased variance.
pub(super) fn layer_normalization(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    epsilon: f64,
) -> Result<NodeId, Reported> {
    let shape = cx.graph.shape(x).to_vec();
    let Some(c) = shape.last().and_then(|d| d.as_const()).filter(|_| shape.len() >= 2) else {
        return Err(unsound(cx, layer));
    };
    let gamma = param(cx, layer, at, "gamma", &[c], Init::Constant(1.0));
    let beta = param(cx, layer, at, "beta", &[c], Init::Constant(0.0));
    let last = [shape.len() - 1];
    let mut b = cx.builder(at);
    let mean = b.mean(x, &last);
    let centred = b.sub(x, mean);
    let sq = b.mul(centred, centred);
    let variance = b.mean(sq, &last);
    let v = b.add_const(variance, epsilon);
    let root = b.map(ScalarOp::Sqrt, &[v]);
    let y = b.div(centred, root);
    let y = b.mul(y, gamma);
    Ok(b.add(y, beta))
}
