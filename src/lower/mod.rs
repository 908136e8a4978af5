//! Lowering: typed Kurfile to graph IR ([`model`]), graph IR to kernels and a plan ([`schedule`], [`loops`], [`memory`]).

pub mod model;

mod layers;
mod losses;
