//! The sections beside the model: training and losses (kur-reference 5 and 7).

use kur_runtime::spec::{SectionSpec, TrainWeights};

use super::{LayerId, Optimizer, Spanned};
use crate::diag::Span;

/// The `train` section.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSection {
    /// Span of the section's key.
    pub span: Span,
    /// Data and provider.
    pub section: SectionSpec,
    /// Epochs; `None` means until interrupted.
    pub epochs: Option<u64>,
    /// Weights to load and save.
    pub weights: TrainWeights,
    /// The optimizer; adam by default.
    pub optimizer: Optimizer,
}

/// An entry of the `loss` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The output it trains: index into [`super::Kurfile::outputs`].
    pub output: usize,
    /// Which loss.
    pub kind: LossKind,
    /// Multiplier, 1 by default.
    pub weight: f64,
    /// Parameters of [`LossKind::Ctc`].
    pub ctc: Option<CtcLoss>,
    /// Span of the entry.
    pub span: Span,
}

/// Parameters of CTC (kur-reference 5.2).
#[derive(Clone, Debug, PartialEq)]
pub struct CtcLoss {
    /// Data with the number of frames of each sample.
    pub input_length: Spanned<String>,
    /// Data with the number of labels of each sample.
    pub output_length: Spanned<String>,
    /// Data with the labels, padded.
    pub labels: Spanned<String>,
    /// The layer whose output `input_length` measures; that of the loss when absent.
    pub relative_to: Option<Spanned<LayerId>>,
    /// Variant `warp`: the blank is class 0, and the softmax belongs to the loss.
    pub warp: bool,
    /// Variant `loss_scale`: times the mean number of frames over 100.
    pub loss_scale: bool,
}

/// Losses (kur-reference 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Mean over all elements of (prediction − truth)².
    MeanSquaredError,
    /// −Σ t·ln p over the last axis, mean over the rest.
    CategoricalCrossentropy,
    /// Connectionist temporal classification (5.2).
    Ctc,
}

impl LossKind {
    /// The Kurfile word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            LossKind::MeanSquaredError => "mean_squared_error",
            LossKind::CategoricalCrossentropy => "categorical_crossentropy",
            LossKind::Ctc => "ctc",
        }
    }
}
