//! kurc: an ahead-of-time compiler for Kurfiles.

pub mod codegen;
pub mod diag;
pub mod driver;
pub mod frontend;
pub mod ir;
pub mod link;
pub mod lower;
pub mod model;
pub mod passes;
