//! Library kernels: what generated code cannot do at full speed. In: a [`LibCall`] and the values of its symbols. Out: a
//! prepared [`LibKernel`], which runs its tasks through a [`Par`]. Invariants: no allocation after preparation;
//! the arithmetic of an element depends on sizes and [`Level`] only, whatever the tasks, so results are bit-identical for
//! any number of threads; nothing is read or written outside the buffers whose lengths [`buffer_lens`] gives.

#[cfg(test)]
mod check;
pub mod level;
#[cfg(test)]
mod tests;

mod biased;
mod conv;
mod copies;
mod ctc;
mod gather;
mod gemm;
mod grouped;
mod par;
mod pooling;
mod positions;
pub(crate) mod probe;
mod rnn;
mod rows;
mod simd;
mod traffic;
pub mod vmath;

use std::fmt;

use biased::{Biased, Sums};
use conv::Convolution;
use copies::Copies;
use ctc::{Ctc, Lengths};
use gather::{Gather, GatherGrad};
use grouped::{GroupPass, Grouped};
pub use level::{Level, LevelError, processor_name};
pub use par::{Par, Task};
use pooling::{PoolOp, Pooling};
use rnn::{Rnn, StepOp};
use rows::{RowOp, Rows};
pub use traffic::traffic;

use crate::dim::Dim;
use crate::plan::{
    ConvGeometry, LibCall, PartOf, PoolGeometry, RnnCell, RnnGeometry, RnnGradOf, StepGeometry, StepPick, padding,
};

/// Bytes of scratch memory a kernel needs: `shared + threads * local`, in one piece. Undefined at the start of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// Whatever the number of threads.
    pub shared: usize,
    /// For each thread.
    pub local: usize,
}

/// What a call works on.
#[derive(Clone, Copy, Debug)]
pub struct Io<'a> {
    /// The call's buffers in the order that [`LibCall`] documents, each as long as [`buffer_lens`] says.
    pub bufs: &'a [*mut f32],
    /// [`LibKernel::scratch`] for as many threads as the [`Par`] has workers, 4-byte aligned.
    pub scratch: *mut f32,
    /// Workers of the [`Par`]. Tasks may be cut by it only where that changes no bit of the result.
    pub threads: usize,
    /// What [`LibKernel::pack`] made of the operand as it is now; null if the kernel is to do without.
    pub packed: *const f32,
}

/// An operand in the order in which a kernel reads it, which serves for as long as the operand stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Number of the operand's buffer.
    pub operand: usize,
    /// Floats of the packed form.
    pub floats: usize,
    /// Kernels of equal layouts pack an operand alike.
    pub layout: PackLayout,
}

/// What a packed form depends on besides the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackLayout {
    /// Right matrix of a product: inner size, columns, whether it is stored transposed, inner indices of a chunk and of a
    /// run.
    Product([usize; 5]),
    /// Right matrix of a product with few rows: inner size, columns, columns of a panel.
    Panels([usize; 3]),
    /// Kernel of a convolution: taps times input channels, output channels.
    Taps([usize; 2]),
    /// Transformed kernel of a convolution: channels on both sides, whether they are exchanged.
    Winograd([usize; 3]),
    /// Recurrent kernel: units, columns, columns of a panel of either part.
    Recurrent([usize; 4]),
}

/// Why a call cannot do its work on the values of this batch: the data is wrong, not the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFault {
    /// Sample of the batch, from 0.
    pub sample: u64,
    /// What is wrong with it, with the value: `the index 7 is outside a vocabulary of 5`.
    pub message: String,
}

impl fmt::Display for KernelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (sample {} of the batch)", self.message, self.sample)
    }
}

impl std::error::Error for KernelFault {}

/// A library call with all sizes known.
pub trait LibKernel: Send + Sync {
    /// Its scratch memory.
    fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    /// Looks whether the values in the input buffers allow the call. The executor asks right before [`LibKernel::run`],
    /// which may then rely on it. Nothing is written, so a refused call leaves all memory as it was.
    ///
    /// # Safety
    /// As [`LibKernel::run`].
    ///
    /// # Errors
    /// The first sample that does not allow it; the same one whatever the number of threads.
    unsafe fn check(&self, _io: &Io<'_>) -> Result<(), KernelFault> {
        Ok(())
    }

    /// The operand that the kernel packs at each call, if keeping it packed is worth the memory. It is the same data in
    /// another order, so the results have the same bits either way.
    fn packing(&self) -> Option<Packing> {
        None
    }

    /// Packs the operand of [`LibKernel::packing`] to `to`, for [`Io::packed`].
    ///
    /// # Safety
    /// As [`LibKernel::run`], for the operand alone; `to` has as many floats as the packing says.
    unsafe fn pack(&self, _par: &Par<'_>, _io: &Io<'_>, _to: *mut f32) {}

    /// Runs the call. `par` decides who runs its tasks, and when it has several regions of them, each starts when the one
    /// before is complete.
    ///
    /// # Safety
    /// `io` fulfils what its fields say; the output buffer and the scratch memory overlap no other (softmax may work in
    /// place); `par` keeps what [`Par`] promises; the processor has the level it was prepared for.
    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>);
}

/// A call that cannot be prepared for its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// A buffer has more bytes than any memory.
    TooLarge,
    /// Sizes that make no sense; a correct compiler never emits such a call.
    Senseless(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::TooLarge => f.write_str("a buffer is larger than any memory"),
            CallError::Senseless(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for CallError {}

/// Prepares a call for given symbol values.
///
/// # Errors
/// Sizes that overflow or contradict each other.
pub fn prepare(call: &LibCall, syms: &[u64], level: Level) -> Result<Box<dyn LibKernel>, CallError> {
    buffer_lens(call, syms)?;
    let size = |d: &Dim| d.eval(syms) as usize;
    let pool =
        |g: &PoolGeometry, op| -> Box<dyn LibKernel> { Box::new(Pooling::new(Conv::pooling(g, syms), op, level)) };
    let grouped = |g: &ConvGeometry, pass| -> Box<dyn LibKernel> {
        Box::new(Grouped::new(Conv::new(g, syms), g.groups as usize, pass))
    };
    let row = |rows, cols, op| -> Box<dyn LibKernel> { Box::new(Rows::new(size(rows), size(cols), op, level)) };
    Ok(match call {
        LibCall::MatMul { batch, m, n, k, ta, tb } => {
            let (batch, m, n, k) = (size(batch), size(m), size(n), size(k));
            Box::new(gemm::Product::new(gemm::Problem { batch, m, n, k, ta: *ta, tb: *tb }, level))
        }
        LibCall::Biased { call, relu } => Box::new(Biased { sums: sums(call, syms, level)?, relu: *relu }),
        LibCall::ConvForward(g) if g.groups != 1 => grouped(g, GroupPass::Forward),
        LibCall::ConvGradInput(g) if g.groups != 1 => grouped(g, GroupPass::GradInput),
        LibCall::ConvGradWeight(g) if g.groups != 1 => grouped(g, GroupPass::GradWeight),
        LibCall::ConvForward(g) => Box::new(Convolution::forward(&Conv::new(g, syms), level)),
        LibCall::ConvGradInput(g) => Box::new(Convolution::grad_input(&Conv::new(g, syms), level)),
        LibCall::ConvGradWeight(g) => Box::new(Convolution::grad_weight(&Conv::new(g, syms), level)),
        LibCall::MaxPool(g) => pool(g, PoolOp::Max),
        LibCall::MaxPoolGrad(g) => pool(g, PoolOp::MaxGrad),
        LibCall::AvgPool(g) => pool(g, PoolOp::Avg),
        LibCall::AvgPoolGrad(g) => pool(g, PoolOp::AvgGrad),
        LibCall::Softmax { rows, cols, log } => row(rows, cols, if *log { RowOp::LogSoftmax } else { RowOp::Softmax }),
        LibCall::ArgMax { rows, cols } => row(rows, cols, RowOp::ArgMax),
        LibCall::Positions { len } => Box::new(positions::Positions { len: size(len) }),
        LibCall::Rnn(g) => Box::new(rnn::Forwards::new(Rnn::new(g, syms), level)),
        LibCall::RnnGrad(g, of) => Box::new(rnn::Back::new(Rnn::new(g, syms), *of, level)),
        LibCall::RnnGradWeight(g) => Box::new(rnn::WeightGradient::new(Rnn::new(g, syms), level)),
        LibCall::RnnGradBias(g) => Box::new(rnn::BiasGradient::new(Rnn::new(g, syms))),
        LibCall::Part(g, p) => steps(g, syms, StepOp::Part(*p)),
        LibCall::PartGrad(g, p) => steps(g, syms, StepOp::PartGrad(*p)),
        LibCall::Scan(g, reverse) => steps(g, syms, StepOp::Scan { reverse: *reverse }),
        LibCall::Shift(g, reverse) => steps(g, syms, StepOp::Shift { reverse: *reverse }),
        LibCall::Ctc(g) => Box::new(Ctc::new(g, false, syms, level)),
        LibCall::CtcGrad(g) => Box::new(Ctc::new(g, true, syms, level)),
        LibCall::Lengths { len, windows } => Box::new(Lengths { len: size(len), windows: windows.clone() }),
        LibCall::Gather { count, rows, width } => {
            Box::new(Gather::new(size(count), *rows as usize, *width as usize, syms))
        }
        LibCall::GatherGrad { count, rows, width } => {
            Box::new(GatherGrad::new(size(count), *rows as usize, *width as usize, syms))
        }
        LibCall::Concat { outer, inner, parts } => {
            let parts: Vec<usize> = parts.iter().map(size).collect();
            Box::new(Copies::concat(size(outer), size(inner), &parts))
        }
        LibCall::Slice { outer, inner, size: whole, start, len } => {
            Box::new(Copies::slice(size(outer), size(inner), size(whole), sum(start, syms)?, size(len))?)
        }
        LibCall::Pad { outer, inner, size: whole, start, len } => {
            Box::new(Copies::pad(size(outer), size(inner), size(whole), sum(start, syms)?, size(len))?)
        }
    })
}

/// The kernel of a call that an epilogue can follow.
fn sums(call: &LibCall, syms: &[u64], level: Level) -> Result<Sums, CallError> {
    let size = |d: &Dim| d.eval(syms) as usize;
    match call {
        LibCall::MatMul { batch, m, n, k, ta, tb } => {
            let (batch, m, n, k) = (size(batch), size(m), size(n), size(k));
            Ok(Sums::Product(gemm::Product::new(gemm::Problem { batch, m, n, k, ta: *ta, tb: *tb }, level)))
        }
        LibCall::ConvForward(g) if g.groups == 1 => {
            Ok(Sums::Convolution(Convolution::forward(&Conv::new(g, syms), level)))
        }
        _ => Err(CallError::Senseless(format!("`{}` takes no bias", name(call)))),
    }
}

fn steps(g: &StepGeometry, syms: &[u64], op: StepOp) -> Box<dyn LibKernel> {
    let size = |d: Dim| d.eval(syms) as usize;
    Box::new(rnn::Steps { n: size(g.batch), t: size(g.steps), size: size(g.size), op })
}

/// The value of a sum of sizes.
fn sum(dims: &[Dim], syms: &[u64]) -> Result<usize, CallError> {
    let sum = dims.iter().try_fold(0_u64, |a, d| a.checked_add(d.eval(syms))).filter(|n| *n < 1 << 46);
    sum.map(|n| n as usize).ok_or(CallError::TooLarge)
}

/// Scratch bytes that a call needs with so many threads, enough for every level.
///
/// # Errors
/// As [`prepare`].
pub fn workspace_bytes(call: &LibCall, syms: &[u64], threads: usize) -> Result<usize, CallError> {
    let mut most = 0;
    for level in Level::ALL {
        let scratch = prepare(call, syms, level)?.scratch();
        most = most.max(scratch.shared + threads.max(1) * scratch.local);
    }
    Ok(most)
}

/// Lengths in elements of the call's buffers, in order; the last is the output.
///
/// # Errors
/// A length beyond what an address space holds, or a window that reaches absurdly far.
pub fn buffer_lens(call: &LibCall, syms: &[u64]) -> Result<Vec<usize>, CallError> {
    let len = |dims: &[Dim]| -> Result<usize, CallError> {
        let product = dims.iter().try_fold(1_u64, |a, d| a.checked_mul(d.eval(syms)));
        product.filter(|n| *n < 1 << 46).map(|n| n as usize).ok_or(CallError::TooLarge)
    };
    let at = |batch: Dim, s: [Dim; 3], c: u64| len(&[batch, s[0], s[1], s[2], Dim::constant(c)]);
    Ok(match call {
        LibCall::MatMul { batch, m, n, k, .. } => {
            vec![len(&[*batch, *m, *k])?, len(&[*batch, *k, *n])?, len(&[*batch, *m, *n])?]
        }
        LibCall::Biased { call, .. } => {
            let columns = match &**call {
                LibCall::MatMul { n, .. } => len(&[*n])?,
                LibCall::ConvForward(g) if g.groups == 1 => len(&[Dim::constant(g.cout)])?,
                other => return Err(CallError::Senseless(format!("`{}` takes no bias", name(other)))),
            };
            let mut lens = buffer_lens(call, syms)?;
            lens.insert(2, columns);
            lens
        }
        LibCall::ConvForward(g) | LibCall::ConvGradInput(g) | LibCall::ConvGradWeight(g) => {
            check_windows(&Conv::new(g, syms))?;
            if g.groups == 0 || !g.cin.is_multiple_of(g.groups) || !g.cout.is_multiple_of(g.groups) {
                return Err(CallError::Senseless(format!("{} groups do not divide the channels", g.groups)));
            }
            let [a, b, c] = g.kernel.map(|k| Dim::constant(u64::from(k)));
            let x = at(g.batch, g.input, g.cin)?;
            let w = len(&[a, b, c, Dim::constant(g.cin / g.groups), Dim::constant(g.cout)])?;
            let y = at(g.batch, g.output, g.cout)?;
            match call {
                LibCall::ConvForward(_) => vec![x, w, y],
                LibCall::ConvGradInput(_) => vec![y, w, x],
                _ => vec![x, y, w],
            }
        }
        LibCall::MaxPool(g) | LibCall::MaxPoolGrad(g) | LibCall::AvgPool(g) | LibCall::AvgPoolGrad(g) => {
            check_windows(&Conv::pooling(g, syms))?;
            let x = at(g.batch, g.input, g.channels)?;
            let y = at(g.batch, g.output, g.channels)?;
            match call {
                LibCall::MaxPool(_) | LibCall::AvgPool(_) => vec![x, y],
                LibCall::MaxPoolGrad(_) => vec![x, y, y, x],
                _ => vec![y, x],
            }
        }
        LibCall::Softmax { rows, cols, .. } => vec![len(&[*rows, *cols])?; 2],
        LibCall::ArgMax { rows, cols } => vec![len(&[*rows, *cols])?, len(&[*rows])?],
        LibCall::Positions { len: n } => vec![len(&[*n])?],
        LibCall::Rnn(g) | LibCall::RnnGrad(g, _) | LibCall::RnnGradWeight(g) | LibCall::RnnGradBias(g) => {
            rnn_lens(call, g, &len)?
        }
        LibCall::Part(g, p) | LibCall::PartGrad(g, p) => {
            let (x, y) = part_lens(g, p, &len)?;
            if matches!(call, LibCall::Part(..)) { vec![x, y] } else { vec![y, x] }
        }
        LibCall::Scan(g, _) => vec![len(&[g.batch, g.steps, g.size])?; 3],
        LibCall::Shift(g, _) => vec![len(&[g.batch, g.steps, g.size])?; 2],
        LibCall::Ctc(g) | LibCall::CtcGrad(g) => {
            let scores = len(&[g.batch, g.steps, g.classes])?;
            // Bounds the forward variables too.
            len(&[g.steps, g.labels, Dim::constant(16)])?;
            let (labels, one) = (len(&[g.batch, g.labels])?, len(&[g.batch])?);
            let mut lens = vec![scores, labels, one, one];
            lens.extend(if matches!(call, LibCall::Ctc(_)) { vec![one] } else { vec![one, scores] });
            lens
        }
        LibCall::Lengths { len: n, windows } => {
            if windows.iter().any(|(w, s)| *w == 0 || *s == 0) {
                return Err(CallError::Senseless("a window or stride is 0".to_owned()));
            }
            vec![len(&[*n])?; 2]
        }
        LibCall::Gather { count, rows, width } | LibCall::GatherGrad { count, rows, width } => {
            if *rows > gather::MOST_ROWS {
                return Err(CallError::Senseless(format!("a table of {rows} rows cannot be indexed by floats")));
            }
            let width = Dim::constant(*width);
            let table = len(&[Dim::constant(*rows), width])?;
            let values = len(&[*count, width])?;
            match call {
                LibCall::Gather { .. } => vec![table, len(&[*count])?, values],
                _ => vec![len(&[*count])?, values, table],
            }
        }
        LibCall::Concat { outer, inner, parts } => {
            let mut lens = parts.iter().map(|p| len(&[*outer, *p, *inner])).collect::<Result<Vec<_>, _>>()?;
            let whole = lens.iter().try_fold(0_usize, |a, l| a.checked_add(*l)).filter(|n| *n < 1 << 46);
            lens.push(whole.ok_or(CallError::TooLarge)?);
            lens
        }
        LibCall::Slice { outer, inner, size, len: part, .. } | LibCall::Pad { outer, inner, size, len: part, .. } => {
            let (whole, part) = (len(&[*outer, *size, *inner])?, len(&[*outer, *part, *inner])?);
            if matches!(call, LibCall::Slice { .. }) { vec![whole, part] } else { vec![part, whole] }
        }
    })
}

type Len<'a> = dyn Fn(&[Dim]) -> Result<usize, CallError> + 'a;

/// Buffers of the calls of a recurrent layer.
fn rnn_lens(call: &LibCall, g: &RnnGeometry, len: &Len<'_>) -> Result<Vec<usize>, CallError> {
    let wide = |k: u64| Dim::constant(k.saturating_mul(g.units));
    let (units, packed) = (Dim::constant(g.units), wide(g.cell.gates()));
    let tape = len(&[g.batch, g.steps, wide(g.cell.parts())])?;
    let xw = len(&[g.batch, g.steps, packed])?;
    let (kernel, bias) = (len(&[units, packed])?, len(&[packed])?);
    Ok(match call {
        LibCall::Rnn(_) if g.cell == RnnCell::GruAfter => vec![xw, kernel, bias, tape],
        LibCall::Rnn(_) => vec![xw, kernel, tape],
        LibCall::RnnGrad(_, RnnGradOf::States) => vec![tape, kernel, len(&[g.batch, g.steps, units])?, xw],
        LibCall::RnnGrad(_, RnnGradOf::Final) => vec![tape, kernel, len(&[g.batch, units])?, xw],
        LibCall::RnnGradWeight(_) => vec![tape, xw, kernel],
        _ => vec![tape, xw, bias],
    })
}

/// Lengths of a sequence and of a part of it.
fn part_lens(g: &StepGeometry, p: &PartOf, len: &Len<'_>) -> Result<(usize, usize), CallError> {
    if p.part >= p.parts {
        return Err(CallError::Senseless(format!("there is no part {} of {}", p.part, p.parts)));
    }
    let x = len(&[g.batch, g.steps, g.size, Dim::constant(u64::from(p.parts))])?;
    let steps = if p.steps == StepPick::All { g.steps } else { Dim::ONE };
    Ok((x, len(&[g.batch, steps, g.size])?))
}

/// Floating point operations and bytes moved (see [`traffic()`]), for reports.
///
/// # Errors
/// As [`buffer_lens`].
pub fn work(call: &LibCall, syms: &[u64]) -> Result<(f64, f64), CallError> {
    let lens = buffer_lens(call, syms)?;
    let (read, written) = traffic(call, syms)?;
    let flops = match call {
        LibCall::Biased { call, relu } => {
            let each = if *relu { 2.0 } else { 1.0 };
            work(call, syms)?.0 + each * lens.last().map_or(0.0, |n| *n as f64)
        }
        LibCall::MatMul { batch, m, n, k, .. } => {
            2.0 * [batch, m, n, k].into_iter().map(|d| d.eval(syms) as f64).product::<f64>()
        }
        LibCall::ConvForward(g) | LibCall::ConvGradInput(g) | LibCall::ConvGradWeight(g) => {
            let pixels = Dim::product(&[g.batch, g.output[0], g.output[1], g.output[2]]).eval(syms) as f64;
            2.0 * pixels
                * g.kernel.iter().map(|k| f64::from(*k)).product::<f64>()
                * (g.cin / g.groups.max(1)) as f64
                * g.cout as f64
        }
        LibCall::MaxPool(g) | LibCall::MaxPoolGrad(g) | LibCall::AvgPool(g) | LibCall::AvgPoolGrad(g) => {
            let cells = Dim::product(&[g.batch, g.output[0], g.output[1], g.output[2]]).eval(syms) as f64;
            cells * g.channels as f64 * g.window.iter().map(|k| f64::from(*k)).product::<f64>()
        }
        // The usual count for an exponential and two passes.
        LibCall::Softmax { .. } => 10.0 * lens[0] as f64,
        LibCall::ArgMax { .. } | LibCall::Positions { .. } => lens[0] as f64,
        // One product a step each, and through time some 30 operations on each unit.
        LibCall::Rnn(g) | LibCall::RnnGrad(g, _) | LibCall::RnnGradWeight(g) => {
            let cells = Dim::product(&[g.batch, g.steps]).eval(syms) as f64;
            let own = if matches!(call, LibCall::RnnGradWeight(_)) { 0.0 } else { 30.0 };
            cells * g.units as f64 * (2.0 * (g.cell.gates() * g.units) as f64 + own)
        }
        LibCall::RnnGradBias(_) => lens[1] as f64,
        LibCall::Scan(..) => 2.0 * lens[0] as f64,
        LibCall::Part(..) | LibCall::PartGrad(..) | LibCall::Shift(..) => 0.0,
        // An exponential for each class of each step and about 20 operations for each of two places a label; twice, and a
        // division for each place, with the gradient.
        LibCall::Ctc(g) | LibCall::CtcGrad(g) => {
            let [labels, classes] =
                [g.labels, g.classes].map(|d| Dim::product(&[g.batch, g.steps, d]).eval(syms) as f64);
            (40.0 * labels + 20.0 * classes) * if matches!(call, LibCall::Ctc(_)) { 1.0 } else { 2.2 }
        }
        LibCall::Lengths { windows, .. } => 3.0 * (lens[0] * windows.len()) as f64,
        LibCall::Gather { .. } | LibCall::Concat { .. } | LibCall::Slice { .. } | LibCall::Pad { .. } => 0.0,
        LibCall::GatherGrad { .. } => lens[1] as f64,
    };
    Ok((flops, read + written))
}

/// Short name of a call for profiles: `matmul`, `conv-grad-weight`.
#[must_use]
pub fn name(call: &LibCall) -> &'static str {
    match call {
        LibCall::MatMul { .. } => "matmul",
        LibCall::Biased { call, relu } => match (&**call, relu) {
            (LibCall::MatMul { .. }, false) => "matmul+bias",
            (LibCall::MatMul { .. }, true) => "matmul+bias+relu",
            (_, false) => "conv+bias",
            (_, true) => "conv+bias+relu",
        },
        LibCall::ConvForward(_) => "conv",
        LibCall::ConvGradInput(_) => "conv-grad-input",
        LibCall::ConvGradWeight(_) => "conv-grad-weight",
        LibCall::MaxPool(_) => "max-pool",
        LibCall::MaxPoolGrad(_) => "max-pool-grad",
        LibCall::AvgPool(_) => "avg-pool",
        LibCall::AvgPoolGrad(_) => "avg-pool-grad",
        LibCall::Softmax { log: false, .. } => "softmax",
        LibCall::Softmax { log: true, .. } => "log-softmax",
        LibCall::ArgMax { .. } => "argmax",
        LibCall::Positions { .. } => "positions",
        LibCall::Rnn(g) => match g.cell {
            RnnCell::Gru => "gru",
            RnnCell::GruAfter => "gru-after",
            RnnCell::Lstm => "lstm",
        },
        LibCall::RnnGrad(..) => "rnn-grad",
        LibCall::RnnGradWeight(_) => "rnn-grad-weight",
        LibCall::RnnGradBias(_) => "rnn-grad-bias",
        LibCall::Part(..) => "part",
        LibCall::PartGrad(..) => "part-grad",
        LibCall::Scan(..) => "scan",
        LibCall::Shift(..) => "shift",
        LibCall::Ctc(_) => "ctc",
        LibCall::CtcGrad(_) => "ctc-grad",
        LibCall::Lengths { .. } => "lengths",
        LibCall::Gather { .. } => "gather",
        LibCall::GatherGrad { .. } => "gather-grad",
        LibCall::Concat { .. } => "concat",
        LibCall::Slice { .. } => "slice",
        LibCall::Pad { .. } => "pad",
    }
}

/// Bounds positions along each axis, the size of padded copies and the number of taps and stride classes, so that index
/// arithmetic cannot overflow and preparation stays small; refuses strides of zero and absent channels.
fn check_windows(c: &Conv) -> Result<(), CallError> {
    const FAR: usize = 1 << 30;
    if c.cin == 0 || c.cout == 0 {
        return Err(CallError::Senseless("there are no channels".to_owned()));
    }
    let product = |v: &[usize; 3]| v.iter().fold(1_usize, |a, b| a.saturating_mul(*b));
    if product(&c.kernel) > 1 << 20 || product(&c.stride) > 1 << 20 {
        return Err(CallError::Senseless("a window or stride is larger than any sensible one".to_owned()));
    }
    let mut cells = c.cin.max(c.cout);
    for a in 0..3 {
        let span = c.kernel[a].saturating_mul(c.dilation[a]).saturating_add(c.pad[a]);
        let reach = c.output[a].saturating_mul(c.stride[a]).max(c.input[a]).saturating_add(span);
        if reach > FAR || c.kernel[a] == 0 || c.stride[a] == 0 || c.dilation[a] == 0 {
            return Err(CallError::Senseless(format!("a window of size {} makes no sense on axis {a}", c.kernel[a])));
        }
        cells = cells.saturating_mul(reach);
    }
    if cells > 1 << 40 {
        return Err(CallError::Senseless("a window reaches absurdly far".to_owned()));
    }
    Ok(())
}

/// A convolution with concrete sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conv {
    pub(crate) batch: usize,
    pub(crate) input: [usize; 3],
    pub(crate) output: [usize; 3],
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) pad: [usize; 3],
    pub(crate) dilation: [usize; 3],
    pub(crate) cin: usize,
    pub(crate) cout: usize,
}

impl Conv {
    pub(crate) fn new(g: &ConvGeometry, syms: &[u64]) -> Conv {
        Conv {
            batch: g.batch.eval(syms) as usize,
            input: g.input.map(|d| d.eval(syms) as usize),
            output: g.output.map(|d| d.eval(syms) as usize),
            kernel: g.kernel.map(|k| k as usize),
            stride: g.stride.map(|k| k as usize),
            pad: [0; 3],
            dilation: g.dilation.map(|k| k as usize),
            cin: g.cin as usize,
            cout: g.cout as usize,
        }
        .padded(g.pad)
    }

    /// With the padding of a plan.
    fn padded(self, given: [u32; 3]) -> Conv {
        let pad = std::array::from_fn(|a| {
            let reach = self.kernel[a].saturating_sub(1).saturating_mul(self.dilation[a]).saturating_add(1);
            padding(given[a], self.input[a], self.output[a], reach, self.stride[a])
        });
        Conv { pad, ..self }
    }

    /// A pooling as a convolution from and to its channels.
    pub(crate) fn pooling(g: &PoolGeometry, syms: &[u64]) -> Conv {
        Conv {
            batch: g.batch.eval(syms) as usize,
            input: g.input.map(|d| d.eval(syms) as usize),
            output: g.output.map(|d| d.eval(syms) as usize),
            kernel: g.window.map(|k| k as usize),
            stride: g.stride.map(|k| k as usize),
            pad: [0; 3],
            dilation: [1; 3],
            cin: g.channels as usize,
            cout: g.channels as usize,
        }
        .padded(g.pad)
    }

    /// Input position on an axis under kernel cell `k` of output cell `o`, or `None` in the padding.
    #[cfg(test)]
    pub(crate) fn position(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let i = (o * self.stride[axis] + k * self.dilation[axis]).checked_sub(self.pad[axis])?;
        (i < self.input[axis]).then_some(i)
    }
}
