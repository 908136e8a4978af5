//! `evaluate` and `predict`: the infer step over data, in file order, into a table.

use std::io::{self, Write};

use super::output::{Format, Table, same_shape};
use super::test::needs_training;
use super::{OutputArgs, no_statistics};
use crate::atomic;
use crate::data::batch::{Feeder, Flow};
use crate::data::file::expand;
use crate::data::order::{Order, fold_seed};
use crate::data::{Dataset, Learned, Role, Source, Truth};
use crate::dim::{BATCH, Dim};
use crate::error::{Error, Exit, Result, count};
use crate::exec::StepKind;
use crate::plan::ResultRole;
use crate::spec::{RunSpec, SectionSpec};
use crate::train::blame::{self, diverged, word};
use crate::train::console::stdout_error;
use crate::train::cx::{self, RunCx, Section};
use crate::train::engine::Engine;
use crate::train::progress::Bar;
use crate::weights::paths::{self, Reader};

/// What to predict and where to write it.
pub(super) struct Job<'a> {
    /// The command, for messages and events.
    pub(super) word: &'static str,
    /// Data from the command line.
    pub(super) data: Option<&'a str>,
    /// Where and how to write.
    pub(super) output: &'a OutputArgs,
    /// Replaces the batch size.
    pub(super) batch_size: Option<u64>,
    /// Whether to write the truth beside predictions.
    pub(super) truth: bool,
    /// The section whose data and provider are used.
    pub(super) section: Section,
}

/// Writes the table of predictions.
pub(super) fn run<E: Engine>(cx: &mut RunCx<E>, job: &Job<'_>) -> Result<()> {
    let run = cx.engine.program().run.clone();
    let mut section = cx::section(&run, job.section, job.data, job.batch_size)?;
    if !job.truth {
        // A prediction is for every row given.
        section.provider.num_batches = None;
        section.provider.force_batch_size = false;
    }
    let destination = job.output.output.as_deref().or(if job.truth { run.destination.as_deref() } else { None });
    if let (Some(data), Some(out)) = (job.data, destination)
        && let (Ok(data), Ok(out)) = (std::fs::canonicalize(data), std::fs::canonicalize(out))
        && data == out
    {
        return Err(Error::new(
            Exit::Usage,
            "usage",
            format!("`{}` is the data; it will not be overwritten", out.display()),
        )
        .help("name another file with `-o`"));
    }
    let format = match destination {
        Some(path) => Format::of(path)?,
        None if cx.console.is_json() => Format::JsonLines,
        None => Format::Csv,
    };
    let about = &cx.about;
    let weights = paths::for_reading(
        &run,
        Reader::Evaluate,
        job.output.weights.as_deref(),
        &about.stem,
        about.directory.as_deref(),
        &about.command("train"),
    )?;
    let meta = cx::restore(&mut cx.engine, &weights)?;
    let shown = weights.display().to_string();
    let truth = if job.truth { Truth::Optional } else { Truth::Ignored };
    let (data, learned) = cx::load(&run, &section, truth, meta.as_ref().map(|m| &m.learned))?;
    if meta.is_none() && needs_training(&learned) {
        return Err(no_statistics(&shown));
    }
    if job.truth {
        cx.say_unbuilt(&run, &["evaluate"]);
    }
    for note in &data.notes {
        cx.console.note(note);
    }
    for note in notes(&run, &data, job.truth) {
        cx.console.note(&note);
    }
    if format == Format::Csv
        && let Some(output) = run.outputs.iter().find(|o| o.shape.contains(&0))
    {
        let message =
            format!("the size of the output `{}` differs from row to row, which a table cannot show", output.name);
        return Err(Error::new(Exit::Usage, "variable-shape", message)
            .help("write JSON lines or numpy arrays: `-o out.jsonl`, `-o out.npz`"));
    }
    let event = if destination.is_none() && cx.console.is_json() { Some("row") } else { None };
    let table = Table::new(format, event, &run.outputs, &data, &learned, job.output.proba, job.truth);
    if job.output.proba && !table.has_classes() {
        return Err(Error::new(
            Exit::Usage,
            "no-classes",
            "no output of the model has classes, so `--proba` has none to show",
        ));
    }
    let seed = fold_seed(meta.as_ref().map_or(run.seed, |m| m.seed));
    let pass = Pass { run: &run, section: &section, data: &data, learned: &learned, seed, word: job.word };
    let Written { rows, warning } = match destination {
        None => {
            let mut engine = Live { engine: &mut cx.engine, bar: false };
            pass.write(&mut engine, table, cx.console.out()).map_err(|f| f.on(stdout_error))?
        }
        Some(path) => {
            let live = cx.console.is_live();
            to_file(path, |out| pass.write(&mut Live { engine: &mut cx.engine, bar: live }, table, out))?
        }
    };
    if let Some(warning) = warning {
        let evaluate = cx.about.command("evaluate");
        let help = format!("`{evaluate}` with the same data says which layer such numbers come from");
        cx.console.warn(&format!("{warning}\n  = help: {help}"));
    }
    if let Some(path) = destination {
        cx.console.progress(&format!("Wrote {} to `{path}` with the weights `{shown}`.", count(rows as u64, "row")));
    }
    let fields = [
        ("rows".to_owned(), rows.into()),
        ("weights".to_owned(), shown.into()),
        ("path".to_owned(), destination.into()),
    ];
    cx.console.event(job.word, fields);
    Ok(())
}

/// What a reader of the table should know: samples that were filled up, truths that are not in it.
fn notes(run: &RunSpec, data: &Dataset, truth: bool) -> Vec<String> {
    let mut notes = Vec::new();
    for input in &run.inputs {
        let Some(steps) = input.shape.first().copied().filter(|s| *s > 0) else { continue };
        let source = data.sources.iter().find(|s| s.role == Role::Input && s.name == input.name);
        let measured = |s: &Source| s.is_blank() || s.shape.len() == input.shape.len();
        if source.is_some_and(|s| measured(s) && (0..data.rows).any(|row| s.length(row) < steps)) {
            let name = &input.name;
            notes.push(format!(
                "samples of `{name}` that are shorter than the {steps} steps of the model are filled up with zeros, and the \
                 outputs have all steps; with `shape: [null, …]` they have those of each sample"
            ));
        }
    }
    for output in run.outputs.iter().filter(|_| truth) {
        if data.get(&output.name).is_some_and(|s| !same_shape(s, output)) {
            let name = &output.name;
            notes.push(format!("the truth of `{name}` has another shape than the output and is not written"));
        }
    }
    notes
}

/// Why writing a table stopped.
enum Failure {
    Run(Error),
    Write(io::Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Run(e)
    }
}

impl Failure {
    fn on(self, write: impl FnOnce(&io::Error) -> Error) -> Error {
        match self {
            Failure::Run(e) => e,
            Failure::Write(e) => write(&e),
        }
    }
}

/// What a table came to.
#[derive(Default)]
struct Written {
    rows: usize,
    /// What is wrong with its numbers.
    warning: Option<String>,
}

fn to_file(path: &str, fill: impl FnOnce(&mut dyn Write) -> Result<Written, Failure>) -> Result<Written> {
    let mut table = Written::default();
    let mut failure = None;
    let written = atomic::write(&expand(path), |out| match fill(out) {
        Ok(done) => {
            table = done;
            Ok(())
        }
        Err(Failure::Write(e)) => Err(e),
        Err(Failure::Run(e)) => {
            failure = Some(e);
            Err(io::Error::other("the run failed"))
        }
    });
    match (failure, written) {
        (Some(e), _) => Err(e),
        (None, Err(e)) => Err(Error::io("write-output", "write", path, &e)),
        (None, Ok(())) => Ok(table),
    }
}

/// The first output and row with a number that is not finite, padding aside.
fn not_finite(rows: &[u32], values: &[&[f32]], shape_of: &dyn Fn(usize, u32) -> Vec<u64>) -> Option<(usize, u32, f32)> {
    values.iter().enumerate().find_map(|(output, values)| {
        if values.iter().all(|x| x.is_finite()) {
            return None;
        }
        let width = values.len() / rows.len();
        rows.iter().zip(values.chunks_exact(width.max(1))).find_map(|(row, values)| {
            let own = usize::try_from(shape_of(output, *row).iter().product::<u64>()).unwrap_or(usize::MAX);
            let bad = values.iter().take(own).find(|x| !x.is_finite())?;
            Some((output, *row, *bad))
        })
    })
}

struct Live<'e, E> {
    engine: &'e mut E,
    bar: bool,
}

/// One pass of the infer step over data.
struct Pass<'a> {
    run: &'a RunSpec,
    section: &'a SectionSpec,
    data: &'a Dataset,
    learned: &'a Learned,
    seed: u32,
    word: &'static str,
}

impl Pass<'_> {
    fn write<E: Engine>(
        &self,
        live: &mut Live<'_, E>,
        mut table: Table<'_>,
        out: &mut dyn Write,
    ) -> Result<Written, Failure> {
        let plan = live.engine.program().infer.clone();
        let mut results = Vec::new();
        for output in &self.run.outputs {
            let index = plan.results.iter().position(|r| r.role == ResultRole::Output && r.name == output.name);
            results.push(index.ok_or_else(|| {
                Error::internal(format!("the infer step does not leave output `{}` behind", output.name))
            })?);
        }
        // The axes of the outputs behind the batch.
        let dims: Vec<Vec<Dim>> =
            results.iter().map(|i| plan.results[*i].shape.iter().skip(1).copied().collect()).collect();
        let symbols = live.engine.program().symbols.clone();
        let mut feeder = Feeder::new(live.engine.program(), &plan, self.data, self.learned, &self.section.provider)?;
        // Where samples differ in length: the steps of each that are no padding.
        let real: Vec<Option<Vec<u64>>> = dims
            .iter()
            .map(|d| {
                let steps = d.first().copied().filter(|s| !s.is_const())?;
                let rows = 0..u32::try_from(self.data.rows).unwrap_or(u32::MAX);
                Some(rows.map(|row| feeder.own_size(steps, row)).collect())
            })
            .collect();
        let title = if self.word == "predict" { "Predicting" } else { "Evaluating" };
        let mut bar = Bar::new(live.bar, title.to_owned(), feeder.samples());
        let mut text = String::new();
        table.header(&mut text);
        let mut failed = None;
        let mut order = Order::file(self.data.rows);
        let engine = &mut *live.engine;
        feeder.epoch(order.epoch(0), 0, &mut |batch| {
            let rows = batch.rows;
            engine.set_sizes(batch.sizes());
            batch.with_inputs(|inputs| engine.run(StepKind::Infer, rows.len() as u64, inputs, self.seed, 0))?;
            let values: Vec<&[f32]> = results.iter().map(|i| engine.result(StepKind::Infer, *i)).collect();
            let sizes: Vec<_> =
                std::iter::once((BATCH, rows.len() as u64)).chain(batch.sizes().iter().copied()).collect();
            let sizes = symbols.values(&sizes);
            let shapes: Vec<Vec<u64>> = dims.iter().map(|d| d.iter().map(|d| d.eval(&sizes)).collect()).collect();
            let shape_of = |output: usize, row: u32| -> Vec<u64> {
                let mut shape = shapes[output].clone();
                if let (Some(first), Some(steps)) = (shape.first_mut(), &real[output]) {
                    *first = steps.get(row as usize).copied().unwrap_or(*first).min(*first);
                }
                shape
            };
            let bad = if self.word == "evaluate" { not_finite(rows, &values, &shape_of) } else { None };
            if let Some((output, row, value)) = bad {
                let row = self.data.original_row(row as usize) + 1;
                let name = &self.run.outputs[output].name;
                let message = format!("the output `{name}` is {} in row {row} of the data", word(f64::from(value)));
                let cause = blame::inspect(engine, &plan, StepKind::Infer, batch, (self.seed, 0));
                return Err(diverged(engine.program(), message, cause));
            }
            table.rows_of(rows, &values, &shape_of, &mut text);
            let written = out.write_all(text.as_bytes());
            text.clear();
            bar.update(table.rows() as u64, None);
            if let Err(e) = written {
                failed = Some(e);
                return Ok(Flow::Stop);
            }
            Ok(Flow::Continue)
        })?;
        if let Some(e) = failed {
            return Err(Failure::Write(e));
        }
        table.end(&mut text);
        out.write_all(text.as_bytes())
            .and_then(|()| table.archive(out))
            .and_then(|()| out.flush())
            .map_err(Failure::Write)?;
        Ok(Written { rows: table.rows(), warning: table.warning() })
    }
}
