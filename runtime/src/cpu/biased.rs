//! Products and convolutions with an epilogue. In: the buffers of the call with a vector before the result. Out: as the
//! call, plus the vector in each row, and no negative number where that is asked for.

use super::conv::Convolution;
use super::gemm::{Epilogue, Product};
use super::par::Par;
use super::{Io, LibKernel, Packing, Scratch};

/// A kernel that can have an epilogue.
pub(super) enum Sums {
    /// A matrix product.
    Product(Product),
    /// A forward convolution.
    Convolution(Convolution),
}

/// The kernel with its epilogue; buffers a, b, bias, c.
pub(super) struct Biased {
    pub(super) sums: Sums,
    pub(super) relu: bool,
}

impl Sums {
    fn kernel(&self) -> &dyn LibKernel {
        match self {
            Sums::Product(p) => p,
            Sums::Convolution(c) => c,
        }
    }
}

impl LibKernel for Biased {
    fn scratch(&self) -> Scratch {
        self.sums.kernel().scratch()
    }

    fn packing(&self) -> Option<Packing> {
        self.sums.kernel().packing()
    }

    unsafe fn pack(&self, par: &Par<'_>, io: &Io<'_>, to: *mut f32) {
        // SAFETY: handed on to the caller; the first two buffers are those of the kernel.
        unsafe { self.sums.kernel().pack(par, io, to) }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let epilogue = Epilogue { bias: Some(io.bufs[2].cast_const()), relu: self.relu };
        let io = Io { bufs: &[io.bufs[0], io.bufs[1], io.bufs[3]], ..*io };
        // SAFETY: handed on to the caller; the bias has as many floats as the result has columns.
        unsafe {
            match &self.sums {
                Sums::Product(p) => p.run_fused(par, &epilogue, &io),
                Sums::Convolution(c) => c.run_fused(par, &epilogue, &io),
            }
        }
    }
}
