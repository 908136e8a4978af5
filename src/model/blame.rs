//! Which overrides stand behind a computed value: an error about `epochs: "{{ n }}"` is no mistake of the file when `n`
//! came from `--set`.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{FileId, Sink, SourceMap, Span};
use crate::frontend::Value;
use crate::frontend::template::Engine;
use crate::frontend::value::Kind;

use super::explain::at;
use super::overrides::VARIABLE;

/// Findings that have nothing to do with the value of a name.
const OF_THE_TEXT: &[&str] = &["unknown-filter", "unknown-test", "undefined-name", "template-syntax"];

/// Overrides that are told of one finding.
const SHOWN: usize = 4;

/// Whether a place is in an override.
pub(super) fn is_override(span: Span, sources: &SourceMap) -> bool {
    matches!(sources.name(span.file), "--set" | VARIABLE)
}

/// What a template uses, as written in the tree: each path, and the value it leads to or through.
pub(super) fn used<'v>(engine: &Engine<'_>, root: &'v Value, template: &Value) -> Vec<(String, &'v Value)> {
    let paths = engine.uses(template);
    // `a` comes with `a.b`.
    let longest =
        paths.iter().filter(|p| !paths.iter().any(|q| q.strip_prefix(p.as_str()).is_some_and(|r| r.starts_with('.'))));
    longest.filter_map(|p| find(root, p)).collect()
}

/// The value of a name that templates see, and its path in the tree: bare names are settings.
fn find<'v>(root: &'v Value, path: &str) -> Option<(String, &'v Value)> {
    let first = path.split('.').next()?;
    let spread = root.get("settings").is_some_and(|s| s.get(first).is_some());
    let full = if spread { format!("settings.{path}") } else { path.to_owned() };
    let mut steps = full.split('.');
    let mut value = root.get(steps.next()?)?;
    let mut done = full.split('.').next()?.to_owned();
    for step in steps {
        // A method, or an item of a list: the value is what it is of.
        let Some(next) = value.get(step) else { break };
        value = next;
        done = format!("{done}.{step}");
    }
    Some((done, value))
}

/// The overrides that a template uses, directly or through other templates, each with its path.
pub(super) fn behind<'v>(
    engine: &Engine<'_>,
    root: &'v Value,
    template: &'v Value,
    sources: &SourceMap,
) -> Vec<(String, &'v Value)> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = used(engine, root, template);
    while let Some((path, value)) = open.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        match &value.kind {
            _ if is_override(value.span, sources) => out.push((path, value)),
            Kind::Str(..) => open.extend(used(engine, root, value)),
            Kind::List(items) | Kind::Tuple(items) => {
                open.extend(items.iter().enumerate().map(|(i, v)| (format!("{path}.{i}"), v)));
            }
            Kind::Map(m) => {
                open.extend(m.iter().filter_map(|e| Some((format!("{path}.{}", e.key.as_str()?), &e.value))));
            }
            _ => {}
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// Adds to each finding about a template the overrides that it uses.
pub(super) fn note(engine: &Engine<'_>, root: &Value, sources: &SourceMap, sink: &mut Sink) {
    // Without overrides there is nothing to tell; the walk would only cost time.
    let files = (0u32..).map(FileId).take_while(|f| sources.name(*f) != "?");
    if !files.into_iter().any(|file| is_override(Span { file, start: 0, end: 0 }, sources)) {
        return;
    }
    let mut templates = BTreeMap::new();
    collect(root, &mut templates);
    sink.amend(|d| {
        let Some((at_span, _)) = &d.primary else { return };
        let key = (at_span.file, at_span.start);
        let Some((_, template)) = templates.range(..=key).next_back() else { return };
        if template.span.file != at_span.file || template.span.end < at_span.end || OF_THE_TEXT.contains(&d.id) {
            return;
        }
        for (path, value) in behind(engine, root, template, sources).into_iter().take(SHOWN) {
            let note = format!("`{path}` is {}", at(value.span, sources));
            if !d.notes.contains(&note) {
                d.notes.push(note);
            }
        }
    });
}

/// All templates of a tree by their place.
fn collect<'v>(value: &'v Value, out: &mut BTreeMap<(FileId, u32), &'v Value>) {
    match &value.kind {
        Kind::Str(text, _) if text.contains("{{") || text.contains("{%") => {
            out.insert((value.span.file, value.span.start), value);
        }
        Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => v.iter().for_each(|v| collect(v, out)),
        Kind::Map(m) => m.iter().for_each(|e| collect(&e.value, out)),
        _ => {}
    }
}
