//! The two intermediate representations: graph and kernel.

pub mod interp;
pub mod kernel;
pub mod text;
pub mod verify_kernel;
