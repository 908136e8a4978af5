//! Filetests: input and expected output in one file, one dialect for every stage.
//!
//! ```text
//! #! test check          header: the command, then options as further `#! key=value` lines
//! #! set=train.epochs=3
//! model: …               input
//! #~ expected output     rewritten on bless, nothing else is
//! #---- name             starts another case; names are unique in the tree
//! ```
//!
//! A header above the first `#----` line holds for all cases of the file; a case with a header of its own replaces it.
//! Line numbers in expectations count from the top of the file: a case's input is preceded by empty lines.
//! `KURC_BLESS=1` rewrites the `#~` lines. A case without expected lines fails.

#![allow(dead_code, reason = "each test target uses a part of this module")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};
use similar::TextDiff;

/// One case of a file.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its name; empty for the part above the first `#----` line.
    pub(crate) name: String,
    /// The word after `test`.
    pub(crate) command: String,
    /// The `#! key=value` lines.
    pub(crate) options: Vec<(String, String)>,
    /// The input, at its line in the file.
    pub(crate) input: String,
    /// The expected output; `None` when there are no `#~` lines.
    pub(crate) expected: Option<String>,
    /// Lines of the file, from and to (exclusive).
    lines: (usize, usize),
}

impl Case {
    /// The same case with another input and no options.
    pub(crate) fn with_input(&self, input: &str) -> Case {
        Case { input: input.to_owned(), options: Vec::new(), ..self.clone() }
    }

    /// The values of an option, in order.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The last value of an option.
    pub(crate) fn option<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.all(key).last()
    }
}

/// A command: the output for a case.
pub(crate) type Run = fn(&Case) -> String;

/// One test for each file below `tests/filetests/<folder>` with one of the extensions.
pub(crate) fn trials(folder: &str, extensions: &[&str], commands: &'static [(&'static str, Run)]) -> Vec<Trial> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests").join(folder);
    let mut files = Vec::new();
    collect(&root, extensions, &mut files);
    let mut trials: Vec<Trial> = files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            let path = path.clone();
            Trial::test(format!("{folder}/{name}"), move || run_file(&path, commands))
        })
        .collect();
    trials.push(Trial::test(format!("{folder}: case names are unique"), move || unique_names(&files)));
    trials
}

/// The inputs of all cases of a folder.
pub(crate) fn inputs(folder: &str, extensions: &[&str]) -> Result<Vec<String>, Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests").join(folder);
    let mut files = Vec::new();
    collect(&root, extensions, &mut files);
    let mut inputs = Vec::new();
    for path in &files {
        inputs.extend(parse(&fs::read_to_string(path)?)?.into_iter().map(|c| c.input));
    }
    Ok(inputs)
}

fn collect(dir: &Path, extensions: &[&str], files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, extensions, files);
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e)) {
            files.push(path);
        }
    }
}

fn unique_names(files: &[PathBuf]) -> Result<(), Failed> {
    let mut seen: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for path in files {
        for case in parse(&fs::read_to_string(path)?)? {
            if !case.name.is_empty()
                && let Some(other) = seen.insert(case.name.clone(), path)
            {
                return Err(
                    format!("case `{}` is both in {} and {}", case.name, other.display(), path.display()).into()
                );
            }
        }
    }
    Ok(())
}

fn run_file(path: &Path, commands: &[(&str, Run)]) -> Result<(), Failed> {
    let text = fs::read_to_string(path)?;
    if std::env::var_os("KURC_BLESS").is_some_and(|v| v == "1") {
        let blessed = bless(&text, commands)?;
        if blessed != text {
            fs::write(path, blessed)?;
        }
        return Ok(());
    }
    let mut failures = String::new();
    for case in parse(&text)? {
        let actual = output(&case, commands)?;
        let Some(expected) = &case.expected else {
            failures += &format!("case `{}` has no expected output; it is:\n{actual}\n", case.name);
            continue;
        };
        if *expected != actual {
            let diff = TextDiff::from_lines(expected.as_str(), actual.as_str());
            let diff = diff.unified_diff().context_radius(3).header("expected", "actual").to_string();
            failures += &format!("case `{}` at line {}:\n{diff}\n", case.name, case.lines.0 + 1);
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("{}\n{failures}if this is right, run `KURC_BLESS=1 cargo test --release`", path.display()).into())
}

fn output(case: &Case, commands: &[(&str, Run)]) -> Result<String, Failed> {
    let Some((_, run)) = commands.iter().find(|(name, _)| *name == case.command) else {
        return Err(format!("case `{}`: unknown command `{}`", case.name, case.command).into());
    };
    // Blanks at line ends would be invisible in the expectation and are easily lost by editors.
    let lines: Vec<String> = run(case).lines().map(|l| l.trim_end().to_owned()).collect();
    Ok(lines.join("\n").trim_end().to_owned() + "\n")
}

/// Splits a file into cases.
fn parse(text: &str) -> Result<Vec<Case>, Failed> {
    let lines: Vec<&str> = text.lines().collect();
    let mut starts = vec![0];
    starts.extend(lines.iter().enumerate().filter(|(_, l)| l.starts_with("#---- ")).map(|(i, _)| i));
    let mut cases = Vec::new();
    let mut default: Option<(String, Vec<(String, String)>)> = None;
    for (n, &start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(lines.len());
        let part = &lines[start..end];
        let name = part.first().and_then(|l| l.strip_prefix("#---- ")).unwrap_or_default().trim().to_owned();
        let header: Vec<&str> = part.iter().filter_map(|l| l.strip_prefix("#! ")).collect();
        let mut command = None;
        let mut options = Vec::new();
        for line in header {
            match line.strip_prefix("test ") {
                Some(word) => command = Some(word.trim().to_owned()),
                None => match line.split_once('=') {
                    Some((k, v)) => options.push((k.to_owned(), v.to_owned())),
                    None => return Err(format!("bad header line `#! {line}`").into()),
                },
            }
        }
        let special = |l: &str| ["#! ", "#~", "#---- "].iter().any(|p| l.starts_with(p));
        let body: Vec<&str> = part.iter().map(|l| if special(l) { "" } else { l }).collect();
        let has_input = body.iter().any(|l| !l.trim().is_empty() && !l.starts_with("# "));
        if n == 0 && starts.len() > 1 && !has_input {
            default = command.map(|c| (c, options));
            continue;
        }
        let command = match (command, &default) {
            (Some(c), _) => c,
            (None, Some((c, more))) => {
                options.splice(0..0, more.iter().cloned());
                c.clone()
            }
            (None, None) => return Err(format!("case `{name}` has no `#! test` line").into()),
        };
        let expected: Vec<&str> = part.iter().filter_map(|l| l.strip_prefix("#~")).collect();
        let expected = (!expected.is_empty())
            .then(|| expected.iter().map(|l| l.strip_prefix(' ').unwrap_or(l)).collect::<Vec<_>>().join("\n") + "\n");
        let input = "\n".repeat(start) + body.join("\n").trim_end() + "\n";
        cases.push(Case { name, command, options, input, expected, lines: (start, end) });
    }
    Ok(cases)
}

/// Rewrites the expected lines. Their number moves the lines of later cases, so this goes on until nothing changes.
fn bless(text: &str, commands: &[(&str, Run)]) -> Result<String, Failed> {
    let mut text = text.to_owned();
    for _ in 0..10 {
        let mut out = Vec::new();
        let lines: Vec<&str> = text.lines().collect();
        let mut next = 0;
        for case in parse(&text)? {
            out.extend(lines[next..case.lines.0].iter().map(|l| (*l).to_owned()));
            next = case.lines.1;
            let part = &lines[case.lines.0..case.lines.1];
            let first = part.iter().position(|l| l.starts_with("#~"));
            let used = part.iter().rposition(|l| !l.trim().is_empty()).map_or(0, |n| n + 1);
            let place = first.unwrap_or(used);
            let rest = part.iter().enumerate();
            let kept = |from: usize, to: usize| {
                rest.clone()
                    .filter(move |(i, l)| (from..to).contains(i) && !l.starts_with("#~"))
                    .map(|(_, l)| (*l).to_owned())
            };
            out.extend(kept(0, place));
            out.extend(
                output(&case, commands)?
                    .lines()
                    .map(|l| if l.is_empty() { "#~".to_owned() } else { format!("#~ {l}") }),
            );
            out.extend(kept(place, part.len()));
        }
        out.extend(lines[next..].iter().map(|l| (*l).to_owned()));
        let new = out.join("\n") + "\n";
        if new == text {
            return Ok(text);
        }
        text = new;
    }
    Err("the expected lines do not settle".into())
}
