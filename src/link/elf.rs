//! ELF64: the payload becomes a section `.kurc` that is not loaded.
//!
//! Everything the system loads stays where it is; debug information and symbols behind it are dropped; the payload, the
//! section names and the section table follow. A section survives `strip`, which data behind the last one would not.

use kur_runtime::payload::{PAGE, SECTION};

use super::{Container, LinkError};

/// The format of Linux executables.
pub(super) struct Elf64;

const HEADER: usize = 64;
const SECTION_HEADER: usize = 64;
const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_NOBITS: u64 = 8;
const SHF_ALLOC: u64 = 2;
const SHF_INFO_LINK: u64 = 0x40;

/// The flags of a section header.
fn flags(header: &[u8]) -> u64 {
    word(header, 8, 8).unwrap_or(0)
}

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
        // Only what the system loads is kept: debug information and symbols follow it in the file and are dropped.
        let kept: Vec<u64> = (0..count).filter(|i| *i == 0 || flags(entry(*i)) & SHF_ALLOC != 0).collect();
        let mut end = HEADER as u64;
        for i in &kept {
            let (at, len) = (word(entry(*i), 24, 8)?, word(entry(*i), 32, 8)?);
            let in_file = word(entry(*i), 4, 4)? != SHT_NOBITS;
            end = end.max(if in_file { at.saturating_add(len) } else { at });
        }
        let (segments, segment_len, segment_count) = (word(stub, 32, 8)?, word(stub, 54, 2)?, word(stub, 56, 2)?);
        for i in 0..segment_count {
            let s = slice(stub, segments.saturating_add(i * segment_len), segment_len)?;
            end = end.max(word(s, 8, 8)?.saturating_add(word(s, 32, 8)?));
        }
        let mut out = slice(stub, 0, end)?.to_vec();
        out.resize(out.len().next_multiple_of(PAGE), 0);
        let payload_at = out.len() as u64;
        out.extend_from_slice(payload);

        let strings_at = out.len() as u64;
        let mut names_out = vec![0u8];
        let mut name = |text: &[u8]| -> Result<[u8; 4], LinkError> {
            let at = u32::try_from(names_out.len()).map_err(|e| LinkError(e.to_string()))?;
            names_out.extend_from_slice(text);
            names_out.push(0);
            Ok(at.to_le_bytes())
        };
        // A section header refers to others by number; the numbers change with the sections that are dropped.
        let renumber = |old: u64| kept.iter().position(|k| *k == old).unwrap_or(0) as u32;
        let mut headers = Vec::new();
        for i in &kept {
            let old = entry(*i);
            let mut h = old.to_vec();
            if *i != 0 {
                let at = usize::try_from(word(old, 0, 4)?).unwrap_or(usize::MAX);
                let text = strings.get(at..).unwrap_or(&[]).split(|b| *b == 0).next().unwrap_or(&[]);
                h[..4].copy_from_slice(&name(text)?);
                h[40..44].copy_from_slice(&renumber(word(old, 40, 4)?).to_le_bytes());
                if flags(old) & SHF_INFO_LINK != 0 {
                    h[44..48].copy_from_slice(&renumber(word(old, 44, 4)?).to_le_bytes());
                }
            }
            headers.extend_from_slice(&h);
        }
        let mut section =
            |text: &[u8], kind: u32, at: u64, len: u64, align: u64| -> Result<[u8; SECTION_HEADER], LinkError> {
                let mut h = [0u8; SECTION_HEADER];
                h[..4].copy_from_slice(&name(text)?);
                h[4..8].copy_from_slice(&kind.to_le_bytes());
                h[24..32].copy_from_slice(&at.to_le_bytes());
                h[32..40].copy_from_slice(&len.to_le_bytes());
                h[48..56].copy_from_slice(&align.to_le_bytes());
                Ok(h)
            };
        let payload_header = section(SECTION.as_bytes(), SHT_PROGBITS, payload_at, payload.len() as u64, PAGE as u64)?;
        let mut names_header = section(b".shstrtab", SHT_STRTAB, strings_at, 0, 1)?;
        names_header[32..40].copy_from_slice(&(names_out.len() as u64).to_le_bytes());
        out.extend_from_slice(&names_out);
        out.resize(out.len().next_multiple_of(8), 0);
        let table_at = out.len() as u64;
        out.extend_from_slice(&headers);
        out.extend_from_slice(&payload_header);
        out.extend_from_slice(&names_header);

        let count = u16::try_from(kept.len() + 2).map_err(|_| LinkError("it has too many sections".into()))?;
        out[40..48].copy_from_slice(&table_at.to_le_bytes());
        out[60..62].copy_from_slice(&count.to_le_bytes());
        out[62..64].copy_from_slice(&(count - 1).to_le_bytes());
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
        assert!(a.len() <= stub.len() + 3 * PAGE);
        assert_eq!(a[HEADER..2 * PAGE], stub[HEADER..2 * PAGE]);
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        assert!(Elf64.pack(b"#!/bin/sh\n", b"abc").is_err());
        assert!(Elf64.pack(&this_program()[..100], b"abc").is_err());
    }
}
