//! The vector operations that the kernels are written in, once per instruction set.
//!
//! The methods are `inline(always)` and carry no target feature themselves: they become single instructions when they
//! are inlined into a function that enables the features. Nothing here may be called from anywhere else.

/// One instruction set, seen as lanes of `f32`.
pub(crate) trait Simd: Copy {
    /// A vector register.
    type V: Copy;
    /// Selects the first lanes of a vector.
    type M: Copy;
    /// Lanes per vector.
    const W: usize;
    /// Whether a masked load costs no more than a plain one.
    const FREE_MASK: bool;

    /// Mask of the first `n` lanes, `0 <= n <= W`.
    unsafe fn mask(n: usize) -> Self::M;
    /// All lanes 0.
    unsafe fn zero() -> Self::V;
    /// All lanes `*p`.
    unsafe fn splat(p: *const f32) -> Self::V;
    /// `W` floats from `p`, no alignment asked.
    unsafe fn load(p: *const f32) -> Self::V;
    /// The floats of the mask from `p`, 0 elsewhere; memory outside the mask is not touched.
    unsafe fn load_masked(p: *const f32, m: Self::M) -> Self::V;
    /// Stores `W` floats.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Stores the floats of the mask; memory outside the mask is not touched.
    unsafe fn store_masked(p: *mut f32, m: Self::M, v: Self::V);
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `max(a, 0)` that keeps NaN.
    unsafe fn relu(a: Self::V) -> Self::V;
    /// Sum of all lanes, always in the same order.
    unsafe fn sum(a: Self::V) -> f32;
    /// Asks for the cache line at `p`, which need not be valid.
    unsafe fn prefetch(p: *const f32);
    /// The same, but only into the second-level cache.
    unsafe fn prefetch_far(p: *const f32);
    /// Transposes one block: `dst[c * dst_rs + r] = src[r * src_rs + c]` for `r < rows <= W`, `c < cols <= W`.
    ///
    /// With `exact` nothing else is written. Without it, up to `W` floats may be written from each `dst + c * dst_rs`
    /// (in ascending `c`), so a later row may be overwritten before it gets its values.
    unsafe fn transpose(
        src: *const f32,
        src_rs: usize,
        rows: usize,
        cols: usize,
        dst: *mut f32,
        dst_rs: usize,
        exact: bool,
    );
}

/// Four lanes of plain Rust, for any processor; the optimiser maps them to 128-bit vectors where there are any.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    type M = usize;
    const W: usize = 4;
    const FREE_MASK: bool = false;

    #[inline(always)]
    unsafe fn mask(n: usize) -> usize {
        n
    }
    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller gives a readable float.
        [unsafe { *p }; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller gives four readable floats.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: usize) -> [f32; 4] {
        let mut v = [0.0; 4];
        for (l, x) in v.iter_mut().enumerate().take(m) {
            // SAFETY: lane `l` is within the mask, which the caller vouches for.
            *x = unsafe { *p.add(l) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller gives four writable floats.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, m: usize, v: [f32; 4]) {
        for (l, x) in v.iter().enumerate().take(m) {
            // SAFETY: lane `l` is within the mask, which the caller vouches for.
            unsafe { *p.add(l) = *x };
        }
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    #[inline(always)]
    unsafe fn relu(a: [f32; 4]) -> [f32; 4] {
        a.map(|x| if x < 0.0 { 0.0 } else { x })
    }
    #[inline(always)]
    unsafe fn sum(a: [f32; 4]) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    unsafe fn prefetch(_p: *const f32) {}
    #[inline(always)]
    unsafe fn prefetch_far(_p: *const f32) {}
    #[inline(always)]
    unsafe fn transpose(
        src: *const f32,
        src_rs: usize,
        rows: usize,
        cols: usize,
        dst: *mut f32,
        dst_rs: usize,
        _exact: bool,
    ) {
        for c in 0..cols {
            for r in 0..rows {
                // SAFETY: both indices are inside the block that the caller vouches for.
                unsafe { *dst.add(c * dst_rs + r) = *src.add(r * src_rs + c) };
            }
        }
    }
}
