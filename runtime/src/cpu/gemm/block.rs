//! One block of a product, computed by one task: packing and the loops around the tiles.
//!
//! In: views of both matrices and of the result, and private scratch memory. Out: the block of the result.

use super::kernels::{Kernels, MAX_COLS, MAX_MR};
use super::tile::{ONE_SEGMENT, Tile};
use std::ops::Range;

/// Most inner indices that are worked on before the result is stored in between, when operands are packed.
pub(crate) const KC: usize = 720;

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
    /// Whether to pack it (only if `rs` is 1).
    pub(crate) pack: bool,
}

/// The right matrix: element (p, j) is at `p * ks + j * cs`.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// Read in place; columns lie next to each other, `ks` apart along the inner index.
    Direct { ptr: *const f32, ks: usize },
    /// Packed by the task itself, panel by panel.
    Private(Source),
    /// Packed before by [`pack_right`], with this number of columns in all panels together.
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

/// Packs one panel (`j0..j0 + nr`) of the right matrix for all inner indices, as [`Right::Packed`] expects it.
///
/// # Safety
/// As [`pack_panel`], `dst` being the start of the whole packed matrix of `k * cols` floats and [`SLACK`].
pub(crate) unsafe fn pack_right(
    ker: &Kernels,
    src: &Source,
    k: &Range<usize>,
    n: usize,
    j0: usize,
    cols: usize,
    dst: *mut f32,
) {
    let kc = even(k.len(), KC);
    let mut p = k.start;
    while p < k.end {
        let len = kc.min(k.end - p);
        // SAFETY: handed on to the caller.
        unsafe {
            let panel = dst.add((p - k.start) * cols + j0 * len);
            pack_panel(ker, src, p..p + len, j0, ker.nr().min(n - j0), panel);
        }
        p += len;
    }
}

/// Inner indices up to which writing the result takes the time, and is done row by row.
const SHALLOW: usize = 48;

/// Floats of private memory that [`block`] uses for `rows` rows and `cols` columns.
pub(crate) fn block_len(ker: &Kernels, rows: usize, cols: usize, k: usize) -> usize {
    let kc = even(k, KC);
    let panels = if k <= SHALLOW { cols.next_multiple_of(ker.nr()) } else { ker.nr() };
    (rows + ker.mr + panels) * kc + 2 * SLACK
}

/// Computes `out[i, j] (+)= left · right` for the given ranges of rows, columns and inner indices. The epilogue is
/// applied after the last inner index.
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
    scratch: *mut f32,
) {
    let kc = even(k.len(), KC);
    let pr = panel_rows(ker, m.len(), left.rows, left.rs);
    let nr = ker.nr();
    let packed_left = align(scratch);
    let packed_right = align(packed_left.wrapping_add(m.len().next_multiple_of(pr) * kc + SLACK / 2));
    let shallow = k.len() <= SHALLOW;
    let mut p0 = k.start;
    loop {
        let len = kc.min(k.end - p0);
        let last = p0 + len >= k.end;
        // SAFETY: all indices stay inside the ranges that the caller vouches for.
        unsafe {
            if left.pack {
                for i in m.clone().step_by(pr) {
                    let dst = packed_left.add((i - m.start) * len);
                    (ker.copy)(left.ptr.add(i + p0 * left.ks), left.ks, len, pr.min(m.end - i), dst, pr);
                }
            }
            let panel = |j: usize| match *right {
                Right::Direct { ptr, ks } => (ptr.add(p0 * ks + j), ks),
                Right::Packed { ptr, cols } => (ptr.add((p0 - k.start) * cols + j * len), nr),
                Right::Private(_) if shallow => (packed_right.add((j - n.start) * len).cast_const(), nr),
                Right::Private(_) => (packed_right.cast_const(), nr),
            };
            let pack = |j: usize| {
                if let Right::Private(src) = right {
                    let dst = packed_right.add(if shallow { (j - n.start) * len } else { 0 });
                    pack_panel(ker, src, p0..p0 + len, j, nr.min(n.end - j), dst);
                }
            };
            let tile = |i: usize, j: usize| {
                let (h, cols) = (pr.min(m.end - i), nr.min(n.end - j));
                let nv = cols.div_ceil(ker.w);
                let (a, a_step, rows) = if left.pack {
                    (packed_left.add((i - m.start) * len).cast_const(), pr, false)
                } else {
                    let step = if left.rows { left.rs } else { left.ks };
                    (left.ptr.add(i * left.rs + p0 * left.ks), step, left.rows)
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
                    ahead: b,
                });
            };
            let (rows, cols) = (m.clone().step_by(pr), n.clone().step_by(nr));
            if shallow {
                cols.clone().for_each(pack);
                rows.for_each(|i| cols.clone().for_each(|j| tile(i, j)));
            } else {
                cols.for_each(|j| {
                    pack(j);
                    rows.clone().for_each(|i| tile(i, j));
                });
            }
        }
        p0 += len;
        if last {
            break;
        }
    }
}

/// A product with at most `mr` rows whose right matrix is read in place and only once.
///
/// With `transposed`, the result goes to `out[j * out.rs + i]`.
///
/// # Safety
/// The views must cover the ranges.
#[expect(clippy::too_many_arguments, reason = "three operands, three sizes")]
pub(crate) unsafe fn flat(
    ker: &Kernels,
    left: &Left,
    right: (*const f32, usize),
    out: &Out,
    m: usize,
    n: Range<usize>,
    k: Range<usize>,
    transposed: bool,
) {
    let mut staging = [0f32; MAX_MR * MAX_COLS];
    let (wide, wide_nv) = ker.flat(m, left.rows);
    let mut j = n.start;
    while j < n.end {
        let left_cols = n.end - j;
        let (kernel, nv) = if left_cols > 2 * ker.w && left_cols.div_ceil(ker.w) >= wide_nv {
            (wide, wide_nv)
        } else {
            let nv = left_cols.div_ceil(ker.w).min(2);
            (ker.tile(m, nv, left.rows), nv)
        };
        let cols = left_cols.min(nv * ker.w);
        // SAFETY: all indices stay inside the ranges that the caller vouches for; a tile has at most `MAX_MR` rows and
        // `MAX_COLS` columns.
        unsafe {
            let (c, c_step) = if transposed { (staging.as_mut_ptr(), MAX_COLS) } else { (out.ptr.add(j), out.rs) };
            kernel(&Tile {
                a: left.ptr.add(k.start * left.ks),
                segs: ONE_SEGMENT.as_ptr(),
                nseg: 1,
                seg_len: k.len(),
                a_step: if left.rows { left.rs } else { left.ks },
                b: right.0.add(k.start * right.1 + j),
                b_step: right.1,
                b_skip: 0,
                c,
                c_step,
                tail: cols - (nv - 1) * ker.w,
                accumulate: false,
                bias: if transposed || out.bias.is_null() { std::ptr::null() } else { out.bias.add(j) },
                relu: out.relu && (!transposed || out.bias.is_null()),
                ahead: left.ptr,
            });
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
                (ker.transpose)(staging.as_ptr(), MAX_COLS, m, cols, out.ptr.add(j * out.rs), out.rs, true);
            }
        }
        j += cols;
    }
}
