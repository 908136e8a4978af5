//! What training data taught: class names, normalisation statistics, column names. Plain data, stored as JSON in the
//! metadata of weight files and applied to every later data set.

use serde::{Deserialize, Serialize};

use super::Role;
use crate::spec::Missing;

/// Everything learned from training data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Column names of the (first) training file, in file order; empty when there was none.
    pub header: Vec<String>,
    /// One entry per source.
    pub sources: Vec<LearnedSource>,
}

impl Learned {
    /// What is known of a source.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&LearnedSource> {
        self.sources.iter().find(|s| s.name == name)
    }

    /// Class names of an output whose targets are classes.
    #[must_use]
    pub fn classes(&self, output: &str) -> Option<&[String]> {
        self.source(output).filter(|s| s.role() == Role::Target).and_then(LearnedSource::classes)
    }
}

/// One source: a concatenation of encoded columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedSource {
    /// Name of the input or output.
    pub name: String,
    /// Whether it is a target.
    pub target: bool,
    /// Whether it came from CSV columns; IDX files and arrays have none.
    pub columns_of_csv: bool,
    /// The columns in order.
    pub columns: Vec<LearnedColumn>,
}

impl LearnedSource {
    /// Input or target.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.target { Role::Target } else { Role::Input }
    }

    /// Per-sample shape: one element per number, one per class of a one-hot column.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        vec![self.columns.iter().map(|c| c.encoding.width() as u64).sum()]
    }

    /// The class names of a class target: a target made of exactly one one-hot column.
    #[must_use]
    pub fn classes(&self) -> Option<&[String]> {
        match self.columns.as_slice() {
            [LearnedColumn { encoding: Encoding::Classes { names }, .. }] if self.target => Some(names),
            _ => None,
        }
    }

    /// Whether any column is scaled, so that values have to be scaled back for people.
    #[must_use]
    pub fn is_scaled(&self) -> bool {
        self.columns.iter().any(|c| c.encoding.is_scaled())
    }
}

/// One column of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedColumn {
    /// Header name.
    pub name: String,
    /// How its cells become numbers.
    pub encoding: Encoding,
    /// What an empty cell means.
    pub missing: Missing,
}

/// How cells become numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Encoding {
    /// `(cell − subtract) / divide`, in f64, then rounded to f32.
    Number {
        /// Training mean or minimum; 0 without normalisation.
        subtract: f64,
        /// Training standard deviation or range; 1 without normalisation and for constant columns.
        divide: f64,
        /// Training mean, for `missing: mean`.
        mean: f64,
    },
    /// One-hot over these names.
    Classes {
        /// Sorted: by value when all are integers, else as text.
        names: Vec<String>,
    },
}

impl Encoding {
    /// Elements that a cell becomes.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Encoding::Number { .. } => 1,
            Encoding::Classes { names } => names.len(),
        }
    }

    /// Whether values are scaled.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "0 and 1 are exactly what an unscaled column stores")]
    pub fn is_scaled(&self) -> bool {
        matches!(self, Encoding::Number { subtract, divide, .. } if *subtract != 0.0 || *divide != 1.0)
    }

    /// The value in the column's own units.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "predictions are f32")]
    pub fn unscale(&self, value: f32) -> f32 {
        match self {
            Encoding::Number { subtract, divide, .. } if self.is_scaled() => {
                (f64::from(value) * divide + subtract) as f32
            }
            _ => value,
        }
    }
}
