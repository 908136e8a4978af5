//! The register tile of all products: up to 14 rows times a few vectors of columns. In: strided rows of A, rows of B that
//! are contiguous along columns, a depth that may be cut into segments of A (the taps of a convolution). Out: a tile of C,
//! overwritten or added to. Invariants: each element of C is one chain of multiply-adds in ascending depth, whatever the
//! tile's height and width, so results do not depend on how C is cut into tiles; nothing outside the tile is touched.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::super::Level;
use super::super::simd::{Avx, Simd, Sse, Wide};

/// Operands of a tile. Strides are in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// Row 0, depth 0 of A.
    pub(crate) a: *const f32,
    /// From row to row of A.
    pub(crate) a_row: usize,
    /// From depth to depth of A.
    pub(crate) a_depth: usize,
    /// Where the segments of A start relative to `a`; `segments` of them.
    pub(crate) offsets: *const usize,
    /// Number of segments, at least 1.
    pub(crate) segments: usize,
    /// Depth of each segment.
    pub(crate) depth: usize,
    /// Depth 0, column 0 of B; B goes on from segment to segment.
    pub(crate) b: *const f32,
    /// From depth to depth of B.
    pub(crate) b_depth: usize,
    /// Row 0, column 0 of C.
    pub(crate) c: *mut f32,
    /// From row to row of C.
    pub(crate) c_row: usize,
    /// Lanes of the last vector of columns, 1 to all.
    pub(crate) last: usize,
    /// Add to what C holds instead of overwriting it.
    pub(crate) add: bool,
}

/// A tile kernel. Safe to call when the operands are valid for its rows and columns and the level is available.
pub(crate) type TileFn = unsafe fn(&Tile);

/// A segment list of one segment that starts at 0.
pub(crate) static WHOLE: [usize; 1] = [0];

#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const VECS: usize, const MASKED: bool, const PACKED: bool>(t: &Tile) {
    // SAFETY: the caller vouches for the operands; B and C are masked in the last vector, A has `ROWS` rows.
    unsafe {
        let mask = S::mask(t.last);
        let mut acc = [[S::splat(0.0); VECS]; ROWS];
        let mut b = t.b;
        let a_row = if PACKED { 1 } else { t.a_row };
        // The rows of C lie far apart; fetched now, they are there when the sums are.
        for i in 0..ROWS {
            for j in (0..VECS * S::LANES).step_by(16) {
                _mm_prefetch::<_MM_HINT_T0>(t.c.wrapping_add(i * t.c_row + j).cast());
            }
        }
        for s in 0..t.segments {
            let mut a = t.a.add(*t.offsets.add(s));
            for _ in 0..t.depth {
                let mut bv = [S::splat(0.0); VECS];
                for (j, v) in bv.iter_mut().enumerate() {
                    let p = b.add(j * S::LANES);
                    *v = if MASKED && j == VECS - 1 { S::load_masked(p, mask) } else { S::load(p) };
                }
                for (i, row) in acc.iter_mut().enumerate() {
                    let x = S::splat(*a.add(i * a_row));
                    for (c, v) in row.iter_mut().zip(&bv) {
                        *c = S::fma(x, *v, *c);
                    }
                }
                a = a.add(t.a_depth);
                b = b.add(t.b_depth);
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (j, v) in row.iter().enumerate() {
                let p = t.c.add(i * t.c_row + j * S::LANES);
                if MASKED && j == VECS - 1 {
                    let v = if t.add { S::add(S::load_masked(p, mask), *v) } else { *v };
                    S::store_masked(p, mask, v);
                } else {
                    let v = if t.add { S::add(S::load(p), *v) } else { *v };
                    S::store(p, v);
                }
            }
        }
    }
}

unsafe fn tile_sse<const R: usize, const V: usize, const M: bool, const P: bool>(t: &Tile) {
    // SAFETY: SSE2 is part of x86-64; operands as the caller says.
    unsafe { tile::<Sse, R, V, M, P>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_avx<const R: usize, const V: usize, const M: bool, const P: bool>(t: &Tile) {
    // SAFETY: the features are enabled; operands as the caller says.
    unsafe { tile::<Avx, R, V, M, P>(t) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")]
unsafe fn tile_wide<const R: usize, const V: usize, const M: bool, const P: bool>(t: &Tile) {
    // SAFETY: the features are enabled; operands as the caller says.
    unsafe { tile::<Wide, R, V, M, P>(t) }
}

/// The kernels of one width for every height from 1.
type Heights = &'static [TileFn];

macro_rules! heights {
    ($f:ident, $v:literal, $m:literal, $p:literal; $($r:literal)*) => { &[$($f::<$r, $v, $m, $p>),*] };
}

/// Kernels of a level: `[vectors wide][masked][packed]`.
struct Family {
    lanes: usize,
    /// Widths 1, 2 and 4 vectors; for each plain, masked; for each strided, packed.
    widths: [[[Heights; 2]; 2]; 3],
}

macro_rules! family {
    ($f:ident, $lanes:literal, plain $plain:literal; $($tall:literal)*; $($flat:literal)*) => {
        Family {
            lanes: $lanes,
            widths: [
                [
                    [heights!($f, 1, $plain, false; $($tall)*), heights!($f, 1, $plain, true; $($tall)*)],
                    [heights!($f, 1, true, false; $($tall)*), heights!($f, 1, true, true; $($tall)*)],
                ],
                [
                    [heights!($f, 2, $plain, false; $($tall)*), heights!($f, 2, $plain, true; $($tall)*)],
                    [heights!($f, 2, true, false; $($tall)*), heights!($f, 2, true, true; $($tall)*)],
                ],
                [
                    [heights!($f, 4, $plain, false; $($flat)*), heights!($f, 4, $plain, true; $($flat)*)],
                    [heights!($f, 4, true, false; $($flat)*), heights!($f, 4, true, true; $($flat)*)],
                ],
            ],
        }
    };
}

static SSE: Family = family!(tile_sse, 4, plain false; 1 2 3 4; 1 2);
static AVX: Family = family!(tile_avx, 8, plain false; 1 2 3 4 5 6; 1 2 3);
// Masked accesses are as cheap as plain ones, so one kernel serves both.
static WIDE: Family = family!(tile_wide, 16, plain true; 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 1 2 3 4 5 6);

/// Chooses tiles of one level.
#[derive(Clone, Copy)]
pub(crate) struct Tiles(&'static Family);

impl Tiles {
    pub(crate) fn new(level: Level) -> Tiles {
        Tiles(match level {
            Level::Baseline => &SSE,
            Level::Avx2 => &AVX,
            Level::Avx512 => &WIDE,
        })
    }

    /// Lanes of a vector.
    pub(crate) fn lanes(self) -> usize {
        self.0.lanes
    }

    /// Most rows of a tile so many columns wide.
    pub(crate) fn max_rows(self, columns: usize) -> usize {
        let (index, _) = self.width(columns);
        self.0.widths[index][0][0].len()
    }

    /// Columns of the widest tile with so many rows: 4 vectors when few rows leave registers free, else 2.
    pub(crate) fn columns_for(self, rows: usize) -> usize {
        let flat = self.0.widths[2][0][0].len();
        if rows <= flat { 4 * self.0.lanes } else { 2 * self.0.lanes }
    }

    /// Index of the narrowest width that covers `columns`, and its vectors.
    fn width(self, columns: usize) -> (usize, usize) {
        let vecs = columns.div_ceil(self.0.lanes);
        match vecs {
            0 | 1 => (0, 1),
            2 => (1, 2),
            _ => (2, 4),
        }
    }

    /// Runs a tile of `rows` × `columns` (at most four vectors wide and as tall as [`Tiles::max_rows`] allows); three
    /// vectors run as two tiles. `t.last` is set here. `packed` says that `t.a_row` is 1.
    ///
    /// # Safety
    /// The operands are valid for that many rows and columns, and the level is available.
    #[inline]
    pub(crate) unsafe fn run(self, t: &mut Tile, rows: usize, columns: usize, packed: bool) {
        let lanes = self.0.lanes;
        if columns.div_ceil(lanes) == 3 {
            let (b, c) = (t.b, t.c);
            // SAFETY: both parts lie within the tile.
            unsafe {
                self.run(t, rows, 2 * lanes, packed);
                t.b = b.add(2 * lanes);
                t.c = c.add(2 * lanes);
                self.run(t, rows, columns - 2 * lanes, packed);
            }
            (t.b, t.c) = (b, c);
            return;
        }
        let (index, vecs) = self.width(columns);
        t.last = columns - (vecs - 1) * lanes;
        let masked = usize::from(t.last != lanes);
        let kernel = self.0.widths[index][masked][usize::from(packed)][rows - 1];
        // SAFETY: passed on to the caller.
        unsafe { kernel(t) };
    }
}
