//! Finds out what made a loss that is no finite number. The update that follows such a loss damages every weight, so the
//! state from before is needed: a copy is kept from time to time, and the batches since are run again, which gives the same
//! bits.

use std::time::{Duration, Instant};

use super::accumulate::Accumulation;
use super::engine::{Blame, Engine};
use crate::data::batch::{Feeder, Flow};
use crate::error::Result;
use crate::exec::StepKind;
use crate::plan::InputRole;

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
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// A model input or target with such a number: its name, and the row of the data from 0.
    pub(super) input: Option<(String, u32)>,
    /// Whether it happened in the update of the batch before.
    pub(super) update: bool,
    /// Kernel or library call, or damaged weights.
    pub(super) op: String,
    /// Its layer.
    pub(super) layer: Option<u32>,
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
        let names: Vec<String> = engine.program().train.as_ref().map_or_else(Vec::new, |p| {
            p.inputs.iter().filter(|s| s.role != InputRole::Control).map(|s| s.name.clone()).collect()
        });
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
            let input = batch.with_inputs(|inputs| {
                inputs.iter().zip(&names).find_map(|(x, name)| {
                    let at = x.iter().position(|v| !v.is_finite())?;
                    let row = batch.rows.get(at / (x.len() / batch.rows.len()).max(1))?;
                    Some((name.clone(), *row))
                })
            });
            let weights = |engine: &E, state: usize| -> Option<Cause> {
                let program = engine.program();
                let name = &program.state.get(state)?.name;
                let own = name.split('/').next().unwrap_or_default();
                let layer = program.layers.iter().position(|l| l.name == own).and_then(|i| u32::try_from(i).ok());
                Some(Cause { input: None, update: true, op: name.clone(), layer })
            };
            found = match (blame, before.take()) {
                (Some(Blame::Launch { op, layer }), _) => Some(Cause { input, update: false, op, layer }),
                (Some(Blame::Before(_)), Some(Blame::Launch { op, layer })) => {
                    Some(Cause { input, update: true, op, layer })
                }
                // Nothing is kept of the batch before: the weights that it left damaged say most.
                (Some(Blame::Before(state)), _) => weights(engine, state),
                (None, _) => None,
            };
            Ok(Flow::Stop)
        })?;
        Ok(found)
    }
}
