//! Reductions that walk through the same memory share a nest. In: clusters. Out: fewer clusters.
//!
//! * Reductions over the same axes that read the values of one loop join it: the values are added up where they are made.
//! * Reductions over the same axes of one stored value read it together.
//!
//! The invariant is that no cycle comes about. Levels count the clusters before a cluster on the longest way. A joined
//! set spans two neighbouring levels at most, and each reduction in it follows from nothing else on the lower one, so an
//! edge between two sets always leads from a lower to a higher least level.

use std::collections::BTreeMap;

use kur_runtime::dim::Dim;

use super::{Cluster, ClusterKind, iteration_shape};
use crate::ir::graph::{Graph, NodeId, Role};
use crate::ir::op::Op;

/// Least columns of a loop that takes in reductions: a cache line of floats.
const COLUMNS: u64 = 16;

/// Joins what can be joined.
pub(super) fn reductions(g: &Graph, roots: &[NodeId], clusters: &mut Vec<Cluster>) {
    let deps = deps(g, roots, clusters);
    let levels = levels(&deps);
    let mut into: Vec<usize> = (0..clusters.len()).collect();
    let mut updated = vec![false; g.nodes.len()];
    for r in &g.results {
        if matches!(r.role, Role::Update(_)) {
            updated[roots[r.value.index()].index()] = true;
        }
    }
    // The axes over which a loop's joined reductions run.
    let mut chosen: BTreeMap<usize, &[usize]> = BTreeMap::new();
    for (c, cluster) in clusters.iter().enumerate() {
        let Some(axes) = axes(g, cluster) else { continue };
        let mut below = deps[c].iter().filter(|d| levels[**d] + 1 == levels[c]);
        let (Some(&l), None) = (below.next(), below.next()) else { continue };
        let host = &clusters[l];
        let fits = host.kind == ClusterKind::Loop
            && host.outputs.iter().all(|o| !updated[o.index()])
            && host.nodes.iter().all(|id| !matches!(g.node(*id).op, Op::Transpose { .. }))
            && iteration_shape(g, host) == iteration_shape(g, cluster)
            && columns(iteration_shape(g, cluster), axes)
            && reads_alike(g, roots, cluster, host);
        if fits && *chosen.entry(l).or_insert(axes) == axes {
            into[c] = l;
        }
    }
    // Reductions that stay alone, by what they read and how.
    let mut first: BTreeMap<(u32, NodeId, &[usize]), usize> = BTreeMap::new();
    for (c, cluster) in clusters.iter().enumerate() {
        let Some(axes) = axes(g, cluster).filter(|_| into[c] == c) else { continue };
        let shape = iteration_shape(g, cluster);
        let outside = |a: &NodeId| cluster.nodes.binary_search(a).is_err() && g.shape(*a) == shape;
        let read: Vec<NodeId> =
            cluster.nodes.iter().flat_map(|id| g.node(*id).args.iter().copied().filter(outside)).collect();
        let host = read.iter().find_map(|a| first.get(&(levels[c], *a, axes))).copied().unwrap_or(c);
        into[c] = host;
        for a in read {
            first.entry((levels[c], a, axes)).or_insert(host);
        }
    }
    if into.iter().enumerate().all(|(c, to)| c == *to) {
        return;
    }
    merge(g, roots, clusters, &into);
}

/// The reduced axes of a reduction.
fn axes<'g>(g: &'g Graph, cluster: &Cluster) -> Option<&'g [usize]> {
    match (cluster.kind, cluster.nodes.last().map(|id| &g.node(*id).op)) {
        (ClusterKind::Reduce, Some(Op::Reduce { axes, .. })) => Some(axes),
        _ => None,
    }
}

/// Whether a reduction keeps the last axis, and that is long enough for whole vectors.
fn columns(shape: &[Dim], axes: &[usize]) -> bool {
    let long = shape.last().and_then(|d| d.as_const()).is_some_and(|d| d >= COLUMNS);
    long && !axes.contains(&(shape.len() - 1))
}

/// Whether a cluster reads another one's values as they are.
fn reads_alike(g: &Graph, roots: &[NodeId], cluster: &Cluster, host: &Cluster) -> bool {
    let args = cluster.nodes.iter().flat_map(|id| &g.node(*id).args);
    args.filter(|a| host.outputs.contains(&roots[a.index()])).all(|a| roots[a.index()] == *a)
}

/// The clusters that each cluster reads from.
fn deps(g: &Graph, roots: &[NodeId], clusters: &[Cluster]) -> Vec<Vec<usize>> {
    let mut home: Vec<Option<usize>> = vec![None; g.nodes.len()];
    for (c, cluster) in clusters.iter().enumerate() {
        for o in &cluster.outputs {
            home[o.index()] = Some(c);
        }
    }
    let of = |(c, cluster): (usize, &Cluster)| {
        let args = cluster.nodes.iter().flat_map(|id| &g.node(*id).args);
        let mut out: Vec<usize> = args.filter_map(|a| home[roots[a.index()].index()]).filter(|d| *d != c).collect();
        out.sort_unstable();
        out.dedup();
        out
    };
    clusters.iter().enumerate().map(of).collect()
}

/// Length of the longest way to each cluster.
fn levels(deps: &[Vec<usize>]) -> Vec<u32> {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); deps.len()];
    for (c, d) in deps.iter().enumerate() {
        for x in d {
            readers[*x].push(c);
        }
    }
    let mut waits: Vec<usize> = deps.iter().map(Vec::len).collect();
    let mut levels = vec![0; deps.len()];
    let mut ready: Vec<usize> = (0..deps.len()).filter(|c| waits[*c] == 0).collect();
    while let Some(c) = ready.pop() {
        for r in &readers[c] {
            levels[*r] = levels[*r].max(levels[c] + 1);
            waits[*r] -= 1;
            if waits[*r] == 0 {
                ready.push(*r);
            }
        }
    }
    levels
}

fn merge(g: &Graph, roots: &[NodeId], clusters: &mut Vec<Cluster>, into: &[usize]) {
    for c in 0..clusters.len() {
        if into[c] == c {
            continue;
        }
        let Cluster { nodes, outputs, .. } = std::mem::replace(
            &mut clusters[c],
            Cluster { kind: ClusterKind::Reduce, nodes: Vec::new(), outputs: Vec::new() },
        );
        let host = &mut clusters[into[c]];
        host.kind = ClusterKind::Reduce;
        host.nodes.extend(nodes);
        host.outputs.extend(outputs);
    }
    let mut touched = vec![false; clusters.len()];
    into.iter().enumerate().filter(|(c, to)| c != *to).for_each(|(_, to)| touched[*to] = true);
    for cluster in clusters.iter_mut().enumerate().filter(|(c, _)| touched[*c]).map(|(_, cluster)| cluster) {
        cluster.nodes.sort_unstable();
        cluster.nodes.dedup();
        cluster.outputs.sort_unstable();
    }
    // Values that only the joined reductions read are stored no longer.
    let mut read = vec![false; g.nodes.len()];
    for r in &g.results {
        read[roots[r.value.index()].index()] = true;
    }
    for cluster in clusters.iter() {
        for a in cluster.nodes.iter().flat_map(|id| &g.node(*id).args) {
            let source = roots[a.index()];
            if source != *a || cluster.nodes.binary_search(a).is_err() {
                read[source.index()] = true;
            }
        }
    }
    for cluster in clusters.iter_mut() {
        cluster.outputs.retain(|o| read[o.index()]);
    }
    clusters.retain(|c| !c.outputs.is_empty());
}
