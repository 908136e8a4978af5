//! Cuts sums over the batch and further axes in two: first over the further axes of each sample, then over the samples.
//!
//! In: a simplified graph, as `canonicalize` would merge the two again. Out: the same sums, whose first and larger part
//! runs over samples side by side and walks through the memory of one sample after the other.

use kur_runtime::dim::Dim;

use super::{PassCx, PassError};
use crate::ir::graph::{Graph, Node, NodeId};
use crate::ir::kernel::ReduceOp;
use crate::ir::op::Op;

pub(super) fn run(_cx: &PassCx, graph: &mut Graph) -> Result<bool, PassError> {
    let old = std::mem::take(&mut graph.nodes);
    let mut map: Vec<NodeId> = Vec::with_capacity(old.len());
    let mut changed = false;
    for mut node in old {
        for a in &mut node.args {
            *a = map[a.index()];
        }
        let further = match &node.op {
            Op::Reduce { op: ReduceOp::Add, axes } => further(graph.shape(node.args[0]), axes),
            _ => None,
        };
        if let Some(axes) = further {
            let op = Op::Reduce { op: ReduceOp::Add, axes };
            let first = graph.add(op, &node.args, node.layer);
            let op = Op::Reduce { op: ReduceOp::Add, axes: vec![0] };
            node = Node { op, args: vec![first], ..node };
            changed = true;
        }
        map.push(graph.push(node));
    }
    for r in &mut graph.results {
        r.value = map[r.value.index()];
    }
    Ok(changed)
}

/// The axes of the first sum, when the last axis is kept and there is more to add up than the batch.
fn further(shape: &[Dim], axes: &[usize]) -> Option<Vec<usize>> {
    let (first, rest) = axes.split_first()?;
    let columns = !axes.contains(&(shape.len() - 1)) && shape.last() != Some(&Dim::ONE);
    (*first == 0 && !rest.is_empty() && columns).then(|| rest.to_vec())
}
