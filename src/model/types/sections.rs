//! The sections beside the model: training and losses (kur-reference 5 and 7).

use kur_runtime::spec::{MetricSpec, SectionSpec, TrainWeights};

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
    /// `delta` of `huber`: the distance from which the loss grows along a line.
    pub delta: f64,
    /// Share of the truth that is spread over all classes, in [0, 1).
    pub label_smoothing: f64,
    /// Weight of each class; empty weighs all alike.
    pub class_weights: Vec<f64>,
    /// What tests and validation measure beside the loss.
    pub metrics: Vec<MetricSpec>,
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

/// Losses (kur-reference 5.1). Where samples differ in length, each mean is one over the samples of those over each one's
/// own places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Mean over all elements of (prediction − truth)².
    MeanSquaredError,
    /// −Σ t·ln p over the last axis, mean over the rest.
    CategoricalCrossentropy,
    /// −(t·ln p + (1−t)·ln(1−p)), mean over all elements.
    BinaryCrossentropy,
    /// Mean over all elements of |prediction − truth|.
    MeanAbsoluteError,
    /// Mean over all elements of ½d² where |d| ≤ δ, else δ(|d| − ½δ) (Huber 1964).
    Huber,
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
            LossKind::BinaryCrossentropy => "binary_crossentropy",
            LossKind::MeanAbsoluteError => "mean_absolute_error",
            LossKind::Huber => "huber",
            LossKind::Ctc => "ctc",
        }
    }

    /// Whether truth and prediction are numbers, whose distance counts.
    #[must_use]
    pub fn is_regression(self) -> bool {
        matches!(self, LossKind::MeanSquaredError | LossKind::MeanAbsoluteError | LossKind::Huber)
    }

    /// Whether predictions are shares of classes.
    #[must_use]
    pub fn is_crossentropy(self) -> bool {
        matches!(self, LossKind::CategoricalCrossentropy | LossKind::BinaryCrossentropy)
    }
}
