//! The operations of the graph IR: a closed enum, fed by one table.
//!
//! Everything else about an operation is an exhaustive `match` (shape inference, text, interpreter, gradient,
//! lowering), so the compiler lists what a new operation still lacks.

use kur_runtime::dim::Dim;
use kur_runtime::plan::{CellActivation, InputRole, PartOf, RnnCell, RnnGradOf, StateRole};

use super::kernel::{ReduceOp, ScalarOp};

/// An operation. Each node has exactly one result.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A per-batch tensor.
    Input {
        /// Name of the model input or target.
        name: String,
        /// Why it is read.
        role: InputRole,
    },
    /// A tensor that lives from step to step.
    State {
        /// Index into [`super::graph::Graph::states`].
        index: u32,
    },
    /// The run's seed or the number of updates done before this step.
    Control(Control),
    /// A scalar constant.
    Const(f64),
    /// A size as a float scalar.
    Size(Dim),
    /// A scalar operation on every element, operands broadcast (right-aligned, size 1 stretches).
    Map(ScalarOp),
    /// Repeats size-1 or missing axes up to the result's shape.
    Broadcast,
    /// Uniform draws in [0, 1): operands seed and updates, both `u32[]`.
    Random {
        /// Number of this drawing operation in the program.
        key: u32,
    },
    /// Combines along axes, which stay with size 1.
    Reduce {
        /// The combining operation.
        op: ReduceOp,
        /// The axes, ascending.
        axes: Vec<usize>,
    },
    /// The same elements in row-major order under another shape.
    Reshape,
    /// Reorders axes: result axis i is operand axis `perm[i]`.
    Transpose {
        /// The permutation.
        perm: Vec<usize>,
    },
    /// Matrix product of the last two axes; leading axes are equal batches.
    MatMul {
        /// The left operand is stored transposed.
        ta: bool,
        /// The right operand is stored transposed.
        tb: bool,
    },
    /// Cross-correlation of `x[n, spatial…, cin]` with `w[kernel…, cin, cout]`.
    Conv(ConvAttrs),
    /// Gradient of [`Op::Conv`] to x: operands gy, w.
    ConvGradInput(ConvAttrs),
    /// Gradient of [`Op::Conv`] to w: operands x, gy.
    ConvGradWeight(ConvAttrs),
    /// Pooling of `x[n, spatial…, c]`.
    Pool(PoolAttrs),
    /// Gradient of [`Op::Pool`]: operands x, y, gy.
    PoolGrad(PoolAttrs),
    /// Softmax over the last axis, or its logarithm.
    Softmax {
        /// Whether to give the logarithm.
        log: bool,
    },
    /// Index of the first maximum along the last axis, which stays with size 1.
    ArgMax,
    /// 0, 1, 2 … along the only axis of the result.
    Positions,
    /// One or more operands, one behind the other along an axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// A part of an axis; how long it is says the result type.
    Slice {
        /// The axis.
        axis: usize,
        /// Where the part starts: the sum of these sizes.
        start: Vec<Dim>,
    },
    /// The operand as part of a longer axis that is 0 elsewhere; how long that is says the result type.
    Pad {
        /// The axis.
        axis: usize,
        /// Where the operand starts: the sum of these sizes.
        start: Vec<Dim>,
    },
    /// Rows of `table[v, d]` by `index[…]`: `[…, d]`. Indices lose their fraction; one outside the table is a fault of
    /// the data.
    Gather,
    /// Gradient of [`Op::Gather`] to the table, whose shape the result type gives: operands index, gy.
    GatherGrad,
    /// A recurrent layer through time: operands xw `[n, t, G·u]`, recurrent kernel `[u, G·u]` and, for
    /// [`RnnCell::GruAfter`], the recurrent bias `[G·u]`. The result is the tape `[n, t, K·u]`, whose part 0 is the state
    /// (see [`RnnCell`]); it is read through [`Op::Part`] alone.
    Rnn(RnnAttrs),
    /// Gradient of [`Op::Rnn`] to xw: operands tape, recurrent kernel, gradient to the state.
    RnnGrad(RnnAttrs, RnnGradOf),
    /// Gradient of [`Op::Rnn`] to the recurrent kernel: operands tape, gradient to xw.
    RnnGradWeight(RnnAttrs),
    /// Gradient of [`Op::Rnn`] to the recurrent bias: operands tape, gradient to xw.
    RnnGradBias(RnnAttrs),
    /// One of several equal parts of the last axis of `x[n, t, parts·c]`, at all steps or a single one.
    Part(PartOf),
    /// Gradient of [`Op::Part`]: the part in its place, 0 elsewhere.
    PartGrad(PartOf),
    /// `y[t] = a[t] · y[t-1] + b[t]` from 0 along axis 1 of `[n, t, c]`.
    Scan {
        /// From the last step to the first.
        reverse: bool,
    },
    /// The step before along axis 1 of `[n, t, c]`, 0 at the first.
    Shift {
        /// The step after, 0 at the last.
        reverse: bool,
    },
    /// CTC loss of each sample: operands scores used as log-probabilities `[n, t, c]`, labels `[n, l]`, numbers of frames
    /// `[n]`, numbers of labels `[n]`; the result is `[n]`.
    Ctc {
        /// The blank is class 0 and label k is class k + 1; otherwise the blank is the last class.
        blank_first: bool,
    },
    /// Gradient of [`Op::Ctc`] to the scores: the same operands, then the gradient to the losses.
    CtcGrad {
        /// As in [`Op::Ctc`].
        blank_first: bool,
    },
    /// Numbers of steps behind windows: `(x − window) / stride + 1` rounded down, one window after the other.
    Lengths {
        /// Windows.
        window: Vec<u32>,
        /// Their strides.
        stride: Vec<u32>,
    },
}

/// Attributes of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RnnAttrs {
    /// Kind of cell.
    pub cell: RnnCell,
    /// Activation of the gates.
    pub inner: CellActivation,
    /// Activation of candidate and output.
    pub outer: CellActivation,
    /// Runs from the last step to the first; the tape stays in the order of the input.
    pub reverse: bool,
}

/// Counters the runtime provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// The run's seed.
    Seed,
    /// Updates done before this step.
    Updates,
}

/// Attributes of a convolution; one entry per spatial axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConvAttrs {
    /// Strides.
    pub stride: Vec<u32>,
    /// Zeros before the first cell, or [`kur_runtime::plan::PAD_SAME`].
    pub pad: Vec<u32>,
    /// Distance between kernel taps.
    pub dilation: Vec<u32>,
    /// Output sizes.
    pub output: Vec<Dim>,
    /// Groups of channels that do not see each other: w is `[kernel…, cin / groups, cout]`.
    pub groups: u32,
}

/// Attributes of a pooling; one entry per spatial axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolAttrs {
    /// Mean of the real cells instead of the maximum.
    pub average: bool,
    /// Window sizes.
    pub window: Vec<u32>,
    /// Strides.
    pub stride: Vec<u32>,
    /// Cells before the first one, or [`kur_runtime::plan::PAD_SAME`].
    pub pad: Vec<u32>,
    /// Output sizes.
    pub output: Vec<Dim>,
}

/// How far compiled code may be from the f64 interpreter, relative to the magnitude of the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// The same bits after rounding to f32.
    Exact,
    /// So many units in the last place.
    Ulp(u32),
    /// A sum of many terms: grows with the number of terms.
    Reduce,
}

/// Where an operation may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lowering {
    /// A leaf or a renaming: takes no launch.
    Free,
    /// Part of a generated loop nest.
    Loop,
    /// A library kernel.
    Library,
}

/// A row of the operation table.
#[derive(Clone, Copy, Debug)]
pub struct OpInfo {
    /// Name in IR text.
    pub name: &'static str,
    /// Names of the operands.
    pub operands: &'static [&'static str],
    /// How it is lowered.
    pub lowering: Lowering,
    /// Tolerance class.
    pub tolerance: Tolerance,
    /// One sentence.
    pub doc: &'static str,
}

macro_rules! row {
    ($name:literal, [$($arg:literal),*], $low:ident, $tol:expr, $doc:literal) => {
        OpInfo { name: $name, operands: &[$($arg),*], lowering: Lowering::$low, tolerance: $tol, doc: $doc }
    };
}

use Tolerance::{Exact, Reduce, Ulp};

/// Every operation of the graph IR by its name in text. Scalar operations come last.
pub const TABLE: &[OpInfo] = &[
    row!("input", [], Free, Exact, "a per-batch tensor"),
    row!("state", [], Free, Exact, "a tensor that lives from step to step"),
    row!("control", [], Free, Exact, "seed or number of updates done"),
    row!("const", [], Loop, Exact, "a scalar constant"),
    row!("size", [], Loop, Exact, "a size as a float scalar"),
    row!("broadcast", ["x"], Loop, Exact, "repeats size-1 axes up to the result's shape"),
    row!("random", ["seed", "updates"], Loop, Exact, "uniform draws in [0, 1)"),
    row!("reduce_add", ["x"], Loop, Reduce, "sum along axes"),
    row!("reduce_max", ["x"], Loop, Exact, "maximum along axes"),
    row!("reduce_min", ["x"], Loop, Exact, "minimum along axes"),
    row!("reshape", ["x"], Free, Exact, "the same elements under another shape"),
    row!("transpose", ["x"], Loop, Exact, "reorders axes"),
    row!("matmul", ["a", "b"], Library, Reduce, "matrix product of the last two axes"),
    row!("conv", ["x", "w"], Library, Reduce, "cross-correlation, channels last"),
    row!("conv_grad_input", ["gy", "w"], Library, Reduce, "gradient of conv to its input"),
    row!("conv_grad_weight", ["x", "gy"], Library, Reduce, "gradient of conv to its kernel"),
    row!("pool", ["x"], Library, Reduce, "maximum or mean of windows"),
    row!("pool_grad", ["x", "y", "gy"], Library, Reduce, "gradient of pool"),
    row!("softmax", ["x"], Library, Ulp(8), "softmax over the last axis"),
    row!("log_softmax", ["x"], Library, Ulp(8), "logarithm of the softmax over the last axis"),
    row!("argmax", ["x"], Library, Exact, "index of the first maximum along the last axis"),
    row!("positions", [], Library, Exact, "0, 1, 2 … along the result's axis"),
    row!("gru", ["xw", "u"], Library, Reduce, "GRU through time, reset before the product"),
    row!("gru_after", ["xw", "u", "bias"], Library, Reduce, "GRU through time, reset after the product"),
    row!("lstm", ["xw", "u"], Library, Reduce, "LSTM through time"),
    row!("rnn_grad", ["tape", "u", "g"], Library, Reduce, "gradient of a recurrent layer to xw"),
    row!("rnn_grad_weight", ["tape", "gxw"], Library, Reduce, "gradient of a recurrent layer to its recurrent kernel"),
    row!("rnn_grad_bias", ["tape", "gxw"], Library, Reduce, "gradient of a recurrent layer to its recurrent bias"),
    row!("part", ["x"], Library, Exact, "a part of the last axis, at all steps or one"),
    row!("part_grad", ["gy"], Library, Exact, "a part in its place, 0 elsewhere"),
    row!("scan", ["a", "b"], Library, Reduce, "y[t] = a[t] y[t-1] + b[t] through time"),
    row!("shift", ["x"], Library, Exact, "the step before"),
    row!("ctc", ["scores", "labels", "frames", "lengths"], Library, Reduce, "CTC loss of each sample"),
    row!("ctc_grad", ["scores", "labels", "frames", "lengths", "g"], Library, Reduce, "gradient of ctc to the scores"),
    row!("lengths", ["x"], Library, Exact, "numbers of steps behind windows"),
    row!("concat", ["x", "…"], Library, Exact, "one or more operands behind each other along an axis"),
    row!("slice", ["x"], Library, Exact, "a part of an axis"),
    row!("pad", ["x"], Library, Exact, "the operand as part of an axis that is 0 elsewhere"),
    row!("gather", ["table", "index"], Library, Exact, "rows of a table by index"),
    row!("gather_grad", ["index", "gy"], Library, Reduce, "gradient of gather to the table"),
    row!("add", ["a", "b"], Loop, Ulp(1), "a + b"),
    row!("sub", ["a", "b"], Loop, Ulp(1), "a - b"),
    row!("mul", ["a", "b"], Loop, Ulp(1), "a * b"),
    row!("div", ["a", "b"], Loop, Ulp(1), "a / b"),
    row!("max", ["a", "b"], Loop, Exact, "the larger; NaN if either is"),
    row!("min", ["a", "b"], Loop, Exact, "the smaller; NaN if either is"),
    row!("pow", ["a", "b"], Loop, Ulp(64), "a to the power b, for a >= 0"),
    row!("lt", ["a", "b"], Loop, Exact, "1 where a < b, else 0"),
    row!("le", ["a", "b"], Loop, Exact, "1 where a <= b, else 0"),
    row!("eq", ["a", "b"], Loop, Exact, "1 where a = b, else 0"),
    row!("select", ["c", "a", "b"], Loop, Exact, "a where c is not 0, else b"),
    row!("neg", ["a"], Loop, Exact, "-a"),
    row!("abs", ["a"], Loop, Exact, "|a|"),
    row!("sign", ["a"], Loop, Exact, "-1, 0 or 1"),
    row!("sqrt", ["a"], Loop, Ulp(1), "square root"),
    row!("exp", ["a"], Loop, Ulp(4), "e to the a"),
    row!("log", ["a"], Loop, Ulp(4), "natural logarithm"),
    row!("log1p", ["a"], Loop, Ulp(4), "ln(1 + a)"),
    row!("expm1", ["a"], Loop, Ulp(4), "e to the a, minus 1"),
    row!("tanh", ["a"], Loop, Ulp(4), "hyperbolic tangent"),
    row!("sigmoid", ["a"], Loop, Ulp(4), "1 / (1 + e^-a)"),
    row!("from_u32", ["a"], Loop, Ulp(1), "a counter as a float"),
];

impl Op {
    /// Name in IR text.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::State { .. } => "state",
            Op::Control(_) => "control",
            Op::Const(_) => "const",
            Op::Size(_) => "size",
            Op::Map(s) => s.name(),
            Op::Broadcast => "broadcast",
            Op::Random { .. } => "random",
            Op::Reduce { op: ReduceOp::Add, .. } => "reduce_add",
            Op::Reduce { op: ReduceOp::Max, .. } => "reduce_max",
            Op::Reduce { op: ReduceOp::Min, .. } => "reduce_min",
            Op::Reshape => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::MatMul { .. } => "matmul",
            Op::Conv(_) => "conv",
            Op::ConvGradInput(_) => "conv_grad_input",
            Op::ConvGradWeight(_) => "conv_grad_weight",
            Op::Pool(_) => "pool",
            Op::PoolGrad(_) => "pool_grad",
            Op::Softmax { log: false } => "softmax",
            Op::Softmax { log: true } => "log_softmax",
            Op::ArgMax => "argmax",
            Op::Positions => "positions",
            Op::Rnn(a) => match a.cell {
                RnnCell::Gru => "gru",
                RnnCell::GruAfter => "gru_after",
                RnnCell::Lstm => "lstm",
            },
            Op::RnnGrad(..) => "rnn_grad",
            Op::RnnGradWeight(_) => "rnn_grad_weight",
            Op::RnnGradBias(_) => "rnn_grad_bias",
            Op::Part(_) => "part",
            Op::PartGrad(_) => "part_grad",
            Op::Scan { .. } => "scan",
            Op::Shift { .. } => "shift",
            Op::Ctc { .. } => "ctc",
            Op::CtcGrad { .. } => "ctc_grad",
            Op::Lengths { .. } => "lengths",
            Op::Concat { .. } => "concat",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Gather => "gather",
            Op::GatherGrad => "gather_grad",
        }
    }

    /// The operation's row in [`TABLE`].
    ///
    /// # Panics
    /// Never: a test shows that every operation has its row.
    #[must_use]
    pub fn info(&self) -> &'static OpInfo {
        let name = self.name();
        TABLE.iter().find(|r| r.name == name).expect("every operation has a table row")
    }

    /// Whether the result depends on anything but the operands: such nodes are never merged or moved out of the graph.
    #[must_use]
    pub fn is_leaf(&self) -> bool {
        matches!(self, Op::Input { .. } | Op::State { .. })
    }
}

/// Text of a state role.
#[must_use]
pub fn state_role_name(role: StateRole) -> &'static str {
    match role {
        StateRole::Param => "param",
        StateRole::Running => "running",
        StateRole::Optimizer => "optimizer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scalar_op_has_a_row_of_its_arity() {
        for op in ScalarOp::all() {
            let info = Op::Map(op).info();
            assert_eq!(info.operands.len(), op.arity(), "{}", info.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TABLE.iter().map(|r| r.name).collect();
        names.sort_unstable();
        let n = names.len();
        names.dedup();
        assert_eq!(n, names.len());
    }
}
