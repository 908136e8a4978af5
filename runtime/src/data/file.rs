//! Opening data files: a path as the user wrote it goes in, a buffered byte stream comes out.
//!
//! `~` and `$VAR` are expanded, a checksum is verified before the first byte is used, and gzip is recognised by
//! content, never by name (kur-reference 6.2, 6.5).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::error::{Error, Exit, Place, Result, io_phrase};
use crate::spec::FileSpec;

const BUFFER: usize = 1 << 16;

/// Expands `~`, `$VAR` and `${VAR}`; unknown variables stay as they are written.
#[must_use]
pub fn expand(path: &str) -> PathBuf {
    PathBuf::from(expand_with(path, |name| std::env::var(name).ok()))
}

fn expand_with(path: &str, var: impl Fn(&str) -> Option<String>) -> String {
    let mut rest = path;
    let mut out = String::with_capacity(path.len());
    if let Some(tail) = path.strip_prefix('~')
        && (tail.is_empty() || tail.starts_with('/'))
        && let Some(home) = var("HOME")
    {
        out.push_str(&home);
        rest = tail;
    }
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let (name, end) = match tail.strip_prefix('{').and_then(|t| t.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
                (&tail[..end], end)
            }
        };
        match var(name).filter(|_| !name.is_empty()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..at + 1 + end]),
        }
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

/// Opens a data file.
///
/// # Errors
/// `data-file` when it cannot be read, `checksum` when its SHA-256 differs from the one in the Kurfile.
pub fn open(spec: &FileSpec) -> Result<Box<dyn BufRead>> {
    let path = expand(&spec.path);
    if path.is_dir() {
        return Err(Error::data("data-file", format!("`{}` is a directory, not a data file", spec.path)));
    }
    // Asked before it is opened: opening a pipe waits for its writer, and data is read more than once.
    if std::fs::metadata(&path).is_ok_and(|m| !m.is_file()) {
        return Err(Error::data("data-file", format!("`{}` is no regular file", spec.path))
            .help("write the data into a file first: it is read more than once"));
    }
    if let Some(expected) = &spec.checksum {
        let mut file = File::open(&path).map_err(|e| read_error(&spec.path, &e))?;
        let found = sha256_hex(&mut file).map_err(|e| read_error(&spec.path, &e))?;
        if !found.eq_ignore_ascii_case(expected.trim()) {
            return Err(Error::data("checksum", format!("the checksum of `{}` does not match the Kurfile", spec.path))
                .help(format!("the Kurfile says {}\nthe file has    {found}", expected.trim()))
                .help("fetch the file again, or correct `checksum` if the file is the right one"));
        }
    }
    File::open(&path).and_then(unpacked).map_err(|e| read_error(&spec.path, &e))
}

/// The bytes of a file, those inside when it is gzip.
///
/// # Errors
/// The system's.
pub fn unpacked(file: File) -> io::Result<Box<dyn BufRead>> {
    let mut plain = BufReader::with_capacity(BUFFER, file);
    if plain.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(plain))));
    }
    Ok(Box::new(plain))
}

/// The error for a data file that cannot be opened or read.
#[must_use]
pub fn read_error(path: &str, cause: &io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::NotFound => Error::data("data-file", format!("the data file `{path}` does not exist"))
            .help("a relative path starts at the working directory"),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Error::data("data-file", format!("the gzip data of `{path}` is damaged: {}", io_phrase(cause)))
                .at(Place::file(path))
                .help("fetch or compress the file again")
        }
        _ => Error::new(Exit::Data, "data-file", format!("cannot read `{path}`: {}", io_phrase(cause))),
    }
}

fn sha256_hex(reader: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_expand_like_a_shell() {
        let var = |name: &str| match name {
            "HOME" => Some("/home/u".to_owned()),
            "D" => Some("data".to_owned()),
            _ => None,
        };
        for (given, expected) in [
            ("~/x", "/home/u/x"),
            ("~", "/home/u"),
            ("~other/x", "~other/x"),
            ("$D/a", "data/a"),
            ("a${D}b", "adatab"),
            ("$NONE/a", "$NONE/a"),
            ("a$", "a$"),
            ("${D", "${D"),
        ] {
            assert_eq!(expand_with(given, var), expected, "{given}");
        }
    }

    #[test]
    fn checksums_are_compared_without_case() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("a");
        std::fs::write(&path, "abc").expect("write");
        let sum = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        let mut spec = FileSpec { path: path.display().to_string(), checksum: Some(sum.into()) };
        assert!(open(&spec).is_ok());
        spec.checksum = Some("00".into());
        assert_eq!(open(&spec).err().map(|e| e.id()), Some("checksum"));
    }
}
