//! The pages of `kurc explain`: every id of the source has one, every page has an id, and the examples do what their
//! pages say. Examples run through the built `kurc`, in a folder of their own.
//!
//! `docs/explain/README.md` tells how a page is written and what the words after a fence mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kurc::diag::pages::{PAGES, Page, find};
use libtest_mimic::{Failed, Trial};

/// Ids that nobody ever reads.
const SILENT: &[(&str, &str)] =
    &[("closed-pipe", "the reader of our output went away, so there is nobody to tell anything")];

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let mut trials = vec![
        Trial::test("explain: every id has a page", every_id_has_a_page),
        Trial::test("explain: every page has an id", every_page_has_an_id),
        Trial::test("explain: the command", the_command),
        Trial::test("explain: diagnostics name their page", diagnostics_name_their_page),
    ];
    for page in PAGES {
        trials.push(Trial::test(format!("explain/{}: form", page.id), move || form(page)));
        trials.push(Trial::test(format!("explain/{}: examples", page.id), move || examples(page)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

// The ids of the source.

/// The source without comments and tests.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), "rs", &mut files);
    collect(&root.join("runtime/src"), "rs", &mut files);
    files.retain(|p| p.file_name().is_some_and(|n| n != "tests.rs"));
    let read = |p: PathBuf| {
        let text = fs::read_to_string(&p).expect("UTF-8");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines: Vec<&str> = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        (p.strip_prefix(root).map(Path::to_path_buf).unwrap_or(p), lines.join("\n"))
    };
    files.into_iter().map(read).collect()
}

fn collect(dir: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).expect("readable").flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

fn is_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether what stands before a text makes an error or warning of it.
fn makes_a_finding(before: &str) -> bool {
    let before = before.trim_end();
    let calls = ["error(", "warning(", "Error::data(", "Error::io("];
    if calls.iter().any(|c| before.ends_with(c)) || before.ends_with("exit,") {
        return true;
    }
    // `Error::new(Exit::Run, "id"`
    before.strip_suffix(',').is_some_and(|b| {
        b.trim_end_matches(|c: char| c.is_ascii_alphabetic()).ends_with("Exit::") && !b.ends_with("Exit::")
    })
}

/// Ids that the source gives to errors and warnings, with a file where each is found.
fn source_ids() -> BTreeMap<String, String> {
    let mut ids = BTreeMap::new();
    for (path, text) in sources() {
        for (at, _) in text.match_indices('"') {
            let rest = &text[at + 1..];
            let literal = rest.split('"').next().unwrap_or_default();
            if is_id(literal) && makes_a_finding(&text[..at]) {
                ids.insert(literal.to_owned(), path.display().to_string());
            }
        }
        ids.extend(shown_ids(&text).into_iter().map(|id| (id, path.display().to_string())));
    }
    ids.retain(|id, _| SILENT.iter().all(|(silent, _)| silent != id));
    ids
}

/// Ids in texts such as `error[shape-mismatch]: …`.
fn shown_ids(text: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for mark in ["error[", "warning["] {
        for (at, _) in text.match_indices(mark) {
            if let Some((id, _)) = text[at + mark.len()..].split_once(']')
                && is_id(id)
            {
                ids.insert(id.to_owned());
            }
        }
    }
    ids
}

fn every_id_has_a_page() -> Result<(), Failed> {
    let mut ids = source_ids();
    if ids.len() < 100 {
        return Err(format!("only {} ids were found: the search is broken", ids.len()).into());
    }
    // Ids that reach their diagnostic through a variable are seen in the golden tests.
    let mut goldens = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests");
    collect(&folder, "yml", &mut goldens);
    for path in goldens {
        let text = fs::read_to_string(&path)?;
        ids.extend(shown_ids(&text).into_iter().map(|id| (id, path.display().to_string())));
    }
    let missing: Vec<String> = ids
        .iter()
        .filter(|(id, _)| find(id).is_none())
        .map(|(id, file)| format!("docs/explain/{id}.md is missing ({file})"))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n").into()) }
}

fn every_page_has_an_id() -> Result<(), Failed> {
    let sources = sources();
    let ids = source_ids();
    let known = |id: &str| ids.contains_key(id) || sources.iter().any(|(_, t)| t.contains(&format!("\"{id}\"")));
    let orphans: Vec<&str> = PAGES.iter().map(|p| p.id).filter(|id| !known(id)).collect();
    if orphans.is_empty() { Ok(()) } else { Err(format!("pages of ids that do not exist: {orphans:?}").into()) }
}

// One page.

/// A fenced block and the words after its fence.
#[derive(Debug)]
struct Block {
    language: String,
    words: Vec<String>,
    text: String,
}

impl Block {
    fn is(&self, word: &str) -> bool {
        self.words.iter().any(|w| w == word)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    }

    /// The name of the file it stands for.
    fn file(&self) -> Option<&str> {
        self.value("file").or((self.language == "yaml").then_some("Kurfile.yml"))
    }

    fn bytes(&self) -> Vec<u8> {
        match self.value("encoding") {
            Some("latin1") => {
                self.text.chars().map(|c| u8::try_from(u32::from(c)).expect("a Latin-1 letter")).collect()
            }
            _ => self.text.clone().into_bytes(),
        }
    }
}

fn blocks(page: &Page) -> Result<Vec<Block>, Failed> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for line in page.text.lines() {
        if let Some(info) = line.strip_prefix("```") {
            open = !open;
            if open {
                let mut words = info.split_whitespace().map(str::to_owned);
                let language = words.next().unwrap_or_default();
                blocks.push(Block { language, words: words.collect(), text: String::new() });
            }
        } else if let (true, Some(block)) = (open, blocks.last_mut()) {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    if open { Err("a fence is not closed".into()) } else { Ok(blocks) }
}

/// The text after a word in a comment: `<!-- example: none: … -->`.
fn remark(page: &Page, word: &str) -> Option<&'static str> {
    page.text
        .lines()
        .find_map(|l| l.strip_prefix("<!--")?.trim().strip_prefix(word)?.strip_suffix("-->"))
        .map(str::trim)
}

fn form(page: &Page) -> Result<(), Failed> {
    let mut lines = page.text.lines();
    let mut wrong = Vec::new();
    if lines.next() != Some(&format!("# {}", page.id)) {
        wrong.push("its first line must be `# ` and the id".to_owned());
    }
    if lines.next() != Some("") {
        wrong.push("its second line must be empty".to_owned());
    }
    let summary = page.summary();
    if !summary.ends_with('.') || summary.chars().count() > 120 || lines.nth(1) != Some("") {
        wrong.push("its third line must be one sentence of at most 120 characters, alone".to_owned());
    }
    for (n, line) in page.text.lines().enumerate() {
        if line.chars().count() > 120 || line.trim_end() != line || line.contains('\t') && !page.id.starts_with("tab") {
            wrong.push(format!("line {} is too long, ends with a blank or has a tab", n + 1));
        }
        if line.starts_with("##") {
            wrong.push(format!("line {} is a heading: a page is short", n + 1));
        }
    }
    let count = page.text.lines().count();
    if !(5..=80).contains(&count) {
        wrong.push(format!("it has {count} lines"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn examples(page: &Page) -> Result<(), Failed> {
    let blocks = blocks(page)?;
    let has = |word: &str| blocks.iter().any(|b| b.is(word));
    match (remark(page, "example: none:"), has("wrong") || has("right")) {
        (Some(""), _) => return Err("`example: none:` needs a reason".into()),
        (Some(_), true) => return Err("it has examples and says it has none".into()),
        (Some(_), false) => return Ok(()),
        (None, _) => {}
    }
    if !has("wrong") || !has("right") {
        return Err("a page has a block marked `wrong` and one marked `right`".into());
    }
    let also: Vec<&str> = remark(page, "also:").unwrap_or_default().split_whitespace().collect();
    let (found, text) = run(&blocks, "wrong")?;
    let surprises: Vec<&String> =
        found.iter().filter(|id| *id != page.id && *id != LATER && !also.contains(&id.as_str())).collect();
    if !found.contains(page.id) {
        return Err(format!("the wrong example does not give `{}`:\n{text}", page.id).into());
    }
    if !surprises.is_empty() {
        return Err(format!("the wrong example gives {surprises:?} as well:\n{text}").into());
    }
    let (mut found, text) = run(&blocks, "right")?;
    found.retain(|id| id != LATER || page.id == LATER);
    if found.is_empty() { Ok(()) } else { Err(format!("the right example gives findings:\n{text}").into()) }
}

/// A construct that kurc cannot build yet may stand in any example: it is right as such.
const LATER: &str = "not-yet-supported";

/// Writes the files of an example and runs its commands; gives the ids of all findings, and what was printed.
fn run(blocks: &[Block], which: &str) -> Result<(BTreeSet<String>, String), Failed> {
    let dir = tempfile::tempdir()?;
    let mine: Vec<&Block> = blocks.iter().filter(|b| b.is(which) || b.is("both")).collect();
    for block in &mine {
        if let Some(file) = block.file() {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
            fs::write(path, block.bytes())?;
        }
    }
    let mut commands: Vec<String> = mine
        .iter()
        .filter(|b| b.language == "console")
        .flat_map(|b| b.text.lines().filter_map(|l| l.strip_prefix("$ ")))
        .map(str::to_owned)
        .collect();
    if commands.is_empty() {
        let kurfile = mine.iter().find(|b| matches!(b.language.as_str(), "yaml" | "json")).and_then(|b| b.file());
        commands.push(format!("kurc check {}", kurfile.ok_or("there is neither a Kurfile nor a command")?));
    }
    let (mut ids, mut text) = (BTreeSet::new(), String::new());
    for line in &commands {
        text.push_str(&format!("$ {line}\n"));
        let output = command(line, dir.path())?.output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        text.push_str(&errors);
        ids.extend(shown_ids(&errors));
        if !output.status.success() && shown_ids(&errors).is_empty() {
            return Err(format!("a command fails without an id:\n{text}").into());
        }
    }
    Ok((ids, text))
}

/// A line such as `KUR_CPU=avx2 kurc train Kurfile.yml --epochs 1`, without any other feature of a shell than quotes.
fn command(line: &str, dir: &Path) -> Result<Command, Failed> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').ok_or("a quote is not closed")?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word);
        rest = after.trim_start();
    }
    let mut words = words.into_iter();
    let mut c = Command::new(env!("CARGO_BIN_EXE_kurc"));
    c.current_dir(dir).env_remove("KUR_CPU").env_remove("KUR_SET").env("NO_COLOR", "1");
    for word in words.by_ref() {
        match word.split_once('=') {
            Some((name, value)) => _ = c.env(name, value),
            None if word == "kurc" => break,
            None => return Err(format!("`{line}` is no command of kurc").into()),
        }
    }
    c.args(words);
    Ok(c)
}

// The command line.

fn kurc(arguments: &[&str]) -> Result<(i32, String, String), Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_kurc")).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

fn the_command() -> Result<(), Failed> {
    let (code, list, _) = kurc(&["explain"])?;
    assert_eq!((code, list.lines().count()), (0, PAGES.len()));
    assert!(list.lines().any(|l| l.starts_with("shape-mismatch  ")), "{list}");

    let (code, page, _) = kurc(&["explain", "shape-mismatch"])?;
    assert_eq!(code, 0);
    assert!(page.starts_with("shape-mismatch\n\n") && page.contains("\n    model:\n"), "{page}");
    assert!(!page.contains("```") && !page.contains('\x1b'), "a page that is piped is plain text: {page}");
    assert_eq!(kurc(&["explain", "error[shape-mismatch]"])?.1, page);
    assert_eq!(kurc(&["explain", "Shape_Mismatch"])?.1, page);

    let (code, out, err) = kurc(&["explain", "shape-mismatsh"])?;
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("did you mean `shape-mismatch`?"), "{err}");
    let (code, _, err) = kurc(&["explain", "wombat"])?;
    assert!(code == 2 && err.contains("`kurc explain` lists all ids"), "{err}");

    let (_, object, _) = kurc(&["explain", "shape-mismatch", "--format", "json"])?;
    let object: serde_json::Value = serde_json::from_str(&object)?;
    assert_eq!(object["id"], "shape-mismatch");
    Ok(())
}

fn diagnostics_name_their_page() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("Kurfile.yml");
    fs::write(&path, "model:\n  - input: {shape: [4], nmae: x}\n  - desne: 3\n  - dense: ten\n  - dense: 0.5\n")?;
    let path = path.to_string_lossy().into_owned();
    let (_, _, full) = kurc(&["check", &path])?;
    let last = full.lines().last().unwrap_or_default();
    assert_eq!(last, "for more about it: kurc explain unknown-key (or unknown-layer, wrong-type)", "{full}");
    for format in ["short", "json"] {
        let (_, _, text) = kurc(&["check", &path, "--format", format])?;
        assert!(!text.contains("kurc explain"), "{text}");
    }
    Ok(())
}
