//! Vector mathematics: exp, log, tanh and sigmoid. In: f32. Out: f32 within the error each function states, over the whole
//! range. Invariants: NaN gives NaN; results depend on the level only (AVX2 and AVX-512 agree with each other wherever no
//! step underflows; the baseline has no fused multiply-add), never on the position of an element in a slice.
//!
//! Source of the polynomials: Moshier's Cephes library (single precision: expf, logf, tanhf).

use super::Level;
use super::simd::{Simd, multiversion};

/// ln 2 in two parts; the first has few enough bits that its product with any exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// eˣ within 1 ulp; ∞ above 88.72, gradual underflow to 0.
///
/// # Safety
/// The level of `S` is available; so for all functions here.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on to the caller.
    unsafe {
        // The order of the operands keeps a NaN.
        let ([n], [p]) = parts::<S, 1>([S::min(S::splat(89.0), S::max(S::splat(-105.0), x))]);
        S::scale(S::add(p, S::splat(1.0)), n)
    }
}

/// A whole n and p such that eˣ = 2ⁿ · (1 + p). Several vectors go side by side: each is a long chain of operations.
#[inline(always)]
unsafe fn parts<S: Simd, const N: usize>(x: [S::V; N]) -> ([S::V; N], [S::V; N]) {
    // SAFETY: passed on to the caller.
    unsafe {
        let (mut n, mut r, mut p) = (x, x, [S::splat(1.987_569_1e-4); N]);
        for n in &mut n {
            *n = S::round(S::mul(*n, S::splat(std::f32::consts::LOG2_E)));
        }
        for part in [-LN2_HIGH, -LN2_LOW] {
            for i in 0..N {
                r[i] = S::fma(n[i], S::splat(part), r[i]);
            }
        }
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            for i in 0..N {
                p[i] = S::fma(p[i], r[i], S::splat(c));
            }
        }
        for i in 0..N {
            p[i] = S::fma(p[i], S::mul(r[i], r[i]), r[i]);
        }
        (n, p)
    }
}

/// ln x within 1 ulp; −∞ at 0, NaN below.
///
/// # Safety
/// As [`exp`].
#[inline(always)]
pub(crate) unsafe fn log<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on to the caller.
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        // Denormals are brought into the normal range.
        let tiny = S::splat(f32::MIN_POSITIVE);
        let y = S::select_lt(x, tiny, S::mul(x, S::splat(8_388_608.0)), x);
        let bias = S::select_lt(x, tiny, S::splat(127.0 - 1.0 + 23.0), S::splat(127.0 - 1.0));
        let e = S::sub(S::exponent_field(y), bias);
        // The mantissa in [½, 1), then in [√½, √2).
        let m = S::set_bits(y, 0x007f_ffff, 0x3f00_0000);
        let root = S::splat(std::f32::consts::FRAC_1_SQRT_2);
        let e = S::sub(e, S::select_lt(m, root, one, zero));
        let m = S::sub(S::add(m, S::select_lt(m, root, m, zero)), one);
        let z = S::mul(m, m);
        let mut p = S::splat(7.037_683_6e-2);
        for c in [
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ] {
            p = S::fma(p, m, S::splat(c));
        }
        let y = S::mul(S::mul(m, z), p);
        let y = S::fma(e, S::splat(LN2_LOW), y);
        let y = S::fma(z, S::splat(-0.5), y);
        let y = S::fma(e, S::splat(LN2_HIGH), S::add(m, y));
        let y = S::select_eq(x, zero, S::splat(f32::NEG_INFINITY), y);
        let y = S::select_lt(x, zero, S::splat(f32::NAN), y);
        let y = S::select_eq(x, S::splat(f32::INFINITY), x, y);
        S::keep_nan(x, y)
    }
}

/// tanh x within 2 ulp.
///
/// # Safety
/// As [`exp`].
#[inline(always)]
pub(crate) unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on to the caller.
    unsafe { tanh_of::<S, 1>([x])[0] }
}

/// [`tanh`] of several vectors side by side.
///
/// # Safety
/// As [`exp`].
#[inline(always)]
pub(crate) unsafe fn tanh_of<S: Simd, const N: usize>(x: [S::V; N]) -> [S::V; N] {
    // SAFETY: passed on to the caller.
    unsafe {
        // (e²ˣ − 1) / (e²ˣ + 1) for |x|, beyond 10 that is 1; with x < 0 the sum would lose digits. The order of the
        // operands keeps a NaN.
        let mut far = x;
        for far in &mut far {
            *far = S::min(S::splat(20.0), S::set_bits(S::add(*far, *far), 0x7fff_ffff, 0));
        }
        let (n, p) = parts::<S, N>(far);
        for i in 0..N {
            let scale = S::power(n[i]);
            let e = S::fma(scale, p[i], S::sub(scale, S::splat(1.0)));
            far[i] = S::div(e, S::add(e, S::splat(2.0)));
        }
        // Near 0 that loses digits too.
        let (mut square, mut p) = (x, [S::splat(-5.704_988_7e-3); N]);
        for square in &mut square {
            *square = S::mul(*square, *square);
        }
        for c in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
            for i in 0..N {
                p[i] = S::fma(p[i], square[i], S::splat(c));
            }
        }
        let zero = S::splat(0.0);
        for i in 0..N {
            let near = S::fma(S::mul(p[i], square[i]), x[i], x[i]);
            let far = S::select_lt(x[i], zero, S::sub(zero, far[i]), far[i]);
            p[i] = S::select_lt(square[i], S::splat(0.625 * 0.625), near, far);
        }
        p
    }
}

/// 1 / (1 + e⁻ˣ) within 3 ulp down to −87, where it leaves the normal range; 0 below −88.4.
///
/// # Safety
/// As [`exp`].
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on to the caller.
    unsafe { sigmoid_of::<S, 1>([x])[0] }
}

/// [`sigmoid`] of several vectors side by side.
///
/// # Safety
/// As [`exp`].
#[inline(always)]
pub(crate) unsafe fn sigmoid_of<S: Simd, const N: usize>(mut x: [S::V; N]) -> [S::V; N] {
    // SAFETY: passed on to the caller.
    unsafe {
        for x in &mut x {
            // Below −87, eˣ is lost beside 1 anyway. The order of the operands keeps a NaN.
            *x = S::min(S::splat(89.0), S::max(S::splat(-87.0), S::sub(S::splat(0.0), *x)));
        }
        let (n, p) = parts::<S, N>(x);
        let one = S::splat(1.0);
        for i in 0..N {
            let scale = S::power(n[i]);
            // Not scale · p + scale: beyond 88.4 the scale is infinite and p may be negative.
            x[i] = S::div(one, S::fma(scale, S::add(one, p[i]), one));
        }
        x
    }
}

macro_rules! over_slices {
    ($($(#[$doc:meta])* $name:ident, $table:ident, $generic:ident, $core:ident;)*) => { $(
        $(#[$doc])*
        ///
        /// # Panics
        /// When the slices differ in length, or the processor lacks the level.
        pub fn $name(level: Level, x: &[f32], y: &mut [f32]) {
            assert_eq!(x.len(), y.len());
            assert!(level <= Level::hardware(), "this processor lacks {level}");
            // SAFETY: the level is available, and both slices have that length.
            unsafe { $table(level)(x.as_ptr(), y.as_mut_ptr(), x.len()) }
        }

        multiversion! {
            fn $table = $generic(x: *const f32, y: *mut f32, len: usize)
        }

        #[inline(always)]
        unsafe fn $generic<S: Simd>(x: *const f32, y: *mut f32, len: usize) {
            // SAFETY: passed on to the caller; the last vector is masked.
            unsafe {
                let mut i = 0;
                while i + S::LANES <= len {
                    S::store(y.add(i), $core::<S>(S::load(x.add(i))));
                    i += S::LANES;
                }
                if i < len {
                    let mask = S::mask(len - i);
                    S::store_masked(y.add(i), mask, $core::<S>(S::load_masked(x.add(i), mask)));
                }
            }
        }
    )* };
}

over_slices! {
    /// y = eˣ, see the error bounds in this module.
    exp_all, exp_for, exp_slice, exp;
    /// y = ln x.
    log_all, log_for, log_slice, log;
    /// y = tanh x.
    tanh_all, tanh_for, tanh_slice, tanh;
    /// y = 1 / (1 + e⁻ˣ).
    sigmoid_all, sigmoid_for, sigmoid_slice, sigmoid;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every so many f32 of both signs, and the special ones.
    fn sweep() -> Vec<f32> {
        let mut x: Vec<f32> = (0..=u32::MAX / 1777).map(|i| f32::from_bits(i * 1777)).collect();
        x.extend((-20_000..20_000).map(|i| i as f32 * 0.0053));
        x.extend([0.0, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, f32::MAX]);
        x
    }

    /// Distance in units of the last place of the exact value.
    fn ulps(got: f32, want: f64) -> f64 {
        let rounded = want as f32;
        if got.to_bits() == rounded.to_bits() || (got.is_nan() && want.is_nan()) || got == rounded {
            return 0.0;
        }
        let size = want.abs().max(f64::from(f32::MIN_POSITIVE));
        let ulp = (2.0_f64).powi(size.log2().floor() as i32 - 23);
        (f64::from(got) - want).abs() / ulp
    }

    fn worst(f: fn(Level, &[f32], &mut [f32]), exact: fn(f64) -> f64, keep: fn(f32) -> bool) -> Vec<f64> {
        let x: Vec<f32> = sweep().into_iter().filter(|x| x.is_nan() || keep(*x)).collect();
        let mut y = vec![0.0; x.len()];
        let mut all = Vec::new();
        for level in Level::available() {
            f(level, &x, &mut y);
            let mut worst = 0.0;
            for (x, y) in x.iter().zip(&y) {
                let u = ulps(*y, exact(f64::from(*x)));
                if u > worst || u.is_nan() {
                    worst = u;
                }
            }
            all.push(worst);
        }
        all
    }

    fn within(errors: &[f64], limit: f64) {
        assert!(errors.iter().all(|e| *e <= limit), "{errors:?}");
    }

    #[test]
    fn exp_is_accurate_everywhere() {
        within(&worst(exp_all, f64::exp, |_| true), 1.0);
    }

    #[test]
    fn log_is_accurate_everywhere() {
        within(&worst(log_all, f64::ln, |_| true), 1.0);
    }

    #[test]
    fn tanh_is_accurate_everywhere() {
        within(&worst(tanh_all, f64::tanh, |_| true), 2.0);
    }

    #[test]
    fn sigmoid_is_accurate_where_it_is_normal() {
        within(&worst(sigmoid_all, |x| 1.0 / (1.0 + (-x).exp()), |x| x > -87.0), 3.0);
        for level in Level::available() {
            let mut y = [1.0; 3];
            sigmoid_all(level, &[-1000.0, f32::NEG_INFINITY, 1000.0], &mut y);
            assert_eq!(y, [0.0, 0.0, 1.0]);
            // Where e⁻ˣ is no normal number any more the result is tiny, and a number.
            let x: Vec<f32> = (0..20_000).map(|i| -87.0 - i as f32 * 1e-4).collect();
            let mut y = vec![f32::NAN; x.len()];
            sigmoid_all(level, &x, &mut y);
            let bad = x.iter().zip(&y).find(|(_, y)| !(0.0..1.7e-38).contains(*y));
            assert_eq!(bad, None, "{level}");
        }
    }

    #[test]
    fn the_position_in_a_slice_does_not_matter() {
        let x: Vec<f32> = (0..37).map(|i| i as f32 * 0.37 - 5.0).collect();
        for level in Level::available() {
            let mut all = vec![0.0; x.len()];
            tanh_all(level, &x, &mut all);
            for (x, want) in x.iter().zip(&all) {
                let mut one = [0.0];
                tanh_all(level, &[*x], &mut one);
                assert_eq!(one[0].to_bits(), want.to_bits());
            }
        }
    }
}
