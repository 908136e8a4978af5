//! The typed Kurfile: what the front end hands to `lower`. Every value that an error may speak of keeps its [`Span`].
//! No tensors here.

use kur_runtime::spec::{SectionSpec, TrainWeights};

use crate::diag::Span;

/// A value with its place in the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// Index of a layer in [`Kurfile::layers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub u32);

/// A whole evaluated Kurfile (kur-reference 1–7).
#[derive(Clone, Debug, PartialEq)]
pub struct Kurfile {
    /// Stem of the file name.
    pub name: String,
    /// `settings.seed`.
    pub seed: Option<u64>,
    /// `settings.compat: kur`.
    pub compat_kur: bool,
    /// Layers in topological order; every input of a layer precedes it.
    pub layers: Vec<Layer>,
    /// Outputs in model order (kur-reference 2.4.4).
    pub outputs: Vec<ModelOutput>,
    /// The `loss` section; empty when absent.
    pub losses: Vec<Loss>,
    /// Span of the `loss` key, when there is one.
    pub loss_span: Option<Span>,
    /// `train`, with its optimizer.
    pub train: Option<TrainSection>,
    /// `validate`.
    pub validate: Option<Spanned<SectionSpec>>,
    /// `validate.weights` (best).
    pub validate_best: Option<String>,
    /// `test`.
    pub test: Option<Spanned<SectionSpec>>,
    /// `test.weights`.
    pub test_weights: Option<String>,
    /// `evaluate`.
    pub evaluate: Option<Spanned<SectionSpec>>,
    /// `evaluate.weights`.
    pub evaluate_weights: Option<String>,
    /// `evaluate.destination`.
    pub destination: Option<String>,
    /// The evaluated sections as YAML text, for the payload and `--emit=value`.
    pub resolved: String,
}

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

/// A layer after loops, templates and operators are gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Primary name, explicit or automatic (`..dense.0`). An explicit name of an enclosing `for` is the primary name
    /// of its last layer; an input always keeps its own, which is that of its data (kur-reference 2.4). Unique.
    pub name: String,
    /// Span of the entry's type key and argument.
    pub span: Span,
    /// Layers it reads.
    pub inputs: Vec<LayerId>,
    /// Its type and arguments.
    pub kind: LayerKind,
    /// Whether its weights are frozen.
    pub freeze: bool,
}

/// Layer types of the subset (kur-reference 3). Defaults are applied already; ranges are not checked against shapes.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerKind {
    /// `input`: the shape without the batch, when the Kurfile gives one (`None` entries are variable).
    Input {
        /// Without the batch.
        shape: Option<Spanned<Vec<Option<u64>>>>,
    },
    /// `dense`: successive affine layers over the last axis.
    Dense {
        /// Output sizes of the successive affine layers; at least one, each at least 1.
        sizes: Vec<Spanned<u64>>,
        /// Flatten the input first.
        flatten: bool,
    },
    /// `activation`.
    Activation(Activation),
    /// `dropout`: the fraction to drop, in [0, 1).
    Dropout {
        /// The fraction.
        fraction: f64,
    },
    /// `flatten`.
    Flatten,
    /// `expand` by a dimension of size 1; negative counts from the end of the result.
    Expand {
        /// Where the new dimension goes.
        dimension: i64,
    },
    /// `squeeze` a dimension of size 1; negative counts from the end.
    Squeeze {
        /// Which dimension goes away.
        dimension: i64,
    },
    /// `convolution`.
    Convolution {
        /// Output channels.
        kernels: u64,
        /// Window, one to three entries.
        size: Spanned<Vec<u64>>,
        /// Strides, as many as `size` has.
        strides: Vec<u64>,
        /// Border handling.
        border: Border,
    },
    /// `pool`.
    Pool {
        /// Maximum or average.
        kind: PoolKind,
        /// Window, one to three entries.
        size: Spanned<Vec<u64>>,
        /// Strides, as many as `size` has.
        strides: Vec<u64>,
        /// Border handling.
        border: Border,
    },
    /// `batch_normalization`; the axis counts the batch as 0, negative from the end.
    BatchNormalization {
        /// The axis that keeps its own statistics.
        axis: i64,
        /// Weight of the old running statistics in an update, in [0, 1).
        momentum: f64,
    },
    /// `output`: the identity.
    Output,
}

impl LayerKind {
    /// The Kurfile word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            LayerKind::Input { .. } => "input",
            LayerKind::Dense { .. } => "dense",
            LayerKind::Activation(_) => "activation",
            LayerKind::Dropout { .. } => "dropout",
            LayerKind::Flatten => "flatten",
            LayerKind::Expand { .. } => "expand",
            LayerKind::Squeeze { .. } => "squeeze",
            LayerKind::Convolution { .. } => "convolution",
            LayerKind::Pool { .. } => "pool",
            LayerKind::BatchNormalization { .. } => "batch_normalization",
            LayerKind::Output => "output",
        }
    }
}

/// Activations of kur-reference 3.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Identity (`none`, null or `linear`).
    Linear,
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// clip(0.2·x + 0.5, 0, 1).
    HardSigmoid,
    /// x > 0 ? x : eˣ − 1.
    Elu,
    /// Scaled elu.
    Selu,
    /// ln(1 + eˣ).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// Softmax over the last axis.
    Softmax,
}

/// Border handling of convolution and pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Border {
    /// Zero padding so that the output has ⌈n / stride⌉ cells.
    Same,
    /// No padding.
    Valid,
}

/// Kind of pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Maximum.
    Max,
    /// Mean of the real cells.
    Average,
}

/// A model output.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOutput {
    /// Primary name.
    pub name: String,
    /// Every other name of the value.
    pub aliases: Vec<String>,
    /// The layer that computes it (never a `LayerKind::Output`: those are resolved away).
    pub layer: LayerId,
    /// Where the output is declared.
    pub span: Span,
}

/// An entry of the `loss` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The output it trains: index into [`Kurfile::outputs`].
    pub output: usize,
    /// Which loss.
    pub kind: LossKind,
    /// Multiplier, 1 by default.
    pub weight: f64,
    /// Span of the entry.
    pub span: Span,
}

/// Losses (kur-reference 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Mean over all elements of (prediction − truth)².
    MeanSquaredError,
    /// −Σ t·ln p over the last axis, mean over the rest.
    CategoricalCrossentropy,
}

impl LossKind {
    /// The Kurfile word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            LossKind::MeanSquaredError => "mean_squared_error",
            LossKind::CategoricalCrossentropy => "categorical_crossentropy",
        }
    }
}

/// Optimizers with Keras' formulas (kur-reference 5.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// Which rule.
    pub kind: OptimizerKind,
    /// Learning rate.
    pub learning_rate: f64,
    /// lr / (1 + decay · updates done).
    pub decay: f64,
    /// Gradient clipping.
    pub clip: Clip,
}

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerKind {
    /// v = μv − lr·g; p += v, or with Nesterov p += μv − lr·g.
    Sgd {
        /// μ, at least 0.
        momentum: f64,
        /// Whether to use Nesterov's form.
        nesterov: bool,
    },
    /// Adam with β 0.9 and 0.999, ε 1e-8.
    Adam,
}

/// Gradient clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// None.
    None,
    /// Scale all gradients so that their global L2 norm is at most this.
    Norm(f64),
    /// Clamp each element to ± this.
    Abs(f64),
}

/// A shape given to an input by the data, for [`crate::lower`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataShape {
    /// Name of the model input or target.
    pub name: String,
    /// Shape without the batch.
    pub shape: Vec<u64>,
    /// Where it was learned from, for messages: `iris-train.csv`.
    pub source: String,
    /// Whether only the number of elements counts, since columns have no shape of their own.
    pub reshapes: bool,
}

/// Data sections only, for the look at the data before the model is lowered.
#[must_use]
pub fn data_sections(k: &Kurfile) -> Vec<(&'static str, &SectionSpec)> {
    let mut v = Vec::new();
    if let Some(t) = &k.train {
        v.push(("train", &t.section));
    }
    for (name, s) in [("validate", &k.validate), ("test", &k.test), ("evaluate", &k.evaluate)] {
        if let Some(s) = s {
            v.push((name, &s.value));
        }
    }
    v
}
