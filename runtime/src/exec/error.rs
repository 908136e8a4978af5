//! What can go wrong in the executor. In: nothing. Out: [`ExecError`]; its messages start lowercase and end without a
//! full stop, as all diagnostics do.

use std::fmt;
use std::io;

use super::StepKind;
use crate::cpu::{CallError, KernelFault, LevelError};

/// Why an executor could not be made, or a step could not run.
#[derive(Debug)]
pub enum ExecError {
    /// The plan contradicts itself: a damaged executable, or a bug of the compiler.
    Plan(String),
    /// `KUR_CPU` asks for something impossible.
    Cpu(LevelError),
    /// The operating system refused memory.
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// What it said.
        source: io::Error,
    },
    /// No memory has so many bytes as the step takes at its sizes.
    TooLarge(StepKind),
    /// The operating system refused a thread.
    Threads(io::Error),
    /// The program has no such step, because the Kurfile has no loss.
    NoStep(StepKind),
    /// The inputs do not fit the plan; a bug of the caller.
    Inputs(String),
    /// A kernel refused the values of the batch. The step ended there.
    Fault {
        /// Index into [`crate::plan::Program::layers`] of the layer that the kernel belongs to.
        layer: Option<u32>,
        /// The sample and what is wrong with it.
        fault: KernelFault,
    },
}

impl ExecError {
    /// That a call of a step cannot be prepared; `damaged` says where the plan makes no sense.
    pub(super) fn of_call(step: StepKind, e: CallError, damaged: impl FnOnce(String) -> ExecError) -> ExecError {
        match e {
            CallError::TooLarge => ExecError::TooLarge(step),
            CallError::Senseless(what) => damaged(what),
        }
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecError::Plan(what) => write!(f, "the compiled plan is inconsistent: {what}"),
            ExecError::Cpu(e) => e.fmt(f),
            ExecError::Memory { bytes, source } => write!(f, "cannot get {bytes} bytes of memory: {source}"),
            ExecError::TooLarge(step) => write!(f, "the {step} step is larger than any memory"),
            ExecError::Threads(e) => write!(f, "cannot start a thread: {e}"),
            ExecError::NoStep(step) => write!(f, "the program has no {step} step"),
            ExecError::Inputs(what) => write!(f, "the inputs do not fit the plan: {what}"),
            ExecError::Fault { fault, .. } => fault.fmt(f),
        }
    }
}

impl std::error::Error for ExecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ExecError::Cpu(e) => Some(e),
            ExecError::Memory { source, .. } | ExecError::Threads(source) => Some(source),
            ExecError::Fault { fault, .. } => Some(fault),
            ExecError::Plan(_) | ExecError::TooLarge(_) | ExecError::NoStep(_) | ExecError::Inputs(_) => None,
        }
    }
}
