//! The default order of passes, as data.

use std::time::Duration;

use super::{Pass, PassCx, PassError, Ran, find, run_pass};
use crate::ir::graph::Graph;

/// How much is optimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OptLevel {
    /// Nothing: one kernel per operation.
    None,
    /// The graph is simplified; still one kernel per operation.
    Simplify,
    /// Everything.
    #[default]
    Full,
}

/// Names of the passes that make a train step out of a loss, in order.
pub const TRAIN: &[&str] = &[
    "autodiff",  // first: gradients are graph building, the simplifier then sees both halves at once
    "optimizer", // consumes the gradients
];

/// Names of the passes that simplify, in order, repeated until nothing changes.
pub const SIMPLIFY: &[&str] = &[
    "canonicalize", // exposes equal nodes
    "cse",          // before dce, which then removes the losers
    "dce",
];

/// Names of the passes that prepare fusion, in order.
pub const PREPARE: &[&str] = &[
    "split-sums", // behind the simplifier, which merges sums
];

/// More rounds than any real graph needs; reached only by rules that undo each other.
const MAX_ROUNDS: usize = 16;

/// Called after each pass.
pub type Observer<'a> = dyn FnMut(&Pass, &Ran, &Graph) + 'a;

/// Runs the default pipeline on one step.
///
/// # Errors
/// As [`run_pass`].
pub fn run(
    cx: &PassCx,
    graph: &mut Graph,
    level: OptLevel,
    clock: &dyn Fn() -> Duration,
    observer: &mut Observer<'_>,
) -> Result<(), PassError> {
    let mut one = |name: &'static str, graph: &mut Graph| -> Result<bool, PassError> {
        let Some(pass) = find(name) else { return Ok(false) };
        let ran = run_pass(pass, cx, graph, clock)?;
        observer(pass, &ran, graph);
        Ok(ran.changed)
    };
    if cx.optimizer.is_some() {
        for name in TRAIN {
            one(name, graph)?;
        }
    }
    if level == OptLevel::None {
        one("dce", graph)?;
        return Ok(());
    }
    for _ in 0..MAX_ROUNDS {
        let mut changed = false;
        for name in SIMPLIFY {
            changed |= one(name, graph)?;
        }
        if !changed {
            break;
        }
    }
    if level == OptLevel::Full {
        for name in PREPARE {
            one(name, graph)?;
        }
    }
    Ok(())
}
