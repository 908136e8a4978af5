//! The evaluated Kurfile as YAML text: no templates, no aliases, loops unrolled. Reading it back gives the same model
//! (but for the automatic names of loops, which are gone).

use serde_yaml::{Mapping, Number, Value as Yaml};

use crate::frontend::Value;
use crate::frontend::python;
use crate::frontend::value::{Entry, Kind};
use crate::frontend::yaml::scalar;

use super::containers::{Node, NodeKind};
use super::types::LayerKind;

/// Prints the sections in their order.
pub(super) fn print(sections: &[(&str, &Value)]) -> String {
    let mut printer = Printer { quoted: Vec::new() };
    let mut map = Mapping::new();
    for (name, value) in sections {
        map.insert(Yaml::from(*name), printer.yaml(value));
    }
    // Only values that are no YAML can fail to print, and there are none here.
    let mut text = serde_yaml::to_string(&Yaml::Mapping(map)).unwrap_or_default();
    for (i, original) in printer.quoted.iter().enumerate() {
        text = text.replacen(&placeholder(i), &format!("'{}'", original.replace('\'', "''")), 1);
    }
    text
}

/// Prints YAML 1.2, in which `yes` and `010` are text. Text that our YAML 1.1 reader would not take as text is printed
/// as a placeholder first and then replaced by the quoted text.
struct Printer {
    quoted: Vec<String>,
}

fn placeholder(i: usize) -> String {
    format!("\u{ab}kurc-quoted-{i}\u{bb}")
}

impl Printer {
    fn yaml(&mut self, value: &Value) -> Yaml {
        match &value.kind {
            Kind::Null => Yaml::Null,
            Kind::Bool(b) => Yaml::Bool(*b),
            Kind::Int(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => Yaml::Number(Number::from(n)),
                (_, Ok(n)) => Yaml::Number(Number::from(n)),
                _ => self.text(&n.to_string()),
            },
            Kind::Float(x) => Yaml::Number(Number::from(*x)),
            Kind::Str(s, _) => self.text(s),
            Kind::Complex(..) | Kind::Bytes(_) => self.text(&python::repr(value)),
            Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => Yaml::Sequence(v.iter().map(|v| self.yaml(v)).collect()),
            Kind::Map(m) => Yaml::Mapping(m.iter().map(|e| (self.yaml(&e.key), self.yaml(&e.value))).collect()),
        }
    }

    fn text(&mut self, text: &str) -> Yaml {
        if matches!(scalar::resolve(text), Kind::Str(..)) && text != "<<" {
            return Yaml::from(text);
        }
        self.quoted.push(text.to_owned());
        Yaml::from(placeholder(self.quoted.len() - 1))
    }
}

/// The model entry that gives a node again.
pub(super) fn entry(node: &Node) -> Value {
    let at = node.span;
    let flag = |b: bool| Value::new(Kind::Bool(b), at);
    let short = matches!(node.word, "input" | "output") && node.argument.as_str().is_some();
    let argument = match (node.names.first(), &node.kind) {
        (Some(name), _) if short => Value::text(&name.value, at),
        (_, NodeKind::Layer(LayerKind::Reuse { target, .. })) => Value::text(&target.value, at),
        (_, NodeKind::Layer(LayerKind::Parallel { .. })) => {
            let apply = Value::new(Kind::List(node.children.iter().map(entry).collect()), at);
            Value::new(Kind::Map(vec![Entry { key: Value::text("apply", at), value: apply }]), at)
        }
        _ => node.argument.clone(),
    };
    let mut map = vec![Entry { key: Value::text(node.word, at), value: argument }];
    let mut add = |key: &str, value: Value| map.push(Entry { key: Value::text(key, at), value });
    if let Some(name) = node.names.first().filter(|n| !n.value.starts_with("..") && !short) {
        add("name", Value::text(&name.value, at));
    }
    if let Some(inputs) = &node.inputs {
        let names = inputs.value.iter().map(|n| Value::text(&n.value, at));
        add("inputs", Value::new(Kind::List(names.collect()), at));
    }
    if node.sink && node.word != "output" {
        add("sink", flag(true));
    }
    if node.freeze {
        add("freeze", flag(true));
    }
    if matches!(node.kind, NodeKind::Pass) && node.word != "output" {
        add("when", flag(false));
    }
    Value::new(Kind::Map(map), at)
}
