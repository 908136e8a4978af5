//! The eight-lane emitter: kernels without functions and without sums across lanes, on the 256-bit registers of
//! x86-64-v3, which cranelift does not have. Anything else is left to cranelift; where both can compile a kernel, they
//! give the same bits, but for which of two NaNs survives an operation: cranelift may swap operands to save a load.
//!
//! A kernel becomes a list of instructions on virtual registers ([`lower`], [`inst`]), these get real ones ([`registers`]), and
//! the bytes follow ([`emit`], [`encode`]). Loops have the same pieces as cranelift's: several registers per value,
//! one register, one element.

mod emit;
mod encode;
mod inst;
mod lower;
mod registers;
#[cfg(test)]
mod tests;

use crate::ir::kernel::{Kernel, Stmt};
pub(super) use encode::{Blob, VECTOR};

/// Lanes of a register.
const LANES: usize = 8;

/// The code of a kernel for x86-64-v3, or `None` where it needs what this emitter does not have: functions, random
/// numbers, integers, a sum along a vector loop, a vector loop over elements that do not lie side by side, or more
/// registers than there are.
pub(super) fn compile(kernel: &Kernel) -> Option<Blob> {
    // Sums down columns want many registers per value: rows are far apart, so the more of each is read at once the
    // better. Elsewhere two are enough to read whole cache lines. The rest is for large bodies.
    let first = if sums(&kernel.body) { 0 } else { 1 };
    for (units, hoist) in [(8, true), (2, true), (1, true), (1, false)].into_iter().skip(first) {
        // What cannot be expressed with one choice cannot be with any; only registers may suffice later.
        let code = lower::lower(kernel, units, hoist)?;
        if let Some(blob) = registers::assign(&code).and_then(|r| emit::emit(kernel, &code, &r)) {
            return Some(blob);
        }
    }
    None
}

fn sums(stmt: &Stmt) -> bool {
    match stmt {
        Stmt::Reduce { .. } => true,
        Stmt::For { body, .. } => body.iter().any(sums),
        _ => false,
    }
}
