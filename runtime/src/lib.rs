//! The training runtime that `kurc` packs into every executable. It knows nothing of the compiler.

pub mod abi;
pub mod atomic;
pub mod cli;
pub mod cpu;
pub mod data;
pub mod dim;
pub mod error;
pub mod exec;
pub mod payload;
pub mod plan;
pub mod pool;
pub mod spec;
pub mod train;
pub mod weights;
