//! Training: epochs over the train data, validation, saving of weights, and an orderly end (kur-reference 7).
//!
//! Invariants: the state after epoch `e` depends on the program, the data, the seed and `e` alone, whether training ran
//! through or was stopped and continued; a file with good weights is never replaced by weights of a diverged run.

mod accumulate;
pub(crate) mod blame;
pub mod check;
pub mod console;
pub mod cx;
pub mod engine;
mod epochs;
mod labels;
pub mod metrics;
pub mod progress;
pub mod save;
pub mod scores;
pub mod stop;
pub mod tables;

use std::path::Path;
use std::time::Instant;

use self::cx::{RunCx, Section, shell_path};
use self::engine::Engine;
use self::epochs::{End, Trainer};
use self::save::Target;
use crate::data::batch::Feeder;
use crate::data::order::{Order, fold_seed};
use crate::data::{Dataset, Learned, Truth};
use crate::error::{Error, Exit, Result, count};
use crate::exec::StepKind;
use crate::plan::Program;
use crate::spec::{RunSpec, SectionSpec};
use crate::weights::paths::{self, TrainPaths};
use crate::weights::{self, Loaded, Meta, Progress, content_hash, in_optimizer, in_weights, optimizer_path};

/// Tells the shuffles of validation data from those of training data.
const VALIDATE_SALT: u32 = 1;

/// What the command line says about a training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrainOptions {
    /// Replaces the data of the `train` section.
    pub data: Option<String>,
    /// Replaces the number of epochs.
    pub epochs: Option<u64>,
    /// Replaces the batch size.
    pub batch_size: Option<u64>,
    /// Number of threads; only for advice, since the engine has them.
    pub threads: Option<usize>,
    /// Replaces the seed.
    pub seed: Option<u64>,
    /// Replaces initial and last weights.
    pub weights: Option<String>,
    /// Whether to begin anew although weights exist.
    pub fresh: bool,
}

/// Trains. The result is the signal that ended it early, if one did.
///
/// # Errors
/// Data, weights, the system; `diverged` when the loss is no finite number.
pub fn train<E: Engine>(cx: &mut RunCx<E>, options: &TrainOptions) -> Result<Option<i32>> {
    let run = cx.engine.program().run.clone();
    require_loss(cx.engine.program())?;
    let paths = paths::for_training(&run, options.weights.as_deref(), &cx.about.stem);
    for path in paths.written() {
        weights::check_writable(path)?;
    }
    let start = Start::find(cx, &paths, options)?;
    let section = cx::section(&run, Section::Train, options.data.as_deref(), options.batch_size)?;
    let (data, learned) = cx::load_with(&run, &section, run.rate.source.as_deref(), Truth::Required, start.learned())?;
    let validation = validation(&run, &learned, options.batch_size)?;
    cx.say_unbuilt(&run, &["train", "validate"]);
    for note in data.notes.iter().chain(validation.iter().flat_map(|(_, d)| &d.notes)) {
        cx.console.note(note);
    }
    let seed = options.seed.or(start.meta.as_ref().map(|m| m.seed)).unwrap_or(run.seed);
    let program = cx.engine.program();
    let no_step = || Error::internal("the program has no train step");
    let feeder = Feeder::new(program, program.train.as_ref().ok_or_else(no_step)?, &data, &learned, &section.provider)?;
    let order = if section.provider.randomize { Order::shuffled(data.rows, seed, 0) } else { Order::file(data.rows) };
    let validation = match &validation {
        Some((section, data)) => {
            let plan = program.test.as_ref().ok_or_else(no_step)?;
            let feeder = Feeder::new(program, plan, data, &learned, &section.provider)?;
            // Without a limit every row is seen, so the order would change nothing but rounding.
            let draws = section.provider.randomize && section.provider.num_batches.is_some();
            let rows = data.rows;
            let order = if draws { Order::shuffled(rows, seed, VALIDATE_SALT) } else { Order::file(rows) };
            Some((feeder, order))
        }
        None => None,
    };
    let mut progress = start.apply(cx, seed)?;
    let fingerprint = data.fingerprint();
    if progress.data != fingerprint {
        // Losses on other data say nothing about which weights are the best for this.
        if progress.best_train.is_some() || progress.best_valid.is_some() {
            cx.console.note("the training data is not that of the run before; the best loss starts anew");
        }
        progress = Progress { data: fingerprint, best_train: None, best_valid: None, ..progress };
    }
    let epochs = options.epochs.or(run.epochs);
    announce(cx, &run, &data, validation.as_ref().map(|(f, _)| f.samples()), &feeder, seed, &progress, epochs);
    let meta = Meta {
        compiler: cx.engine.program().compiler.clone(),
        model: run.name.clone(),
        fingerprint: weights::fingerprint(cx.engine.program()),
        epochs: progress.epochs,
        seed,
        learned,
    };
    let trainer = Trainer {
        engine: &mut cx.engine,
        console: &mut cx.console,
        stop: &cx.stop,
        seed: fold_seed(seed),
        meta,
        progress,
        rows: data.rows as u64,
        feeder,
        order,
        validation,
        best_train: target(&paths, paths.best_train.as_deref(), "best"),
        best_valid: target(&paths, paths.best_valid.as_deref(), "best"),
        last: target(&paths, paths.last.as_deref(), "last"),
        interrupted: None,
    };
    let clock = Instant::now();
    let (end, summary) = trainer.run(epochs)?;
    let seconds = clock.elapsed().as_secs_f64();
    finish(cx, &end, &summary, seconds, options, paths.initial.as_deref());
    Ok(match end {
        End::Signal(signal) => Some(signal),
        End::Done | End::OutputGone => None,
    })
}

fn target(paths: &TrainPaths, path: Option<&Path>, reason: &'static str) -> Option<Target> {
    path.map(|p| Target::new(p.to_owned(), paths.resumes_from(p), reason))
}

/// A program without a train step cannot train or test.
///
/// # Errors
/// `no-loss`.
pub fn require_loss(program: &Program) -> Result<()> {
    if program.train.is_some() && program.test.is_some() {
        return Ok(());
    }
    Err(Error::new(Exit::Kurfile, "no-loss", "the Kurfile has no `loss` section, so there is nothing to train or test")
        .help("add one and build again, for example\nloss:\n  - target: OUTPUT\n    name: mean_squared_error"))
}

fn validation(run: &RunSpec, learned: &Learned, batch_size: Option<u64>) -> Result<Option<(SectionSpec, Dataset)>> {
    if run.validate.as_ref().is_none_or(|v| v.data.is_empty()) {
        return Ok(None);
    }
    let section = cx::section(run, Section::Validate, None, batch_size)?;
    let (data, _) = cx::load(run, &section, Truth::Required, Some(learned))?;
    Ok(Some((section, data)))
}

/// Where training begins.
#[derive(Default)]
struct Start {
    weights: Option<Loaded<Meta>>,
    meta: Option<Meta>,
    optimizer: Option<Loaded<Progress>>,
    path: String,
    /// Why the optimizer state beside the weights is not used.
    doubt: Option<String>,
}

impl Start {
    /// Reads the initial weights, and the optimizer state beside them, where there are any.
    fn find<E: Engine>(cx: &RunCx<E>, paths: &TrainPaths, options: &TrainOptions) -> Result<Start> {
        let Some(initial) = paths.initial.as_deref().filter(|_| !options.fresh) else { return Ok(Start::default()) };
        let shown = initial.display().to_string();
        if !initial.exists() {
            if paths.must_exist {
                return Err(Error::new(Exit::Run, "no-weights", format!("the initial weights `{shown}` do not exist"))
                    .help("the Kurfile says `must_exist: yes`; `train --fresh` starts without them"));
            }
            return Ok(Start::default());
        }
        let mut loaded: Loaded<Meta> = weights::read(initial, cx.engine.program())?;
        let beside = optimizer_path(initial);
        let mut doubt = None;
        let optimizer = match beside.exists().then(|| weights::load(&beside, cx.engine.program(), in_optimizer)) {
            None => None,
            Some(Ok(state)) => Some(state),
            // The weights fit, so it is the optimizer that differs, or what is kept for its learning rate.
            Some(Err(e)) if e.id() == "other-model" => {
                doubt = Some(format!(
                    "`{}` was saved under another `train.optimizer` than the Kurfile has now; give it that one again to go \
                     on as training stopped",
                    beside.display()
                ));
                None
            }
            // The weights are sound; a damaged file beside them costs only the optimizer's moments.
            Some(Err(e)) => {
                doubt = Some(e.message().to_owned());
                None
            }
        };
        Ok(Start { meta: loaded.meta.take(), weights: Some(loaded), optimizer, path: shown, doubt })
    }

    fn learned(&self) -> Option<&Learned> {
        self.meta.as_ref().map(|m| &m.learned)
    }

    /// Initialises the engine's state and loads what was found.
    fn apply<E: Engine>(self, cx: &mut RunCx<E>, seed: u64) -> Result<Progress> {
        cx.engine.init_state(seed);
        let Some(weights) = self.weights else { return Ok(Progress::default()) };
        cx::put(&mut cx.engine, &weights);
        let epochs = self.meta.map_or(0, |m| m.epochs);
        let program = cx.engine.program();
        let hash = || {
            let states: Vec<&[f32]> = (0..program.state.len()).map(|i| cx.engine.state(i)).collect();
            content_hash(program, &states, in_weights)
        };
        let progress = match self.optimizer {
            Some(Loaded { meta: Some(progress), tensors }) if progress.weights == hash() => {
                cx::put(&mut cx.engine, &Loaded::<()> { meta: None, tensors });
                // Files from before steps were counted have one for each update.
                Progress { steps: progress.steps.max(progress.updates), ..progress }
            }
            Some(_) => {
                cx.console.note(&format!(
                    "`{}` does not belong to `{}`; the optimizer starts anew",
                    optimizer_path(Path::new(&self.path)).display(),
                    self.path
                ));
                Progress { epochs, ..Progress::default() }
            }
            None => Progress { epochs, ..Progress::default() },
        };
        if let Some(doubt) = &self.doubt {
            cx.console.note(&format!("the optimizer and the best loss start anew: {doubt}"));
        }
        let done = count(progress.epochs, "epoch");
        cx.console.progress(&format!("Continuing from `{}` after {done}.", self.path));
        Ok(progress)
    }
}

#[expect(clippy::too_many_arguments, reason = "the announcement names all of them, and has one caller")]
fn announce<E: Engine>(
    cx: &mut RunCx<E>,
    run: &RunSpec,
    data: &Dataset,
    validated: Option<u64>,
    feeder: &Feeder<'_>,
    seed: u64,
    progress: &Progress,
    epochs: Option<u64>,
) {
    let batch = feeder.batch_size() as u64;
    let mut rows = count(data.rows as u64, "training row");
    if let Some(n) = validated {
        rows += &format!(", {}", count(n, "validation row"));
    }
    cx.console.progress(&tables::summary(&cx.engine, StepKind::Train, batch, seed, &rows));
    let parameters: u64 = cx.engine.program().layers.iter().map(|l| l.params).sum();
    let fields = [
        ("model", run.name.clone().into()),
        ("parameters", parameters.into()),
        ("batch_size", batch.into()),
        ("samples", feeder.samples().into()),
        ("epochs", epochs.into()),
        ("epochs_done", progress.epochs.into()),
        ("seed", seed.into()),
        ("threads", cx.engine.threads().into()),
        ("device", cx.engine.cpu_name().into()),
        ("arena_bytes", cx.engine.arena_bytes(StepKind::Train, batch).into()),
        ("state_bytes", cx.engine.program().state_bytes.into()),
    ];
    cx.console.event("start", fields.map(|(k, v): (&str, serde_json::Value)| (k.to_owned(), v)));
}

/// Tells how training ended and how to go on.
fn finish<E: Engine>(
    cx: &mut RunCx<E>,
    end: &End,
    summary: &epochs::Summary,
    seconds: f64,
    options: &TrainOptions,
    initial: Option<&Path>,
) {
    let saved = summary.saved.join(", ");
    match end {
        End::Done => {
            if summary.epochs == 0 {
                cx.console.progress("No epoch was asked for: the number of epochs is 0.");
            } else {
                cx.console.progress(&format!("Completed {} in {seconds:.1} s.", count(summary.epochs, "epoch")));
            }
            if !saved.is_empty() {
                cx.console.progress(&format!("Saved {saved}."));
            } else if summary.epochs == 0 {
                cx.console.progress("Nothing was saved: without an epoch there are no better weights.");
            } else if let Some(path) = &summary.unbeaten {
                cx.console.progress(&format!(
                    "Nothing was saved: no epoch was better than the best before, whose weights `{path}` keeps."
                ));
            }
        }
        End::Signal(_) | End::OutputGone => {
            let place = match summary.partial {
                Some((batch, batches)) => format!("in epoch {}, after batch {batch} of {batches}", summary.total + 1),
                None => format!("after epoch {}", summary.total),
            };
            cx.console.progress(&format!("Interrupted {place}."));
            if !summary.can_resume {
                cx.console.progress("Nothing was saved to continue from; `last` in the Kurfile's `weights`, or `--weights FILE`, names a file.");
            } else {
                // The same command begins with `initial`, which need not be the file where training ended.
                let begins = initial.map(|p| p.display().to_string());
                let weights = summary.resume_weights.as_ref().filter(|w| Some(*w) != begins.as_ref());
                let weights = weights.or(options.weights.as_ref());
                let weights = weights.map_or_else(String::new, |w| format!(" --weights {}", shell_path(w)));
                let data = options.data.as_ref().map_or_else(String::new, |d| format!(" {}", shell_path(d)));
                let rest = summary.left.map_or_else(String::new, |n| format!(" --epochs {n}"));
                // The seed need not be said again: it is part of what was saved.
                let batch = options.batch_size.map_or_else(String::new, |n| format!(" --batch-size {n}"));
                let threads = options.threads.map_or_else(String::new, |n| format!(" --threads {n}"));
                cx.console.progress(&format!(
                    "Saved {saved}. Continue with `{}{data}{rest}{batch}{threads}{weights}`.",
                    cx.about.command("train")
                ));
            }
        }
    }
    let reason = match end {
        End::Done => "completed",
        End::Signal(_) => "interrupted",
        End::OutputGone => "output closed",
    };
    let fields: [(&str, serde_json::Value); 4] = [
        ("reason", reason.into()),
        ("epochs", summary.total.into()),
        ("epochs_left", summary.left.into()),
        ("seconds", seconds.into()),
    ];
    cx.console.event("end", fields.map(|(k, v)| (k.to_owned(), v)));
}

#[cfg(test)]
pub(crate) mod double;
#[cfg(test)]
mod tests;
