//! `--set KEY=VALUE`: changes to the value tree before anything is evaluated.
//!
//! Comes in: the arguments as given. Goes out: the tree with the values put in. The values' places are in a pseudo file
//! named `--set`, so that every later error about them points at the argument.

use pest::Parser;

use crate::diag::{Diagnostic, FileId, Reported, Sink, SourceMap, Span};
use crate::frontend::value::{Entry, Kind};
use crate::frontend::{Value, yaml};

use super::report::values::found;
use super::sections::SECTIONS;

mod grammar {
    /// The generated parser.
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/set_path.pest"]
    pub(super) struct SetPath;
}
use grammar::{Rule, SetPath};

/// Parsed overrides, in the order given; a later one sees what an earlier one did.
#[derive(Debug, Default)]
pub struct Overrides {
    list: Vec<Override>,
}

#[derive(Debug)]
struct Override {
    path: Vec<Segment>,
    value: Value,
}

#[derive(Debug)]
struct Segment {
    text: String,
    index: Option<usize>,
    span: Span,
}

impl Overrides {
    /// Parses the arguments of `--set`.
    ///
    /// # Errors
    /// `bad-override`, and those of YAML for the value.
    pub fn parse(arguments: &[String], sources: &mut SourceMap, sink: &mut Sink) -> Result<Overrides, Reported> {
        let all: Vec<_> = arguments
            .iter()
            .map(|text| {
                let file = sources.add("--set", text.as_str());
                one(text, file, sink)
            })
            .collect();
        Ok(Overrides { list: all.into_iter().collect::<Result<_, _>>()? })
    }

    /// Puts the values into the tree.
    ///
    /// # Errors
    /// `bad-override` when a step of a path leads nowhere.
    pub fn apply(self, root: &mut Value, sink: &mut Sink) -> Result<(), Reported> {
        let mut state = Ok(());
        for o in self.list {
            if let Err(d) = put(root, &o.path, o.value) {
                state = Err(sink.fail(*d));
            }
        }
        state
    }
}

fn one(text: &str, file: FileId, sink: &mut Sink) -> Result<Override, Reported> {
    let Some(assignment) = SetPath::parse(Rule::assignment, text).ok().and_then(|mut p| p.next()) else {
        return Err(sink.fail(bad_syntax(text, file)));
    };
    let mut path = Vec::new();
    let mut value = None;
    for part in assignment.into_inner() {
        match part.as_rule() {
            Rule::path => {
                for segment in part.into_inner() {
                    let at = segment.as_span();
                    let span = Span::new(file, at.start(), at.end());
                    let inner = segment.into_inner().next();
                    let plain = inner.as_ref().map_or("", |p| p.as_str()).to_owned();
                    let (text, index) = match inner.as_ref().map(|p| p.as_rule()) {
                        Some(Rule::index) => (plain.clone(), plain.parse().ok()),
                        Some(Rule::quoted) => (plain.trim_matches('"').to_owned(), None),
                        _ => (plain, None),
                    };
                    path.push(Segment { text, index, span });
                }
            }
            Rule::value => {
                // Blanks in place of the path keep every offset right.
                let padded = " ".repeat(part.as_span().start()) + part.as_str();
                value = Some(yaml::read(&padded, file, sink)?);
            }
            _ => {}
        }
    }
    let value = value.unwrap_or_else(|| Value::new(Kind::Null, Span::new(file, text.len(), text.len())));
    Ok(Override { path, value })
}

fn bad_syntax(text: &str, file: FileId) -> Diagnostic {
    Diagnostic::error("bad-override", "`--set` takes KEY=VALUE")
        .at(Span::new(file, 0, text.len()), if text.contains('=') { "no valid KEY" } else { "no `=`" })
        .help("for example `--set train.epochs=3` or `--set model.1.dense=20`")
}

/// Follows the path and replaces or adds the value.
fn put(root: &mut Value, path: &[Segment], value: Value) -> Result<(), Box<Diagnostic>> {
    let mut at = root;
    for (depth, segment) in path.iter().enumerate() {
        // A file without a section, or `train:` with nothing below, gets a mapping.
        if at.is_null() {
            at.kind = Kind::Map(Vec::new());
        }
        let here = found(at);
        at = match (&mut at.kind, segment.index) {
            (Kind::List(items), Some(i)) => {
                let len = items.len();
                items.get_mut(i).ok_or_else(|| Box::new(no_item(segment, len)))?
            }
            (Kind::List(items), None) => return Err(Box::new(not_an_index(segment, items.len()))),
            (Kind::Map(map), _) => {
                let name = if depth == 0 { spelling(map, &segment.text) } else { segment.text.clone() };
                let i = match map.iter().position(|e| e.key.written.as_deref() == Some(&name)) {
                    Some(i) => i,
                    None => {
                        let null = Value::new(Kind::Null, segment.span);
                        map.push(Entry { key: Value::text(&name, segment.span), value: null });
                        map.len() - 1
                    }
                };
                &mut map[i].value
            }
            _ => return Err(Box::new(not_a_collection(segment, &here))),
        };
    }
    *at = value;
    Ok(())
}

/// A section is found under the spelling that the file uses.
fn spelling(map: &[Entry], name: &str) -> String {
    let has = |n: &str| map.iter().any(|e| e.key.as_str() == Some(n));
    let pair = SECTIONS.iter().find_map(|(c, a)| a.filter(|a| *c == name || *a == name).map(|a| (*c, a)));
    match pair {
        Some((c, a)) if !has(name) => [c, a].into_iter().find(|n| has(n)).unwrap_or(name).to_owned(),
        _ => name.to_owned(),
    }
}

fn no_item(segment: &Segment, len: usize) -> Diagnostic {
    let d = Diagnostic::error("bad-override", format!("the list has no item {}", segment.text))
        .at(segment.span, "no such item");
    match len {
        0 => d.note("the list is empty"),
        n => d.note(format!("its items are 0 to {}", n - 1)),
    }
}

fn not_an_index(segment: &Segment, len: usize) -> Diagnostic {
    Diagnostic::error("bad-override", format!("`{}` is asked of a list", segment.text))
        .at(segment.span, "expected a position")
        .help(format!("give the position of one of its {len} items, counted from 0"))
}

fn not_a_collection(segment: &Segment, here: &str) -> Diagnostic {
    Diagnostic::error("bad-override", format!("`{}` leads into {here}, which has no keys", segment.text))
        .at(segment.span, "cannot go further")
        .help("end the path one step earlier")
}
