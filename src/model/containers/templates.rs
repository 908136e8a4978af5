//! Templates (kur-reference 4.1): lists of containers under a name, used like a layer type.

use std::collections::BTreeMap;

use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::cx::Cx;
use crate::model::report::keys::builtin_template;
use crate::model::report::values::wrong_type;

/// How deep templates may use each other.
pub(super) const MAX_DEPTH: usize = 50;

/// The `templates` section: bodies are kept as they are written and evaluated at each use.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    bodies: BTreeMap<String, Vec<Value>>,
}

impl Templates {
    /// Reads the section. A single container stands for a list of one.
    pub(crate) fn read(cx: &mut Cx<'_>, value: &Value) -> Templates {
        let mut bodies = BTreeMap::new();
        let entries = match &value.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Null => &[],
            _ => {
                cx.push(wrong_type(value, "`templates`", "a mapping (`NAME:` with a list of layers below)"));
                &[]
            }
        };
        for e in entries {
            let Some(name) = e.key.as_str() else {
                cx.push(wrong_type(&e.key, "the name of a template", "text"));
                continue;
            };
            if let Some(word) = super::words().find(|w| w.eq_ignore_ascii_case(name)) {
                cx.push(builtin_template(&e.key, word));
                continue;
            }
            let body = match &e.value.kind {
                Kind::List(items) | Kind::Tuple(items) => items.clone(),
                Kind::Null => Vec::new(),
                Kind::Map(_) | Kind::Str(..) => vec![e.value.clone()],
                _ => {
                    cx.push(wrong_type(&e.value, &format!("the template `{name}`"), "a list of layers"));
                    Vec::new()
                }
            };
            bodies.insert(name.to_owned(), body);
        }
        Templates { bodies }
    }

    /// Whether there is such a template.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.bodies.contains_key(name)
    }

    /// All names, sorted.
    pub(super) fn names(&self) -> Vec<&str> {
        self.bodies.keys().map(String::as_str).collect()
    }

    /// The body of a template.
    pub(super) fn body(&self, name: &str) -> &[Value] {
        self.bodies.get(name).map_or(&[], Vec::as_slice)
    }
}
