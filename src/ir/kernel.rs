//! Kernel IR: loop nests over planned buffers with scalar operations. CPU and PTX share everything above this level.
//!
//! A [`Kernel`] is one function. Its body is a list of statements; scalar values are in SSA form ([`ValId`], each
//! defined once, visible until the end of the block that defines it, except loop results). Loop indices ([`IdxId`])
//! appear only in [`Index`] expressions. The text form is in `ir/text/kernel_print.rs` and `ir/text/kernel_parse.rs`, the
//! rules are checked by `ir/verify_kernel.rs`, the judge is `ir/interp/kernel.rs`.
//!
//! Buffers of one launch do not overlap, so a back end may load from an `In` buffer earlier than the text says.

use kur_runtime::dim::{Dim, SymbolTable};

/// A buffer parameter of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufId(pub u32);

/// A scalar value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValId(pub u32);

/// A loop index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdxId(pub u32);

/// One kernel.
///
/// The body is a single [`Stmt::For`] with [`LoopMode::Parallel`] or [`LoopMode::ParallelVector`]: the loop whose
/// range the runtime splits between threads. Iterations of it never touch the same element of a buffer, unless all only read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Name, unique in a program: `@relu_3`.
    pub name: String,
    /// Symbols that sizes refer to.
    pub symbols: SymbolTable,
    /// Buffers in argument order.
    pub bufs: Vec<BufDecl>,
    /// The outermost loop.
    pub body: Stmt,
}

/// Declaration of a buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct BufDecl {
    /// Name in text, `%name`.
    pub name: String,
    /// Element type.
    pub ty: Scalar,
    /// How it is used.
    pub access: Access,
    /// Number of elements.
    pub len: Dim,
}

/// Element types. All arithmetic is f32 (f64 in the interpreter); u32 feeds [`Stmt::Random`] and [`ScalarOp::FromU32`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// 32-bit float.
    F32,
    /// 32-bit unsigned integer.
    U32,
}

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only loaded.
    In,
    /// Only stored; every element is stored by a full run.
    Out,
    /// Loaded and stored in place: an element is loaded only by the iteration that stores it, before it does.
    InOut,
}

/// An affine element index `base + Σ index · stride`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Index {
    /// Constant part.
    pub base: u64,
    /// Terms in the order of their loops, outermost first; no index twice, no zero stride.
    pub terms: Vec<(IdxId, Dim)>,
}

/// Operand of a scalar operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand {
    /// A value.
    Val(ValId),
    /// A literal; printed with the shortest digits that read back to the same f64.
    Lit(f64),
}

/// How a loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopMode {
    /// One iteration after the other.
    Serial,
    /// Outermost only: the runtime gives `lo..hi`; inside, one after the other.
    Parallel,
    /// Iterations are independent; the back end may run several at once. Innermost, or around serial [`Stmt::Reduce`]s only.
    Vector,
    /// Outermost only: both.
    ParallelVector,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// `%v = op args`.
    Let {
        /// The value defined.
        val: ValId,
        /// The operation.
        op: ScalarOp,
        /// Its operands, as many as [`ScalarOp::arity`].
        args: Vec<Operand>,
    },
    /// `%v = load %buf[index]`.
    Load {
        /// The value defined: f32, or u32 for a u32 buffer.
        val: ValId,
        /// The buffer.
        buf: BufId,
        /// Which element.
        index: Index,
    },
    /// `%v = random KEY, %seed, %step [index]`: uniform in [0, 1), draw number `index` of the stream
    /// `rng::stream(seed, key, step)` of `kur_runtime::abi::rng`.
    Random {
        /// The value defined.
        val: ValId,
        /// Number of the drawing operation.
        key: u32,
        /// The seed, a u32 value.
        seed: ValId,
        /// The number of updates done so far, a u32 value.
        step: ValId,
        /// The draw; taken modulo 2³².
        index: Index,
    },
    /// `store %buf[index], %v`.
    Store {
        /// The buffer.
        buf: BufId,
        /// Which element.
        index: Index,
        /// What to store.
        value: Operand,
    },
    /// `for i in EXTENT MODE { … }`.
    For {
        /// The loop's index.
        idx: IdxId,
        /// Number of iterations.
        extent: Dim,
        /// How it runs.
        mode: LoopMode,
        /// The body.
        body: Vec<Stmt>,
    },
    /// `%r = reduce OP i in EXTENT [vector] { … yield %x }`, several accumulators at once:
    /// `%a, %b = reduce add, max i in …{ … yield %x, %y }`. Starts from the operation's neutral element.
    ///
    /// A `vector` reduction may be reassociated by the back end in one fixed way; the result must not depend on
    /// threads. A serial one is summed in index order (unless an enclosing vector loop makes lanes of it, which keeps
    /// the order of each lane).
    Reduce {
        /// The loop's index.
        idx: IdxId,
        /// Number of iterations.
        extent: Dim,
        /// Whether the loop may be vectorised.
        vector: bool,
        /// Per accumulator: combining operation, and the result visible after the loop.
        accs: Vec<(ReduceOp, ValId)>,
        /// The body.
        body: Vec<Stmt>,
        /// The values combined in each iteration, one per accumulator.
        yields: Vec<Operand>,
    },
}

/// Associative combining operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    /// Sum, neutral 0.
    Add,
    /// Maximum, neutral −∞.
    Max,
    /// Minimum, neutral +∞.
    Min,
}

/// Scalar operations. Comparisons give 1.0 or 0.0; `Select(c, a, b)` is a where c ≠ 0, else b.
///
/// NaN: `Max`/`Min` propagate a NaN in either operand, so that a NaN in the data is never hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalarOp {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// Maximum.
    Max,
    /// Minimum.
    Min,
    /// aᵇ for a > 0, and 0ᵇ = 0 for b > 0: exp(b · ln a) within the tolerance class.
    Pow,
    /// a < b.
    Lt,
    /// a ≤ b.
    Le,
    /// a = b.
    Eq,
    /// c ≠ 0 ? a : b.
    Select,
    /// −a.
    Neg,
    /// |a|.
    Abs,
    /// −1, 0 or 1 (NaN for NaN).
    Sign,
    /// √a.
    Sqrt,
    /// eᵃ; overflows to ∞, underflows to 0.
    Exp,
    /// ln a; −∞ at 0, NaN below.
    Log,
    /// ln(1 + a), exact near 0.
    Log1p,
    /// eᵃ − 1, exact near 0.
    Expm1,
    /// tanh a.
    Tanh,
    /// 1 / (1 + e⁻ᵃ), without overflow.
    Sigmoid,
    /// The u32 operand as f32.
    FromU32,
}

/// Every operation with its name in text.
const SCALAR_OPS: [(ScalarOp, &str); 22] = [
    (ScalarOp::Add, "add"),
    (ScalarOp::Sub, "sub"),
    (ScalarOp::Mul, "mul"),
    (ScalarOp::Div, "div"),
    (ScalarOp::Max, "max"),
    (ScalarOp::Min, "min"),
    (ScalarOp::Pow, "pow"),
    (ScalarOp::Lt, "lt"),
    (ScalarOp::Le, "le"),
    (ScalarOp::Eq, "eq"),
    (ScalarOp::Select, "select"),
    (ScalarOp::Neg, "neg"),
    (ScalarOp::Abs, "abs"),
    (ScalarOp::Sign, "sign"),
    (ScalarOp::Sqrt, "sqrt"),
    (ScalarOp::Exp, "exp"),
    (ScalarOp::Log, "log"),
    (ScalarOp::Log1p, "log1p"),
    (ScalarOp::Expm1, "expm1"),
    (ScalarOp::Tanh, "tanh"),
    (ScalarOp::Sigmoid, "sigmoid"),
    (ScalarOp::FromU32, "from_u32"),
];

impl ScalarOp {
    /// Number of operands.
    #[must_use]
    pub fn arity(self) -> usize {
        match self {
            ScalarOp::Add
            | ScalarOp::Sub
            | ScalarOp::Mul
            | ScalarOp::Div
            | ScalarOp::Max
            | ScalarOp::Min
            | ScalarOp::Pow
            | ScalarOp::Lt
            | ScalarOp::Le
            | ScalarOp::Eq => 2,
            ScalarOp::Select => 3,
            ScalarOp::Neg
            | ScalarOp::Abs
            | ScalarOp::Sign
            | ScalarOp::Sqrt
            | ScalarOp::Exp
            | ScalarOp::Log
            | ScalarOp::Log1p
            | ScalarOp::Expm1
            | ScalarOp::Tanh
            | ScalarOp::Sigmoid
            | ScalarOp::FromU32 => 1,
        }
    }

    /// Floating point operations for reports: 1, and for functions about what their polynomials take.
    #[must_use]
    pub fn flops(self) -> u64 {
        match self {
            ScalarOp::Exp => 20,
            ScalarOp::Log | ScalarOp::Log1p | ScalarOp::Expm1 | ScalarOp::Tanh | ScalarOp::Sigmoid => 25,
            ScalarOp::Pow => 45,
            _ => 1,
        }
    }

    /// All operations, in the order of their declaration.
    pub fn all() -> impl Iterator<Item = ScalarOp> {
        SCALAR_OPS.iter().map(|(op, _)| *op)
    }

    /// The name in text.
    #[must_use]
    pub fn name(self) -> &'static str {
        SCALAR_OPS.iter().find(|(op, _)| *op == self).map_or("?", |(_, name)| name)
    }

    /// Looks an operation up by its name in text.
    #[must_use]
    pub fn from_name(name: &str) -> Option<ScalarOp> {
        SCALAR_OPS.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
    }
}

impl ReduceOp {
    /// The name in text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ReduceOp::Add => "add",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
        }
    }

    /// The neutral element, which an empty reduction gives.
    #[must_use]
    pub fn neutral(self) -> f64 {
        match self {
            ReduceOp::Add => 0.0,
            ReduceOp::Max => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
        }
    }

    /// The scalar operation that combines two values.
    #[must_use]
    pub fn combine(self) -> ScalarOp {
        match self {
            ReduceOp::Add => ScalarOp::Add,
            ReduceOp::Max => ScalarOp::Max,
            ReduceOp::Min => ScalarOp::Min,
        }
    }
}

impl Scalar {
    /// The name in text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scalar::F32 => "f32",
            Scalar::U32 => "u32",
        }
    }
}

impl Access {
    /// The name in text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Access::In => "in",
            Access::Out => "out",
            Access::InOut => "inout",
        }
    }

    /// Whether the kernel may load from the buffer.
    #[must_use]
    pub fn loads(self) -> bool {
        self != Access::Out
    }

    /// Whether the kernel may store to the buffer.
    #[must_use]
    pub fn stores(self) -> bool {
        self != Access::In
    }
}

impl LoopMode {
    /// The words after the extent in text; empty for a serial loop.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            LoopMode::Serial => "",
            LoopMode::Parallel => "parallel",
            LoopMode::Vector => "vector",
            LoopMode::ParallelVector => "parallel vector",
        }
    }

    /// Whether iterations may run side by side in vector lanes.
    #[must_use]
    pub fn is_vector(self) -> bool {
        matches!(self, LoopMode::Vector | LoopMode::ParallelVector)
    }

    /// Whether the runtime splits the range between threads.
    #[must_use]
    pub fn is_parallel(self) -> bool {
        matches!(self, LoopMode::Parallel | LoopMode::ParallelVector)
    }
}

impl Index {
    /// The stride of a loop index; `None` when the expression does not depend on it.
    #[must_use]
    pub fn stride(&self, idx: IdxId) -> Option<Dim> {
        self.terms.iter().find(|(i, _)| *i == idx).map(|(_, d)| *d)
    }
}

impl From<ValId> for Operand {
    fn from(v: ValId) -> Operand {
        Operand::Val(v)
    }
}

impl From<f64> for Operand {
    fn from(x: f64) -> Operand {
        Operand::Lit(x)
    }
}

impl Stmt {
    /// Values that the statement defines for the statements after it.
    pub fn defs(&self) -> impl Iterator<Item = ValId> {
        let (one, many): (Option<ValId>, &[(ReduceOp, ValId)]) = match self {
            Stmt::Let { val, .. } | Stmt::Load { val, .. } | Stmt::Random { val, .. } => (Some(*val), &[]),
            Stmt::Reduce { accs, .. } => (None, accs),
            Stmt::Store { .. } | Stmt::For { .. } => (None, &[]),
        };
        one.into_iter().chain(many.iter().map(|(_, v)| *v))
    }
}
