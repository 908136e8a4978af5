//! Positions along an axis: 0, 1, 2 … as floats.

use super::par::Par;
use super::{Io, LibKernel};

/// Writes the positions of `len` elements.
pub(crate) struct Positions {
    /// Number of elements.
    pub(crate) len: usize,
}

impl LibKernel for Positions {
    unsafe fn run(&self, _par: &Par<'_>, io: &Io<'_>) {
        // SAFETY: the only buffer is the output, of `len` elements.
        let out = unsafe { std::slice::from_raw_parts_mut(io.bufs[0], self.len) };
        for (i, x) in out.iter_mut().enumerate() {
            *x = i as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cpu::check::check;
    use crate::dim::Dim;
    use crate::plan::LibCall;

    #[test]
    fn positions_count() {
        for len in [1_u64, 3, 7, 17, 33] {
            let call = LibCall::Positions { len: Dim::constant(len) };
            let expected: Vec<f64> = (0..u32::try_from(len).expect("small")).map(f64::from).collect();
            check(&call, &[1], &[], &expected, &expected, 0.0);
        }
    }
}
