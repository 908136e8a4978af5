//! The evaluated Kurfile as YAML text: no templates, no aliases, loops unrolled. Reading it back gives the same model
//! (but for the automatic names of loops, which are gone).

use crate::diag::{FileId, Span};
use crate::frontend::value::{Entry, Kind};
use crate::frontend::{Value, print};

use super::containers::{Node, NodeKind};
use super::types::LayerKind;

/// The sections in their order as one mapping.
pub(super) fn root(sections: &[(&'static str, Value)]) -> Value {
    let at = sections.first().map_or(Span::new(FileId(0), 0, 0), |(_, v)| v.span);
    let entry = |(name, value): &(&'static str, Value)| Entry { key: Value::text(name, at), value: value.clone() };
    Value::new(Kind::Map(sections.iter().map(entry).collect()), at)
}

/// Prints the sections in their order.
pub(super) fn print(sections: &[(&'static str, Value)]) -> String {
    print::yaml(&root(sections))
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
    if let Some(r) = node.regularizer {
        let factor = |key: &str, x: f64| Entry { key: Value::text(key, at), value: Value::new(Kind::Float(x), at) };
        add("regularizer", Value::new(Kind::Map(vec![factor("l1", r.l1), factor("l2", r.l2)]), at));
    }
    if matches!(node.kind, NodeKind::Pass) && node.word != "output" {
        add("when", flag(false));
    }
    Value::new(Kind::Map(map), at)
}
