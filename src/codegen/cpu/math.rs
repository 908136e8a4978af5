//! Transcendental functions on F32X4, emitted inline. One sequence serves every lane and every remainder, so a value
//! has one result.
//!
//! All polynomials below are minimax fits by the Remez exchange algorithm in 45-digit arithmetic, rounded to f32 (or
//! f64 for the logarithm inside `pow`); the relative error of the unrounded fit stands beside each table. The
//! reductions are the classical ones: Cody and Waite, "Software Manual for the Elementary Functions" (1980), with
//! ln 2 split so that n · LN2_HI is exact.
//!
//! Accuracy against correctly rounded results over all of f32, in ulp, asserted by `tests/kernels.rs`: see
//! [`MAX_ULP`]. Subnormal results, overflow, underflow, ±0, ±∞ and NaN follow [`ScalarOp`].

use cranelift_codegen::ir::condcodes::FloatCC;

use crate::codegen::cpu::ops::{Reg, Vector};
use crate::ir::kernel::ScalarOp;

/// Largest error of each function in units in the last place, on both levels.
pub const MAX_ULP: [(ScalarOp, f64); 7] = [
    (ScalarOp::Exp, 1.0),
    (ScalarOp::Log, 1.0),
    (ScalarOp::Log1p, 1.5),
    (ScalarOp::Expm1, 1.5),
    (ScalarOp::Tanh, 2.5),
    (ScalarOp::Sigmoid, 2.5),
    (ScalarOp::Pow, 1.5),
];

/// The upper part of ln 2, with 15 significant bits.
const LN2_HI: f32 = f32::from_bits(0x3f31_7200);
/// ln 2 − [`LN2_HI`].
const LN2_LO: f32 = f32::from_bits(0x35bf_be8e);

/// (eʳ − 1 − r) / r² on |r| ≤ ½ ln 2, 2⁻²⁸ of eʳ.
const EXP: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_447_1];
/// The same for eʳ − 1, 2⁻³¹ of that.
const EXPM1: [f32; 6] = [0.5, 0.166_666_67, 0.041_666_325, 0.008_333_22, 0.001_394_330_9, 0.000_199_623_17];
/// (ln(1 + f) − f + ½f²) / f³ on √½ − 1 ≤ f ≤ √2 − 1, 2⁻²⁷ of ln(1 + f).
const LOG: [f32; 8] =
    [0.333_333_3, -0.250_008_2, 0.200_012_27, -0.166_233_58, 0.142_017_6, -0.131_601_81, 0.127_615_55, -0.076_344_86];
/// log₂((1 + s) / (1 − s)) / s in s² on |s| ≤ (√2 − 1) / (√2 + 1), 2⁻³⁷.
const LOG2: [f64; 5] = [
    2.885_390_081_790_087,
    0.961_796_673_341_797_5,
    0.577_083_584_965_151_3,
    0.411_672_718_997_776_7,
    0.340_730_106_585_343_36,
];
/// (2ʳ − 1) / r on |r| ≤ ½, 2⁻²⁸ of 2ʳ.
const EXP2: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_226_48, 0.055_503_32, 0.009_618_44, 0.001_339_913_2, 0.000_153_531_41];

/// 1.5 · 2²³: adding it rounds to the nearest integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// The same for f64.
const ROUND64: f64 = 6_755_399_441_055_744.0;
/// Bits of √½: mantissas are taken from [√½, √2).
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
const ONE_BITS: u32 = 0x3f80_0000;

impl Vector<'_> {
    fn poly(&mut self, x: Reg, coefs: &[f32]) -> Reg {
        let mut rest = coefs.iter().rev();
        let first = rest.next().copied().unwrap_or(0.0);
        let mut acc = self.f(first);
        for c in rest {
            let c = self.f(*c);
            acc = self.fma(acc, x, c);
        }
        acc
    }

    /// n = round(x / ln 2) as (bits with n in the low end, n as f32), and the rest r = x − n · ln 2.
    fn reduce_exp(&mut self, x: Reg) -> (Reg, Reg) {
        let (log2e, magic) = (self.f(std::f32::consts::LOG2_E), self.f(ROUND));
        let z = self.fma(x, log2e, magic);
        let n = self.sub(z, magic);
        let hi = self.f(-LN2_HI);
        let r = self.fma(n, hi, x);
        let lo = self.f(-LN2_LO);
        (z, self.fma(n, lo, r))
    }

    /// 2ⁿ · 2^bias for n in the low bits of z, where the result is a normal number.
    fn pow2(&mut self, z: Reg, bias: u32) -> Reg {
        let z = self.bits(z);
        let e = self.shl(z, 23);
        let bias = self.i(bias);
        let sum = self.iadd(e, bias);
        self.float(sum)
    }

    /// p · 2ⁿ for n = h + rest: two steps, so that subnormal results and overflow come out rounded once. Multiplying
    /// rather than adding to the exponent of p keeps NaN.
    fn scale(&mut self, p: Reg, h: Reg, rest: Reg) -> Reg {
        let h = self.pow2(h, ONE_BITS);
        let rest = self.pow2(rest, ONE_BITS);
        let p = self.mul(p, h);
        self.mul(p, rest)
    }

    /// eˣ for x ≤ 89 or NaN; 0 for x < −104.
    fn exp_bounded(&mut self, x: Reg) -> Reg {
        let (z, r) = self.reduce_exp(x);
        let q = self.poly(r, &EXP);
        let rr = self.mul(r, r);
        let p = self.fma(rr, q, r);
        let one = self.f(1.0);
        let p = self.add(p, one);
        // Above the low bits of z there is an offset that the shift in `pow2` drops, halved or not.
        let z = self.bits(z);
        let h = self.sar(z, 1);
        let rest = self.isub(z, h);
        self.scale(p, h, rest)
    }

    /// eˣ.
    pub(super) fn exp(&mut self, x: Reg) -> Reg {
        let (lo, hi) = (self.f(-104.0), self.f(89.0));
        let x = self.pmax(lo, x);
        let x = self.pmin(hi, x);
        self.exp_bounded(x)
    }

    /// eʳ − 1 after the reduction, and z of [`Vector::reduce_exp`].
    fn expm1_reduced(&mut self, x: Reg) -> (Reg, Reg) {
        let (z, r) = self.reduce_exp(x);
        let q = self.poly(r, &EXPM1);
        let rr = self.mul(r, r);
        (z, self.fma(rr, q, r))
    }

    /// eˣ − 1 = 2 · (2ⁿ⁻¹ · (eʳ − 1) + (2ⁿ⁻¹ − ½)): the halving keeps 2ⁿ finite up to the overflow.
    pub(super) fn expm1(&mut self, x: Reg) -> Reg {
        let (lo, hi) = (self.f(-30.0), self.f(89.0));
        let x = self.pmax(lo, x);
        let x = self.pmin(hi, x);
        let (z, p) = self.expm1_reduced(x);
        let s = self.pow2(z, ONE_BITS - (1 << 23));
        let half = self.f(0.5);
        let rest = self.sub(s, half);
        let y = self.fma(s, p, rest);
        self.add(y, y)
    }

    /// tanh |x| = −t / (t + 2) with t = e^(−2|x|) − 1; 1 from |x| = 9.02 on.
    pub(super) fn tanh(&mut self, x: Reg) -> Reg {
        let a = self.abs(x);
        let bound = self.f(10.0);
        let a = self.pmin(bound, a);
        let minus_two = self.f(-2.0);
        let y = self.mul(a, minus_two);
        let (z, p) = self.expm1_reduced(y);
        let s = self.pow2(z, ONE_BITS);
        let one = self.f(1.0);
        let rest = self.sub(s, one);
        let t = self.fma(s, p, rest);
        let two = self.f(2.0);
        let den = self.add(t, two);
        let q = self.div(t, den);
        let q = self.abs(q);
        self.copysign(q, x)
    }

    /// e / (1 + e) below 0 and 1 / (1 + e) above, with e = e^(−|x|).
    pub(super) fn sigmoid(&mut self, x: Reg) -> Reg {
        let a = self.abs(x);
        let a = self.neg(a);
        let lo = self.f(-104.0);
        let a = self.pmax(lo, a);
        let e = self.exp_bounded(a);
        let (zero, one) = (self.f(0.0), self.f(1.0));
        let negative = self.cmp(FloatCC::LessThan, x, zero);
        let num = self.select(negative, e, one);
        let den = self.add(one, e);
        self.div(num, den)
    }

    /// Exponent (as i32 lanes) and mantissa in [√½, √2) of a positive normal number.
    fn split(&mut self, x: Reg) -> (Reg, Reg) {
        let bits = self.bits(x);
        let base = self.i(SQRT_HALF_BITS);
        let d = self.isub(bits, base);
        let e = self.sar(d, 23);
        let shifted = self.shl(e, 23);
        let m = self.isub(bits, shifted);
        (e, self.float(m))
    }

    /// As [`Vector::split`], with the exponent in f32, for subnormal numbers too.
    fn split_any(&mut self, x: Reg) -> (Reg, Reg) {
        let (tiny, up) = (self.f(f32::MIN_POSITIVE), self.f(8_388_608.0));
        let subnormal = self.cmp(FloatCC::LessThan, x, tiny);
        let scaled = self.mul(x, up);
        let x = self.select(subnormal, scaled, x);
        let (e, m) = self.split(x);
        let e = self.float_of_int(e);
        let shift = self.f(23.0);
        let shift = self.and(subnormal, shift);
        (self.sub(e, shift), m)
    }

    /// e · ln 2 + ln(1 + f).
    fn log_sum(&mut self, e: Reg, f: Reg) -> Reg {
        let q = self.poly(f, &LOG);
        let ff = self.mul(f, f);
        let fff = self.mul(ff, f);
        let lo = self.f(LN2_LO);
        let low = self.mul(e, lo);
        let y = self.fma(fff, q, low);
        let minus_half = self.f(-0.5);
        let y = self.fma(ff, minus_half, y);
        let y = self.add(f, y);
        let hi = self.f(LN2_HI);
        self.fma(e, hi, y)
    }

    /// The special values of a logarithm with argument u: −∞ at 0, NaN below, ∞ and NaN as they are.
    fn log_special(&mut self, u: Reg, y: Reg) -> Reg {
        let (zero, inf, minus_inf) = (self.f(0.0), self.f(f32::INFINITY), self.f(f32::NEG_INFINITY));
        let at_zero = self.cmp(FloatCC::Equal, u, zero);
        let y = self.select(at_zero, minus_inf, y);
        let at_inf = self.cmp(FloatCC::Equal, u, inf);
        let y = self.select(at_inf, inf, y);
        let invalid = self.cmp(FloatCC::UnorderedOrLessThan, u, zero);
        self.or(y, invalid)
    }

    /// ln x.
    pub(super) fn log(&mut self, x: Reg) -> Reg {
        let (e, m) = self.split_any(x);
        let one = self.f(1.0);
        let f = self.sub(m, one);
        let y = self.log_sum(e, f);
        self.log_special(x, y)
    }

    /// ln(1 + x): the rounding error of u = 1 + x (Knuth's two-sum) is added to the mantissa of u.
    pub(super) fn log1p(&mut self, x: Reg) -> Reg {
        let one = self.f(1.0);
        let u = self.add(one, x);
        let back = self.sub(u, one);
        let other = self.sub(u, back);
        let (ex, eo) = (self.sub(x, back), self.sub(one, other));
        let err = self.add(ex, eo);
        // Far out the error is below rounding, and 2⁻ᵉ would leave the range.
        let far = self.f(1.073_741_8e9);
        let near = self.cmp(FloatCC::LessThan, u, far);
        let (e, m) = self.split(u);
        let one_bits = self.i(ONE_BITS);
        let shifted = self.shl(e, 23);
        let inv = self.isub(one_bits, shifted);
        let inv = self.float(inv);
        let f = self.sub(m, one);
        let err = self.mul(err, inv);
        let err = self.and(near, err);
        let f = self.add(f, err);
        let e = self.float_of_int(e);
        let y = self.log_sum(e, f);
        self.log_special(u, y)
    }

    /// aᵇ = 2^(b · log₂ a), the exponent in f64 so that its error does not grow with |b · log₂ a|.
    pub(super) fn pow(&mut self, a: Reg, b: Reg) -> Reg {
        let (e, m) = self.split_any(a);
        let (zero, inf, one) = (self.f(0.0), self.f(f32::INFINITY), self.f(1.0));
        let at_zero = self.cmp(FloatCC::Equal, a, zero);
        let minus_inf = self.f(f32::NEG_INFINITY);
        let e = self.select(at_zero, minus_inf, e);
        let at_inf = self.cmp(FloatCC::Equal, a, inf);
        let e = self.select(at_inf, inf, e);
        // An infinite b times log₂ 1 must not be NaN.
        let (most, least) = (self.f(f32::MAX), self.f(f32::MIN));
        let bounded = self.pmin(most, b);
        let bounded = self.pmax(least, bounded);
        let (n_lo, r_lo) = self.pow_exponent(e, m, bounded);
        let (e, m, bounded) = (self.upper(e), self.upper(m), self.upper(bounded));
        let (n_hi, r_hi) = self.pow_exponent(e, m, bounded);
        let (n, r) = (self.join(n_lo, n_hi), self.join(r_lo, r_hi));
        let q = self.poly(r, &EXP2);
        let p = self.fma(r, q, one);
        let n = self.int_of_float(n);
        let half = self.sar(n, 1);
        let rest = self.isub(n, half);
        let y = self.scale(p, half, rest);
        let negative = self.cmp(FloatCC::LessThan, a, zero);
        let y = self.or(y, negative);
        let unit = self.cmp(FloatCC::Equal, b, zero);
        let y = self.select(unit, one, y);
        let nan = self.cmp(FloatCC::Unordered, a, b);
        self.or(y, nan)
    }

    /// For lanes 0 and 1: the integer nearest to y = b · (e + log₂ m), clamped, and the rest, both narrowed to f32.
    fn pow_exponent(&mut self, e: Reg, m: Reg, b: Reg) -> (Reg, Reg) {
        let [e, m, b] = [e, m, b].map(|x| self.widen(x));
        let (one, two) = (self.d(1.0), self.d(2.0));
        let f = self.sub(m, one);
        let den = self.add(f, two);
        let s = self.div(f, den);
        let z = self.mul(s, s);
        let mut acc = self.d(LOG2[LOG2.len() - 1]);
        for c in LOG2.iter().rev().skip(1) {
            let c = self.d(*c);
            acc = self.fma(acc, z, c);
        }
        let log = self.fma(s, acc, e);
        let y = self.mul(b, log);
        let (lo, hi) = (self.d(-160.0), self.d(130.0));
        let y = self.pmax(lo, y);
        let y = self.pmin(hi, y);
        let magic = self.d(ROUND64);
        let n = self.add(y, magic);
        let n = self.sub(n, magic);
        let r = self.sub(y, n);
        (self.narrow(n), self.narrow(r))
    }
}
