//! The product of a step: states of some rows by the recurrent kernel. In: the kernel, which all steps and tasks share, and
//! the rows of one task. Out: their products. Invariant: each element is a chain of multiply-adds in ascending order of the
//! inner index, so it does not matter with how many other rows a row is computed.
//!
//! The kernel is packed once a call into panels of as many columns as a register tile has, so that a step reads it from
//! end to end; a step then is nothing but tiles.

use crate::cpu::Level;
use crate::cpu::gemm::{AHEAD_EVERY, Kernels, LINE, ONE_SEGMENT, SLACK, Tile, even, kernels};
use crate::cpu::par::{Par, Shared, run_tasks};

/// Most inner indices of a tile: a panel of them, and the rows, then fit the first-level cache.
const DEPTH: usize = 384;
/// Floats that a task packs.
const PACKED: usize = 16 << 10;
/// Runs of memory that a row of the next step has.
const RUNS: usize = 3;

/// Distance of the rows of a small matrix in scratch memory: whole cache lines, and never a multiple of a page, lest rows
/// fall into one cache set.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(16) + 16
}

/// A product with a part of the recurrent kernel.
#[derive(Clone, Copy)]
pub(super) struct StepProduct {
    ker: &'static Kernels,
    /// Inner size and columns.
    k: usize,
    n: usize,
    /// Columns of a panel.
    width: usize,
    /// The part of the kernel: its first column, the kernel's row length, and whether it is transposed.
    first: usize,
    stride: usize,
    trans: bool,
}

/// The rows of a task, the result, and what is done with it.
pub(super) struct StepRows {
    pub(super) rows: usize,
    /// Rows of inner indices, and their distance.
    pub(super) a: *const f32,
    pub(super) a_step: usize,
    /// Rows of the result, and their distance.
    pub(super) c: *mut f32,
    pub(super) c_step: usize,
    /// Added to every row; null for none.
    pub(super) bias: *const f32,
    /// Whether the product is added to the result instead of replacing it.
    pub(super) add: bool,
}

/// No run of [`Later`].
pub(super) const NO_RUN: (*const f32, usize, usize) = (std::ptr::null(), 0, 0);

/// Memory that the next step reads or writes. Tiles ask for it piece by piece: all at once, it would hold up the loads of
/// others.
pub(super) struct Later {
    /// First float for the first row, distance of rows, floats of each row.
    runs: [(*const f32, usize, usize); RUNS],
    rows: usize,
    run: usize,
    row: usize,
    at: usize,
}

impl Later {
    /// Nothing.
    pub(super) fn none() -> Later {
        Later::new(0, [NO_RUN; RUNS])
    }

    /// Of some rows. The memory need not be valid.
    pub(super) fn new(rows: usize, runs: [(*const f32, usize, usize); RUNS]) -> Later {
        Later { runs, rows, run: 0, row: 0, at: 0 }
    }

    /// The start of the next `len` floats, until all are handed out.
    fn take(&mut self, len: usize) -> Option<*const f32> {
        if self.rows == 0 {
            return None;
        }
        let (start, stride, whole) = *self.runs.get(self.run)?;
        if whole == 0 {
            return None;
        }
        let part = start.wrapping_add(self.row * stride + self.at);
        self.at += len;
        if self.at >= whole {
            (self.at, self.row) = (0, self.row + 1);
        }
        if self.row == self.rows {
            (self.row, self.run) = (0, self.run + 1);
        }
        Some(part)
    }
}

impl StepProduct {
    /// By columns `first..first + n` of a kernel `[k, stride]`; or, if `trans`, by the transpose of columns
    /// `first..first + k` of a kernel `[n, stride]`. Tasks have `rows` rows.
    pub(super) fn new(
        rows: usize,
        (k, n): (usize, usize),
        first: usize,
        stride: usize,
        trans: bool,
        level: Level,
    ) -> StepProduct {
        let ker = kernels(level);
        let width = if rows <= ker.mr { ker.flat(rows.max(1), true).1 * ker.w } else { ker.nr() };
        StepProduct { ker, k, n, width, first, stride, trans }
    }

    /// Columns of a panel.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Floats of the packed matrix.
    pub(super) fn len(&self) -> usize {
        if self.n == 0 { 0 } else { (self.k * self.n.next_multiple_of(self.width) + SLACK).next_multiple_of(16) }
    }

    /// Packs the matrix.
    ///
    /// # Safety
    /// `kernel` is as [`StepProduct::new`] was told, and `packed` has [`StepProduct::len`] floats.
    pub(super) unsafe fn pack(&self, par: &Par<'_>, kernel: *const f32, packed: *mut f32) {
        let StepProduct { ker, k, n, width, first, .. } = *self;
        let per_task = (PACKED / (k * width).max(1)).max(1);
        let pointers = Shared((kernel, packed));
        run_tasks(par, n.div_ceil(width).div_ceil(per_task), &|task, _| {
            let (kernel, packed) = pointers.get();
            for j in (task * per_task * width..n.min((task + 1) * per_task * width)).step_by(ker.nr()) {
                let panel = packed.wrapping_add(j / width * width * k + j % width);
                let cols = ker.nr().min(n - j);
                // SAFETY: panels have their own places, and what is written beyond columns stays in the panel.
                unsafe {
                    if self.trans {
                        let source = kernel.add(j * self.stride + first);
                        (ker.transpose)(source, self.stride, cols, k, panel, width, false);
                    } else {
                        (ker.copy)(kernel.add(first + j), self.stride, k, cols, panel, width);
                    }
                }
            }
        });
    }

    /// Multiplies.
    ///
    /// # Safety
    /// `packed` is what [`StepProduct::pack`] has written, and the rows have `k` and `n` floats.
    pub(super) unsafe fn run(&self, packed: *const f32, x: &StepRows, later: &mut Later) {
        let StepProduct { ker, k, n, width, .. } = *self;
        // Rows are cut evenly: tiles of few rows have too few sums to hide the time that an addition takes.
        let (blocks, depth) = (x.rows.div_ceil(ker.mr), even(k, DEPTH));
        let (least, more) = (x.rows / blocks, x.rows % blocks);
        // Wide panels are made for tasks with few rows.
        let wide_tile = ker.flat(x.rows.div_ceil(blocks), true);
        for panel in (0..n).step_by(width) {
            let (mut j, end) = (panel, n.min(panel + width));
            while j < end {
                // The last panel may be too narrow for a wide tile, and the last task may have fewer rows than the others.
                let rest = (end - j).div_ceil(ker.w);
                let wide = wide_tile.1 > 2 && wide_tile.1 * ker.w == width && rest >= wide_tile.1;
                let nv = if wide { wide_tile.1 } else { rest.min(2) };
                let cols = (end - j).min(nv * ker.w);
                for p in (0..k).step_by(depth) {
                    let last = p + depth >= k;
                    let mut i = 0;
                    for block in 0..blocks {
                        let h = least + usize::from(block < more);
                        let kernel = if wide { wide_tile.0 } else { ker.tile(h, nv, true) };
                        // SAFETY: all indices are inside the matrices that the caller vouches for.
                        unsafe {
                            let b = packed.add(panel * k + j - panel + p * width);
                            kernel(&Tile {
                                a: x.a.add(i * x.a_step + p),
                                segs: ONE_SEGMENT.as_ptr(),
                                nseg: 1,
                                seg_len: depth.min(k - p),
                                a_step: x.a_step,
                                b,
                                b_step: width,
                                b_skip: 0,
                                c: x.c.add(i * x.c_step + j),
                                c_step: x.c_step,
                                tail: cols - (nv - 1) * ker.w,
                                accumulate: x.add || p > 0,
                                bias: if last && !x.bias.is_null() { x.bias.add(j) } else { std::ptr::null() },
                                relu: false,
                                ahead: later.take(depth * 2 * LINE / AHEAD_EVERY).unwrap_or(b),
                            });
                        }
                        i += h;
                    }
                }
                j += cols;
            }
        }
    }
}
