//! The layer table of `kurc check -v`: typed Kurfile and its shapes -> text, or one JSON object a line.

use std::fmt::Write as _;

use super::{LayerShape, Shapes, Size, shape_text};
use crate::diag::{SourceMap, count as counted};
use crate::model::types::{Kurfile, Layer, LayerKind};

/// A row: a layer, its shape, how deep inside `parallel` it stands, and the one it stands in.
type Row<'t> = (&'t Layer, &'t LayerShape, usize, Option<&'t str>);

/// All layers with those inside `parallel` behind it.
fn rows<'t>(kurfile: &'t Kurfile, shapes: &'t Shapes) -> Vec<Row<'t>> {
    let mut rows = Vec::new();
    let mut open: Vec<Row<'t>> = Vec::new();
    open.extend(kurfile.layers.iter().zip(&shapes.layers).rev().map(|(l, s)| (l, s, 0, None)));
    while let Some(row) = open.pop() {
        let (layer, shape, depth, _) = row;
        rows.push(row);
        let inside = chain(&layer.kind).iter().zip(&shape.children).rev();
        open.extend(inside.map(|(l, s)| (l, s, depth + 1, Some(layer.name.as_str()))));
    }
    rows
}

/// The layers of a `parallel`, used for the first time or again.
pub(super) fn chain(kind: &LayerKind) -> &[Layer] {
    match kind {
        LayerKind::Parallel { apply } => apply,
        LayerKind::Reuse { kind, .. } => match &**kind {
            LayerKind::Parallel { apply } => apply,
            _ => &[],
        },
        _ => &[],
    }
}

/// The type of a layer; a reused one names its original.
pub(super) fn type_text(kind: &LayerKind) -> String {
    match kind {
        LayerKind::Reuse { target, kind } => format!("{} of {}", kind.word(), target.value),
        kind => kind.word().to_owned(),
    }
}

fn count(n: Option<u64>) -> String {
    n.map_or("?".to_owned(), |n| n.to_string())
}

/// `? parameters` where a shape is not known.
#[must_use]
pub fn parameters(n: Option<u64>) -> String {
    match n {
        Some(1) => "1 parameter".to_owned(),
        n => format!("{} parameters", count(n)),
    }
}

/// A name on one line: characters without a look of their own are escaped.
fn shown(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The table as text: a line a layer, then the totals.
#[must_use]
pub fn table(kurfile: &Kurfile, shapes: &Shapes) -> String {
    let mut cells = vec![["layer", "type", "output", "parameters"].map(str::to_owned)];
    for (layer, row, depth, _) in rows(kurfile, shapes) {
        let name = format!("{}{}", "  ".repeat(depth), shown(&layer.name));
        cells.push([name, type_text(&layer.kind), shape_text(row.shape.as_deref()), count(row.params)]);
    }
    let width = |column: usize| cells.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let [a, b, c, d] = [0, 1, 2, 3].map(width);
    let mut out = String::new();
    for [name, kind, shape, params] in &cells {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:a$}  {kind:b$}  {shape:c$}  {params:>d$}");
    }
    let _ = write!(out, "{}, {}", counted(kurfile.layers.len(), "layer"), parameters(shapes.params()));
    match shapes.running() {
        0 => out.push('\n'),
        n => {
            let _ = writeln!(out, ", {n} running {}", if n == 1 { "statistic" } else { "statistics" });
        }
    }
    out
}

/// The table as one JSON object a line: sizes are numbers, null where they vary, `"?"` where they are not known.
#[must_use]
pub fn table_json(kurfile: &Kurfile, shapes: &Shapes, sources: &SourceMap) -> String {
    let mut out = String::new();
    let unknown = || serde_json::Value::from("?");
    for (layer, row, _, parent) in rows(kurfile, shapes) {
        let size = |s: &Size| match s {
            Size::Known(n) => (*n).into(),
            Size::Variable => serde_json::Value::Null,
            Size::Unknown => unknown(),
        };
        let object = serde_json::json!({
            "name": layer.name,
            "type": layer.kind.word(),
            "shape": row.shape.as_ref().map_or_else(unknown, |s| s.iter().map(size).collect()),
            "params": row.params.map_or_else(unknown, Into::into),
            "running": row.running,
            "in": parent,
            "line": sources.line(layer.span),
        });
        let _ = writeln!(out, "{object}");
    }
    out
}
