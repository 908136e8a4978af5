//! The loop over epochs and batches.

use std::path::PathBuf;

use std::time::Duration;

use super::accumulate::Accumulation;
use super::blame::{Snapshot, diverged, word};
use super::check::{self, Tested};
use super::console::Console;
use super::engine::Engine;
use super::metrics::{LOSS, Means, Metric, fields, show};
use super::progress::{Bar, rate};
use super::save::Target;
use super::stop::Stop;
use crate::data::batch::{Feeder, Flow};
use crate::data::order::Order;
use crate::error::{Error, Exit, Result, count};
use crate::exec::StepKind;
use crate::plan::{Plan, Program};
use crate::weights::{Meta, Partial, Progress};

/// How often the last weights are written while training goes on, against crashes.
const LAST_PERIOD: Duration = Duration::from_secs(20);

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All epochs are done.
    Done,
    /// A signal asked to stop.
    Signal(i32),
    /// Nobody reads our standard output any more, or it cannot be written.
    OutputGone,
}

/// What there is to tell after training.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Epochs of this run.
    pub(super) epochs: u64,
    /// Finished epochs since the beginning of all training.
    pub(super) total: u64,
    /// Epochs that were asked for and are not in the file to continue from.
    pub(super) left: Option<u64>,
    /// Batches done of the interrupted epoch, and all of its batches.
    pub(super) partial: Option<(u64, u64)>,
    /// Files written in this run.
    pub(super) saved: Vec<String>,
    /// Whether training can continue from one of them.
    pub(super) can_resume: bool,
    /// The file to name when continuing, where it is not the one that `train` takes by itself.
    pub(super) resume_weights: Option<String>,
    /// A file for the best weights that no epoch of this run was good enough for.
    pub(super) unbeaten: Option<String>,
}

/// What one pass over the train data took.
#[derive(Clone, Copy, Debug)]
struct Pass {
    samples: u64,
    seconds: f64,
}

/// One training.
pub(super) struct Trainer<'a, E> {
    pub(super) engine: &'a mut E,
    pub(super) console: &'a mut Console,
    pub(super) stop: &'a Stop,
    pub(super) seed: u32,
    pub(super) meta: Meta,
    pub(super) progress: Progress,
    /// Rows of the train data.
    pub(super) rows: u64,
    pub(super) feeder: Feeder<'a>,
    pub(super) order: Order,
    pub(super) validation: Option<(Feeder<'a>, Order)>,
    pub(super) best_train: Option<Target>,
    pub(super) best_valid: Option<Target>,
    pub(super) last: Option<Target>,
    /// Where an interrupted training without a `last` file goes.
    pub(super) interrupted: Option<Target>,
}

impl<E: Engine> Trainer<'_, E> {
    /// Trains `epochs` more epochs, or until stopped.
    pub(super) fn run(mut self, epochs: Option<u64>) -> Result<(End, Summary)> {
        let first = self.progress.epochs;
        let total = epochs.map(|n| first.saturating_add(n));
        let mut means = Means::new(plan(self.engine.program(), StepKind::Train)?);
        let mut end = End::Done;
        while total.is_none_or(|t| self.progress.epochs < t) {
            let epoch = match self.train_epoch(&mut means, total) {
                Ok(Some(pass)) => self.end_epoch(&means, pass, total),
                Ok(None) => Ok(()),
                Err(e) => Err(e),
            };
            if let Err(e) = epoch {
                return Err(self.give_up(e));
            }
            if let Some(signal) = self.stop.signal() {
                end = End::Signal(signal);
                break;
            }
            if self.console.has_failed() {
                end = End::OutputGone;
                break;
            }
        }
        if let Some(last) = &mut self.last
            && let Err(e) = last.save(self.engine, &self.meta, &self.progress, self.console)
        {
            return Err(self.give_up(e));
        }
        self.flush(true)?;
        if matches!(end, End::Signal(_) | End::OutputGone) && self.last.is_none() {
            self.save_interrupted()?;
        }
        let targets = || [&self.best_train, &self.best_valid, &self.last, &self.interrupted].into_iter().flatten();
        let mut saved: Vec<String> = Vec::new();
        for target in targets() {
            let Some(epoch) = target.saved_epochs() else { continue };
            let text = format!("`{}` (epoch {epoch})", target.shown());
            if !saved.contains(&text) {
                saved.push(text);
            }
        }
        let partial = self.progress.partial.as_ref().map(|p| (p.batches, self.feeder.batches()));
        let resume = targets().rfind(|t| t.is_resume_point() && t.saved_epochs().is_some());
        let done = resume.and_then(Target::saved_epochs).unwrap_or(self.progress.epochs);
        let summary = Summary {
            epochs: self.progress.epochs - first,
            total: self.progress.epochs,
            left: total.map(|t| t - done),
            partial,
            can_resume: resume.is_some(),
            resume_weights: resume.map(Target::shown),
            unbeaten: targets().filter(|t| t.saved_epochs().is_none()).map(Target::shown).next(),
            saved,
        };
        Ok((end, summary))
    }

    /// A Kurfile without a `last` file still loses nothing to an interrupt: the state goes beside the best weights.
    fn save_interrupted(&mut self) -> Result<()> {
        let Some(beside) = [&self.best_train, &self.best_valid].into_iter().flatten().next().map(Target::shown) else {
            return Ok(());
        };
        let mut target = Target::new(PathBuf::from(format!("{beside}.interrupted")), true, "interrupted");
        target.save(self.engine, &self.meta, &self.progress, self.console)?;
        self.interrupted = Some(target);
        Ok(())
    }

    /// Trains one epoch, or what is left of an interrupted one; `None` when it was interrupted.
    fn train_epoch(&mut self, means: &mut Means, total: Option<u64>) -> Result<Option<Pass>> {
        let epoch = self.progress.epochs;
        let batch_size = self.feeder.batch_size() as u64;
        means.reset();
        let mut first = 0;
        if let Some(partial) = self.progress.partial.take() {
            if partial.batch_size == batch_size && partial.rows == self.rows && partial.sums.len() == means.sums.len() {
                first = partial.batches;
                means.sums = partial.sums;
                means.samples = partial.samples;
            } else {
                self.console.note("the interrupted epoch begins again, because the data or the batch size has changed");
            }
        }
        let mut bar = Bar::new(self.console.is_live(), title(epoch, total), self.feeder.samples());
        let mut done = first;
        let (engine, progress, stop, seed) = (&mut *self.engine, &mut self.progress, self.stop, self.seed);
        let order = self.order.epoch(epoch);
        let before = means.samples;
        let (accumulation, batches) = (Accumulation::of(engine.program()), self.feeder.batches());
        let mut snapshot: Option<Snapshot> = None;
        let mut failed: Option<(u64, f64)> = None;
        self.feeder.epoch(order, first, &mut |batch| {
            Snapshot::refresh(&mut snapshot, engine, batch.number, progress.steps);
            let rows = batch.rows.len();
            let steps = u32::try_from(progress.steps).unwrap_or(u32::MAX);
            engine.set_sizes(batch.sizes());
            accumulation.mark(engine, batch.number + 1 == batches);
            batch.with_inputs(|inputs| engine.run(StepKind::Train, rows as u64, inputs, seed, steps))?;
            progress.steps += 1;
            progress.updates += u64::from(accumulation.updated(engine));
            done = batch.number + 1;
            let loss = means.add(engine, StepKind::Train, rows);
            if !loss.is_finite() {
                failed = Some((batch.number, loss));
                return Ok(Flow::Stop);
            }
            bar.update(means.samples, means.loss());
            Ok(if stop.signal().is_some() { Flow::Stop } else { Flow::Continue })
        })?;
        let seconds = bar.elapsed().as_secs_f64();
        bar.clear();
        if let Some((at, loss)) = failed {
            let found = snapshot.map_or(Ok(None), |s| s.blame(engine, &mut self.feeder, order, at, seed));
            // That the loss diverged is what counts; why its cause is not told is a note.
            let found = found.unwrap_or_else(|e| {
                self.console.note(&format!("what made the loss diverge was not found: {e}"));
                None
            });
            let message = format!("the loss became {} in epoch {}, batch {}", word(loss), epoch + 1, at + 1);
            return Err(diverged(self.engine.program(), message, found));
        }
        if done < self.feeder.batches() {
            self.progress.partial = Some(Partial {
                batches: done,
                samples: means.samples,
                sums: means.sums.clone(),
                batch_size,
                rows: self.rows,
            });
            return Ok(None);
        }
        self.progress.epochs += 1;
        self.meta.epochs = self.progress.epochs;
        Ok(Some(Pass { samples: means.samples - before, seconds }))
    }

    /// Validates, reports and keeps the best.
    fn end_epoch(&mut self, means: &Means, pass: Pass, total: Option<u64>) -> Result<()> {
        let epoch = self.progress.epochs;
        let (validated, cause) = match self.validate(epoch)? {
            Some(Tested { metrics, broken }) => (Some(metrics), broken.and_then(|b| b.cause)),
            None => (None, None),
        };
        self.report(total, &means.all(), validated.as_deref(), pass);
        let loss = validated.as_ref().and_then(|m| m.iter().find(|(n, _)| n == LOSS).or(m.first())).map(|(_, v)| *v);
        if let Some(loss) = loss.filter(|l| !l.is_finite()) {
            let message = format!("the validation loss became {} after epoch {epoch}", word(loss));
            return Err(diverged(self.engine.program(), message, cause));
        }
        // A validation that was cut short says nothing, and the training loss is another measure.
        let measure = if self.validation.is_some() { loss } else { means.loss() };
        if let Some(loss) = measure {
            self.plateau(loss);
        }
        if let Some(loss) = means.loss()
            && self.progress.best_train.is_none_or(|best| loss < best)
        {
            self.progress.best_train = Some(loss);
            if let Some(target) = &mut self.best_train {
                target.keep(self.engine, &self.meta, &self.progress, self.console)?;
            }
        }
        if let Some(loss) = loss
            && self.progress.best_valid.is_none_or(|best| loss < best)
        {
            self.progress.best_valid = Some(loss);
            if let Some(target) = &mut self.best_valid {
                target.keep(self.engine, &self.meta, &self.progress, self.console)?;
            }
        }
        self.flush(false)?;
        if let Some(last) = &mut self.last
            && last.age() >= LAST_PERIOD
        {
            last.save(self.engine, &self.meta, &self.progress, self.console)?;
        }
        Ok(())
    }

    /// Lowers the learning rate when the loss has not become lower for long enough. Both numbers live in the optimizer's
    /// state, so that they are saved with it.
    #[expect(clippy::cast_possible_truncation, reason = "states are f32")]
    fn plateau(&mut self, loss: f64) {
        let program = self.engine.program();
        let Some(spec) = program.run.rate.plateau.clone() else { return };
        let find = |name: &str| program.state.iter().position(|s| s.name == name);
        let (Some(factor), Some(seen)) = (find(&spec.state), find(&spec.seen)) else { return };
        let [best, waited] = self.engine.state(seen) else { return };
        let (lower, waited) = (*waited < 0.0 || (loss as f32) < *best, waited.max(0.0) + 1.0);
        let drops = !lower && f64::from(waited) >= f64::from(spec.patience);
        let now = if lower { [loss as f32, 0.0] } else { [*best, if drops { 0.0 } else { waited }] };
        self.engine.state_mut(seen).copy_from_slice(&now);
        if drops && let [share] = self.engine.state_mut(factor) {
            *share = (f64::from(*share) * spec.factor) as f32;
            let rate = f64::from(*share);
            self.console.note(&format!(
                "the loss did not fall for {}; the learning rate is now {} of its first size",
                count(spec.patience.into(), "epoch"),
                show(rate)
            ));
        }
    }

    fn validate(&mut self, epoch: u64) -> Result<Option<Tested>> {
        let Some((feeder, order)) = &mut self.validation else { return Ok(None) };
        let plan = plan(self.engine.program(), StepKind::Test)?.clone();
        let steps = u32::try_from(self.progress.steps).unwrap_or(u32::MAX);
        check::run(
            self.engine,
            &plan,
            feeder,
            order.epoch(epoch - 1),
            &self.meta.learned,
            (self.seed, steps),
            "Validating",
            self.console.is_live(),
            self.stop,
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "sample counts are far below 2^52")]
    fn report(&mut self, total: Option<u64>, metrics: &[Metric], validated: Option<&[Metric]>, pass: Pass) {
        let (epoch, Pass { samples, seconds }) = (self.progress.epochs, pass);
        let per_second = samples as f64 / seconds.max(1e-9);
        let mut parts: Vec<String> = metrics.iter().map(|(n, v)| format!("{n}={}", show(*v))).collect();
        parts.extend(validated.unwrap_or_default().iter().map(|(n, v)| format!("val_{n}={}", show(*v))));
        parts.push(format!("{} samples/s", rate(per_second)));
        self.console.progress(&format!("{}: {}", title(epoch - 1, total), parts.join(", ")));
        let head = [("epoch".to_owned(), epoch.into()), ("epochs".to_owned(), total.into())];
        let tail = [
            ("samples".to_owned(), samples.into()),
            ("seconds".to_owned(), seconds.into()),
            ("samples_per_second".to_owned(), per_second.into()),
            ("updates".to_owned(), self.progress.updates.into()),
        ];
        let all = head.into_iter().chain(fields("", metrics)).chain(fields("val_", validated.unwrap_or_default()));
        self.console.event("epoch", all.chain(tail));
    }

    fn flush(&mut self, now: bool) -> Result<()> {
        for target in [&mut self.best_train, &mut self.best_valid].into_iter().flatten() {
            target.flush(self.engine.program(), now, self.console)?;
        }
        Ok(())
    }

    /// Ends a training that cannot go on: the best weights seen are still written, the last ones are not touched.
    fn give_up(mut self, error: Error) -> Error {
        if let Err(second) = self.flush(true) {
            return second;
        }
        if error.exit() != Exit::Diverged {
            return error;
        }
        let kept: Vec<String> = [&self.best_train, &self.best_valid, &self.last]
            .into_iter()
            .flatten()
            .filter_map(|t| t.saved_epochs().map(|e| format!("`{}` keeps the weights of epoch {e}", t.shown())))
            .collect();
        let error = match kept.as_slice() {
            [] => error.help("no weights were written by this run"),
            kept => error.help(kept.join("\n")),
        };
        error.help(
            "a smaller learning rate, `clip` in the optimizer, or `normalize: standard` for the data usually helps",
        )
    }
}

fn plan(program: &Program, step: StepKind) -> Result<&Plan> {
    let found = match step {
        StepKind::Train => program.train.as_ref(),
        StepKind::Test => program.test.as_ref(),
        StepKind::Infer => Some(&program.infer),
    };
    found.ok_or_else(|| Error::internal(format!("the program has no {step:?} step")))
}

/// `Epoch 3/10`, for epoch 2 counted from 0.
fn title(epoch: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("Epoch {}/{total}", epoch + 1),
        None => format!("Epoch {}/inf", epoch + 1),
    }
}
