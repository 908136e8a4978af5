//! The gradient of a recurrent layer to its input products: the sequential part of backpropagation through time. In: the
//! tape, the recurrent kernel, the gradient to the states. Out: gxw `[n,t,G·u]`.

use super::cells::{
    Activation, Backward, activation_for, gru_after_back_for, gru_candidate_back_for, gru_reset_back_for, lstm_back_for,
};
use super::product::{Later, NO_RUN, StepProduct, StepRows, padded};
use super::{Bump, Rnn, SLACK};
use crate::cpu::par::{Par, Shared, run_tasks};
use crate::cpu::{Io, Level, LibKernel, Scratch};
use crate::plan::{RnnCell, RnnGradOf};

/// The kernel.
pub(crate) struct Back {
    rnn: Rnn,
    of: RnnGradOf,
    /// Gradients of all gates, or of the first two of `gru`, by the transposed recurrent kernel.
    gates: StepProduct,
    /// The candidate's gradient of `gru` by its transposed kernel.
    candidate: StepProduct,
    activate: unsafe fn(&Activation),
    first: unsafe fn(&Backward),
    second: unsafe fn(&Backward),
}

impl Back {
    pub(crate) fn new(rnn: Rnn, of: RnnGradOf, level: Level) -> Back {
        let u = rnn.u;
        let product = |first, k| {
            let n = if k == 0 { 0 } else { u };
            StepProduct::new(rnn.rows(1), (k, n), first, rnn.gates * u, true, level)
        };
        Back {
            rnn,
            of,
            gates: product(0, rnn.plain()),
            candidate: product(rnn.plain(), rnn.other()),
            activate: activation_for(level),
            first: match rnn.cell {
                RnnCell::Gru => gru_candidate_back_for(level),
                RnnCell::GruAfter => gru_after_back_for(level),
                RnnCell::Lstm => lstm_back_for(level),
            },
            second: gru_reset_back_for(level),
        }
    }

    /// Floats that all workers share: the packed kernel.
    fn shared(&self) -> usize {
        SLACK + self.gates.len() + self.candidate.len()
    }

    /// Floats of each worker: the carried gradients to state and memory, gradients to r∘h and the candidate of `gru`,
    /// gradients to the gates; what the memory of `lstm` gives, zeros, a tape of zeros.
    fn local(&self) -> usize {
        let (u, plain) = (self.rnn.u, self.rnn.plain());
        self.rnn.rows(1) * (4 * padded(u) + padded(plain)) + 2 * padded(u) + padded(self.rnn.parts * u)
    }
}

impl LibKernel for Back {
    fn scratch(&self) -> Scratch {
        Scratch { shared: self.shared() * 4, local: self.local() * 4 }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let rnn = &self.rnn;
        let (u, most) = (rnn.u, rnn.rows(io.threads));
        let (gru, lstm) = (rnn.cell == RnnCell::Gru, rnn.cell == RnnCell::Lstm);
        let (tape, kernel, g, gxw) = (io.bufs[0], io.bufs[1], io.bufs[2], io.bufs[3]);
        let mut bump = Bump::new(io.scratch);
        let (left, right) = (bump.take(self.gates.len()), bump.take(self.candidate.len()));
        // SAFETY: the recurrent kernel is `[u, G·u]`; the shared scratch memory holds both parts.
        unsafe {
            self.gates.pack(par, kernel, left);
            self.candidate.pack(par, kernel, right);
        }
        let pointers = Shared((tape, left, right, g, gxw, bump.0));
        run_tasks(par, rnn.n.div_ceil(most), &|task, worker| {
            let (tape, left, right, g, gxw, scratch) = pointers.get();
            let (first, rows) = (task * most, most.min(rnn.n - task * most));
            let (step, wide) = (padded(u), padded(rnn.plain()));
            let mut bump = Bump(scratch.wrapping_add(worker * self.local()));
            let [carry, carry_c, drh, dc] = std::array::from_fn(|_| bump.take(most * step));
            let da = bump.take(most * wide);
            let (y, no_sum, no_tape) = (bump.take(step), bump.take(step), bump.take(padded(rnn.parts * u)));
            // SAFETY: rows `first..first + rows` of every buffer and this worker's scratch memory; tasks have different
            // rows.
            unsafe {
                carry.write_bytes(0, rows * step);
                carry_c.write_bytes(0, rows * step);
                no_sum.write_bytes(0, u);
                no_tape.write_bytes(0, rnn.parts * u);
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
                                0 => no_tape,
                                _ => tape.add((start + rnn.at(i - 1)) * rnn.parts * u),
                            },
                            gh: match self.of {
                                RnnGradOf::States => g.add(at * u),
                                RnnGradOf::Final if i + 1 == rnn.t => g.add((first + r) * u),
                                RnnGradOf::Final => std::ptr::null(),
                            },
                            carry: carry.add(r * step),
                            y,
                            carry_c: carry_c.add(r * step),
                            da: da.add(r * wide),
                            dc: dc.add(r * step),
                            drh: drh.add(r * step),
                            gxw: gxw.add(at * rnn.gates * u),
                        }
                    };
                    for row in (0..rows).map(row) {
                        if lstm {
                            let (kind, x) = (rnn.outer, row.tape.add(u));
                            (self.activate)(&Activation { kind, x, plus: no_sum, to: y, len: u });
                        }
                        (self.first)(&row);
                    }
                    let mut later = Later::none();
                    if i > 0 {
                        // Of the tape, two steps further: its states are those before the next step.
                        let run = |p: *const f32, i: usize, len: usize| {
                            (p.wrapping_add((first * rnn.t + rnn.at(i)) * len), rnn.t * len, len)
                        };
                        let states = match self.of {
                            RnnGradOf::States => run(g, i - 1, u),
                            RnnGradOf::Final => NO_RUN,
                        };
                        let before = run(tape, i.saturating_sub(2), rnn.parts * u);
                        later = Later::new(rows, [before, run(gxw, i - 1, rnn.gates * u), states]);
                    }
                    if gru {
                        let (a_step, c_step, bias) = (step, step, std::ptr::null());
                        let x = StepRows { rows, a: dc, a_step, c: drh, c_step, bias, add: false };
                        self.candidate.run(right, &x, &mut later);
                        (0..rows).for_each(|r| (self.second)(&row(r)));
                    }
                    if i > 0 {
                        // Nothing else goes from state to state in `lstm`.
                        let (a_step, c_step, bias) = (wide, step, std::ptr::null());
                        let x = StepRows { rows, a: da, a_step, c: carry, c_step, bias, add: !lstm };
                        self.gates.run(left, &x, &mut later);
                    }
                }
            }
        });
    }
}
