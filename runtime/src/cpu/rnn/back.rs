//! The gradient of a recurrent layer to its input products: the sequential part of backpropagation through time. In: the
//! tape, the recurrent kernel, the gradient to the states. Out: gxw `[n,t,G·u]`.

use super::cells::{Backward, gru_after_back_for, gru_candidate_back_for, gru_reset_back_for, lstm_back_for};
use super::{Bump, Products, ROWS, Rnn, split_columns};
use crate::cpu::par::{Par, Shared, run_tasks, serial};
use crate::cpu::{Io, Level, LibKernel, Scratch};
use crate::plan::{RnnCell, RnnGradOf};

/// The kernel.
pub(crate) struct Back {
    rnn: Rnn,
    of: RnnGradOf,
    /// Gradients of all gates, or of the first two of `gru`, by the transposed recurrent kernel.
    gates: Products,
    /// The candidate's gradient of `gru` by its transposed kernel.
    candidate: Products,
    first: unsafe fn(&Backward),
    second: unsafe fn(&Backward),
}

impl Back {
    pub(crate) fn new(rnn: Rnn, of: RnnGradOf, level: Level) -> Back {
        let u = rnn.u;
        Back {
            rnn,
            of,
            gates: Products::new(&rnn, u, rnn.plain(), true, level),
            candidate: Products::new(&rnn, if rnn.cell == RnnCell::Gru { u } else { 0 }, u, true, level),
            first: match rnn.cell {
                RnnCell::Gru => gru_candidate_back_for(level),
                RnnCell::GruAfter => gru_after_back_for(level),
                RnnCell::Lstm => lstm_back_for(level),
            },
            second: gru_reset_back_for(level),
        }
    }

    /// Floats of each worker: the carried gradients to state and memory, the product, gradients to r∘h and the candidate
    /// of `gru`, a tape of zeros, gradients to the gates, workspace.
    fn local(&self) -> usize {
        let rnn = &self.rnn;
        let zeros = rnn.parts * rnn.u;
        ROWS * (5 * rnn.u + rnn.plain()) + zeros + self.gates.workspace().max(self.candidate.workspace())
    }
}

impl LibKernel for Back {
    fn scratch(&self) -> Scratch {
        Scratch { shared: self.rnn.split_len() * 4, local: self.local() * 4 }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let rnn = &self.rnn;
        let (u, gru) = (rnn.u, rnn.cell == RnnCell::Gru);
        let (tape, kernel, g, gxw) = (io.bufs[0], io.bufs[1], io.bufs[2], io.bufs[3]);
        let (mut left, mut right) = (kernel, kernel);
        if gru {
            (left, right) = (io.scratch, io.scratch.wrapping_add(2 * u * u));
            // SAFETY: the recurrent kernel is `[u, 3u]`; the shared scratch memory holds both parts.
            unsafe { split_columns(par, kernel, u, (2 * u, u), (left, right)) };
        }
        let pointers = Shared((tape, left, right, g, gxw, io.scratch.wrapping_add(rnn.split_len())));
        run_tasks(par, rnn.n.div_ceil(ROWS), &|task, worker| {
            let (tape, left, right, g, gxw, scratch) = pointers.get();
            let (first, rows) = (task * ROWS, ROWS.min(rnn.n - task * ROWS));
            let mut bump = Bump(scratch.wrapping_add(worker * self.local()));
            let (carry, carry_c, product) = (bump.take(ROWS * u), bump.take(ROWS * u), bump.take(ROWS * u));
            let (drh, dc) = (bump.take(ROWS * u), bump.take(ROWS * u));
            let (zeros, da) = (bump.take(rnn.parts * u), bump.take(ROWS * rnn.plain()));
            let work = bump.0;
            // SAFETY: rows `first..first + rows` of every buffer and this worker's scratch memory; tasks have different
            // rows.
            unsafe {
                for p in [carry, carry_c, product] {
                    p.write_bytes(0, rows * u);
                }
                zeros.write_bytes(0, rnn.parts * u);
                let multiply = |p: &Products, a, b, to| {
                    crate::cpu::LibKernel::run(p.of(rows), &serial, &Io { bufs: &[a, b, to], scratch: work });
                };
                for i in (0..rnn.t).rev() {
                    let row = |r: usize| {
                        let start = (first + r) * rnn.t;
                        let at = start + rnn.at(i);
                        Backward {
                            u,
                            inner: rnn.inner,
                            outer: rnn.outer,
                            tape: tape.add(at * rnn.parts * u),
                            before: match i {
                                0 => zeros,
                                _ => tape.add((start + rnn.at(i - 1)) * rnn.parts * u),
                            },
                            gh: match self.of {
                                RnnGradOf::States => g.add(at * u),
                                RnnGradOf::Final if i + 1 == rnn.t => g.add((first + r) * u),
                                RnnGradOf::Final => std::ptr::null(),
                            },
                            carry: carry.add(r * u),
                            product: product.add(r * u),
                            carry_c: carry_c.add(r * u),
                            da: da.add(r * rnn.plain()),
                            dc: dc.add(r * u),
                            drh: drh.add(r * u),
                            gxw: gxw.add(at * rnn.gates * u),
                        }
                    };
                    (0..rows).for_each(|r| (self.first)(&row(r)));
                    if gru {
                        multiply(&self.candidate, dc, right, drh);
                        (0..rows).for_each(|r| (self.second)(&row(r)));
                    }
                    if i > 0 {
                        multiply(&self.gates, da, left, product);
                    }
                }
            }
        });
    }
}
