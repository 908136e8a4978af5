//! Looking into a step: times per launch, and the launch that first made a number that is none. In: as for a run. Out:
//! [`LaunchTime`]s or a [`Diagnosis`]. Invariant: a diagnosis leaves the state as it found it.

use std::time::Instant;

use super::{ExecError, Executor, StepKind, plan_of};
use crate::cpu;
use crate::plan::{Call, Launch, Program};

/// What one launch of a step took.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchTime {
    /// Kernel name, or name of the library call.
    pub name: String,
    /// Index into [`crate::plan::Program::layers`].
    pub layer: Option<u32>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Where a NaN or an infinity comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The first state tensor that held one before the step, if any: the step before made it.
    pub state: Option<usize>,
    /// The first launch after which memory held a new one.
    pub launch: Option<usize>,
    /// Its layer.
    pub layer: Option<u32>,
}

impl Executor {
    /// Runs a step (with all its effects) and times each launch.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn profile(
        &mut self,
        step: StepKind,
        batch: u64,
        inputs: &[&[f32]],
        seed: u32,
        updates: u32,
    ) -> Result<Vec<LaunchTime>, ExecError> {
        let (sizes, count) = self.all_sizes(batch);
        let b = self.prepare(step, &sizes[..count], inputs, seed, updates)?;
        let count = self.bounds[b].launches.len();
        let mut seconds = Vec::with_capacity(count);
        for i in 0..count {
            let start = Instant::now();
            self.launch(b, i)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        let launches = plan_of(&self.program, step).map_or(&[][..], |p| &p.launches);
        let times = launches.iter().zip(seconds);
        let time = |(launch, seconds): (&Launch, f64)| LaunchTime {
            name: launch_name(&self.program, launch),
            layer: launch.layer,
            seconds,
        };
        Ok(times.map(time).collect())
    }

    /// Re-runs a step launch by launch on a cleared arena and finds the first that leaves a NaN or an infinity behind.
    /// Slow. The state is put back afterwards; results of earlier runs are lost.
    ///
    /// After a train step the state already carries the damage; give back the weights from before it first, or read
    /// [`Diagnosis::state`].
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn diagnose(
        &mut self,
        step: StepKind,
        batch: u64,
        inputs: &[&[f32]],
        seed: u32,
        updates: u32,
    ) -> Result<Diagnosis, ExecError> {
        let (sizes, count) = self.all_sizes(batch);
        let b = self.prepare(step, &sizes[..count], inputs, seed, updates)?;
        let state_len = self.state.len() / 4;
        let arena_len = self.arena.len() / 4;
        let saved = self.state.floats(0, state_len).unwrap_or(&[]).to_vec();
        if let Some(arena) = self.arena.floats_mut(0, arena_len) {
            arena.fill(0.0);
        }
        let state = (0..self.program.state.len()).find(|i| self.state(*i).iter().any(|x| !x.is_finite()));
        let mut bad = self.bad_values();
        let mut found = None;
        for i in 0..self.bounds[b].launches.len() {
            // A kernel that refuses its input has told more than a diagnosis could.
            if self.launch(b, i).is_err() {
                break;
            }
            let now = self.bad_values();
            if now.iter().any(|at| bad.binary_search(at).is_err()) {
                found = Some(i);
                break;
            }
            bad = now;
        }
        if let Some(floats) = self.state.floats_mut(0, state_len) {
            floats.copy_from_slice(&saved);
        }
        self.last = None;
        let layer = found.and_then(|i| plan_of(&self.program, step)?.launches.get(i)?.layer);
        Ok(Diagnosis { state, launch: found, layer })
    }

    /// Overwrites the memory of intermediate values and scratch memory as far as they are mapped: a step must write all
    /// that it reads of them. For tests; results of earlier runs are lost.
    pub fn fill_memory(&mut self, value: f32) {
        for region in [&mut self.arena, &mut self.scratch.region] {
            let len = region.len() / 4;
            if let Some(floats) = region.floats_mut(0, len) {
                floats.fill(value);
            }
        }
        self.last = None;
    }

    /// Positions of non-finite values in state and arena, ascending.
    fn bad_values(&self) -> Vec<usize> {
        let state = self.state.floats(0, self.state.len() / 4).unwrap_or(&[]);
        let arena = self.arena.floats(0, self.arena.len() / 4).unwrap_or(&[]);
        state.iter().chain(arena).enumerate().filter(|(_, x)| !x.is_finite()).map(|(i, _)| i).collect()
    }

    /// Name of launch `index` of a step.
    #[must_use]
    pub fn launch_of(&self, step: StepKind, index: usize) -> Option<String> {
        Some(launch_name(&self.program, plan_of(&self.program, step)?.launches.get(index)?))
    }
}

/// Kernel name, or name of the library call.
#[must_use]
pub fn launch_name(program: &Program, launch: &Launch) -> String {
    match &launch.call {
        Call::Kernel { kernel, .. } => program.kernels.get(*kernel as usize).map_or("?", |k| &k.name).to_owned(),
        Call::Lib(lib) => cpu::name(lib).to_owned(),
    }
}
