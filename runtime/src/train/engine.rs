//! What the training loop needs from whatever runs the compiled steps. [`crate::exec::Executor`] is the one that
//! ships; tests use a small model computed by hand.

use crate::cpu::level::LevelError;
use crate::dim::Sym;
use crate::error::{Error, Exit};
use crate::exec::{ExecError, Executor, LaunchTime, Peaks, StepKind};
use crate::payload::PayloadError;
use crate::plan::Program;

/// A failed step: values that a layer cannot take (with [`Error::sample`]), a defect, or a broken system.
pub type RunError = Error;

/// Where the first number that is not finite comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This state held it before the step: the step before made it.
    Before(usize),
    /// A launch of the step.
    Launch {
        /// Name of the kernel or library call.
        op: String,
        /// Its layer, as an index into the program's layers.
        layer: Option<u32>,
    },
}

/// Runs the steps of one program over memory it owns.
pub trait Engine {
    /// The program.
    fn program(&self) -> &Program;

    /// Gives every state tensor its initial value, as a function of the seed alone.
    fn init_state(&mut self, seed: u64);

    /// Values of state tensor `index` of the program.
    fn state(&self, index: usize) -> &[f32];

    /// The same, writable.
    fn state_mut(&mut self, index: usize) -> &mut [f32];

    /// Gives the sizes, beside the number of samples, that the following runs have; those of
    /// [`crate::data::batch::Batch::sizes`].
    fn set_sizes(&mut self, _sizes: &[(Sym, u64)]) {}

    /// Runs a step for `batch` samples. `inputs` follow the plan's slots whose role is not control; `updates` counts
    /// the train steps done before this one.
    ///
    /// # Errors
    /// When the step is absent, an input has the wrong length, or memory is short.
    fn run(&mut self, step: StepKind, batch: u64, inputs: &[&[f32]], seed: u32, updates: u32) -> Result<(), RunError>;

    /// Values that the last run of `step` left in `results[index]` of its plan.
    fn result(&self, step: StepKind, index: usize) -> &[f32];

    /// Bytes of the arena that a step takes at a batch size.
    fn arena_bytes(&self, step: StepKind, batch: u64) -> u64;

    /// Threads that work on a step.
    fn threads(&self) -> usize;

    /// Processor and instruction set in use, for people.
    fn cpu_name(&self) -> String;

    /// Looks for what first makes a number that is not finite when the step runs from the state as it is. May be slow;
    /// the state is left as it was.
    fn diagnose(
        &mut self,
        _step: StepKind,
        _batch: u64,
        _inputs: &[&[f32]],
        _seed: u32,
        _updates: u32,
    ) -> Option<Blame> {
        None
    }

    /// Runs a step once and times each launch; empty for an engine without launches.
    ///
    /// # Errors
    /// As [`Engine::run`].
    fn profile(
        &mut self,
        _step: StepKind,
        _batch: u64,
        _inputs: &[&[f32]],
        _seed: u32,
        _updates: u32,
    ) -> Result<Vec<LaunchTime>, RunError> {
        Ok(Vec::new())
    }

    /// Measures what the threads of this engine could do at most; `None` for an engine without launches.
    ///
    /// # Errors
    /// Memory is short.
    fn peaks(&mut self) -> Result<Option<Peaks>, RunError> {
        Ok(None)
    }
}

impl Engine for Executor {
    fn program(&self) -> &Program {
        Executor::program(self)
    }

    fn init_state(&mut self, seed: u64) {
        Executor::init_state(self, seed);
    }

    fn state(&self, index: usize) -> &[f32] {
        Executor::state(self, index)
    }

    fn state_mut(&mut self, index: usize) -> &mut [f32] {
        Executor::state_mut(self, index)
    }

    fn set_sizes(&mut self, sizes: &[(Sym, u64)]) {
        Executor::set_sizes(self, sizes);
    }

    fn run(&mut self, step: StepKind, batch: u64, inputs: &[&[f32]], seed: u32, updates: u32) -> Result<(), RunError> {
        Executor::run(self, step, batch, inputs, seed, updates).map_err(|e| run_error(Executor::program(self), e))
    }

    fn result(&self, step: StepKind, index: usize) -> &[f32] {
        Executor::result(self, step, index)
    }

    fn arena_bytes(&self, step: StepKind, batch: u64) -> u64 {
        Executor::arena_bytes(self, step, batch)
    }

    fn threads(&self) -> usize {
        Executor::threads(self)
    }

    fn cpu_name(&self) -> String {
        Executor::cpu_name(self)
    }

    fn diagnose(&mut self, step: StepKind, batch: u64, inputs: &[&[f32]], seed: u32, updates: u32) -> Option<Blame> {
        let found = Executor::diagnose(self, step, batch, inputs, seed, updates).ok()?;
        // Once weights are damaged every layer makes NaNs, and the first one would be blamed for nothing.
        if let Some(state) = found.state {
            return Some(Blame::Before(state));
        }
        let op = self.launch_of(step, found.launch?)?;
        Some(Blame::Launch { op, layer: found.layer })
    }

    fn profile(
        &mut self,
        step: StepKind,
        batch: u64,
        inputs: &[&[f32]],
        seed: u32,
        updates: u32,
    ) -> Result<Vec<LaunchTime>, RunError> {
        Executor::profile(self, step, batch, inputs, seed, updates).map_err(|e| run_error(Executor::program(self), e))
    }

    fn peaks(&mut self) -> Result<Option<Peaks>, RunError> {
        Executor::peaks(self).map(Some).map_err(Error::from)
    }
}

/// An error of a step with the layer that it is about.
fn run_error(program: &Program, error: ExecError) -> Error {
    let layer = match &error {
        ExecError::Fault { layer, .. } => layer.and_then(|i| program.layers.get(i as usize)),
        _ => None,
    };
    let help = layer.map(|l| format!("layer `{}` ({}, line {} of the Kurfile) reads it", l.name, l.kind, l.line));
    let error = Error::from(error);
    help.into_iter().fold(error, Error::help)
}

impl From<ExecError> for Error {
    fn from(e: ExecError) -> Error {
        let message = e.to_string();
        match e {
            ExecError::Plan(_) => Error::new(Exit::Internal, "damaged", message)
                .help("copy the executable again, or build it again with `kurc build`"),
            ExecError::Inputs(_) => Error::internal(message),
            ExecError::Cpu(e) => Error::from(e),
            ExecError::Memory { .. } | ExecError::TooLarge(_) => {
                Error::new(Exit::Run, "no-memory", message).help("a smaller `--batch-size` takes less")
            }
            ExecError::Threads(_) => {
                Error::new(Exit::Run, "no-threads", message).help("ask for fewer with `--threads`")
            }
            ExecError::Fault { fault, .. } => Error::data("bad-value", fault.message).of_sample(fault.sample),
            ExecError::NoStep(_) => Error::new(Exit::Kurfile, "no-loss", message),
        }
    }
}

impl From<LevelError> for Error {
    fn from(e: LevelError) -> Error {
        Error::new(Exit::Usage, "cpu-level", e.to_string()).help("leave `KUR_CPU` unset for the best the processor has")
    }
}

impl From<PayloadError> for Error {
    fn from(e: PayloadError) -> Error {
        let exit = if e.exit_code() == Exit::Internal.code() { Exit::Internal } else { Exit::Run };
        Error::new(exit, "payload", e.to_string()).help(e.help())
    }
}
