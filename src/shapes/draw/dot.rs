//! The model in the DOT language of Graphviz.

use std::fmt::Write as _;

use super::{Card, MARK, boxes};
use crate::model::types::Kurfile;
use crate::shapes::Shapes;

/// The model as DOT text.
#[must_use]
pub fn dot(kurfile: &Kurfile, shapes: &Shapes) -> String {
    let boxes = boxes(kurfile, shapes);
    let mut out = format!("// {MARK}\ndigraph {} {{\n", quoted(&kurfile.name));
    out.push_str("  node [shape=box, fontname=monospace];\n");
    let ends: Vec<(String, String)> =
        boxes.iter().enumerate().map(|(i, b)| node(&mut out, b, &format!("n{i}"), 1)).collect();
    for (b, (to, _)) in boxes.iter().zip(&ends) {
        for (_, from) in b.from.iter().filter_map(|&j| ends.get(j)) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {from} -> {to};");
        }
    }
    out.push_str("}\n");
    out
}

/// Writes a node, or a cluster with its chain; gives the nodes that arrows lead to and start from.
fn node(out: &mut String, b: &Card, id: &str, depth: usize) -> (String, String) {
    let indent = "  ".repeat(depth);
    let mut style = String::new();
    if b.input {
        style.push_str(", style=rounded");
    }
    if b.output {
        style.push_str(", peripheries=2");
    }
    let label = quoted(&b.lines.join("\n"));
    if b.inside.is_empty() {
        let _ = writeln!(out, "{indent}{id} [label={label}{style}];");
        return (id.to_owned(), id.to_owned());
    }
    let _ = writeln!(out, "{indent}subgraph cluster_{id} {{\n{indent}  label={label}{};", style.replace(", ", "; "));
    let inside = b.inside.iter().enumerate();
    let ends: Vec<(String, String)> = inside.map(|(i, c)| node(out, c, &format!("{id}_{i}"), depth + 1)).collect();
    for pair in ends.windows(2) {
        if let [(_, from), (to, _)] = pair {
            let _ = writeln!(out, "{indent}  {from} -> {to};");
        }
    }
    let _ = writeln!(out, "{indent}}}");
    let first = ends.first().map_or(id, |e| e.0.as_str()).to_owned();
    let last = ends.last().map_or(id, |e| e.1.as_str()).to_owned();
    (first, last)
}

/// A string of DOT.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
