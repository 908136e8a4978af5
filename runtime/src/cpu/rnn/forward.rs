//! A recurrent layer forwards. In: xw `[n,t,G·u]`, recurrent kernel, bias. Out: the tape `[n,t,K·u]`.

use super::cells::{Activation, Forward, activation_for, gru_after_for, gru_gates_for, gru_state_for, lstm_for};
use super::product::{Later, NO_RUN, StepProduct, StepRows, padded};
use super::{Bump, ROWS, Rnn, SLACK};
use crate::cpu::par::{Par, Shared, run_tasks};
use crate::cpu::{Io, Level, LibKernel, PackLayout, Packing, Scratch};
use crate::plan::RnnCell;

/// The kernel.
pub(crate) struct Forwards {
    rnn: Rnn,
    /// State by recurrent kernel: all gates, or the first two of `gru`.
    gates: StepProduct,
    /// r∘h by the candidate's kernel of `gru`.
    candidate: StepProduct,
    activate: unsafe fn(&Activation),
    first: unsafe fn(&Forward),
    second: unsafe fn(&Forward),
}

impl Forwards {
    pub(crate) fn new(rnn: Rnn, level: Level) -> Forwards {
        let u = rnn.u;
        let product = |first, n| StepProduct::new(rnn.rows(1), (u, n), first, rnn.gates * u, false, level);
        Forwards {
            rnn,
            gates: product(0, rnn.plain()),
            candidate: product(rnn.plain(), rnn.other()),
            activate: activation_for(level),
            first: match rnn.cell {
                RnnCell::Gru => gru_gates_for(level),
                RnnCell::GruAfter => gru_after_for(level),
                RnnCell::Lstm => lstm_for(level),
            },
            second: gru_state_for(level),
        }
    }

    /// Floats of the packed kernel, which all workers share.
    fn packed(&self) -> usize {
        self.gates.len() + self.candidate.len()
    }

    /// Floats of each worker: h, c, r∘h, the candidate's product, the gates' product, zeros.
    fn local(&self) -> usize {
        let (u, plain) = (self.rnn.u, self.rnn.plain());
        self.rnn.rows(1) * (4 * padded(u) + padded(plain)) + padded(u)
    }
}

impl LibKernel for Forwards {
    fn scratch(&self) -> Scratch {
        Scratch { shared: (SLACK + self.packed()) * 4, local: self.local() * 4 }
    }

    fn packing(&self) -> Option<Packing> {
        let Rnn { n, t, u, gates, .. } = self.rnn;
        let layout = PackLayout::Recurrent([u, gates * u, self.gates.width(), self.candidate.width()]);
        // With more rows, packing costs less than 2 % of a few steps.
        (n <= ROWS && t > 1).then_some(Packing { operand: 1, floats: self.packed(), layout })
    }

    unsafe fn pack(&self, par: &Par<'_>, io: &Io<'_>, to: *mut f32) {
        // SAFETY: the recurrent kernel is `[u, G·u]`, and `to` has room for both parts.
        unsafe {
            self.gates.pack(par, io.bufs[1], to);
            self.candidate.pack(par, io.bufs[1], to.add(self.gates.len()));
        }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let rnn = &self.rnn;
        let (u, gru, most) = (rnn.u, rnn.cell == RnnCell::Gru, rnn.rows(io.threads));
        let (xw, tape) = (io.bufs[0], io.bufs[io.bufs.len() - 1]);
        let bias = if rnn.cell == RnnCell::GruAfter { io.bufs[2].cast_const() } else { std::ptr::null() };
        let mut bump = Bump::new(io.scratch);
        let mut packed = bump.take(self.packed()).cast_const();
        if !io.packed.is_null() {
            packed = io.packed;
        } else if rnn.t > 1 {
            // SAFETY: the shared scratch memory holds both parts.
            unsafe { self.pack(par, io, packed.cast_mut()) };
        }
        let (left, right) = (packed, packed.wrapping_add(self.gates.len()));
        let pointers = Shared((xw, left, right, bias, tape, bump.0));
        run_tasks(par, rnn.n.div_ceil(most), &|task, worker| {
            let (xw, left, right, bias, tape, scratch) = pointers.get();
            let (first, rows) = (task * most, most.min(rnn.n - task * most));
            let (step, wide) = (padded(u), padded(rnn.plain()));
            let mut bump = Bump(scratch.wrapping_add(worker * self.local()));
            let [h, c, rh, candidate] = std::array::from_fn(|_| bump.take(most * step));
            let (hu, zeros) = (bump.take(most * wide), bump.take(step));
            // SAFETY: rows `first..first + rows` of every buffer and this worker's scratch memory; tasks have different
            // rows.
            unsafe {
                // The state before the first step is 0, and so are its products.
                for (p, len) in [(h, rows * step), (c, rows * step), (candidate, rows * step), (zeros, step)] {
                    p.write_bytes(0, len);
                }
                for r in 0..rows {
                    match bias.is_null() {
                        true => hu.add(r * wide).write_bytes(0, rnn.plain()),
                        false => hu.add(r * wide).copy_from_nonoverlapping(bias, rnn.plain()),
                    }
                }
                let multiply = |p: &StepProduct, packed, a, (c, c_step), bias, later: &mut Later| {
                    p.run(packed, &StepRows { rows, a, a_step: step, c, c_step, bias, add: false }, later);
                };
                for i in 0..rnn.t {
                    let row = |r: usize| {
                        let at = (first + r) * rnn.t + rnn.at(i);
                        Forward {
                            u,
                            inner: rnn.inner,
                            outer: rnn.outer,
                            activate: self.activate,
                            xw: xw.add(at * rnn.gates * u),
                            hu: hu.add(r * wide),
                            candidate: candidate.add(r * step),
                            h: h.add(r * step),
                            c: c.add(r * step),
                            rh: rh.add(r * step),
                            zeros,
                            tape: tape.add(at * rnn.parts * u),
                        }
                    };
                    let mut later = Later::none();
                    if i + 1 < rnn.t {
                        let at = first * rnn.t + rnn.at(i + 1);
                        let run = |p: *const f32, len: usize| (p.wrapping_add(at * len), rnn.t * len, len);
                        later = Later::new(rows, [run(xw, rnn.gates * u), run(tape, rnn.parts * u), NO_RUN]);
                    }
                    if i > 0 {
                        multiply(&self.gates, left, h, (hu, wide), bias, &mut later);
                    }
                    (0..rows).for_each(|r| (self.first)(&row(r)));
                    if gru {
                        if i > 0 {
                            multiply(&self.candidate, right, rh, (candidate, step), std::ptr::null(), &mut later);
                        }
                        (0..rows).for_each(|r| (self.second)(&row(r)));
                    }
                }
            }
        });
    }
}
