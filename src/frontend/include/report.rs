//! The findings about `include`.

use super::glob::is_pattern;
use crate::diag::{Diagnostic, Span, did_you_mean};
use crate::frontend::merge::Strategy;
use crate::frontend::value::{AtValue, Kind, Value};
use crate::frontend::world::World;

/// The forms of `include`, shown where something else was found.
const FORMS: &str =
    "write `include: base.yml`, or a list of paths and of mappings like `{source: base.yml, method: concat}`";

/// Shows the way to an included file: each `include` it was reached through, the nearest first. A finding about the file
/// as a whole is placed at the nearest one.
pub(super) fn through(mut d: Diagnostic, chain: &[Span]) -> Diagnostic {
    for (i, span) in chain.iter().rev().enumerate() {
        if i == 0 && d.primary.is_none() {
            d = d.at(*span, "included here");
        } else if d.primary.as_ref().is_none_or(|(s, _)| s != span) && !d.secondary.iter().any(|(s, _)| s == span) {
            d = d.also(*span, "included from here");
        }
    }
    d
}

fn bad(value: &Value, message: impl Into<String>, label: &str) -> Diagnostic {
    Diagnostic::error("bad-include", message).at_value(value, label)
}

pub(super) fn wrong_form(value: &Value) -> Diagnostic {
    let message = format!("an item of `include` must be a path or a mapping with `source`, found {}", found(value));
    bad(value, message, "not a path").help(FORMS)
}

pub(super) fn no_source(value: &Value) -> Diagnostic {
    bad(value, "this `include` has no `source`", "which file?").help("add the path: `source: base.yml`")
}

pub(super) fn no_path(value: &Value) -> Diagnostic {
    bad(value, format!("a source of `include` must be a path, found {}", found(value)), "expected a path").help(FORMS)
}

fn found(value: &Value) -> String {
    match (&value.kind, value.written.as_deref()) {
        (Kind::Null | Kind::Str(..), _) => "nothing".to_owned(),
        (Kind::List(_), _) => "a list inside the list".to_owned(),
        (Kind::Map(_), _) => "a mapping".to_owned(),
        (_, Some(written)) => format!("`{written}`"),
        _ => "no text".to_owned(),
    }
}

pub(super) fn unknown_method(value: &Value) -> Diagnostic {
    let found = value.written.as_deref().unwrap_or_default();
    let d = bad(value, format!("`include` knows no method `{found}`"), "unknown method");
    let words: Vec<String> = Strategy::WORDS.iter().map(|w| format!("`{w}`")).collect();
    match did_you_mean(found, Strategy::WORDS.iter().copied()) {
        Some(near) => d.help(format!("did you mean `{near}`?")),
        None => d.note(format!("the methods are {}", words.join(", "))),
    }
}

pub(super) fn unknown_key(key: &Value) -> Diagnostic {
    let name = key.written.as_deref().unwrap_or_default();
    let d = Diagnostic::error("unknown-key", format!("`include` has no key `{name}`")).at_value(key, "unknown key");
    match did_you_mean(name, ["source", "method"]) {
        Some(near) => d.help(format!("did you mean `{near}`?")),
        None => d.note("its keys are `source` and `method`"),
    }
}

pub(super) fn template(value: &Value) -> Diagnostic {
    bad(value, "a template in `include`", "not evaluated here")
        .note("files are included before anything is evaluated, so no names exist yet")
        .help("write the path out; `*` and `?` match names, and `$NAME` is a variable of the environment")
}

pub(super) fn no_mapping(value: &Value) -> Diagnostic {
    bad(value, "an included file must hold sections (`key: value` lines)", "expected a mapping of sections")
}

/// No file is where the source points to.
pub(super) fn missing(world: &dyn World, value: &Value, text: &str, path: &str, includer: &str) -> Diagnostic {
    let at = |message: String, label: &str| Diagnostic::error("missing-include", message).at_value(value, label);
    let (dir, own_name) = includer.rfind('/').map_or(("", includer), |n| includer.split_at(n + 1));
    let folder = path.rfind('/').map_or("", |n| &path[..n]);
    let folder_shown = if folder.is_empty() { "the folder of this file" } else { folder };
    if is_pattern(text) {
        let d = at(format!("no file matches `{text}`"), "matches nothing");
        return d.note(format!("the pattern is relative to {}", show_dir(dir)));
    }
    if !folder.is_empty() && !world.is_dir(folder) {
        let d = at(format!("there is no file `{path}`"), "no such file");
        return d.note(format!("there is no folder `{folder}` either; paths are relative to {}", show_dir(dir)));
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let names = world.list_dir(folder);
    let is_kurfile = |n: &&str| [".yml", ".yaml", ".json"].iter().any(|e| n.ends_with(e));
    let own = |n: &&str| dir.trim_end_matches('/') == folder && *n == own_name;
    let kurfiles: Vec<&str> = names.iter().map(String::as_str).filter(|n| is_kurfile(n) && !own(n)).collect();
    let d = at(format!("there is no file `{path}`"), "no such file");
    // A wrong extension is a frequent mistake, however different the names then look.
    let stem = |n: &str| n.rsplit_once('.').map_or(n.to_owned(), |(s, _)| s.to_owned());
    let near = did_you_mean(name, kurfiles.iter().copied())
        .or_else(|| kurfiles.iter().copied().find(|k| stem(k) == stem(name)));
    let prefix = text.rfind('/').map_or("", |n| &text[..=n]);
    match near {
        Some(near) => d.help(format!("did you mean `{prefix}{near}`?")),
        None if kurfiles.is_empty() => d.note(format!("there is no other Kurfile in {folder_shown}")),
        None => {
            let some: Vec<String> = kurfiles.iter().take(6).map(|n| format!("`{n}`")).collect();
            let more = if kurfiles.len() > 6 { ", …" } else { "" };
            d.note(format!("{folder_shown} holds {}{more}", some.join(", ")))
        }
    }
}

fn show_dir(dir: &str) -> String {
    match dir.trim_end_matches('/') {
        "" => "the folder of this file".to_owned(),
        dir => format!("`{dir}`, the folder of this file"),
    }
}

pub(super) fn too_wide(value: &Value) -> Diagnostic {
    Diagnostic::error("too-many-includes", "this pattern looks through too many files")
        .at_value(value, "too wide")
        .help("name the folder that holds the files")
}

pub(super) fn too_many(value: &Value, what: &str) -> Diagnostic {
    Diagnostic::error("too-many-includes", format!("this Kurfile includes {what}")).at_value(value, "one too many")
}

/// A file that is being read includes itself, in one step or several.
pub(super) fn cycle(value: &Value, names: &[&str]) -> Diagnostic {
    let first = names.first().copied().unwrap_or("?");
    let message = match names {
        [_] => format!("`{first}` includes itself"),
        _ => format!("`{first}` includes itself through `{}`", names.last().copied().unwrap_or(first)),
    };
    let circle: Vec<&str> = names.iter().copied().chain([first]).collect();
    let d = Diagnostic::warning("include-cycle", message).at_value(value, "back to where it started");
    let d = if names.len() > 1 { d.note(format!("the circle is {}", circle.join(" → "))) } else { d };
    d.note("it is read once; here it adds nothing").help("remove this `include`")
}

/// A file that was included before.
pub(super) fn repeated(value: &Value, path: &str, before: Option<Span>) -> Diagnostic {
    let message = format!("`{path}` is included a second time; here it adds nothing");
    let d = Diagnostic::warning("repeated-include", message).at_value(value, "ignored");
    match before {
        Some(span) if span == value.span => d.note("the sources of this `include` name it twice"),
        Some(span) => d.also(span, "included here first"),
        None => d,
    }
}
