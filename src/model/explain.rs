//! Where a value of a Kurfile comes from: `kurc dump --explain KEY`.
//!
//! Comes in: a path as `--set` takes it. Goes out: text that names the value, the place it is written at, the includes,
//! aliases and merge keys on its way, the template it was computed from, and the values that it replaced. It works for
//! Kurfiles with mistakes too, as long as the files can be read.

use std::fmt::Write as _;

use crate::diag::{Diagnostic, Reported, Sink, SourceMap, Span, count, did_you_mean};
use crate::frontend::value::{Kind, Via};
use crate::frontend::{Value, World, print, python};

use super::blame;
use super::containers::Node;
use super::cx::Cx;
use super::data::merged;
use super::overrides::{Segment, VARIABLE, parse_path, spelling};
use super::{Loader, engine};

/// Explains the value at a path.
///
/// # Errors
/// `unknown-path`, and those of reading the files.
pub fn explain(
    world: &dyn World,
    path: &str,
    overrides: &[String],
    key: &str,
    sources: &mut SourceMap,
    sink: &mut Sink,
) -> Result<String, Reported> {
    let (file, raw) = merged(world, path, overrides, sources, sink)?;
    let argument = sources.add("--explain", key);
    let segments = parse_path(key, argument, sink)?;
    // Mistakes elsewhere are no reason to say nothing; `kurc check` tells of them.
    let mut elsewhere = Sink::default();
    let engine = engine(world, path, &raw);
    let cx = Cx::new(world, sources, &mut elsewhere, &engine);
    let mut loader = Loader::new(cx, raw.clone(), file, path);
    let _ = loader.run();
    match walk(&mut loader, raw, &segments) {
        Ok(found) => Ok(found.text(sources)),
        Err(d) => Err(sink.fail(*d)),
    }
}

/// What is at the end of a path.
struct Found {
    path: String,
    /// As written, or the innermost written value that it is a part of.
    raw: Value,
    /// Whether it is only a part of what was computed from `raw`.
    part: bool,
    /// Evaluated; none when that failed or depends on where it is used.
    value: Option<Value>,
    /// Whether it is evaluated only where it is used.
    lazy: bool,
    /// What its template uses: paths, values, places.
    uses: Vec<(String, Value, Span)>,
    /// The items of the expanded model that it stands for, when it is an entry of `model` and they are others.
    expanded: Option<Vec<usize>>,
    /// What it replaces, with the path that was replaced as a whole when that was a collection around it.
    replaced: Vec<(Value, Option<String>)>,
}

/// Follows a path through the written tree and the evaluated one.
fn walk(loader: &mut Loader<'_>, root: Value, segments: &[Segment]) -> Result<Found, Box<Diagnostic>> {
    let tree = root.clone();
    let first = segments.first().map(|s| s.text.as_str()).unwrap_or_default();
    let lazy = !matches!(first, "settings" | "loss") && !super::sections::is_data_section(first);
    let parsed = loader.root.clone();
    let mut at = Found {
        path: String::new(),
        value: if lazy { None } else { Some(parsed) },
        raw: root,
        part: false,
        lazy,
        uses: Vec::new(),
        expanded: None,
        replaced: Vec::new(),
    };
    for (depth, segment) in segments.iter().enumerate() {
        let step = at.step(loader, segment);
        if first == "model" && depth == 1 {
            step.map_err(|d| Box::new(told_apart(*d, loader, &tree, segment)))?;
            at.expanded = segment.index.and_then(|i| expansion(loader, &tree, i));
        } else {
            step?;
        }
    }
    if at.lazy && at.value.is_none() {
        at.value = loader.cx.deep(&at.raw).ok();
    }
    let uses = if at.raw.as_str().is_some() { blame::used(loader.cx.engine, &tree, &at.raw) } else { Vec::new() };
    for (path, written) in uses {
        let value = path.split('.').try_fold(&loader.root, |v, key| v.get(key)).unwrap_or(written);
        at.uses.push((path, value.clone(), written.span));
    }
    Ok(at)
}

impl Found {
    fn step(&mut self, loader: &mut Loader<'_>, segment: &Segment) -> Result<(), Box<Diagnostic>> {
        let top = self.path.is_empty();
        let inner = if self.part { None } else { child(&self.raw, segment, top) };
        if inner.is_none() && self.lazy && self.value.is_none() {
            // A template in the model may give a mapping or a list.
            self.value = loader.cx.deep(&self.raw).ok();
        }
        let value = self.value.as_ref().and_then(|v| child(v, segment, top));
        if inner.is_none() && value.is_none() {
            let known = if self.part { self.value.as_ref() } else { Some(&self.raw) };
            return Err(Box::new(unknown(segment, known, &self.path)));
        }
        let around = std::mem::take(&mut self.replaced);
        self.replaced = inner.iter().flat_map(|v| v.hidden()).map(|v| (v.clone(), None)).collect();
        for (lost, whole) in around {
            if let Some(v) = child(&lost, segment, top) {
                self.replaced.push((v, Some(whole.unwrap_or_else(|| self.path.clone()))));
            }
        }
        self.path = if top { segment.text.clone() } else { format!("{}.{}", self.path, segment.text) };
        match inner {
            Some(raw) => self.raw = raw,
            None => self.part = true,
        }
        self.value = value;
        Ok(())
    }

    fn text(&self, sources: &SourceMap) -> String {
        let mut out = String::new();
        let shown = self.value.as_ref().unwrap_or(&self.raw);
        match &shown.kind {
            Kind::Map(m) if !m.is_empty() => line(&mut out, 0, &format!("{} has {}", self.path, count(m.len(), "key"))),
            Kind::List(v) | Kind::Tuple(v) if !v.is_empty() => {
                line(&mut out, 0, &format!("{} has {}", self.path, count(v.len(), "item")));
            }
            _ => line(&mut out, 0, &format!("{} = {}", self.path, print::json_line(shown))),
        }
        match &self.value {
            None if self.lazy => line(&mut out, 1, "evaluated each time it is used"),
            None => line(&mut out, 1, "cannot be evaluated; `kurc check` says why"),
            Some(value) => {
                let written = self.raw.written.as_deref().unwrap_or_default();
                let coerced = matches!(self.raw.kind, Kind::Str(..)) && !self.raw.same(value);
                if self.part {
                    line(&mut out, 1, &format!("part of what is computed from `{written}`"));
                } else if coerced && written.contains(['{', '%']) {
                    line(&mut out, 1, &format!("computed from `{written}`"));
                } else if coerced {
                    line(&mut out, 1, &format!("written as the text `{written}`"));
                }
            }
        }
        for (path, value, span) in &self.uses {
            line(&mut out, 2, &format!("{path} = {} {}", print::json_line(value), at(*span, sources)));
        }
        line(&mut out, 1, &place(&self.raw, sources));
        way(&mut out, &self.raw, sources);
        match self.expanded.as_deref() {
            None => {}
            Some([]) => line(&mut out, 1, "nothing of the model that `kurc dump` prints"),
            Some([one]) => line(&mut out, 1, &format!("item {one} of the expanded model that `kurc dump` prints")),
            Some([one, .., last]) => {
                line(&mut out, 1, &format!("items {one} to {last} of the expanded model that `kurc dump` prints"));
            }
        }
        for (lost, whole) in &self.replaced {
            let whole = whole.as_ref().map_or(String::new(), |p| format!(", with the whole of {p}"));
            let at = place(lost, sources);
            line(&mut out, 1, &format!("replaces {} {at}{whole}", print::json_line(lost)));
            way(&mut out, lost, sources);
        }
        if matches!(shown.kind, Kind::Map(_) | Kind::List(_) | Kind::Tuple(_)) {
            leaves(&mut out, &self.path, shown, sources);
        }
        out
    }
}

/// The place of the entry of `model` that a node was made from: its own, or that of the template's use around it.
pub(super) fn entry_of(node: &Node) -> Span {
    let steps = std::iter::successors(node.via.as_deref(), |o| o.parent.as_deref());
    steps.filter(|o| o.via == Via::Template).last().map_or(node.span, |o| o.span)
}

/// The entry of `model`, as written, that each item of the expanded model comes from.
fn entries(loader: &Loader<'_>, root: &Value) -> Option<Vec<usize>> {
    let written = root.get("model")?.as_list()?;
    let entry = |place: &Span| {
        let before = |v: &Value| v.span.file == place.file && v.span.start <= place.start;
        written.iter().rposition(before)
    };
    loader.places.iter().map(entry).collect()
}

/// The items of the expanded model that come from one entry; none when these are the entry itself.
fn expansion(loader: &Loader<'_>, root: &Value, index: usize) -> Option<Vec<usize>> {
    let entries = entries(loader, root)?;
    let items: Vec<usize> = entries.iter().enumerate().filter(|(_, e)| **e == index).map(|(i, _)| i).collect();
    (!entries.is_empty() && items != [index]).then_some(items)
}

/// Says of an unknown item of `model` which entry the item of the expanded model comes from.
fn told_apart(d: Diagnostic, loader: &Loader<'_>, root: &Value, segment: &Segment) -> Diagnostic {
    let Some(index) = segment.index else { return d };
    let d = d.note("items are counted as they are written: a loop, or the use of a template, is one");
    match entries(loader, root).and_then(|e| e.get(index).copied()) {
        Some(entry) => d.help(format!("item {index} of the model that `kurc dump` prints comes from `model.{entry}`")),
        None => d,
    }
}

/// The value that a step leads to.
fn child(of: &Value, segment: &Segment, top: bool) -> Option<Value> {
    match &of.kind {
        Kind::List(v) | Kind::Tuple(v) => v.get(segment.index?).cloned(),
        Kind::Map(m) => {
            let name = if top { spelling(m, &segment.text) } else { segment.text.clone() };
            m.iter()
                .find(|e| e.key.written.as_deref() == Some(&name) || python::str_of(&e.key) == name)
                .map(|e| e.value.clone())
        }
        _ => None,
    }
}

/// All values of a collection, each with its place.
fn leaves(out: &mut String, path: &str, value: &Value, sources: &SourceMap) {
    let mut each = |key: &str, v: &Value| {
        let path = format!("{path}.{key}");
        match &v.kind {
            Kind::Map(m) if !m.is_empty() => leaves(out, &path, v, sources),
            Kind::List(l) | Kind::Tuple(l) if !l.is_empty() => leaves(out, &path, v, sources),
            _ => line(out, 0, &format!("{path} = {}  {}", print::json_line(v), place(v, sources))),
        }
    };
    match &value.kind {
        Kind::Map(m) => m.iter().for_each(|e| each(&python::str_of(&e.key), &e.value)),
        Kind::List(v) | Kind::Tuple(v) => v.iter().enumerate().for_each(|(i, v)| each(&i.to_string(), v)),
        _ => {}
    }
}

/// `at Kurfile.yml:3:4`, or the override that gave the value.
fn place(value: &Value, sources: &SourceMap) -> String {
    at(value.span, sources)
}

pub(super) fn at(span: Span, sources: &SourceMap) -> String {
    let name = sources.name(span.file);
    if name == "--set" || name == VARIABLE {
        return format!("set by `{name} {}`", sources.text(span.file)).replace("KUR_SET ", "KUR_SET=");
    }
    let (line, column) = sources.line_col(span);
    format!("at {name}:{line}:{column}")
}

/// The steps from the place a value is written at to where it is used.
fn way(out: &mut String, value: &Value, sources: &SourceMap) {
    for step in value.steps() {
        let how = match step.via {
            Via::Alias => "used through an alias",
            Via::Merge => "merged in with `<<`",
            Via::Include => "included",
            Via::Template => "in the template used",
        };
        line(out, 2, &format!("{how} {}", at(step.span, sources)));
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}{text}", "  ".repeat(depth));
}

/// A step of the path leads nowhere.
fn unknown(segment: &Segment, value: Option<&Value>, path: &str) -> Diagnostic {
    let here = if path.is_empty() { "this Kurfile".to_owned() } else { format!("`{path}`") };
    let d = |message: String, label: &str| Diagnostic::error("unknown-path", message).at(segment.span, label);
    match value.map(|v| &v.kind) {
        Some(Kind::List(v) | Kind::Tuple(v)) if segment.index.is_none() => {
            d(format!("{here} is a list, so it has no key `{}`", segment.text), "expected a position")
                .help(format!("give the position of one of its {}, counted from 0", count(v.len(), "item")))
        }
        Some(Kind::List(v) | Kind::Tuple(v)) => {
            let d = d(format!("{here} has no item {}", segment.text), "no such item");
            match v.len() {
                0 => d.note("the list is empty"),
                1 => d.note("its only item is 0"),
                n => d.note(format!("its items are 0 to {}", n - 1)),
            }
        }
        Some(Kind::Map(m)) => {
            let keys: Vec<String> = m.iter().map(|e| python::str_of(&e.key)).collect();
            let d = d(format!("{here} has no key `{}`", segment.text), "not in the Kurfile");
            match did_you_mean(&segment.text, keys.iter().map(String::as_str)) {
                Some(near) => d.help(format!("did you mean `{near}`?")),
                None if keys.is_empty() => d.note("the mapping is empty"),
                None => {
                    let some: Vec<String> = keys.iter().take(12).map(|k| format!("`{k}`")).collect();
                    let more = if keys.len() > 12 { ", …" } else { "" };
                    d.note(format!("its keys are {}{more}", some.join(", ")))
                }
            }
        }
        _ => d(format!("{here} has no keys"), "cannot go further").help("end the path one step earlier"),
    }
}
