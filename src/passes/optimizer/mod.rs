//! Turns gradients into updates: Keras' formulas (kur-reference 5.3) and later rules, with clipping, schedules and
//! accumulation. The formulas stand at [`crate::model::types::OptimizerKind`].

mod rate;
mod rules;

use kur_runtime::dim::Dim;
use kur_runtime::plan::{Init, StateRole};

use super::{PassCx, PassError};
use crate::ir::graph::{Builder, Graph, GraphResult, Node, NodeId, Role, State};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::{Control, Op};
use crate::ir::text::print_graph;
use crate::ir::types::Type;
use crate::model::types::{BATCHES, Clip, LAST_BATCH, Optimizer};

pub(super) fn run(cx: &PassCx, graph: &mut Graph) -> Result<bool, PassError> {
    let failed = |graph: &Graph, message: String| PassError { pass: "optimizer", message, dump: print_graph(graph) };
    let Some(opt) = &cx.optimizer else {
        return Err(failed(graph, "no optimizer is given".to_owned()));
    };
    let mut grads: Vec<(u32, NodeId)> = graph
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
    let mut step = Step::new(graph, opt);
    step.accumulate(&mut grads);
    let scale = norm_scale(step.graph, &grads, opt.clip);
    let scaler = match &opt.scale_rate {
        Some(s) => Some(
            rate::scaler(step.graph, s)
                .ok_or_else(|| failed(step.graph, format!("no input is called `{}`", s.source)))?,
        ),
        None => None,
    };
    let rate = rate::rate(&mut step, opt, scaler);
    let rates = rules::Rates::new(&mut step, &opt.kind, rate);
    for ((index, grad), param) in grads.into_iter().zip(params) {
        let layer = step.graph.node(grad).layer;
        let mut b = Builder::new(step.graph, layer);
        let g = match (scale, opt.clip) {
            (Some(s), _) => b.mul(grad, s),
            (None, Clip::Abs(x)) if x > 0.0 => {
                let (hi, lo) = (b.constant(x), b.constant(-x));
                let m = b.map(ScalarOp::Min, &[grad, hi]);
                b.map(ScalarOp::Max, &[m, lo])
            }
            _ => grad,
        };
        rules::apply(&mut step, &opt.kind, &rates, index, param, g);
    }
    Ok(true)
}

/// What all rules of one train step share.
struct Step<'g> {
    graph: &'g mut Graph,
    /// Batches of one update.
    batches: u32,
    /// 1 where this batch completes an update; `None` when every batch does.
    full: Option<NodeId>,
    /// Updates done before this one, as a float; made when it is first asked for.
    done: Option<NodeId>,
}

impl<'g> Step<'g> {
    fn new(graph: &'g mut Graph, opt: &Optimizer) -> Step<'g> {
        Step { graph, batches: opt.accumulate, full: None, done: None }
    }

    /// Replaces gradients by the mean of those of several batches; the last batch of an epoch, which the runtime marks,
    /// completes an update in any case. Counting happens in states of the optimizer, so that a run which is continued
    /// goes on in the middle of an update.
    fn accumulate(&mut self, grads: &mut [(u32, NodeId)]) {
        if self.batches <= 1 {
            return;
        }
        let (seen_index, seen) = self.state(BATCHES.to_owned(), Type::scalar(), 0.0);
        let (_, last) = self.state(LAST_BATCH.to_owned(), Type::scalar(), 0.0);
        let (done_index, done) = self.state("optimizer:updates".to_owned(), Type::scalar(), 0.0);
        let mut b = Builder::new(self.graph, None);
        let now = b.add_const(seen, 1.0);
        let enough = b.constant(f64::from(self.batches));
        let full = b.map(ScalarOp::Le, &[enough, now]);
        let full = b.map(ScalarOp::Max, &[full, last]);
        let (zero, one) = (b.constant(0.0), b.constant(1.0));
        let share = b.div(one, now);
        let left = b.map(ScalarOp::Select, &[full, zero, now]);
        let next = b.add(done, full);
        update(self.graph, seen_index, left);
        update(self.graph, done_index, next);
        for (param, grad) in grads {
            let layer = self.graph.node(*grad).layer;
            let (index, sum) = self.slot(*param, "gradient");
            let mut b = Builder::new(self.graph, layer);
            let sum = b.add(sum, *grad);
            let kept = b.map(ScalarOp::Select, &[full, zero, sum]);
            *grad = b.mul(sum, share);
            update(self.graph, index, kept);
        }
        self.full = Some(full);
        self.done = Some(done);
    }

    /// Updates done before this one.
    fn done(&mut self) -> NodeId {
        if let Some(done) = self.done {
            return done;
        }
        let mut b = Builder::new(self.graph, None);
        let updates = b.op(Op::Control(Control::Updates), &[]);
        let done = b.map(ScalarOp::FromU32, &[updates]);
        self.done = Some(done);
        done
    }

    /// A new state of the optimizer.
    fn state(&mut self, name: String, ty: Type, init: f32) -> (u32, NodeId) {
        let init = Init::Constant(init);
        self.graph.states.push(State { name, role: StateRole::Optimizer, ty, init, trainable: false });
        let index = u32::try_from(self.graph.states.len() - 1).unwrap_or(u32::MAX);
        (index, state_node(self.graph, index))
    }

    /// A new state of the shape of a parameter, starting at 0.
    fn slot(&mut self, param: u32, suffix: &str) -> (u32, NodeId) {
        let p = &self.graph.states[param as usize];
        let (name, ty) = (format!("{}:{suffix}", p.name), p.ty.clone());
        self.state(name, ty, 0.0)
    }

    /// The new value of a state, where this batch completes an update.
    fn update(&mut self, state: u32, old: NodeId, new: NodeId) {
        let value = match self.full {
            Some(full) => {
                let layer = self.graph.node(new).layer;
                Builder::new(self.graph, layer).map(ScalarOp::Select, &[full, new, old])
            }
            None => new,
        };
        update(self.graph, state, value);
    }
}

/// Appends the node that reads a state.
fn state_node(graph: &mut Graph, index: u32) -> NodeId {
    let ty = graph.states[index as usize].ty.clone();
    graph.push(Node { op: Op::State { index }, args: Vec::new(), ty, layer: None })
}

fn update(graph: &mut Graph, state: u32, value: NodeId) {
    graph.results.push(GraphResult { role: Role::Update(state), value });
}

/// The root of the sum of all squares of some tensors together; `None` of none.
fn norm(b: &mut Builder<'_>, tensors: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    let mut total: Option<NodeId> = None;
    for x in tensors {
        let sq = b.mul(x, x);
        let axes: Vec<usize> = (0..b.shape(sq).len()).collect();
        let s = b.sum(sq, &axes);
        let s = b.reshape(s, Vec::<Dim>::new());
        total = Some(total.map_or(s, |t| b.add(t, s)));
    }
    total.map(|t| b.map(ScalarOp::Sqrt, &[t]))
}

/// `select(‖g‖ ≥ X, X / ‖g‖, 1)` over all gradients together; `None` without norm clipping (X = 0 disables it).
fn norm_scale(graph: &mut Graph, grads: &[(u32, NodeId)], clip: Clip) -> Option<NodeId> {
    let Clip::Norm(limit) = clip else { return None };
    if limit <= 0.0 {
        return None;
    }
    let mut b = Builder::new(graph, None);
    let norm = norm(&mut b, grads.iter().map(|(_, g)| *g))?;
    let (x, one) = (b.constant(limit), b.constant(1.0));
    let over = b.map(ScalarOp::Le, &[x, norm]);
    let ratio = b.div(x, norm);
    Some(b.map(ScalarOp::Select, &[over, ratio, one]))
}
