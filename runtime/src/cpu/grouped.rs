//! Grouped convolutions and their gradients: channels in groups that do not see each other; one group a channel is a
//! depthwise convolution. In: x `[batch, d, h, w, cin]`, kernel `[kd, kh, kw, cin / groups, cout]`. Out: as
//! [`super::conv`]. Invariant: tasks own rows of the result, so the order of every sum follows from the sizes alone.

use super::par::{Par, Shared, run_tasks};
use super::{Conv, Io, LibKernel, Scratch};

/// Which of the three passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupPass {
    /// Buffers x, w, y.
    Forward,
    /// Buffers gy, w, gx.
    GradInput,
    /// Buffers x, gy, gw.
    GradWeight,
}

/// A grouped convolution with concrete sizes.
pub(super) struct Grouped {
    c: Conv,
    /// Input and output channels of a group.
    cin: usize,
    cout: usize,
    pass: GroupPass,
}

/// A cell of a volume as `[depth, height, width]`.
type Cell = [usize; 3];

fn flat(sizes: Cell, at: Cell) -> usize {
    (at[0] * sizes[1] + at[1]) * sizes[2] + at[2]
}

fn cell(sizes: Cell, i: usize) -> Cell {
    [i / (sizes[1] * sizes[2]), i / sizes[2] % sizes[1], i % sizes[2]]
}

fn count(sizes: Cell) -> usize {
    sizes.iter().product()
}

impl Grouped {
    /// `groups` divides both channel counts.
    pub(super) fn new(c: Conv, groups: usize, pass: GroupPass) -> Grouped {
        Grouped { cin: c.cin / groups.max(1), cout: c.cout / groups.max(1), c, pass }
    }

    /// The input cell under tap `k` of output cell `o`, unless it lies in the padding.
    fn under(&self, o: Cell, k: Cell) -> Option<Cell> {
        let c = &self.c;
        let mut at = [0; 3];
        for a in 0..3 {
            let i = (o[a] * c.stride[a] + k[a] * c.dilation[a]).checked_sub(c.pad[a])?;
            if i >= c.input[a] {
                return None;
            }
            at[a] = i;
        }
        Some(at)
    }

    /// The output cell that sees input cell `i` under tap `k`, if there is one.
    fn above(&self, i: Cell, k: Cell) -> Option<Cell> {
        let c = &self.c;
        let mut at = [0; 3];
        for a in 0..3 {
            let o = (i[a] + c.pad[a]).checked_sub(k[a] * c.dilation[a])?;
            if !o.is_multiple_of(c.stride[a]) || o / c.stride[a] >= c.output[a] {
                return None;
            }
            at[a] = o / c.stride[a];
        }
        Some(at)
    }

    /// Weights of one tap: `[cin / groups, cout]`.
    fn tap(&self) -> usize {
        self.cin * self.c.cout
    }

    /// y of one pixel += x of one pixel through the weights of a tap.
    fn forward(&self, x: &[f32], w: &[f32], y: &mut [f32]) {
        if self.cin == 1 && self.cout == 1 {
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y += x * w;
            }
            return;
        }
        for (g, y) in y.chunks_exact_mut(self.cout).enumerate() {
            for (ci, x) in x[g * self.cin..][..self.cin].iter().enumerate() {
                let w = &w[ci * self.c.cout + g * self.cout..][..self.cout];
                for (y, w) in y.iter_mut().zip(w) {
                    *y += x * w;
                }
            }
        }
    }

    /// gx of one pixel += gy of one pixel through the weights of a tap.
    fn grad_input(&self, gy: &[f32], w: &[f32], gx: &mut [f32]) {
        for (g, gx) in gx.chunks_exact_mut(self.cin).enumerate() {
            let gy = &gy[g * self.cout..][..self.cout];
            for (ci, gx) in gx.iter_mut().enumerate() {
                let w = &w[ci * self.c.cout + g * self.cout..][..self.cout];
                *gx += gy.iter().zip(w).map(|(g, w)| g * w).sum::<f32>();
            }
        }
    }

    /// gw of a tap += x of one pixel times gy of another.
    fn grad_weight(&self, x: &[f32], gy: &[f32], gw: &mut [f32]) {
        for (g, gy) in gy.chunks_exact(self.cout).enumerate() {
            for (ci, x) in x[g * self.cin..][..self.cin].iter().enumerate() {
                let gw = &mut gw[ci * self.c.cout + g * self.cout..][..self.cout];
                for (gw, gy) in gw.iter_mut().zip(gy) {
                    *gw += x * gy;
                }
            }
        }
    }
}

/// `len` floats from `at` on.
///
/// # Safety
/// They lie in the buffer, and nobody writes them meanwhile.
unsafe fn part<'a>(buf: *const f32, at: usize, len: usize) -> &'a [f32] {
    // SAFETY: passed on to the caller.
    unsafe { std::slice::from_raw_parts(buf.add(at), len) }
}

/// `len` floats from `at` on, to be written.
///
/// # Safety
/// They lie in the buffer, and nobody else touches them meanwhile.
unsafe fn part_mut<'a>(buf: *mut f32, at: usize, len: usize) -> &'a mut [f32] {
    // SAFETY: passed on to the caller.
    unsafe { std::slice::from_raw_parts_mut(buf.add(at), len) }
}

impl LibKernel for Grouped {
    fn scratch(&self) -> Scratch {
        match self.pass {
            GroupPass::GradWeight => Scratch { shared: 0, local: self.tap() * 4 },
            _ => Scratch::default(),
        }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let c = &self.c;
        let (a, b, out) = (io.bufs[0], io.bufs[1], io.bufs[2]);
        let bufs = Shared((a.cast_const(), b.cast_const(), out, io.scratch));
        let (cells_in, cells_out, taps) = (count(c.input), count(c.output), count(c.kernel));
        // The result's pixels lie in rows along the last axis; a task has one row, or one tap of the kernel.
        let (sizes, channels, cells) = match self.pass {
            GroupPass::Forward => (c.output, c.cout, cells_out),
            _ => (c.input, c.cin, cells_in),
        };
        let rows = cells.checked_div(sizes[2]).unwrap_or(0);
        match self.pass {
            GroupPass::Forward | GroupPass::GradInput => run_tasks(par, c.batch * rows, &|task, _| {
                let (from, w, to, _) = bufs.get();
                let (n, row) = (task / rows, task % rows);
                for i in row * sizes[2]..(row + 1) * sizes[2] {
                    // SAFETY: cells lie in their volumes, so all parts lie in the buffers; the row is this task's.
                    unsafe {
                        let result = part_mut(to, (n * cells + i) * channels, channels);
                        result.fill(0.0);
                        for t in 0..taps {
                            let w = part(w, t * self.tap(), self.tap());
                            let (here, tap) = (cell(sizes, i), cell(c.kernel, t));
                            if self.pass == GroupPass::Forward {
                                let Some(at) = self.under(here, tap) else { continue };
                                let x = part(from, (n * cells_in + flat(c.input, at)) * c.cin, c.cin);
                                self.forward(x, w, result);
                            } else {
                                let Some(at) = self.above(here, tap) else { continue };
                                let gy = part(from, (n * cells_out + flat(c.output, at)) * c.cout, c.cout);
                                self.grad_input(gy, w, result);
                            }
                        }
                    }
                }
            }),
            GroupPass::GradWeight => run_tasks(par, taps, &|t, worker| {
                let (x, gy, gw, scratch) = bufs.get();
                // SAFETY: as above; the tap is this task's and the scratch memory its worker's.
                unsafe {
                    let gw = part_mut(gw, t * self.tap(), self.tap());
                    let own = part_mut(scratch, worker * self.tap(), self.tap());
                    gw.fill(0.0);
                    for n in 0..c.batch {
                        // A sum of the sums of samples loses less than one long chain.
                        own.fill(0.0);
                        for o in 0..cells_out {
                            let Some(at) = self.under(cell(c.output, o), cell(c.kernel, t)) else { continue };
                            let x = part(x, (n * cells_in + flat(c.input, at)) * c.cin, c.cin);
                            let gy = part(gy, (n * cells_out + o) * c.cout, c.cout);
                            self.grad_weight(x, gy, own);
                        }
                        for (sum, own) in gw.iter_mut().zip(own.iter()) {
                            *sum += own;
                        }
                    }
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, values};
    use super::super::{Level, prepare};
    use crate::dim::Dim;
    use crate::plan::{ConvGeometry, LibCall, PAD_SAME};

    /// Direct sums in f64 of all three passes, with the sums of absolute terms.
    fn compare(g: &ConvGeometry, batch: usize) {
        let of = |d: Dim| d.eval(&[batch as u64]) as usize;
        let (i, o, k) = (g.input.map(of), g.output.map(of), g.kernel.map(|k| k as usize));
        let (cin, cout, groups) = (g.cin as usize, g.cout as usize, g.groups as usize);
        let (gi, go) = (cin / groups, cout / groups);
        let len = |s: [usize; 3]| s.iter().product::<usize>();
        let x = values(batch * len(i) * cin, 1);
        let w = values(len(k) * gi * cout, 2);
        let gy = values(batch * len(o) * cout, 3);
        let mut y = vec![(0.0, 0.0); gy.len()];
        let mut gx = vec![(0.0, 0.0); x.len()];
        let mut gw = vec![(0.0, 0.0); w.len()];
        let add = |s: &mut (f64, f64), a: f32, b: f32| {
            let p = f64::from(a) * f64::from(b);
            *s = (s.0 + p, s.1 + p.abs());
        };
        let pad: Vec<usize> = (0..3)
            .map(|a| match g.pad[a] {
                PAD_SAME => ((o[a].max(1) - 1) * g.stride[a] as usize + k[a]).saturating_sub(i[a]) / 2,
                p => p as usize,
            })
            .collect();
        let cells = |s: [usize; 3]| (0..len(s)).map(move |f| super::cell(s, f));
        for n in 0..batch {
            for oc in cells(o) {
                for kc in cells(k) {
                    let at: Option<Vec<usize>> = (0..3)
                        .map(|a| {
                            let p = oc[a] * g.stride[a] as usize + kc[a] * g.dilation[a] as usize;
                            p.checked_sub(pad[a]).filter(|p| *p < i[a])
                        })
                        .collect();
                    let Some(at) = at else { continue };
                    let ic = [at[0], at[1], at[2]];
                    for co in 0..cout {
                        for ci in 0..gi {
                            let xi = (n * len(i) + super::flat(i, ic)) * cin + co / go * gi + ci;
                            let wi = (super::flat(k, kc) * gi + ci) * cout + co;
                            let yi = (n * len(o) + super::flat(o, oc)) * cout + co;
                            add(&mut y[yi], x[xi], w[wi]);
                            add(&mut gx[xi], gy[yi], w[wi]);
                            add(&mut gw[wi], x[xi], gy[yi]);
                        }
                    }
                }
            }
        }
        let split = |v: &[(f64, f64)]| v.iter().map(|p| (p.0, p.1 + 1e-3)).unzip::<f64, f64, Vec<_>, Vec<_>>();
        let syms = [batch as u64];
        let ((want, scale), tolerance) = (split(&y), 2e-6);
        check(&LibCall::ConvForward(*g), &syms, &[&x, &w], &want, &scale, tolerance);
        let (want, scale) = split(&gx);
        check(&LibCall::ConvGradInput(*g), &syms, &[&gy, &w], &want, &scale, tolerance);
        let (want, scale) = split(&gw);
        check(&LibCall::ConvGradWeight(*g), &syms, &[&x, &gy], &want, &scale, tolerance);
    }

    #[test]
    fn groups_equal_direct_sums() {
        let sizes = |v: [u64; 3]| v.map(Dim::constant);
        for (groups, cin, cout) in [(2, 4, 6), (3, 3, 3), (7, 7, 14), (33, 33, 33), (17, 17, 34)] {
            for (input, output, kernel, stride, pad, dilation) in [
                ([1, 7, 9], [1, 7, 9], [1, 3, 3], [1, 1, 1], [0, 1, 1], [1, 1, 1]),
                ([1, 1, 17], [1, 1, 7], [1, 1, 4], [1, 1, 2], [0, 0, 0], [1, 1, 1]),
                ([3, 5, 4], [2, 3, 2], [2, 2, 3], [2, 2, 2], [0, 1, 1], [1, 1, 1]),
                ([1, 9, 9], [1, 5, 5], [1, 3, 3], [1, 1, 1], [0, 0, 0], [1, 2, 2]),
            ] {
                let (input, output) = (sizes(input), sizes(output));
                let batch = Dim::batch();
                let g = ConvGeometry { batch, input, output, kernel, stride, pad, dilation, cin, cout, groups };
                for n in [1, 3] {
                    compare(&g, n);
                }
            }
        }
    }

    #[test]
    fn padding_follows_the_size_where_it_varies() {
        let kernel = [1, 1, 3];
        let (stride, dilation, pad) = ([1, 1, 2], [1; 3], [0, 0, PAD_SAME]);
        for (n, out) in [(1_u64, 1_u64), (7, 4), (8, 4), (33, 17)] {
            for (groups, cin, cout) in [(1, 3, 5), (3, 3, 3)] {
                let one = Dim::ONE;
                let (input, output) = ([one, one, n.into()], [one, one, out.into()]);
                let batch = Dim::batch();
                compare(&ConvGeometry { batch, input, output, kernel, stride, pad, dilation, cin, cout, groups }, 2);
            }
        }
    }

    #[test]
    fn groups_that_do_not_divide_the_channels_are_refused() {
        let one = [Dim::ONE; 3];
        for (groups, cin, cout) in [(0, 3, 3), (2, 3, 4), (2, 4, 3)] {
            let (kernel, stride, dilation, pad) = ([1; 3], [1; 3], [1; 3], [0; 3]);
            let (batch, input, output) = (Dim::ONE, one, one);
            let g = ConvGeometry { batch, input, output, kernel, stride, pad, dilation, cin, cout, groups };
            assert!(prepare(&LibCall::ConvForward(g), &[1], Level::Baseline).is_err());
        }
    }
}
