//! One pass of the test step over a data set: what validation and `test` share.

use super::blame::{self, Cause};
use super::engine::Engine;
use super::metrics::{Means, Metric, Units};
use super::progress::Bar;
use super::scores::Scores;
use super::stop::Stop;
use crate::data::Learned;
use crate::data::batch::{Feeder, Flow};
use crate::dim::{BATCH, Sym};
use crate::error::Result;
use crate::exec::StepKind;
use crate::plan::Plan;

/// What a pass found.
#[derive(Debug)]
pub struct Tested {
    /// Loss and metrics.
    pub metrics: Vec<Metric>,
    /// A batch whose loss is no finite number, at which the pass ended.
    pub(crate) broken: Option<Broken>,
}

/// A batch whose loss is no finite number.
#[derive(Debug)]
pub(crate) struct Broken {
    /// From 1.
    pub(crate) batch: u64,
    pub(crate) loss: f64,
    pub(crate) cause: Option<Cause>,
}

/// Runs the test step over an epoch of `feeder`; `None` when a signal cut it short.
///
/// # Errors
/// Those of the engine.
#[expect(clippy::too_many_arguments, reason = "a pass needs exactly these, and has two callers")]
pub fn run<E: Engine>(
    engine: &mut E,
    plan: &Plan,
    feeder: &mut Feeder<'_>,
    order: &[u32],
    learned: &Learned,
    (seed, updates): (u32, u32),
    title: &str,
    live: bool,
    stop: &Stop,
) -> Result<Option<Tested>> {
    let mut means = Means::new(plan);
    let mut units = Units::new(plan, learned);
    let mut scores = Scores::new(plan, &engine.program().run, learned);
    let mut bar = Bar::new(live, title.to_owned(), feeder.samples());
    let (mut cut, mut broken) = (false, None);
    let symbols = engine.program().symbols.clone();
    feeder.epoch(order, 0, &mut |batch| {
        let rows = batch.rows.len();
        engine.set_sizes(batch.sizes());
        let sizes: Vec<(Sym, u64)> =
            std::iter::once((BATCH, rows as u64)).chain(batch.sizes().iter().copied()).collect();
        let values = symbols.values(&sizes);
        batch.with_inputs(|inputs| -> Result<()> {
            engine.run(StepKind::Test, rows as u64, inputs, seed, updates)?;
            units.add(engine, StepKind::Test, inputs);
            scores.add(engine, StepKind::Test, inputs, &values);
            Ok(())
        })?;
        let loss = means.add(engine, StepKind::Test, rows);
        if !loss.is_finite() {
            let cause = blame::inspect(engine, plan, StepKind::Test, batch, (seed, updates));
            broken = Some(Broken { batch: batch.number + 1, loss, cause });
            return Ok(Flow::Stop);
        }
        bar.update(means.samples, means.loss());
        cut = stop.signal().is_some();
        Ok(if cut { Flow::Stop } else { Flow::Continue })
    })?;
    bar.clear();
    if cut {
        return Ok(None);
    }
    let mut metrics = means.all();
    metrics.extend(units.all());
    for (name, value) in scores.all() {
        // The step itself counts what is right.
        if !metrics.iter().any(|(n, _)| *n == name) {
            metrics.push((name, value));
        }
    }
    Ok(Some(Tested { metrics, broken }))
}
