//! The plan: what a compiled program does, as plain data.
//!
//! `kurc` writes it, the executable carries it, [`crate::exec`] runs it. A step is a flat list of [`Launch`]es over
//! planned memory; nothing in it is interpreted by name. Byte offsets inside the arena depend on symbolic sizes only
//! through [`ArenaClass`]es, so one plan serves every batch size.

use serde::{Deserialize, Serialize};

use crate::dim::{Dim, DimSum, SymbolTable};
use crate::spec::RunSpec;

/// Bumped whenever the meaning or encoding of anything in this file or in `spec.rs` changes.
pub const FORMAT_VERSION: u32 = 4;

/// Alignment in bytes of every planned buffer.
pub const ALIGN: u64 = 64;

/// A whole compiled program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Version of kurc that wrote it.
    pub compiler: String,
    /// Symbols of all sizes below.
    pub symbols: SymbolTable,
    /// Everything that lives from step to step.
    pub state: Vec<StateSpec>,
    /// Bytes of the state block.
    pub state_bytes: u64,
    /// The train step; absent when the Kurfile has no loss.
    pub train: Option<Plan>,
    /// The test step (forward, loss, metrics); absent when the Kurfile has no loss.
    pub test: Option<Plan>,
    /// The infer step.
    pub infer: Plan,
    /// Names of the generated kernels, in the order of `Call::Kernel::kernel`.
    pub kernels: Vec<KernelInfo>,
    /// Model layers for summaries, in graph order.
    pub layers: Vec<LayerInfo>,
    /// How data, training and files are to be handled.
    pub run: RunSpec,
}

/// One generated kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelInfo {
    /// Name in IR text.
    pub name: String,
    /// Floating point operations of a call, for reports.
    pub flops: DimSum,
    /// Its buffers, in the order of [`Launch::bufs`]: for reports, and to know which steps leave the state as it is.
    pub bufs: Vec<BufInfo>,
}

/// How a generated kernel uses a buffer of four-byte elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufInfo {
    /// Elements that it touches.
    pub len: Dim,
    /// Whether it loads them.
    pub reads: bool,
    /// Whether it stores them.
    pub writes: bool,
}

/// A row of the summary table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Container name.
    pub name: String,
    /// Kurfile layer type.
    pub kind: String,
    /// Output shape as text, batch excluded: `28x28x64`.
    pub shape: String,
    /// Number of parameters.
    pub params: u64,
    /// 1-based line in the Kurfile.
    pub line: u32,
}

/// A tensor that lives from step to step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateSpec {
    /// `LAYER/TENSOR`, or `PARAM:adam.m` for optimizer state.
    pub name: String,
    /// Constant shape, row-major.
    pub shape: Vec<u64>,
    /// What it is for.
    pub role: StateRole,
    /// How it starts.
    pub init: Init,
    /// Byte offset in the state block.
    pub offset: u64,
}

impl StateSpec {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a state tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateRole {
    /// A trained weight: saved in weight files.
    Param,
    /// Saved in weight files, changed by the train step without a gradient (batch-norm statistics).
    Running,
    /// Optimizer state: saved beside the weights.
    Optimizer,
}

/// Initial values. Random ones draw from the counter-based generator keyed by the seed and the state's index.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Init {
    /// Every element the same.
    Constant(f32),
    /// Uniform in ±limit.
    Uniform {
        /// The limit.
        limit: f32,
    },
    /// Glorot uniform: ±√(6 / (fan_in + fan_out)).
    GlorotUniform {
        /// Inputs of one unit.
        fan_in: u64,
        /// Outputs one input feeds.
        fan_out: u64,
    },
    /// Orthogonal rows/columns of a 2-D shape (first axis × product of the rest), by QR of a normal matrix.
    Orthogonal,
    /// `value` in the elements `from..to`, 0 elsewhere (the forget gate's part of a bias).
    Block {
        /// The value.
        value: f32,
        /// First element.
        from: u64,
        /// One past the last element.
        to: u64,
    },
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Per-batch tensors the runtime fills, in the order of [`Place::Input`].
    pub inputs: Vec<InputSlot>,
    /// What a step leaves behind.
    pub results: Vec<ResultSlot>,
    /// Memory classes of the arena, laid out one after the other.
    pub arena: Vec<ArenaClass>,
    /// The launches, in order.
    pub launches: Vec<Launch>,
}

/// A tensor that the data pipeline provides for each batch: f32, row-major, batch first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSlot {
    /// Name of the model input or of the loss target.
    pub name: String,
    /// Why it is read.
    pub role: InputRole,
    /// Shape without the batch.
    pub shape: Vec<Dim>,
}

/// Why a step reads an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InputRole {
    /// Fed to the model.
    Data,
    /// Compared with an output by a loss.
    Target,
    /// Numbers of real steps of the samples of the target of this name, one a sample: what is behind them is padding.
    Lengths,
    /// A buffer of u32 words that the executor fills itself: seed, number of updates done so far, then the value of
    /// every symbol in table order.
    Control,
}

/// A value that a step leaves in the arena.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultSlot {
    /// Output name, or metric name (`loss`, `accuracy`, `loss:TARGET`).
    pub name: String,
    /// What kind of result.
    pub role: ResultRole,
    /// Where it lies.
    pub place: Place,
    /// Full shape, the batch included; a metric has an empty one.
    pub shape: Vec<Dim>,
}

/// Kind of a step result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResultRole {
    /// A model output.
    Output,
    /// A scalar, the mean over the batch.
    Metric,
}

/// A region of the arena whose buffers all scale with the same monomial. It takes `unit_bytes · class` bytes, rounded
/// up to [`ALIGN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaClass {
    /// Monomial with coefficient 1.
    pub class: Dim,
    /// Bytes per unit of the class; a multiple of [`ALIGN`].
    pub unit_bytes: u64,
}

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the arena: start of the class region plus `unit_offset · class` bytes. `unit_offset` is a multiple of [`ALIGN`].
    Arena {
        /// Index into [`Plan::arena`].
        class: u32,
        /// Byte offset per unit of the class.
        unit_offset: u64,
    },
    /// In the state block, at this byte offset.
    State {
        /// Byte offset.
        offset: u64,
    },
    /// A per-batch input.
    Input {
        /// Index into [`Plan::inputs`].
        index: u32,
    },
}

/// One entry of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// What runs.
    pub call: Call,
    /// Buffers in the order that the call documents.
    pub bufs: Vec<Place>,
    /// Index into [`Program::layers`] of the layer it came from, for profiles and NaN reports.
    pub layer: Option<u32>,
}

/// What a launch runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// A generated kernel: called as [`crate::abi::KernelFn`] over `lo..hi` sub-ranges of `0..extent`.
    Kernel {
        /// Index into [`Program::kernels`].
        kernel: u32,
        /// Iterations of the outermost, parallel loop.
        extent: Dim,
        /// Sub-ranges start at multiples of this, so that vector bodies stay aligned and results do not depend on threads.
        grain: u64,
        /// Rough work of one iteration, in elementwise operations: decides whether threads pay.
        cost: Dim,
    },
    /// A kernel of the runtime's library.
    Lib(LibCall),
}

/// Library kernels (all f32, row-major, channels last). Buffers are listed in order; the output is the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LibCall {
    /// `c[b,m,n] = op(a[b,m,k]) · op(b[b,k,n])`; buffers a, b, c. With `ta`, a is stored `[k,m]`; with `tb`, b is `[n,k]`.
    MatMul {
        /// Leading batch count shared by a, b and c (1 for a plain product).
        batch: Dim,
        /// Rows of c.
        m: Dim,
        /// Columns of c.
        n: Dim,
        /// Inner size.
        k: Dim,
        /// a is transposed.
        ta: bool,
        /// b is transposed.
        tb: bool,
    },
    /// A [`LibCall::MatMul`] or a [`LibCall::ConvForward`] without groups, a vector added to each row of its result, and
    /// max(x, 0) with `relu` (NaN stays NaN); buffers those of the call with the vector before the result.
    Biased {
        /// The call.
        call: Box<LibCall>,
        /// Whether negative results become 0.
        relu: bool,
    },
    /// Cross-correlation; buffers x `[n,spatial…,cin]`, w `[k…,cin,cout]`, y `[n,out…,cout]`.
    ConvForward(ConvGeometry),
    /// Gradient to the input; buffers gy, w, gx.
    ConvGradInput(ConvGeometry),
    /// Gradient to the kernel; buffers x, gy, gw. The sum over the batch uses a fixed tree.
    ConvGradWeight(ConvGeometry),
    /// Max pooling; buffers x, y. Padding cells never win.
    MaxPool(PoolGeometry),
    /// Its gradient; buffers x, y, gy, gx. The first maximum in row-major window order takes the gradient.
    MaxPoolGrad(PoolGeometry),
    /// Average over the real cells of a window (padding is not counted); buffers x, y.
    AvgPool(PoolGeometry),
    /// Its gradient; buffers gy, gx.
    AvgPoolGrad(PoolGeometry),
    /// Row softmax, or log-softmax; buffers x, y `[rows, cols]`.
    Softmax {
        /// Number of rows.
        rows: Dim,
        /// Length of a row.
        cols: Dim,
        /// Whether to give the logarithm.
        log: bool,
    },
    /// Index of the first maximum of each row, as f32; buffers x `[rows, cols]`, y `[rows]`.
    ArgMax {
        /// Number of rows.
        rows: Dim,
        /// Length of a row.
        cols: Dim,
    },
    /// 0, 1, 2 … as f32; buffer y `[len]`.
    Positions {
        /// Number of elements.
        len: Dim,
    },
    /// Rows of a table by index; buffers table `[rows, width]`, indices `[count]`, y `[count, width]`. An index loses its
    /// fraction; one outside the table is a fault of the data.
    Gather {
        /// Number of indices, a multiple of the batch.
        count: Dim,
        /// Rows of the table, at most 2^24.
        rows: u64,
        /// Length of a row.
        width: u64,
    },
    /// Parts one behind the other along an axis; buffers the parts `[outer, parts[i], inner]`, y `[outer, Σ parts, inner]`.
    Concat {
        /// Product of the axes before.
        outer: Dim,
        /// Product of the axes behind.
        inner: Dim,
        /// Sizes of the parts along the axis.
        parts: Vec<Dim>,
    },
    /// A part of an axis; buffers x `[outer, size, inner]`, y `[outer, len, inner]`.
    Slice {
        /// Product of the axes before.
        outer: Dim,
        /// Product of the axes behind.
        inner: Dim,
        /// Size of the axis.
        size: Dim,
        /// Where the part starts: the sum of these.
        start: Vec<Dim>,
        /// Size of the part.
        len: Dim,
    },
    /// A part into an axis of zeros; buffers x `[outer, len, inner]`, y `[outer, size, inner]`.
    Pad {
        /// As [`LibCall::Slice`].
        outer: Dim,
        /// As [`LibCall::Slice`].
        inner: Dim,
        /// As [`LibCall::Slice`].
        size: Dim,
        /// As [`LibCall::Slice`].
        start: Vec<Dim>,
        /// As [`LibCall::Slice`].
        len: Dim,
    },
    /// Gradient of the table: the sum of the gradients of each row's uses, in the order of the indices; buffers indices
    /// `[count]`, gy `[count, width]`, gtable `[rows, width]`.
    GatherGrad {
        /// As [`LibCall::Gather`].
        count: Dim,
        /// As [`LibCall::Gather`].
        rows: u64,
        /// As [`LibCall::Gather`].
        width: u64,
    },
    /// A recurrent layer through time; buffers the input products xw `[n,t,G·u]`, the recurrent kernel `[u,G·u]`, for
    /// [`RnnCell::GruAfter`] the recurrent bias `[G·u]`, and the tape `[n,t,K·u]` (see [`RnnCell`]).
    Rnn(RnnGeometry),
    /// Its gradient to xw; buffers tape, recurrent kernel, gradient (see [`RnnGradOf`]), gxw `[n,t,G·u]`.
    RnnGrad(RnnGeometry, RnnGradOf),
    /// Its gradient to the recurrent kernel; buffers tape, gxw, gradient `[u,G·u]`.
    RnnGradWeight(RnnGeometry),
    /// Its gradient to the recurrent bias; buffers tape, gxw, gradient `[G·u]`.
    RnnGradBias(RnnGeometry),
    /// One of several equal parts of the last axis, at some steps; buffers x `[n,t,parts·size]`, y `[n,t,size]` or
    /// `[n,size]`.
    Part(StepGeometry, PartOf),
    /// Its gradient: the part in its place, 0 elsewhere; buffers gy, gx.
    PartGrad(StepGeometry, PartOf),
    /// A linear recurrence through time, `y[t] = a[t] · y[t-1] + b[t]` from 0; buffers a, b, y `[n,t,size]`. With
    /// `reverse`, from the last step to the first.
    Scan(StepGeometry, bool),
    /// The step before, 0 at the first; buffers x, y `[n,t,size]`. With `reverse`, the step after, 0 at the last.
    Shift(StepGeometry, bool),
    /// −ln p(labels) of each sample (kur-reference 5.2); buffers scores used as log-probabilities `[n,t,c]`, labels
    /// `[n,l]`, numbers of frames `[n]`, numbers of labels `[n]`, losses `[n]`.
    Ctc(CtcGeometry),
    /// Its gradient to the scores; the same buffers, then the gradient to the losses `[n]`, then `[n,t,c]`.
    CtcGrad(CtcGeometry),
    /// Numbers of steps behind windows, `(x − window) / stride + 1` rounded down, one after the other; buffers x, y.
    Lengths {
        /// Number of elements.
        len: Dim,
        /// Windows and strides, all at least 1.
        windows: Vec<(u32, u32)>,
    },
}

/// Cells that multiply their state by a matrix at each step, with G gates and K parts of the tape: the states and gates
/// of all steps, each part u wide, packed side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RnnCell {
    /// Cho et al. 2014, reset before the product (Keras): gates z, r, h; tape state, z, r, candidate.
    Gru,
    /// Reset after the product (PyTorch, cuDNN): gates r, z, n; tape state, r, z, candidate, the recurrent product of
    /// the candidate with its bias.
    GruAfter,
    /// Hochreiter & Schmidhuber 1997 with forget gates: gates i, f, c, o; tape state, memory, i, f, candidate, o.
    Lstm,
}

impl RnnCell {
    /// G: gates packed in the kernels.
    #[must_use]
    pub fn gates(self) -> u64 {
        match self {
            RnnCell::Gru | RnnCell::GruAfter => 3,
            RnnCell::Lstm => 4,
        }
    }

    /// K: parts of the tape; part 0 is the state.
    #[must_use]
    pub fn parts(self) -> u64 {
        match self {
            RnnCell::Gru => 4,
            RnnCell::GruAfter => 5,
            RnnCell::Lstm => 6,
        }
    }
}

/// Elementwise activations of cells (kur-reference 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CellActivation {
    /// x.
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
}

impl CellActivation {
    /// All of them.
    pub const ALL: [CellActivation; 9] = [
        CellActivation::Linear,
        CellActivation::Relu,
        CellActivation::Tanh,
        CellActivation::Sigmoid,
        CellActivation::HardSigmoid,
        CellActivation::Elu,
        CellActivation::Selu,
        CellActivation::Softplus,
        CellActivation::Softsign,
    ];

    /// The Kurfile word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CellActivation::Linear => "linear",
            CellActivation::Relu => "relu",
            CellActivation::Tanh => "tanh",
            CellActivation::Sigmoid => "sigmoid",
            CellActivation::HardSigmoid => "hard_sigmoid",
            CellActivation::Elu => "elu",
            CellActivation::Selu => "selu",
            CellActivation::Softplus => "softplus",
            CellActivation::Softsign => "softsign",
        }
    }
}

/// Geometry of a CTC loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CtcGeometry {
    /// Samples.
    pub batch: Dim,
    /// Frames, padding included.
    pub steps: Dim,
    /// Classes, the blank included.
    pub classes: Dim,
    /// Labels, padding included.
    pub labels: Dim,
    /// The blank is class 0 and label k is class k + 1; otherwise the blank is the last class.
    pub blank_first: bool,
}

/// What the gradient handed to [`LibCall::RnnGrad`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RnnGradOf {
    /// The states of all steps, `[n,t,u]`.
    States,
    /// The state after the last step that is run, `[n,u]`.
    Final,
}

/// Geometry of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RnnGeometry {
    /// Kind of cell.
    pub cell: RnnCell,
    /// Activation of the gates.
    pub inner: CellActivation,
    /// Activation of candidate and output.
    pub outer: CellActivation,
    /// Runs from the last step to the first; the tape stays in the order of the input.
    pub reverse: bool,
    /// Samples.
    pub batch: Dim,
    /// Steps.
    pub steps: Dim,
    /// Units, u.
    pub units: u64,
}

/// Geometry of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StepGeometry {
    /// Samples.
    pub batch: Dim,
    /// Steps.
    pub steps: Dim,
    /// Values of a step; of one part, where there are parts.
    pub size: Dim,
}

/// Which part of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartOf {
    /// Index of the part.
    pub part: u32,
    /// Number of equal parts of the last axis.
    pub parts: u32,
    /// At which steps.
    pub steps: StepPick,
}

/// Steps of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StepPick {
    /// All; the axis stays.
    All,
    /// The first alone; the axis goes.
    First,
    /// The last alone; the axis goes.
    Last,
}

/// As a padding: as much as `same` needs for the size that the axis has in this batch.
pub const PAD_SAME: u32 = u32::MAX;

/// The padding before the first cell of an axis: the given one, or for [`PAD_SAME`] half of what `output` windows that
/// reach over `reach` cells lack (TensorFlow's rule: the odd cell goes behind).
#[must_use]
pub fn padding(given: u32, input: usize, output: usize, reach: usize, stride: usize) -> usize {
    match given {
        PAD_SAME => (output.saturating_sub(1).saturating_mul(stride).saturating_add(reach)).saturating_sub(input) / 2,
        given => given as usize,
    }
}

/// Geometry of a convolution. One- and three-dimensional ones use the same struct with the unused axes of size 1
/// (axes are depth, height, width; a 1-D convolution uses the last).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvGeometry {
    /// Samples.
    pub batch: Dim,
    /// Input size per axis.
    pub input: [Dim; 3],
    /// Output size per axis.
    pub output: [Dim; 3],
    /// Kernel size per axis.
    pub kernel: [u32; 3],
    /// Stride per axis.
    pub stride: [u32; 3],
    /// Zeros before the first cell per axis (those after follow from the output size), or [`PAD_SAME`].
    pub pad: [u32; 3],
    /// Dilation per axis.
    pub dilation: [u32; 3],
    /// Input channels.
    pub cin: u64,
    /// Output channels.
    pub cout: u64,
    /// Groups of channels that do not see each other; divides both numbers of channels. The kernel is then
    /// `[k…, cin / groups, cout]`.
    pub groups: u64,
}

/// Geometry of a pooling, as [`ConvGeometry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PoolGeometry {
    /// Samples.
    pub batch: Dim,
    /// Input size per axis.
    pub input: [Dim; 3],
    /// Output size per axis.
    pub output: [Dim; 3],
    /// Window per axis.
    pub window: [u32; 3],
    /// Stride per axis.
    pub stride: [u32; 3],
    /// Cells before the first one per axis, or [`PAD_SAME`].
    pub pad: [u32; 3],
    /// Channels.
    pub channels: u64,
}
