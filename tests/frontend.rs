//! Golden tests of the front end: `check` prints all diagnostics, `model` the typed Kurfile.
//!
//! Options of a case: `path` (the path that is loaded, `Kurfile.yml` by default), `file` (an empty file that exists),
//! `set` (an argument of `--set`), `env` (`NAME=VALUE`), `format` (`full`, `short` or `json`).

mod support;

use kurc::diag::{Format, Sink, SourceMap, render};
use kurc::frontend::MemoryWorld;
use kurc::model;
use kurc::model::types::Kurfile;
use support::Case;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = support::trials("frontend", &["yml"], &[("check", check), ("model", typed), ("resolved", resolved)]);
    libtest_mimic::run(&arguments, trials).exit();
}

fn load(case: &Case) -> (Option<Kurfile>, String) {
    let path = case.option("path").unwrap_or("Kurfile.yml");
    let mut world = MemoryWorld::with_file(case.option("as").unwrap_or(path), &case.input);
    for file in case.all("file") {
        world.files.insert(file.to_owned(), Vec::new());
    }
    for (name, value) in case.all("env").filter_map(|e| e.split_once('=')) {
        world.env.insert(name.to_owned(), value.to_owned());
    }
    let set: Vec<String> = case.all("set").map(str::to_owned).collect();
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let kurfile = model::load(&world, path, &set, &mut sources, &mut sink);
    let format = match case.option("format") {
        Some("short") => Format::Short,
        Some("json") => Format::Json,
        _ => Format::Full { color: false },
    };
    let gap = if matches!(format, Format::Full { .. }) { "\n" } else { "" };
    let texts: Vec<String> = sink.sorted().iter().map(|d| render(d, &sources, format)).collect();
    assert_eq!(kurfile.is_err(), sink.has_errors(), "an error is returned exactly when one is reported");
    (kurfile.ok(), texts.join(gap))
}

fn check(case: &Case) -> String {
    let (_, text) = load(case);
    if text.is_empty() { "no findings\n".to_owned() } else { text }
}

fn typed(case: &Case) -> String {
    let (kurfile, text) = load(case);
    kurfile.map_or(String::new(), |k| model::dump(&k)) + &text
}

/// The resolved Kurfile, which must give the same model when it is read back.
fn resolved(case: &Case) -> String {
    let (kurfile, text) = load(case);
    let Some(kurfile) = kurfile else { return text };
    let again = case.with_input(&kurfile.resolved);
    let (reread, findings) = load(&again);
    let same = reread.as_ref().map(model::dump) == Some(model::dump(&kurfile));
    let verdict = if same { String::new() } else { format!("does not read back to the same model:\n{findings}") };
    kurfile.resolved + &verdict
}
