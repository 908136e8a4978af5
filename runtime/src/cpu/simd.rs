//! One vocabulary for three instruction sets. In: nothing. Out: the trait [`Simd`], its implementations [`Sse`], [`Avx`]
//! and [`Wide`], and the macro `multiversion`. Invariant: generic code over it is `#[inline(always)]` and reached only
//! through a function with the matching `#[target_feature]`, so every operation becomes an instruction or two.

use std::arch::x86_64::*;

/// A vector of f32 lanes. Comparisons are ordered (false for NaN).
///
/// # Safety
/// Of all methods: the processor has the instruction set; pointers are valid for the lanes that are touched. No
/// alignment is assumed.
pub(crate) trait Simd: Copy + 'static {
    /// The vector.
    type V: Copy;
    /// Which lanes a masked access touches.
    type Mask: Copy;
    /// Lanes of a vector.
    const LANES: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `lanes` lanes.
    unsafe fn mask(lanes: usize) -> Self::Mask;
    /// Lanes outside the mask become 0 and are not read.
    unsafe fn load_masked(p: *const f32, m: Self::Mask) -> Self::V;
    /// Lanes outside the mask become those of `other` and are not read.
    unsafe fn load_or(p: *const f32, m: Self::Mask, other: Self::V) -> Self::V;
    /// Lanes outside the mask are not written.
    unsafe fn store_masked(p: *mut f32, m: Self::Mask, v: Self::V);
    /// a·b + c, fused where the instruction set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// a > b ? a : b, hence b when either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// a < b ? a : b, hence b when either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// a < b ? x : y.
    unsafe fn select_lt(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// a = b ? x : y.
    unsafe fn select_eq(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// NaN if a is one, else x.
    unsafe fn keep_nan(a: Self::V, x: Self::V) -> Self::V;
    /// Nearest whole number, for |a| < 2³¹.
    unsafe fn round(a: Self::V) -> Self::V;
    /// a·2ⁿ for whole n in −300..=300 and a normal, with gradual underflow.
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V;
    /// 2ⁿ for whole n in −126..=128, ∞ being the last; anything for NaN.
    unsafe fn power(n: Self::V) -> Self::V;
    /// The exponent field of a positive number, as a number.
    unsafe fn exponent_field(a: Self::V) -> Self::V;
    /// `(bits & and) | or`.
    unsafe fn set_bits(a: Self::V, and: u32, or: u32) -> Self::V;
    /// The lanes, then zeros.
    #[inline(always)]
    unsafe fn to_array(v: Self::V) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: no vector has more than 16 lanes.
        unsafe { Self::store(out.as_mut_ptr(), v) };
        out
    }
    /// Sum of all lanes, halves first: lane i + lane i + L/2, and so on.
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        // SAFETY: as for this method.
        let mut a = unsafe { Self::to_array(v) };
        let mut half = Self::LANES / 2;
        while half > 0 {
            for i in 0..half {
                a[i] += a[i + half];
            }
            half /= 2;
        }
        a[0]
    }
}

/// SSE2, four lanes.
#[derive(Clone, Copy)]
pub(crate) struct Sse;

impl Simd for Sse {
    type V = __m128;
    type Mask = usize;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m128) {
        // SAFETY: as for the trait.
        unsafe { _mm_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> usize {
        lanes
    }

    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: usize) -> __m128 {
        // SAFETY: as for the trait.
        unsafe {
            let mut a = [0.0_f32; 4];
            for (i, x) in a.iter_mut().enumerate().take(m) {
                *x = *p.add(i);
            }
            _mm_loadu_ps(a.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn load_or(p: *const f32, m: usize, other: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe {
            let mut a = [0.0_f32; 4];
            _mm_storeu_ps(a.as_mut_ptr(), other);
            for (i, x) in a.iter_mut().enumerate().take(m) {
                *x = *p.add(i);
            }
            _mm_loadu_ps(a.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, m: usize, v: __m128) {
        // SAFETY: as for the trait.
        unsafe {
            let mut a = [0.0_f32; 4];
            _mm_storeu_ps(a.as_mut_ptr(), v);
            for (i, x) in a.iter().enumerate().take(m) {
                *p.add(i) = *x;
            }
        }
    }

    #[inline(always)]
    unsafe fn fma(a: __m128, b: __m128, c: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_add_ps(_mm_mul_ps(a, b), c) }
    }

    #[inline(always)]
    unsafe fn add(a: __m128, b: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m128, b: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m128, b: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn div(a: __m128, b: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_div_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m128, b: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: __m128, b: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn select_lt(a: __m128, b: __m128, x: __m128, y: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe {
            let c = _mm_cmplt_ps(a, b);
            _mm_or_ps(_mm_and_ps(c, x), _mm_andnot_ps(c, y))
        }
    }

    #[inline(always)]
    unsafe fn select_eq(a: __m128, b: __m128, x: __m128, y: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe {
            let c = _mm_cmpeq_ps(a, b);
            _mm_or_ps(_mm_and_ps(c, x), _mm_andnot_ps(c, y))
        }
    }

    #[inline(always)]
    unsafe fn keep_nan(a: __m128, x: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_or_ps(_mm_cmpunord_ps(a, a), x) }
    }

    #[inline(always)]
    unsafe fn round(a: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_cvtepi32_ps(_mm_cvtps_epi32(a)) }
    }

    #[inline(always)]
    unsafe fn scale(a: __m128, n: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe {
            // In two steps: 2ⁿ itself may be out of range where a·2ⁿ is not.
            let n = _mm_cvtps_epi32(n);
            let half = _mm_srai_epi32::<1>(n);
            let bias = _mm_set1_epi32(127);
            let p = _mm_castsi128_ps(_mm_slli_epi32::<23>(_mm_add_epi32(half, bias)));
            let q = _mm_castsi128_ps(_mm_slli_epi32::<23>(_mm_add_epi32(_mm_sub_epi32(n, half), bias)));
            _mm_mul_ps(_mm_mul_ps(a, p), q)
        }
    }

    #[inline(always)]
    unsafe fn power(n: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe {
            let biased = _mm_add_epi32(_mm_cvtps_epi32(n), _mm_set1_epi32(127));
            _mm_castsi128_ps(_mm_slli_epi32::<23>(biased))
        }
    }

    #[inline(always)]
    unsafe fn exponent_field(a: __m128) -> __m128 {
        // SAFETY: as for the trait.
        unsafe { _mm_cvtepi32_ps(_mm_srli_epi32::<23>(_mm_castps_si128(a))) }
    }

    #[inline(always)]
    unsafe fn set_bits(a: __m128, and: u32, or: u32) -> __m128 {
        // SAFETY: as for the trait.
        unsafe {
            let (and, or) = (_mm_set1_epi32(and.cast_signed()), _mm_set1_epi32(or.cast_signed()));
            _mm_castsi128_ps(_mm_or_si128(_mm_and_si128(_mm_castps_si128(a), and), or))
        }
    }
}

/// AVX2 and FMA, eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx;

impl Simd for Avx {
    type V = __m256;
    type Mask = __m256i;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: as for the trait.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __m256i {
        // SAFETY: as for the trait.
        unsafe { _mm256_loadu_si256(AVX_MASKS.as_ptr().add(8 - lanes.min(8)).cast()) }
    }

    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: __m256i) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_maskload_ps(p, m) }
    }

    #[inline(always)]
    unsafe fn load_or(p: *const f32, m: __m256i, other: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_blendv_ps(other, _mm256_maskload_ps(p, m), _mm256_castsi256_ps(m)) }
    }

    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, m: __m256i, v: __m256) {
        // SAFETY: as for the trait.
        unsafe { _mm256_maskstore_ps(p, m, v) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn select_lt(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }

    #[inline(always)]
    unsafe fn select_eq(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)) }
    }

    #[inline(always)]
    unsafe fn keep_nan(a: __m256, x: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_or_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a), x) }
    }

    #[inline(always)]
    unsafe fn round(a: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    unsafe fn scale(a: __m256, n: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe {
            // In two steps: 2ⁿ itself may be out of range where a·2ⁿ is not.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let p = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias)));
            let q = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias)));
            _mm256_mul_ps(_mm256_mul_ps(a, p), q)
        }
    }

    #[inline(always)]
    unsafe fn power(n: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }

    #[inline(always)]
    unsafe fn exponent_field(a: __m256) -> __m256 {
        // SAFETY: as for the trait.
        unsafe { _mm256_cvtepi32_ps(_mm256_srli_epi32::<23>(_mm256_castps_si256(a))) }
    }

    #[inline(always)]
    unsafe fn set_bits(a: __m256, and: u32, or: u32) -> __m256 {
        // SAFETY: as for the trait.
        unsafe {
            let (and, or) = (_mm256_set1_epi32(and.cast_signed()), _mm256_set1_epi32(or.cast_signed()));
            _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(_mm256_castps_si256(a), and), or))
        }
    }
}

/// AVX-512, sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Wide;

impl Simd for Wide {
    type V = __m512;
    type Mask = __mmask16;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: as for the trait.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __mmask16 {
        ((1_u32 << lanes.min(16)) - 1) as __mmask16
    }

    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: __mmask16) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_maskz_loadu_ps(m, p) }
    }

    #[inline(always)]
    unsafe fn load_or(p: *const f32, m: __mmask16, other: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_mask_loadu_ps(other, m, p) }
    }

    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, m: __mmask16, v: __m512) {
        // SAFETY: as for the trait.
        unsafe { _mm512_mask_storeu_ps(p, m, v) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn select_lt(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }

    #[inline(always)]
    unsafe fn select_eq(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), y, x) }
    }

    #[inline(always)]
    unsafe fn keep_nan(a: __m512, x: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), x, a) }
    }

    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_roundscale_ps::<0>(a) }
    }

    #[inline(always)]
    unsafe fn scale(a: __m512, n: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    unsafe fn power(n: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }

    #[inline(always)]
    unsafe fn exponent_field(a: __m512) -> __m512 {
        // SAFETY: as for the trait.
        unsafe { _mm512_cvtepi32_ps(_mm512_srli_epi32::<23>(_mm512_castps_si512(a))) }
    }

    #[inline(always)]
    unsafe fn set_bits(a: __m512, and: u32, or: u32) -> __m512 {
        // SAFETY: as for the trait.
        unsafe {
            let (and, or) = (_mm512_set1_epi32(and.cast_signed()), _mm512_set1_epi32(or.cast_signed()));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_and_si512(_mm512_castps_si512(a), and), or))
        }
    }
}

/// Sliding window over it gives the mask of the first n lanes.
static AVX_MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Defines `fn $name(Level) -> unsafe fn(..)` that instantiates the generic `unsafe fn $generic<S: Simd>(..)` for each
/// level. The pointer may be called only where the level is available.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident = $generic:ident($($arg:ident: $ty:ty),* $(,)?)) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::cpu::Level) -> unsafe fn($($ty),*) {
            unsafe fn sse($($arg: $ty),*) {
                // SAFETY: SSE2 is part of x86-64; the rest is passed on to the caller.
                unsafe { $generic::<$crate::cpu::simd::Sse>($($arg),*) }
            }
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx($($arg: $ty),*) {
                // SAFETY: the features are enabled here; the rest is passed on to the caller.
                unsafe { $generic::<$crate::cpu::simd::Avx>($($arg),*) }
            }
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")]
            unsafe fn wide($($arg: $ty),*) {
                // SAFETY: the features are enabled here; the rest is passed on to the caller.
                unsafe { $generic::<$crate::cpu::simd::Wide>($($arg),*) }
            }
            match level {
                $crate::cpu::Level::Baseline => sse,
                $crate::cpu::Level::Avx2 => avx,
                $crate::cpu::Level::Avx512 => wide,
            }
        }
    };
}
pub(crate) use multiversion;
