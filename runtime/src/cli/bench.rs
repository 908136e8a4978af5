//! `bench`: steady-state speed of a step on synthetic data that is in memory already. Weights are never read or saved.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::ComputeArgs;
use crate::abi::rng;
use crate::dim::{BATCH, Sym};
use crate::error::{Error, Exit, Result};
use crate::exec::StepKind;
use crate::plan::{InputRole, Plan};
use crate::train::cx::RunCx;
use crate::train::engine::Engine;

/// Windows whose median is reported.
const WINDOWS: usize = 5;
/// Operation number of the draws behind synthetic data.
const DATA_OP: u32 = 0x6000_0000;

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
    /// Print the least time of each launch instead, of all steps that five windows hold
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

/// Inputs of one batch: uniform numbers for the model, one-hot rows for class targets, full lengths.
fn synthetic(plan: &Plan, sizes: &[u64], softmax: &[String]) -> Vec<Vec<f32>> {
    let mut out = Vec::new();
    for (i, slot) in plan.inputs.iter().enumerate() {
        if slot.role == InputRole::Control {
            continue;
        }
        if slot.role == InputRole::Lengths {
            let target = plan.inputs.iter().find(|s| s.role == InputRole::Target && s.name == slot.name);
            let steps = target.and_then(|s| s.shape.first()).map_or(1, |d| d.eval(sizes));
            out.push(vec![steps as f32; usize::try_from(sizes[0]).unwrap_or(0)]);
            continue;
        }
        let stream = rng::stream(1, DATA_OP + u32::try_from(i).unwrap_or(0), 0);
        let shape: Vec<usize> = slot.shape.iter().map(|d| usize::try_from(d.eval(sizes)).unwrap_or(0)).collect();
        let width = shape.last().copied().unwrap_or(1).max(1);
        let len = usize::try_from(sizes[0]).unwrap_or(0) * shape.iter().product::<usize>();
        let one_hot = slot.role == InputRole::Target && softmax.contains(&slot.name);
        let value = |k: usize| {
            let draw = |n: usize| rng::bits(stream, u32::try_from(n).unwrap_or(u32::MAX));
            if one_hot {
                let hot = draw(k / width) as usize % width;
                return if k % width == hot { 1.0 } else { 0.0 };
            }
            // Uniform with variance 1, like the normal numbers of the peers.
            (rng::uniform(stream, u32::try_from(k).unwrap_or(u32::MAX)) - 0.5) * 3.464_101_6
        };
        out.push((0..len).map(value).collect());
    }
    out
}

/// Length of the axes that differ from batch to batch.
const STEPS: u64 = 128;

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
    let softmax: Vec<String> = program.run.outputs.iter().filter(|o| o.softmax).map(|o| o.name.clone()).collect();
    let symbols = &program.symbols;
    let free =
        (1..symbols.len()).map(|s| Sym(u8::try_from(s).unwrap_or(u8::MAX))).filter(|s| symbols.def(*s).is_none());
    let mut sizes: Vec<(Sym, u64)> = free.map(|s| (s, STEPS)).collect();
    cx.engine.set_sizes(&sizes);
    sizes.push((BATCH, batch));
    let program = cx.engine.program();
    let data = synthetic(&plan, &program.symbols.values(&sizes), &softmax);
    let inputs: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
    let seed = program.run.seed;
    cx.engine.init_state(seed);
    let mut updates = 0;
    let mut go = |engine: &mut E| {
        updates += 1;
        engine.run(step, batch, &inputs, 1, updates - 1)
    };
    go(&mut cx.engine)?;
    let first = since_start();
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs_f64(args.seconds.min(1.0)) {
        go(&mut cx.engine)?;
    }
    if args.profile {
        // The least time of each launch: a neighbour's load or an interrupt only ever adds.
        let mut rows = cx.engine.profile(step, batch, &inputs, 1, 0)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs_f64(args.seconds * WINDOWS as f64) {
            for (least, new) in rows.iter_mut().zip(cx.engine.profile(step, batch, &inputs, 1, 0)?) {
                least.seconds = least.seconds.min(new.seconds);
            }
        }
        cx.console.results(&profile_table(&rows));
        return Ok(());
    }
    let mut rates = Vec::with_capacity(WINDOWS);
    for _ in 0..WINDOWS {
        let start = Instant::now();
        let mut steps = 0u64;
        while start.elapsed() < Duration::from_secs_f64(args.seconds) {
            go(&mut cx.engine)?;
            steps += 1;
        }
        rates.push((steps * batch) as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let (low, median, high) = (rates[0], rates[WINDOWS / 2], rates[WINDOWS - 1]);
    let memory = peak_memory();
    let threads = cx.engine.threads();
    let arena = cx.engine.arena_bytes(step, batch);
    if cx.console.is_json() {
        let fields = json!({
            "step": name, "batch": batch, "threads": threads,
            "samples_per_s": median, "spread": [low, high],
            "first_step_s": first.map(|f| f.as_secs_f64()), "rss_mb": memory, "arena_bytes": arena,
        });
        let fields: Vec<(String, Value)> = fields.as_object().cloned().unwrap_or_default().into_iter().collect();
        cx.console.event("bench", fields);
    } else {
        let first = first.map_or_else(|| "unknown".to_owned(), |f| format!("{:.3} s", f.as_secs_f64()));
        let memory = memory.map_or_else(|| "unknown".to_owned(), |m| format!("{m:.1} MiB"));
        cx.console.results(&format!(
            "{name} step, batch size {batch}, {threads} thread{}\nsamples/s   {median:.0} ({low:.0} to {high:.0})\n\
             first step  {first} after the start\npeak memory {memory}\n",
            if threads == 1 { "" } else { "s" }
        ));
    }
    Ok(())
}

/// One line per launch, the slowest first, with its share and rates.
fn profile_table(rows: &[crate::exec::LaunchTime]) -> String {
    let total: f64 = rows.iter().map(|r| r.seconds).sum();
    let mut order: Vec<&crate::exec::LaunchTime> = rows.iter().collect();
    order.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let mut text = format!("{:>10}  {:>6}  {:>9}  {:>9}  launch\n", "us", "share", "GFLOP/s", "GB/s");
    for r in order {
        let per = |x: f64| x / r.seconds.max(1e-9) / 1e9;
        text.push_str(&format!(
            "{:>10.1}  {:>5.1}%  {:>9.2}  {:>9.2}  {}\n",
            r.seconds * 1e6,
            100.0 * r.seconds / total.max(1e-12),
            per(r.flops),
            per(r.bytes),
            r.name
        ));
    }
    text.push_str(&format!("{:>10.1}  total\n", total * 1e6));
    text
}
