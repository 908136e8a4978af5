//! Findings about values: wrong types, values out of range, unknown names.

use crate::diag::{Diagnostic, did_you_mean};
use crate::frontend::Value;
use crate::frontend::python;
use crate::frontend::value::{AtValue, Kind};

use super::keys::words;

/// A value as an error speaks of it.
pub(crate) fn found(value: &Value) -> String {
    let shown = || {
        let text = value.written.as_deref().map_or_else(|| python::str_of(value), str::to_owned);
        let short: String = text.chars().take(40).collect();
        if short.len() < text.len() { short + "…" } else { short }
    };
    match &value.kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(_) => format!("the boolean `{}`", shown()),
        Kind::Int(_) | Kind::Float(_) | Kind::Complex(..) => format!("the number {}", shown()),
        Kind::Str(s, _) if s.is_empty() => "an empty text".to_owned(),
        Kind::Str(..) => format!("the text `{}`", shown()),
        Kind::Bytes(_) => "bytes".to_owned(),
        Kind::List(v) | Kind::Tuple(v) if v.is_empty() => "an empty list".to_owned(),
        Kind::List(_) | Kind::Tuple(_) => "a list".to_owned(),
        Kind::Set(_) => "a set".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
    }
}

/// A value of a kind that cannot stand here.
pub(crate) fn wrong_type(value: &Value, what: &str, expected: &str) -> Diagnostic {
    let d = Diagnostic::error("wrong-type", format!("{what} must be {expected}, found {}", found(value)))
        .at_value(value, format!("expected {expected}"));
    match &value.kind {
        Kind::Str(s, _) if expected.contains("yes or no") => match s.to_lowercase().as_str() {
            w @ ("yes" | "no" | "true" | "false" | "on" | "off") => d.help(format!("write `{w}` without quotes")),
            _ => d,
        },
        Kind::Str(s, _) if expected.contains("number") && s.trim() != &**s && number(s.trim()) => {
            d.help("the text begins or ends with a blank, so it is not read as a number: remove the blank")
        }
        Kind::Float(_) if expected.contains("whole number") => {
            d.help("in templates use `//` for a division that gives a whole number")
        }
        _ => d,
    }
}

/// Whether a text is one that would be read as a number.
fn number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

/// A value of the right kind that makes no sense here.
pub(crate) fn out_of_range(value: &Value, what: &str, expected: &str) -> Diagnostic {
    Diagnostic::error("invalid-value", format!("{what} must be {expected}, found {}", found(value)))
        .at_value(value, format!("expected {expected}"))
}

/// A word that is not one of a known set.
pub(crate) fn unknown_word(value: &Value, what: &str, known: &[&str]) -> Diagnostic {
    let text = value.as_str().unwrap_or_default();
    let d = Diagnostic::error("unknown-value", format!("{what} cannot be `{text}`")).at_value(value, "not known");
    match did_you_mean(text, known.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None => d.note(format!("known are {}", words(known))),
    }
}

/// A setting that no longer does anything.
pub(crate) fn ignored_setting(key: &Value, name: &str) -> Diagnostic {
    Diagnostic::warning("ignored-setting", format!("`settings.{name}` has no effect"))
        .at_value(key, "ignored")
        .note("kurc compiles to machine code itself; there is no back end to choose")
}

/// The seed does not fit.
pub(crate) fn wrapped_seed(value: &Value, seed: u64) -> Diagnostic {
    Diagnostic::warning("wrapped-seed", format!("the seed must be between 0 and 4294967295; {seed} is used"))
        .at_value(value, "taken modulo 2³²")
}

/// `epochs: 0`.
pub(crate) fn endless_training(value: &Value) -> Diagnostic {
    Diagnostic::warning("endless-training", "`epochs: 0` trains until it is interrupted")
        .at_value(value, "no limit")
        .help("write the number of epochs, or `epochs: null` to say it plainly")
}

/// `dropout: 0`.
pub(crate) fn idle_dropout(value: &Value) -> Diagnostic {
    Diagnostic::warning("idle-dropout", "a dropout of 0 does nothing")
        .at_value(value, "drops nothing")
        .help("give the fraction of values to drop, such as `dropout: 0.5`, or remove the entry")
}

/// `bias` without `highway`.
pub(crate) fn idle_bias(value: &Value) -> Diagnostic {
    Diagnostic::warning("idle-bias", "`bias` has no effect without `highway: yes`")
        .at_value(value, "ignored")
        .help("remove it; a layer has a trainable bias anyway")
}

/// `sortagrad` beside a key that it sets.
pub(crate) fn two_orders(value: &Value, key: &str) -> Diagnostic {
    Diagnostic::error("invalid-value", format!("`provider` has both `sortagrad` and `{key}`"))
        .at_value(value, "set by `sortagrad` as well")
        .help("`sortagrad: SOURCE` stands for `sort_by: SOURCE` and `shuffle_after: 1`; keep one form")
}
