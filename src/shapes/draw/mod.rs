//! Drawings of a model: typed Kurfile and its shapes -> boxes and arrows, as DOT or SVG text. A `parallel` is a box
//! around its layers. Nothing here iterates an unordered map: one model gives one text.

mod dot;
mod layout;
mod svg;

pub use dot::dot;
pub use svg::svg;

use super::table::{chain, parameters, type_text};
use super::{LayerShape, Shapes, shape_text};
use crate::model::types::{Kurfile, Layer, LayerKind};

/// What the head of every drawing holds, so that a drawing may be told from a file of the user.
pub const MARK: &str = "drawn by kurc graph";

/// A layer as it is drawn.
struct Card {
    /// Name, type with shape, parameters.
    lines: Vec<String>,
    /// Whether it is a model input.
    input: bool,
    /// Whether it is a model output.
    output: bool,
    /// Layers it reads.
    from: Vec<usize>,
    /// The layers of a `parallel`, each reading the one before.
    inside: Vec<Card>,
}

/// The boxes of a model, in the order of its layers.
fn boxes(kurfile: &Kurfile, shapes: &Shapes) -> Vec<Card> {
    let mut boxes: Vec<Card> =
        kurfile.layers.iter().zip(&shapes.layers).map(|(layer, shape)| one(layer, shape)).collect();
    for output in &kurfile.outputs {
        let index = output.layer.0 as usize;
        let Some(b) = boxes.get_mut(index) else { continue };
        b.output = true;
        let own = kurfile.layers.get(index).map_or("", |l| l.name.as_str());
        // An output that is called like its layer needs no second line.
        b.lines.push(if output.name == own { "output".to_owned() } else { format!("output {}", output.name) });
    }
    boxes
}

fn one(layer: &Layer, row: &LayerShape) -> Card {
    let mut lines =
        vec![layer.name.clone(), format!("{} {}", type_text(&layer.kind), shape_text(row.shape.as_deref()))];
    match row.params {
        Some(0) => {}
        n => lines.push(parameters(n)),
    }
    Card {
        lines,
        input: matches!(layer.kind, LayerKind::Input { .. }),
        output: false,
        from: layer.inputs.iter().map(|l| l.0 as usize).collect(),
        inside: chain(&layer.kind).iter().zip(&row.children).map(|(l, s)| one(l, s)).collect(),
    }
}
