//! `test`: loss and metrics on test data.

use super::{TestArgs, no_statistics};
use crate::data::batch::Feeder;
use crate::data::order::{Order, fold_seed};
use crate::data::{Encoding, Learned, Truth};
use crate::error::{Error, Result};
use crate::train::blame::{diverged, word};
use crate::train::check::Broken;
use crate::train::cx::{self, RunCx, Section};
use crate::train::engine::Engine;
use crate::train::metrics::fields;
use crate::train::{check, require_loss, tables};
use crate::weights::paths::{self, Reader};

/// Runs the test step over the data and prints the table of results.
pub(super) fn run<E: Engine>(cx: &mut RunCx<E>, args: &TestArgs) -> Result<()> {
    let run = cx.engine.program().run.clone();
    require_loss(cx.engine.program())?;
    let section = cx::section(&run, Section::Test, args.data.as_deref(), args.compute.batch_size)?;
    let about = &cx.about;
    let path = paths::for_reading(
        &run,
        Reader::Test,
        args.weights.as_deref(),
        &about.stem,
        about.directory.as_deref(),
        &about.command("train"),
    )?;
    let shown = path.display().to_string();
    let meta = cx::restore(&mut cx.engine, &path)?;
    cx.console.progress(&format!("Testing the weights `{shown}`."));
    let (data, learned) = cx::load(&run, &section, Truth::Required, meta.as_ref().map(|m| &m.learned))?;
    if meta.is_none() && needs_training(&learned) {
        return Err(no_statistics(&shown));
    }
    cx.say_unbuilt(&run, &["test"]);
    for note in &data.notes {
        cx.console.note(note);
    }
    let plan = cx.engine.program().test.clone().ok_or_else(|| Error::internal("the program has no test step"))?;
    let mut feeder = Feeder::new(cx.engine.program(), &plan, &data, &learned, &section.provider)?;
    let mut order = Order::file(data.rows);
    let samples = feeder.samples();
    let live = cx.console.is_live();
    let seed = fold_seed(meta.as_ref().map_or(run.seed, |m| m.seed));
    let tested =
        check::run(&mut cx.engine, &plan, &mut feeder, order.epoch(0), &learned, (seed, 0), "Testing", live, &cx.stop)?;
    if let Some(Broken { batch, loss, cause }) = tested.as_ref().and_then(|t| t.broken.as_ref()) {
        let message = format!("the loss of the test is {} in batch {batch}", word(*loss));
        return Err(diverged(cx.engine.program(), message, cause.clone()));
    }
    let metrics = tested.map(|t| t.metrics).unwrap_or_default();
    if cx.console.is_json() {
        let head = [("samples".to_owned(), samples.into()), ("weights".to_owned(), shown.into())];
        cx.console.event("test", head.into_iter().chain(fields("", &metrics)));
    } else {
        cx.console.results(&tables::results(samples, &metrics));
    }
    Ok(())
}

/// Whether data was encoded in a way that only training data can teach.
pub(super) fn needs_training(learned: &Learned) -> bool {
    learned
        .sources
        .iter()
        .filter(|s| s.columns_of_csv)
        .any(|s| s.is_scaled() || s.columns.iter().any(|c| matches!(c.encoding, Encoding::Classes { .. })))
}
