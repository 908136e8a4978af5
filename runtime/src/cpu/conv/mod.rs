//! Convolutions as implicit matrix products. In: a geometry. Out: a [`LibKernel`] for the forward pass, the gradient to the
//! input or to the weights. Invariant: no patch matrix is ever made. A tile reads its rows of A straight from the input (or
//! from a zero-padded copy of a few of its rows), since neighbouring output cells along the width are a constant distance
//! apart, and the taps of the kernel are segments of the depth.

mod axis;
mod band;
mod data;
#[cfg(test)]
mod tests;
mod weight;

use super::gemm::{self, Shape};
use super::{Conv, Level, LibKernel};

/// The forward pass; buffers x, w, y.
pub(crate) fn forward(c: Conv, level: Level) -> Box<dyn LibKernel> {
    match pointwise(&c) {
        Some(pixels) => {
            let shape = Shape { batch: 1, m: pixels, n: c.cout, k: c.cin, ta: false, tb: false };
            gemm::prepare(shape, level)
        }
        None => Box::new(data::DataConv::forward(&c, level)),
    }
}

/// The gradient to the input; buffers gy, w, gx.
pub(crate) fn grad_input(c: Conv, level: Level) -> Box<dyn LibKernel> {
    match pointwise(&c) {
        Some(pixels) => {
            let shape = Shape { batch: 1, m: pixels, n: c.cin, k: c.cout, ta: false, tb: true };
            gemm::prepare(shape, level)
        }
        None => Box::new(data::DataConv::grad_input(&c, level)),
    }
}

/// The gradient to the weights; buffers x, gy, gw.
pub(crate) fn grad_weight(c: Conv, level: Level) -> Box<dyn LibKernel> {
    match pointwise(&c) {
        Some(pixels) => {
            let shape = Shape { batch: 1, m: c.cin, n: c.cout, k: pixels, ta: true, tb: false };
            gemm::prepare(shape, level)
        }
        None => Box::new(weight::WeightConv::new(&c, level)),
    }
}

/// The number of cells, when every output cell sees just the input cell at its own place: then the convolution is a
/// product.
fn pointwise(c: &Conv) -> Option<usize> {
    let plain = c.kernel == [1; 3] && c.stride == [1; 3] && c.pad == [0; 3] && c.input == c.output;
    plain.then(|| c.batch * c.input.iter().product::<usize>())
}

/// Floating point operations of a convolution.
fn flops(c: &Conv) -> f64 {
    let cells = c.batch as f64 * c.output.iter().product::<usize>() as f64;
    2.0 * cells * c.kernel.iter().product::<usize>() as f64 * c.cin as f64 * c.cout as f64
}
