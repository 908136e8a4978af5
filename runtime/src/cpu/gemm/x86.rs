//! The vector operations of x86-64: AVX2 with FMA, and AVX-512.
//!
//! Every method is a thin cover over intrinsics; see [`Simd`] for what goes in and out. The functions may be inlined
//! only into code that runs after the processor was found to have the features.

use super::simd::Simd;
use core::arch::x86_64::*;

/// Eight lanes with fused multiply-add.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Sixteen lanes with mask registers (AVX-512 F and VL).
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// `WINDOW[8 - n..]` is the vector mask of the first `n` of eight lanes.
static WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

// SAFETY (of all blocks below): the caller vouches for the memory, as the trait asks, and is compiled with the features.

impl Simd for Avx2 {
    type V = __m256;
    type M = __m256i;
    const W: usize = 8;
    const FREE_MASK: bool = false;

    #[inline(always)]
    unsafe fn mask(n: usize) -> __m256i {
        // SAFETY: n <= 8, so the eight entries lie inside the table.
        unsafe { _mm256_loadu_si256(WINDOW.as_ptr().add(8 - n).cast()) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(*p) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: __m256i) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_maskload_ps(p, m) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, m: __m256i, v: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_maskstore_ps(p, m, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn relu(a: __m256) -> __m256 {
        // The second operand is the result when either is NaN.
        // SAFETY: see above.
        unsafe { _mm256_max_ps(_mm256_setzero_ps(), a) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let d = _mm_add_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps::<1>(d, d)))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn transpose(
        src: *const f32,
        src_rs: usize,
        rows: usize,
        cols: usize,
        dst: *mut f32,
        dst_rs: usize,
        exact: bool,
    ) {
        // SAFETY: rows and columns outside the block are masked off; see above for the rest.
        unsafe {
            let mut x = [_mm256_setzero_ps(); 8];
            let m = Self::mask(cols);
            for (r, x) in x.iter_mut().enumerate() {
                if r < rows {
                    *x = if cols == 8 {
                        Self::load(src.add(r * src_rs))
                    } else {
                        Self::load_masked(src.add(r * src_rs), m)
                    };
                }
            }
            let mut y = [_mm256_setzero_ps(); 8];
            for i in 0..4 {
                y[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
                y[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
            }
            for i in 0..2 {
                for j in 0..2 {
                    x[4 * i + 2 * j] = _mm256_shuffle_ps::<0x44>(y[4 * i + j], y[4 * i + j + 2]);
                    x[4 * i + 2 * j + 1] = _mm256_shuffle_ps::<0xEE>(y[4 * i + j], y[4 * i + j + 2]);
                }
            }
            for i in 0..4 {
                y[i] = _mm256_permute2f128_ps::<0x20>(x[i], x[i + 4]);
                y[i + 4] = _mm256_permute2f128_ps::<0x31>(x[i], x[i + 4]);
            }
            let m = Self::mask(rows);
            for (c, y) in y.iter().enumerate() {
                if c < cols {
                    if exact && rows < 8 {
                        Self::store_masked(dst.add(c * dst_rs), m, *y);
                    } else {
                        Self::store(dst.add(c * dst_rs), *y);
                    }
                }
            }
        }
    }
}

impl Simd for Avx512 {
    type V = __m512;
    type M = __mmask16;
    const W: usize = 16;
    const FREE_MASK: bool = true;

    #[inline(always)]
    unsafe fn mask(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }
    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(*p) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: __mmask16) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_maskz_loadu_ps(m, p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, m: __mmask16, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_mask_storeu_ps(p, m, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn relu(a: __m512) -> __m512 {
        // The second operand is the result when either is NaN.
        // SAFETY: see above.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), a) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        // SAFETY: see above.
        unsafe {
            let hi = _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0xEE>(a, a));
            Avx2::sum(_mm256_add_ps(_mm512_castps512_ps256(a), hi))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn transpose(
        src: *const f32,
        src_rs: usize,
        rows: usize,
        cols: usize,
        dst: *mut f32,
        dst_rs: usize,
        exact: bool,
    ) {
        // SAFETY: rows and columns outside the block are masked off; see above for the rest.
        unsafe {
            let mut x = [_mm512_setzero_ps(); 16];
            let m = Self::mask(cols);
            for (r, x) in x.iter_mut().enumerate() {
                if r < rows {
                    *x = Self::load_masked(src.add(r * src_rs), m);
                }
            }
            let mut y = [_mm512_setzero_ps(); 16];
            for i in 0..8 {
                y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
                y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
            }
            // x[4i + c] holds column c of rows 4i.. in each 128-bit quarter q (column 4q + c).
            for i in 0..4 {
                for j in 0..2 {
                    x[4 * i + 2 * j] = _mm512_shuffle_ps::<0x44>(y[4 * i + j], y[4 * i + j + 2]);
                    x[4 * i + 2 * j + 1] = _mm512_shuffle_ps::<0xEE>(y[4 * i + j], y[4 * i + j + 2]);
                }
            }
            for c in 0..4 {
                let even_lo = _mm512_shuffle_f32x4::<0x88>(x[c], x[c + 4]);
                let odd_lo = _mm512_shuffle_f32x4::<0xDD>(x[c], x[c + 4]);
                let even_hi = _mm512_shuffle_f32x4::<0x88>(x[c + 8], x[c + 12]);
                let odd_hi = _mm512_shuffle_f32x4::<0xDD>(x[c + 8], x[c + 12]);
                y[c] = _mm512_shuffle_f32x4::<0x88>(even_lo, even_hi);
                y[c + 8] = _mm512_shuffle_f32x4::<0xDD>(even_lo, even_hi);
                y[c + 4] = _mm512_shuffle_f32x4::<0x88>(odd_lo, odd_hi);
                y[c + 12] = _mm512_shuffle_f32x4::<0xDD>(odd_lo, odd_hi);
            }
            let m = if exact { Self::mask(rows) } else { 0xFFFF };
            for (c, y) in y.iter().enumerate() {
                if c < cols {
                    Self::store_masked(dst.add(c * dst_rs), m, *y);
                }
            }
        }
    }
}
