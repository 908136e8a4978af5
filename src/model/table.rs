//! The grammar of Kurfiles as data: which keys a mapping has and which values they take.
//!
//! One table per mapping, next to the code that reads it. Three things come from the tables: which keys
//! [`super::fields::Fields`] accepts, the checks of constructs that are not built yet ([`check`]), and the JSON Schema
//! (`super::schema`). Values are those after evaluation; in a file, each may also be a template or a Python literal.

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;

use super::convert;
use super::cx::Cx;
use super::fields::Fields;
use super::report::values::{out_of_range, wrong_type};
use super::types::Need;

/// A key of a mapping.
#[derive(Debug)]
pub(crate) struct Key {
    /// As it is written.
    pub(crate) name: &'static str,
    /// Its values.
    pub(crate) ty: Ty,
    /// What it does, one phrase.
    pub(crate) doc: &'static str,
    /// Whether it must be there.
    pub(crate) required: bool,
    /// Not built yet, and when that matters.
    pub(crate) unbuilt: Option<Need>,
}

impl Key {
    /// An optional key.
    pub(crate) const fn new(name: &'static str, ty: Ty, doc: &'static str) -> Key {
        Key { name, ty, doc, required: false, unbuilt: None }
    }

    /// The same key, required.
    pub(crate) const fn required(self) -> Key {
        Key { required: true, ..self }
    }

    /// The same key, checked but not built yet. `null` switches it off and is always fine.
    pub(crate) const fn unbuilt(self, need: Need) -> Key {
        Key { unbuilt: Some(need), ..self }
    }
}

/// The values of a key.
#[derive(Debug)]
pub(crate) enum Ty {
    /// Anything.
    Any,
    /// Null alone.
    Null,
    /// A boolean.
    Bool,
    /// A whole number of at least this.
    Whole(u64),
    /// A whole number of either sign.
    Integer,
    /// A finite number in a range.
    Number(Range),
    /// Text; numbers and booleans give the text they were written as.
    Text,
    /// A path.
    Path,
    /// One of these words, without regard to case.
    Word(&'static [&'static str]),
    /// A whole number of at least 1, or a list of one to this many of them.
    Sizes(usize),
    /// A list.
    List(&'static Ty),
    /// A mapping with these keys.
    Map(&'static [Key]),
    /// A mapping with keys of the user's own.
    Dict(&'static Ty),
    /// A list of model entries.
    Layers,
    /// A list of suppliers.
    Suppliers,
    /// Any of these; at most one of them is a mapping, at most one a list.
    AnyOf(&'static [Ty]),
}

/// A range of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    /// Lower bound, and whether it belongs to the range.
    pub(crate) min: Option<(f64, bool)>,
    /// Upper bound, and whether it belongs to the range.
    pub(crate) max: Option<(f64, bool)>,
}

impl Range {
    /// All finite numbers.
    pub(crate) const ANY: Range = Range { min: None, max: None };
    /// At least 0.
    pub(crate) const NOT_NEGATIVE: Range = Range { min: Some((0.0, true)), max: None };
    /// Greater than 0.
    pub(crate) const POSITIVE: Range = Range { min: Some((0.0, false)), max: None };
    /// From 0 up to, but not including, 1.
    pub(crate) const FRACTION: Range = Range { min: Some((0.0, true)), max: Some((1.0, false)) };

    /// Whether a number lies in it.
    pub(crate) fn contains(self, x: f64) -> bool {
        let above = self.min.is_none_or(|(m, own)| x > m || own && x >= m);
        let below = self.max.is_none_or(|(m, own)| x < m || own && x <= m);
        above && below
    }

    /// As errors describe it.
    pub(crate) fn describe(self) -> String {
        match (self.min, self.max) {
            (None, None) => "a number".to_owned(),
            (Some((a, true)), None) => format!("a number of at least {a}"),
            (Some((a, false)), None) => format!("a number greater than {a}"),
            (None, Some((b, true))) => format!("a number of at most {b}"),
            (None, Some((b, false))) => format!("a number below {b}"),
            (Some((a, own)), Some((b, end))) => {
                let from = if own { format!("from {a}") } else { format!("greater than {a}") };
                if end {
                    format!("a number {from} to {b}")
                } else {
                    format!("a number {from} up to, but not including, {b}")
                }
            }
        }
    }
}

impl Ty {
    /// As errors describe it: "a whole number of at least 1".
    pub(crate) fn describe(&self) -> String {
        match self {
            Ty::Any => "a value".to_owned(),
            Ty::Null => "nothing".to_owned(),
            Ty::Bool => "yes or no".to_owned(),
            Ty::Whole(0) | Ty::Integer => "a whole number".to_owned(),
            Ty::Whole(min) => format!("a whole number of at least {min}"),
            Ty::Number(range) => range.describe(),
            Ty::Text => "text".to_owned(),
            Ty::Path => "a path".to_owned(),
            Ty::Word(words) => convert::either(words),
            Ty::Sizes(1) => "a whole number".to_owned(),
            Ty::Sizes(max) => format!("a whole number or a list of one to {max} of them"),
            Ty::List(_) => "a list".to_owned(),
            Ty::Map(_) | Ty::Dict(_) => "a mapping (`key: value` lines)".to_owned(),
            Ty::Layers => "a list of layers".to_owned(),
            Ty::Suppliers => "a list of suppliers".to_owned(),
            Ty::AnyOf(all) => {
                let parts: Vec<String> = all.iter().filter(|t| !matches!(t, Ty::Null)).map(Ty::describe).collect();
                parts.join(", or ")
            }
        }
    }

    /// The keys of the mapping form.
    pub(crate) fn keys(&self) -> &'static [Key] {
        match self {
            Ty::Map(keys) => keys,
            Ty::AnyOf(all) => all.iter().map(Ty::keys).find(|k| !k.is_empty()).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Whether values of this kind are of this type at all, whatever their range.
    fn takes(&self, kind: &Kind) -> bool {
        match self {
            Ty::Any => true,
            Ty::Null => matches!(kind, Kind::Null),
            Ty::Bool => matches!(kind, Kind::Bool(_)),
            Ty::Whole(_) | Ty::Integer => {
                matches!(kind, Kind::Int(_)) || matches!(kind, Kind::Float(x) if x.fract() == 0.0)
            }
            Ty::Number(_) => matches!(kind, Kind::Int(_) | Kind::Float(_)),
            Ty::Text | Ty::Path => matches!(kind, Kind::Str(..) | Kind::Int(_) | Kind::Float(_) | Kind::Bool(_)),
            Ty::Word(_) => matches!(kind, Kind::Str(..)),
            Ty::Sizes(_) => matches!(kind, Kind::Int(_) | Kind::Float(_) | Kind::List(_) | Kind::Tuple(_)),
            Ty::List(_) | Ty::Layers | Ty::Suppliers => matches!(kind, Kind::List(_) | Kind::Tuple(_)),
            Ty::Map(_) | Ty::Dict(_) => matches!(kind, Kind::Map(_)),
            Ty::AnyOf(all) => all.iter().any(|t| t.takes(kind)),
        }
    }
}

/// Checks an evaluated value of which nothing else is read: every key, type and range.
///
/// # Errors
/// `wrong-type`, `invalid-value`, `unknown-value`, `unknown-key`, `missing-key`; all of them are reported.
pub(crate) fn check(cx: &mut Cx<'_>, value: &Value, ty: &'static Ty, what: &str) -> Result<(), Reported> {
    match ty {
        Ty::Any => Ok(()),
        Ty::Null if value.is_null() => Ok(()),
        Ty::Null => Err(cx.fail(wrong_type(value, what, "nothing"))),
        Ty::Bool => convert::boolean(cx, value, what).map(drop),
        Ty::Whole(min) => convert::whole(cx, value, what, *min).map(drop),
        Ty::Integer => convert::integer(cx, value, what).map(drop),
        Ty::Number(range) => convert::number_in(cx, value, what, *range).map(drop),
        Ty::Text => convert::text(cx, value, what).map(drop),
        Ty::Path => convert::path(cx, value, what).map(drop),
        Ty::Word(words) => convert::word(cx, value, what, words).map(drop),
        Ty::Sizes(max) => convert::sizes(cx, value, what, *max).map(drop),
        // Their entries are read elsewhere.
        Ty::Layers | Ty::Suppliers => convert::list(cx, value, what, &ty.describe()).map(drop),
        Ty::List(item) => {
            let items = convert::list(cx, value, what, "a list")?;
            let all: Vec<_> = items.iter().map(|v| check(cx, v, item, &format!("an item of {what}"))).collect();
            all.into_iter().collect()
        }
        Ty::Map(keys) => {
            let before = cx.sink.error_count();
            let fields = Fields::open(cx, value, what, keys)?;
            for key in keys.iter().filter(|k| k.unbuilt.is_none()) {
                if key.required {
                    let example = format!("{}: …", key.name);
                    let Ok(_) = fields.need(cx, key.name, &example) else { continue };
                }
                if let Some(v) = fields.get(key.name) {
                    // Reported; the other keys are still of interest.
                    let _ = check(cx, v, &key.ty, &fields.what(key.name));
                }
            }
            cx.sink.check_since(before)
        }
        Ty::Dict(item) => {
            let Some(entries) = value.as_map() else {
                return Err(cx.fail(wrong_type(value, what, &ty.describe())));
            };
            let name = |v: &Value| v.as_str().unwrap_or("?").to_owned();
            let all: Vec<_> =
                entries.iter().map(|e| check(cx, &e.value, item, &format!("`{}` of {what}", name(&e.key)))).collect();
            all.into_iter().collect()
        }
        Ty::AnyOf(all) => {
            // The first form of this kind decides what else is wrong with it.
            let mut fitting = all.iter().filter(|t| t.takes(&value.kind));
            let (first, more) = (fitting.next(), fitting.next());
            match (first, more) {
                (None, _) => Err(cx.fail(wrong_type(value, what, &ty.describe()))),
                (Some(one), None) => check(cx, value, one, what),
                // Words beside text, numbers beside text: text takes all.
                (Some(_), Some(_)) if all.iter().any(|t| matches!(t, Ty::Text | Ty::Path | Ty::Any)) => {
                    if value.as_str().is_some_and(str::is_empty) {
                        return Err(cx.fail(out_of_range(value, what, &ty.describe())));
                    }
                    Ok(())
                }
                (Some(one), Some(_)) => check(cx, value, one, what),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_and_describe() {
        assert!(Range::FRACTION.contains(0.0) && !Range::FRACTION.contains(1.0));
        assert!(!Range::POSITIVE.contains(0.0) && Range::NOT_NEGATIVE.contains(0.0));
        assert_eq!(Range::FRACTION.describe(), "a number from 0 up to, but not including, 1");
        assert_eq!(Range::POSITIVE.describe(), "a number greater than 0");
    }
}
