//! Turns gradients into updates: Keras' formulas (kur-reference 5.3), with gradient clipping.

use kur_runtime::plan::{Init, StateRole};

use super::{PassCx, PassError};
use crate::ir::graph::{Builder, Graph, GraphResult, NodeId, Role, State};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::{Control, Op};
use crate::ir::text::print_graph;
use crate::model::types::{Clip, OptimizerKind};

/// β₁, β₂ and ε of Adam (Kingma & Ba 2015, algorithm 1; ε as in Keras).
const ADAM: (f64, f64, f64) = (0.9, 0.999, 1e-8);

pub(super) fn run(cx: &PassCx, graph: &mut Graph) -> Result<bool, PassError> {
    let Some(opt) = cx.optimizer else {
        let message = "no optimizer is given".to_owned();
        return Err(PassError { pass: "optimizer", message, dump: print_graph(graph) });
    };
    let grads: Vec<(u32, NodeId)> = graph
        .results
        .iter()
        .filter_map(|r| match r.role {
            Role::Gradient(i) => Some((i, r.value)),
            _ => None,
        })
        .collect();
    graph.results.retain(|r| !matches!(r.role, Role::Gradient(_)));
    let mut nodes: Vec<Option<NodeId>> = vec![None; graph.states.len()];
    for id in graph.ids() {
        if let Op::State { index } = graph.node(id).op {
            nodes[index as usize].get_or_insert(id);
        }
    }
    let params: Vec<NodeId> =
        grads.iter().map(|(i, _)| nodes[*i as usize].unwrap_or_else(|| state_node(graph, *i))).collect();
    let scale = norm_scale(graph, &grads, opt.clip);
    let rate = rate(graph, &opt.kind, opt.learning_rate, opt.decay);
    for ((index, grad), param) in grads.into_iter().zip(params) {
        let layer = graph.node(grad).layer;
        let mut b = Builder::new(graph, layer);
        let g = match (scale, opt.clip) {
            (Some(s), _) => b.mul(grad, s),
            (None, Clip::Abs(x)) if x > 0.0 => {
                let (hi, lo) = (b.constant(x), b.constant(-x));
                let m = b.map(ScalarOp::Min, &[grad, hi]);
                b.map(ScalarOp::Max, &[m, lo])
            }
            _ => grad,
        };
        match opt.kind {
            OptimizerKind::Sgd { momentum, nesterov } => sgd(graph, index, param, g, rate, momentum, nesterov),
            OptimizerKind::Adam => adam(graph, index, param, g, rate),
        }
    }
    Ok(true)
}

/// Appends the node that reads a state.
fn state_node(graph: &mut Graph, index: u32) -> NodeId {
    let ty = graph.states[index as usize].ty.clone();
    graph.push(crate::ir::graph::Node { op: Op::State { index }, args: Vec::new(), ty, layer: None })
}

/// A new optimizer state of the shape of a parameter, starting at 0.
fn slot(graph: &mut Graph, param: u32, suffix: &str) -> (u32, NodeId) {
    let p = &graph.states[param as usize];
    let state = State {
        name: format!("{}:{suffix}", p.name),
        role: StateRole::Optimizer,
        ty: p.ty.clone(),
        init: Init::Constant(0.0),
        trainable: false,
    };
    graph.states.push(state);
    let index = u32::try_from(graph.states.len() - 1).unwrap_or(u32::MAX);
    (index, state_node(graph, index))
}

fn update(graph: &mut Graph, state: u32, value: NodeId) {
    graph.results.push(GraphResult { role: Role::Update(state), value });
}

/// `select(‖g‖ ≥ X, X / ‖g‖, 1)` over all gradients together; `None` without norm clipping (X = 0 disables it).
fn norm_scale(graph: &mut Graph, grads: &[(u32, NodeId)], clip: Clip) -> Option<NodeId> {
    let Clip::Norm(limit) = clip else { return None };
    if limit <= 0.0 || grads.is_empty() {
        return None;
    }
    let mut b = Builder::new(graph, None);
    let mut total: Option<NodeId> = None;
    for (_, g) in grads {
        let sq = b.mul(*g, *g);
        let axes: Vec<usize> = (0..b.shape(sq).len()).collect();
        let s = b.sum(sq, &axes);
        let s = b.reshape(s, Vec::new());
        total = Some(total.map_or(s, |t| b.add(t, s)));
    }
    let norm = b.map(ScalarOp::Sqrt, &[total?]);
    let (x, one) = (b.constant(limit), b.constant(1.0));
    let over = b.map(ScalarOp::Le, &[x, norm]);
    let ratio = b.div(x, norm);
    Some(b.map(ScalarOp::Select, &[over, ratio, one]))
}

/// The step size of this update: decayed, and for Adam with its bias correction.
fn rate(graph: &mut Graph, kind: &OptimizerKind, lr: f64, decay: f64) -> NodeId {
    let mut b = Builder::new(graph, None);
    let mut rate = b.constant(lr);
    let needs_count = decay != 0.0 || *kind == OptimizerKind::Adam;
    if !needs_count {
        return rate;
    }
    let updates = b.op(Op::Control(Control::Updates), &[]);
    let done = b.map(ScalarOp::FromU32, &[updates]);
    if decay != 0.0 {
        let d = b.mul_const(done, decay);
        let d = b.add_const(d, 1.0);
        rate = b.div(rate, d);
    }
    if *kind == OptimizerKind::Adam {
        let t = b.add_const(done, 1.0);
        // 1 − βᵗ as −expm1(t · ln β): exact also for the first steps, where 1 − 0.999ᵗ would lose four digits in f32.
        let correction = |b: &mut Builder<'_>, beta: f64| {
            let e = b.mul_const(t, beta.ln());
            let e = b.map(ScalarOp::Expm1, &[e]);
            b.neg(e)
        };
        let second = correction(&mut b, ADAM.1);
        let second = b.map(ScalarOp::Sqrt, &[second]);
        let first = correction(&mut b, ADAM.0);
        let c = b.div(second, first);
        rate = b.mul(rate, c);
    }
    rate
}

fn sgd(graph: &mut Graph, index: u32, p: NodeId, g: NodeId, rate: NodeId, momentum: f64, nesterov: bool) {
    let layer = graph.node(g).layer;
    let mut b = Builder::new(graph, layer);
    let step = b.mul(g, rate);
    if momentum == 0.0 {
        let new = b.sub(p, step);
        return update(graph, index, new);
    }
    let (slot_index, v) = slot(graph, index, "momentum");
    let mut b = Builder::new(graph, layer);
    let kept = b.mul_const(v, momentum);
    let v = b.sub(kept, step);
    let new = if nesterov {
        let ahead = b.mul_const(v, momentum);
        let ahead = b.sub(ahead, step);
        b.add(p, ahead)
    } else {
        b.add(p, v)
    };
    update(graph, slot_index, v);
    update(graph, index, new);
}

fn adam(graph: &mut Graph, index: u32, p: NodeId, g: NodeId, rate: NodeId) {
    let layer = graph.node(g).layer;
    let (mi, m) = slot(graph, index, "adam.m");
    let (vi, v) = slot(graph, index, "adam.v");
    let mut b = Builder::new(graph, layer);
    let mix = |b: &mut Builder<'_>, old: NodeId, new: NodeId, beta: f64| {
        let old = b.mul_const(old, beta);
        let new = b.mul_const(new, 1.0 - beta);
        b.add(old, new)
    };
    let m = mix(&mut b, m, g, ADAM.0);
    let gg = b.mul(g, g);
    let v = mix(&mut b, v, gg, ADAM.1);
    let root = b.map(ScalarOp::Sqrt, &[v]);
    let root = b.add_const(root, ADAM.2);
    let step = b.mul(m, rate);
    let step = b.div(step, root);
    let new = b.sub(p, step);
    update(graph, mi, m);
    update(graph, vi, v);
    update(graph, index, new);
}
