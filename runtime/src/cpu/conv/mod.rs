//! Convolutions of one to three spatial axes and their gradients, as implicit matrix products.
//!
//! In: tensors with the channels last, x `[batch, d, h, w, cin]`, kernel `[kd, kh, kw, cin, cout]`, y
//! `[batch, d', h', w', cout]`. Out: y, or the gradient to x or to the kernel. Invariant: as in [`super::gemm`], how
//! the work is cut and the order of every sum follow from the sizes and the instruction set alone.
//!
//! No patch matrix is ever built. The pixels of an output row lie a fixed distance apart in the input, and so do the
//! rows of a register tile; the taps of a kernel row are one run of memory. So tiles read the input in place, or a copy
//! of a few of its rows with the padding filled in. The idea is that of the indirect convolution (Dukhan, "The
//! Indirect Convolution Algorithm", 2019), with strides in place of the pointers.

mod apply;
mod pass;
mod short;
#[cfg(test)]
mod tests;
mod transform;
mod weight;
mod winograd;

use super::gemm::{Epilogue, Problem, Product, kernels};
use super::par::Par;
use super::{Conv, Io, Level, LibKernel, Packing, Scratch};
use apply::Passes;
use pass::Pass;
use weight::Weights;
use winograd::{Winograd, WinogradWeights, pays, pays_for_weights};

/// A convolution, or one of its gradients, that is ready to run.
pub(crate) enum Convolution {
    /// It is a plain product of its buffers.
    Product(Product),
    /// Forward or gradient to the input.
    Passes(Passes),
    /// Gradient to the kernel.
    Weights(Box<Weights>),
    /// Forward or gradient to the input, with fewer products.
    Winograd(Box<Winograd>),
    /// Gradient to the kernel, with fewer products.
    WinogradWeights(Box<WinogradWeights>),
}

impl Convolution {
    /// y = cross-correlation of x with the kernel w; buffers x, w, y.
    pub(crate) fn forward(c: &Conv, level: Level) -> Convolution {
        if is_empty(c) {
            zeros(c.batch * c.output.iter().product::<usize>(), c.cout, level)
        } else if let Some(p) = product(c) {
            Convolution::Product(Product::new(p, level))
        } else {
            passes(c, vec![Pass::forward(c)], level)
        }
    }

    /// Gradient to the input from gy, the gradient to the output; buffers gy, w, gx.
    pub(crate) fn grad_input(c: &Conv, level: Level) -> Convolution {
        if is_empty(c) {
            zeros(c.batch * c.input.iter().product::<usize>(), c.cin, level)
        } else if let Some(p) = product(c) {
            // gx = gy · wᵀ
            Convolution::Product(Product::new(Problem { n: p.k, k: p.n, tb: true, ..p }, level))
        } else {
            passes(c, Pass::grad_input(c), level)
        }
    }

    /// Gradient to the kernel, summed over all samples and pixels; buffers x, gy, gw.
    pub(crate) fn grad_weight(c: &Conv, level: Level) -> Convolution {
        if is_empty(c) {
            zeros(c.kernel.iter().product::<usize>() * c.cin, c.cout, level)
        } else if let Some(p) = product(c) {
            // gw = xᵀ · gy
            Convolution::Product(Product::new(Problem { m: p.k, k: p.m, ta: true, ..p }, level))
        } else if dense(c) && pays_for_weights(&Pass::forward(c)) {
            Convolution::WinogradWeights(Box::new(WinogradWeights::new(level, c)))
        } else {
            Convolution::Weights(Box::new(Weights::new(kernels(level), c)))
        }
    }

    /// As [`LibKernel::run`], with an epilogue, which only the forward pass may have.
    ///
    /// # Safety
    /// As there; the bias has as many floats as the result has channels.
    pub(crate) unsafe fn run_fused(&self, par: &Par<'_>, epilogue: &Epilogue, io: &Io<'_>) {
        let (a, b, c) = (io.bufs[0], io.bufs[1], io.bufs[2]);
        // SAFETY: handed on to the caller.
        unsafe {
            match self {
                Convolution::Product(p) => p.run_fused(par, epilogue, io),
                Convolution::Passes(p) => p.run(par, epilogue, a, b, c, io.scratch, io.packed),
                Convolution::Weights(w) => w.run(par, a, b, c, io.scratch),
                Convolution::Winograd(w) => w.run(par, epilogue, a, b, c, io.scratch, io.packed),
                Convolution::WinogradWeights(w) => w.run(par, a, b, c, io.scratch),
            }
        }
    }
}

impl LibKernel for Convolution {
    fn scratch(&self) -> Scratch {
        let (shared, local) = match self {
            Convolution::Product(p) => return p.scratch(),
            Convolution::Passes(p) => p.workspace(),
            Convolution::Weights(w) => w.workspace(),
            Convolution::Winograd(w) => w.workspace(),
            Convolution::WinogradWeights(w) => w.workspace(),
        };
        Scratch { shared: shared * 4, local: local * 4 }
    }

    fn packing(&self) -> Option<Packing> {
        match self {
            Convolution::Product(p) => p.packing(),
            Convolution::Passes(p) => p.packing(),
            Convolution::Winograd(w) => w.packing(),
            Convolution::Weights(_) | Convolution::WinogradWeights(_) => None,
        }
    }

    unsafe fn pack(&self, par: &Par<'_>, io: &Io<'_>, to: *mut f32) {
        // SAFETY: handed on to the caller.
        unsafe {
            match self {
                Convolution::Product(p) => p.pack(par, io, to),
                Convolution::Passes(p) => p.pack(par, io.bufs[1], to),
                Convolution::Winograd(w) => w.pack(par, io.bufs[1], io.scratch, to),
                Convolution::Weights(_) | Convolution::WinogradWeights(_) => {}
            }
        }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        // SAFETY: handed on to the caller.
        unsafe { self.run_fused(par, &Epilogue::default(), io) }
    }
}

/// Whether neighbouring cells and taps are next to each other in the source.
fn dense(c: &Conv) -> bool {
    c.stride == [1; 3] && c.dilation == [1; 3]
}

/// The passes of a convolution, or the one pass that there is with fewer products.
fn passes(c: &Conv, mut all: Vec<Pass>, level: Level) -> Convolution {
    match all.pop_if(|last| dense(c) && pays(last)) {
        Some(pass) => Convolution::Winograd(Box::new(Winograd::new(level, pass))),
        None => Convolution::Passes(Passes::new(level, all)),
    }
}

fn is_empty(c: &Conv) -> bool {
    let sizes = [c.batch, c.cin, c.cout];
    sizes.iter().chain(&c.input).chain(&c.output).chain(&c.kernel).any(|x| *x == 0)
}

/// Sums of nothing: a product without inner indices.
fn zeros(m: usize, n: usize, level: Level) -> Convolution {
    Convolution::Product(Product::new(Problem { batch: 1, m, n, k: 0, ta: false, tb: false }, level))
}

/// The plain product y = x · w that a convolution is, if it is one: `[m, k] · [k, n]`.
fn product(c: &Conv) -> Option<Problem> {
    let pad = c.pad != [0; 3];
    let pixels: usize = c.output.iter().product();
    let k = c.kernel.iter().product::<usize>() * c.cin;
    let plain = Problem { batch: 1, m: 0, n: c.cout, k, ta: false, tb: false };
    if !pad && c.kernel == [1; 3] && c.stride == [1; 3] && c.input == c.output {
        Some(Problem { m: c.batch * pixels, ..plain })
    } else if !pad && c.kernel == c.input && c.dilation == [1; 3] && pixels == 1 {
        Some(Problem { m: c.batch, ..plain })
    } else {
        None
    }
}
