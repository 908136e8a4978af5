//! Finds out what made a loss, or an output, that is no finite number. The update that follows such a loss damages every weight, so the
//! state from before is needed: a copy is kept from time to time, and the batches since are run again, which gives the same
//! bits.

use std::time::{Duration, Instant};

use super::accumulate::Accumulation;
use super::engine::{Blame, Engine};
use crate::data::batch::{Batch, Feeder, Flow};
use crate::error::{Error, Exit, Result};
use crate::exec::StepKind;
use crate::plan::{InputRole, Plan, Program};

/// How often the state is copied: what is run again takes about as long.
const PERIOD: Duration = Duration::from_secs(5);

/// The state before a batch.
pub(super) struct Snapshot {
    batch: u64,
    steps: u64,
    states: Vec<Vec<f32>>,
    taken: Instant,
}

/// What is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// A model input or target with such a number: its name, and the row of the data from 0.
    input: Option<(String, u32)>,
    when: When,
    /// Kernel or library call, or damaged weights.
    op: String,
    /// Its layer.
    layer: Option<u32>,
}

/// When the first such number came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// In this step.
    Now,
    /// In the update of the batch before.
    Update,
    /// Before any step: the weights hold it.
    Weights,
}

/// An error about a number that is not finite, with what is to blame.
pub(crate) fn diverged(program: &Program, message: String, found: Option<Cause>) -> Error {
    let mut error = Error::new(Exit::Diverged, "diverged", message);
    let Some(Cause { input, when, op, layer }) = found else { return error };
    if let Some((name, row)) = input {
        error = error.help(format!("`{name}` holds a number that is not finite in row {} of the data", row + 1));
    }
    let layer = layer.and_then(|i| usize::try_from(i).ok()).and_then(|i| program.layers.get(i));
    let place = match layer {
        Some(l) => format!("`{op}` in layer `{}` ({}, line {} of the Kurfile)", l.name, l.kind, l.line),
        None => format!("`{op}`"),
    };
    error.help(match when {
        When::Now => format!("the first values that are not finite come from {place}"),
        When::Update => format!("the first values that are not finite of the batch before come from {place}"),
        When::Weights => format!("the weights hold values that are not finite: {place}"),
    })
}

/// `NaN` or `infinite`.
pub(crate) fn word(value: f64) -> &'static str {
    if value.is_nan() { "NaN" } else { "infinite" }
}

/// Looks what made a step outside training give such a number, from the state as it is.
pub(crate) fn inspect<E: Engine>(
    engine: &mut E,
    plan: &Plan,
    step: StepKind,
    batch: &Batch<'_>,
    (seed, updates): (u32, u32),
) -> Option<Cause> {
    let rows = batch.rows.len() as u64;
    match batch.with_inputs(|x| engine.diagnose(step, rows, x, seed, updates))? {
        Blame::Launch { op, layer } => Some(Cause { input: culprit(&names(plan), batch), when: When::Now, op, layer }),
        Blame::Before(state) => weights(engine.program(), state, When::Weights),
    }
}

/// Names of the inputs of a batch.
fn names(plan: &Plan) -> Vec<String> {
    plan.inputs.iter().filter(|s| s.role != InputRole::Control).map(|s| s.name.clone()).collect()
}

/// The first input of a batch that holds such a number, and the row of the data.
fn culprit(names: &[String], batch: &Batch<'_>) -> Option<(String, u32)> {
    batch.with_inputs(|inputs| {
        inputs.iter().zip(names).find_map(|(x, name)| {
            let at = x.iter().position(|v| !v.is_finite())?;
            let row = batch.rows.get(at / (x.len() / batch.rows.len()).max(1))?;
            Some((name.clone(), *row))
        })
    })
}

/// Damaged weights.
fn weights(program: &Program, state: usize, when: When) -> Option<Cause> {
    let name = &program.state.get(state)?.name;
    let own = name.split('/').next().unwrap_or_default();
    let layer = program.layers.iter().position(|l| l.name == own).and_then(|i| u32::try_from(i).ok());
    Some(Cause { input: None, when, op: name.clone(), layer })
}

impl Snapshot {
    /// Copies the state before `batch`, where that was not done lately.
    pub(super) fn refresh<E: Engine>(last: &mut Option<Snapshot>, engine: &E, batch: u64, steps: u64) {
        let count = engine.program().state.len();
        match last {
            Some(s) if s.taken.elapsed() < PERIOD => {}
            Some(s) => {
                for (i, to) in s.states.iter_mut().enumerate() {
                    to.copy_from_slice(engine.state(i));
                }
                (s.batch, s.steps, s.taken) = (batch, steps, Instant::now());
            }
            None => {
                let states = (0..count).map(|i| engine.state(i).to_vec()).collect();
                *last = Some(Snapshot { batch, steps, states, taken: Instant::now() });
            }
        }
    }

    /// Runs up to batch `failed` again and looks where the first number that is not finite comes from. The state stays
    /// that of before the failed batch.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) fn blame<E: Engine>(
        self,
        engine: &mut E,
        feeder: &mut Feeder<'_>,
        order: &[u32],
        failed: u64,
        seed: u32,
    ) -> Result<Option<Cause>> {
        for (i, from) in self.states.iter().enumerate() {
            engine.state_mut(i).copy_from_slice(from);
        }
        let names = engine.program().train.as_ref().map_or_else(Vec::new, names);
        let mut found = None;
        let mut before: Option<Blame> = None;
        let mut done = self.steps;
        let (accumulation, batches) = (Accumulation::of(engine.program()), feeder.batches());
        feeder.epoch(order, self.batch, &mut |batch| {
            let rows = batch.rows.len() as u64;
            engine.set_sizes(batch.sizes());
            let steps = u32::try_from(done).unwrap_or(u32::MAX);
            accumulation.mark(engine, batch.number + 1 == batches);
            if batch.number + 1 < failed {
                batch.with_inputs(|x| engine.run(StepKind::Train, rows, x, seed, steps))?;
                done += 1;
                return Ok(Flow::Continue);
            }
            let blame = batch.with_inputs(|x| engine.diagnose(StepKind::Train, rows, x, seed, steps));
            if batch.number < failed {
                before = blame;
                batch.with_inputs(|x| engine.run(StepKind::Train, rows, x, seed, steps))?;
                done += 1;
                return Ok(Flow::Continue);
            }
            let input = culprit(&names, batch);
            found = match (blame, before.take()) {
                (Some(Blame::Launch { op, layer }), _) => Some(Cause { input, when: When::Now, op, layer }),
                (Some(Blame::Before(_)), Some(Blame::Launch { op, layer })) => {
                    Some(Cause { input, when: When::Update, op, layer })
                }
                // Nothing is kept of the batch before: the weights that it left damaged say most.
                (Some(Blame::Before(state)), _) => weights(engine.program(), state, When::Update),
                (None, _) => None,
            };
            Ok(Flow::Stop)
        })?;
        Ok(found)
    }
}
