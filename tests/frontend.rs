//! Golden tests of the front end: `check` prints all diagnostics, `model` the typed Kurfile, `resolved` the evaluated
//! one, `merged` the one before evaluation, `explain` where the value of option `explain` comes from.
//!
//! Options of a case: `path` (the path that is loaded, `Kurfile.yml` by default), `file` (an empty file that exists),
//! `set` (an argument of `--set`), `env` (`NAME=VALUE`), `format` (`full`, `short` or `json`). A line `#=== PATH` starts
//! another file of the case; its lines count from 1.

mod support;

use kurc::diag::{Format, Reported, Severity, Sink, SourceMap, render};
use kurc::frontend::{MemoryWorld, print};
use kurc::model;
use kurc::model::types::Kurfile;
use libtest_mimic::{Failed, Trial};
use support::Case;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let commands: &[(&str, support::Run)] =
        &[("check", check), ("model", typed), ("resolved", resolved), ("merged", merged), ("explain", explained)];
    let mut trials = support::trials("frontend", &["yml"], commands);
    trials.push(Trial::test("frontend: damaged files never panic", survives_damage));
    libtest_mimic::run(&arguments, trials).exit();
}

fn world(case: &Case) -> MemoryWorld {
    let path = case.option("path").unwrap_or("Kurfile.yml");
    let mut parts = case.input.split("\n#=== ");
    let mut world = MemoryWorld::with_file(case.option("as").unwrap_or(path), parts.next().unwrap_or_default());
    for (name, text) in parts.filter_map(|p| p.split_once('\n')) {
        world.files.insert(name.trim().to_owned(), text.as_bytes().to_vec());
    }
    for file in case.all("file") {
        world.files.insert(file.to_owned(), Vec::new());
    }
    for (name, value) in case.all("env").filter_map(|e| e.split_once('=')) {
        world.env.insert(name.to_owned(), value.to_owned());
    }
    world
}

/// Runs a stage on a case: its result, and the findings as text.
fn run<T>(
    case: &Case,
    stage: impl FnOnce(&MemoryWorld, &str, &[String], &mut SourceMap, &mut Sink) -> Result<T, Reported>,
) -> (Option<T>, String) {
    let path = case.option("path").unwrap_or("Kurfile.yml");
    let set: Vec<String> = case.all("set").map(str::to_owned).collect();
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let result = stage(&world(case), path, &set, &mut sources, &mut sink);
    let format = match case.option("format") {
        Some("short") => Format::Short,
        Some("json") => Format::Json,
        _ => Format::Full { color: false },
    };
    let gap = if matches!(format, Format::Full { .. }) { "\n" } else { "" };
    let texts: Vec<String> = sink.sorted().iter().map(|d| render(d, &sources, format)).collect();
    assert_eq!(result.is_err(), sink.has_errors(), "an error is returned exactly when one is reported");
    (result.ok(), texts.join(gap))
}

fn load(case: &Case) -> (Option<Kurfile>, String) {
    run(case, |world, path, set, sources, sink| model::load(world, path, set, sources, sink))
}

fn merged(case: &Case) -> String {
    let (root, text) = run(case, |world, path, set, sources, sink| model::merged(world, path, set, sources, sink));
    root.map_or(String::new(), |(_, v)| print::yaml(&v)) + &text
}

fn explained(case: &Case) -> String {
    let key = case.option("explain").unwrap_or_default();
    let (found, text) =
        run(case, |world, path, set, sources, sink| model::explain(world, path, set, key, sources, sink));
    found.unwrap_or_default() + &text
}

/// As `kurc check` does: what is not built yet is a warning.
fn check(case: &Case) -> String {
    let (_, text) = run(case, |world, path, set, sources, sink| {
        let kurfile = model::load(world, path, set, sources, sink)?;
        kurfile.unbuilt.iter().for_each(|u| sink.push(u.finding(Severity::Warning)));
        Ok(())
    });
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
    // Loops are unrolled in the text, so their own automatic names are gone.
    let plain = |k: &Kurfile| {
        let mut k = k.clone();
        k.outputs.iter_mut().for_each(|o| o.aliases.retain(|a| !a.starts_with("..")));
        model::dump(&k)
    };
    assert_eq!(
        reread.as_ref().map(plain),
        Some(plain(&kurfile)),
        "does not read back to the same model:\n{}{findings}",
        kurfile.resolved
    );
    kurfile.resolved
}

/// Damaged files give findings, never a panic, and never hang: every input of the golden tests is cut, thinned and
/// spoiled at many places.
fn survives_damage() -> Result<(), Failed> {
    let mut inputs = support::inputs("frontend", &["yml"])?;
    inputs.retain(|i| i.len() < 4_000);
    for input in &inputs {
        let text = input.trim_start();
        let places: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
        // A step that is no divisor of usual line lengths meets all kinds of places.
        for &at in places.iter().step_by(7) {
            let next = at + text[at..].chars().next().map_or(0, char::len_utf8);
            let (before, after) = text.split_at(at);
            let rest = &text[next..];
            let damaged = [before.to_owned(), format!("{before}{rest}")];
            let spoiled =
                ["\t", "{", "]", "\"", ": ", "{{ ", "\u{1F600}", "&a *a", "- "].map(|s| format!("{before}{s}{after}"));
            for text in damaged.iter().chain(&spoiled) {
                for path in ["Kurfile.yml", "Kurfile.json"] {
                    let world = MemoryWorld::with_file(path, text);
                    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
                    let result = model::load(&world, path, &[], &mut sources, &mut sink);
                    if result.is_err() != sink.has_errors() {
                        return Err(format!("result and findings disagree for:\n{text}").into());
                    }
                    for d in sink.sorted() {
                        let _ = render(&d, &sources, Format::Full { color: false });
                    }
                }
            }
        }
    }
    Ok(())
}
