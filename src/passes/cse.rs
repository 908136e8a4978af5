//! Merges nodes with the same operation, operands and type. Draws of `random` with the same key are the same value,
//! so they merge too; that is what makes the dropout mask of the backward pass the one of the forward pass.

use std::collections::HashMap;

use super::{PassCx, PassError};
use crate::ir::graph::{Graph, NodeId};

pub(super) fn run(_cx: &PassCx, graph: &mut Graph) -> Result<bool, PassError> {
    // Looked up by text of the operation (floats have no `Eq`); never iterated, so hashing does not show in the result.
    let mut seen: HashMap<(String, Vec<NodeId>, Vec<kur_runtime::dim::Dim>), NodeId> = HashMap::new();
    let mut map: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    let mut changed = false;
    for id in graph.ids() {
        let node = &mut graph.nodes[id.index()];
        for a in &mut node.args {
            *a = map[a.index()];
        }
        let key = (format!("{:?}", node.op), node.args.clone(), node.ty.shape.clone());
        let leader = *seen.entry(key).or_insert(id);
        changed |= leader != id;
        map.push(leader);
    }
    for r in &mut graph.results {
        r.value = map[r.value.index()];
    }
    Ok(changed)
}
