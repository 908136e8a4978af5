//! What went wrong in a template, told at its place in the Kurfile.

use std::ops::Range;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind};

use super::places::{Role, align, places};
use super::rewrite::Rewritten;
use super::scope::Scope;
use crate::diag::{Diagnostic, SourceMap, Span, did_you_mean};
use crate::frontend::value::{AtValue, Value};

/// The scalar that was being rendered.
pub(super) struct Place<'a> {
    /// The scalar.
    pub(super) value: &'a Value,
    /// The text of this round.
    pub(super) text: &'a str,
    /// Whether that is the scalar's own text and not the result of a round before.
    pub(super) first: bool,
    /// All files.
    pub(super) sources: &'a SourceMap,
    /// The text that was rendered in its place.
    pub(super) rewritten: Option<Rewritten>,
}

impl Place<'_> {
    /// The source range of a range of the template text, when it can be told.
    fn locate(&self, range: Range<usize>) -> Option<Span> {
        let source = self.sources.text(self.value.span.file);
        let (start, end) = (self.value.span.start as usize, self.value.span.end as usize);
        let written = source.get(start..end).filter(|_| self.first)?;
        let piece = self.text.get(range.clone())?;
        // The scalar stands in the file as it is, but for quotes; or in several lines; or the piece itself is found only
        // once.
        let found = match written.find(self.text.trim_end()) {
            Some(offset) => offset + range.start..offset + range.end,
            None => match align(self.text, written, &range) {
                Some(found) => found,
                None if !piece.is_empty() && written.matches(piece).count() == 1 => {
                    let at = written.find(piece)?;
                    at..at + piece.len()
                }
                None => return None,
            },
        };
        Some(Span::new(self.value.span.file, start + found.start, start + found.end))
    }

    fn put(&self, d: Diagnostic, range: Option<Range<usize>>, label: impl Into<String>) -> Diagnostic {
        let span = range.and_then(|r| self.locate(r));
        let place = Value { span: span.unwrap_or(self.value.span), ..self.value.clone() };
        let d = d.at_value(&place, label);
        if self.first { d } else { d.note(format!("while evaluating `{}`", shorten(self.text))) }
    }

    /// Where a name stands in the template text.
    fn find_word(&self, word: &str) -> Option<Range<usize>> {
        places(self.text, word, Role::Name).next()
    }
}

/// The diagnostic of an engine error.
pub(super) fn render_error(e: &Error, place: &Place<'_>, scope: &Scope, env: &Environment<'_>) -> Diagnostic {
    let traced = e.range().map(|r| match &place.rewritten {
        Some(new) => new.original(r.start)..new.original(r.end),
        None => r,
    });
    let range = traced.filter(|r| r.end <= place.text.len() && !r.is_empty());
    let detail = e.detail().unwrap_or_default();
    match e.kind() {
        ErrorKind::SyntaxError | ErrorKind::BadEscape | ErrorKind::InvalidDelimiter => syntax(place, range, detail),
        ErrorKind::OutOfFuel => place.put(
            Diagnostic::error("template-too-long", "this template takes too long").help("do less work in templates"),
            None,
            "stopped here",
        ),
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest => {
            let filter = e.kind() == ErrorKind::UnknownFilter;
            unknown_filter(place, range, detail, filter)
        }
        ErrorKind::UnknownFunction => unknown_function(place, range, detail, scope),
        kind => match undefined(place, range.clone(), scope, env)
            // A name may be missing on purpose (`x | default(3)`), so only errors that speak of it count.
            .filter(|_| kind == ErrorKind::UndefinedError || detail.contains("undefined"))
        {
            Some(d) => d,
            None if detail.ends_with(" is undefined") => {
                let what = detail.trim_end_matches(" is undefined");
                let path = dotted(what.trim_matches('`'));
                if let Some(d) = path.and_then(|path| undefined_key(place, &path, range.clone(), scope)) {
                    return d;
                }
                let message = format!("the template uses {what}, which does not exist");
                place.put(Diagnostic::error("undefined-key", message), range, "does not exist")
            }
            None => {
                let message = if detail.is_empty() { e.kind().to_string() } else { detail.to_owned() };
                let d = Diagnostic::error("template-error", format!("this template fails: {message}"));
                let d = if detail.contains("% operator") && detail.contains("types string") {
                    d.help("`%` divides numbers here; to put values into text use the filter: `'%s-%d' | format(a, b)`")
                } else {
                    d
                };
                place.put(d, range, "in this part")
            }
        },
    }
}

fn syntax(place: &Place<'_>, range: Option<Range<usize>>, detail: &str) -> Diagnostic {
    let d = Diagnostic::error("template-syntax", format!("a mistake in the template: {detail}"));
    let opened = place.text.matches("{{").count();
    let d = if opened > place.text.matches("}}").count() { d.help("close each `{{` with `}}`") } else { d };
    place.put(d, range, "here")
}

fn unknown_filter(place: &Place<'_>, range: Option<Range<usize>>, detail: &str, filter: bool) -> Diagnostic {
    const FILTERS: &[&str] = &[
        "abs",
        "as_dict",
        "attr",
        "basename",
        "batch",
        "bool",
        "capitalize",
        "center",
        "combine",
        "count",
        "default",
        "dictsort",
        "dirname",
        "escape",
        "filesizeformat",
        "first",
        "float",
        "format",
        "groupby",
        "indent",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "max",
        "min",
        "pprint",
        "reject",
        "rejectattr",
        "replace",
        "reverse",
        "round",
        "select",
        "selectattr",
        "slice",
        "sort",
        "split",
        "splitext",
        "string",
        "striptags",
        "sum",
        "ternary",
        "title",
        "tojson",
        "trim",
        "truncate",
        "unique",
        "upper",
        "urlencode",
        "wordcount",
        "wordwrap",
        "xmlattr",
        "zip",
    ];
    const TESTS: &[&str] = &[
        "boolean",
        "defined",
        "divisibleby",
        "even",
        "float",
        "integer",
        "iterable",
        "mapping",
        "none",
        "number",
        "odd",
        "sequence",
        "string",
        "undefined",
    ];
    let (id, what, known, role) = if filter {
        ("unknown-filter", "filter", FILTERS, Role::Filter)
    } else {
        ("unknown-test", "test", TESTS, Role::Test)
    };
    // The engine says `filter NAME is unknown`; or nothing, of a name given as text: `map('upper')`.
    let name = detail.split_whitespace().nth(1).unwrap_or_default();
    let part = range.clone().and_then(|r| place.text.get(r)).unwrap_or_default();
    let quoted = part.split(['\'', '"']).nth(1).unwrap_or_default();
    let name = if name.is_empty() { quoted } else { name };
    let mut found: Vec<Range<usize>> = places(place.text, name, role).collect();
    // The range, when there is one, starts with the name.
    if let Some(r) = &range
        && found.iter().any(|f| f.start == r.start)
    {
        found.retain(|f| f.start == r.start);
    }
    let range = found.into_iter().next().or(range);
    let message = if name.is_empty() {
        format!("this template uses a {what} that does not exist")
    } else {
        format!("templates have no {what} `{name}`")
    };
    let d = Diagnostic::error(id, message);
    let d = match did_you_mean(name, known.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None => d,
    };
    place.put(d, range, format!("unknown {what}"))
}

fn unknown_function(place: &Place<'_>, range: Option<Range<usize>>, detail: &str, scope: &Scope) -> Diagnostic {
    let name = detail.split_whitespace().next().unwrap_or_default().trim_matches('`');
    if name.is_empty() || place.find_word(name).is_none() {
        return place.put(
            Diagnostic::error("template-error", format!("this template fails: {detail}")),
            range,
            "in this part",
        );
    }
    const FUNCTIONS: &[&str] =
        &["cycler", "dict", "gpu_count", "joiner", "load_json", "load_yaml", "namespace", "range"];
    if let Some(near) = did_you_mean(name, FUNCTIONS.iter().copied()) {
        let d = Diagnostic::error("undefined-name", format!("the template uses `{name}`, which is not defined"));
        return place.put(d.help(format!("did you mean `{near}(…)`?")), place.find_word(name), "not defined");
    }
    undefined_name(place, name, scope)
}

/// Finds the undefined name or key behind an error.
fn undefined(
    place: &Place<'_>,
    range: Option<Range<usize>>,
    scope: &Scope,
    env: &Environment<'_>,
) -> Option<Diagnostic> {
    let path = range.clone().and_then(|r| place.text.get(r)).unwrap_or_default();
    let is_path = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let template = env.template_from_str(place.text).ok()?;
    let globals: Vec<String> = env.globals().map(|(n, _)| n.to_owned()).collect();
    let mut free: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    free.sort();
    // The engine's range may also be that of a filter; then it names no free variable.
    if is_path(path) && free.iter().any(|f| f.split('.').next() == path.split('.').next()) {
        free.insert(0, path.to_owned());
    }
    // Names first: a missing key of a missing name is the fault of the name.
    for candidate in &free {
        let name = candidate.split('.').next().unwrap_or_default();
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let guarded = ["true", "True", "false", "False", "none", "None", "loop"].contains(&name);
        if is_name && !guarded && scope.find(name).is_none() && !globals.iter().any(|g| g == name) {
            return Some(undefined_name(place, name, scope));
        }
    }
    free.iter().find_map(|candidate| undefined_key(place, candidate, None, scope))
}

fn undefined_name(place: &Place<'_>, name: &str, scope: &Scope) -> Diagnostic {
    let names = scope.names();
    let d = Diagnostic::error("undefined-name", format!("the template uses `{name}`, which is not defined"));
    let d = match did_you_mean(name, names.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None => {
            let d = d.help(format!("define it under `settings:` as `{name}: …`"));
            d.note(format!("defined here: {}", list(&names)))
        }
    };
    place.put(d, place.find_word(name), "not defined")
}

/// `a['b'].c` as `a.b.c`; none when there is more to it.
fn dotted(text: &str) -> Option<String> {
    let text = text.replace("['", ".").replace("[\"", ".").replace("']", "").replace("\"]", "");
    text.chars().all(|c| c.is_alphanumeric() || "_.".contains(c)).then_some(text)
}

/// The first key on a path that does not exist; `otherwise` is shown when the path is not written with dots.
fn undefined_key(place: &Place<'_>, path: &str, otherwise: Option<Range<usize>>, scope: &Scope) -> Option<Diagnostic> {
    let mut parts = path.split('.');
    let root = parts.next()?;
    let mut at = scope.find(root)?.clone();
    let mut seen = root.to_owned();
    for key in parts {
        let next = at.get_attr(key).ok()?;
        if next.is_undefined() {
            let d = Diagnostic::error("undefined-key", format!("`{seen}` has no key `{key}`"));
            let keys: Vec<String> = match at.kind() {
                ValueKind::Map => at.try_iter().ok()?.map(|k| k.to_string()).collect(),
                _ => Vec::new(),
            };
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let d = match did_you_mean(key, keys.iter().copied()) {
                Some(better) => d.help(format!("did you mean `{seen}.{better}`?")),
                None if at.kind() != ValueKind::Map => d.note(format!("`{seen}` is not a mapping")),
                None if keys.is_empty() => d.note(format!("`{seen}` is empty")),
                None => d.note(format!("its keys are: {}", list(&keys))),
            };
            let whole = format!("{seen}.{key}");
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let range = places(place.text, root, Role::Name)
                .map(|r| r.start..r.start + whole.len())
                .find(|r| place.text.get(r.clone()) == Some(&*whole) && !place.text[r.end..].starts_with(word))
                .map(|r| r.end - key.len()..r.end);
            return Some(place.put(d, range.or(otherwise), "no such key"));
        }
        at = next;
        seen = format!("{seen}.{key}");
    }
    None
}

fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(12).map(|n| format!("`{n}`")).collect();
    let more = if names.len() > 12 { ", …" } else { "" };
    shown.join(", ") + more
}

fn shorten(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

/// The text changes in every round. `seen` are the texts of the rounds before `text`.
pub(super) fn cycle(value: &Value, seen: &[String], text: &str) -> Diagnostic {
    let d = Diagnostic::error("template-cycle", "this template refers to itself").at_value(value, "never settles");
    let d = match seen.iter().position(|s| s == text) {
        Some(first) => {
            let circle: Vec<String> =
                seen[first..].iter().map(String::as_str).chain([text]).map(|t| format!("`{}`", shorten(t))).collect();
            d.note(format!("it is evaluated to {}, and so on", circle.join(" → ")))
        }
        None => d.note(format!("after many rounds it is still a template: `{}`", shorten(text))),
    };
    d.help("break the circle: let one of the values that refer to each other be a plain value")
}

/// The text outgrows its budget.
pub(super) fn too_long(value: &Value) -> Diagnostic {
    Diagnostic::error("template-too-long", "this template gives more than a megabyte of text")
        .at_value(value, "too much text")
}

/// All templates together do too much.
pub(super) fn too_much_work(value: &Value) -> Diagnostic {
    Diagnostic::error("template-too-long", "the templates of this Kurfile take too long all together")
        .at_value(value, "the limit is crossed here")
        .help("do less work in templates, most of all in those inside loops")
}

/// A collection outgrows its budget.
pub(super) fn too_long_literal(value: &Value) -> Diagnostic {
    Diagnostic::error("template-too-long", "this value is a collection of more than half a megabyte of text")
        .at_value(value, "too much text")
        .help("keep large tables in data files")
}

/// Operators or blocks in each other.
pub(super) fn too_deep(place: &Place<'_>, at: usize) -> Diagnostic {
    let d = Diagnostic::error("template-too-long", "this template nests too many operators or blocks")
        .help("split it: give parts of it names with `set`, or as settings");
    let end = place.text[at..].char_indices().nth(1).map_or(place.text.len(), |(n, _)| at + n);
    place.put(d, Some(at..end), "too deep from here on")
}
