//! The evaluated Kurfile as YAML text: no templates, no aliases, loops unrolled. Reading it back gives the same model
//! (but for the names of loops, which are gone).

use std::collections::BTreeMap;

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

/// The model entries that give the nodes again, with the same names.
pub(super) fn entries(nodes: &[Node]) -> Vec<Value> {
    let mut writer = Writer::default();
    writer.collect(nodes);
    nodes.iter().map(|n| writer.entry(n)).collect()
}

#[derive(Default)]
struct Writer {
    /// The first name of a node by each of its names: the others were given by operators that are gone.
    first: BTreeMap<String, String>,
    /// How many automatic names of each type a reader has given so far.
    counters: BTreeMap<&'static str, u64>,
}

impl Writer {
    fn collect(&mut self, nodes: &[Node]) {
        for node in nodes {
            let Some(first) = node.names.first() else { continue };
            for name in &node.names {
                self.first.insert(name.value.clone(), first.value.clone());
            }
            self.collect(&node.children);
        }
    }

    fn entry(&mut self, node: &Node) -> Value {
        let at = node.span;
        let flag = |b: bool| Value::new(Kind::Bool(b), at);
        let short = matches!(node.word, "input" | "output") && node.argument.as_str().is_some();
        let argument = match (node.names.first(), &node.kind) {
            (Some(name), _) if short => Value::text(&name.value, at),
            // Its only argument is the name.
            _ if node.word == "output" => Value::new(Kind::Null, at),
            (_, NodeKind::Layer(LayerKind::Reuse { target, .. })) => Value::text(&target.value, at),
            (_, NodeKind::Layer(LayerKind::Parallel { .. })) => {
                let apply = node.children.iter().map(|n| self.entry(n)).collect();
                let apply = Value::new(Kind::List(apply), at);
                Value::new(Kind::Map(vec![Entry { key: Value::text("apply", at), value: apply }]), at)
            }
            _ => node.argument.clone(),
        };
        let mut map = vec![Entry { key: Value::text(node.word, at), value: argument }];
        let mut add = |key: &str, value: Value| map.push(Entry { key: Value::text(key, at), value });
        if let Some(name) = node.names.first().filter(|_| !short)
            && !self.automatic(node.word, &name.value)
        {
            add("name", Value::text(&name.value, at));
        }
        if let Some(inputs) = &node.inputs {
            let names = inputs.value.iter().map(|n| Value::text(self.first.get(&n.value).unwrap_or(&n.value), at));
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

    /// Whether a reader gives the entry this name when it has none: layers that got a name from a loop, and layers
    /// that were left out, do not count any more.
    fn automatic(&mut self, word: &'static str, name: &str) -> bool {
        let counter = self.counters.entry(word).or_default();
        let same = name == format!("..{word}.{counter}");
        *counter += u64::from(same);
        same
    }
}
