//! YAML and JSON: random bytes, damaged copies of the test inputs, and text from a grammar of YAML.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::harness::run;
use crate::property::{Files, holds};
use crate::support;
use crate::tape::Tape;

/// Pieces that mean something to YAML, to templates or to Kurfiles.
const PIECES: &[&str] = &[
    "\n",
    " ",
    "  ",
    "\t",
    "- ",
    ": ",
    ":",
    ",",
    "[",
    "]",
    "{",
    "}",
    "{{",
    "}}",
    "{{ ",
    " }}",
    "{%",
    "%}",
    "{#",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "<<: *a",
    "!!",
    "!!int ",
    "!!python/name:os ",
    "|\n",
    ">-\n",
    "? ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "\\",
    "\r\n",
    "\u{feff}",
    "\u{0}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "é",
    "\u{1F600}",
    "~",
    "null",
    "yes",
    "0o7",
    "0x_",
    "1_000",
    ".inf",
    "-.INF",
    ".nan",
    "190:20:30",
    "1e999",
    "99999999999999999999999999999999999999999",
    "-0",
    "model",
    "settings",
    "loss",
    "include",
    "templates",
    "train",
    "dense",
    "input",
    "name",
    "when",
    "for",
    "range",
    "iterate",
    "parallel",
    "apply",
    "reuse",
    "inputs",
    "sink",
    "null\n",
    "\n  - ",
    "\n    ",
    "\n- ",
];

/// The inputs of the tests and the Kurfiles of the fixtures.
fn corpus() -> &'static [String] {
    static CORPUS: OnceLock<Vec<String>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let mut all = Vec::new();
        for folder in ["frontend", "lower"] {
            all.extend(support::inputs(folder, &["yml"]).unwrap_or_default());
        }
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let mut folders: Vec<_> = fs::read_dir(fixtures).into_iter().flatten().flatten().map(|e| e.path()).collect();
        folders.sort();
        all.extend(folders.iter().filter_map(|f| fs::read_to_string(f.join("Kurfile.yml")).ok()));
        let mut all: Vec<String> = all.into_iter().map(|t| t.trim_start().to_owned()).collect();
        all.retain(|t| t.len() < 6_000);
        assert!(all.len() > 100, "the test inputs are gone");
        all
    })
}

fn name(tape: &mut Tape<'_>) -> &'static str {
    if tape.rarely(4) { "Kurfile.json" } else { "Kurfile.yml" }
}

/// Bytes of all values, or of the pieces.
fn bytes(tape: &mut Tape<'_>) -> Files {
    let name = name(tape);
    let mut out = Vec::new();
    while !tape.is_done() {
        if tape.rarely(3) {
            out.extend(tape.next().to_le_bytes());
        } else {
            out.extend(tape.word(PIECES).bytes());
        }
    }
    Files::one(name, out)
}

/// A place in a text that is not inside a character.
fn place(tape: &mut Tape<'_>, text: &str) -> usize {
    let mut at = (usize::from(tape.next()) << 3) % (text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Up to eight changes of a test input: something put in, taken out, moved, or taken from another input.
fn damaged(tape: &mut Tape<'_>) -> Files {
    let name = name(tape);
    let mut text = tape.pick(corpus()).clone();
    for _ in 0..=tape.below(8) {
        let at = place(tape, &text);
        match tape.below(6) {
            0 | 1 => text.insert_str(at, tape.word(PIECES)),
            2 => {
                let end = place(tape, &text);
                let (from, to) = (at.min(end), at.max(end));
                // Small cuts are the ones that leave something to read.
                let mut to = to.min(from + 12);
                while !text.is_char_boundary(to) {
                    to += 1;
                }
                text.replace_range(from..to, "");
            }
            3 => {
                let line = text[at..].lines().next().unwrap_or_default().to_owned();
                let to = place(tape, &text);
                text.insert_str(to, &format!("\n{line}\n"));
            }
            4 => {
                let other = tape.pick(corpus()).clone();
                let from = place(tape, &other);
                let lines: Vec<&str> = other[from..].lines().take(4).collect();
                text.insert_str(at, &lines.join("\n"));
            }
            _ => {
                let piece = (tape.word(PIECES)).repeat(1 + tape.below(40));
                text.insert_str(at, &piece);
            }
        }
        text.truncate({
            let mut end = text.len().min(20_000);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            end
        });
    }
    Files::one(name, text)
}

const SCALARS: &[&str] = &[
    "a",
    "x y",
    "10",
    "-3",
    "0x1F",
    "1.5",
    "1e3",
    "yes",
    "Off",
    "~",
    "null",
    "''",
    "\"a\\n\\u00e9\"",
    "'it''s'",
    "1:30",
    ".inf",
    "2001-12-14",
    "\"{{ a }}\"",
    "\"{{ settings.a }}\"",
    "'[1, 2]'",
    "\"(1,)\"",
    "relu",
    "*n",
    "&n 3",
    "!!str 3",
    "!!float 3",
    "!x y",
    "\"\\x41\\\n  b\"",
    "model",
    "settings",
    "dense",
    "input",
    "<<",
    "=",
    "_",
    "1_0",
    "0b11",
    "08",
    "é",
    "- x",
];

/// A node of YAML in the block or flow style.
fn node(tape: &mut Tape<'_>, depth: usize, indent: usize) -> String {
    let scalar = |tape: &mut Tape<'_>| tape.word(SCALARS).to_owned();
    if depth == 0 {
        return scalar(tape);
    }
    let pad = " ".repeat(indent);
    match tape.below(8) {
        0 | 1 => scalar(tape),
        2 => format!("[{}]", tape.join(4, ", ", |t| node(t, 0, 0))),
        3 => format!(
            "{{{}}}",
            tape.join(4, ", ", |t| format!("{}: {}", scalar(t), node(t, depth - 1, 0).replace('\n', " ")))
        ),
        4 => format!("|{}\n{pad}  {}\n", tape.word(&["", "-", "+", "2"]), tape.join(3, &format!("\n{pad}  "), scalar)),
        5 => {
            let anchor = if tape.rarely(3) { "&n" } else { "" };
            format!("{anchor}\n{}", tape.join(5, "\n", |t| format!("{pad}- {}", node(t, depth - 1, indent + 2))))
        }
        _ => {
            let anchor = if tape.rarely(3) { "&n" } else { "" };
            let pair = |t: &mut Tape<'_>| {
                let key = if t.rarely(6) { "<<".to_owned() } else { scalar(t) };
                format!("{pad}{key}: {}", node(t, depth - 1, indent + 2))
            };
            format!("{anchor}\n{}", tape.join(5, "\n", pair))
        }
    }
}

/// Sections of random nodes.
fn grammatical(tape: &mut Tape<'_>) -> Files {
    let sections = ["settings", "model", "train", "loss", "templates", "test", "evaluate", "x"];
    let mut text = String::new();
    for _ in 0..=tape.below(4) {
        let section = tape.word(&sections);
        text += &format!("{section}: {}\n", node(tape, 4, 2));
    }
    Files::one("Kurfile.yml", text)
}

#[test]
fn yaml_bytes() {
    run("yaml_bytes", 2_500, bytes, holds);
}

#[test]
fn yaml_damaged() {
    run("yaml_damaged", 1_500, damaged, holds);
}

#[test]
fn yaml_grammatical() {
    run("yaml_grammatical", 2_500, grammatical, holds);
}
