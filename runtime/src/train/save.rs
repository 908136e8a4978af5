//! Saving weights during training: each file that the Kurfile names is a [`Target`].
//!
//! A synced write takes milliseconds, an epoch of a small model less. So a target is written at most once a second; a
//! state that is worth keeping in between is copied and written at the next chance, at the latest when training ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::console::Console;
use super::engine::Engine;
use crate::error::{Error, Exit, Result};
use crate::plan::Program;
use crate::weights::{self, Meta, Progress, content_hash, in_optimizer, in_weights, optimizer_path};

/// Time between two writes of one file.
const PERIOD: Duration = Duration::from_secs(1);

/// The loss of a batch is computed before its update, so an update that ruins the weights shows in no loss before the
/// next batch. No such weights are ever kept.
fn check_finite<'a>(program: &Program, state: impl Fn(usize) -> &'a [f32], meta: &Meta) -> Result<()> {
    for (i, spec) in program.state.iter().enumerate().filter(|(_, s)| in_weights(s)) {
        if state(i).iter().any(|v| !v.is_finite()) {
            let message = format!("the weights `{}` are no longer finite after epoch {}", spec.name, meta.epochs);
            return Err(Error::new(Exit::Diverged, "diverged", message));
        }
    }
    Ok(())
}

/// A weights file that training writes.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    /// Whether optimizer state belongs beside it.
    optimizer: bool,
    /// Why it is written: `best` or `last`.
    reason: &'static str,
    pending: Option<Snapshot>,
    created: Instant,
    written: Option<Instant>,
    /// Finished epochs of the state in the file, once written.
    epochs: Option<u64>,
}

#[derive(Debug)]
struct Snapshot {
    states: Vec<Vec<f32>>,
    meta: Meta,
    progress: Progress,
}

impl Target {
    /// A file that nothing has been written to.
    #[must_use]
    pub fn new(path: PathBuf, optimizer: bool, reason: &'static str) -> Target {
        Target { path, optimizer, reason, pending: None, created: Instant::now(), written: None, epochs: None }
    }

    /// The path as people know it.
    #[must_use]
    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether training continues from this file.
    #[must_use]
    pub fn is_resume_point(&self) -> bool {
        self.optimizer
    }

    /// Finished epochs of what this run wrote to the file.
    #[must_use]
    pub fn saved_epochs(&self) -> Option<u64> {
        self.epochs
    }

    /// Time since the file was written, or since training began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.written.unwrap_or(self.created).elapsed()
    }

    /// Whether the file was written, or training began, so recently that writing can wait.
    fn is_recent(&self) -> bool {
        self.age() < PERIOD
    }

    /// Keeps the engine's state: in the file, or in memory when the file was written a moment ago.
    ///
    /// # Errors
    /// `save-weights`.
    pub fn keep<E: Engine>(
        &mut self,
        engine: &E,
        meta: &Meta,
        progress: &Progress,
        console: &mut Console,
    ) -> Result<()> {
        if !self.is_recent() {
            return self.save(engine, meta, progress, console);
        }
        let program = engine.program();
        check_finite(program, |i| engine.state(i), meta)?;
        let wanted = |i: usize| in_weights(&program.state[i]) || (self.optimizer && in_optimizer(&program.state[i]));
        let mut states = self.pending.take().map_or_else(|| vec![Vec::new(); program.state.len()], |s| s.states);
        for (i, copy) in states.iter_mut().enumerate().filter(|(i, _)| wanted(*i)) {
            copy.clear();
            copy.extend_from_slice(engine.state(i));
        }
        self.pending = Some(Snapshot { states, meta: meta.clone(), progress: progress.clone() });
        Ok(())
    }

    /// Writes the engine's state now.
    ///
    /// # Errors
    /// `save-weights`.
    pub fn save<E: Engine>(
        &mut self,
        engine: &E,
        meta: &Meta,
        progress: &Progress,
        console: &mut Console,
    ) -> Result<()> {
        let program = engine.program();
        check_finite(program, |i| engine.state(i), meta)?;
        let states: Vec<&[f32]> = (0..program.state.len()).map(|i| engine.state(i)).collect();
        self.pending = None;
        self.write(program, &states, meta, progress, console)
    }

    /// Writes what [`Target::keep`] has copied, if the file may be written again or `now` is set.
    ///
    /// # Errors
    /// `save-weights`.
    pub fn flush(&mut self, program: &Program, now: bool, console: &mut Console) -> Result<()> {
        if !now && self.is_recent() {
            return Ok(());
        }
        let Some(snapshot) = self.pending.take() else { return Ok(()) };
        let states: Vec<&[f32]> = snapshot.states.iter().map(Vec::as_slice).collect();
        self.write(program, &states, &snapshot.meta, &snapshot.progress, console)
    }

    fn write(
        &mut self,
        program: &Program,
        states: &[&[f32]],
        meta: &Meta,
        progress: &Progress,
        console: &mut Console,
    ) -> Result<()> {
        weights::save(&self.path, program, states, in_weights, meta)?;
        if self.optimizer {
            // A crash between the two writes leaves optimizer state whose hash gives it away.
            let progress = Progress { weights: content_hash(program, states, in_weights), ..progress.clone() };
            weights::save(&optimizer_path(&self.path), program, states, in_optimizer, &progress)?;
        }
        self.written = Some(Instant::now());
        self.epochs = Some(meta.epochs);
        console.event(
            "saved",
            [
                ("path".to_owned(), self.shown().into()),
                ("reason".to_owned(), self.reason.into()),
                ("epoch".to_owned(), meta.epochs.into()),
            ],
        );
        Ok(())
    }
}
