//! Row-wise kernels: softmax, log-softmax, index of the maximum. In: rows. Out: rows or one value a row. Invariants: the
//! maximum is subtracted first, so logits of any size are exact; a NaN in a row makes the whole row NaN; softmax may work
//! in place.

use super::par::{Par, Shared, run_tasks};
use super::simd::{Simd, multiversion};
use super::{Io, Level, LibKernel, vmath};

/// Elements of a chunk: about 30 µs.
const CHUNK: usize = 32 << 10;

/// What is done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOp {
    Softmax,
    LogSoftmax,
    ArgMax,
}

/// A row-wise kernel.
pub(crate) struct Rows {
    rows: usize,
    cols: usize,
    chunk: usize,
    chunks: usize,
    op: RowOp,
    kernel: unsafe fn(&Part),
}

/// Some rows.
struct Part {
    x: *const f32,
    y: *mut f32,
    rows: usize,
    cols: usize,
    op: RowOp,
}

impl Rows {
    pub(crate) fn new(rows: usize, cols: usize, op: RowOp, level: Level) -> Rows {
        let chunk = (CHUNK / cols.max(1)).max(1);
        let chunks = if cols == 0 && op != RowOp::ArgMax { 0 } else { rows.div_ceil(chunk) };
        Rows { rows, cols, chunk, chunks, op, kernel: part_for(level) }
    }
}

impl LibKernel for Rows {
    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let per_row = if self.op == RowOp::ArgMax { 1 } else { self.cols };
        let pointers = Shared((io.bufs[0], io.bufs[1]));
        run_tasks(par, self.chunks, &|chunk, _| {
            let (x, y) = pointers.get();
            let first = chunk * self.chunk;
            let rows = self.chunk.min(self.rows - first);
            // SAFETY: the rows lie within both buffers; chunks have different ones.
            unsafe {
                let (x, y) = (x.add(first * self.cols), y.add(first * per_row));
                (self.kernel)(&Part { x, y, rows, cols: self.cols, op: self.op });
            }
        });
    }
}

multiversion! {
    fn part_for = part(p: &Part)
}

#[inline(always)]
unsafe fn part<S: Simd>(p: &Part) {
    // SAFETY: passed on to the caller.
    unsafe {
        if p.cols <= FEW && p.op != RowOp::ArgMax {
            for r in (0..p.rows).step_by(S::LANES) {
                let (x, y, rows) = (p.x.add(r * p.cols), p.y.add(r * p.cols), S::LANES.min(p.rows - r));
                if p.op == RowOp::Softmax {
                    softmax_few::<S, false>(x, y, rows, p.cols);
                } else {
                    softmax_few::<S, true>(x, y, rows, p.cols);
                }
            }
            return;
        }
        for r in 0..p.rows {
            let x = p.x.add(r * p.cols);
            match p.op {
                RowOp::Softmax => softmax::<S, false>(x, p.y.add(r * p.cols), p.cols),
                RowOp::LogSoftmax => softmax::<S, true>(x, p.y.add(r * p.cols), p.cols),
                RowOp::ArgMax => *p.y.add(r) = argmax::<S>(x, p.cols),
            }
        }
    }
}

/// The maximum of a row; NaN if there is one.
#[inline(always)]
unsafe fn maximum<S: Simd>(x: *const f32, len: usize) -> f32 {
    // SAFETY: the caller vouches for `len` elements; the last vector is masked.
    unsafe {
        let mut max = S::splat(f32::NEG_INFINITY);
        let mut i = 0;
        while i < len {
            let v = if i + S::LANES <= len {
                S::load(x.add(i))
            } else {
                S::load_or(x.add(i), S::mask(len - i), S::splat(f32::NEG_INFINITY))
            };
            // A NaN in either operand must survive.
            max = S::keep_nan(v, S::max(v, max));
            i += S::LANES;
        }
        let lanes = S::to_array(max);
        let mut best = lanes[0];
        for v in &lanes[1..S::LANES] {
            if *v > best || v.is_nan() {
                best = *v;
            }
        }
        best
    }
}

#[inline(always)]
unsafe fn softmax<S: Simd, const LOG: bool>(x: *const f32, y: *mut f32, len: usize) {
    // SAFETY: the caller vouches for `len` elements of both, which may be the same.
    unsafe {
        let max = S::splat(maximum::<S>(x, len));
        let whole = len / S::LANES * S::LANES;
        let mask = S::mask(len - whole);
        let lowest = S::splat(f32::NEG_INFINITY);
        let mut sum = S::splat(0.0);
        let mut i = 0;
        while i < whole {
            let e = vmath::exp::<S>(S::sub(S::load(x.add(i)), max));
            sum = S::add(sum, e);
            if !LOG {
                S::store(y.add(i), e);
            }
            i += S::LANES;
        }
        if whole < len {
            // Lanes beyond the row add e^−∞ = 0.
            let e = vmath::exp::<S>(S::sub(S::load_or(x.add(whole), mask, lowest), max));
            sum = S::add(sum, e);
            if !LOG {
                S::store_masked(y.add(whole), mask, e);
            }
        }
        let sum = S::splat(S::sum(sum));
        // In log form the maximum and ln(sum) are subtracted one after the other: their sum would round away what a
        // large maximum leaves.
        let scale = if LOG { vmath::log::<S>(sum) } else { S::div(S::splat(1.0), sum) };
        let mut i = 0;
        while i < whole {
            let v = if LOG { S::sub(S::sub(S::load(x.add(i)), max), scale) } else { S::mul(S::load(y.add(i)), scale) };
            S::store(y.add(i), v);
            i += S::LANES;
        }
        if whole < len {
            let v = if LOG {
                S::sub(S::sub(S::load_masked(x.add(whole), mask), max), scale)
            } else {
                S::mul(S::load_masked(y.add(whole), mask), scale)
            };
            S::store_masked(y.add(whole), mask, v);
        }
    }
}

/// Columns up to which a vector holds one column of several rows, rather than several columns of a row.
const FEW: usize = 32;

/// Softmax of as many rows as a vector has lanes, or fewer, of at most [`FEW`] columns. Where a row is in the vector
/// makes no difference to it.
#[inline(always)]
unsafe fn softmax_few<S: Simd, const LOG: bool>(x: *const f32, y: *mut f32, rows: usize, cols: usize) {
    let mut turned = [[0.0_f32; 16]; FEW];
    // SAFETY: the caller vouches for the rows of both, which may be the same: all is read before anything is written.
    unsafe {
        for r in 0..rows {
            for (c, t) in turned.iter_mut().enumerate().take(cols) {
                t[r] = *x.add(r * cols + c);
            }
        }
        let turned = &mut turned[..cols];
        let mut max = S::splat(f32::NEG_INFINITY);
        for t in turned.iter() {
            let v = S::load(t.as_ptr());
            // A NaN in either operand must survive.
            max = S::keep_nan(v, S::max(v, max));
        }
        let mut sum = S::splat(0.0);
        for t in turned.iter_mut() {
            let e = vmath::exp::<S>(S::sub(S::load(t.as_ptr()), max));
            sum = S::add(sum, e);
            if !LOG {
                S::store(t.as_mut_ptr(), e);
            }
        }
        // As in `softmax`.
        let scale = if LOG { vmath::log::<S>(sum) } else { S::div(S::splat(1.0), sum) };
        for t in turned.iter_mut() {
            let v = S::load(t.as_ptr());
            let v = if LOG { S::sub(S::sub(v, max), scale) } else { S::mul(v, scale) };
            S::store(t.as_mut_ptr(), v);
        }
        for r in 0..rows {
            for (c, t) in turned.iter().enumerate() {
                *y.add(r * cols + c) = t[r];
            }
        }
    }
}

/// Index of the first maximum; of the first NaN, if there is one.
#[inline(always)]
unsafe fn argmax<S: Simd>(x: *const f32, len: usize) -> f32 {
    // SAFETY: the caller vouches for `len` elements.
    unsafe {
        let max = maximum::<S>(x, len);
        let mut i = 0;
        while i + 1 < len {
            let v = *x.add(i);
            if v == max || v.is_nan() {
                break;
            }
            i += 1;
        }
        i as f32
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, run, values};
    use crate::cpu::Level;
    use crate::dim::Dim;
    use crate::plan::LibCall;
    use crate::pool::Pool;

    fn call(cols: usize, log: bool) -> LibCall {
        LibCall::Softmax { rows: Dim::batch(), cols: cols.into(), log }
    }

    fn reference(x: &[f32], cols: usize, log: bool) -> Vec<f64> {
        let mut y = Vec::new();
        for row in x.chunks(cols) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|v| (f64::from(*v) - f64::from(max)).exp()).sum();
            for v in row {
                let d = f64::from(*v) - f64::from(max);
                y.push(if log { d - sum.ln() } else { d.exp() / sum });
            }
        }
        y
    }

    #[test]
    fn softmax_of_odd_rows() {
        for cols in [1, 2, 3, 7, 10, 16, 17, 33, 100, 1000] {
            for rows in [0, 1, 3, 100] {
                for scale in [1.0, 30.0, 1e4] {
                    let x: Vec<f32> = values(rows * cols, 5).iter().map(|v| v * scale).collect();
                    for log in [false, true] {
                        let want = reference(&x, cols, log);
                        // ln(1 + tiny) is known to an ulp of 1 only, so a logarithm is compared on that scale.
                        let least = if log { 0.2 } else { 1e-6 };
                        let size: Vec<f64> = want.iter().map(|w| w.abs().max(least)).collect();
                        check(&call(cols, log), &[rows as u64], &[&x], &want, &size, 2e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn huge_logits_are_exact_and_a_nan_fills_its_row() {
        let mut pool = Pool::new(1).expect("threads");
        let x = [1e4, -1e4, 0.0, 3.0, f32::NAN, 2.0, -1e4, -1e4, -1e4];
        for level in Level::available() {
            let y = run(&call(3, false), &[3], level, &mut pool, &[&x]);
            assert_eq!(y[..3], [1.0, 0.0, 0.0]);
            assert!(y[3..6].iter().all(|v| v.is_nan()));
            assert!(y[6..].iter().all(|v| (v - 1.0 / 3.0).abs() < 1e-7));
            let y = run(&call(3, true), &[3], level, &mut pool, &[&x]);
            assert_eq!(y[..3], [0.0, -2e4, -1e4]);
            assert!(y[3..6].iter().all(|v| v.is_nan()));
        }
    }

    #[test]
    fn the_first_maximum_wins() {
        let mut pool = Pool::new(2).expect("threads");
        for cols in [1, 2, 7, 16, 33, 5000] {
            let rows = 40;
            let mut x: Vec<f32> = values(rows * cols, 9).iter().map(|v| (v * 4.0).round()).collect();
            x[cols - 1] = f32::NAN;
            let want: Vec<f32> = x
                .chunks(cols)
                .map(|row| {
                    let mut best = 0;
                    for (i, v) in row.iter().enumerate() {
                        if !row[best].is_nan() && (v.is_nan() || *v > row[best]) {
                            best = i;
                        }
                    }
                    best as f32
                })
                .collect();
            let call = LibCall::ArgMax { rows: Dim::batch(), cols: cols.into() };
            for level in Level::available() {
                assert_eq!(run(&call, &[rows as u64], level, &mut pool, &[&x]), want);
            }
        }
    }
}
