//! The inner loops: a tile of a matrix product kept in registers, a block of dot products, a transposed copy.
//!
//! In: pointers and strides. Out: one tile of the result. Invariant: each element of the result is one chain of
//! multiply-adds in ascending order of the inner index, so its bits do not depend on where tiles begin.

use super::simd::Simd;

/// What one call of a tile kernel works on. All strides count floats.
///
/// `c[i, j] (+)= sum over segments s and p < seg_len of left(s, i, p) * b[(s * seg_len + p) * b_step + j]` where
/// `left` is `a[segs[s] + p * a_step + i]` for "unit" kernels (the rows of a column lie next to each other) and
/// `a[segs[s] + i * a_step + p]` for "rows" kernels (each row runs along the inner index).
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Left matrix.
    pub(crate) a: *const f32,
    /// Where each segment of the inner index starts in `a`.
    pub(crate) segs: *const usize,
    /// Number of segments.
    pub(crate) nseg: usize,
    /// Inner indices per segment.
    pub(crate) seg_len: usize,
    /// Stride of the inner index (unit) or of the row (rows).
    pub(crate) a_step: usize,
    /// Right matrix; its columns lie next to each other.
    pub(crate) b: *const f32,
    /// Stride of the inner index in `b`.
    pub(crate) b_step: usize,
    /// Floats of `b` to skip after each segment.
    pub(crate) b_skip: usize,
    /// Result; its columns lie next to each other.
    pub(crate) c: *mut f32,
    /// Stride of a row of `c`.
    pub(crate) c_step: usize,
    /// Valid lanes of the last vector of columns, 1 to W.
    pub(crate) tail: usize,
    /// Add to what `c` holds instead of overwriting it.
    pub(crate) accumulate: bool,
    /// Added to each row at the end (null: nothing); indexed as the columns.
    pub(crate) bias: *const f32,
    /// Clamp at 0 at the end.
    pub(crate) relu: bool,
    /// Memory that will be read soon: two cache lines of it are asked for per [`AHEAD_EVERY`] inner indices. It need
    /// not be valid.
    pub(crate) ahead: *const f32,
}

/// A run of memory that will be read soon, handed out to tiles piece by piece.
pub(crate) struct Ahead {
    next: *const f32,
    end: *const f32,
}

impl Ahead {
    /// `len` floats from `start`.
    pub(crate) fn new(start: *const f32, len: usize) -> Ahead {
        Ahead { next: start, end: start.wrapping_add(len) }
    }

    /// The start of the part that a tile of `segs` segments of `len` inner indices asks for, until all is handed out.
    pub(crate) fn take(&mut self, segs: usize, len: usize) -> Option<*const f32> {
        let part = self.next;
        self.next = part.wrapping_add(2 * LINE * segs * len.div_ceil(AHEAD_EVERY));
        (part.addr() < self.end.addr()).then_some(part)
    }
}

/// A kernel for a fixed number of rows and vectors of columns.
pub(crate) type TileFn = unsafe fn(&Tile);

/// Inner indices after which the next row of the result, and the next part of [`Tile::ahead`], are asked for.
pub(crate) const AHEAD_EVERY: usize = 8;

/// Floats in a cache line.
pub(crate) const LINE: usize = 16;

/// Single-segment offset list.
pub(crate) static ONE_SEGMENT: [usize; 1] = [0];

/// Repeats a block for `$i` = 0, 1, … below `$n`, at most 14.
macro_rules! each_row {
    ($n:expr, $i:ident, $body:block) => {
        each_row!($n, $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($n:expr, $i:ident, $body:block, $($at:literal)*) => {
        $(if $at < $n {
            const $i: usize = $at;
            $body
        })*
    };
}

/// Body of a tile kernel of `MR` rows by `NV` vectors; see [`Tile`].
#[inline(always)]
pub(crate) unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const ROWS: bool>(t: &Tile) {
    // SAFETY: handed on to the caller.
    unsafe {
        if S::FREE_MASK || t.tail < S::W {
            tile_body::<S, MR, NV, ROWS, true>(t);
        } else {
            tile_body::<S, MR, NV, ROWS, false>(t);
        }
    }
}

#[inline(always)]
unsafe fn tile_body<S: Simd, const MR: usize, const NV: usize, const ROWS: bool, const MASKED: bool>(t: &Tile) {
    // SAFETY: the caller of the kernel gives a tile whose addresses are all valid, and masks keep to it.
    unsafe {
        let mask = S::mask(t.tail);
        let mut acc = [[S::zero(); NV]; MR];
        let mut b = t.b;
        let b_step = t.b_step;
        let a_step = t.a_step;
        let (mut c_row, mut c_rows, mut ahead) = (t.c, MR, t.ahead);
        for s in 0..t.nseg {
            let a = t.a.add(*t.segs.add(s));
            // Rows are reached as one of five bases plus 0, 1 or 2 strides, which the address modes do for free.
            let mut base = [a; 5];
            if ROWS {
                for (g, p) in base.iter_mut().enumerate().skip(1) {
                    *p = a.wrapping_add(3 * g * a_step);
                }
            }
            let mut rest = t.seg_len;
            while rest > 0 {
                // Stores that miss the cache fill the store queue and hold up the next tile, so its lines are asked
                // for early; all at once, they would hold up the loads instead.
                if c_rows > 0 {
                    for v in 0..NV {
                        S::prefetch(c_row.wrapping_add(v * S::W));
                    }
                    c_row = c_row.wrapping_add(t.c_step);
                    c_rows -= 1;
                }
                S::prefetch_far(ahead);
                S::prefetch_far(ahead.wrapping_add(LINE));
                ahead = ahead.wrapping_add(2 * LINE);
                let run = rest.min(AHEAD_EVERY);
                rest -= run;
                for _ in 0..run {
                    let mut x = [S::zero(); NV];
                    for (v, x) in x.iter_mut().enumerate() {
                        *x = if MASKED && v == NV - 1 {
                            S::load_masked(b.add(v * S::W), mask)
                        } else {
                            S::load(b.add(v * S::W))
                        };
                    }
                    // Written out, because a loop of this size is not always unrolled, and then the sums live in memory.
                    each_row!(MR, I, {
                        let l = S::splat(if ROWS { base[I / 3].add(I % 3 * a_step) } else { base[0].add(I) });
                        for v in 0..NV {
                            acc[I][v] = S::fma(l, x[v], acc[I][v]);
                        }
                    });
                    b = b.wrapping_add(b_step);
                    if ROWS {
                        for p in &mut base[..MR.div_ceil(3)] {
                            *p = p.wrapping_add(1);
                        }
                    } else {
                        base[0] = base[0].wrapping_add(a_step);
                    }
                }
            }
            b = b.wrapping_add(t.b_skip);
        }
        let load = |p: *const f32, v: usize| {
            if MASKED && v == NV - 1 { S::load_masked(p.add(v * S::W), mask) } else { S::load(p.add(v * S::W)) }
        };
        if t.accumulate {
            for (i, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = S::add(load(t.c.add(i * t.c_step), v), *acc);
                }
            }
        }
        if !t.bias.is_null() {
            for v in 0..NV {
                let bias = load(t.bias, v);
                for acc in &mut acc {
                    acc[v] = S::add(acc[v], bias);
                }
            }
        }
        if t.relu {
            for acc in &mut acc {
                for acc in acc {
                    *acc = S::relu(*acc);
                }
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            let c = t.c.add(i * t.c_step);
            for (v, acc) in acc.iter().enumerate() {
                if MASKED && v == NV - 1 {
                    S::store_masked(c.add(v * S::W), mask, *acc);
                } else {
                    S::store(c.add(v * S::W), *acc);
                }
            }
        }
    }
}

/// Most columns of one block of dot products.
pub(crate) const DOT_COLS: usize = 5;
/// Rows of a block of dot products with `q` columns, at `q - 1`: as many sums as registers hold beside the columns.
pub(crate) const DOT_ROWS: [usize; DOT_COLS] = [4, 4, 4, 3, 2];
/// Most rows of one block of dot products.
pub(crate) const DOT_MOST: usize = 4;

/// A block of dot products: `sum over p < k of x[r * x_rs + p] * y[q * y_rs + p]`, in as many chains as a vector has
/// lanes.
#[derive(Clone, Copy)]
pub(crate) struct Dots {
    pub(crate) x: *const f32,
    pub(crate) x_rs: usize,
    pub(crate) y: *const f32,
    pub(crate) y_rs: usize,
    pub(crate) k: usize,
    /// Where the chains are kept from one run of inner indices to the next: rows times columns vectors.
    pub(crate) carry: *mut f32,
    /// The chains begin here, so there is nothing to load from `carry`.
    pub(crate) begin: bool,
    /// They end here, and the sums are returned; otherwise the chains go to `carry`.
    pub(crate) end: bool,
}

/// A kernel for a fixed number of rows and columns; returns the sums at `[r][q]`.
pub(crate) type DotFn = unsafe fn(&Dots) -> [[f32; DOT_COLS]; DOT_MOST];

/// Body of a dot kernel of `R` by `Q` products.
#[inline(always)]
pub(crate) unsafe fn dot<S: Simd, const R: usize, const Q: usize>(t: &Dots) -> [[f32; DOT_COLS]; DOT_MOST] {
    // SAFETY: the caller vouches for R rows of x and Q rows of y of k floats each, and for the carry.
    unsafe {
        let mut acc = [[S::zero(); Q]; R];
        let carry = |r: usize, q: usize| t.carry.wrapping_add((r * Q + q) * S::W);
        if !t.begin {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (q, acc) in acc.iter_mut().enumerate() {
                    *acc = S::load(carry(r, q));
                }
            }
        }
        let whole = t.k - t.k % S::W;
        let mut p = 0;
        while p < whole {
            let mut b = [S::zero(); Q];
            for (q, b) in b.iter_mut().enumerate() {
                *b = S::load(t.y.add(q * t.y_rs + p));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = t.x.add(r * t.x_rs + p);
                let a = S::load(x);
                for (q, acc) in acc.iter_mut().enumerate() {
                    *acc = S::fma(a, b[q], *acc);
                }
            }
            p += S::W;
        }
        if whole < t.k {
            let m = S::mask(t.k - whole);
            let mut b = [S::zero(); Q];
            for (q, b) in b.iter_mut().enumerate() {
                *b = S::load_masked(t.y.add(q * t.y_rs + p), m);
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = S::load_masked(t.x.add(r * t.x_rs + p), m);
                for (q, acc) in acc.iter_mut().enumerate() {
                    *acc = S::fma(a, b[q], *acc);
                }
            }
        }
        let mut out = [[0.0; DOT_COLS]; DOT_MOST];
        for r in 0..R {
            for q in 0..Q {
                if t.end {
                    out[r][q] = S::sum(acc[r][q]);
                } else {
                    S::store(carry(r, q), acc[r][q]);
                }
            }
        }
        out
    }
}

/// A row times a narrow matrix: `out[j] = sum over p < k of a[p] * b[p * b_step + j]` for `j < cols`.
pub(crate) type RowFn = unsafe fn(a: *const f32, b: *const f32, b_step: usize, k: usize, cols: usize, out: *mut f32);

/// Body of the row kernel for `NV` vectors of columns. A single sum of products would wait for its own additions, so
/// every `U`-th inner index has its own, and these are added up at the end.
#[inline(always)]
pub(crate) unsafe fn row<S: Simd, const NV: usize, const U: usize>(
    a: *const f32,
    b: *const f32,
    b_step: usize,
    k: usize,
    cols: usize,
    out: *mut f32,
) {
    // SAFETY: the caller vouches for the matrices; masks keep to their columns.
    unsafe {
        let mask = S::mask(cols - (NV - 1) * S::W);
        let load = |p: usize, v: usize| {
            let at = b.add(p * b_step + v * S::W);
            if v == NV - 1 { S::load_masked(at, mask) } else { S::load(at) }
        };
        let mut acc = [[S::zero(); NV]; U];
        let mut p = 0;
        while p + U <= k {
            for (u, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(a.add(p + u));
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = S::fma(x, load(p + u, v), *acc);
                }
            }
            p += U;
        }
        while p < k {
            let x = S::splat(a.add(p));
            for (v, acc) in acc[0].iter_mut().enumerate() {
                *acc = S::fma(x, load(p, v), *acc);
            }
            p += 1;
        }
        let mut live = U;
        while live > 1 {
            live /= 2;
            let (low, high) = acc.split_at_mut(live);
            for (x, y) in low.iter_mut().flatten().zip(high.iter().flatten()) {
                *x = S::add(*x, *y);
            }
        }
        for (v, sum) in acc[0].iter().enumerate() {
            if v == NV - 1 {
                S::store_masked(out.add(v * S::W), mask, *sum);
            } else {
                S::store(out.add(v * S::W), *sum);
            }
        }
    }
}

/// Transposed copy: `dst[c * dst_rs + r] = src[r * src_rs + c]` for `r < rows`, `c < cols`; see [`Simd::transpose`]
/// for `exact`. Without it, `dst_rs` is at least `rows`: what is written beyond a row of `dst` is then overwritten by
/// the next one, whose first floats are written last, and what is left behind the last row is less than a vector.
pub(crate) type TransposeFn = unsafe fn(*const f32, usize, usize, usize, *mut f32, usize, bool);

/// Body of the transposed copy.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Simd>(
    src: *const f32,
    src_rs: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    dst_rs: usize,
    exact: bool,
) {
    for r in (0..rows).step_by(S::W).rev() {
        let h = (rows - r).min(S::W);
        for c in (0..cols).step_by(S::W) {
            let w = (cols - c).min(S::W);
            // SAFETY: the block lies inside the rows and columns that the caller vouches for.
            unsafe {
                S::transpose(src.add(r * src_rs + c), src_rs, h, w, dst.add(c * dst_rs + r), dst_rs, exact);
            }
        }
    }
}

/// Strided copy of `rows` rows of `cols` floats, `cols` at most two vectors.
///
/// Whole vectors are written, in ascending rows: `dst` needs room for them, and what is written beyond the columns of
/// a row is either overwritten by the next one or left as rubbish.
pub(crate) type CopyFn = unsafe fn(*const f32, usize, usize, usize, *mut f32, usize);

/// Body of the strided copy: `dst[r * dst_rs + c] = src[r * src_rs + c]`.
#[inline(always)]
pub(crate) unsafe fn copy<S: Simd>(
    src: *const f32,
    src_rs: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    dst_rs: usize,
) {
    // SAFETY: only the columns that the caller vouches for are read, and `dst` has room for whole vectors.
    unsafe {
        if cols == 2 * S::W {
            for r in 0..rows {
                S::store(dst.add(r * dst_rs), S::load(src.add(r * src_rs)));
                S::store(dst.add(r * dst_rs + S::W), S::load(src.add(r * src_rs + S::W)));
            }
        } else if cols > S::W {
            let mask = S::mask(cols - S::W);
            for r in 0..rows {
                S::store(dst.add(r * dst_rs), S::load(src.add(r * src_rs)));
                S::store(dst.add(r * dst_rs + S::W), S::load_masked(src.add(r * src_rs + S::W), mask));
            }
        } else {
            let mask = S::mask(cols);
            for r in 0..rows {
                S::store(dst.add(r * dst_rs), S::load_masked(src.add(r * src_rs), mask));
            }
        }
    }
}
