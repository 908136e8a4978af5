//! The payload of an executable: what `kurc build` appends to the stub, and how the stub reads it back.

use serde::{Deserialize, Serialize};

use crate::plan::Program;

/// Instruction set a code variant needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CpuLevel {
    /// x86-64 with SSE2 only.
    Baseline,
    /// x86-64-v3: AVX2, FMA, BMI.
    V3,
}

/// Machine code of all kernels for one level: position-independent, without relocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeVariant {
    /// What it needs.
    pub level: CpuLevel,
    /// Byte offset of each kernel's entry in the code, in the order of `Program::kernels`.
    pub entries: Vec<u64>,
    /// The code bytes.
    #[serde(skip)]
    pub code: Vec<u8>,
}

/// Everything in a payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// The compiled program.
    pub program: Program,
    /// The resolved Kurfile, YAML.
    pub kurfile: String,
    /// Graph IR text of the optimised train (or infer) step.
    pub ir: String,
    /// Code variants, best first.
    pub code: Vec<CodeVariant>,
}
