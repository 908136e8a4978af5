//! Removes nodes that no result needs. Inputs stay: they are part of the step's signature.

use super::{PassCx, PassError};
use crate::ir::graph::Graph;

pub(super) fn run(_cx: &PassCx, graph: &mut Graph) -> Result<bool, PassError> {
    let before = graph.nodes.len();
    graph.compact();
    Ok(graph.nodes.len() != before)
}
