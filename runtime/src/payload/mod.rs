//! The payload of an executable: what `kurc build` packs beside the stub, and how the stub reads it back.
//!
//! Layout, little-endian, offsets from the start of the payload, which lies page-aligned in the file:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic `KURCLOAD` |
//! | 8..12, 12..16 | format version, kernel ABI version |
//! | 16..24 | length of the whole payload |
//! | 24..56 | SHA-256 of everything from byte 56 |
//! | 56..64 | length of the header |
//! | 64… | header: program, Kurfile, IR text, table of code variants (postcard) |
//! | pages | code of each variant, each starting on a page of its own |
//!
//! Nothing read from a file is trusted before its bounds and the hash are checked.

mod elf;
mod open;

pub use elf::SECTION;
pub use open::{OpenPayload, open};

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::abi::ABI_VERSION;
use crate::plan::{FORMAT_VERSION, Program};

/// Page size that code is aligned to, in bytes.
pub const PAGE: usize = 4096;

const MAGIC: &[u8; 8] = b"KURCLOAD";
const HASHED_FROM: usize = 56;
const HEADER_FROM: usize = 64;

/// Instruction set a code variant needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CpuLevel {
    /// x86-64 with SSE2 only.
    Baseline,
    /// x86-64-v3: AVX2, FMA, BMI.
    V3,
}

impl fmt::Display for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CpuLevel::Baseline => "x86-64",
            CpuLevel::V3 => "x86-64-v3",
        })
    }
}

/// Machine code of all kernels for one level: position-independent, without relocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeVariant {
    /// What it needs.
    pub level: CpuLevel,
    /// Byte offset of each kernel's entry in the code, in the order of `Program::kernels`.
    pub entries: Vec<u64>,
    /// The code bytes.
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
    /// Code variants.
    pub code: Vec<CodeVariant>,
}

/// Why a payload cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// The executable carries none.
    Missing,
    /// The bytes are damaged; the text says how it shows.
    Damaged(String),
    /// Written by a kurc with another format or kernel ABI.
    Version {
        /// Format and ABI version found.
        found: (u32, u32),
    },
    /// No code variant runs on this CPU.
    Cpu {
        /// Levels in the payload.
        needs: Vec<CpuLevel>,
        /// What this CPU offers.
        has: CpuLevel,
    },
    /// The file cannot be read or mapped.
    Io(String),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadError::Missing => {
                f.write_str("this executable carries no model: it is the bare runtime that `kurc build` packs")
            }
            PayloadError::Damaged(how) => write!(f, "this executable is damaged: {how}"),
            PayloadError::Version { found } => write!(
                f,
                "this executable has format {}.{}, its runtime reads {FORMAT_VERSION}.{ABI_VERSION}",
                found.0, found.1
            ),
            PayloadError::Cpu { needs, has } => {
                let needs: Vec<String> = needs.iter().map(ToString::to_string).collect();
                let what = if needs.iter().all(|n| n == "x86-64-v3") { " (AVX2 and FMA)" } else { "" };
                write!(f, "this executable needs {}{what}, and this CPU offers {has}", needs.join(" or "))
            }
            PayloadError::Io(e) => write!(f, "cannot read this executable: {e}"),
        }
    }
}

impl PayloadError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            PayloadError::Missing => "make one with `kurc build Kurfile.yml -o model.bin`",
            PayloadError::Damaged(_) => "copy it again, or build it again with `kurc build`",
            PayloadError::Version { .. } => "build it again with the kurc beside this runtime",
            PayloadError::Cpu { .. } => "build it with `--target-cpu x86-64`, or without that option",
            PayloadError::Io(_) => "check that the file can be read and that /proc is mounted",
        }
    }

    /// Exit code of the program: 5 for a damaged executable, 1 where the machine is the cause.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            PayloadError::Missing | PayloadError::Damaged(_) | PayloadError::Version { .. } => 5,
            PayloadError::Cpu { .. } | PayloadError::Io(_) => 1,
        }
    }
}

impl std::error::Error for PayloadError {}

/// The encoded part of a payload that precedes the code pages.
#[derive(Serialize, Deserialize)]
struct Header {
    program: Program,
    kurfile: String,
    ir: String,
    variants: Vec<Variant>,
}

/// Where the code of one level lies.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Variant {
    level: CpuLevel,
    entries: Vec<u64>,
    /// From the start of the payload; a multiple of [`PAGE`].
    offset: u64,
    len: u64,
}

/// The bytes of a payload.
///
/// # Errors
/// The program cannot be encoded (a bug).
pub fn encode(p: &Payload) -> Result<Vec<u8>, String> {
    let mut header =
        Header { program: p.program.clone(), kurfile: p.kurfile.clone(), ir: p.ir.clone(), variants: Vec::new() };
    // Offsets are part of the header whose length decides them: encode with large placeholders, which take the most
    // bytes, and lay the code out behind that.
    for v in &p.code {
        header.variants.push(Variant {
            level: v.level,
            entries: v.entries.clone(),
            offset: u64::MAX,
            len: v.code.len() as u64,
        });
    }
    let longest = postcard::to_stdvec(&header).map_err(|e| e.to_string())?.len();
    let mut at = (HEADER_FROM + longest).next_multiple_of(PAGE);
    for (v, code) in header.variants.iter_mut().zip(&p.code) {
        v.offset = at as u64;
        at = (at + code.code.len()).next_multiple_of(PAGE);
    }
    let encoded = postcard::to_stdvec(&header).map_err(|e| e.to_string())?;
    let mut out = vec![0; at];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&ABI_VERSION.to_le_bytes());
    out[16..24].copy_from_slice(&(at as u64).to_le_bytes());
    out[HASHED_FROM..HEADER_FROM].copy_from_slice(&(encoded.len() as u64).to_le_bytes());
    out[HEADER_FROM..HEADER_FROM + encoded.len()].copy_from_slice(&encoded);
    for (v, code) in header.variants.iter().zip(&p.code) {
        let start = usize::try_from(v.offset).map_err(|e| e.to_string())?;
        out[start..start + code.code.len()].copy_from_slice(&code.code);
    }
    let hash = Sha256::digest(&out[HASHED_FROM..]);
    out[24..56].copy_from_slice(&hash);
    Ok(out)
}

fn damaged<T>(how: &str) -> Result<T, PayloadError> {
    Err(PayloadError::Damaged(how.to_owned()))
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4).and_then(|s| s.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    b.get(at..at + 8).and_then(|s| s.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Checks everything that can be checked and decodes the header.
fn decode_header(bytes: &[u8]) -> Result<(Header, String), PayloadError> {
    if bytes.len() < HEADER_FROM {
        return damaged("the payload is cut short");
    }
    if &bytes[..8] != MAGIC {
        return damaged("the payload does not start with its magic number");
    }
    let found = (u32_at(bytes, 8), u32_at(bytes, 12));
    if found != (FORMAT_VERSION, ABI_VERSION) {
        return Err(PayloadError::Version { found });
    }
    let total = usize::try_from(u64_at(bytes, 16)).unwrap_or(usize::MAX);
    let Some(bytes) = bytes.get(..total).filter(|b| b.len() >= HEADER_FROM) else {
        return damaged("the payload is cut short");
    };
    let hash = Sha256::digest(bytes.get(HASHED_FROM..).unwrap_or(&[]));
    if hash.as_slice() != &bytes[24..56] {
        return damaged("the checksum of the payload does not match");
    }
    let len = usize::try_from(u64_at(bytes, HASHED_FROM)).unwrap_or(usize::MAX);
    let end = HEADER_FROM.saturating_add(len);
    let Some(encoded) = bytes.get(HEADER_FROM..end) else { return damaged("the header is cut short") };
    let header: Header = match postcard::from_bytes(encoded) {
        Ok(h) => h,
        Err(e) => return damaged(&format!("the header does not decode ({e})")),
    };
    for v in &header.variants {
        let fits = v.offset.is_multiple_of(PAGE as u64)
            && v.offset.checked_add(v.len).is_some_and(|e| e <= total as u64)
            && v.entries.len() == header.program.kernels.len()
            && v.entries.iter().all(|e| *e < v.len);
        if !fits {
            return damaged("the code table points outside the code");
        }
    }
    let hex = hash.iter().map(|b| format!("{b:02x}")).collect();
    Ok((header, hex))
}

/// Reads a payload back, code included.
///
/// # Errors
/// Every [`PayloadError`] but `Missing`, `Cpu` and `Io`.
pub fn decode(bytes: &[u8]) -> Result<Payload, PayloadError> {
    let (h, _) = decode_header(bytes)?;
    let code = h
        .variants
        .iter()
        .map(|v| {
            let start = usize::try_from(v.offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::try_from(v.len).unwrap_or(usize::MAX));
            let code = bytes.get(start..end).unwrap_or(&[]).to_vec();
            CodeVariant { level: v.level, entries: v.entries.clone(), code }
        })
        .collect();
    Ok(Payload { program: h.program, kurfile: h.kurfile, ir: h.ir, code })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dim::{DimSum, SymbolTable};
    use crate::plan::{KernelInfo, Plan};
    use crate::spec::{RunSpec, TrainWeights};

    fn sample() -> Payload {
        let run = RunSpec {
            name: "sample".into(),
            seed: 7,
            inputs: Vec::new(),
            outputs: Vec::new(),
            train: None,
            validate: None,
            test: None,
            evaluate: None,
            epochs: Some(3),
            train_weights: TrainWeights::default(),
            unbuilt: Vec::new(),
            validate_best: None,
            test_weights: None,
            evaluate_weights: None,
            destination: None,
            rate: Default::default(),
        };
        let plan = Plan { inputs: Vec::new(), results: Vec::new(), arena: Vec::new(), launches: Vec::new() };
        let program = Program {
            compiler: "test".into(),
            symbols: SymbolTable::default(),
            state: Vec::new(),
            state_bytes: 0,
            train: None,
            test: None,
            infer: plan,
            kernels: vec![KernelInfo { name: "k".into(), flops: DimSum::default(), bufs: Vec::new() }],
            layers: Vec::new(),
            run,
        };
        let variant = |level, n| CodeVariant { level, entries: vec![3], code: vec![0xc3; n] };
        let code = vec![variant(CpuLevel::V3, 5000), variant(CpuLevel::Baseline, 10)];
        Payload { program, kurfile: "model: []".into(), ir: "graph".into(), code }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let bytes = encode(&sample()).expect("encodes");
        assert_eq!(bytes.len() % PAGE, 0);
        assert_eq!(decode(&bytes), Ok(sample()));
        assert_eq!(encode(&sample()), Ok(bytes));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode(&sample()).expect("encodes");
        bytes[8] ^= 0x40;
        assert!(matches!(decode(&bytes), Err(PayloadError::Version { .. })));
    }

    proptest! {
        #[test]
        fn damage_is_always_found(at in 16usize..20_000, bit in 0u8..8, cut in prop::option::of(0usize..20_000)) {
            let mut bytes = encode(&sample()).expect("encodes");
            let before = bytes.clone();
            let n = bytes.len();
            bytes[at % n] ^= 1 << bit;
            if let Some(cut) = cut {
                bytes.truncate(cut % n);
            }
            // Padding between the parts is hashed too, so every changed bit behind the versions must be noticed.
            if at % n >= 16 || bytes.len() < n {
                prop_assert!(bytes == before || decode(&bytes).is_err());
            }
        }

        #[test]
        fn a_damaged_head_never_panics(at in 0usize..64, bit in 0u8..8, value: u64) {
            let mut bytes = encode(&sample()).expect("encodes");
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
            // The length itself is not hashed.
            for length in [value, value % 70, 0] {
                bytes[16..24].copy_from_slice(&length.to_le_bytes());
                prop_assert!(decode(&bytes).is_err());
            }
        }
    }
}
