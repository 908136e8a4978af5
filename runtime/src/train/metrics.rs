//! Sample-weighted running means of a step's metrics, and errors of scaled targets in the column's own units.

use serde_json::Value;

use super::engine::Engine;
use crate::data::{Learned, LearnedSource};
use crate::exec::StepKind;
use crate::plan::{InputRole, Plan, ResultRole};

/// The name of the total loss.
pub const LOSS: &str = "loss";

/// A metric's name and value.
pub type Metric = (String, f64);

/// Running means of the metrics of one plan.
#[derive(Clone, Debug)]
pub struct Means {
    /// Result index and name.
    metrics: Vec<(usize, String)>,
    loss: usize,
    /// Sums of value times samples.
    pub sums: Vec<f64>,
    /// Samples so far.
    pub samples: u64,
}

impl Means {
    /// Nothing yet for the metrics of `plan`.
    #[must_use]
    pub fn new(plan: &Plan) -> Means {
        let metrics: Vec<(usize, String)> = plan
            .results
            .iter()
            .enumerate()
            .filter(|(_, r)| r.role == ResultRole::Metric)
            .map(|(i, r)| (i, r.name.clone()))
            .collect();
        let loss = metrics.iter().position(|(_, n)| n == LOSS).unwrap_or(0);
        Means { sums: vec![0.0; metrics.len()], metrics, loss, samples: 0 }
    }

    /// Starts a new mean.
    pub fn reset(&mut self) {
        self.sums.fill(0.0);
        self.samples = 0;
    }

    /// Adds the metrics of the step just run; the loss of that batch.
    #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 samples")]
    pub fn add<E: Engine>(&mut self, engine: &E, step: StepKind, samples: usize) -> f64 {
        let mut batch_loss = 0.0;
        for (i, ((index, _), sum)) in self.metrics.iter().zip(&mut self.sums).enumerate() {
            let value = engine.result(step, *index).first().copied().map_or(f64::NAN, f64::from);
            *sum += value * samples as f64;
            if i == self.loss {
                batch_loss = value;
            }
        }
        self.samples += samples as u64;
        batch_loss
    }

    /// The mean loss, when there is one.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        self.mean(self.loss)
    }

    /// All means, in the order of the plan.
    #[must_use]
    pub fn all(&self) -> Vec<Metric> {
        (0..self.metrics.len()).filter_map(|i| Some((self.metrics[i].1.clone(), self.mean(i)?))).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "sample counts are far below 2^52")]
    fn mean(&self, index: usize) -> Option<f64> {
        let sum = self.sums.get(index)?;
        (self.samples > 0).then(|| sum / self.samples as f64)
    }
}

/// Root mean squared errors of scaled targets in the units of their columns, where the step leaves the output behind.
#[derive(Debug)]
pub struct Units {
    targets: Vec<ScaledTarget>,
}

#[derive(Debug)]
struct ScaledTarget {
    input: usize,
    result: usize,
    /// Name, units per scaled unit, sum of squares.
    columns: Vec<(String, f64, f64)>,
    samples: u64,
}

impl Units {
    /// The scaled targets of a plan.
    #[must_use]
    pub fn new(plan: &Plan, learned: &Learned) -> Units {
        let slots = || plan.inputs.iter().filter(|s| s.role != InputRole::Control);
        let mut targets = Vec::new();
        for source in learned.sources.iter().filter(|s| s.target && s.is_scaled()) {
            let input = slots().position(|s| s.role == InputRole::Target && s.name == source.name);
            let result = plan.results.iter().position(|r| r.role == ResultRole::Output && r.name == source.name);
            if let (Some(input), Some(result)) = (input, result) {
                targets.push(ScaledTarget { input, result, columns: scaled_columns(source), samples: 0 });
            }
        }
        let only = targets.len() == 1 && targets[0].columns.len() == 1;
        for target in &mut targets {
            for (name, _, _) in &mut target.columns {
                *name = if only { "rmse".to_owned() } else { format!("rmse:{name}") };
            }
        }
        Units { targets }
    }

    /// Adds the step just run.
    pub fn add<E: Engine>(&mut self, engine: &E, step: StepKind, inputs: &[&[f32]]) {
        for target in &mut self.targets {
            let width = target.columns.len();
            let (Some(truth), found) = (inputs.get(target.input), engine.result(step, target.result)) else { continue };
            for (t, y) in truth.chunks_exact(width).zip(found.chunks_exact(width)) {
                for (i, (_, unit, sum)) in target.columns.iter_mut().enumerate() {
                    *sum += ((f64::from(t[i]) - f64::from(y[i])) * *unit).powi(2);
                }
                target.samples += 1;
            }
        }
    }

    /// The errors, in the order of the program's targets.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sample counts are far below 2^52")]
    pub fn all(&self) -> Vec<Metric> {
        let root = |sum: f64, n: u64| (sum / n as f64).sqrt();
        let seen = self.targets.iter().filter(|t| t.samples > 0);
        seen.flat_map(|t| t.columns.iter().map(|(n, _, s)| (n.clone(), root(*s, t.samples)))).collect()
    }
}

fn scaled_columns(source: &LearnedSource) -> Vec<(String, f64, f64)> {
    source
        .columns
        .iter()
        .flat_map(|c| {
            let unit = match &c.encoding {
                crate::data::Encoding::Number { divide, .. } => *divide,
                crate::data::Encoding::Classes { .. } => 1.0,
            };
            (0..c.encoding.width()).map(move |_| (c.name.clone(), unit, 0.0))
        })
        .collect()
}

/// A metric for people: four decimals, or an exponent where those would be zeros.
#[must_use]
pub fn show(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.3e}") } else { format!("{value:.4}") }
}

/// Metrics as JSON fields under `prefix`.
pub fn fields<'m>(prefix: &'m str, metrics: &'m [Metric]) -> impl Iterator<Item = (String, Value)> + 'm {
    metrics.iter().map(move |(name, value)| (format!("{prefix}{name}"), Value::from(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_readable() {
        assert_eq!(show(0.41234), "0.4123");
        assert_eq!(show(0.00001234), "1.234e-5");
        assert_eq!(show(0.0), "0.0000");
    }
}
