//! Packing: stub + payload = one executable. No linker, assembler or object file is involved.
//!
//! [`Container`] is the only thing that knows a file format; ELF is the one there is.

mod elf;
mod write;

pub use write::{WriteError, find_stub, write_atomically};

use std::fmt;

/// An executable format that can carry a payload.
pub trait Container {
    /// Name for messages.
    fn name(&self) -> &'static str;

    /// The stub with the payload inside.
    ///
    /// # Errors
    /// The stub is no executable of this format, or carries a payload already.
    fn pack(&self, stub: &[u8], payload: &[u8]) -> Result<Vec<u8>, LinkError>;
}

/// Why a stub cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkError(pub String);

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot pack the runtime stub: {}", self.0)
    }
}

impl std::error::Error for LinkError {}

/// Packs for the host's format.
///
/// # Errors
/// As [`Container::pack`].
pub fn pack(stub: &[u8], payload: &[u8]) -> Result<Vec<u8>, LinkError> {
    elf::Elf64.pack(stub, payload)
}
