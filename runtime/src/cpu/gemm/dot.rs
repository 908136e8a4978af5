//! Products with at most four columns (or rows, over a transposed b): dot products along the depth, where a tile would
//! leave most lanes empty. In: rows that are contiguous along the depth. Out: C. Invariant: one dot product is summed in
//! lane order and then by halves, the same way wherever it is computed.

use super::super::simd::{Simd, multiversion};
use super::super::{Io, Level, LibKernel, Phase, Scratch};
use super::{FLOPS_PER_CHUNK, Shape, pack, part};

/// Most columns.
const MAX: usize = 4;
/// Rows done at once.
const ROWS: usize = 4;

/// A product by dot products of "long" rows (many) with "short" ones (at most four).
pub(super) struct Dot {
    shape: Shape,
    /// The short operand is a: m ≤ 4 and b is transposed.
    swapped: bool,
    /// The short operand must be transposed first.
    pack: bool,
    phases: Vec<Phase>,
    chunks: usize,
    kernel: unsafe fn(&Rows),
}

/// What a kernel call works on.
struct Rows {
    long: *const f32,
    rows: usize,
    short: *const f32,
    columns: usize,
    depth: usize,
    c: *mut f32,
    c_row: usize,
    c_column: usize,
}

impl Dot {
    /// A kernel for the shape, or `None` when tiles serve it better.
    pub(super) fn new(shape: Shape, level: Level) -> Option<Dot> {
        let Shape { batch, m, n, k, ta, tb } = shape;
        if k < 16 || ta || m == 0 || n == 0 || batch == 0 {
            return None;
        }
        let swapped = m <= MAX && tb;
        if !swapped && n > MAX {
            return None;
        }
        let pack = !swapped && !tb && n > 1;
        let long = if swapped { n } else { m };
        let flops = 2.0 * (batch * m * n) as f64 * k as f64;
        // Dot products of few columns run at about a third of a tile's speed.
        let wanted = (3.0 * flops / FLOPS_PER_CHUNK / batch as f64).min(64.0) as usize;
        let chunks = wanted.clamp(1, long.div_ceil(ROWS));
        let mut phases = Vec::new();
        if pack {
            phases.push(Phase { chunks: batch, parallel: false });
        }
        phases.push(Phase { chunks: batch * chunks, parallel: flops * 3.0 > 2.0 * FLOPS_PER_CHUNK });
        Some(Dot { shape, swapped, pack, phases, chunks, kernel: rows_for(level) })
    }
}

impl LibKernel for Dot {
    fn phases(&self) -> &[Phase] {
        &self.phases
    }

    fn scratch(&self) -> Scratch {
        let Shape { batch, n, k, .. } = self.shape;
        Scratch { shared: if self.pack { batch * n * k * 4 } else { 0 }, local: 0 }
    }

    unsafe fn run(&self, phase: usize, chunk: usize, io: &Io<'_>) {
        let Shape { m, n, k, .. } = self.shape;
        // SAFETY: all rows and columns below lie within the buffers of the shape.
        unsafe {
            if self.pack && phase == 0 {
                pack::transpose(io.bufs[1].add(chunk * k * n), n, k, n, io.shared.add(chunk * n * k), k);
                return;
            }
            let g = chunk / self.chunks;
            let (a, c) = (io.bufs[0].add(g * m * k), io.bufs[2].add(g * m * n));
            let b = if self.pack { io.shared.add(g * n * k) } else { io.bufs[1].add(g * n * k) };
            let (long, total, short, columns, c_row, c_column) =
                if self.swapped { (b, n, a, m, 1, n) } else { (a, m, b, n, n, 1) };
            let rows = part(total, self.chunks, chunk % self.chunks);
            (self.kernel)(&Rows {
                long: long.add(rows.start * k),
                rows: rows.len(),
                short,
                columns,
                depth: k,
                c: c.add(rows.start * c_row),
                c_row,
                c_column,
            });
        }
    }
}

multiversion! {
    /// The kernel of a level.
    fn rows_for = rows(r: &Rows)
}

#[inline(always)]
unsafe fn rows<S: Simd>(r: &Rows) {
    let mut i = 0;
    // SAFETY: passed on to the caller; blocks of rows stay below `r.rows`.
    unsafe {
        while i < r.rows {
            let left = r.rows - i;
            match (left >= ROWS, r.columns) {
                (true, 1) => block::<S, ROWS, 1>(r, i),
                (true, 2) => block::<S, ROWS, 2>(r, i),
                (true, 3) => block::<S, ROWS, 3>(r, i),
                (true, _) => block::<S, ROWS, 4>(r, i),
                (false, 1) => block::<S, 1, 1>(r, i),
                (false, 2) => block::<S, 1, 2>(r, i),
                (false, 3) => block::<S, 1, 3>(r, i),
                (false, _) => block::<S, 1, 4>(r, i),
            }
            i += if left >= ROWS { ROWS } else { 1 };
        }
    }
}

#[inline(always)]
unsafe fn block<S: Simd, const R: usize, const C: usize>(r: &Rows, first: usize) {
    // SAFETY: R rows from `first` and C columns exist; the last vector is masked.
    unsafe {
        let long = r.long.add(first * r.depth);
        let mut acc = [[S::splat(0.0); C]; R];
        let whole = r.depth / S::LANES * S::LANES;
        let mut d = 0;
        while d < whole {
            let mut y = [S::splat(0.0); C];
            for (j, y) in y.iter_mut().enumerate() {
                *y = S::load(r.short.add(j * r.depth + d));
            }
            for (i, row) in acc.iter_mut().enumerate() {
                let x = S::load(long.add(i * r.depth + d));
                for (acc, y) in row.iter_mut().zip(&y) {
                    *acc = S::fma(x, *y, *acc);
                }
            }
            d += S::LANES;
        }
        if whole < r.depth {
            let mask = S::mask(r.depth - whole);
            for (i, row) in acc.iter_mut().enumerate() {
                let x = S::load_masked(long.add(i * r.depth + whole), mask);
                for (j, acc) in row.iter_mut().enumerate() {
                    *acc = S::fma(x, S::load_masked(r.short.add(j * r.depth + whole), mask), *acc);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (j, acc) in row.iter().enumerate() {
                *r.c.add((first + i) * r.c_row + j * r.c_column) = S::sum(*acc);
            }
        }
    }
}
