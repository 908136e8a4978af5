//! Holds what no compiler checks: which module may use which, that every file says what it is for, that pages name
//! paths that exist, and that nothing speaks of machines it was written on.

use std::fs;
use std::path::{Path, PathBuf};

/// Allowed `use crate::` edges of the compiler; every module may use `diag` and itself. Data moves one way.
const EDGES: &[(&str, &[&str])] = &[
    ("diag", &[]),
    ("frontend", &[]),
    ("model", &["frontend"]),
    ("shapes", &["frontend", "model"]),
    ("ir", &[]),
    ("lower", &["model", "shapes", "ir", "passes"]),
    ("passes", &["ir", "model"]),
    ("codegen", &["ir"]),
    ("link", &[]),
    ("driver", &["frontend", "model", "shapes", "ir", "lower", "passes", "codegen", "link"]),
    ("cli", &["driver", "diag", "link", "frontend", "ir", "passes", "model", "shapes", "codegen"]),
];

/// Of the runtime crate, the stages before `driver` may use plain data only.
/// `link` also shares the one way in which files are written.
const RUNTIME_DATA: &[&str] = &["abi", "dim", "plan", "spec", "payload", "atomic"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).expect("readable").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for p in entries {
        if p.is_dir() {
            rust_files(&p, out);
        } else if p.extension().is_some_and(|e| e == "rs") {
            out.push(p);
        }
    }
}

fn files(dirs: &[&str]) -> Vec<(PathBuf, String)> {
    let mut out = Vec::new();
    for d in dirs {
        rust_files(&root().join(d), &mut out);
    }
    out.into_iter().map(|p| (p.clone(), fs::read_to_string(&p).expect("UTF-8"))).collect()
}

/// Words that follow `prefix` in the code of a file, comments and doc comments left out.
fn mentions<'t>(text: &'t str, prefix: &str) -> Vec<&'t str> {
    text.lines()
        .map(|l| l.split("//").next().unwrap_or(""))
        .flat_map(|l| l.match_indices(prefix).map(|(i, _)| &l[i + prefix.len()..]).collect::<Vec<_>>())
        .map(|rest| &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())])
        .collect()
}

#[test]
fn modules_use_only_what_they_may() {
    let mut wrong = Vec::new();
    for (path, text) in files(&["src"]) {
        let inside = path.strip_prefix(root().join("src")).expect("below src");
        let module =
            inside.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let Some((_, allowed)) = EDGES.iter().find(|(m, _)| *m == module) else { continue };
        // A braced list would hide its edges from the search below.
        assert!(!text.contains("crate::{"), "{}: name modules one by one", inside.display());
        for used in mentions(&text, "crate::") {
            let known = EDGES.iter().any(|(m, _)| *m == used);
            if known && used != module && used != "diag" && !allowed.contains(&used) {
                wrong.push(format!("{}: `{module}` may not use `{used}`", inside.display()));
            }
        }
        if module != "driver" && module != "cli" && module != "codegen" {
            for used in mentions(&text, "kur_runtime::") {
                if !RUNTIME_DATA.contains(&used) {
                    wrong.push(format!("{}: `{module}` may not use `kur_runtime::{used}`", inside.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_runtime_knows_nothing_of_the_compiler() {
    for (path, text) in files(&["runtime/src"]) {
        let used = mentions(&text, "kurc::");
        assert!(used.is_empty(), "{} uses the compiler", path.display());
    }
    let manifest = fs::read_to_string(root().join("runtime/Cargo.toml")).expect("readable");
    assert!(!manifest.contains("cranelift"), "the runtime must not depend on the code generator");
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in files(&["src", "runtime/src", "tests", "runtime/tests"]) {
        assert!(text.starts_with("//!"), "{} has no `//!` heading", path.display());
    }
}

#[test]
fn every_dependency_has_its_reason() {
    for manifest in ["Cargo.toml", "runtime/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).expect("readable");
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line.contains("dependencies]");
                continue;
            }
            let inherited = line.contains("workspace = true");
            if inside && line.contains('=') && !inherited {
                assert!(line.contains(" # "), "{manifest}: `{line}` gives no reason");
            }
        }
    }
}

#[test]
fn pages_name_paths_that_exist() {
    for page in ["README.md", "ARCHITECTURE.md", "benches/README.md", "fixtures/README.md", "docs/explain/README.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        for word in text.split(['`', '(', ')', ' ', '\n', ',', '"']) {
            // Made by the benchmarks, not kept.
            if word.contains("benches/.venv") || word.contains("benches/results.json") {
                continue;
            }
            let top = ["src/", "runtime/", "grammar/", "tests/", "fixtures/", "benches/", "docs/"];
            if top.iter().any(|t| word.starts_with(t)) && !word.contains(['*', '{', '<', '$']) {
                let path = word.trim_end_matches(['.', ':', ';']);
                assert!(root().join(path).exists(), "{page} names `{path}`, which does not exist");
            }
        }
    }
}

#[test]
fn nothing_is_ignored_and_no_path_of_a_machine_is_named() {
    let forbidden =
        [concat!("#[", "ignore"), concat!("/wo", "rk/"), concat!("todo", "!("), concat!("unimple", "mented!(")];
    for (path, text) in files(&["src", "runtime/src", "tests", "runtime/tests"]) {
        for f in forbidden {
            assert!(!text.contains(f), "{} contains `{f}`", path.display());
        }
    }
}
