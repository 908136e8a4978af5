//! Moving parts and steps of sequences, and linear recurrences. In: sequences `[n,t,…]`. Out: the same, or single steps.
//! Invariant: every element is computed in one task, so the number of threads changes no bit.

use crate::cpu::par::{Par, Shared, run_tasks};
use crate::cpu::{Io, LibKernel};
use crate::plan::{PartOf, StepPick};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepOp {
    Part(PartOf),
    PartGrad(PartOf),
    Scan { reverse: bool },
    Shift { reverse: bool },
}

/// The kernel.
pub(crate) struct Steps {
    pub(crate) n: usize,
    pub(crate) t: usize,
    /// Values of a step, of one part where there are parts.
    pub(crate) size: usize,
    pub(crate) op: StepOp,
}

impl LibKernel for Steps {
    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let pointers = Shared((io.bufs[0], io.bufs[1], io.bufs[io.bufs.len() - 1]));
        run_tasks(par, self.n, &|row, _| {
            let (a, b, y) = pointers.get();
            // SAFETY: row `row` of every buffer; tasks have different rows.
            unsafe {
                match self.op {
                    StepOp::Part(p) => self.part(p, row, a, y),
                    StepOp::PartGrad(p) => self.part_grad(p, row, a, y),
                    StepOp::Scan { reverse } => self.scan(reverse, row, a, b, y),
                    StepOp::Shift { reverse } => self.shift(reverse, row, a, y),
                }
            }
        });
    }
}

impl Steps {
    /// The steps of a choice, and how many places they have in the shorter sequence.
    fn picked(&self, p: PartOf) -> (std::ops::Range<usize>, usize) {
        match p.steps {
            StepPick::All => (0..self.t, self.t),
            StepPick::First => (0..self.t.min(1), 1),
            StepPick::Last => (self.t.saturating_sub(1)..self.t, 1),
        }
    }

    unsafe fn part(&self, p: PartOf, row: usize, x: *const f32, y: *mut f32) {
        let (steps, places) = self.picked(p);
        let (part, parts) = (p.part as usize, p.parts as usize);
        for (i, t) in steps.enumerate() {
            // SAFETY: the caller vouches for the buffers; the part is one of the parts.
            unsafe {
                let from = x.add(((row * self.t + t) * parts + part) * self.size);
                std::ptr::copy_nonoverlapping(from, y.add((row * places + i) * self.size), self.size);
            }
        }
    }

    unsafe fn part_grad(&self, p: PartOf, row: usize, gy: *const f32, gx: *mut f32) {
        let (steps, places) = self.picked(p);
        let (part, parts) = (p.part as usize, p.parts as usize);
        // SAFETY: as above.
        unsafe {
            gx.add(row * self.t * parts * self.size).write_bytes(0, self.t * parts * self.size);
            for (i, t) in steps.enumerate() {
                let to = gx.add(((row * self.t + t) * parts + part) * self.size);
                std::ptr::copy_nonoverlapping(gy.add((row * places + i) * self.size), to, self.size);
            }
        }
    }

    unsafe fn scan(&self, reverse: bool, row: usize, a: *const f32, b: *const f32, y: *mut f32) {
        for i in 0..self.t {
            let at = |i: usize| (row * self.t + if reverse { self.t - 1 - i } else { i }) * self.size;
            for c in 0..self.size {
                // SAFETY: as above.
                unsafe {
                    let before = if i == 0 { 0.0 } else { *y.add(at(i - 1) + c) };
                    *y.add(at(i) + c) = *a.add(at(i) + c) * before + *b.add(at(i) + c);
                }
            }
        }
    }

    unsafe fn shift(&self, reverse: bool, row: usize, x: *const f32, y: *mut f32) {
        if self.t == 0 {
            return;
        }
        let (start, len) = (row * self.t * self.size, (self.t - 1) * self.size);
        // SAFETY: as above.
        unsafe {
            let (x, y) = (x.add(start), y.add(start));
            if reverse {
                std::ptr::copy_nonoverlapping(x.add(self.size), y, len);
                y.add(len).write_bytes(0, self.size);
            } else {
                std::ptr::copy_nonoverlapping(x, y.add(self.size), len);
                y.write_bytes(0, self.size);
            }
        }
    }
}
