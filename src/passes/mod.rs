//! Passes over the graph IR: a static registry, the default order, and the driver that runs them.
//!
//! A pass is a function from graph to graph that says whether it changed anything. The verifier runs after each one.

mod autodiff;
mod canonicalize;
mod cse;
mod dce;
pub mod fuse;
mod optimizer;
pub mod pipeline;
mod split_sums;

use std::time::Duration;

use crate::ir::graph::Graph;
use crate::ir::verify::{annotate, verify};
use crate::model::types::Optimizer;

/// What passes may look at besides the graph.
#[derive(Clone, Debug, Default)]
pub struct PassCx {
    /// The update rule of the train step.
    pub optimizer: Option<Optimizer>,
}

/// A row of the registry.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Key on the command line, in tests and in timings.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Runs it; `true` when something changed.
    pub run: fn(&PassCx, &mut Graph) -> Result<bool, PassError>,
}

/// A pass could not do its work: always a bug of the compiler or of hand-written IR, never of a Kurfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassError {
    /// The pass.
    pub pass: &'static str,
    /// What went wrong.
    pub message: String,
    /// The graph with findings, for the report.
    pub dump: String,
}

impl std::fmt::Display for PassError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pass `{}`: {}", self.pass, self.message)
    }
}

impl std::error::Error for PassError {}

/// Every pass, in the order of the default pipeline.
pub const REGISTRY: &[Pass] = &[
    Pass {
        name: "autodiff",
        summary: "adds the gradient of the metric `loss` to every trainable parameter",
        run: autodiff::run,
    },
    Pass {
        name: "optimizer",
        summary: "turns gradients into updates of parameters and optimizer state",
        run: optimizer::run,
    },
    Pass {
        name: "canonicalize",
        summary: "folds constants and rewrites operations to simpler or cheaper ones",
        run: canonicalize::run,
    },
    Pass { name: "cse", summary: "merges nodes that compute the same value", run: cse::run },
    Pass { name: "dce", summary: "removes nodes that no result needs", run: dce::run },
    Pass {
        name: "split-sums",
        summary: "cuts sums over the batch and further axes in two, the further axes first",
        run: split_sums::run,
    },
];

/// Finds a pass by name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Pass> {
    REGISTRY.iter().find(|p| p.name == name)
}

/// One run of a pass, for `--time-passes` and `--print-after`.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The pass.
    pub name: &'static str,
    /// How long it took, the verifier excluded.
    pub time: Duration,
    /// Whether it changed the graph.
    pub changed: bool,
}

/// Runs one pass and verifies the result.
///
/// # Errors
/// The pass failed, or left a graph that the verifier refuses.
pub fn run_pass(pass: &Pass, cx: &PassCx, graph: &mut Graph, clock: &dyn Fn() -> Duration) -> Result<Ran, PassError> {
    let start = clock();
    let changed = (pass.run)(cx, graph)?;
    let time = clock().saturating_sub(start);
    let findings = verify(graph);
    if let Some(first) = findings.first() {
        let message = format!("left an invalid graph: {}", first.message);
        return Err(PassError { pass: pass.name, message, dump: annotate(graph, &findings) });
    }
    Ok(Ran { name: pass.name, time, changed })
}
