//! Between the value tree and the template engine's values.
//!
//! Into the engine everything keeps its kind, except that a set becomes a list and a complex number its text. Out of
//! it comes text only, as Python's `str()` prints it.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value as Jinja};

use crate::diag::{FileId, Span};
use crate::frontend::python;
use crate::frontend::value::{Entry, Kind, Style, Value};

/// A value for the engine.
pub(super) fn to_jinja(value: &Value) -> Jinja {
    match &value.kind {
        Kind::Null => Jinja::from(()),
        Kind::Bool(b) => Jinja::from(*b),
        Kind::Int(n) => i64::try_from(*n).map_or_else(|_| Jinja::from(*n), Jinja::from),
        Kind::Float(x) => Jinja::from(*x),
        Kind::Complex(..) => Jinja::from(python::repr(value)),
        Kind::Str(s, _) => Jinja::from(s.as_ref()),
        Kind::Bytes(b) => Jinja::from_bytes(b.to_vec()),
        Kind::List(v) | Kind::Set(v) => Jinja::from(v.iter().map(to_jinja).collect::<Vec<_>>()),
        Kind::Tuple(v) => Jinja::from(Tuple::new(v.iter().map(to_jinja).collect())),
        Kind::Map(m) => Jinja::from_pairs(m.iter().map(|e| (to_jinja(&e.key), to_jinja(&e.value)))),
    }
}

/// Values that one conversion may give. So many print as more text than any scalar may have, and a list of the engine
/// may be a promise of millions.
const MAX_NODES: usize = 1 << 18;

/// How deep values may nest: conversions are recursive, and a value may contain itself.
const MAX_DEPTH: usize = 200;

/// Python's `str()` of an engine value. What is too large or too deep is cut, and more than a megabyte if too large.
pub(super) fn str_of(value: &Jinja) -> String {
    match value.as_str() {
        Some(s) => s.to_owned(),
        None => python::str_of(&from_jinja(value)),
    }
}

/// As [`str_of`], but what is too large or too deep is an error, and the budget of the render pays for it.
pub(super) fn checked_str(state: &State, value: &Jinja) -> Result<String, Error> {
    if let Some(s) = value.as_str() {
        return Ok(s.to_owned());
    }
    let mut limits = Limits { nodes: MAX_NODES, too_deep: false };
    let value = limits.convert(value, 0);
    state.consume_fuel((MAX_NODES - limits.nodes) as u64)?;
    if limits.too_deep {
        let text = format!("the value nests deeper than {MAX_DEPTH} levels, or contains itself");
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    if limits.nodes == 0 {
        return Err(Error::new(ErrorKind::OutOfFuel, "the value is too large"));
    }
    Ok(python::str_of(&value))
}

/// The value tree of an engine value; only the printing uses it, so places do not matter.
pub(super) fn from_jinja(value: &Jinja) -> Value {
    Limits { nodes: MAX_NODES, too_deep: false }.convert(value, 0)
}

/// What is left of the limits during a conversion.
struct Limits {
    nodes: usize,
    too_deep: bool,
}

impl Limits {
    fn items(&mut self, value: &Jinja, depth: usize) -> Vec<Value> {
        let mut out = Vec::new();
        for v in value.try_iter().into_iter().flatten() {
            if self.nodes == 0 {
                break;
            }
            out.push(self.convert(&v, depth + 1));
        }
        out
    }

    fn convert(&mut self, value: &Jinja, depth: usize) -> Value {
        self.nodes = self.nodes.saturating_sub(1);
        let text = |s: &str| Kind::Str(s.into(), Style::Computed);
        let kind = match value.kind() {
            ValueKind::None => Kind::Null,
            ValueKind::Undefined => text(""),
            ValueKind::Bool => Kind::Bool(value.is_true()),
            ValueKind::Number if value.is_integer() => {
                i128::try_from(value.clone()).map_or_else(|_| text(&value.to_string()), Kind::Int)
            }
            ValueKind::Number => f64::try_from(value.clone()).map_or_else(|_| text(&value.to_string()), Kind::Float),
            ValueKind::String => text(value.as_str().unwrap_or_default()),
            ValueKind::Bytes => Kind::Bytes(value.as_bytes().unwrap_or_default().into()),
            ValueKind::Seq | ValueKind::Iterable | ValueKind::Map if depth > MAX_DEPTH => {
                self.too_deep = true;
                text("...")
            }
            ValueKind::Seq if value.is_tuple() => Kind::Tuple(self.items(value, depth)),
            ValueKind::Seq | ValueKind::Iterable => Kind::List(self.items(value, depth)),
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter().into_iter().flatten() {
                    if self.nodes == 0 {
                        break;
                    }
                    let item = value.get_item(&key).unwrap_or_else(|_| Jinja::from(()));
                    entries.push(Entry { key: self.convert(&key, depth + 1), value: self.convert(&item, depth + 1) });
                }
                Kind::Map(entries)
            }
            _ => text(&value.to_string()),
        };
        Value::new(kind, Span::new(FileId(0), 0, 0))
    }
}
