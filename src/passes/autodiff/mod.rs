//! Reverse-mode differentiation: adds the gradient of the metric `loss` to every trainable parameter.
//!
//! Nodes are visited once, in reverse order; contributions to a value are summed in the order of its uses, so the
//! result is deterministic. The rules are in `rules`.

mod rules;

use super::{PassCx, PassError};
use crate::ir::graph::{Builder, Graph, GraphResult, NodeId, Role};
use crate::ir::op::Op;
use crate::ir::text::print_graph;

pub(super) fn run(_cx: &PassCx, graph: &mut Graph) -> Result<bool, PassError> {
    let loss = graph.results.iter().find(|r| r.role == Role::Metric("loss".to_owned())).map(|r| r.value);
    let Some(loss) = loss else {
        let message = "the graph has no metric called `loss`".to_owned();
        return Err(PassError { pass: "autodiff", message, dump: print_graph(graph) });
    };
    let params: Vec<(u32, NodeId)> = graph
        .ids()
        .filter_map(|id| match graph.node(id).op {
            Op::State { index } if graph.states[index as usize].trainable => Some((index, id)),
            _ => None,
        })
        .collect();
    let wrt: Vec<NodeId> = params.iter().map(|(_, id)| *id).collect();
    let grads = gradients(graph, loss, &wrt).map_err(|message| PassError {
        pass: "autodiff",
        message,
        dump: print_graph(graph),
    })?;
    for ((index, _), value) in params.into_iter().zip(grads) {
        graph.results.push(GraphResult { role: Role::Gradient(index), value });
    }
    Ok(true)
}

/// Gradients of the scalar `loss` to each of `wrt`, as new nodes of the same shapes (zeros where nothing depends).
///
/// # Errors
/// The name of an operation on the way that is not differentiable, with the reason.
pub(super) fn gradients(graph: &mut Graph, loss: NodeId, wrt: &[NodeId]) -> Result<Vec<NodeId>, String> {
    let count = graph.nodes.len();
    // A value matters when it depends on one of `wrt` and the loss depends on it.
    let mut active = vec![false; count];
    for w in wrt {
        active[w.index()] = true;
    }
    for i in 0..count {
        active[i] |= graph.nodes[i].args.iter().any(|a| active[a.index()]);
    }
    let mut grad: Vec<Option<NodeId>> = vec![None; count];
    let one = Builder::new(graph, graph_layer(graph, loss)).constant(1.0);
    grad[loss.index()] = Some(one);
    for i in (0..=loss.index()).rev() {
        let Some(g) = grad[i] else { continue };
        let id = NodeId(u32::try_from(i).unwrap_or(u32::MAX));
        if !active[i] || graph.node(id).args.is_empty() {
            continue;
        }
        let node = graph.node(id).clone();
        let wanted: Vec<bool> = node.args.iter().map(|a| active[a.index()]).collect();
        let mut b = Builder::new(graph, node.layer);
        let parts = rules::vjp(&mut b, id, &node, g, &wanted)?;
        for (k, part) in parts.into_iter().enumerate() {
            let (Some(part), true) = (part, wanted[k]) else { continue };
            let at = node.args[k].index();
            debug_assert_eq!(b.graph.shape(part), b.graph.shape(node.args[k]), "gradient shape of {}", node.op.name());
            grad[at] = Some(match grad[at] {
                None => part,
                Some(old) => b.add(old, part),
            });
        }
    }
    Ok(wrt
        .iter()
        .map(|w| {
            grad[w.index()].unwrap_or_else(|| {
                let mut b = Builder::new(graph, None);
                let zero = b.constant(0.0);
                let shape = b.shape(*w);
                b.broadcast(zero, shape)
            })
        })
        .collect())
}

fn graph_layer(graph: &Graph, id: NodeId) -> Option<crate::ir::graph::LayerRef> {
    graph.node(id).layer
}
