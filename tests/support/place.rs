//! Folders in which end-to-end tests build and run programs, and what is said about their outputs.

#![allow(dead_code, reason = "each test target uses a part of this module")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with a fixture, and programs run inside it.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn empty() -> Place {
        Place { dir: tempfile::tempdir().expect("a folder") }
    }

    /// A copy of a fixture's folder.
    pub(crate) fn of(fixture: &str) -> Place {
        let place = Place::empty();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
        for entry in fs::read_dir(from).expect("the fixture") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                continue;
            }
            fs::copy(&path, place.path(&path.file_name().expect("a name").to_string_lossy())).expect("copies");
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("writes");
    }

    pub(crate) fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut c = Command::new(program);
        // Nothing of the environment may be needed.
        c.args(args).current_dir(self.dir.path()).env_clear();
        c
    }

    pub(crate) fn kurc(&self, args: &[&str]) -> Output {
        self.command(Path::new(env!("CARGO_BIN_EXE_kurc")), args).output().expect("kurc runs")
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Output {
        // A file that this process has just written can be busy while another test's child still holds it open
        // between fork and exec.
        for _ in 0..200 {
            match self.command(&self.path(program), args).output() {
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                o => return o.expect("the executable runs"),
            }
        }
        panic!("the executable stays busy")
    }

    /// Builds `m.bin`, which must succeed.
    pub(crate) fn build(&self, args: &[&str]) -> &Place {
        let mut all = vec!["build", "Kurfile.yml", "-o", "m.bin"];
        all.extend(args);
        succeed(&self.kurc(&all));
        self
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Names of all files.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut v: Vec<String> = fs::read_dir(self.dir.path())
            .expect("readable")
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        v.sort();
        v
    }
}

pub(crate) fn stderr(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

pub(crate) fn stdout(o: &Output) -> String {
    String::from_utf8_lossy(&o.stdout).into_owned()
}

#[track_caller]
pub(crate) fn succeed(o: &Output) {
    assert!(o.status.success(), "{:?}\n{}\n{}", o.status, stdout(o), stderr(o));
}

/// The exit status and a part of stderr.
#[track_caller]
pub(crate) fn fail(o: &Output, code: i32, parts: &[&str]) {
    let text = stderr(o);
    assert_eq!(o.status.code(), Some(code), "{text}");
    for p in parts {
        assert!(text.contains(p), "`{p}` is missing in:\n{text}");
    }
}

/// A number of the last JSON line with this event.
#[track_caller]
pub(crate) fn number(o: &Output, event: &str, key: &str) -> f64 {
    let text = stdout(o);
    text.lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
        .filter(|v| v["event"] == event)
        .filter_map(|v| v[key].as_f64())
        .next_back()
        .unwrap_or_else(|| panic!("no `{key}` of `{event}` in:\n{text}\n{}", stderr(o)))
}
