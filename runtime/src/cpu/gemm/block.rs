//! One block of a product, computed by one task: packing and the loops around the tiles.
//!
//! In: views of both matrices and of the result, and private scratch memory. Out: the block of the result.

use super::kernels::{Kernels, MAX_COLS, MAX_MR};
use super::tile::{LINE, ONE_SEGMENT, Tile};
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

/// Rounds a workspace pointer up to a cache line; whoever sizes the workspace adds [`SLACK`] floats for it.
pub(crate) fn align(p: *mut f32) -> *mut f32 {
    p.wrapping_byte_add(p.addr().wrapping_neg() % 64)
}

/// Floats to add to a workspace for [`align`] and for what transposed copies may write past their end.
pub(crate) const SLACK: usize = 32;

/// The left matrix: element (i, p) is `ptr[i * rs + p * ks]`, where one of the strides is 1.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) ptr: *const f32,
    pub(crate) rs: usize,
    pub(crate) ks: usize,
    /// Rows run along the inner index (`ks` is 1).
    pub(crate) rows: bool,
    /// How it is packed (only if `rs` is 1).
    pub(crate) pack: Pack,
}

/// What is packed of a left matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pack {
    /// Nothing: it is read in place.
    Nothing,
    /// A run of inner indices at a time.
    Run,
    /// All inner indices, so that later blocks of the same rows find them.
    All,
    /// Nothing, because an earlier block did [`Pack::All`] in the same memory.
    Done,
}

/// The right matrix: element (p, j) is at `p * ks + j * cs`.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// Read in place; columns lie next to each other, `ks` apart along the inner index.
    Direct { ptr: *const f32, ks: usize },
    /// Packed by the task itself, panel by panel.
    Private(Source),
    /// Packed before, for so many columns: runs of inner indices, each of them panel by panel.
    Packed { ptr: *const f32, cols: usize },
}

/// A right matrix in memory.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) ptr: *const f32,
    /// Distance of neighbours along the inner index if `trans`, else 1 is the distance of columns.
    pub(crate) stride: usize,
    /// Stored `[n, k]`: columns are `stride` apart; otherwise inner indices are.
    pub(crate) trans: bool,
}

/// The result, row-major, and what to do at the end.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) ptr: *mut f32,
    pub(crate) rs: usize,
    /// Null for none.
    pub(crate) bias: *const f32,
    pub(crate) relu: bool,
}

/// Cuts `len` into the fewest equal pieces of at most `max`; returns the piece.
pub(crate) fn even(len: usize, max: usize) -> usize {
    len.div_ceil(len.div_ceil(max).max(1)).max(1)
}

/// Floats in a page of memory, which is also the size of one way of a first-level cache.
pub(crate) const PAGE: usize = 1024;

/// Rows of a tile when `m` rows are cut into equal panels. Rows (`rows`: they run along the inner index) a multiple of
/// a page apart share a cache set, and no more of them than it has ways are read at once.
pub(crate) fn panel_rows(ker: &Kernels, m: usize, rows: bool, stride: usize) -> usize {
    let clash = rows && stride.is_multiple_of(PAGE);
    even(m, if clash { ker.mr.min(7) } else { ker.mr })
}

/// Packs rows `p` of panel `j0..j0 + cols` to `dst`, `nr` floats per inner index.
///
/// # Safety
/// The source must cover the ranges; `dst` must have room for `p.len() * nr` floats and [`SLACK`].
pub(crate) unsafe fn pack_panel(ker: &Kernels, src: &Source, p: Range<usize>, j0: usize, cols: usize, dst: *mut f32) {
    let nr = ker.nr();
    // SAFETY: handed on to the caller.
    unsafe {
        if src.trans {
            (ker.transpose)(src.ptr.add(j0 * src.stride + p.start), src.stride, cols, p.len(), dst, nr, false);
        } else {
            (ker.copy)(src.ptr.add(p.start * src.stride + j0), src.stride, p.len(), cols, dst, nr);
        }
    }
}

/// Floats of a block of the right matrix that the second-level cache keeps anyway.
const MIDDLE: usize = 1 << 14;

/// Asks for part `t` of `parts` of the lines of a panel that will be packed.
fn ask(src: &Source, p: Range<usize>, cols: &Range<usize>, t: usize, parts: usize) {
    let (outer, inner) = if src.trans { (cols.clone(), p) } else { (p, cols.clone()) };
    if cols.is_empty() {
        return;
    }
    let lines = inner.len().div_ceil(LINE);
    let each = (outer.len() * lines).div_ceil(parts);
    let first = t * each;
    let mut at = (outer.start + first / lines) * src.stride + inner.start;
    let mut line = first % lines;
    // A division for each line would take longer than the line.
    for _ in first..(first + each).min(outer.len() * lines) {
        // SAFETY: a prefetch never faults, and every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(src.ptr.wrapping_add(at + line * LINE).cast()) };
        line += 1;
        if line == lines {
            (line, at) = (0, at + src.stride);
        }
    }
}

/// Inner indices of `k` that are worked on before the result is stored in between. Where there is but one panel of
/// columns, rows are read only once, which goes faster in longer runs.
pub(crate) fn run_len(ker: &Kernels, cols: usize, k: usize) -> usize {
    even(k, if cols <= ker.nr() { ker.kc.max(LONG_RUN) } else { ker.kc })
}

/// See [`run_len`].
const LONG_RUN: usize = 720;

/// Floats of private memory that [`block`] uses in runs of `run` inner indices, with `rows` packed for `runs` of them.
pub(crate) fn block_len(ker: &Kernels, rows: usize, run: usize, runs: usize) -> usize {
    let left = if runs > 0 { runs * (rows + ker.mr) * (run + ker.w) } else { 0 };
    ker.nr() * run + left + 2 * SLACK
}

/// Inner indices for which all rows are packed before the next ones: few enough for the first-level cache to keep the
/// lines that panels of rows share.
const PACK_STEP: usize = 32;

/// Computes `out[i, j] (+)= left · right` for the given ranges of rows, columns and inner indices. The epilogue is
/// applied after the last inner index. `run` inner indices are worked on at a time.
///
/// # Safety
/// The views must cover the ranges, and `scratch` must have [`block_len`] floats.
#[expect(clippy::too_many_arguments, reason = "three operands, three ranges")]
pub(crate) unsafe fn block(
    ker: &Kernels,
    left: &Left,
    right: &Right,
    out: &Out,
    m: Range<usize>,
    n: Range<usize>,
    k: Range<usize>,
    run: usize,
    scratch: *mut f32,
) {
    let pr = panel_rows(ker, m.len(), left.rows, left.rs);
    let nr = ker.nr();
    let panels = m.len().div_ceil(pr);
    // A tile of few rows waits for its own sums, so the last two panels share their rows then.
    let rest = m.len() - (panels - 1) * pr;
    let moved = if panels > 1 && 2 * rest <= pr { (pr - rest) / 2 } else { 0 };
    let panel_at =
        |t: usize| if t < panels { m.start + t * pr - if t + 1 == panels { moved } else { 0 } } else { m.end };
    let packed_right = align(scratch);
    let mut packed_left = align(packed_right.wrapping_add(nr * run + SLACK / 2));
    let mut p0 = k.start;
    loop {
        let len = run.min(k.end - p0);
        // The copy of a panel's last row may write a vector, and the next panel is not always written after it.
        let panel_len = pr * len + ker.w;
        let last = p0 + len >= k.end;
        // SAFETY: all indices stay inside the ranges that the caller vouches for.
        unsafe {
            if matches!(left.pack, Pack::Run | Pack::All) {
                for p in (0..len).step_by(PACK_STEP) {
                    for t in 0..panels {
                        let (i, end) = (panel_at(t), panel_at(t + 1));
                        let (src, dst) =
                            (left.ptr.add(i + (p0 + p) * left.ks), packed_left.add(t * panel_len + p * pr));
                        (ker.copy)(src, left.ks, PACK_STEP.min(len - p), end - i, dst, pr);
                    }
                }
            }
            let panel = |j: usize| match *right {
                Right::Direct { ptr, ks } => (ptr.add(p0 * ks + j), ks),
                Right::Private(_) => (packed_right.cast_const(), nr),
                Right::Packed { ptr, cols } => (ptr.add(p0 * cols + j * len), nr),
            };
            let pack = |j: usize| {
                if let Right::Private(src) = right {
                    pack_panel(ker, src, p0..p0 + len, j, nr.min(n.end - j), packed_right);
                }
            };
            let tile = |t: usize, j: usize| {
                let i = panel_at(t);
                let (h, cols) = (panel_at(t + 1) - i, nr.min(n.end - j));
                let nv = cols.div_ceil(ker.w);
                let (a, a_step, rows) = if left.pack == Pack::Nothing {
                    let step = if left.rows { left.rs } else { left.ks };
                    (left.ptr.add(i * left.rs + p0 * left.ks), step, left.rows)
                } else {
                    (packed_left.add(t * panel_len).cast_const(), pr, false)
                };
                let (b, b_step) = panel(j);
                ker.tile(h, nv, rows)(&Tile {
                    a,
                    segs: ONE_SEGMENT.as_ptr(),
                    nseg: 1,
                    seg_len: len,
                    a_step,
                    b,
                    b_step,
                    b_skip: 0,
                    c: out.ptr.add(i * out.rs + j),
                    c_step: out.rs,
                    tail: cols - (nv - 1) * ker.w,
                    accumulate: p0 > k.start,
                    bias: if last && !out.bias.is_null() { out.bias.add(j) } else { std::ptr::null() },
                    relu: last && out.relu,
                    ahead: match right {
                        // A quarter of the next panel, which begins where this one ends.
                        Right::Packed { .. } if t < 4 => b.wrapping_add(len * (nr + t * (nr / 4))),
                        _ => b,
                    },
                });
            };
            let far = len * n.len() > MIDDLE;
            for j in n.clone().step_by(nr) {
                pack(j);
                let next = (j + nr)..n.end.min(j + 2 * nr);
                for t in 0..panels {
                    if let Right::Private(src) = right
                        && far
                    {
                        // A panel's lines lie far apart, so its packing would wait for each of them.
                        ask(src, p0..p0 + len, &next, t, panels);
                    }
                    tile(t, j);
                }
            }
        }
        if last {
            break;
        }
        p0 += len;
        if matches!(left.pack, Pack::All | Pack::Done) {
            packed_left = packed_left.wrapping_add(panels * panel_len);
        }
    }
}

/// The right matrix of a flat product.
#[derive(Clone, Copy)]
pub(crate) struct Streamed {
    pub(crate) ptr: *const f32,
    /// Inner indices and columns of the whole matrix.
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// Columns of a panel, in which inner indices follow each other; as many as the matrix has if it lies as it is. Memory
    /// that is read from end to end comes sooner than pieces of rows that are far apart.
    pub(crate) panel: usize,
    /// What the width of the last panel is a multiple of.
    pub(crate) unit: usize,
}

impl Streamed {
    /// A matrix as it lies.
    pub(crate) fn rows(ptr: *const f32, k: usize, n: usize) -> Streamed {
        Streamed { ptr, k, n, panel: n, unit: 1 }
    }

    /// Where inner index `p` of column `j` is, and how far the next inner index is.
    fn at(&self, p: usize, j: usize) -> (*const f32, usize) {
        let first = j - j % self.panel;
        let width = self.panel.min((self.n - first).next_multiple_of(self.unit));
        (self.ptr.wrapping_add(first * self.k + p * width + j - first), width)
    }

    /// Copies the matrix `from`, as it lies, to panel `i` of this one.
    ///
    /// # Safety
    /// It has the matrix's sizes, and this one is memory of its own.
    pub(crate) unsafe fn fill_panel(&self, i: usize, from: *const f32) {
        let j = i * self.panel;
        let (to, width) = self.at(0, j);
        for p in 0..self.k {
            // SAFETY: columns of the panel that the matrix has.
            unsafe {
                let from = from.add(p * self.n + j);
                to.cast_mut().add(p * width).copy_from_nonoverlapping(from, self.panel.min(self.n - j));
            }
        }
    }
}

/// Floats of the copies of [`flat_packed`]: few enough for the second-level cache.
const FLAT_NEAR: usize = 16384;

/// Columns that [`flat_packed`] works on at a time.
pub(crate) fn flat_cols(ker: &Kernels, k: usize) -> usize {
    (FLAT_NEAR / k / ker.nr()).max(1) * ker.nr()
}

/// As [`flat`], but a stretch of columns is copied first. Where the rows of the right matrix lie so far apart that each
/// of them is a stream of its own, reading several lines of one after the other is what keeps the memory busy.
///
/// # Safety
/// As there; `packed` must have room for [`flat_cols`] columns of `k` floats.
#[expect(clippy::too_many_arguments, reason = "three operands, three sizes")]
pub(crate) unsafe fn flat_packed(
    ker: &Kernels,
    left: &Left,
    right: (*const f32, usize),
    out: &Out,
    m: usize,
    n: Range<usize>,
    k: Range<usize>,
    transposed: bool,
    packed: *mut f32,
) {
    let step = flat_cols(ker, k.len());
    for j in n.clone().step_by(step) {
        let cols = step.min(n.end - j);
        // SAFETY: handed on to the caller; the views are moved to where the copy begins.
        unsafe {
            for p in k.clone() {
                let dst = packed.add((p - k.start) * step);
                std::ptr::copy_nonoverlapping(right.0.add(p * right.1 + j), dst, cols);
            }
            let left = Left { ptr: left.ptr.add(k.start * left.ks), ..*left };
            let bias = if transposed || out.bias.is_null() { out.bias } else { out.bias.add(j) };
            let out = Out { ptr: out.ptr.add(if transposed { j * out.rs } else { j }), bias, ..*out };
            let right = Streamed::rows(packed, k.len(), step);
            flat(ker, &left, &right, &out, m, 0..cols, 0..k.len(), transposed);
        }
    }
}

/// The product of a row with at most two vectors of columns, `n` in the result, of `k` inner indices that are as far apart
/// as the right matrix says; see [`flat`].
unsafe fn narrow_row(
    ker: &Kernels,
    row: *const f32,
    right: (*const f32, usize),
    out: &Out,
    n: Range<usize>,
    k: usize,
    transposed: bool,
) {
    let mut sums = [0f32; MAX_COLS / 4];
    // SAFETY: the row and the columns are inside the matrices, and the bias has a float for each result.
    unsafe {
        ker.row[usize::from(n.len() > ker.w)](row, right.0, right.1, k, n.len(), sums.as_mut_ptr());
        for (j, sum) in n.zip(&sums) {
            let sum = if out.bias.is_null() { *sum } else { *sum + *out.bias.add(if transposed { 0 } else { j }) };
            *out.ptr.add(j) = if out.relu && sum < 0.0 { 0.0 } else { sum };
        }
    }
}

/// A product with few rows whose right matrix is read in place and from memory only once.
///
/// With `transposed`, the result goes to `out[j * out.rs + i]`, and `out.rs` is `m`.
///
/// # Safety
/// The views must cover the ranges, and `m` is at most [`MAX_MR`] and twice the rows of a tile.
#[expect(clippy::too_many_arguments, reason = "three operands, three sizes")]
pub(crate) unsafe fn flat(
    ker: &Kernels,
    left: &Left,
    right: &Streamed,
    out: &Out,
    m: usize,
    n: Range<usize>,
    k: Range<usize>,
    transposed: bool,
) {
    if m == 1 && left.ks == 1 && n.len() <= 2 * ker.w {
        // SAFETY: handed on to the caller.
        unsafe { narrow_row(ker, left.ptr.add(k.start), right.at(k.start, n.start), out, n, k.len(), transposed) };
        return;
    }
    let mut staging = [0f32; MAX_MR * MAX_COLS];
    let rows = even(m, ker.mr);
    let (wide, wide_nv) = ker.flat(rows, left.rows);
    let mut j = n.start;
    while j < n.end {
        let left_cols = n.end - j;
        let is_wide = left_cols > 2 * ker.w && left_cols.div_ceil(ker.w) >= wide_nv;
        let nv = if is_wide { wide_nv } else { left_cols.div_ceil(ker.w).min(2) };
        let cols = left_cols.min(nv * ker.w);
        let (b, b_step) = right.at(k.start, j);
        // SAFETY: all indices stay inside the ranges that the caller vouches for; a tile has at most `MAX_COLS`
        // columns.
        unsafe {
            for i in (0..m).step_by(rows) {
                let h = rows.min(m - i);
                let kernel = if is_wide && h == rows { wide } else { ker.tile(h, nv, left.rows) };
                let (c, c_step) = if transposed {
                    (staging.as_mut_ptr().add(i * MAX_COLS), MAX_COLS)
                } else {
                    (out.ptr.add(i * out.rs + j), out.rs)
                };
                kernel(&Tile {
                    a: left.ptr.add(i * left.rs + k.start * left.ks),
                    segs: ONE_SEGMENT.as_ptr(),
                    nseg: 1,
                    seg_len: k.len(),
                    a_step: if left.rows { left.rs } else { left.ks },
                    b,
                    b_step,
                    b_skip: 0,
                    c,
                    c_step,
                    tail: cols - (nv - 1) * ker.w,
                    accumulate: false,
                    bias: if transposed || out.bias.is_null() { std::ptr::null() } else { out.bias.add(j) },
                    relu: out.relu && (!transposed || out.bias.is_null()),
                    ahead: left.ptr,
                });
            }
            if transposed {
                if !out.bias.is_null() {
                    for i in 0..m {
                        let bias = *out.bias.add(i);
                        for x in &mut staging[i * MAX_COLS..i * MAX_COLS + cols] {
                            let y = *x + bias;
                            *x = if out.relu && y < 0.0 { 0.0 } else { y };
                        }
                    }
                }
                // What a copy that is not exact leaves behind its last row belongs to the columns that come next.
                let exact = (left_cols - cols) * out.rs < ker.w;
                (ker.transpose)(staging.as_ptr(), MAX_COLS, m, cols, out.ptr.add(j * out.rs), out.rs, exact);
            }
        }
        j += cols;
    }
}
