//! Recurrent layers. In: the products of all steps with the input kernel. Out: the tape (states and gates of all steps),
//! or gradients. Invariants: a task runs some rows of the batch through all steps by itself, and rows are cut by the size
//! of the batch alone, so the number of threads changes no bit; products over all steps at once are ordinary ones.
//!
//! A step multiplies the states of its rows by the recurrent kernel; everything else is elementwise (`cells`).

mod back;
mod cells;
mod forward;
mod steps;
#[cfg(test)]
mod tests;
mod weight;

pub(super) use back::Back;
pub(super) use forward::Forwards;
pub(super) use steps::{StepOp, Steps};
pub(super) use weight::{BiasGradient, WeightGradient};

use super::gemm::{Problem, Product};
use super::par::{Par, Shared, run_tasks};
use super::{Level, LibKernel};
use crate::plan::{CellActivation, RnnCell, RnnGeometry};

/// Rows of a task: enough for the register tiles of a product, few enough that a common batch feeds several threads.
const ROWS: usize = 16;

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

    /// The place in the sequence of the step that runs as number `i`.
    fn at(&self, i: usize) -> usize {
        if self.reverse { self.t - 1 - i } else { i }
    }

    /// Columns of the recurrent kernel that are multiplied by the state alone: all but the candidate's of `gru`.
    fn plain(&self) -> usize {
        if self.cell == RnnCell::Gru { 2 * self.u } else { self.gates * self.u }
    }

    /// Floats of the recurrent kernel cut in two, where the cell multiplies the candidate's part by another matrix.
    fn split_len(&self) -> usize {
        if self.cell == RnnCell::Gru { 3 * self.u * self.u } else { 0 }
    }
}

/// The same product for full tasks and for the last, smaller one.
struct Products {
    full: Product,
    rest: Product,
}

impl Products {
    /// `n` columns, inner size `k`; the right matrix is stored transposed with `tb`.
    fn new(rnn: &Rnn, n: usize, k: usize, tb: bool, level: Level) -> Products {
        let of = |m| Product::new(Problem { batch: 1, m, n, k, ta: false, tb }, level);
        Products { full: of(ROWS.min(rnn.n)), rest: of(rnn.n % ROWS) }
    }

    fn of(&self, rows: usize) -> &Product {
        if rows == ROWS { &self.full } else { &self.rest }
    }

    /// Floats of workspace on one worker.
    fn workspace(&self) -> usize {
        let len = |p: &Product| (p.scratch().shared + p.scratch().local) / 4;
        len(&self.full).max(len(&self.rest))
    }
}

/// Hands out parts of scratch memory.
struct Bump(*mut f32);

impl Bump {
    fn take(&mut self, len: usize) -> *mut f32 {
        let p = self.0;
        self.0 = p.wrapping_add(len);
        p
    }
}

/// Cuts the columns of a matrix `[rows, left + right]` in two dense matrices.
///
/// # Safety
/// The buffers have these sizes and do not overlap.
unsafe fn split_columns(
    par: &Par<'_>,
    src: *const f32,
    rows: usize,
    (left, right): (usize, usize),
    to: (*mut f32, *mut f32),
) {
    let per_task = ((32 << 10) / (left + right).max(1)).max(1);
    let pointers = Shared((src, to.0, to.1));
    run_tasks(par, rows.div_ceil(per_task), &|task, _| {
        let (src, a, b) = pointers.get();
        for r in task * per_task..rows.min((task + 1) * per_task) {
            // SAFETY: row `r` of each matrix; tasks have different rows.
            unsafe {
                let row = src.add(r * (left + right));
                std::ptr::copy_nonoverlapping(row, a.add(r * left), left);
                std::ptr::copy_nonoverlapping(row.add(left), b.add(r * right), right);
            }
        }
    });
}
