//! Straightforward versions of all library kernels, one chunk each. In and out: as [`LibKernel`]. They keep the
//! definitions readable; faster kernels take their place call by call.

use super::{CallError, Conv, Io, Level, LibKernel, Phase};
use crate::plan::LibCall;

pub(super) fn prepare(call: &LibCall, syms: &[u64], _level: Level) -> Result<Box<dyn LibKernel>, CallError> {
    let size = |d: &crate::dim::Dim| d.eval(syms) as usize;
    let op = match call {
        LibCall::MatMul { batch, m, n, k, ta, tb } => {
            Op::MatMul { batch: size(batch), m: size(m), n: size(n), k: size(k), ta: *ta, tb: *tb }
        }
        LibCall::ConvForward(g) => Op::Conv(Conv::new(g, syms)),
        LibCall::ConvGradInput(g) => Op::ConvGradInput(Conv::new(g, syms)),
        LibCall::ConvGradWeight(g) => Op::ConvGradWeight(Conv::new(g, syms)),
        LibCall::MaxPool(g) => Op::MaxPool(Conv::pooling(g, syms)),
        LibCall::MaxPoolGrad(g) => Op::MaxPoolGrad(Conv::pooling(g, syms)),
        LibCall::AvgPool(g) => Op::AvgPool(Conv::pooling(g, syms)),
        LibCall::AvgPoolGrad(g) => Op::AvgPoolGrad(Conv::pooling(g, syms)),
        LibCall::Softmax { rows, cols, log } => Op::Softmax { rows: size(rows), cols: size(cols), log: *log },
        LibCall::ArgMax { rows, cols } => Op::ArgMax { rows: size(rows), cols: size(cols) },
    };
    Ok(Box::new(Plain(op)))
}

enum Op {
    MatMul { batch: usize, m: usize, n: usize, k: usize, ta: bool, tb: bool },
    Conv(Conv),
    ConvGradInput(Conv),
    ConvGradWeight(Conv),
    MaxPool(Conv),
    MaxPoolGrad(Conv),
    AvgPool(Conv),
    AvgPoolGrad(Conv),
    Softmax { rows: usize, cols: usize, log: bool },
    ArgMax { rows: usize, cols: usize },
}

struct Plain(Op);

impl LibKernel for Plain {
    fn phases(&self) -> &[Phase] {
        &[Phase { chunks: 1, parallel: false }]
    }

    unsafe fn run(&self, _phase: usize, _chunk: usize, io: &Io<'_>) {
        let b = io.bufs;
        // SAFETY: every index below stays within the buffer lengths of `buffer_lens`, which `io` fulfils.
        unsafe {
            match &self.0 {
                Op::MatMul { batch, m, n, k, ta, tb } => {
                    for g in 0..*batch {
                        let (pa, pb, pc) = (b[0].add(g * m * k), b[1].add(g * k * n), b[2].add(g * m * n));
                        for i in 0..*m {
                            for j in 0..*n {
                                let mut sum = 0.0;
                                for l in 0..*k {
                                    let x = *pa.add(if *ta { l * m + i } else { i * k + l });
                                    let y = *pb.add(if *tb { j * k + l } else { l * n + j });
                                    sum += x * y;
                                }
                                *pc.add(i * n + j) = sum;
                            }
                        }
                    }
                }
                Op::Conv(c) => {
                    std::ptr::write_bytes(b[2], 0, c.outputs());
                    c.taps(|x, y, w| {
                        for i in 0..c.cin {
                            for o in 0..c.cout {
                                *b[2].add(y * c.cout + o) +=
                                    *b[0].add(x * c.cin + i) * *b[1].add((w * c.cin + i) * c.cout + o);
                            }
                        }
                    });
                }
                Op::ConvGradInput(c) => {
                    std::ptr::write_bytes(b[2], 0, c.inputs());
                    c.taps(|x, y, w| {
                        for i in 0..c.cin {
                            for o in 0..c.cout {
                                *b[2].add(x * c.cin + i) +=
                                    *b[0].add(y * c.cout + o) * *b[1].add((w * c.cin + i) * c.cout + o);
                            }
                        }
                    });
                }
                Op::ConvGradWeight(c) => {
                    std::ptr::write_bytes(b[2], 0, c.weights());
                    c.taps(|x, y, w| {
                        for i in 0..c.cin {
                            for o in 0..c.cout {
                                *b[2].add((w * c.cin + i) * c.cout + o) +=
                                    *b[0].add(x * c.cin + i) * *b[1].add(y * c.cout + o);
                            }
                        }
                    });
                }
                Op::MaxPool(c) => {
                    for i in 0..c.outputs() {
                        *b[1].add(i) = f32::NEG_INFINITY;
                    }
                    c.taps(|x, y, _| {
                        for i in 0..c.cin {
                            let (v, best) = (*b[0].add(x * c.cin + i), b[1].add(y * c.cin + i));
                            if v > *best || v.is_nan() {
                                *best = v;
                            }
                        }
                    });
                }
                Op::MaxPoolGrad(c) => {
                    std::ptr::write_bytes(b[3], 0, c.inputs());
                    for i in 0..c.cin {
                        let mut winner = usize::MAX;
                        c.taps(|x, y, _| {
                            let (v, best) = (*b[0].add(x * c.cin + i), *b[1].add(y * c.cin + i));
                            if winner != y && (v == best || (v.is_nan() && best.is_nan())) {
                                winner = y;
                                *b[3].add(x * c.cin + i) += *b[2].add(y * c.cin + i);
                            }
                        });
                    }
                }
                Op::AvgPool(c) => {
                    std::ptr::write_bytes(b[1], 0, c.outputs());
                    let mut cells = vec![0.0_f32; c.outputs() / c.cout.max(1)];
                    c.taps(|_, y, _| cells[y] += 1.0);
                    c.taps(|x, y, _| {
                        for i in 0..c.cin {
                            *b[1].add(y * c.cin + i) += *b[0].add(x * c.cin + i) / cells[y];
                        }
                    });
                }
                Op::AvgPoolGrad(c) => {
                    std::ptr::write_bytes(b[1], 0, c.inputs());
                    let mut cells = vec![0.0_f32; c.outputs() / c.cout.max(1)];
                    c.taps(|_, y, _| cells[y] += 1.0);
                    c.taps(|x, y, _| {
                        for i in 0..c.cin {
                            *b[1].add(x * c.cin + i) += *b[0].add(y * c.cin + i) / cells[y];
                        }
                    });
                }
                Op::Softmax { rows, cols, log } => {
                    for r in 0..*rows {
                        let (x, y) = (b[0].add(r * cols), b[1].add(r * cols));
                        let max = (0..*cols).map(|i| *x.add(i)).fold(f32::NEG_INFINITY, f32::max);
                        let sum: f32 = (0..*cols).map(|i| (*x.add(i) - max).exp()).sum();
                        for i in 0..*cols {
                            let d = *x.add(i) - max;
                            *y.add(i) = if *log { d - sum.ln() } else { d.exp() / sum };
                        }
                    }
                }
                Op::ArgMax { rows, cols } => {
                    for r in 0..*rows {
                        let x = b[0].add(r * cols);
                        let mut best = 0;
                        for i in 1..*cols {
                            if *x.add(i) > *x.add(best) {
                                best = i;
                            }
                        }
                        *b[1].add(r) = best as f32;
                    }
                }
            }
        }
    }
}

impl Conv {
    fn inputs(&self) -> usize {
        self.batch * self.input.iter().product::<usize>() * self.cin
    }

    fn outputs(&self) -> usize {
        self.batch * self.output.iter().product::<usize>() * self.cout
    }

    fn weights(&self) -> usize {
        self.kernel.iter().product::<usize>() * self.cin * self.cout
    }

    /// Calls `f(input cell, output cell, kernel cell)` for every pair that meets, outputs in order.
    fn taps(&self, mut f: impl FnMut(usize, usize, usize)) {
        let [id, ih, iw] = self.input;
        let mut y = 0;
        for n in 0..self.batch {
            for_each(self.output, |o| {
                let mut w = 0;
                for_each(self.kernel, |k| {
                    let at = [0, 1, 2].map(|a| self.position(a, o[a], k[a]));
                    if let [Some(d), Some(h), Some(x)] = at {
                        f(((n * id + d) * ih + h) * iw + x, y, w);
                    }
                    w += 1;
                });
                y += 1;
            });
        }
    }
}

fn for_each(shape: [usize; 3], mut f: impl FnMut([usize; 3])) {
    for a in 0..shape[0] {
        for b in 0..shape[1] {
            for c in 0..shape[2] {
                f([a, b, c]);
            }
        }
    }
}
