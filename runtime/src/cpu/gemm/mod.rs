//! Matrix products. In: sizes, transposes and a level. Out: a [`LibKernel`]. Invariants: how C, and for small C the depth,
//! is cut depends on sizes and level only, and every element of C is summed in one fixed order, so results are the same
//! bits for any number of threads.
//!
//! Source of the blocking: Goto and van de Geijn (2008), Van Zee and van de Geijn (2015, BLIS), with the panel of A in L1
//! and the panels of B streaming from L2, as the accumulators are wider than tall.

mod dot;
pub(crate) mod pack;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
mod tiled;

use super::{Level, LibKernel};

/// Operands of a product: `c[m, n] = op(a)[m, k] · op(b)[k, n]`, `batch` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// a is stored `[k, m]`.
    pub(crate) ta: bool,
    /// b is stored `[n, k]`.
    pub(crate) tb: bool,
}

/// Floating point operations of a chunk: at least 30 µs on a fast core.
pub(crate) const FLOPS_PER_CHUNK: f64 = 4e6;

/// Chooses the kernel for a shape.
pub(crate) fn prepare(shape: Shape, level: Level) -> Box<dyn LibKernel> {
    if let Some(kernel) = dot::Dot::new(shape, level) {
        return Box::new(kernel);
    }
    Box::new(tiled::Tiled::new(shape, level))
}

/// The part `i` of `0..len` cut into `parts` nearly equal parts.
pub(crate) fn part(len: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    (len * i / parts)..(len * (i + 1) / parts)
}
