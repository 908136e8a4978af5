//! Initial values of the state. In: the state specs and a seed. Out: filled tensors. Invariant: each value depends on the
//! seed, the index of its tensor and its position only, and on no library function of the operating system, so that a seed
//! gives the same bits everywhere.

use super::memory::Region;
use crate::abi::rng;
use crate::plan::{Init, StateSpec};

/// Operation number of the initial values of state 0; state `i` draws as operation `INIT_OP + i`. Above the numbers
/// that a compiled program gives its own draws.
pub const INIT_OP: u32 = 0x4000_0000;

pub(super) fn fill(specs: &[StateSpec], state: &mut Region, seed: u64) {
    let seed = (seed ^ (seed >> 32)) as u32;
    for (i, spec) in specs.iter().enumerate() {
        let Some(values) = state.floats_mut(spec.offset as usize, spec.len() as usize) else { continue };
        let stream = rng::stream(seed, INIT_OP.wrapping_add(i as u32), 0);
        match spec.init {
            Init::Constant(c) => values.fill(c),
            Init::Uniform { limit } => uniform(values, stream, limit),
            Init::GlorotUniform { fan_in, fan_out } => {
                let limit = (6.0 / (fan_in as f64 + fan_out as f64).max(1.0)).sqrt();
                uniform(values, stream, limit as f32);
            }
            Init::Orthogonal => {
                let rows = spec.shape.first().map_or(1, |d| *d as usize);
                orthogonal(values, stream, rows);
            }
            Init::Block { value, from, to } => {
                for (i, v) in values.iter_mut().enumerate() {
                    *v = if (from..to).contains(&(i as u64)) { value } else { 0.0 };
                }
            }
        }
    }
}

/// `(2u − 1) · limit`.
fn uniform(values: &mut [f32], stream: u32, limit: f32) {
    for (i, v) in values.iter_mut().enumerate() {
        *v = (2.0 * rng::uniform(stream, i as u32) - 1.0) * limit;
    }
}

/// A matrix with orthonormal rows or columns, whichever are fewer: modified Gram-Schmidt on a normal matrix, done twice
/// for full accuracy (Björck 1994). The diagonal of R comes out positive, which makes the distribution uniform.
fn orthogonal(values: &mut [f32], stream: u32, rows: usize) {
    let cols = values.len() / rows.max(1);
    let (count, len) = (rows.min(cols), rows.max(cols));
    let mut basis: Vec<f64> = Vec::with_capacity(count * len);
    for v in 0..count {
        for i in 0..len {
            // Drawn in the matrix's own order, so that a seed means the same whichever side is longer.
            let at = if rows >= cols { i * cols + v } else { v * cols + i };
            basis.push(normal(stream, at as u32));
        }
    }
    for v in 0..count {
        let (done, rest) = basis.split_at_mut(v * len);
        let this = &mut rest[..len];
        for _ in 0..2 {
            for other in done.chunks_exact(len) {
                let shared = dot(this, other);
                for (a, b) in this.iter_mut().zip(other) {
                    *a -= shared * b;
                }
            }
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

/// Sum of products in eight chains, which do not wait for each other: a recurrent layer of 256 units needs 50 million of
/// them before its first step.
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

/// Standard normal number `index` of a stream: Box and Muller (1958) on draws `2·index` and `2·index + 1`.
fn normal(stream: u32, index: u32) -> f64 {
    let draw = |i: u32| f64::from(rng::bits(stream, i)) + 0.5;
    let u = draw(index.wrapping_mul(2)) / 4_294_967_296.0;
    let v = draw(index.wrapping_mul(2).wrapping_add(1)) / 4_294_967_296.0;
    (-2.0 * ln(u)).sqrt() * cos_turns(v)
}

/// Natural logarithm of a positive normal number: `2 artanh((m − 1) / (m + 1)) + e ln 2` with m in [√½, √2).
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut e = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if m >= std::f64::consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    // |s| < 0.172, so terms up to s²⁵ leave less than an ulp.
    let series = (0..13).rev().fold(0.0, |a, i| a * z + 1.0 / f64::from(2 * i + 1));
    2.0 * s * series + f64::from(e) * std::f64::consts::LN_2
}

/// cos(2πv) for v in [0, 1), by Taylor series on an eighth of a turn.
fn cos_turns(v: f64) -> f64 {
    let quarter = (v * 4.0).round();
    let r = (v - quarter / 4.0) * std::f64::consts::TAU;
    let z = -r * r;
    // |r| ≤ π/4: the next terms are below 1e-17.
    let series = |first: i32, start: f64| {
        let (mut term, mut sum) = (start, start);
        for i in 0..9 {
            let n = f64::from(2 * i + first);
            term *= z / ((n + 1.0) * (n + 2.0));
            sum += term;
        }
        sum
    };
    let (cos, sin) = (series(0, 1.0), series(1, r));
    match quarter as i32 & 3 {
        0 => cos,
        1 => -sin,
        2 => -cos,
        _ => sin,
    }
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
            orthogonal(&mut m, 3, rows);
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
}
