//! Positive numbers of any size, side by side. In: f64 arrays. Out: m·2ᵉ with m in [1, 2) and a whole e, both f64, e being
//! [`ZERO`] or below for 0. Invariants: functions of rows have no branches, so loops over them become vectors; nothing in them
//! is fused or comes from a library, so every level gives the same bits.
//!
//! Probabilities of long sequences leave the range of f64, and logarithms, which would keep them in it, cost two
//! exponentials and a logarithm for each sum. Here a sum is a shift, two additions and a look at the exponent.

/// The exponent of 0: below that of any product of finite terms, and a sum of 10⁸ of them is finite.
pub(super) const ZERO: f64 = -1e300;

/// Numbers from here on have their last bit at 1.
const WHOLE: f64 = 4_503_599_627_370_496.0;
const MANTISSA: u64 = (1 << 52) - 1;
/// ln 2 in two parts, the first of which has zeros at its end (Cody and Waite 1980).
const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];

/// 2ᵈ for whole d up to 1023, and 0 from −1023 down.
#[inline(always)]
fn power(d: f64) -> f64 {
    let d = if d > -1023.0 { d } else { -1023.0 };
    f64::from_bits((d + (1023.0 + WHOLE)).to_bits() << 52)
}

/// A positive normal number as m and e.
#[inline(always)]
fn split(x: f64) -> (f64, f64) {
    let bits = x.to_bits();
    let e = f64::from_bits((bits >> 52) | WHOLE.to_bits()) - (WHOLE + 1023.0);
    (f64::from_bits((bits & MANTISSA) | 1.0_f64.to_bits()), e)
}

/// eˣ for x below ∞.
#[inline(always)]
fn exp(x: f32) -> (f64, f64) {
    let x = f64::from(x);
    // Adding 1.5·2⁵² rounds to a whole number what is not one anyway.
    let y = x * std::f64::consts::LOG2_E;
    let round = 1.5 * WHOLE;
    let k = if y.abs() < WHOLE { (y + round) - round } else { y };
    let r = (x - k * LN_2[0]) - k * LN_2[1];
    // Where k has lost digits, r is rubbish.
    let r = r.clamp(-0.35, 0.35);
    // Taylor: what follows r¹³ / 13! is below 2⁻⁵⁷.
    let m = FACTORIALS.iter().rev().fold(0.0, |sum, c| sum * r + c);
    let (m, e) = split(m);
    if y > ZERO { (m, e + k) } else { (1.0, ZERO) }
}

/// 1 / i!
const FACTORIALS: [f64; 14] = {
    let mut c = [1.0; 14];
    let mut i = 1;
    while i < c.len() {
        c[i] = c[i - 1] / i as f64;
        i += 1;
    }
    c
};

/// A row of numbers.
pub(super) struct Row<'a> {
    pub(super) m: &'a mut [f64],
    pub(super) e: &'a mut [f64],
}

impl<'a> Row<'a> {
    /// The two halves of `memory`.
    pub(super) fn new(memory: &'a mut [f64]) -> Row<'a> {
        let (m, e) = memory.split_at_mut(memory.len() / 2);
        Row { m, e }
    }

    /// 1 at index `one`, 0 elsewhere.
    pub(super) fn start_at(&mut self, one: usize) {
        self.m.fill(1.0);
        self.e.fill(ZERO);
        self.e[one] = 0.0;
    }

    /// Exponentials of scores below ∞.
    #[inline(always)]
    pub(super) fn set_exp(&mut self, scores: &[f32]) {
        for ((m, e), x) in self.m.iter_mut().zip(&mut *self.e).zip(scores) {
            (*m, *e) = exp(*x);
        }
    }

    /// Sums over three neighbours: `self[AT + s] = (before[AT + s] + before[1 + s] + before[2 - AT + s]·2^skip[s]) ·
    /// factor[s]`, and 0 in the other two places. `AT` is 2 for sums over what comes before, 0 for what comes after.
    #[inline(always)]
    pub(super) fn set_sums<const AT: usize>(&mut self, before: &Row<'_>, skip: &[f64], factor: &Row<'_>) {
        let n = skip.len();
        let (fm, fe) = (&factor.m[..n], &factor.e[..n]);
        let (m0, e0) = (&before.m[AT..AT + n], &before.e[AT..AT + n]);
        let (m1, e1) = (&before.m[1..1 + n], &before.e[1..1 + n]);
        let (m2, e2) = (&before.m[2 - AT..2 - AT + n], &before.e[2 - AT..2 - AT + n]);
        let free = if AT == 2 { 0 } else { n };
        self.m[free..free + 2].fill(1.0);
        self.e[free..free + 2].fill(ZERO);
        let (m, e) = (&mut self.m[AT..AT + n], &mut self.e[AT..AT + n]);
        for s in 0..n {
            let (e0, e1, e2) = (e0[s], e1[s], e2[s] + skip[s]);
            let top = if e0 > e1 { e0 } else { e1 };
            let top = if top > e2 { top } else { e2 };
            let sum = m0[s] * power(e0 - top) + m1[s] * power(e1 - top) + m2[s] * power(e2 - top);
            let (x, k) = split(sum * fm[s]);
            (m[s], e[s]) = (x, top + k + fe[s]);
        }
    }
}

/// `out[s] = a[s + 2] · b[s] / (factor[s] · whole)`, which is at most 1. Where exponents are so large that they have lost
/// their last digits, it may come out as 1.
#[inline(always)]
pub(super) fn shares(a: &Row<'_>, b: &Row<'_>, factor: &Row<'_>, whole: (f64, f64), out: &mut [f64]) {
    let n = out.len();
    let (am, ae) = (&a.m[2..n + 2], &a.e[2..n + 2]);
    let (bm, be) = (&b.m[..n], &b.e[..n]);
    let (fm, fe) = (&factor.m[..n], &factor.e[..n]);
    for s in 0..n {
        let e = ae[s] + be[s] - fe[s] - whole.1;
        let share = am[s] * bm[s] / (fm[s] * whole.0) * power(if e < 2.0 { e } else { 2.0 });
        out[s] = if share < 1.0 { share } else { 1.0 };
    }
}

/// The sum of the last two numbers.
pub(super) fn last_two(row: &Row<'_>) -> (f64, f64) {
    let n = row.m.len();
    let top = row.e[n - 1].max(row.e[n - 2]);
    let (m, e) = split(row.m[n - 1] * power(row.e[n - 1] - top) + row.m[n - 2] * power(row.e[n - 2] - top));
    (m, top + e)
}

/// The natural logarithm of m·2ᵉ.
pub(super) fn ln((m, e): (f64, f64)) -> f64 {
    if e > 0.1 * ZERO { m.ln() + e * std::f64::consts::LN_2 } else { f64::NEG_INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value((m, e): (f64, f64)) -> f64 {
        m * 2.0_f64.powf(e)
    }

    #[test]
    fn powers_and_parts_are_exact() {
        for d in -1022..=1023 {
            assert_eq!(power(f64::from(d)), 2.0_f64.powi(d), "{d}");
        }
        assert_eq!([power(-1023.0), power(-1e9), power(2.0 * ZERO)], [0.0; 3]);
        for x in [1.0, 1.5, 0.7, 11.999, 1e-300, 1e300] {
            let (m, e) = split(x);
            assert!((1.0..2.0).contains(&m) && e == e.round(), "{x}: {m} {e}");
            assert_eq!(value((m, e)), x);
        }
    }

    #[test]
    fn exponentials_have_all_digits() {
        for i in -7000..=7000 {
            let x = i as f32 * 0.1;
            let (got, want) = (value(exp(x)), f64::from(x).exp());
            assert!((got - want).abs() <= 4e-16 * want, "{x}: {got} {want}");
        }
        for x in [-1e4_f32, -3e5, 8e8, -1e20, f32::MIN, f32::MAX] {
            let got = ln(exp(x));
            assert!((got - f64::from(x)).abs() <= 1e-15 * f64::from(x).abs(), "{x}: {got}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), (1.0, ZERO));
        assert_eq!(ln(exp(f32::NEG_INFINITY)), f64::NEG_INFINITY);
    }

    #[test]
    fn sums_of_very_different_numbers() {
        // 1, 2^-2000 and 0 in the places before; the last factor is 3.
        let mut before = [1.0, 1.5, 1.0, 1.0, 1.0, 1.0, ZERO, ZERO, 0.0, -2000.0, ZERO, -1.0];
        let mut factor = [1.0, 1.0, 1.0, 1.5, 0.0, 0.0, 5000.0, 1.0];
        let (before, factor) = (Row::new(&mut before), Row::new(&mut factor));
        let sums = |after: bool| {
            let mut out = [0.0; 12];
            let mut row = Row::new(&mut out);
            if after {
                row.set_sums::<0>(&before, &[0.0, 0.0, 0.0, ZERO], &factor);
            } else {
                row.set_sums::<2>(&before, &[0.0, 0.0, 0.0, ZERO], &factor);
            }
            (row.m.to_vec(), row.e.to_vec())
        };
        let (m, e) = sums(false);
        assert_eq!(m, [1.0, 1.0, 1.0, 1.0, 1.0, 1.5]);
        assert_eq!(e, [ZERO, ZERO, 0.0, 0.0, 5000.0, 0.0]);
        let (m, e) = sums(true);
        assert_eq!(m, [1.0, 1.0, 1.0, 1.5, 1.0, 1.0]);
        assert_eq!(e, [0.0, 0.0, 5000.0, -1999.0, ZERO, ZERO]);
    }
}
