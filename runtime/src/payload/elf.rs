//! Finds the payload's section in an ELF64 file, with the standard library alone.
//!
//! Every offset is checked against the file's length; a damaged header is an error, never a wild read.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::PayloadError;

/// Name of the section that carries the payload: not loaded by the system, kept by `strip`.
pub const SECTION: &str = ".kurc";

/// More sections than any executable has; guards against absurd counts in damaged headers.
const MAX_SECTIONS: u64 = 4096;

fn damaged<T>(how: &str) -> Result<T, PayloadError> {
    Err(PayloadError::Damaged(how.to_owned()))
}

fn read(file: &File, at: u64, len: usize, what: &str) -> Result<Vec<u8>, PayloadError> {
    let mut out = vec![0; len];
    match file.read_exact_at(&mut out, at) {
        Ok(()) => Ok(out),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => damaged(&format!("{what} is cut short")),
        Err(e) => Err(PayloadError::Io(e.to_string())),
    }
}

fn word(b: &[u8], at: usize, len: usize) -> u64 {
    b.get(at..at + len).map_or(0, |s| s.iter().rev().fold(0, |v, x| v << 8 | u64::from(*x)))
}

/// Offset and length of the payload section in the file.
pub(super) fn find(file: &File) -> Result<(u64, u64), PayloadError> {
    let size = file.metadata().map_err(|e| PayloadError::Io(e.to_string()))?.len();
    let head = read(file, 0, 64, "the ELF header")?;
    if head[..4] != *b"\x7fELF" || head[4] != 2 || head[5] != 1 {
        return damaged("it is not a 64-bit little-endian ELF file");
    }
    let (table, entry, count, names) = (word(&head, 40, 8), word(&head, 58, 2), word(&head, 60, 2), word(&head, 62, 2));
    if table == 0 || count == 0 {
        return Err(PayloadError::Missing);
    }
    if entry != 64
        || count > MAX_SECTIONS
        || names >= count
        || table.checked_add(entry * count).is_none_or(|e| e > size)
    {
        return damaged("its section table is cut short or lies outside the file");
    }
    let len = usize::try_from(entry * count).unwrap_or(usize::MAX);
    let sections = read(file, table, len, "the section table")?;
    let section = |i: u64| {
        let at = usize::try_from(i * entry).unwrap_or(usize::MAX);
        let s = &sections[at..at + 64];
        (word(s, 0, 4), word(s, 24, 8), word(s, 32, 8))
    };
    let inside = |offset: u64, len: u64| offset.checked_add(len).is_some_and(|e| e <= size);
    let (_, strings_at, strings_len) = section(names);
    if !inside(strings_at, strings_len) {
        return damaged("its section names lie outside the file");
    }
    let strings = read(file, strings_at, usize::try_from(strings_len).unwrap_or(usize::MAX), "the section names")?;
    let mut want = SECTION.as_bytes().to_vec();
    want.push(0);
    for i in 0..count {
        let (name, offset, len) = section(i);
        let name = usize::try_from(name).unwrap_or(usize::MAX);
        if strings.get(name..).is_some_and(|s| s.starts_with(&want)) {
            return if inside(offset, len) { Ok((offset, len)) } else { damaged("the payload is cut short") };
        }
    }
    Err(PayloadError::Missing)
}
