//! kurc: an ahead-of-time compiler for Kurfiles.

pub mod codegen;
pub mod diag;
pub mod ir;
pub mod model;
