//! The C-layout boundary between generated code and the runtime. Nothing else defines it.

/// Version of the kernel calling convention; part of the payload header.
pub const ABI_VERSION: u32 = 1;

/// What every generated kernel receives.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KernelArgs {
    /// One pointer per buffer of the launch, in the order of the kernel's parameter list. 64-byte aligned except for
    /// [`crate::plan::Place::Input`] buffers, which are at least 4-byte aligned.
    pub bufs: *const *mut u8,
    /// Values of the program's symbols, in table order.
    pub syms: *const u64,
}

/// A generated kernel: runs iterations `lo..hi` of its outermost, parallel loop. System V calling convention.
pub type KernelFn = unsafe extern "sysv64" fn(args: *const KernelArgs, lo: u64, hi: u64);

/// The counter-based generator behind dropout, shuffles and initial values: bit-identical in the interpreter, in
/// generated code and here.
///
/// Two rounds of Wellons' `lowbias32` finaliser (hash-prospector, 2018) over a Weyl sequence; all arithmetic wraps
/// modulo 2³².
pub mod rng {
    /// Wellons' 32-bit finaliser (bias 0.17).
    #[must_use]
    pub const fn mix(mut x: u32) -> u32 {
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    }

    /// The key of one stream: (seed, number of the drawing operation, step).
    #[must_use]
    pub const fn stream(seed: u32, op: u32, step: u32) -> u32 {
        mix(mix(mix(seed ^ 0x6b75_7263).wrapping_add(op)).wrapping_add(step))
    }

    /// 32 random bits: draw number `index` of a stream.
    #[must_use]
    pub const fn bits(stream: u32, index: u32) -> u32 {
        mix(mix(index.wrapping_mul(0x9e37_79b9) ^ stream).wrapping_add(stream))
    }

    /// Uniform in [0, 1) with 24 bits: `(bits >> 8) · 2⁻²⁴`, exact in f32.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "24 bits are exact in f32")]
    pub const fn uniform(stream: u32, index: u32) -> f32 {
        (bits(stream, index) >> 8) as f32 * (1.0 / 16_777_216.0)
    }
}
