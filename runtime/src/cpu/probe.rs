//! Loops that reach what a processor can do at most: arithmetic, and streams through memory. In: a level. Out: functions
//! for one thread. Invariant: they do what their counts say, no more and no less; the numbers stay normal.

use super::simd::{Simd, multiversion};

/// Independent chains: enough to hide the latency of a multiply-add on two units, few enough for 16 registers.
const CHAINS: usize = 12;

/// Floating point operations of a round of [`chains`] at a level with so many lanes.
pub(crate) const fn flops_of_round(lanes: usize) -> usize {
    2 * CHAINS * lanes
}

multiversion! {
    /// `rounds` rounds of multiply-adds on registers; the end goes to 16 floats at `out`.
    ///
    /// # Safety
    /// The processor has the level; `out` points to 16 floats.
    pub(crate) fn chains = chains_of(out: *mut f32, rounds: usize)
}

multiversion! {
    /// Reads and writes every float once: `x = x / 2 + 1`.
    ///
    /// # Safety
    /// The processor has the level; `x` points to `len` floats.
    pub(crate) fn stream = stream_of(x: *mut f32, len: usize)
}

/// # Safety
/// As [`chains`].
#[inline(always)]
unsafe fn chains_of<S: Simd>(out: *mut f32, rounds: usize) {
    // SAFETY: passed on to the caller; no vector has more than 16 lanes.
    unsafe {
        let (half, one) = (S::splat(0.5), S::splat(1.0));
        let mut sums = [one; CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = S::fma(*sum, half, one);
            }
        }
        for sum in sums {
            S::store(out, S::add(sum, one));
            std::hint::black_box(*out);
        }
    }
}

/// # Safety
/// As [`stream`].
#[inline(always)]
unsafe fn stream_of<S: Simd>(x: *mut f32, len: usize) {
    // SAFETY: passed on to the caller; the last vector that is touched ends within `len`.
    unsafe {
        let (half, one) = (S::splat(0.5), S::splat(1.0));
        let step = 4 * S::LANES;
        let mut i = 0;
        while i + step <= len {
            for k in 0..4 {
                let p = x.add(i + k * S::LANES);
                S::store(p, S::fma(S::load(p), half, one));
            }
            i += step;
        }
        while i < len {
            *x.add(i) = *x.add(i) * 0.5 + 1.0;
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;

    #[test]
    fn streams_touch_every_float_once() {
        for level in Level::available() {
            let mut x: Vec<f32> = (0..1003_u16).map(f32::from).collect();
            // SAFETY: the level is available and the length that of the vector.
            unsafe { stream(level)(x.as_mut_ptr(), 1001) };
            assert!(x[..1001].iter().enumerate().all(|(i, v)| *v == i as f32 * 0.5 + 1.0), "{level}");
            assert_eq!(x[1001..], [1001.0, 1002.0]);
        }
    }

    #[test]
    fn chains_converge() {
        for level in Level::available() {
            let mut out = [0.0; 16];
            // SAFETY: the level is available and there are 16 floats.
            unsafe { chains(level)(out.as_mut_ptr(), 100) };
            assert_eq!(out[0], 3.0, "{level}");
        }
    }
}
