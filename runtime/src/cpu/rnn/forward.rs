//! A recurrent layer forwards. In: xw `[n,t,G·u]`, recurrent kernel, bias. Out: the tape `[n,t,K·u]`.

use super::cells::{Forward, gru_after_for, gru_gates_for, gru_state_for, lstm_for};
use super::{Bump, Products, ROWS, Rnn, split_columns};
use crate::cpu::gemm::Epilogue;
use crate::cpu::par::{Par, Shared, run_tasks, serial};
use crate::cpu::{Io, Level, LibKernel, Scratch};
use crate::plan::RnnCell;

/// The kernel.
pub(crate) struct Forwards {
    rnn: Rnn,
    /// State by recurrent kernel: all gates, or the first two of `gru`.
    gates: Products,
    /// r∘h by the candidate's kernel of `gru`.
    candidate: Products,
    first: unsafe fn(&Forward),
    second: unsafe fn(&Forward),
}

impl Forwards {
    pub(crate) fn new(rnn: Rnn, level: Level) -> Forwards {
        let u = rnn.u;
        Forwards {
            rnn,
            gates: Products::new(&rnn, rnn.plain(), u, false, level),
            candidate: Products::new(&rnn, if rnn.cell == RnnCell::Gru { u } else { 0 }, u, false, level),
            first: match rnn.cell {
                RnnCell::Gru => gru_gates_for(level),
                RnnCell::GruAfter => gru_after_for(level),
                RnnCell::Lstm => lstm_for(level),
            },
            second: gru_state_for(level),
        }
    }

    /// Floats of each worker: h, c, r∘h, the candidate's product, the gates' product, workspace.
    fn local(&self) -> usize {
        let rnn = &self.rnn;
        ROWS * (4 * rnn.u + rnn.plain()) + self.gates.workspace().max(self.candidate.workspace())
    }
}

impl LibKernel for Forwards {
    fn scratch(&self) -> Scratch {
        Scratch { shared: self.rnn.split_len() * 4, local: self.local() * 4 }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let rnn = &self.rnn;
        let (u, gru) = (rnn.u, rnn.cell == RnnCell::Gru);
        let (xw, kernel, tape) = (io.bufs[0], io.bufs[1], io.bufs[io.bufs.len() - 1]);
        let bias = (rnn.cell == RnnCell::GruAfter).then(|| io.bufs[2].cast_const());
        let (mut left, mut right) = (kernel, kernel);
        if gru {
            (left, right) = (io.scratch, io.scratch.wrapping_add(2 * u * u));
            // SAFETY: the recurrent kernel is `[u, 3u]`; the shared scratch memory holds both parts.
            unsafe { split_columns(par, kernel, u, (2 * u, u), (left, right)) };
        }
        let pointers = Shared((xw, left, right, bias, tape, io.scratch.wrapping_add(rnn.split_len())));
        run_tasks(par, rnn.n.div_ceil(ROWS), &|task, worker| {
            let (xw, left, right, bias, tape, scratch) = pointers.get();
            let (first, rows) = (task * ROWS, ROWS.min(rnn.n - task * ROWS));
            let mut bump = Bump(scratch.wrapping_add(worker * self.local()));
            let (h, c, rh) = (bump.take(ROWS * u), bump.take(ROWS * u), bump.take(ROWS * u));
            let (candidate, hu) = (bump.take(ROWS * u), bump.take(ROWS * rnn.plain()));
            let work = bump.0;
            // SAFETY: rows `first..first + rows` of every buffer and this worker's scratch memory; tasks have different
            // rows.
            unsafe {
                h.write_bytes(0, rows * u);
                c.write_bytes(0, rows * u);
                let epilogue = Epilogue { bias, relu: false };
                let product = |p: &Products, e: &Epilogue, a, b, to| {
                    p.of(rows).run_fused(&serial, e, &Io { bufs: &[a, b, to], scratch: work });
                };
                for t in (0..rnn.t).map(|i| rnn.at(i)) {
                    let row = |r: usize| {
                        let at = (first + r) * rnn.t + t;
                        Forward {
                            u,
                            inner: rnn.inner,
                            outer: rnn.outer,
                            xw: xw.add(at * rnn.gates * u),
                            hu: hu.add(r * rnn.plain()),
                            candidate: candidate.add(r * u),
                            h: h.add(r * u),
                            c: c.add(r * u),
                            rh: rh.add(r * u),
                            tape: tape.add(at * rnn.parts * u),
                        }
                    };
                    product(&self.gates, &epilogue, h, left, hu);
                    (0..rows).for_each(|r| (self.first)(&row(r)));
                    if gru {
                        product(&self.candidate, &Epilogue::default(), rh, right, candidate);
                        (0..rows).for_each(|r| (self.second)(&row(r)));
                    }
                }
            }
        });
    }
}
