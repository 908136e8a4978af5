//! Lowering: typed Kurfile to graph IR ([`model`]), graph IR to kernels and a plan ([`schedule`], `loops`, [`memory`]).

pub mod model;

pub mod memory;
pub mod schedule;

mod layers;
mod loops;
mod losses;
