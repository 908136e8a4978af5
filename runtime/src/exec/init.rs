//! Initial values of the state. In: the state specs and a seed. Out: filled tensors. Invariant: each value depends on the
//! seed, the index of its tensor and its position only, and on no library function of the operating system, so that a seed
//! gives the same bits everywhere.

use super::memory::Region;
use super::orthogonal::orthogonal;
use crate::abi::rng;
use crate::cpu::Level;
use crate::plan::{Init, StateSpec};

/// Operation number of the initial values of state 0; state `i` draws as operation `INIT_OP + i`. Above the numbers
/// that a compiled program gives its own draws.
pub const INIT_OP: u32 = 0x4000_0000;

pub(super) fn fill(specs: &[StateSpec], state: &mut Region, seed: u64, level: Level) {
    let seed = (seed ^ (seed >> 32)) as u32;
    for (i, spec) in specs.iter().enumerate() {
        let Some(values) = state.floats_mut(spec.offset as usize, spec.len() as usize) else { continue };
        let stream = rng::stream(seed, INIT_OP.wrapping_add(i as u32), 0);
        match spec.init {
            Init::Constant(c) => values.fill(c),
            Init::Uniform { limit } => uniform(values, stream, limit),
            Init::GlorotUniform { fan_in, fan_out } => {
                let limit = (6.0 / (fan_in as f64 + fan_out as f64).max(1.0)).sqrt();
                uniform(values, stream, limit as f32);
            }
            Init::Orthogonal => {
                let rows = spec.shape.first().map_or(1, |d| *d as usize);
                orthogonal(values, stream, rows, level);
            }
            Init::Block { value, from, to } => {
                for (i, v) in values.iter_mut().enumerate() {
                    *v = if (from..to).contains(&(i as u64)) { value } else { 0.0 };
                }
            }
        }
    }
}

/// `(2u − 1) · limit`.
fn uniform(values: &mut [f32], stream: u32, limit: f32) {
    for (i, v) in values.iter_mut().enumerate() {
        *v = (2.0 * rng::uniform(stream, i as u32) - 1.0) * limit;
    }
}
