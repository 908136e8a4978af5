//! Interpreters: slow, obvious, in f64. They are the judges of compiled code.

mod conv;
mod graph;
pub mod kernel;

pub use graph::{Inputs, Outcome, run};
