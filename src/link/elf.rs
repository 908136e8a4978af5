//! ELF64: the payload becomes a section `.kurc` that is not loaded.
//!
//! The section table and its string table are written anew at the end of the file, behind the payload, so that no
//! byte of the stub moves. A section survives `strip`, which data behind the end of the file would not.

use kur_runtime::payload::{PAGE, SECTION};

use super::{Container, LinkError};

/// The format of Linux executables.
pub(super) struct Elf64;

const HEADER: usize = 64;
const SECTION_HEADER: usize = 64;
const SHT_PROGBITS: u32 = 1;

fn word(b: &[u8], at: usize, len: usize) -> Result<u64, LinkError> {
    let bytes = b.get(at..at + len).ok_or_else(|| LinkError("the file is cut short".into()))?;
    Ok(bytes.iter().rev().fold(0, |v, x| v << 8 | u64::from(*x)))
}

fn slice(b: &[u8], at: u64, len: u64) -> Result<&[u8], LinkError> {
    let bounds = usize::try_from(at).ok().zip(usize::try_from(len).ok());
    bounds
        .and_then(|(at, len)| b.get(at..at.checked_add(len)?))
        .ok_or_else(|| LinkError("a table lies outside the file".into()))
}

impl Container for Elf64 {
    fn name(&self) -> &'static str {
        "ELF64"
    }

    fn pack(&self, stub: &[u8], payload: &[u8]) -> Result<Vec<u8>, LinkError> {
        if stub.len() < HEADER || stub[..6] != *b"\x7fELF\x02\x01" {
            return Err(LinkError("it is not a 64-bit little-endian ELF executable".into()));
        }
        let (table, count, names) = (word(stub, 40, 8)?, word(stub, 60, 2)?, word(stub, 62, 2)?);
        if word(stub, 58, 2)? != SECTION_HEADER as u64 || names >= count {
            return Err(LinkError("its section table is missing or damaged".into()));
        }
        let sections = slice(stub, table, count * SECTION_HEADER as u64)?;
        let entry = |i: u64| {
            let at = usize::try_from(i).unwrap_or(usize::MAX).saturating_mul(SECTION_HEADER);
            sections.get(at..at + SECTION_HEADER).unwrap_or(&[])
        };
        let strings = slice(stub, word(entry(names), 24, 8)?, word(entry(names), 32, 8)?)?;
        for i in 0..count {
            let name = usize::try_from(word(entry(i), 0, 4)?).unwrap_or(usize::MAX);
            let text = strings.get(name..).unwrap_or(&[]).split(|b| *b == 0).next().unwrap_or(&[]);
            if text == SECTION.as_bytes() {
                return Err(LinkError("it carries a payload already".into()));
            }
        }
        let mut out = stub.to_vec();
        out.resize(out.len().next_multiple_of(PAGE), 0);
        let payload_at = out.len() as u64;
        out.extend_from_slice(payload);

        let strings_at = out.len() as u64;
        let name = strings.len();
        out.extend_from_slice(strings);
        out.extend_from_slice(SECTION.as_bytes());
        out.push(0);
        let strings_len = out.len() as u64 - strings_at;

        out.resize(out.len().next_multiple_of(8), 0);
        let table_at = out.len() as u64;
        out.extend_from_slice(sections);
        let moved = usize::try_from(table_at + names * SECTION_HEADER as u64).unwrap_or(usize::MAX);
        out[moved + 24..moved + 32].copy_from_slice(&strings_at.to_le_bytes());
        out[moved + 32..moved + 40].copy_from_slice(&strings_len.to_le_bytes());

        let mut header = [0u8; SECTION_HEADER];
        let name = u32::try_from(name).map_err(|e| LinkError(e.to_string()))?;
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[4..8].copy_from_slice(&SHT_PROGBITS.to_le_bytes());
        header[24..32].copy_from_slice(&payload_at.to_le_bytes());
        header[32..40].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        header[48..56].copy_from_slice(&(PAGE as u64).to_le_bytes());
        out.extend_from_slice(&header);

        out[40..48].copy_from_slice(&table_at.to_le_bytes());
        let count = u16::try_from(count + 1).map_err(|_| LinkError("it has too many sections".into()))?;
        out[60..62].copy_from_slice(&count.to_le_bytes());
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The running test program is an ELF executable like any other.
    fn this_program() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("the running program can be read")
    }

    #[test]
    fn a_packed_program_is_not_packed_again() {
        let once = Elf64.pack(&this_program(), &[7; 5000]).expect("packs");
        assert_eq!(Elf64.pack(&once, &[1]), Err(LinkError("it carries a payload already".into())));
    }

    #[test]
    fn packing_is_deterministic_and_keeps_the_stub() {
        let stub = this_program();
        let a = Elf64.pack(&stub, b"abc").expect("packs");
        assert_eq!(a, Elf64.pack(&stub, b"abc").expect("packs"));
        assert_eq!(a[HEADER..stub.len()], stub[HEADER..]);
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        assert!(Elf64.pack(b"#!/bin/sh\n", b"abc").is_err());
        assert!(Elf64.pack(&this_program()[..100], b"abc").is_err());
    }
}
