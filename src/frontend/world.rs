//! What the front end may ask of the outside: files, environment, host name. Everything else in `frontend` and `model`
//! is pure, so the same text always gives the same Kurfile.
//!
//! [`MemoryWorld`] serves tests and fuzzing; [`OsWorld`] is the single place of the front end that does IO.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

/// Bytes that a Kurfile, or a file that it includes or loads, may have.
const MAX_BYTES: u64 = 64 << 20;

/// The outside, as seen by the front end.
pub trait World {
    /// The bytes of a file.
    ///
    /// # Errors
    /// What the system says.
    fn read_file(&self, path: &str) -> io::Result<Vec<u8>>;

    /// Whether something exists at a path.
    fn exists(&self, path: &str) -> bool;

    /// Names of files and folders in a folder, sorted; empty when it cannot be read.
    fn list_dir(&self, path: &str) -> Vec<String>;

    /// Whether a folder is at a path.
    fn is_dir(&self, path: &str) -> bool;

    /// A text that is equal for paths that lead to the same file.
    fn identity(&self, path: &str) -> String;

    /// How many NVIDIA GPUs there are, for templates (`{{ gpu_count() }}`).
    fn gpu_count(&self) -> u64;

    /// An environment variable.
    fn env_var(&self, name: &str) -> Option<String>;

    /// The host name, for templates (`{{ host }}`).
    fn hostname(&self) -> String;
}

/// A world made of strings.
#[derive(Clone, Debug, Default)]
pub struct MemoryWorld {
    /// Path to content.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Host name.
    pub host: String,
    /// GPUs.
    pub gpus: u64,
}

impl MemoryWorld {
    /// A world with one file.
    #[must_use]
    pub fn with_file(path: &str, text: &str) -> MemoryWorld {
        let mut world = MemoryWorld { host: "localhost".to_owned(), ..MemoryWorld::default() };
        world.files.insert(path.to_owned(), text.as_bytes().to_vec());
        world
    }
}

impl World for MemoryWorld {
    fn read_file(&self, path: &str) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.files.get(&normal(path)) {
            return Ok(bytes.clone());
        }
        Err(if self.is_dir(path) { io::ErrorKind::IsADirectory } else { io::ErrorKind::NotFound }.into())
    }

    fn exists(&self, path: &str) -> bool {
        self.files.contains_key(&normal(path)) || self.is_dir(path)
    }

    fn list_dir(&self, path: &str) -> Vec<String> {
        let prefix = folder(path);
        let names = self.files.keys().filter_map(|f| f.strip_prefix(&prefix));
        let mut names: Vec<String> =
            names.filter_map(|f| f.split('/').next()).filter(|n| !n.is_empty()).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    fn is_dir(&self, path: &str) -> bool {
        let prefix = folder(path);
        prefix.is_empty() || self.files.keys().any(|f| f.starts_with(&prefix))
    }

    fn identity(&self, path: &str) -> String {
        normal(path)
    }

    fn gpu_count(&self) -> u64 {
        self.gpus
    }

    fn env_var(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn hostname(&self) -> String {
        self.host.clone()
    }
}

/// A path without `.`, and without `..` where the step before is known.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            "" if !parts.is_empty() => {}
            ".." if parts.last().is_some_and(|p| *p != ".." && !p.is_empty()) => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// What the paths of all files in a folder start with.
fn folder(path: &str) -> String {
    match normal(path) {
        p if p.is_empty() && !path.starts_with('/') => p,
        p => p + "/",
    }
}

/// The real outside: the only IO of the front end.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsWorld;

impl World for OsWorld {
    fn read_file(&self, path: &str) -> io::Result<Vec<u8>> {
        // Asked before it is opened: opening a pipe waits for its writer.
        let about = std::fs::metadata(path)?;
        if about.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !about.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        if about.len() > MAX_BYTES {
            let text = format!("it is larger than {} MiB", MAX_BYTES >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        // Files of the system may be longer than they say.
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn exists(&self, path: &str) -> bool {
        std::path::Path::new(path).exists()
    }

    fn list_dir(&self, path: &str) -> Vec<String> {
        let path = if path.is_empty() { "." } else { path };
        let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
        let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn is_dir(&self, path: &str) -> bool {
        std::path::Path::new(if path.is_empty() { "." } else { path }).is_dir()
    }

    fn identity(&self, path: &str) -> String {
        std::fs::canonicalize(path).map_or_else(|_| path.to_owned(), |p| p.to_string_lossy().into_owned())
    }

    fn gpu_count(&self) -> u64 {
        // The driver lists one folder for each GPU; without a driver there is no such folder.
        std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, |entries| entries.flatten().count() as u64)
    }

    fn env_var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn hostname(&self) -> String {
        // The kernel's own file avoids a dependency for one string that few Kurfiles use.
        let read = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        read.map(|s| s.trim().to_owned()).or_else(|| self.env_var("HOSTNAME")).unwrap_or_else(|| "localhost".to_owned())
    }
}

/// Expands a leading `~` and every `$VAR` or `${VAR}` (kur-reference 1.1). Unknown variables stay as they are written,
/// as in Python's `os.path.expandvars`.
#[must_use]
pub fn expand_path(world: &dyn World, path: &str) -> String {
    let path = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            world.env_var("HOME").map_or_else(|| path.to_owned(), |home| home + rest)
        }
        _ => path.to_owned(),
    };
    let mut out = String::new();
    let mut rest = path.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, used) = match after.strip_prefix('{').and_then(|b| b.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        match world.env_var(name) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..at + 1 + used]),
        }
        rest = &after[used..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_world_reads_files() {
        let root = env!("CARGO_MANIFEST_DIR");
        let manifest = format!("{root}/Cargo.toml");
        assert!(OsWorld.exists(&manifest) && OsWorld.read_file(&manifest).is_ok_and(|b| !b.is_empty()));
        assert!(OsWorld.read_file("/dev/zero").is_err_and(|e| e.to_string() == "it is no regular file"));
        assert!(OsWorld.list_dir(root).iter().any(|n| n == "Cargo.toml"));
        assert!(OsWorld.read_file(&format!("{root}/nothing.yml")).is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
        assert!(!OsWorld.hostname().is_empty());
    }

    #[test]
    fn paths_expand_like_python() {
        let mut world = MemoryWorld::default();
        world.env.insert("HOME".into(), "/home/k".into());
        world.env.insert("D".into(), "data".into());
        let cases = [
            ("~/x.yml", "/home/k/x.yml"),
            ("~", "/home/k"),
            ("~user/x", "~user/x"),
            ("$D/x", "data/x"),
            ("${D}s/$NO/${NO}", "datas/$NO/${NO}"),
            ("a$", "a$"),
        ];
        for (from, to) in cases {
            assert_eq!(expand_path(&world, from), to);
        }
    }
}
