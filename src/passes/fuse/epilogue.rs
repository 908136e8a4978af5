//! What a matrix product or convolution does with each sum before it stores it: bias and relu. In: clusters. Out: the
//! same, such nodes moved from the loops that read the sums to the library call. A bias is a leaf, so the call waits for
//! nothing new and no cycle comes about.

use super::{Cluster, ClusterKind};
use crate::ir::graph::{Graph, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;

/// Moves biases and relus into the calls before them.
pub(super) fn absorb(g: &Graph, roots: &[NodeId], clusters: &mut Vec<Cluster>) {
    let mut users: Vec<Vec<NodeId>> = vec![Vec::new(); g.nodes.len()];
    for id in g.ids().filter(|id| g.node(*id).op != Op::Reshape) {
        for a in &g.node(id).args {
            users[roots[a.index()].index()].push(id);
        }
    }
    let mut is_result = vec![false; g.nodes.len()];
    for r in &g.results {
        is_result[roots[r.value.index()].index()] = true;
    }
    // A node that is computed in several clusters is in none of its own.
    let mut home: Vec<Option<usize>> = vec![None; g.nodes.len()];
    let mut copies = vec![0u32; g.nodes.len()];
    for (c, cluster) in clusters.iter().enumerate() {
        for id in &cluster.nodes {
            home[id.index()] = Some(c);
            copies[id.index()] += 1;
        }
    }
    let only_user = |id: NodeId| match users[id.index()][..] {
        [user] if !is_result[id.index()] && copies[user.index()] == 1 => Some(user),
        _ => None,
    };
    for c in 0..clusters.len() {
        let [product] = clusters[c].nodes[..] else { continue };
        let takes = match &g.node(product).op {
            Op::MatMul { .. } => true,
            Op::Conv(a) => a.groups == 1,
            _ => false,
        };
        if clusters[c].kind != ClusterKind::Library || !takes {
            continue;
        }
        let Some(add) = only_user(product).filter(|add| is_bias(g, roots, product, *add)) else { continue };
        let relu = only_user(add).filter(|max| is_relu(g, add, *max));
        for id in std::iter::once(add).chain(relu) {
            if let Some(from) = home[id.index()] {
                clusters[from].nodes.retain(|n| *n != id);
                clusters[from].outputs.retain(|n| *n != id);
            }
            clusters[c].nodes.push(id);
        }
        clusters[c].outputs = vec![relu.unwrap_or(add)];
    }
    clusters.retain(|c| !c.outputs.is_empty());
}

/// Whether `add` adds a vector to every row of the product.
fn is_bias(g: &Graph, roots: &[NodeId], product: NodeId, add: NodeId) -> bool {
    let node = g.node(add);
    let (Op::Map(ScalarOp::Add), [a, b]) = (&node.op, &node.args[..]) else { return false };
    let bias = if roots[a.index()] == product { *b } else { *a };
    let width = g.shape(product).last();
    // The same elements in the same order, in rows of the same width.
    let rows = node.ty.len() == g.ty(product).len() && node.ty.shape.last() == width;
    let vector = width.is_some_and(|w| g.ty(bias).len() == *w && g.shape(bias).last() == Some(w));
    rows && vector && matches!(g.node(roots[bias.index()]).op, Op::State { .. })
}

/// Whether `max` is max(x, 0).
fn is_relu(g: &Graph, x: NodeId, max: NodeId) -> bool {
    let node = g.node(max);
    let zero = |a: &NodeId| matches!(g.node(*a).op, Op::Const(c) if c.to_bits() == 0);
    node.op == Op::Map(ScalarOp::Max)
        && node.args.contains(&x)
        && node.args.iter().any(zero)
        && g.shape(x) == g.shape(max)
}
