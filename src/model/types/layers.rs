//! Layers of the typed Kurfile (kur-reference 3).

use std::sync::Arc;

use super::{LayerId, Spanned};
use crate::diag::Span;
use crate::frontend::value::Origin;

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
    /// Penalty on its weights.
    pub regularizer: Option<Regularizer>,
    /// Through which templates, includes and aliases the entry came, for messages.
    pub via: Option<Arc<Origin>>,
}

/// Layer types (kur-reference 3). Defaults are applied already; ranges are not checked against shapes.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerKind {
    /// `input`: the shape without the batch, when the Kurfile gives one (`None` entries are variable).
    Input {
        /// Without the batch.
        shape: Option<Spanned<Vec<Option<u64>>>>,
        /// `type`, when it is given.
        dtype: Option<String>,
    },
    /// `dense`: successive affine layers over the last axis.
    Dense {
        /// Output sizes of the successive affine layers; at least one, each at least 1.
        sizes: Vec<Spanned<u64>>,
        /// Flatten the input first.
        flatten: bool,
        /// A highway layer (3.2).
        highway: Option<Highway>,
    },
    /// `activation`.
    Activation(Activation),
    /// `dropout`: the fraction to drop, in [0, 1).
    Dropout {
        /// The fraction.
        fraction: f64,
        /// Elementwise; whole channels otherwise.
        independent: bool,
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
        /// Distance between the cells of the window, as many as `size` has.
        dilation: Vec<u64>,
        /// Border handling.
        border: Border,
        /// Each channel on its own: `kernels` is a multiple of the input's channels.
        separable: bool,
        /// A highway layer (3.3).
        highway: Option<Highway>,
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
    /// `recurrent` over the first axis of a sequence.
    Recurrent(Recurrent),
    /// `embedding`: indices to vectors.
    Embedding {
        /// Number of vectors.
        vocab_size: u64,
        /// Length of a vector.
        size: u64,
    },
    /// `repeat`: `[F]` to `[count, F]`.
    Repeat {
        /// How often.
        count: u64,
    },
    /// `transpose`.
    Transpose {
        /// A permutation of 0..n.
        axes: Spanned<Vec<u64>>,
        /// Whether axis 0 is the batch.
        include_batch: bool,
    },
    /// `merge`: the only layer of several inputs.
    Merge {
        /// How values are joined.
        mode: MergeMode,
        /// Axis of `concat`; non-negative ones count the batch as 0, negative ones from the end.
        axis: i64,
    },
    /// `parallel`: a chain of layers applied to every element of the first axis. The inputs of its layers are empty:
    /// each reads the one before.
    Parallel {
        /// The chain.
        apply: Vec<Layer>,
    },
    /// `reuse`: a layer once more, with the weights of the original.
    Reuse {
        /// The layer whose weights are used; where `reuse` names several layers, there is one `Reuse` for each.
        target: Spanned<String>,
        /// What that layer does. Layers of a `parallel` in it have the names of the originals.
        kind: Box<LayerKind>,
    },
    /// `output`: the identity.
    Output,
    /// `upsample`: every cell several times along the spatial axes.
    Upsample {
        /// How often along each axis; one number holds for all.
        size: Spanned<Vec<u64>>,
    },
    /// `pad` with zeros along the spatial axes.
    Pad {
        /// Before the first cell of each axis; one number holds for all.
        before: Spanned<Vec<u64>>,
        /// Behind the last one.
        after: Spanned<Vec<u64>>,
    },
    /// `global_pool` over all spatial axes.
    GlobalPool {
        /// Maximum or average.
        kind: PoolKind,
    },
    /// `layer_normalization` over the last axis.
    LayerNormalization {
        /// Added to the variance.
        epsilon: f64,
    },
    /// `position_embedding`: a trained vector added to each step.
    PositionEmbedding,
    /// `attention` of a sequence to itself.
    Attention {
        /// Number of heads.
        heads: Spanned<u64>,
        /// Whether a step sees only itself and those before it.
        causal: bool,
    },
}

/// A term of the loss for each kernel w of a layer: l1·Σ|w| + l2·Σw².
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regularizer {
    /// Factor of the sizes, at least 0.
    pub l1: f64,
    /// Factor of the squares, at least 0.
    pub l2: f64,
}

/// The gates of a highway layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Highway {
    /// Fixed bias of the transform gate; trainable when absent.
    pub bias: Option<f64>,
}

/// `recurrent` (kur-reference 3.5).
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// Units.
    pub size: Spanned<u64>,
    /// Kind of cell.
    pub cell: Cell,
    /// Gives the whole sequence; the last state otherwise.
    pub sequence: bool,
    /// Both directions, joined like this.
    pub bidirectional: Option<MergeMode>,
    /// PyTorch's formulas of the cell (`cell: torch`).
    pub torch: bool,
    /// Activation of candidate and output; the cell's default when absent.
    pub outer_activation: Option<Activation>,
}

/// Recurrent cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Gated recurrent unit.
    Gru,
    /// Long short-term memory.
    Lstm,
    /// Simple recurrent unit.
    Sru,
}

/// How `merge` and bidirectional layers join values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MergeMode {
    /// Product of the elements.
    Multiply,
    /// Sum of the elements.
    Add,
    /// One behind the other.
    Concat,
    /// Mean of the elements.
    Average,
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
            LayerKind::Recurrent(_) => "recurrent",
            LayerKind::Embedding { .. } => "embedding",
            LayerKind::Repeat { .. } => "repeat",
            LayerKind::Transpose { .. } => "transpose",
            LayerKind::Merge { .. } => "merge",
            LayerKind::Parallel { .. } => "parallel",
            LayerKind::Reuse { .. } => "reuse",
            LayerKind::Output => "output",
            LayerKind::Upsample { .. } => "upsample",
            LayerKind::Pad { .. } => "pad",
            LayerKind::GlobalPool { .. } => "global_pool",
            LayerKind::LayerNormalization { .. } => "layer_normalization",
            LayerKind::PositionEmbedding => "position_embedding",
            LayerKind::Attention { .. } => "attention",
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
    /// x > 0 ? x : x / 100 (Maas et al. 2013).
    LeakyRelu,
    /// x · Φ(x) with the normal distribution Φ (Hendrycks and Gimpel 2016).
    Gelu,
    /// x · sigmoid(x) (Elfwing et al. 2017).
    Silu,
    /// x · tanh(softplus(x)) (Misra 2019).
    Mish,
    /// x > 0 ? x : a · x with a trained slope a for each cell of the last axis (He et al. 2015).
    Prelu,
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
