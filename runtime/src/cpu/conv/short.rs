//! Forward convolutions whose results are sums of few products, as of images with one or three channels.
//!
//! In: a row of cells, its source with the padding filled in, a packed kernel that fits into the first-level cache.
//! Out: the row, written in the order of memory. Each sum is one chain of multiply-adds in ascending order of taps and
//! channels. Tiles that are shared with matrix products take longer to begin and to end than such sums take.

use crate::cpu::Level;
use crate::cpu::simd::{Simd, multiversion};

/// Most products of a result, and most floats of the packed kernel.
const MAX_DEPTH: usize = 64;
const MAX_KERNEL: usize = 4096;
/// Runs of source floats from this length on are read as well by other tiles.
const LONG_RUN: usize = 16;

/// Cells whose sums are in registers at once. With two vectors each, that is as many chains as two units for
/// multiply-adds with a latency of four cycles need.
const CELLS: usize = 4;

/// A row of cells.
pub(super) struct Row<'a> {
    /// What the first cell sees first, and floats from cell to cell.
    pub(super) source: *const f32,
    pub(super) step: usize,
    /// Offset of each product's factor.
    pub(super) offsets: &'a [usize],
    /// Packed kernel: panels of two vectors.
    pub(super) kernel: *const f32,
    pub(super) result: *mut f32,
    /// Floats from cell to cell of the result.
    pub(super) result_step: usize,
    pub(super) cells: usize,
    /// Channels of the result.
    pub(super) channels: usize,
    /// Null for none.
    pub(super) bias: *const f32,
    pub(super) relu: bool,
}

/// The kernel for a row.
pub(super) type RowFn = unsafe fn(&Row<'_>);

/// The kernel, if sums of `depth` products from runs of `run` floats are short ones.
pub(super) fn row_kernel(level: Level, depth: usize, run: usize, channels: usize) -> Option<RowFn> {
    let short = depth <= MAX_DEPTH && run < LONG_RUN && depth * channels <= MAX_KERNEL;
    short.then(|| row_for(level))
}

multiversion! {
    fn row_for = row(r: &Row<'_>)
}

#[inline(always)]
unsafe fn row<S: Simd>(r: &Row<'_>) {
    let whole = r.cells - r.cells % CELLS;
    // SAFETY: handed on to the caller.
    unsafe {
        for cell in (0..whole).step_by(CELLS) {
            cells::<S, CELLS>(r, cell);
        }
        for cell in whole..r.cells {
            cells::<S, 1>(r, cell);
        }
    }
}

/// All channels of `N` cells.
#[inline(always)]
unsafe fn cells<S: Simd, const N: usize>(r: &Row<'_>, cell: usize) {
    let panel = 2 * S::LANES;
    let whole = r.channels - r.channels % panel;
    // SAFETY: panels lie one behind the other; the last one is cut to its channels.
    unsafe {
        for c in (0..whole).step_by(panel) {
            sums::<S, N, 2>(r, cell, c, r.kernel.add(c * r.offsets.len()));
        }
        for c in (whole..r.channels).step_by(S::LANES) {
            sums::<S, N, 1>(r, cell, c, r.kernel.add(whole * r.offsets.len() + c - whole));
        }
    }
}

/// `V` vectors of channels of `N` cells.
#[inline(always)]
unsafe fn sums<S: Simd, const N: usize, const V: usize>(r: &Row<'_>, cell: usize, c: usize, kernel: *const f32) {
    // SAFETY: the caller vouches for the row; lanes beyond the channels are neither read nor written.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; N];
        let mut kernel = kernel;
        let source = r.source.add(cell * r.step);
        for offset in r.offsets {
            let at = source.add(*offset);
            let mut w = [S::splat(0.0); V];
            for (v, w) in w.iter_mut().enumerate() {
                *w = S::load(kernel.add(v * S::LANES));
            }
            for (n, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(*at.add(n * r.step));
                for (acc, w) in acc.iter_mut().zip(w) {
                    *acc = S::fma(x, w, *acc);
                }
            }
            kernel = kernel.add(2 * S::LANES);
        }
        let lanes = (r.channels - c).min(V * S::LANES);
        let mask = S::mask(lanes.min(S::LANES));
        let cut = lanes < V * S::LANES;
        if !r.bias.is_null() {
            for v in 0..V {
                let at = r.bias.add(c + v * S::LANES);
                let bias = if cut { S::load_masked(at, mask) } else { S::load(at) };
                for acc in &mut acc {
                    acc[v] = S::add(acc[v], bias);
                }
            }
        }
        for (n, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                let y = if r.relu { S::max(S::splat(0.0), *acc) } else { *acc };
                let at = r.result.add((cell + n) * r.result_step + c + v * S::LANES);
                if cut { S::store_masked(at, mask, y) } else { S::store(at, y) }
            }
        }
    }
}
