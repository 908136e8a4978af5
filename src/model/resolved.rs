//! The evaluated Kurfile as YAML text: no templates, no aliases, loops unrolled. Reading it back gives the same model.

use serde_yaml::{Mapping, Number, Value as Yaml};

use crate::frontend::Value;
use crate::frontend::python;
use crate::frontend::value::Kind;

/// Prints the sections in their order.
pub(super) fn print(sections: &[(&str, &Value)]) -> String {
    let mut map = Mapping::new();
    for (name, value) in sections {
        map.insert(Yaml::from(*name), yaml(value));
    }
    // Only maps with broken keys can fail to print, and all keys here are plain.
    serde_yaml::to_string(&Yaml::Mapping(map)).unwrap_or_default()
}

fn yaml(value: &Value) -> Yaml {
    match &value.kind {
        Kind::Null => Yaml::Null,
        Kind::Bool(b) => Yaml::Bool(*b),
        Kind::Int(n) => match (i64::try_from(*n), u64::try_from(*n)) {
            (Ok(n), _) => Yaml::Number(Number::from(n)),
            (_, Ok(n)) => Yaml::Number(Number::from(n)),
            _ => Yaml::from(n.to_string()),
        },
        Kind::Float(x) => Yaml::Number(Number::from(*x)),
        Kind::Str(s, _) => Yaml::from(s.as_ref()),
        Kind::Complex(..) | Kind::Bytes(_) => Yaml::from(python::repr(value)),
        Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => Yaml::Sequence(v.iter().map(yaml).collect()),
        Kind::Map(m) => Yaml::Mapping(m.iter().map(|e| (yaml(&e.key), yaml(&e.value))).collect()),
    }
}
