//! The two intermediate representations: graph and kernel.

pub mod kernel;
