//! Gradients of a recurrent layer to its recurrent kernel and bias: one product over all steps and rows, and column sums.
//! In: the tape and gxw. Out: `[u,G·u]`, `[G·u]`. Sums run over rows in a fixed order.

use super::{Bump, Rnn, split_columns};
use crate::cpu::gemm::{Problem, Product};
use crate::cpu::par::{Par, Shared, run_tasks};
use crate::cpu::{Io, Level, LibKernel, Scratch};
use crate::plan::RnnCell;

/// Gradient to the recurrent kernel.
pub(crate) struct WeightGradient {
    rnn: Rnn,
    /// Transposed states before each step by the gradients of all gates, or of the first two of `gru`.
    gates: Product,
    /// Transposed r∘h by the candidate's gradients of `gru`.
    candidate: Product,
}

impl WeightGradient {
    pub(crate) fn new(rnn: Rnn, level: Level) -> WeightGradient {
        let (u, k) = (rnn.u, rnn.n * rnn.t);
        let product = |n| Product::new(Problem { batch: 1, m: u, n, k, ta: true, tb: false }, level);
        let candidate = if rnn.cell == RnnCell::Gru { u } else { 0 };
        WeightGradient { rnn, gates: product(rnn.plain()), candidate: product(candidate) }
    }

    /// Floats that all tasks share, besides those of the products: states before each step, then what the cell needs.
    fn shared(&self) -> usize {
        let (u, cells) = (self.rnn.u, self.rnn.n * self.rnn.t);
        cells * u
            + match self.rnn.cell {
                // r∘h, both halves of gxw, both halves of the result.
                RnnCell::Gru => 4 * cells * u + 3 * u * u,
                // Gradients to the recurrent products.
                RnnCell::GruAfter => 3 * cells * u,
                RnnCell::Lstm => 0,
            }
    }

    /// Writes the states before each step, and what comes from them and the tape.
    unsafe fn gather(&self, par: &Par<'_>, tape: *const f32, gxw: *const f32, states: *mut f32, more: *mut f32) {
        let Rnn { n, t, u, parts, cell, .. } = self.rnn;
        let pointers = Shared((tape, gxw, states, more));
        run_tasks(par, n, &|row, _| {
            let (tape, gxw, states, more) = pointers.get();
            for i in 0..t {
                let at = row * t + self.rnn.at(i);
                // SAFETY: step `at` of each buffer; tasks have different rows.
                unsafe {
                    let h = std::slice::from_raw_parts_mut(states.add(at * u), u);
                    match i {
                        0 => h.fill(0.0),
                        _ => {
                            let before = row * t + self.rnn.at(i - 1);
                            h.copy_from_slice(std::slice::from_raw_parts(tape.add(before * parts * u), u));
                        }
                    }
                    let part = |k: usize| std::slice::from_raw_parts(tape.add((at * parts + k) * u), u);
                    match cell {
                        RnnCell::Gru => {
                            let to = std::slice::from_raw_parts_mut(more.add(at * u), u);
                            to.iter_mut().zip(h.iter().zip(part(2))).for_each(|(y, (h, r))| *y = r * h);
                        }
                        RnnCell::GruAfter => {
                            let to = std::slice::from_raw_parts_mut(more.add(at * 3 * u), 3 * u);
                            to.copy_from_slice(std::slice::from_raw_parts(gxw.add(at * 3 * u), 3 * u));
                            to[2 * u..].iter_mut().zip(part(1)).for_each(|(y, r)| *y *= r);
                        }
                        RnnCell::Lstm => {}
                    }
                }
            }
        });
    }
}

impl LibKernel for WeightGradient {
    fn scratch(&self) -> Scratch {
        let (a, b) = (self.gates.scratch(), self.candidate.scratch());
        Scratch { shared: self.shared() * 4 + a.shared.max(b.shared), local: a.local.max(b.local) }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let Rnn { n, t, u, cell, .. } = self.rnn;
        let (tape, gxw, out) = (io.bufs[0], io.bufs[1], io.bufs[2]);
        let cells = n * t;
        let mut bump = Bump(io.scratch);
        let states = bump.take(cells * u);
        let work = io.scratch.wrapping_add(self.shared());
        // SAFETY: the scratch memory is laid out as `shared` counts it; the products have these sizes.
        unsafe {
            match cell {
                RnnCell::Gru => {
                    let rh = bump.take(cells * u);
                    let (left, right) = (bump.take(cells * 2 * u), bump.take(cells * u));
                    let (a, b) = (bump.take(2 * u * u), bump.take(u * u));
                    self.gather(par, tape, gxw, states, rh);
                    split_columns(par, gxw, cells, (2 * u, u), (left, right));
                    self.gates.run(par, &Io { bufs: &[states, left, a], scratch: work });
                    self.candidate.run(par, &Io { bufs: &[rh, right, b], scratch: work });
                    for r in 0..u {
                        std::ptr::copy_nonoverlapping(a.add(r * 2 * u), out.add(r * 3 * u), 2 * u);
                        std::ptr::copy_nonoverlapping(b.add(r * u), out.add(r * 3 * u + 2 * u), u);
                    }
                }
                RnnCell::GruAfter => {
                    let products = bump.take(cells * 3 * u);
                    self.gather(par, tape, gxw, states, products);
                    self.gates.run(par, &Io { bufs: &[states, products, out], scratch: work });
                }
                RnnCell::Lstm => {
                    self.gather(par, tape, gxw, states, std::ptr::null_mut());
                    self.gates.run(par, &Io { bufs: &[states, gxw, out], scratch: work });
                }
            }
        }
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
        let pointers = Shared((io.bufs[0], io.bufs[1], io.bufs[2]));
        run_tasks(par, cols.div_ceil(COLUMNS), &|task, _| {
            let (tape, gxw, out) = pointers.get();
            let columns = task * COLUMNS..cols.min((task + 1) * COLUMNS);
            let mut sums = [0.0_f64; COLUMNS];
            for at in 0..n * t {
                for (sum, c) in sums.iter_mut().zip(columns.clone()) {
                    // SAFETY: column `c` of step `at`, and the reset gate (part 1) of the same unit.
                    unsafe {
                        let g = f64::from(*gxw.add(at * cols + c));
                        let reset = cell == RnnCell::GruAfter && c >= 2 * u;
                        *sum += if reset { g * f64::from(*tape.add((at * parts + 1) * u + c - 2 * u)) } else { g };
                    }
                }
            }
            for (sum, c) in sums.iter().zip(columns) {
                // SAFETY: tasks have different columns.
                unsafe { *out.add(c) = *sum as f32 };
            }
        });
    }
}
