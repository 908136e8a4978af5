//! Recurrent layers. In: the products of all steps with the input kernel. Out: the tape (states and gates of all steps),
//! or gradients. Invariants: a task runs some rows of the batch through all steps by itself, and rows do not depend on each
//! other, so the number of threads changes no bit; products over all steps at once are ordinary ones.
//!
//! A step multiplies the states of its rows by the recurrent kernel (`product`); everything else is elementwise (`cells`).

mod back;
mod cells;
mod forward;
mod product;
mod steps;
#[cfg(test)]
mod tests;
mod weight;

pub(super) use back::Back;
pub(super) use forward::Forwards;
pub(super) use steps::{StepOp, Steps};
pub(super) use weight::{BiasGradient, WeightGradient};

use super::gemm::{SLACK, align};
use crate::plan::{CellActivation, RnnCell, RnnGeometry};

/// Most rows of a task: enough for the register tiles of a product, few enough that a common batch feeds several threads.
const ROWS: usize = 16;
/// Fewest rows of a task that are worth another one: each reads the whole recurrent kernel at each step.
const FEWEST: usize = 4;

/// A recurrent layer with concrete sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rnn {
    cell: RnnCell,
    inner: CellActivation,
    outer: CellActivation,
    reverse: bool,
    n: usize,
    t: usize,
    u: usize,
    /// G.
    gates: usize,
    /// K.
    parts: usize,
}

impl Rnn {
    pub(super) fn new(g: &RnnGeometry, syms: &[u64]) -> Rnn {
        Rnn {
            cell: g.cell,
            inner: g.inner,
            outer: g.outer,
            reverse: g.reverse,
            n: g.batch.eval(syms) as usize,
            t: g.steps.eval(syms) as usize,
            u: g.units as usize,
            gates: g.cell.gates() as usize,
            parts: g.cell.parts() as usize,
        }
    }

    /// Rows of a task, most of them with one thread. With several the rows are cut into about as many tasks, or a multiple,
    /// so that shares are about equal. That changes no bit, as rows do not depend on each other.
    fn rows(&self, threads: usize) -> usize {
        let tasks = self.n.div_ceil(ROWS).next_multiple_of(threads.max(1)).min(self.n / FEWEST).max(1);
        self.n.div_ceil(tasks).max(1)
    }

    /// The place in the sequence of the step that runs as number `i`.
    fn at(&self, i: usize) -> usize {
        if self.reverse { self.t - 1 - i } else { i }
    }

    /// Columns of the recurrent kernel that are multiplied by the state alone: all but the candidate's of `gru`.
    fn plain(&self) -> usize {
        if self.cell == RnnCell::Gru { 2 * self.u } else { self.gates * self.u }
    }

    /// The other columns.
    fn other(&self) -> usize {
        self.gates * self.u - self.plain()
    }
}

/// Hands out parts of scratch memory.
struct Bump(*mut f32);

impl Bump {
    /// From a cache line on; [`SLACK`] covers that.
    fn new(start: *mut f32) -> Bump {
        Bump(align(start))
    }

    /// Whole cache lines.
    fn take(&mut self, len: usize) -> *mut f32 {
        let p = self.0;
        self.0 = p.wrapping_add(len.next_multiple_of(16));
        p
    }
}
