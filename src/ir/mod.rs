//! The two intermediate representations: graph (whole tensors) and kernel (loop nests).

pub mod graph;
pub mod infer;
pub mod interp;
pub mod kernel;
pub mod op;
mod sequence;
pub mod text;
pub mod types;
pub mod verify;
pub mod verify_kernel;
