//! Shape inference: typed Kurfile and the shapes that the data gives -> output shape and parameters of every layer.
//!
//! Every layer kind of the language is covered, built or not (kur-reference 3). Each layer is looked at once, in
//! order; a layer below one whose shape is not known, or that is faulty, gets no shape and no finding of its own.
//! Holds afterwards: where nothing was reported, lowering finds no two shapes that do not fit.

pub mod draw;

mod infer;
mod modern;
mod report;
mod rules;
mod table;
mod windows;

pub use infer::{Unseen, infer};
pub use rules::position;
pub use table::{parameters, table, table_json};
pub use windows::{reach, window};

use std::fmt;

/// A size of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// This many.
    Known(u64),
    /// Differs from batch to batch: `null` in the Kurfile.
    Variable,
    /// Not known before the data is seen.
    Unknown,
}

impl Size {
    /// The number, where it is known.
    #[must_use]
    pub fn known(self) -> Option<u64> {
        match self {
            Size::Known(n) => Some(n),
            Size::Variable | Size::Unknown => None,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Known(n) => write!(f, "{n}"),
            Size::Variable => f.write_str("null"),
            Size::Unknown => f.write_str("?"),
        }
    }
}

/// A shape without the batch as text: `[28, 28, 1]`, `[null, 3]`, or `?` for one that is not known at all.
#[must_use]
pub fn shape_text(shape: Option<&[Size]>) -> String {
    let Some(shape) = shape else { return "?".to_owned() };
    let sizes: Vec<String> = shape.iter().map(Size::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

/// What is known of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerShape {
    /// Output shape without the batch; `None` when it is not known.
    pub shape: Option<Vec<Size>>,
    /// Number of weights, frozen ones included; `None` when it is not known. A reused layer counts 0.
    pub params: Option<u64>,
    /// Number of running statistics.
    pub running: u64,
    /// The layers of a `parallel`.
    pub children: Vec<LayerShape>,
}

impl LayerShape {
    /// The sizes, where all of them are known.
    #[must_use]
    pub fn sizes(&self) -> Option<Vec<u64>> {
        self.shape.as_ref()?.iter().map(|s| s.known()).collect()
    }
}

/// Shapes of a model, one row for each of its layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shapes {
    /// As [`crate::model::types::Kurfile::layers`].
    pub layers: Vec<LayerShape>,
}

impl Shapes {
    /// Whether every size of every layer is known, or known to vary.
    #[must_use]
    pub fn all_known(&self) -> bool {
        let known = |s: &Vec<Size>| s.iter().all(|s| *s != Size::Unknown);
        self.layers.iter().all(|l| l.shape.as_ref().is_some_and(known))
    }

    /// All weights; `None` when those of some layer are not known.
    #[must_use]
    pub fn params(&self) -> Option<u64> {
        self.layers.iter().try_fold(0u64, |sum, l| Some(sum.saturating_add(l.params?)))
    }

    /// All running statistics.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.layers.iter().fold(0, |sum, l| sum.saturating_add(l.running))
    }
}
