//! Kernel IR to machine code. In come verified kernels, out comes one blob of position-independent code without
//! relocations, and the offset of each kernel's entry. The same kernels always give the same bytes.

pub mod cpu;
pub mod jit;

use std::fmt;

use crate::ir::kernel::Kernel;

/// Code of a list of kernels for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The code, position-independent. Its first byte must be loaded at a multiple of [`Artifact::ALIGN`].
    pub code: Vec<u8>,
    /// Byte offset of each kernel's entry, in the order of the kernels.
    pub entries: Vec<u64>,
}

impl Artifact {
    /// Alignment in bytes that the code relies on.
    pub const ALIGN: usize = 64;
}

/// A code generator for one target.
pub trait Backend {
    /// Name of the target, for reports: `x86-64-v3`.
    fn name(&self) -> &'static str;

    /// Compiles kernels; identical ones are not merged.
    ///
    /// # Errors
    /// [`CodegenError`] when a kernel does not verify or the target cannot express it.
    fn compile(&self, kernels: &[Kernel]) -> Result<Artifact, CodegenError>;
}

/// The code generator could not do its work. Never the user's fault: the front end accepted the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodegenError {
    /// The kernel at fault; empty when it is none in particular.
    pub kernel: String,
    /// What went wrong.
    pub message: String,
}

impl CodegenError {
    pub(crate) fn new(message: impl Into<String>) -> CodegenError {
        CodegenError { kernel: String::new(), message: message.into() }
    }

    pub(crate) fn within(mut self, kernel: &Kernel) -> CodegenError {
        self.kernel.clone_from(&kernel.name);
        self
    }
}

impl fmt::Display for CodegenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kernel.as_str() {
            "" => write!(f, "code generation failed: {}", self.message),
            name => write!(f, "code generation failed in kernel @{name}: {}", self.message),
        }
    }
}

impl std::error::Error for CodegenError {}
