//! What the training loop needs from whatever runs the compiled steps. [`crate::exec::Executor`] is the one that
//! ships; tests use a small model computed by hand.

use crate::error::Error;
use crate::exec::StepKind;
use crate::plan::Program;

/// A failed step: always a defect or a broken system, never the user's data.
pub type RunError = Error;

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

    /// Looks for the layer whose values first stopped being finite in the step just run, as an index into the
    /// program's layers. May be slow.
    fn diagnose(&mut self, _step: StepKind, _batch: u64, _inputs: &[&[f32]], _seed: u32, _updates: u32) -> Option<u32> {
        None
    }
}
