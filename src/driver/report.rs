//! What the steps of a build have to do: arithmetic and traffic of each launch, with the line of the Kurfile that asks for
//! it. In: a build and a batch size. Out: text.

use std::fmt::Write as _;

use kur_runtime::dim::BATCH;
use kur_runtime::error::Error;
use kur_runtime::exec::{ExecError, StepKind, Work, launch_name, step_work, usual_sizes};
use kur_runtime::plan::{Launch, Plan, Program};

use super::{Build, Stop};

/// The batch size where neither the command line nor the Kurfile gives one.
const BATCH_SIZE: u64 = 32;

impl Build {
    /// Arithmetic and traffic of each launch of every step.
    ///
    /// # Errors
    /// The step is larger than any memory.
    pub fn report(&self, batch: Option<u64>) -> Result<String, Stop> {
        let p = &self.program;
        let section = p.run.train.as_ref().or(p.run.evaluate.as_ref());
        let batch = batch.unwrap_or_else(|| section.map_or(BATCH_SIZE, |s| s.provider.batch_size));
        let steps =
            [(StepKind::Train, p.train.as_ref()), (StepKind::Test, p.test.as_ref()), (StepKind::Infer, Some(&p.infer))];
        let mut parts = Vec::new();
        for (step, plan) in steps {
            if let Some(plan) = plan {
                parts.push(step_report(p, step, plan, batch).map_err(|e| Stop::Data(Error::from(e)))?);
            }
        }
        Ok(parts.join("\n"))
    }
}

fn step_report(p: &Program, step: StepKind, plan: &Plan, batch: u64) -> Result<String, ExecError> {
    let sizes = usual_sizes(p, step, batch);
    let work = step_work(p, step, &p.symbols.values(&sizes))?.unwrap_or_default();
    let mut out = format!("step {step}, batch size {batch}");
    // Writing to a String cannot fail.
    for (s, value) in sizes.into_iter().filter(|(s, _)| *s != BATCH) {
        let _ = write!(out, ", {} = {value}", p.symbols.name(s));
    }
    let _ = writeln!(
        out,
        "\n{:>14} {:>12} {:>12} {:>8} {:>5}  launch @ layer",
        "flops", "bytes read", "written", "fl/byte", "line"
    );
    for (launch, work) in plan.launches.iter().zip(&work.launches) {
        line(&mut out, *work, &place(p, launch));
    }
    line(&mut out, work.total(), "       total");
    let _ = writeln!(out, "the step touches {} bytes of memory", work.working_set);
    Ok(out)
}

/// Line of the Kurfile, name, and layer.
fn place(p: &Program, launch: &Launch) -> String {
    let name = launch_name(p, launch);
    match launch.layer.and_then(|l| p.layers.get(l as usize)) {
        Some(layer) => format!("{:>5}  {name} @ {}", layer.line, layer.name),
        None => format!("{:>5}  {name}", ""),
    }
}

fn line(out: &mut String, work: Work, place: &str) {
    let intensity = if work.bytes() > 0.0 { work.flops / work.bytes() } else { 0.0 };
    let _ = writeln!(out, "{:>14.0} {:>12.0} {:>12.0} {intensity:>8.2} {place}", work.flops, work.read, work.written);
}
