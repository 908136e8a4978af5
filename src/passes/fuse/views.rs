//! Values that are cheaper to compute again than to store: one simple operation on a value that is stored anyway and on
//! smaller ones. In: clusters. Out: the same, such nodes repeated in every cluster that reads them. The invariant is that
//! a reader of the node followed from its operands already, so no cycle comes about.

use super::{Cluster, ClusterKind, immediate, iteration_shape};
use crate::ir::graph::{Graph, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;

/// A cluster that reads a value of another one.
struct Reader {
    cluster: usize,
    /// It reads the value as it is, in the shape of its own loops.
    alike: bool,
}

/// Repeats cheap nodes in their readers.
pub(super) fn recompute(g: &Graph, roots: &[NodeId], clusters: &mut Vec<Cluster>) {
    let mut home: Vec<Option<usize>> = vec![None; g.nodes.len()];
    for (c, cluster) in clusters.iter().enumerate() {
        for o in &cluster.outputs {
            home[o.index()] = Some(c);
        }
    }
    let readers = readers(g, roots, clusters);
    let mut moved = vec![false; clusters.len()];
    let mut is_result = vec![false; g.nodes.len()];
    for r in &g.results {
        is_result[roots[r.value.index()].index()] = true;
    }
    for id in g.ids() {
        let Some(own) = home[id.index()].filter(|_| !is_result[id.index()]) else { continue };
        let stored = |a: NodeId| {
            let r = roots[a.index()];
            g.node(r).op.is_leaf() || home[r.index()].is_some()
        };
        let into = &readers[id.index()];
        if into.is_empty() || !into.iter().all(|r| r.alike) || !cheap(g, id, &stored) {
            continue;
        }
        for r in into {
            let nodes = &mut clusters[r.cluster].nodes;
            if let Err(at) = nodes.binary_search(&id) {
                nodes.insert(at, id);
            }
        }
        home[id.index()] = None;
        moved[own] = true;
    }
    for (cluster, _) in clusters.iter_mut().zip(moved).filter(|(_, moved)| *moved) {
        cluster.outputs.retain(|o| home[o.index()].is_some());
        prune(g, cluster);
    }
    clusters.retain(|c| !c.outputs.is_empty());
}

/// Per node the clusters that read it from outside, each once.
fn readers(g: &Graph, roots: &[NodeId], clusters: &[Cluster]) -> Vec<Vec<Reader>> {
    let mut out: Vec<Vec<Reader>> = Vec::new();
    out.resize_with(g.nodes.len(), Vec::new);
    for (c, cluster) in clusters.iter().enumerate() {
        for id in &cluster.nodes {
            for a in &g.node(*id).args {
                let source = roots[a.index()];
                if source == *a && cluster.nodes.binary_search(a).is_ok() {
                    continue;
                }
                let alike = source == *a
                    && cluster.kind != ClusterKind::Library
                    && !matches!(g.node(*id).op, Op::Transpose { .. })
                    && iteration_shape(g, cluster) == g.shape(*a);
                match out[source.index()].last_mut().filter(|r| r.cluster == c) {
                    Some(r) => r.alike &= alike,
                    None => out[source.index()].push(Reader { cluster: c, alike }),
                }
            }
        }
    }
    out
}

/// Whether a node is one simple operation on just one stored value of its own size, beside smaller stored ones.
fn cheap(g: &Graph, id: NodeId, stored: &dyn Fn(NodeId) -> bool) -> bool {
    let node = g.node(id);
    let simple = matches!(
        node.op,
        Op::Map(
            ScalarOp::Add
                | ScalarOp::Sub
                | ScalarOp::Mul
                | ScalarOp::Max
                | ScalarOp::Min
                | ScalarOp::Lt
                | ScalarOp::Le
                | ScalarOp::Eq
                | ScalarOp::Neg
                | ScalarOp::Abs
        )
    );
    let mut whole = node.args.iter().filter(|a| g.ty(**a).len() == node.ty.len());
    let same = whole.next().is_some_and(|x| whole.all(|y| x == y));
    simple && same && node.args.iter().all(|a| immediate(&g.node(*a).op) || stored(*a))
}

/// Drops the nodes that no output of the cluster needs.
fn prune(g: &Graph, cluster: &mut Cluster) {
    let mut needed: Vec<NodeId> = cluster.outputs.clone();
    let mut kept = vec![false; cluster.nodes.len()];
    while let Some(id) = needed.pop() {
        if let Ok(at) = cluster.nodes.binary_search(&id)
            && !std::mem::replace(&mut kept[at], true)
        {
            needed.extend(&g.node(id).args);
        }
    }
    let mut kept = kept.into_iter();
    cluster.nodes.retain(|_| kept.next() == Some(true));
}
