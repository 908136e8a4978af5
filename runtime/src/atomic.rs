//! Writing files so that no reader and no crash ever sees half of one: a temporary name in the same directory, fsync,
//! rename, fsync of the directory. Devices and pipes, which cannot be replaced, are written directly.

use std::ffi::{CString, OsString, c_char};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The name of the temporary file that is being written. A process has one at a time; what a second one would be (only
/// tests write side by side) a signal leaves behind.
static UNFINISHED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Writes a file as a whole: `path` has either its old content or all that `fill` writes.
///
/// # Errors
/// Those of the system; the temporary file is gone afterwards.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    write_with_mode(path, None, fill)
}

/// As [`write()`], with permission bits that the file has from the moment its name shows it.
///
/// # Errors
/// As [`write()`].
pub fn write_with_mode(
    path: &Path,
    mode: Option<u32>,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let special = fs::metadata(&target).is_ok_and(|m| !m.is_file() && !m.is_dir());
    if special {
        let mut out = BufWriter::new(OpenOptions::new().write(true).open(&target)?);
        fill(&mut out)?;
        return out.flush();
    }
    if target.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
    }
    let temporary = temporary_name(&target);
    let _unfinished = Unfinished::new(&temporary);
    let result = File::create(&temporary).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out)?;
        out.flush()?;
        if let Some(mode) = mode {
            out.get_ref().set_permissions(fs::Permissions::from_mode(mode))?;
        }
        out.get_ref().sync_all()?;
        fs::rename(&temporary, &target)?;
        // A directory that cannot be opened for reading can still be written to; the rename stands then too.
        if let Ok(directory) = File::open(directory_of(&target)) {
            directory.sync_all()?;
        }
        Ok(())
    });
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Finds out early whether [`write()`] can work, by making and removing a temporary file.
///
/// # Errors
/// Those of the system.
pub fn check(path: &Path) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&target) {
        Ok(m) if m.is_dir() => return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory")),
        Ok(m) if !m.is_file() => return OpenOptions::new().write(true).open(&target).map(drop),
        _ => {}
    }
    let temporary = temporary_name(&target);
    let _unfinished = Unfinished::new(&temporary);
    File::create(&temporary)?;
    fs::remove_file(&temporary)
}

/// Removes the temporary file that is being written, if there is one. The process is to end right after; a signal
/// handler may call this.
pub fn abandon() {
    let name = UNFINISHED.swap(ptr::null_mut(), Ordering::SeqCst);
    if !name.is_null() {
        // SAFETY: the name is a C string that nobody frees any more, since it has been taken out; `unlink` is allowed in
        // signal handlers.
        unsafe { libc::unlink(name) };
    }
}

/// Keeps the name of a temporary file where [`abandon`] finds it.
struct Unfinished(*mut c_char);

impl Unfinished {
    fn new(path: &Path) -> Option<Unfinished> {
        let name = CString::new(path.as_os_str().as_bytes()).ok()?.into_raw();
        let placed = UNFINISHED.compare_exchange(ptr::null_mut(), name, Ordering::SeqCst, Ordering::SeqCst);
        if placed.is_err() {
            // SAFETY: the name comes from `into_raw` above and was given to nobody.
            drop(unsafe { CString::from_raw(name) });
            return None;
        }
        Some(Unfinished(name))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let taken = UNFINISHED.compare_exchange(self.0, ptr::null_mut(), Ordering::SeqCst, Ordering::SeqCst);
        // A handler that has taken the name out uses it until the process ends.
        if taken.is_ok() {
            // SAFETY: the name comes from `into_raw`, and nobody else has it.
            drop(unsafe { CString::from_raw(self.0) });
        }
    }
}

/// A name beside `target` that no other process uses.
fn temporary_name(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    directory_of(target).join(name)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("a");
        write(&path, |out| out.write_all(b"old")).expect("write");
        let failed = write(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
        check(&path).expect("writable");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn links_are_followed_and_devices_written_to() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "1").expect("write");
        std::os::unix::fs::symlink(&real, &link).expect("link");
        write(&link, |out| out.write_all(b"2")).expect("write");
        assert_eq!(fs::read(&real).expect("read"), b"2");
        let full = write(Path::new("/dev/full"), |out| out.write_all(&[0; 1 << 16]));
        assert_eq!(full.err().map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
        assert!(Path::new("/dev/full").exists());
        assert!(check(dir.path()).is_err());
    }
}
