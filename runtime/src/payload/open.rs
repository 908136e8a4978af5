//! Opens the payload of an executable file and maps the code of the best variant read+execute.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{CpuLevel, PAGE, PayloadError, decode_header, elf};
use crate::abi::KernelFn;
use crate::exec::CodeTable;
use crate::plan::Program;

/// A payload whose code is ready to run.
pub struct OpenPayload {
    /// The compiled program.
    pub program: Program,
    /// The resolved Kurfile, YAML.
    pub kurfile: String,
    /// Graph IR text.
    pub ir: String,
    /// SHA-256 of the payload, in hex.
    pub hash: String,
    /// Level of the code that was mapped.
    pub level: CpuLevel,
    /// Entry points.
    pub code: CodeTable,
}

/// Code pages, read+execute.
struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

// SAFETY: the pages are never written after `map` returns, so any thread may read and execute them.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of a mapping that this value owns.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

fn last_error() -> PayloadError {
    PayloadError::Io(std::io::Error::last_os_error().to_string())
}

/// Maps code: straight from the file where it lies on a page boundary, else a copy.
fn map(file: &File, at: u64, code: &[u8]) -> Result<Mapping, PayloadError> {
    let len = code.len().max(1);
    if at.is_multiple_of(PAGE as u64) {
        let offset = libc::off_t::try_from(at).map_err(|e| PayloadError::Io(e.to_string()))?;
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: a fresh private mapping of an open file; the result is checked.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_PRIVATE, file.as_raw_fd(), offset) };
        if start != libc::MAP_FAILED {
            return Ok(Mapping { start, len });
        }
    }
    // A tool moved the section, or the file system refuses executable mappings.
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh anonymous mapping; the result is checked.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(last_error());
    }
    let mapping = Mapping { start, len };
    // SAFETY: the mapping is writable, at least `code.len()` bytes long and overlaps nothing.
    unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), start.cast::<u8>(), code.len()) };
    // SAFETY: protects exactly the mapping made above.
    if unsafe { libc::mprotect(start, len, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
        return Err(last_error());
    }
    Ok(mapping)
}

/// Reads the payload of an executable, checks it, and maps the best variant for `level`. The running program itself is
/// `/proc/self/exe`.
///
/// # Errors
/// Every [`PayloadError`].
pub fn open(path: &Path, level: CpuLevel) -> Result<OpenPayload, PayloadError> {
    let file = File::open(path).map_err(|e| PayloadError::Io(e.to_string()))?;
    let (at, len) = elf::find(&file)?;
    let len = usize::try_from(len).map_err(|e| PayloadError::Io(e.to_string()))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).map_err(|e| PayloadError::Io(e.to_string()))?;
    let (header, hash) = decode_header(&bytes)?;
    let best = header.variants.iter().filter(|v| v.level <= level).max_by_key(|v| v.level);
    let Some(variant) = best else {
        let needs = header.variants.iter().map(|v| v.level).collect();
        return Err(PayloadError::Cpu { needs, has: level });
    };
    let start = usize::try_from(variant.offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(usize::try_from(variant.len).unwrap_or(usize::MAX));
    let code = bytes.get(start..end).ok_or_else(|| PayloadError::Damaged("the code is cut short".into()))?;
    let mapping = map(&file, at + variant.offset, code)?;
    let entries = variant
        .entries
        .iter()
        .map(|e| {
            let offset = usize::try_from(*e).unwrap_or(0);
            // SAFETY: `decode_header` checked that the offset lies inside the code, whose checksum matches what the
            // compiler wrote there: functions of type `KernelFn`. The mapping lives as long as the table.
            unsafe { std::mem::transmute::<*mut u8, KernelFn>(mapping.start.cast::<u8>().add(offset)) }
        })
        .collect();
    let level = variant.level;
    Ok(OpenPayload {
        program: header.program,
        kurfile: header.kurfile,
        ir: header.ir,
        hash,
        level,
        code: CodeTable { entries, owner: Box::new(mapping) },
    })
}
