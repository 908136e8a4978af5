//! `bench`: steady-state speed of a step on synthetic data that is in memory already. Weights are never read or saved.

mod data;
mod profile;

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use profile::{Roofline, fields};
use serde_json::json;

use super::ComputeArgs;
use crate::dim::BATCH;
use crate::error::{Error, Exit, Result, count};
use crate::exec::{StepKind, step_work, usual_sizes};
use crate::train::cx::RunCx;
use crate::train::engine::Engine;

/// Windows whose median is reported.
const WINDOWS: usize = 5;

/// What to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BenchStep {
    /// Forward, backward and update.
    #[default]
    Train,
    /// Forward.
    Infer,
}

/// `bench`.
#[derive(Args, Clone, Debug, Default)]
pub struct BenchArgs {
    /// The step to measure
    #[arg(value_enum, default_value_t)]
    pub step: BenchStep,
    /// Seconds of each of five windows, after a warm-up of one second
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = parse_seconds)]
    pub seconds: f64,
    /// Print the least time of each launch instead, of all steps that five windows hold, beside its roofline
    #[arg(long)]
    pub profile: bool,
    /// Options of every command that computes.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

fn parse_seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.001..=3600.0).contains(&s) => Ok(s),
        _ => Err("the length of a window is 0.001 to 3600 seconds".to_owned()),
    }
}

/// Time since the process started, from the kernel's accounts; `None` where they cannot be read.
fn since_start() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command name may hold blanks; fields are counted behind its closing parenthesis.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let up: f64 = std::fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    // SAFETY: `sysconf` reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::try_from_secs_f64(up - ticks / per_second as f64).ok()
}

/// Seconds of processor time that all threads of the process have taken.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux, and the time is a place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Peak resident memory in MiB.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Measures and prints.
///
/// # Errors
/// The program has no train step; memory is short.
pub(super) fn run<E: Engine>(cx: &mut RunCx<E>, args: &BenchArgs) -> Result<()> {
    let (name, step) = match args.step {
        BenchStep::Train => ("train", StepKind::Train),
        BenchStep::Infer => ("infer", StepKind::Infer),
    };
    let program = cx.engine.program();
    let section = program.run.train.as_ref().or(program.run.evaluate.as_ref());
    let batch = args.compute.batch_size.unwrap_or_else(|| section.map_or(32, |s| s.provider.batch_size));
    let plan = match step {
        StepKind::Infer => Some(program.infer.clone()),
        _ => program.train.clone(),
    };
    let Some(plan) = plan else {
        return Err(Error::new(
            Exit::Kurfile,
            "no-loss",
            "the model has no train step, because its Kurfile has no loss",
        )
        .help("measure `bench infer`"));
    };
    let sizes = usual_sizes(program, step, batch);
    let values = program.symbols.values(&sizes);
    let work = step_work(program, step, &values)?.unwrap_or_default();
    let beside: Vec<_> = sizes.into_iter().filter(|(s, _)| *s != BATCH).collect();
    let data = data::synthetic(program, &plan, &values)?;
    cx.engine.set_sizes(&beside);
    let program = cx.engine.program();
    let inputs: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
    let seed = program.run.seed;
    cx.engine.init_state(seed);
    let mut updates = 0;
    let go = |engine: &mut E, updates: &mut u32| {
        *updates += 1;
        engine.run(step, batch, &inputs, 1, *updates - 1)
    };
    go(&mut cx.engine, &mut updates)?;
    let first = since_start();
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs_f64(args.seconds.min(1.0)) {
        go(&mut cx.engine, &mut updates)?;
    }
    if args.profile {
        // The least time of each launch: a neighbour's load or an interrupt only ever adds.
        let mut rows = cx.engine.profile(step, batch, &inputs, 1, updates)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs_f64(args.seconds * WINDOWS as f64) {
            updates += 1;
            for (least, new) in rows.iter_mut().zip(cx.engine.profile(step, batch, &inputs, 1, updates)?) {
                least.seconds = least.seconds.min(new.seconds);
            }
        }
        let Some(peaks) = cx.engine.peaks()? else { return Ok(()) };
        let (program, roofline) = (cx.engine.program(), Roofline { work: &work, peaks });
        if cx.console.is_json() {
            for event in profile::events(program, &rows, &roofline) {
                cx.console.event("launch", event);
            }
            let total = rows.iter().map(|r| r.seconds).sum();
            cx.console.event("profile", fields(roofline.json(total)));
        } else {
            cx.console.results(&profile::table(program, &rows, &roofline));
        }
        return Ok(());
    }
    let mut rates = Vec::with_capacity(WINDOWS);
    let mut costs = Vec::with_capacity(WINDOWS);
    for _ in 0..WINDOWS {
        let (start, used) = (Instant::now(), processor_seconds());
        let mut steps = 0u64;
        while steps == 0 || start.elapsed() < Duration::from_secs_f64(args.seconds) {
            go(&mut cx.engine, &mut updates)?;
            steps += 1;
        }
        costs.push((processor_seconds() - used) / steps as f64);
        rates.push((steps * batch) as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    costs.sort_by(f64::total_cmp);
    let (low, median, high) = (rates[0], rates[WINDOWS / 2], rates[WINDOWS - 1]);
    let memory = peak_memory();
    let threads = cx.engine.threads();
    let arena = cx.engine.arena_bytes(step, batch);
    let loss = plan.results.iter().position(|r| r.name == "loss");
    let loss = loss.and_then(|i| cx.engine.result(step, i).first().copied());
    // What a neighbour takes away would count against the step but not against the peaks, which are the best of many.
    let fastest = batch as f64 / high;
    let peaks = cx.engine.peaks()?;
    let roofline = peaks.map(|peaks| Roofline { work: &work, peaks });
    if cx.console.is_json() {
        let mut event = fields(json!({
            "step": name, "batch": batch, "threads": threads,
            "samples_per_s": median, "spread": [low, high], "cpu_s_per_step": costs[WINDOWS / 2],
            "first_step_s": first.map(|f| f.as_secs_f64()), "rss_mb": memory, "arena_bytes": arena,
            "steps": updates, "loss": loss,
        }));
        event.extend(roofline.map(|r| fields(r.json(fastest))).unwrap_or_default());
        cx.console.event("bench", event);
    } else {
        let first = first.map_or_else(|| "unknown".to_owned(), |f| format!("{:.3} s", f.as_secs_f64()));
        let memory = memory.map_or_else(|| "unknown".to_owned(), |m| format!("{m:.1} MiB"));
        cx.console.results(&format!(
            "{name} step, batch size {batch}, {}\nsamples/s   {median:.0} ({low:.0} to {high:.0})\n\
             CPU time    {:.3} ms a step\nfirst step  {first} after the start\npeak memory {memory}\n{}",
            count(threads as u64, "thread"),
            costs[WINDOWS / 2] * 1e3,
            roofline.map_or_else(String::new, |r| r.text(fastest)),
        ));
    }
    Ok(())
}
