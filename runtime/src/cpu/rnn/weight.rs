//! Gradients of a recurrent layer to its recurrent kernel and bias: one product over all steps and rows, and column sums.
//! In: the tape and gxw. Out: `[u,G·u]`, `[G·u]`. Sums run over rows and steps in a fixed order.
//!
//! The product is that of the states before each step, transposed, with the gradients of the step. Both are packed from
//! where they lie: the states into panels of as many units as a register tile has rows, once for all; the gradients by
//! each task for its columns. The first step of a row has no state before it and is left out.

use std::ops::Range;

use super::{Bump, Rnn, SLACK};
use crate::cpu::gemm::{Kernels, ONE_SEGMENT, Tile, even, kernels};
use crate::cpu::par::{Par, Shared, run_tasks};
use crate::cpu::{Io, Level, LibKernel, Scratch};
use crate::plan::RnnCell;

/// Columns of the result that one task computes.
const PIECE: usize = 64;
/// Most inner indices between two additions to the result.
const DEPTH: usize = 384;
/// Floats of states that stay in the second-level cache meanwhile.
const RESIDENT: usize = 64 << 10;
/// Steps whose states are packed at once: the tape's rows may all fall into one set of a cache.
const BURST: usize = 8;
/// Most columns that are packed at once, in steps of panels.
const BAND: usize = 64;

/// Gradient to the recurrent kernel.
pub(crate) struct WeightGradient {
    rnn: Rnn,
    ker: &'static Kernels,
    /// Rows of a tile: units of a panel.
    pr: usize,
    /// Inner indices: steps with a state before them, of all rows.
    k: usize,
    /// Most of them at a time.
    depth: usize,
}

impl WeightGradient {
    pub(crate) fn new(rnn: Rnn, level: Level) -> WeightGradient {
        let (ker, k) = (kernels(level), rnn.n * rnn.t.saturating_sub(1));
        let depth = even(k, (RESIDENT / rnn.u.max(1)).clamp(DEPTH / 4, DEPTH));
        WeightGradient { rnn, ker, pr: even(rnn.u, ker.mr), k, depth }
    }

    /// Floats of a panel of states; copies may write some beyond it.
    fn panel(&self) -> usize {
        (self.k * self.pr + SLACK).next_multiple_of(16)
    }

    /// Floats of all states.
    fn states(&self) -> usize {
        self.rnn.u.div_ceil(self.pr) * self.panel()
    }

    /// Matrices of states: those before each step, and r∘h for the candidate of `gru`.
    fn lefts(&self) -> usize {
        if self.rnn.cell == RnnCell::Gru { 2 } else { 1 }
    }

    /// Floats of each worker: gradients of some steps.
    fn local(&self) -> usize {
        self.depth * PIECE.max(self.ker.nr())
    }

    /// Calls `f` with runs of inner indices that belong to one row of the batch: the first of them, and the row and step
    /// (by place in the sequence) of the state; the gradient's step is the next one, or the one before if `reverse`.
    fn runs(&self, k: Range<usize>, most: usize, mut f: impl FnMut(Range<usize>, usize)) {
        let per_row = self.rnn.t - 1;
        let mut p = k.start;
        while p < k.end {
            let (row, step) = (p / per_row, p % per_row);
            let len = most.min(k.end - p).min(per_row - step);
            f(p..p + len, row * self.rnn.t + step);
            p += len;
        }
    }

    /// Packs the states, or r∘h.
    unsafe fn pack_states(&self, par: &Par<'_>, tape: *const f32, reset: bool, to: *mut f32) {
        let Rnn { u, parts, reverse, .. } = self.rnn;
        let (ker, pr) = (self.ker, self.pr);
        let band = (BAND / pr).max(1) * pr;
        let pointers = Shared((tape, to));
        let (state, step) = if reverse { (1, 0) } else { (0, 1) };
        run_tasks(par, u.div_ceil(band), &|task, _| {
            let (tape, to) = pointers.get();
            let columns = task * band..u.min((task + 1) * band);
            let mut products = [0.0_f32; BURST * BAND];
            self.runs(0..self.k, BURST, |p, at| {
                // SAFETY: the tape has these steps; tasks pack different panels.
                unsafe {
                    let (mut from, mut stride) = (tape.add((at + state) * parts * u + columns.start), parts * u);
                    if reset {
                        let r = tape.add(((at + step) * parts + 2) * u + columns.start);
                        for i in 0..p.len() {
                            for j in 0..columns.len() {
                                products[i * BAND + j] = *from.add(i * stride + j) * *r.add(i * stride + j);
                            }
                        }
                        (from, stride) = (products.as_ptr(), BAND);
                    }
                    for c in columns.clone().step_by(pr) {
                        let panel = to.add(c / pr * self.panel() + p.start * pr);
                        let width = pr.min(columns.end - c);
                        (ker.copy)(from.add(c - columns.start), stride, p.len(), width, panel, pr);
                    }
                }
            });
        });
    }

    /// Packs the gradients of some steps at some columns.
    unsafe fn pack_gradients(
        &self,
        tape: *const f32,
        gxw: *const f32,
        k: Range<usize>,
        columns: Range<usize>,
        to: *mut f32,
    ) {
        let Rnn { u, gates, parts, cell, reverse, .. } = self.rnn;
        let (ker, nr) = (self.ker, self.ker.nr());
        let step = usize::from(!reverse);
        let reset = cell == RnnCell::GruAfter && columns.start >= 2 * u;
        self.runs(k.clone(), k.len(), |p, at| {
            for (panel, c) in columns.clone().step_by(nr).enumerate() {
                let width = nr.min(columns.end - c);
                // SAFETY: the caller vouches for the buffers; the step is one of the row's.
                unsafe {
                    let to = to.add((panel * k.len() + p.start - k.start) * nr);
                    (ker.copy)(gxw.add((at + step) * gates * u + c), gates * u, p.len(), width, to, nr);
                    if reset {
                        // The product was multiplied by r afterwards.
                        let r = tape.add(((at + step) * parts + 1) * u + c - 2 * u);
                        for i in 0..p.len() {
                            for j in 0..width {
                                *to.add(i * nr + j) *= *r.add(i * parts * u + j);
                            }
                        }
                    }
                }
            }
        });
    }
}

impl LibKernel for WeightGradient {
    fn scratch(&self) -> Scratch {
        Scratch { shared: (SLACK + self.lefts() * self.states()) * 4, local: self.local() * 4 }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let Rnn { u, gates, .. } = self.rnn;
        let (tape, gxw, out) = (io.bufs[0], io.bufs[1], io.bufs[2]);
        let (ker, nr, pr) = (self.ker, self.ker.nr(), self.pr);
        if self.k == 0 {
            // SAFETY: the result is `[u,G·u]`.
            unsafe { out.write_bytes(0, u * gates * u) };
            return;
        }
        let mut bump = Bump::new(io.scratch);
        let states = bump.take(self.states());
        let mut products = states;
        // SAFETY: the scratch memory is laid out as `scratch` counts it.
        unsafe {
            self.pack_states(par, tape, false, states);
            if self.lefts() == 2 {
                products = bump.take(self.states());
                self.pack_states(par, tape, true, products);
            }
        }
        // Columns before and from the candidate of `gru` on differ in what they are multiplied by.
        let cut = if self.rnn.cell == RnnCell::Lstm { gates * u } else { 2 * u };
        let piece = PIECE.next_multiple_of(nr);
        let (before, after) = (cut.div_ceil(piece), (gates * u - cut).div_ceil(piece));
        let pointers = Shared((tape, gxw, out, states, products, bump.0));
        run_tasks(par, before + after, &|task, worker| {
            let (tape, gxw, out, states, products, scratch) = pointers.get();
            let packed = scratch.wrapping_add(worker * self.local());
            let (first, end) =
                if task < before { (task * piece, cut) } else { (cut + (task - before) * piece, gates * u) };
            let columns = first..end.min(first + piece);
            let left = if task < before { states } else { products };
            for start in (0..self.k).step_by(self.depth) {
                let k = start..self.k.min(start + self.depth);
                // SAFETY: tasks have different columns, and workers their own memory.
                unsafe { self.pack_gradients(tape, gxw, k.clone(), columns.clone(), packed) };
                for (panel, c) in columns.clone().step_by(nr).enumerate() {
                    let width = nr.min(columns.end - c);
                    let nv = width.div_ceil(ker.w);
                    for i in (0..u).step_by(pr) {
                        // SAFETY: both panels are packed; the tile is one of this task's columns.
                        unsafe {
                            let a = left.add(i / pr * self.panel() + start * pr);
                            ker.tile(pr.min(u - i), nv, false)(&Tile {
                                a,
                                segs: ONE_SEGMENT.as_ptr(),
                                nseg: 1,
                                seg_len: k.len(),
                                a_step: pr,
                                b: packed.add(panel * k.len() * nr),
                                b_step: nr,
                                b_skip: 0,
                                c: out.add(i * gates * u + c),
                                c_step: gates * u,
                                tail: width - (nv - 1) * ker.w,
                                accumulate: start > 0,
                                bias: std::ptr::null(),
                                relu: false,
                                ahead: a.wrapping_add(self.panel()),
                            });
                        }
                    }
                }
            }
        });
    }
}

/// Columns of a task.
const COLUMNS: usize = 64;

/// Gradient to the recurrent bias of `gru_after`: the sum of the gradients to the recurrent products.
pub(crate) struct BiasGradient {
    rnn: Rnn,
}

impl BiasGradient {
    pub(crate) fn new(rnn: Rnn) -> BiasGradient {
        BiasGradient { rnn }
    }
}

impl LibKernel for BiasGradient {
    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let Rnn { n, t, u, parts, gates, cell, .. } = self.rnn;
        let cols = gates * u;
        // From here on the gradient is multiplied by the reset gate.
        let cut = if cell == RnnCell::GruAfter { 2 * u } else { cols };
        let before = cut.div_ceil(COLUMNS);
        let pointers = Shared((io.bufs[0], io.bufs[1], io.bufs[2]));
        run_tasks(par, before + (cols - cut).div_ceil(COLUMNS), &|task, _| {
            let (tape, gxw, out) = pointers.get();
            let (first, end) = if task < before { (0, cut) } else { (cut, cols) };
            let start = first + (task - if task < before { 0 } else { before }) * COLUMNS;
            let len = COLUMNS.min(end - start);
            let mut sums = [0.0_f64; COLUMNS];
            for at in 0..n * t {
                // SAFETY: columns of step `at`, and the reset gate (part 1) of the same units.
                unsafe {
                    let g = std::slice::from_raw_parts(gxw.add(at * cols + start), len);
                    if task < before {
                        sums.iter_mut().zip(g).for_each(|(sum, g)| *sum += f64::from(*g));
                    } else {
                        let r = std::slice::from_raw_parts(tape.add((at * parts + 1) * u + start - cut), len);
                        let terms = g.iter().zip(r).map(|(g, r)| f64::from(*g) * f64::from(*r));
                        sums.iter_mut().zip(terms).for_each(|(sum, x)| *sum += x);
                    }
                }
            }
            for (i, sum) in sums.iter().enumerate().take(len) {
                // SAFETY: tasks have different columns.
                unsafe { *out.add(start + i) = *sum as f32 };
            }
        });
    }
}
