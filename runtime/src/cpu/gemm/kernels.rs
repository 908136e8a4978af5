//! The tables of compiled kernels, one per instruction set, and the choice among them.

use super::shallow::{self, STRIP_COLS, STRIP_ROWS, Strip, StripFn};
use super::simd::{Portable, Simd};
use super::tile::{self, CopyFn, DOT_COLS, DOT_MOST, DotFn, RowFn, TileFn, TransposeFn};
use crate::cpu::Level;

/// Most rows of a tile of any instruction set.
pub(crate) const MAX_MR: usize = 14;
/// Most columns of a tile of any instruction set (eight vectors of sixteen lanes).
pub(crate) const MAX_COLS: usize = 128;

/// The kernels of one instruction set. A kernel for `r` rows is at index `r - 1`.
pub(crate) struct Kernels {
    /// Lanes of a vector.
    pub(crate) w: usize,
    /// Most rows of a tile.
    pub(crate) mr: usize,
    /// Most inner indices that are worked on before the result is stored in between: a panel of the right matrix and
    /// one of the left then fit into the first-level cache.
    pub(crate) kc: usize,
    /// Tiles of one and of two vectors, rows of the left matrix next to each other.
    unit: [&'static [TileFn]; 2],
    /// Tiles of one and of two vectors, rows of the left matrix along the inner index.
    rows: [&'static [TileFn]; 2],
    /// Flat tiles: few rows, as many vectors as there are registers for (second field), unit left.
    flat_unit: &'static [(TileFn, usize)],
    /// The same for a left matrix in rows.
    flat_rows: &'static [(TileFn, usize)],
    /// Dot products with `q` columns at index `q - 1`, of one row (first) or of [`tile::DOT_ROWS`].
    pub(crate) dot: [[DotFn; DOT_COLS]; 2],
    /// A row times a matrix of one and of two vectors of columns.
    pub(crate) row: [RowFn; 2],
    /// Strips of a shallow product.
    pub(crate) strip: [StripFn; STRIP_ROWS],
    /// Transposed copy.
    pub(crate) transpose: TransposeFn,
    /// Copy of a panel.
    pub(crate) copy: CopyFn,
}

impl Kernels {
    /// Columns of a panel of the right matrix.
    pub(crate) fn nr(&self) -> usize {
        2 * self.w
    }

    /// Columns of a panel of a shallow product.
    pub(crate) fn strip_width(&self) -> usize {
        STRIP_COLS * self.w
    }

    /// The tile kernel for `mr` rows and `nv` (1 or 2) vectors of columns.
    pub(crate) fn tile(&self, mr: usize, nv: usize, rows: bool) -> TileFn {
        if rows { self.rows[nv - 1][mr - 1] } else { self.unit[nv - 1][mr - 1] }
    }

    /// The widest tile kernel for `mr` rows, and its width in vectors.
    pub(crate) fn flat(&self, mr: usize, rows: bool) -> (TileFn, usize) {
        let flat = if rows { self.flat_rows } else { self.flat_unit };
        flat.get(mr - 1).copied().unwrap_or((self.tile(mr, 2, rows), 2))
    }
}

/// The kernels of a level.
pub(crate) fn kernels(level: Level) -> &'static Kernels {
    match level {
        Level::Avx512 => &AVX512,
        Level::Avx2 => &AVX2,
        Level::Baseline => &PORTABLE,
    }
}

/// Defines the functions of one instruction set and the table over them.
macro_rules! instantiate {
    (
        $table:ident, $module:ident, $simd:ty, $kc:literal,
        [$($mr:literal)*], [$(($fmr:literal, $fnv:literal))*] $(, $feature:literal)?
    ) => {
        mod $module {
            use super::*;

            /// See [`tile::tile`].
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn tile<const MR: usize, const NV: usize, const ROWS: bool>(t: &tile::Tile) {
                // SAFETY: handed on to the caller.
                unsafe { tile::tile::<$simd, MR, NV, ROWS>(t) }
            }
            /// See [`tile::dot`].
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn dot<const R: usize, const Q: usize>(t: &tile::Dots) -> [[f32; DOT_COLS]; DOT_MOST] {
                // SAFETY: handed on to the caller.
                unsafe { tile::dot::<$simd, R, Q>(t) }
            }
            /// See [`tile::row`].
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn row<const NV: usize, const U: usize>(
                a: *const f32, b: *const f32, b_step: usize, k: usize, cols: usize, out: *mut f32,
            ) {
                // SAFETY: handed on to the caller.
                unsafe { tile::row::<$simd, NV, U>(a, b, b_step, k, cols, out) }
            }
            /// See [`shallow::strip`].
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn strip<const R: usize>(t: &Strip) {
                // SAFETY: handed on to the caller.
                unsafe { shallow::strip::<$simd, R>(t) }
            }
            /// See [`tile::transpose`].
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn transpose(
                src: *const f32, src_rs: usize, rows: usize, cols: usize, dst: *mut f32, dst_rs: usize, exact: bool,
            ) {
                // SAFETY: handed on to the caller.
                unsafe { tile::transpose::<$simd>(src, src_rs, rows, cols, dst, dst_rs, exact) }
            }
            /// See [`tile::copy`].
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn copy(
                src: *const f32, src_rs: usize, rows: usize, cols: usize, dst: *mut f32, dst_rs: usize,
            ) {
                // SAFETY: handed on to the caller.
                unsafe { tile::copy::<$simd>(src, src_rs, rows, cols, dst, dst_rs) }
            }
        }
        static $table: Kernels = Kernels {
            w: <$simd as Simd>::W,
            mr: [$($mr),*].len(),
            kc: $kc,
            unit: [&[$($module::tile::<$mr, 1, false>),*], &[$($module::tile::<$mr, 2, false>),*]],
            rows: [&[$($module::tile::<$mr, 1, true>),*], &[$($module::tile::<$mr, 2, true>),*]],
            flat_unit: &[$(($module::tile::<$fmr, $fnv, false>, $fnv)),*],
            flat_rows: &[$(($module::tile::<$fmr, $fnv, true>, $fnv)),*],
            dot: [
                [
                    $module::dot::<1, 1>, $module::dot::<1, 2>, $module::dot::<1, 3>, $module::dot::<1, 4>,
                    $module::dot::<1, 5>,
                ],
                [
                    $module::dot::<4, 1>, $module::dot::<4, 2>, $module::dot::<4, 3>, $module::dot::<3, 4>,
                    $module::dot::<2, 5>,
                ],
            ],
            row: [$module::row::<1, 8>, $module::row::<2, 4>],
            strip: [$module::strip::<1>, $module::strip::<2>, $module::strip::<3>],
            transpose: $module::transpose,
            copy: $module::copy,
        };
    };
}

instantiate!(PORTABLE, portable, Portable, 720, [1 2 3 4], [(1, 4) (2, 4)]);
instantiate!(AVX2, avx2, crate::cpu::gemm::x86::Avx2, 360, [1 2 3 4 5 6], [(1, 8) (2, 4)], "avx2,fma");
instantiate!(
    AVX512, avx512, crate::cpu::gemm::x86::Avx512, 720, [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
    [(1, 8) (2, 8) (3, 8) (4, 4) (5, 4) (6, 4)], "avx512f,avx512vl,avx2,fma"
);
