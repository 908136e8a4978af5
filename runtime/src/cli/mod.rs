//! The command line of a produced executable: arguments in, an exit status out.
//!
//! [`main`] is the whole program around an engine; [`run`] carries out one command and is what `kurc train` and its
//! sisters call. Nothing here knows how steps are executed.

mod bench;
mod info;
mod output;
mod predict;
mod test;

use std::process::ExitCode;

pub use bench::{BenchArgs, BenchStep};
use clap::builder::styling::Styles;
use clap::{Args, Parser, Subcommand};

use crate::error::{Error, Exit, Result};
use crate::train::console::{self, Console};
use crate::train::cx::{About, RunCx, Section};
use crate::train::engine::Engine;
use crate::train::stop::{self, Stop};
use crate::train::{self, TrainOptions};

/// Most samples of a batch: as many as a float counts exactly.
pub const MOST_SAMPLES: u64 = 1 << 24;

/// Arguments of a produced executable.
#[derive(Debug, Parser)]
#[command(
    name = "model",
    version = concat!("compiled by kurc ", env!("CARGO_PKG_VERSION")),
    about = "A model compiled by kurc: trains, tests and predicts, and needs nothing but this file",
    after_help = "Data files are CSV, or named arrays: .npz, .npy, .pkl, .jsonl. Paths are relative to the working directory.",
    arg_required_else_help = true,
    disable_help_subcommand = true,
    styles = Styles::plain()
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Train the model, continuing from its weights if there are any
    Train(TrainArgs),
    /// Measure loss and metrics on test data
    Test(TestArgs),
    /// Write predictions, beside the truth where the data has it
    Evaluate(EvaluateArgs),
    /// Write predictions for data without labels
    Predict(PredictArgs),
    /// Describe the model and this executable
    Info(InfoArgs),
    /// Measure the speed of a step on synthetic data
    Bench(BenchArgs),
}

/// Options of every command that computes.
#[derive(Args, Clone, Debug, Default)]
pub struct ComputeArgs {
    /// Number of threads [default: one per core]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<usize>,
    /// Samples per batch [default: that of the Kurfile]
    #[arg(long, visible_alias = "batch", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_SAMPLES))]
    pub batch_size: Option<u64>,
    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
}

/// `train`.
#[derive(Args, Clone, Debug, Default)]
pub struct TrainArgs {
    /// Data file instead of the Kurfile's training data
    pub data: Option<String>,
    /// Train so many epochs (more) [default: that of the Kurfile]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Seed of initial weights, shuffles and dropout
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Weights file to start from and to save to; from a weight folder of Kur, FOLDER.safetensors is saved
    #[arg(long, value_name = "FILE")]
    pub weights: Option<String>,
    /// Start from new weights even where saved ones exist
    #[arg(long)]
    pub fresh: bool,
    /// Options of every command that computes.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// `test`.
#[derive(Args, Clone, Debug, Default)]
pub struct TestArgs {
    /// Data file instead of the Kurfile's test data
    pub data: Option<String>,
    /// Weights file, or weight folder of Kur, to use
    #[arg(long, value_name = "FILE")]
    pub weights: Option<String>,
    /// Options of every command that computes.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// `evaluate`.
#[derive(Args, Clone, Debug, Default)]
pub struct EvaluateArgs {
    /// Data file instead of the Kurfile's evaluation data
    pub data: Option<String>,
    /// Where and how to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Options of every command that computes.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// `predict`.
#[derive(Args, Clone, Debug, Default)]
pub struct PredictArgs {
    /// Data file with the inputs: CSV, named arrays, or IDX images for a model trained on such
    /// [default: the data of the Kurfile's `evaluate`]
    pub data: Option<String>,
    /// Where and how to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Options of every command that computes.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Where and how predictions are written.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputArgs {
    /// File to write, .csv, .jsonl or .npz [default: CSV on standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<String>,
    /// Also write the probability of each class
    #[arg(long)]
    pub proba: bool,
    /// Weights file, or weight folder of Kur, to use
    #[arg(long, value_name = "FILE")]
    pub weights: Option<String>,
}

/// `info`.
#[derive(Args, Clone, Debug, Default)]
pub struct InfoArgs {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

impl Command {
    /// Whether `--json` was given.
    #[must_use]
    pub fn json(&self) -> bool {
        match self {
            Command::Train(a) => a.compute.json,
            Command::Test(a) => a.compute.json,
            Command::Evaluate(a) => a.compute.json,
            Command::Predict(a) => a.compute.json,
            Command::Info(a) => a.json,
            Command::Bench(a) => a.compute.json,
        }
    }

    /// The data file, if one is given.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        match self {
            Command::Train(a) => a.data.as_deref(),
            Command::Test(a) => a.data.as_deref(),
            Command::Evaluate(a) => a.data.as_deref(),
            Command::Predict(_) | Command::Info(_) | Command::Bench(_) => None,
        }
    }

    /// `--threads`, if given.
    #[must_use]
    pub fn threads(&self) -> Option<usize> {
        match self {
            Command::Train(a) => a.compute.threads,
            Command::Test(a) => a.compute.threads,
            Command::Evaluate(a) => a.compute.threads,
            Command::Predict(a) => a.compute.threads,
            Command::Info(_) => None,
            Command::Bench(a) => a.compute.threads,
        }
    }
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n @ 1..=1024) => Ok(n),
        Ok(_) => Err("the number of threads is 1 to 1024".to_owned()),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

/// The program around an engine: reads the arguments, opens the engine for that many threads (`None`: one per core),
/// carries the command out.
#[must_use]
pub fn main<E: Engine>(open: impl FnOnce(Option<usize>) -> Result<(E, About)>) -> ExitCode {
    stop::survive_file_limit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => e.exit(),
    };
    let json = cli.command.json();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or_else(String::new, |l| format!(" ({}:{})", l.file(), l.line()));
        let text = info.payload_as_str().unwrap_or("a broken invariant");
        Console::system(json).error(&Error::internal(format!("{text}{place}")));
        // Executables are linked without the tables that unwinding needs (`build.rs`).
        std::process::exit(i32::from(Exit::Internal.code()));
    }));
    let mut console = Console::system(json);
    // A training listens when it has something to save.
    let listening = if matches!(cli.command, Command::Train(_)) { Ok(()) } else { stop::end_on_signals() };
    ExitCode::from(match listening.and_then(|()| open(cli.command.threads())) {
        Ok((engine, about)) => run(&mut RunCx { engine, console, about, stop: Stop::default() }, &cli.command),
        Err(e) => {
            console.error(&e);
            e.exit().code()
        }
    })
}

/// One thread per core that the process may use.
#[must_use]
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Carries out a command. Errors are printed; the result is the exit status of the process.
#[must_use]
pub fn run<E: Engine>(cx: &mut RunCx<E>, command: &Command) -> u8 {
    let result = execute(cx, command);
    let flushed = console::finish(&mut cx.console);
    match result.and_then(|code| flushed.map(|()| code)) {
        Ok(code) => code,
        Err(e) => {
            cx.console.error(&e);
            e.exit().code()
        }
    }
}

fn execute<E: Engine>(cx: &mut RunCx<E>, command: &Command) -> Result<u8> {
    match command {
        Command::Train(args) => {
            cx.stop.listen()?;
            let options = TrainOptions {
                data: args.data.clone(),
                epochs: args.epochs,
                batch_size: args.compute.batch_size,
                threads: args.compute.threads,
                seed: args.seed,
                weights: args.weights.clone(),
                fresh: args.fresh,
            };
            let signal = train::train(cx, &options)?;
            Ok(signal.map_or(0, |s| u8::try_from(128 + s).unwrap_or(1)))
        }
        Command::Test(args) => test::run(cx, args).map(|()| 0),
        Command::Evaluate(args) => {
            let job = predict::Job {
                word: "evaluate",
                data: args.data.as_deref(),
                output: &args.output,
                batch_size: args.compute.batch_size,
                truth: true,
                section: Section::Evaluate,
            };
            predict::run(cx, &job).map(|()| 0)
        }
        Command::Predict(args) => {
            let job = predict::Job {
                word: "predict",
                data: args.data.as_deref(),
                output: &args.output,
                batch_size: args.compute.batch_size,
                truth: false,
                section: Section::Evaluate,
            };
            predict::run(cx, &job).map(|()| 0)
        }
        Command::Info(_) => {
            info::run(cx);
            Ok(0)
        }
        Command::Bench(args) => bench::run(cx, args).map(|()| 0),
    }
}

/// Weights that another tool wrote say nothing of classes and statistics.
fn no_statistics(path: &str) -> Error {
    Error::new(
        crate::error::Exit::Run,
        "no-statistics",
        format!("`{path}` does not say how its training data was encoded"),
    )
    .help("the data has classes or normalised columns, which only weights saved by `train` describe")
}

#[cfg(test)]
mod tests;
