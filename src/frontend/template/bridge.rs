//! Between the value tree and the template engine's values.
//!
//! Into the engine everything keeps its kind, except that a set becomes a list and a complex number its text. Out of
//! it comes text only, as Python's `str()` prints it.

use minijinja::Value as Jinja;
use minijinja::value::{Tuple, ValueKind};

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

/// Python's `str()` of an engine value.
pub(super) fn str_of(value: &Jinja) -> String {
    match value.as_str() {
        Some(s) => s.to_owned(),
        None => python::str_of(&from_jinja(value)),
    }
}

/// The value tree of an engine value; only the printing uses it, so places do not matter.
pub(super) fn from_jinja(value: &Jinja) -> Value {
    let items = || value.try_iter().map(|it| it.map(|v| from_jinja(&v)).collect::<Vec<_>>()).unwrap_or_default();
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
        ValueKind::Seq if value.is_tuple() => Kind::Tuple(items()),
        ValueKind::Seq | ValueKind::Iterable => Kind::List(items()),
        ValueKind::Map => {
            let keys = value.try_iter().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
            let entry = |k: Jinja| Entry {
                value: value.get_item(&k).map_or_else(|_| from_jinja(&Jinja::from(())), |v| from_jinja(&v)),
                key: from_jinja(&k),
            };
            Kind::Map(keys.into_iter().map(entry).collect())
        }
        _ => text(&value.to_string()),
    };
    Value::new(kind, Span::new(FileId(0), 0, 0))
}
