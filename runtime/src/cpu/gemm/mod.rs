//! The f32 matrix product of the runtime.
//!
//! In: two row-major matrices, each possibly stored transposed. Out: their product, with bias and relu added on
//! request. Invariant: how the work is cut into tasks, and the order of every sum, follow from the sizes and the
//! instruction set alone, so the result has the same bits for any number of threads.
//!
//! The structure is that of BLIS (Van Zee and van de Geijn, "BLIS: A Framework for Rapidly Instantiating BLAS
//! Functionality", 2015): panels of both matrices are packed so that a register tile reads them in order. Shapes whose
//! matrices are read only once skip the packing; see `plan.rs`.

mod block;
mod kernels;
mod plan;
mod run;
mod shallow;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
mod x86;

pub(crate) use block::{SLACK, Source, align, even, pack_panel};
pub(crate) use kernels::{Kernels, kernels};
pub(crate) use run::add_parts;
pub(crate) use tile::{AHEAD_EVERY, Ahead, LINE, ONE_SEGMENT, Tile};

use super::par::Par;
use super::{Io, Level, LibKernel, PackLayout, Packing, Scratch};
use plan::Plan;

/// A matrix product `c[b, m, n] = op(a[b]) · op(b[b])`, all matrices dense and row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Problem {
    /// Number of independent products that lie one after the other.
    pub(crate) batch: usize,
    /// Rows of c.
    pub(crate) m: usize,
    /// Columns of c.
    pub(crate) n: usize,
    /// Inner size.
    pub(crate) k: usize,
    /// a is stored `[k, m]` instead of `[m, k]`.
    pub(crate) ta: bool,
    /// b is stored `[n, k]` instead of `[k, n]`.
    pub(crate) tb: bool,
}

/// What is done to each element of c once its sum is complete.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epilogue {
    /// `n` floats, added to every row.
    pub(crate) bias: Option<*const f32>,
    /// `max(c, 0)` after the bias; NaN stays NaN.
    pub(crate) relu: bool,
}

/// A product that is ready to run; buffers a, b, c.
pub(crate) struct Product {
    ker: &'static Kernels,
    problem: Problem,
    /// Absent if some size is 0.
    plan: Option<Plan>,
}

impl Product {
    /// Plans `problem` for a level.
    pub(crate) fn new(problem: Problem, level: Level) -> Product {
        let ker = kernels(level);
        let Problem { batch, m, n, k, .. } = problem;
        let plan = [batch, m, n, k].iter().all(|d| *d > 0).then(|| Plan::new(ker, &problem));
        Product { ker, problem, plan }
    }

    /// As [`LibKernel::run`], with an epilogue.
    ///
    /// # Safety
    /// As there; the bias has as many floats as c has columns.
    pub(crate) unsafe fn run_fused(&self, par: &Par<'_>, epilogue: &Epilogue, io: &Io<'_>) {
        let (a, b, c) = (io.bufs[0], io.bufs[1], io.bufs[2]);
        // SAFETY: handed on to the caller.
        unsafe { run::product(self.ker, par, &self.problem, self.plan, epilogue, (a, b, c), io.scratch, io.packed) }
    }
}

impl LibKernel for Product {
    fn scratch(&self) -> Scratch {
        let (shared, local) = self.plan.map_or((0, 0), |plan| plan::workspace(self.ker, &self.problem, &plan));
        Scratch { shared: shared * 4, local: local * 4 }
    }

    fn packing(&self) -> Option<Packing> {
        let Problem { n, k, .. } = self.problem;
        let layout = self.plan?.layout(self.ker, &self.problem)?;
        Some(Packing { operand: 1, floats: n.next_multiple_of(self.ker.nr()) * k, layout })
    }

    unsafe fn pack(&self, par: &Par<'_>, io: &Io<'_>, to: *mut f32) {
        if let Some(plan) = &self.plan {
            // SAFETY: handed on to the caller.
            unsafe { run::pack(self.ker, par, &self.problem, plan, io.bufs[1], to) };
        }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        // SAFETY: handed on to the caller.
        unsafe { self.run_fused(par, &Epilogue::default(), io) }
    }
}
