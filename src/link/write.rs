//! Finding the stub and writing the executable: the only file access of packing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

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

/// Writes a file under a temporary name in the same folder, syncs it, and renames it, so that the name never shows
/// half a file. A device or pipe is written directly.
///
/// # Errors
/// Whatever the system says, with the path.
pub fn write_atomically(path: &Path, bytes: &[u8], executable: bool) -> Result<(), WriteError> {
    let fail = |cause| WriteError { path: path.to_owned(), cause };
    if fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return File::options().write(true).open(path).and_then(|mut f| f.write_all(bytes)).map_err(fail);
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| fail(io::Error::other("it has no file name")))?;
    if path.is_dir() {
        return Err(fail(io::Error::other("it is a folder")));
    }
    let temporary = folder.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let write = || -> io::Result<()> {
        let mut f = File::create(&temporary)?;
        f.write_all(bytes)?;
        if executable {
            f.set_permissions(fs::Permissions::from_mode(0o755))?;
        }
        f.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|e| {
        // The cause is what matters; a leftover that cannot be removed either changes nothing about it.
        let _ = fs::remove_file(&temporary);
        fail(e)
    })
}
