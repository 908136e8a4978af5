//! Initial values of recurrent kernels. In: a stream of draws and a number of rows. Out: a matrix with orthonormal rows or
//! columns. Invariant: no fused operation and no library function takes part, and sums have a fixed order, so all levels give
//! the same bits; a level only says how many numbers an instruction takes.

use crate::abi::rng;
use crate::cpu::Level;
use std::f64::consts::{LN_2, SQRT_2, TAU};

/// Fills `values`, a row-major matrix of `rows` rows, for a level that the processor has.
///
/// Modified Gram-Schmidt on a matrix of normal numbers, along whichever side is shorter. The diagonal of R comes out
/// positive, which makes the distribution uniform (Mezzadri, "How to generate random matrices from the classical compact
/// groups", 2007).
pub(super) fn orthogonal(values: &mut [f32], stream: u32, rows: usize, level: Level) {
    if level == Level::Baseline {
        generic(values, stream, rows);
    } else {
        // SAFETY: the caller has a level that the processor has, and all but the lowest have AVX2.
        unsafe { avx2(values, stream, rows) }
    }
}

/// See [`orthogonal`].
#[target_feature(enable = "avx2")]
fn avx2(values: &mut [f32], stream: u32, rows: usize) {
    generic(values, stream, rows);
}

#[inline(always)]
fn generic(values: &mut [f32], stream: u32, rows: usize) {
    let cols = values.len() / rows.max(1);
    let (count, len) = (rows.min(cols), rows.max(cols));
    let mut basis = vec![0.0; count * len];
    for (v, row) in basis.chunks_exact_mut(len.max(1)).enumerate() {
        // Drawn in the matrix's own order, so that a seed means the same whichever side is longer.
        let (start, step) = if rows >= cols { (v, cols) } else { (v * cols, 1) };
        for (i, x) in row.iter_mut().enumerate() {
            *x = normal(stream, (start + i * step) as u32);
        }
    }
    for v in 0..count {
        let (done, rest) = basis.split_at_mut(v * len);
        let this = &mut rest[..len];
        let whole = dot(this, this);
        subtract(this, done);
        // What little is left has lost digits, so once more (Daniel, Gragg, Kaufman and Stewart 1976); twice is enough.
        if 2.0 * dot(this, this) < whole {
            subtract(this, done);
        }
        let norm = dot(this, this).sqrt();
        for a in this.iter_mut() {
            *a /= norm.max(f64::MIN_POSITIVE);
        }
    }
    for (at, value) in values.iter_mut().enumerate().take(rows * cols) {
        let (r, c) = (at / cols, at % cols);
        *value = if rows >= cols { basis[c * len + r] } else { basis[r * len + c] } as f32;
    }
}

/// Takes the directions of all rows of `done` out of `this`.
#[inline(always)]
fn subtract(this: &mut [f64], done: &[f64]) {
    for other in done.chunks_exact(this.len()) {
        let shared = dot(this, other);
        for (a, b) in this.iter_mut().zip(other) {
            *a -= shared * b;
        }
    }
}

/// Sum of products in eight chains, which do not wait for each other: a recurrent layer of 256 units needs 50 million of
/// them before its first step.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (mut sums, (a, a_rest), (b, b_rest)) = ([0.0; 8], a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

// The functions below have no branches and no divisions that a loop over them could not do side by side.

/// Standard normal number `index` of a stream: Box and Muller (1958) on draws `2·index` and `2·index + 1`.
#[inline(always)]
fn normal(stream: u32, index: u32) -> f64 {
    let draw = |i: u32| (f64::from(rng::bits(stream, i)) + 0.5) * (1.0 / 4_294_967_296.0);
    let u = draw(index.wrapping_mul(2));
    let v = draw(index.wrapping_mul(2).wrapping_add(1));
    (-2.0 * ln(u)).sqrt() * cos_turns(v)
}

/// Terms of the series of artanh(s) / s in s². |s| < 0.172, so what follows s²⁴ is less than an ulp.
const ARTANH: [f64; 13] = {
    let mut terms = [0.0; 13];
    let mut i = 0;
    while i < terms.len() {
        terms[i] = 1.0 / (2 * i + 1) as f64;
        i += 1;
    }
    terms
};

/// Terms of the series of cos(r) and sin(r) / r in −r². |r| ≤ π/4: the next ones are below 1e-17.
const COS: [f64; 10] = reciprocal_factorials(0);
const SIN: [f64; 10] = reciprocal_factorials(1);

/// 1 / (2i + first)!
const fn reciprocal_factorials(first: usize) -> [f64; 10] {
    let mut terms = [1.0; 10];
    let mut i = 1;
    while i < terms.len() {
        terms[i] = terms[i - 1] / ((2 * i + first - 1) * (2 * i + first)) as f64;
        i += 1;
    }
    terms
}

/// Natural logarithm of a positive normal number: `2 artanh((m − 1) / (m + 1)) + e ln 2` with m in [√½, √2).
#[inline(always)]
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let e = (bits >> 52) as i32 - 1023;
    let m = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let high = m >= SQRT_2;
    let m = if high { m * 0.5 } else { m };
    let e = f64::from(e) + if high { 1.0 } else { 0.0 };
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    2.0 * s * ARTANH.iter().rev().fold(0.0, |a, term| a * z + term) + e * LN_2
}

/// cos(2πv) for v in [0, 1), by series on an eighth of a turn.
#[inline(always)]
fn cos_turns(v: f64) -> f64 {
    let quarter = (v * 4.0 + 0.5) as i32;
    let r = (v - f64::from(quarter) * 0.25) * TAU;
    let z = -r * r;
    let (mut cos, mut sin) = (0.0, 0.0);
    for (c, s) in COS.iter().zip(&SIN).rev() {
        (cos, sin) = (cos * z + c, sin * z + s);
    }
    let x = if quarter & 1 == 0 { cos } else { -r * sin };
    if quarter & 2 == 0 { x } else { -x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_functions_agree_with_the_library() {
        for i in 1..20_000 {
            let u = f64::from(i) / 20_000.0;
            assert!((ln(u) - u.ln()).abs() < 1e-15 * (1.0 + u.ln().abs()), "ln {u}");
            assert!((cos_turns(u) - (u * std::f64::consts::TAU).cos()).abs() < 4e-16 * 4.0, "cos {u}");
        }
        assert!((ln(1e-300) - 1e-300_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|i| normal(7, i)).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let var = draws.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.03, "{mean} {var}");
    }

    #[test]
    fn orthogonal_matrices_are_orthonormal_on_their_short_side() {
        for (rows, cols) in [(5, 5), (12, 7), (7, 12), (1, 4)] {
            let mut m = vec![0.0_f32; rows * cols];
            orthogonal(&mut m, 3, rows, Level::hardware());
            let (count, stride, step, len) = if rows >= cols { (cols, 1, cols, rows) } else { (rows, cols, 1, cols) };
            for a in 0..count {
                for b in 0..count {
                    let dot: f64 = (0..len)
                        .map(|i| f64::from(m[a * stride + i * step]) * f64::from(m[b * stride + i * step]))
                        .sum();
                    let want = if a == b { 1.0 } else { 0.0 };
                    assert!((dot - want).abs() < 1e-6, "{rows}x{cols}: {a} {b} {dot}");
                }
            }
        }
    }

    #[test]
    fn levels_give_the_same_bits() {
        for (rows, cols) in [(24, 72), (40, 40), (33, 7)] {
            let mut of = Level::available().into_iter().map(|level| {
                let mut m = vec![0.0_f32; rows * cols];
                orthogonal(&mut m, 9, rows, level);
                m.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            });
            let first = of.next();
            assert!(of.all(|m| Some(m) == first), "{rows}x{cols}");
        }
    }
}
