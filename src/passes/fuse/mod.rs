//! Fusion: partitions a graph into clusters, each of which becomes one launch.
//!
//! What comes in is a simplified graph, what goes out covers every node that needs a launch exactly once (cheap
//! generators may be repeated in several clusters). The invariant is that clusters form no cycle. It follows from
//! depths: along an edge inside a cluster the depth stays, along any other edge out of a loop node it grows or stays
//! with another shape, so a path that leaves a cluster never comes back.
//!
//! * Loop nodes of one shape and one depth that feed each other share a loop nest.
//! * A node sinks to the depth of its first reader, so that a mask needed only by the backward pass is not stored by
//!   the forward pass.
//! * A reduction takes in the loop nodes that only it reads.
//! * Values made of counters and constants alone (dropout masks) are computed again wherever they are read.
//! * Biases and relus move into the products before them (`epilogue`), cheap views of stored values are computed again
//!   (`views`), and reductions of one loop's values join it (`join`).

mod epilogue;
mod join;
mod views;

use std::collections::BTreeSet;

use kur_runtime::dim::Dim;

use super::pipeline::OptLevel;
use crate::ir::graph::{Graph, NodeId};
use crate::ir::op::{Lowering, Op};

/// What a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// A loop nest over one shape.
    Loop,
    /// Reductions over the same axes, with the loop nodes they take in; those may be stored too.
    Reduce,
    /// A library call, with what it does to its result before storing it.
    Library,
}

/// Nodes that become one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// What it is.
    pub kind: ClusterKind,
    /// Its nodes in graph order, repeated ones included; for [`ClusterKind::Library`] the first one is the call, then come
    /// its bias and relu.
    pub nodes: Vec<NodeId>,
    /// The nodes whose values other clusters or results read.
    pub outputs: Vec<NodeId>,
}

/// Strips reshapes: the value whose buffer is read.
#[must_use]
pub fn root(g: &Graph, mut id: NodeId) -> NodeId {
    while g.node(id).op == Op::Reshape {
        id = g.node(id).args[0];
    }
    id
}

/// The [`root`] of every node. Where all are needed, this is the way that takes no longer for chains of reshapes.
#[must_use]
pub fn roots(g: &Graph) -> Vec<NodeId> {
    let mut out: Vec<NodeId> = Vec::with_capacity(g.nodes.len());
    for id in g.ids() {
        let node = g.node(id);
        out.push(if node.op == Op::Reshape { out[node.args[0].index()] } else { id });
    }
    out
}

/// Whether a node is written into each reader's code rather than stored.
fn immediate(op: &Op) -> bool {
    matches!(op, Op::Const(_) | Op::Size(_) | Op::Control(_))
}

/// Partitions a graph. Below [`OptLevel::Full`] every node is a cluster of its own.
#[must_use]
pub fn clusters(g: &Graph, level: OptLevel) -> Vec<Cluster> {
    let n = g.nodes.len();
    let full = level == OptLevel::Full;
    let is_loop: Vec<bool> =
        g.ids().map(|id| matches!(g.node(id).op, Op::Map(_) | Op::Broadcast | Op::Random { .. })).collect();
    let generator = generators(g, full);
    let users = users(g);
    let absorbed = absorb(g, &is_loop, &generator, &users, full);

    // Depth: how many barriers precede a node; then loop nodes sink towards their readers.
    let mut depth = vec![0u32; n];
    let barrier =
        |from: NodeId, to: NodeId| !(is_loop[from.index()] && is_loop[to.index()] && g.shape(from) == g.shape(to));
    for id in g.ids() {
        for a in &g.node(id).args {
            let step = u32::from(barrier(*a, id));
            depth[id.index()] = depth[id.index()].max(depth[a.index()] + step);
        }
    }
    for id in g.ids().rev() {
        if !is_loop[id.index()] {
            continue;
        }
        let sink = users[id.index()].iter().map(|u| depth[u.index()] - u32::from(barrier(id, *u))).min();
        if let Some(sink) = sink {
            depth[id.index()] = depth[id.index()].max(sink);
        }
    }

    // Union of loop nodes of one shape and depth along edges.
    let mut leader: Vec<usize> = (0..n).collect();
    if full {
        for id in g.ids() {
            let i = id.index();
            if !is_loop[i] || absorbed[i].is_some() || generator[i] {
                continue;
            }
            for a in &g.node(id).args {
                let k = a.index();
                if is_loop[k] && absorbed[k].is_none() && !generator[k] && !barrier(*a, id) && depth[k] == depth[i] {
                    let (x, y) = (find(&mut leader, k), find(&mut leader, i));
                    leader[x.max(y)] = x.min(y);
                }
            }
        }
    }
    let roots = roots(g);
    let mut clusters = collect(g, &is_loop, &generator, &absorbed, &mut leader, &roots);
    if full {
        epilogue::absorb(g, &roots, &mut clusters);
        views::recompute(g, &roots, &mut clusters);
        join::reductions(g, &roots, &mut clusters);
    }
    clusters
}

fn find(leader: &mut [usize], mut i: usize) -> usize {
    while leader[i] != i {
        leader[i] = leader[leader[i]];
        i = leader[i];
    }
    i
}

/// Readers of each node.
fn users(g: &Graph) -> Vec<Vec<NodeId>> {
    let mut users = vec![Vec::new(); g.nodes.len()];
    for id in g.ids() {
        for a in &g.node(id).args {
            users[a.index()].push(id);
        }
    }
    users
}

/// Loop nodes made of counters and constants alone, around a draw: cheaper to compute again than to keep. Without
/// fusion there are none.
fn generators(g: &Graph, full: bool) -> Vec<bool> {
    let mut out = vec![false; g.nodes.len()];
    for id in g.ids() {
        let node = g.node(id);
        out[id.index()] = full
            && match node.op {
                Op::Random { .. } => true,
                Op::Map(_) => {
                    node.args.iter().any(|a| out[a.index()])
                        && node.args.iter().all(|a| out[a.index()] || immediate(&g.node(*a).op))
                }
                _ => false,
            };
    }
    out
}

/// For each loop node the reduction that alone reads it, directly or through other such nodes of the same shape.
fn absorb(g: &Graph, is_loop: &[bool], generator: &[bool], users: &[Vec<NodeId>], full: bool) -> Vec<Option<NodeId>> {
    let mut out: Vec<Option<NodeId>> = vec![None; g.nodes.len()];
    if !full {
        return out;
    }
    let mut is_result = vec![false; g.nodes.len()];
    for r in &g.results {
        is_result[r.value.index()] = true;
    }
    for id in g.ids().rev() {
        let i = id.index();
        if !is_loop[i] || generator[i] || is_result[i] || users[i].is_empty() {
            continue;
        }
        let mut home = None;
        for u in &users[i] {
            let into = match g.node(*u).op {
                Op::Reduce { .. } => Some(*u),
                _ if is_loop[u.index()] && g.shape(*u) == g.shape(id) => out[u.index()],
                _ => None,
            };
            match (into, home) {
                (Some(r), None) => home = Some(r),
                (Some(r), Some(h)) if r == h => {}
                _ => {
                    home = None;
                    break;
                }
            }
        }
        out[i] = home;
    }
    out
}

fn collect(
    g: &Graph,
    is_loop: &[bool],
    generator: &[bool],
    absorbed: &[Option<NodeId>],
    leader: &mut [usize],
    roots: &[NodeId],
) -> Vec<Cluster> {
    let n = g.nodes.len();
    let mut cluster_of: Vec<Option<usize>> = vec![None; n];
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut by_leader: Vec<Option<usize>> = vec![None; n];
    let open = |kind: ClusterKind, clusters: &mut Vec<Cluster>| {
        clusters.push(Cluster { kind, nodes: Vec::new(), outputs: Vec::new() });
        clusters.len() - 1
    };
    let needed = needed_as_buffer(g, is_loop, generator, roots);
    for id in g.ids() {
        let i = id.index();
        let node = g.node(id);
        if absorbed[i].is_some() {
            continue;
        }
        let c = match node.op.info().lowering {
            Lowering::Library => Some(open(ClusterKind::Library, &mut clusters)),
            Lowering::Loop => match node.op {
                Op::Reduce { .. } => Some(open(ClusterKind::Reduce, &mut clusters)),
                Op::Transpose { .. } => Some(open(ClusterKind::Loop, &mut clusters)),
                _ if immediate(&node.op) || generator[i] => needed[i].then(|| open(ClusterKind::Loop, &mut clusters)),
                _ => {
                    let l = find(leader, i);
                    Some(*by_leader[l].get_or_insert_with(|| open(ClusterKind::Loop, &mut clusters)))
                }
            },
            Lowering::Free => {
                (matches!(node.op, Op::Control(_)) && needed[i]).then(|| open(ClusterKind::Loop, &mut clusters))
            }
        };
        if let Some(c) = c {
            cluster_of[i] = Some(c);
            clusters[c].nodes.push(id);
        }
    }
    // Absorbed nodes join their reduction; generators join every cluster that reads them.
    for id in g.ids() {
        if let Some(r) = absorbed[id.index()]
            && let Some(c) = cluster_of[r.index()]
        {
            cluster_of[id.index()] = Some(c);
            clusters[c].nodes.push(id);
        }
    }
    for cluster in &mut clusters {
        if cluster.kind == ClusterKind::Library {
            continue;
        }
        let mut all = cluster.nodes.clone();
        let mut has: BTreeSet<NodeId> = all.iter().copied().collect();
        let shape = iteration_shape(g, cluster);
        let mut k = 0;
        while k < all.len() {
            for a in &g.node(all[k]).args {
                if generator[a.index()] && g.shape(*a) == shape && has.insert(*a) {
                    all.push(*a);
                }
            }
            k += 1;
        }
        all.sort_unstable();
        cluster.nodes = all;
    }
    // Outputs: what is read outside, through reshapes too.
    let mut read = vec![false; n];
    for r in &g.results {
        read[roots[r.value.index()].index()] = true;
    }
    for id in g.ids() {
        if g.node(id).op == Op::Reshape {
            continue;
        }
        for a in &g.node(id).args {
            let source = roots[a.index()];
            let inside =
                source == *a && cluster_of[id.index()].is_some() && cluster_of[id.index()] == cluster_of[a.index()];
            let copied = generator[a.index()] && source == *a && cluster_of[a.index()].is_none();
            if !inside && !copied {
                read[source.index()] = true;
            }
        }
    }
    for id in g.ids() {
        if let (true, Some(c)) = (read[id.index()], cluster_of[id.index()]) {
            clusters[c].outputs.push(id);
        }
    }
    clusters.retain(|c| !c.outputs.is_empty());
    clusters
}

/// The shape a cluster's loops run over.
#[must_use]
pub fn iteration_shape<'g>(g: &'g Graph, c: &Cluster) -> &'g [Dim] {
    match (c.kind, c.nodes.iter().rev().find(|id| matches!(g.node(**id).op, Op::Reduce { .. }))) {
        (ClusterKind::Reduce, Some(r)) => g.shape(g.node(*r).args[0]),
        _ => c.nodes.last().map_or(&[], |id| g.shape(*id)),
    }
}

/// Immediates and generators that someone needs in memory: library calls, reshapes, transpositions, results, and
/// readers of another shape.
fn needed_as_buffer(g: &Graph, is_loop: &[bool], generator: &[bool], roots: &[NodeId]) -> Vec<bool> {
    let mut out = vec![false; g.nodes.len()];
    for r in &g.results {
        out[roots[r.value.index()].index()] = true;
    }
    for id in g.ids() {
        let node = g.node(id);
        for a in &node.args {
            let x = roots[a.index()];
            let inlined = match node.op {
                Op::Reshape => continue,
                Op::Reduce { .. } => true,
                _ => is_loop[id.index()],
            };
            let ok = x == *a
                && inlined
                && (immediate(&g.node(x).op) || generator[x.index()] && g.shape(x) == loop_shape(g, id));
            if !ok {
                out[x.index()] = true;
            }
        }
    }
    out
}

/// The shape a node's loop runs over.
fn loop_shape(g: &Graph, id: NodeId) -> &[Dim] {
    match g.node(id).op {
        Op::Reduce { .. } => g.shape(g.node(id).args[0]),
        _ => g.shape(id),
    }
}
