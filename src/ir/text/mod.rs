//! Text form of the intermediate representations: what is printed parses back to itself.

pub mod kernel_parse;
pub mod kernel_print;
