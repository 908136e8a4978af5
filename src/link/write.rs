//! Finding the stub and writing the executable: the only file access of packing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kur_runtime::atomic;

/// Why a file was not written.
#[derive(Debug)]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// The cause.
    pub cause: io::Error,
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write `{}`: {}", self.path.display(), self.cause)
    }
}

impl std::error::Error for WriteError {}

/// File name of the stub.
const STUB: &str = "kur-stub";

/// The runtime stub: the file named by the variable `KURC_STUB`, else `kur-stub` beside the running program or one
/// folder above it (where cargo puts programs when it runs tests).
///
/// # Errors
/// The places where it was looked for.
pub fn find_stub() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("KURC_STUB") {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("KURC_STUB names `{}`, which is no file", path.display()))
        };
    }
    let me = std::env::current_exe()
        .and_then(fs::canonicalize)
        .map_err(|e| format!("cannot find the running program: {e}"))?;
    let folder = me.parent().unwrap_or(Path::new("."));
    let candidates = [Some(folder), folder.parent()];
    for dir in candidates.into_iter().flatten() {
        let path = dir.join(STUB);
        if path.is_file() {
            return Ok(path);
        }
    }
    Err(format!("no `{STUB}` beside `{}`", me.display()))
}

/// Writes a file as a whole, so that its name never shows half of one.
///
/// # Errors
/// Whatever the system says, with the path.
pub fn write_atomically(path: &Path, bytes: &[u8], executable: bool) -> Result<(), WriteError> {
    let mode = executable.then_some(0o755);
    atomic::write_with_mode(path, mode, |out| out.write_all(bytes))
        .map_err(|cause| WriteError { path: path.to_owned(), cause })
}
