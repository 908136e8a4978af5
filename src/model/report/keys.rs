//! Findings about keys, sections and layer types.

use crate::diag::{Diagnostic, did_you_mean};
use crate::frontend::Value;
use crate::frontend::value::AtValue;

use super::meant;

/// Layers beside which people look for an activation.
const OWN_ENTRIES: &[&str] = &[
    "`dense`",
    "the `dense` entry",
    "the `convolution` entry",
    "`batch_normalization`",
    "the `batch_normalization` entry",
];

fn name_of(key: &Value) -> String {
    key.written.as_deref().map_or_else(|| crate::frontend::python::repr(key), str::to_owned)
}

/// A list of words in back quotes; a long one is cut.
pub(crate) fn words(known: &[&str]) -> String {
    const SHOWN: usize = 24;
    let text = known.iter().take(SHOWN).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    match known.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// A key that a mapping does not know.
pub(crate) fn unknown_key(key: &Value, what: &str, known: &[&str]) -> Diagnostic {
    unknown_pair(key, None, what, known)
}

/// As [`unknown_key`], with the value, which tells what to write elsewhere.
pub(crate) fn unknown_pair(key: &Value, value: Option<&Value>, what: &str, known: &[&str]) -> Diagnostic {
    let name = name_of(key);
    let d = Diagnostic::error("unknown-key", format!("{what} has no key `{name}`")).at_value(key, "unknown key");
    if let Some(meant) = meant::key(&name, known) {
        return d.help(format!("write `{meant}` in place of `{name}`"));
    }
    if let Some(help) = meant::own_entry(&name, value).filter(|_| OWN_ENTRIES.contains(&what)) {
        return d.help(help);
    }
    match did_you_mean(&name, known.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None if known.is_empty() => d.note(format!("{what} takes no keys")),
        None => d.note(format!("known keys are {}", words(known))),
    }
}

/// A parameter that stands beside the layer type instead of below it.
pub(crate) fn misplaced_parameter(key: &Value, kind: &str) -> Diagnostic {
    let name = name_of(key);
    Diagnostic::error("unknown-key", format!("`{name}` stands beside `{kind}:` instead of below it"))
        .at_value(key, "not indented enough")
        .help(format!("indent this line deeper than `{kind}:`, so that `{name}` belongs to it"))
}

/// A parameter that stands beside the short form of a layer.
pub(crate) fn outside(key: &Value, kind: &str, short: &Value, value: &Value) -> Diagnostic {
    let name = name_of(key);
    Diagnostic::error("unknown-key", format!("`{name}` stands beside the short form of `{kind}` instead of inside it"))
        .at_value(key, "not a key of the entry")
        .also(short.span, "the short form has room for one value")
        .help(meant::inside(kind, short, &name, value))
}

/// A top-level key that is no section.
pub(crate) fn unknown_section(key: &Value, known: &[&str]) -> Diagnostic {
    let name = name_of(key);
    let d = Diagnostic::error("unknown-section", format!("a Kurfile has no section `{name}`"))
        .at_value(key, "unknown section");
    match did_you_mean(&name, known.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None => d
            .note(format!("the sections are {}", words(known)))
            .help("values of your own, for use in templates, go under `settings:`"),
    }
}

/// Both spellings of a section.
pub(crate) fn shadowed_section(alias: &Value, canonical: &Value) -> Diagnostic {
    let (a, c) = (name_of(alias), name_of(canonical));
    Diagnostic::warning("shadowed-section", format!("`{a}` is ignored, because the section also stands as `{c}`"))
        .at_value(alias, "ignored")
        .also(canonical.span, "this one counts")
        .help(format!("keep one of the two; `{a}` is another name of `{c}`"))
}

/// A required key is absent.
pub(crate) fn missing_key(place: &Value, what: &str, key: &str, example: &str) -> Diagnostic {
    Diagnostic::error("missing-key", format!("{what} needs `{key}`"))
        .at_value(place, format!("`{key}` is missing"))
        .help(format!("add `{example}`"))
}

/// A construct of Kur that this version does not build.
pub(crate) fn not_yet_supported(place: &Value, what: &str) -> Diagnostic {
    Diagnostic::error("not-yet-supported", format!("{what} is part of the language, but kurc does not build it yet"))
        .at_value(place, "not built yet")
}

/// A model entry of unknown type.
pub(crate) fn unknown_layer(key: &Value, value: &Value, known: &[&str]) -> Diagnostic {
    let name = name_of(key);
    if name.trim().is_empty() {
        return Diagnostic::error("no-layer-type", "this model entry is an empty text")
            .at_value(key, "which layer is this?")
            .note(format!("layer types are {}", words(known)));
    }
    let d = Diagnostic::error("unknown-layer", format!("there is no layer type `{name}`"))
        .at_value(key, "unknown layer type");
    if let Some(help) = meant::layer(&name, value, known) {
        return d.help(help);
    }
    match did_you_mean(&name, known.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None => d.note(format!("layer types are {}", words(known))),
    }
}

/// A model entry with common fields only.
pub(crate) fn no_layer_type(entry: &Value, known: &[&str]) -> Diagnostic {
    Diagnostic::error("no-layer-type", "this model entry names no layer type")
        .at_value(entry, "which layer is this?")
        .note(format!("layer types are {}", words(known)))
}

/// A model entry with two layer types.
pub(crate) fn two_layer_types(first: &Value, second: &Value) -> Diagnostic {
    let (a, b) = (name_of(first), name_of(second));
    Diagnostic::error("two-layer-types", format!("one model entry is both `{a}` and `{b}`"))
        .at_value(second, "second layer type")
        .also(first.span, "first layer type")
        .help(format!("write two entries: `- {a}: …` and, on its own line, `- {b}: …`"))
}

/// `train` without a model, or an empty file.
pub(crate) fn missing_model(place: &Value) -> Diagnostic {
    Diagnostic::error("missing-section", "this Kurfile has no `model` section")
        .at_value(place, "a Kurfile describes a model")
        .help(MODEL_EXAMPLE)
}

/// `model:` with nothing in it.
pub(crate) fn empty_model(key: &Value) -> Diagnostic {
    Diagnostic::error("missing-section", "the `model` section is empty")
        .at_value(key, "no layers below")
        .help(MODEL_EXAMPLE)
}

const MODEL_EXAMPLE: &str =
    "add `model:` with a list of layers, for example `- input: x`, `- dense: 10`, `- output: y`";

/// `-dense: 3` below `model`.
pub(crate) fn missing_blank(value: &Value) -> Option<Diagnostic> {
    let entry = value.as_map()?.iter().find(|e| e.key.as_str().is_some_and(|k| k.starts_with('-')))?;
    let name = name_of(&entry.key);
    let text = "`model` must be a list of layers (`- dense: 10`), found a mapping";
    let d = Diagnostic::error("wrong-type", text).at_value(&entry.key, "YAML reads this as one word");
    Some(d.help(format!("put a blank after the `-`: `- {}: …`", name.trim_start_matches('-'))))
}

/// A model entry that uses two templates.
pub(crate) fn two_templates(first: &Value, second: &Value) -> Diagnostic {
    let (a, b) = (name_of(first), name_of(second));
    Diagnostic::error("two-layer-types", format!("one model entry uses the templates `{a}` and `{b}`"))
        .at_value(second, "second template")
        .also(first.span, "first template")
        .help(format!("write two entries: `- {a}: …` and, on its own line, `- {b}: …`"))
}

/// A template with the name of a layer type.
pub(crate) fn builtin_template(key: &Value, word: &str) -> Diagnostic {
    let name = name_of(key);
    let d = Diagnostic::error("template-name", format!("a template cannot be called `{name}`"));
    d.at_value(key, format!("`{word}` is a type of container"))
        .help(format!("choose another name, such as `my_{name}`"))
}
