//! Products with few inner indices, where writing the result takes as long as the arithmetic.
//!
//! In: views of both matrices and of the result, and private scratch memory. Out: the block of the result. One call of
//! a kernel writes a strip of a few rows from left to right, so that nothing is set up anew for each tile and the
//! strip's memory is asked for ahead of the stores. Invariant: each element is one chain of multiply-adds in ascending order of
//! the inner index, as in [`super::tile`].

use super::block::{Left, Out, Right, Source, align};
use super::kernels::Kernels;
use super::simd::Simd;
use super::tile::{ONE_SEGMENT, Tile};
use std::ops::Range;

/// Most inner indices of this kind of product.
pub(crate) const SHALLOW: usize = 48;
/// Vectors in a panel of columns.
pub(crate) const STRIP_COLS: usize = 4;
/// Most rows of a strip.
pub(crate) const STRIP_ROWS: usize = 3;
/// Floats of the right matrix that are packed and used while they are in the first-level cache.
const NEAR: usize = 4096;
/// Inner indices up to which long strips matter more than where the right matrix is.
const WRITTEN: usize = 16;

/// A strip of the result; all strides count floats.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    /// Left matrix: element (i, p) is at `i * a_rs + p * a_ks`.
    pub(crate) a: *const f32,
    pub(crate) a_rs: usize,
    pub(crate) a_ks: usize,
    pub(crate) k: usize,
    /// First panel of the right matrix: inner indices are `b_step` apart, panels `b_next`.
    pub(crate) b: *const f32,
    pub(crate) b_step: usize,
    pub(crate) b_next: usize,
    /// Number of panels, all of them full.
    pub(crate) panels: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_rs: usize,
    /// Added to each row at the end (null: nothing).
    pub(crate) bias: *const f32,
    /// Clamp at 0 at the end.
    pub(crate) relu: bool,
}

/// A kernel for a fixed number of rows.
pub(crate) type StripFn = unsafe fn(&Strip);

/// Body of the kernel for `R` rows.
#[inline(always)]
pub(crate) unsafe fn strip<S: Simd, const R: usize>(t: &Strip) {
    let width = STRIP_COLS * S::W;
    // SAFETY: the caller gives a strip whose addresses are all valid.
    unsafe {
        let (mut b_panel, mut c, mut bias) = (t.b, t.c, t.bias);
        for _ in 0..t.panels {
            let mut acc = [[S::zero(); STRIP_COLS]; R];
            for r in 0..R {
                for line in 0..(width / 16).max(1) {
                    S::prefetch(c.wrapping_add(r * t.c_rs + 4 * width + 16 * line));
                }
            }
            let (mut a, mut b) = (t.a, b_panel);
            for _ in 0..t.k {
                let mut x = [S::zero(); R];
                for (r, x) in x.iter_mut().enumerate() {
                    *x = S::splat(a.add(r * t.a_rs));
                }
                for v in 0..STRIP_COLS {
                    let y = S::load(b.add(v * S::W));
                    for (acc, x) in acc.iter_mut().zip(x) {
                        acc[v] = S::fma(x, y, acc[v]);
                    }
                }
                a = a.wrapping_add(t.a_ks);
                b = b.wrapping_add(t.b_step);
            }
            if !bias.is_null() {
                for v in 0..STRIP_COLS {
                    let bias = S::load(bias.add(v * S::W));
                    for acc in &mut acc {
                        acc[v] = S::add(acc[v], bias);
                    }
                }
                bias = bias.add(width);
            }
            for (r, acc) in acc.iter().enumerate() {
                for (v, acc) in acc.iter().enumerate() {
                    let y = if t.relu { S::relu(*acc) } else { *acc };
                    S::store(c.add(r * t.c_rs + v * S::W), y);
                }
            }
            c = c.wrapping_add(width);
            b_panel = b_panel.wrapping_add(t.b_next);
        }
    }
}

/// Floats of private memory that [`shallow`] uses.
pub(crate) fn shallow_len(ker: &Kernels, cols: usize, k: usize) -> usize {
    near(ker, k).min(cols.next_multiple_of(ker.strip_width())) * k + 2 * super::block::SLACK
}

/// Columns that are worked on at a time.
fn near(ker: &Kernels, k: usize) -> usize {
    let floats = if k <= WRITTEN { 4 * NEAR } else { NEAR };
    (floats / k / ker.strip_width()).max(1) * ker.strip_width()
}

/// Computes `out[i, j] = left · right` with the epilogue for the given ranges, over inner indices `0..k`.
///
/// # Safety
/// The views must cover the ranges, and `scratch` must have [`shallow_len`] floats.
#[expect(clippy::too_many_arguments, reason = "three operands, three ranges")]
pub(crate) unsafe fn shallow(
    ker: &Kernels,
    left: &Left,
    right: &Right,
    out: &Out,
    m: Range<usize>,
    n: Range<usize>,
    k: usize,
    scratch: *mut f32,
) {
    let width = ker.strip_width();
    let packed = align(scratch);
    for j0 in n.clone().step_by(near(ker, k)) {
        let cols = j0..n.end.min(j0 + near(ker, k));
        // SAFETY: all indices stay inside the ranges that the caller vouches for.
        unsafe {
            let (b, b_step, b_next) = match right {
                Right::Direct { ptr, ks } => (ptr.add(j0), *ks, width),
                Right::Packed { .. } => unreachable!("shallow products pack for themselves"),
                Right::Private(src) => {
                    for j in cols.clone().step_by(width) {
                        pack(ker, src, j, width.min(cols.end - j), k, packed.add((j - j0) * k));
                    }
                    (packed.cast_const(), width, width * k)
                }
            };
            let panels = cols.len() / width;
            let rest = j0 + panels * width;
            let mut i = m.start;
            while i < m.end {
                let h = STRIP_ROWS.min(m.end - i);
                let a = left.ptr.add(i * left.rs);
                let bias = |j: usize| if out.bias.is_null() { out.bias } else { out.bias.add(j) };
                ker.strip[h - 1](&Strip {
                    a,
                    a_rs: left.rs,
                    a_ks: left.ks,
                    k,
                    b,
                    b_step,
                    b_next,
                    panels,
                    c: out.ptr.add(i * out.rs + j0),
                    c_rs: out.rs,
                    bias: bias(j0),
                    relu: out.relu,
                });
                for j in (rest..cols.end).step_by(ker.nr()) {
                    let some = ker.nr().min(cols.end - j);
                    let nv = some.div_ceil(ker.w);
                    ker.tile(h, nv, left.rows)(&Tile {
                        a,
                        segs: ONE_SEGMENT.as_ptr(),
                        nseg: 1,
                        seg_len: k,
                        a_step: if left.rows { left.rs } else { left.ks },
                        b: b.add(panels * b_next + j - rest),
                        b_step,
                        b_skip: 0,
                        c: out.ptr.add(i * out.rs + j),
                        c_step: out.rs,
                        tail: some - (nv - 1) * ker.w,
                        accumulate: false,
                        bias: bias(j),
                        relu: out.relu,
                        ahead: b,
                    });
                }
                i += h;
            }
        }
    }
}

/// Packs `cols` columns from `j`, a strip's width per inner index.
unsafe fn pack(ker: &Kernels, src: &Source, j: usize, cols: usize, k: usize, dst: *mut f32) {
    let width = ker.strip_width();
    // SAFETY: handed on to the caller; vectors that reach beyond the columns stay within the panel.
    unsafe {
        if src.trans {
            (ker.transpose)(src.ptr.add(j * src.stride), src.stride, cols, k, dst, width, false);
        } else {
            for d in (0..cols).step_by(ker.nr()) {
                (ker.copy)(src.ptr.add(j + d), src.stride, k, ker.nr().min(cols - d), dst.add(d), width);
            }
        }
    }
}
