//! `--set KEY=VALUE` and the variable `KUR_SET`: changes to the value tree before anything is evaluated.
//!
//! Comes in: the arguments as given. Goes out: the tree with the values put in; what they replace stays known as hidden.
//! The values' places are in a pseudo file named `--set` or `KUR_SET`, so that every later error about them points at
//! the argument. `KUR_SET` holds assignments separated by `;` or line ends and is applied first, so `--set` wins. A `;`
//! inside quotes or brackets belongs to the value: `KUR_SET='train.epochs=3;settings.sizes=[1, 2]'`.

use pest::Parser;
use pest::iterators::Pair;

use crate::diag::{Diagnostic, FileId, Reported, Sink, SourceMap, Span};
use crate::frontend::value::{Entry, Kind};
use crate::frontend::{Value, print, yaml};

use super::report::values::found;
use super::sections::SECTIONS;

mod grammar {
    /// The generated parser.
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/set_path.pest"]
    pub(super) struct SetPath;
}
use grammar::{Rule, SetPath};

/// The variable of the environment with overrides.
pub(crate) const VARIABLE: &str = "KUR_SET";

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

/// One step of a path.
#[derive(Debug)]
pub(super) struct Segment {
    /// The key, without quotes.
    pub(super) text: String,
    /// The position in a list that it may be.
    pub(super) index: Option<usize>,
    /// Its place.
    pub(super) span: Span,
}

impl Overrides {
    /// Parses the value of `KUR_SET`, if there is one, and the arguments of `--set`.
    ///
    /// # Errors
    /// `bad-override`, and those of YAML for the value.
    pub fn parse(
        variable: Option<&str>,
        arguments: &[String],
        sources: &mut SourceMap,
        sink: &mut Sink,
    ) -> Result<Overrides, Reported> {
        let inherited = assignments(variable.unwrap_or_default()).into_iter().map(|text| (VARIABLE, text));
        let given = arguments.iter().map(|text| ("--set", text.as_str()));
        let all: Vec<_> = inherited
            .chain(given)
            .map(|(name, text)| {
                let file = sources.add(name, text);
                one(name, text, file, sink)
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

/// Splits at `;` and line ends that are not inside quotes or brackets. Quotes count where a value can start.
fn assignments(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    let mut quote: Option<char> = None;
    let mut before = '=';
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q && !(q == '"' && before == '\\') => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') if "=[{,: .".contains(before) => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ';' | '\n') if depth == 0 => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
        before = c;
    }
    out.push(&text[start..]);
    out.into_iter().map(str::trim).filter(|t| !t.is_empty()).collect()
}

/// Parses a path such as `train.provider.batch_size` or `model.2.dense`.
pub(super) fn parse_path(text: &str, file: FileId, sink: &mut Sink) -> Result<Vec<Segment>, Reported> {
    let parsed = SetPath::parse(Rule::key_path, text).ok().and_then(|mut p| p.next());
    match parsed.and_then(|p| p.into_inner().next()) {
        Some(path) => Ok(segments(path, file)),
        None => {
            let d = Diagnostic::error("unknown-path", "this is no path into a Kurfile");
            let d = d.at(Span::new(file, 0, text.len()), "not a path");
            Err(sink.fail(d.help("for example `train.provider.batch_size` or `model.2.dense`")))
        }
    }
}

fn segments(path: Pair<'_, Rule>, file: FileId) -> Vec<Segment> {
    let one = |segment: Pair<'_, Rule>| {
        let at = segment.as_span();
        let inner = segment.into_inner().next();
        let plain = inner.as_ref().map_or("", |p| p.as_str()).to_owned();
        let (text, index) = match inner.as_ref().map(Pair::as_rule) {
            Some(Rule::index) => (plain.clone(), plain.parse().ok()),
            Some(Rule::quoted) => (plain.trim_matches('"').to_owned(), None),
            _ => {
                // Blanks around a key are no part of it.
                let key = plain.trim().to_owned();
                let index = key.parse().ok().filter(|_| key.bytes().all(|b| b.is_ascii_digit()));
                (key, index)
            }
        };
        let blanks = plain_blanks(at.as_str());
        let span = Span::new(file, at.start() + blanks.0, at.end() - blanks.1);
        Segment { text, index, span }
    };
    path.into_inner().map(one).collect()
}

/// Bytes of white space at both ends of a text that has more than that.
fn plain_blanks(text: &str) -> (usize, usize) {
    if text.trim().is_empty() {
        return (0, 0);
    }
    (text.len() - text.trim_start().len(), text.len() - text.trim_end().len())
}

fn one(name: &str, text: &str, file: FileId, sink: &mut Sink) -> Result<Override, Reported> {
    let Some(assignment) = SetPath::parse(Rule::assignment, text).ok().and_then(|mut p| p.next()) else {
        return Err(sink.fail(bad_syntax(name, text, file)));
    };
    let mut path = Vec::new();
    let mut value = None;
    for part in assignment.into_inner() {
        match part.as_rule() {
            Rule::path => path = segments(part, file),
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

fn bad_syntax(name: &str, text: &str, file: FileId) -> Diagnostic {
    let takes = if name == VARIABLE { "takes KEY=VALUE pairs, separated by `;`" } else { "takes KEY=VALUE" };
    Diagnostic::error("bad-override", format!("`{name}` {takes}"))
        .at(Span::new(file, 0, text.len()), if text.contains('=') { "no valid KEY" } else { "no `=`" })
        .help(match name {
            VARIABLE => "for example `KUR_SET='train.epochs=3;model.1.dense=20'`",
            _ => "for example `--set train.epochs=3` or `--set model.1.dense=20`",
        })
}

/// Follows the path and replaces or adds the value.
fn put(root: &mut Value, path: &[Segment], value: Value) -> Result<(), Box<Diagnostic>> {
    let mut at = root;
    // Whether nothing stood at the end of the path.
    let mut fresh = false;
    for (depth, segment) in path.iter().enumerate() {
        // A file without a section, or `train:` with nothing below, gets a mapping.
        if at.is_null() {
            at.kind = Kind::Map(Vec::new());
        }
        let here = found(at);
        let text = at.as_str().map(str::to_owned);
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
                        if let Some((list, position)) = subscript(map, &name) {
                            return Err(Box::new(written_in_brackets(segment, list, position)));
                        }
                        fresh = depth + 1 == path.len();
                        let null = Value::new(Kind::Null, segment.span);
                        map.push(Entry { key: Value::text(&name, segment.span), value: null });
                        map.len() - 1
                    }
                };
                &mut map[i].value
            }
            _ => {
                let d = not_a_collection(segment, &here);
                return Err(Box::new(match whole(path, depth, text.as_deref(), &value) {
                    Some(set) => d.help(format!("set all of it: `--set '{set}'`")),
                    None => d.help("end the path one step earlier"),
                }));
            }
        };
    }
    let old = std::mem::replace(at, value);
    if !fresh {
        *at = at.clone().hiding(old);
    }
    Ok(())
}

/// A section is found under the spelling that the file uses.
pub(super) fn spelling(map: &[Entry], name: &str) -> String {
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
        1 => d.note("its only item is 0"),
        n => d.note(format!("its items are 0 to {}", n - 1)),
    }
}

fn not_an_index(segment: &Segment, len: usize) -> Diagnostic {
    Diagnostic::error("bad-override", format!("`{}` is asked of a list", segment.text))
        .at(segment.span, "expected a position")
        .help(match len {
            1 => "give the position of its only item, 0".to_owned(),
            _ => format!("give the position of one of its {len} items, counted from 0"),
        })
}

fn not_a_collection(segment: &Segment, here: &str) -> Diagnostic {
    Diagnostic::error("bad-override", format!("`{}` leads into {here}, which has no keys", segment.text))
        .at(segment.span, "cannot go further")
}

/// The assignment of a mapping where the name alone stands: `optimizer: adam` is short for `optimizer: {name: adam}`.
fn whole(path: &[Segment], depth: usize, text: Option<&str>, value: &Value) -> Option<String> {
    let short = path.get(depth.checked_sub(1)?)?;
    let name = text.filter(|_| short.text == "optimizer" && depth + 1 == path.len())?;
    let before: Vec<&str> = path[..depth].iter().map(|s| s.text.as_str()).collect();
    let value = value.written.as_deref().map_or_else(|| print::json_line(value), str::to_owned);
    Some(format!("{}={{name: {name}, {}: {value}}}", before.join("."), path[depth].text))
}

/// `sizes[0]` as the key of a list that stands in a mapping, and the position.
fn subscript<'t>(map: &[Entry], name: &'t str) -> Option<(&'t str, &'t str)> {
    let (key, rest) = name.split_once('[')?;
    let position = rest.strip_suffix(']').filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))?;
    map.iter().any(|e| e.key.as_str() == Some(key)).then_some((key, position))
}

fn written_in_brackets(segment: &Segment, list: &str, position: &str) -> Diagnostic {
    Diagnostic::error("bad-override", format!("there is no key `{}`", segment.text))
        .at(segment.span, "brackets are a part of the key here")
        .help(format!("write the position behind a dot: `{list}.{position}`"))
}
