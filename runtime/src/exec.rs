//! Runs plans: binds a [`Plan`](crate::plan::Plan) to memory for one batch size, then launches it.
//!
//! No allocation and no look-up by name happens inside a step: pointers, sizes and work splits are resolved once per
//! batch size ([`Executor::bind`]) and kept.

use std::any::Any;

use crate::abi::KernelFn;

/// Entry points of the generated kernels, with whatever keeps their memory alive.
pub struct CodeTable {
    /// One per [`crate::plan::KernelInfo`].
    pub entries: Vec<KernelFn>,
    /// Mapping or JIT module that owns the code.
    pub owner: Box<dyn Any + Send + Sync>,
}

/// Which step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Forward, backward, update.
    Train,
    /// Forward, losses, metrics.
    Test,
    /// Forward.
    Infer,
}
