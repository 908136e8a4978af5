//! The transforms of Winograd's convolution F(4×4, 3×3), over vectors of channels.
//!
//! In: windows of pixels, or the products of a tile. Out: the 36 values of a tile in as many planes, or pixels.
//!
//! A tile of 4 × 4 results is 36 products per pair of channels instead of 144 (Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2016). Along one axis, polynomials are multiplied at the points 0, ±[`P`], ±[`Q`]
//! and infinity. With the usual points 0, ±1, ±2 errors are twice as large: these are nearer to 1, and so are their
//! powers. All constants but those of the kernel are exact in f32.

use crate::cpu::Level;
use crate::cpu::simd::{Simd, multiversion};

/// Results of a tile along an axis, and values that its transform needs: one for each point.
pub(super) const TILE: usize = 4;
pub(super) const POINTS: usize = 6;
/// Values of a tile.
pub(super) const PLANES: usize = POINTS * POINTS;
/// Taps of a kernel along an axis, and in all.
const TAPS: usize = 3;
pub(super) const KERNEL: usize = TAPS * TAPS;

const P: f32 = 0.625;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;
/// One over the product of the distances of a point to the others: of 0, of ±P, of ±Q.
const AT_0: f32 = 1.0 / (P2 * Q2);
const AT_P: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// Pixels of a window.
#[derive(Clone, Copy)]
pub(super) struct Window {
    /// Where the first pixel of each row is, or would be; rows outside the image point to zeros.
    pub(super) rows: [*const f32; POINTS],
    /// Columns inside the image; the others are 0.
    pub(super) first: usize,
    pub(super) end: usize,
    /// Floats from pixel to pixel.
    pub(super) pixel: usize,
    /// Channels that count, and the first of them.
    pub(super) channels: usize,
    pub(super) channel: usize,
}

/// Results of a tile, of which those below `rows` and `cols` exist.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) ptr: *mut f32,
    pub(super) row: usize,
    pub(super) pixel: usize,
    pub(super) channels: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Null for none.
    pub(super) bias: *const f32,
    pub(super) relu: bool,
}

/// Partial gradients to the kernel in the planes of tiles, and where their sum goes.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) ptr: *const f32,
    /// Floats from plane to plane, from part to part; number of parts.
    pub(super) plane: usize,
    pub(super) part: usize,
    pub(super) parts: usize,
    pub(super) out: *mut f32,
    /// Floats from tap to tap.
    pub(super) tap: usize,
    pub(super) channels: usize,
}

/// The transforms of one instruction set. Planes are written in whole vectors, the lanes beyond the channels being 0;
/// pixels and kernels are written for their channels only.
#[derive(Clone, Copy)]
pub(super) struct Transforms {
    /// 6 × 6 pixels of the source to planes that are (last argument) floats apart.
    pub(super) source: unsafe fn(&Window, *mut f32, usize),
    /// 4 × 4 pixels of the gradient to the output to planes.
    pub(super) gradient: unsafe fn(&Window, *mut f32, usize),
    /// Planes to 4 × 4 results.
    pub(super) result: unsafe fn(*const f32, usize, &Target),
    /// Nine taps, their distance, to planes, their distance; number of floats, rounded up to whole vectors.
    pub(super) kernel: unsafe fn(*const f32, usize, *mut f32, usize, usize),
    /// Planes to nine taps.
    pub(super) taps: unsafe fn(&Parts),
}

impl Transforms {
    pub(super) fn new(level: Level) -> Transforms {
        Transforms {
            source: source_for(level),
            gradient: gradient_for(level),
            result: result_for(level),
            kernel: kernel_for(level),
            taps: taps_for(level),
        }
    }
}

multiversion! {
    fn source_for = source(window: &Window, planes: *mut f32, plane: usize)
}
multiversion! {
    fn gradient_for = gradient(window: &Window, planes: *mut f32, plane: usize)
}
multiversion! {
    fn result_for = result(planes: *const f32, plane: usize, target: &Target)
}
multiversion! {
    fn kernel_for = kernel(taps: *const f32, tap: usize, planes: *mut f32, plane: usize, len: usize)
}
multiversion! {
    fn taps_for = taps(parts: &Parts)
}

/// The source along one axis: its products with the polynomials that vanish at all points but one.
#[inline(always)]
unsafe fn source_line<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: arithmetic only.
    unsafe {
        let [p, q, p2, q2] = [-P, -Q, -P2, -Q2].map(|x| S::splat(x));
        let (both, sum) = (S::splat(P2 * Q2), S::splat(-(P2 + Q2)));
        let (even_p, odd_p) = (S::fma(q2, d[2], d[4]), S::fma(q2, d[1], d[3]));
        let (even_q, odd_q) = (S::fma(p2, d[2], d[4]), S::fma(p2, d[1], d[3]));
        [
            S::fma(both, d[0], S::fma(sum, d[2], d[4])),
            S::fma(S::splat(P), odd_p, even_p),
            S::fma(p, odd_p, even_p),
            S::fma(S::splat(Q), odd_q, even_q),
            S::fma(q, odd_q, even_q),
            S::fma(both, d[1], S::fma(sum, d[3], d[5])),
        ]
    }
}

/// Results along one axis from the products at the points.
#[inline(always)]
unsafe fn result_line<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: arithmetic only.
    unsafe {
        let (even_p, odd_p) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (even_q, odd_q) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], even_p), even_q),
            S::fma(S::splat(Q), odd_q, S::mul(S::splat(P), odd_p)),
            S::fma(S::splat(Q2), even_q, S::mul(S::splat(P2), even_p)),
            S::fma(S::splat(Q2 * Q), odd_q, S::fma(S::splat(P2 * P), odd_p, m[5])),
        ]
    }
}

/// The transpose of [`result_line`].
#[inline(always)]
unsafe fn gradient_line<S: Simd>(y: [S::V; 4]) -> [S::V; 6] {
    // SAFETY: arithmetic only.
    unsafe {
        let (even_p, odd_p) = (S::fma(S::splat(P2), y[2], y[0]), S::fma(S::splat(P2), y[3], y[1]));
        let (even_q, odd_q) = (S::fma(S::splat(Q2), y[2], y[0]), S::fma(S::splat(Q2), y[3], y[1]));
        [
            y[0],
            S::fma(S::splat(P), odd_p, even_p),
            S::fma(S::splat(-P), odd_p, even_p),
            S::fma(S::splat(Q), odd_q, even_q),
            S::fma(S::splat(-Q), odd_q, even_q),
            y[3],
        ]
    }
}

/// Values of the kernel at the points, divided by their distances to the others.
#[inline(always)]
unsafe fn kernel_line<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: arithmetic only.
    unsafe {
        let (even_p, odd_p) = (S::fma(S::splat(P2), g[2], g[0]), S::mul(S::splat(P), g[1]));
        let (even_q, odd_q) = (S::fma(S::splat(Q2), g[2], g[0]), S::mul(S::splat(Q), g[1]));
        let (at_p, at_q) = (S::splat(AT_P), S::splat(AT_Q));
        [
            S::mul(S::splat(AT_0), g[0]),
            S::mul(at_p, S::add(even_p, odd_p)),
            S::mul(at_p, S::sub(even_p, odd_p)),
            S::mul(at_q, S::add(even_q, odd_q)),
            S::mul(at_q, S::sub(even_q, odd_q)),
            g[2],
        ]
    }
}

/// The transpose of [`kernel_line`].
#[inline(always)]
unsafe fn taps_line<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
    // SAFETY: arithmetic only.
    unsafe {
        let (at_p, at_q) = (S::splat(AT_P), S::splat(AT_Q));
        let (even_p, odd_p) = (S::mul(at_p, S::add(u[1], u[2])), S::mul(at_p, S::sub(u[1], u[2])));
        let (even_q, odd_q) = (S::mul(at_q, S::add(u[3], u[4])), S::mul(at_q, S::sub(u[3], u[4])));
        [
            S::add(S::fma(S::splat(AT_0), u[0], even_p), even_q),
            S::fma(S::splat(Q), odd_q, S::mul(S::splat(P), odd_p)),
            S::fma(S::splat(Q2), even_q, S::fma(S::splat(P2), even_p, u[5])),
        ]
    }
}

/// One vector of channels of a column of a window.
#[inline(always)]
unsafe fn column<S: Simd, const N: usize, const MASKED: bool>(
    w: &Window,
    j: usize,
    c: usize,
    mask: S::Mask,
) -> [S::V; N] {
    // SAFETY: the caller vouches for the pixels of the window; lanes beyond the channels are masked.
    unsafe {
        let mut d = [S::splat(0.0); N];
        if (w.first..w.end).contains(&j) {
            for (d, row) in d.iter_mut().zip(w.rows) {
                let at = row.wrapping_add(j * w.pixel + w.channel + c);
                *d = if MASKED { S::load_masked(at, mask) } else { S::load(at) };
            }
        }
        d
    }
}

#[inline(always)]
unsafe fn source<S: Simd>(w: &Window, planes: *mut f32, plane: usize) {
    // SAFETY: handed on to the caller.
    unsafe {
        let whole = w.channels - w.channels % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            source_vector::<S, false>(w, c, planes.add(c), plane);
        }
        if whole < w.channels {
            source_vector::<S, true>(w, whole, planes.add(whole), plane);
        }
    }
}

#[inline(always)]
unsafe fn source_vector<S: Simd, const MASKED: bool>(w: &Window, c: usize, planes: *mut f32, plane: usize) {
    // SAFETY: handed on to the caller.
    unsafe {
        let mask = S::mask(S::LANES.min(w.channels - c));
        let mut t = [[S::splat(0.0); POINTS]; POINTS];
        for j in 0..POINTS {
            let v = source_line::<S>(column::<S, POINTS, MASKED>(w, j, c, mask));
            for (t, v) in t.iter_mut().zip(v) {
                t[j] = v;
            }
        }
        for (i, t) in t.iter().enumerate() {
            for (j, v) in source_line::<S>(*t).iter().enumerate() {
                S::store(planes.add((i * POINTS + j) * plane), *v);
            }
        }
    }
}

#[inline(always)]
unsafe fn gradient<S: Simd>(w: &Window, planes: *mut f32, plane: usize) {
    // SAFETY: handed on to the caller.
    unsafe {
        let whole = w.channels - w.channels % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            gradient_vector::<S, false>(w, c, planes.add(c), plane);
        }
        if whole < w.channels {
            gradient_vector::<S, true>(w, whole, planes.add(whole), plane);
        }
    }
}

#[inline(always)]
unsafe fn gradient_vector<S: Simd, const MASKED: bool>(w: &Window, c: usize, planes: *mut f32, plane: usize) {
    // SAFETY: handed on to the caller.
    unsafe {
        let mask = S::mask(S::LANES.min(w.channels - c));
        let mut t = [[S::splat(0.0); TILE]; POINTS];
        for j in 0..TILE {
            let v = gradient_line::<S>(column::<S, TILE, MASKED>(w, j, c, mask));
            for (t, v) in t.iter_mut().zip(v) {
                t[j] = v;
            }
        }
        for (i, t) in t.iter().enumerate() {
            for (j, v) in gradient_line::<S>(*t).iter().enumerate() {
                S::store(planes.add((i * POINTS + j) * plane), *v);
            }
        }
    }
}

#[inline(always)]
unsafe fn result<S: Simd>(planes: *const f32, plane: usize, to: &Target) {
    // SAFETY: handed on to the caller.
    unsafe {
        let whole = to.channels - to.channels % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            result_vector::<S, false>(planes.add(c), plane, to, c);
        }
        if whole < to.channels {
            result_vector::<S, true>(planes.add(whole), plane, to, whole);
        }
    }
}

#[inline(always)]
unsafe fn result_vector<S: Simd, const MASKED: bool>(planes: *const f32, plane: usize, to: &Target, c: usize) {
    // SAFETY: planes are whole vectors; pixels beyond the target and lanes beyond its channels are left alone.
    unsafe {
        let mask = S::mask(S::LANES.min(to.channels - c));
        let mut t = [[S::splat(0.0); POINTS]; TILE];
        for j in 0..POINTS {
            let mut m = [S::splat(0.0); POINTS];
            for (i, m) in m.iter_mut().enumerate() {
                *m = S::load(planes.add((i * POINTS + j) * plane));
            }
            for (t, v) in t.iter_mut().zip(result_line::<S>(m)) {
                t[j] = v;
            }
        }
        let bias = match to.bias.is_null() {
            true => S::splat(0.0),
            false if MASKED => S::load_masked(to.bias.add(c), mask),
            false => S::load(to.bias.add(c)),
        };
        for (i, t) in t.iter().enumerate().take(to.rows) {
            for (j, y) in result_line::<S>(*t).iter().enumerate() {
                if j < to.cols {
                    let y = S::add(*y, bias);
                    let y = if to.relu { S::max(S::splat(0.0), y) } else { y };
                    let at = to.ptr.add(i * to.row + j * to.pixel + c);
                    if MASKED { S::store_masked(at, mask, y) } else { S::store(at, y) }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn kernel<S: Simd>(taps: *const f32, tap: usize, planes: *mut f32, plane: usize, len: usize) {
    // SAFETY: the caller gives whole vectors.
    unsafe {
        for c in (0..len).step_by(S::LANES) {
            let mut t = [[S::splat(0.0); TAPS]; POINTS];
            for j in 0..TAPS {
                let at = taps.add(j * tap + c);
                let g = [S::load(at), S::load(at.add(TAPS * tap)), S::load(at.add(2 * TAPS * tap))];
                for (t, v) in t.iter_mut().zip(kernel_line::<S>(g)) {
                    t[j] = v;
                }
            }
            for (i, t) in t.iter().enumerate() {
                for (j, v) in kernel_line::<S>(*t).iter().enumerate() {
                    S::store(planes.add((i * POINTS + j) * plane + c), *v);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn taps<S: Simd>(p: &Parts) {
    // SAFETY: parts are whole vectors; lanes beyond the channels are not written.
    unsafe {
        for c in (0..p.channels).step_by(S::LANES) {
            let mut t = [[S::splat(0.0); POINTS]; TAPS];
            for j in 0..POINTS {
                let mut u = [S::splat(0.0); POINTS];
                for (i, u) in u.iter_mut().enumerate() {
                    let at = p.ptr.add((i * POINTS + j) * p.plane + c);
                    *u = S::load(at);
                    for part in 1..p.parts {
                        *u = S::add(*u, S::load(at.add(part * p.part)));
                    }
                }
                for (t, v) in t.iter_mut().zip(taps_line::<S>(u)) {
                    t[j] = v;
                }
            }
            let lanes = S::LANES.min(p.channels - c);
            for (i, t) in t.iter().enumerate() {
                for (j, g) in taps_line::<S>(*t).iter().enumerate() {
                    let at = p.out.add((i * TAPS + j) * p.tap + c);
                    if lanes == S::LANES { S::store(at, *g) } else { S::store_masked(at, S::mask(lanes), *g) }
                }
            }
        }
    }
}
