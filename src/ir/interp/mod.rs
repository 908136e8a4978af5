//! Interpreters: slow, obvious, in f64. They are the judge of every back end.

pub mod kernel;
