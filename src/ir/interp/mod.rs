//! Interpreters: slow, obvious, in f64. They are the judges of compiled code.

mod conv;
mod ctc;
mod graph;
pub mod kernel;
mod rnn;
mod steps;

pub use graph::{Inputs, Outcome, run};
