//! The command line of kurc.

use clap::{Args, Parser, Subcommand, ValueEnum};
use kur_runtime::cli::MOST_SAMPLES;
use kur_runtime::payload::CpuLevel;

use crate::driver::{Options, STAGES, Stage};
use crate::passes::pipeline::OptLevel;

/// An ahead-of-time compiler for Kurfiles: one native executable that trains, tests, evaluates and predicts.
#[derive(Debug, Parser)]
#[command(name = "kurc", version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
#[command(
    after_help = "First steps: `kurc demo` builds, trains and tests a small model and shows each command it runs."
)]
pub(super) struct Cli {
    /// Print the optimised graph IR of the train step (of the infer step without a loss) and stop.
    #[arg(long, value_name = "KURFILE")]
    pub(super) emit_ir: Option<String>,
    #[command(flatten)]
    pub(super) compile: CompileArgs,
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// How findings are shown.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum FormatArg {
    /// With source excerpts.
    #[default]
    Full,
    /// One line each.
    Short,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Debug, Args)]
pub(super) struct GlobalArgs {
    /// How errors and warnings are shown.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) format: FormatArg,
}

/// Options of every command that compiles.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct CompileArgs {
    /// Learn input shapes from this CSV file instead of the Kurfile's data.
    #[arg(long = "data", value_name = "FILE")]
    pub(super) shape_data: Option<String>,
    /// Replace a value of the Kurfile, e.g. `--set train.provider.batch_size=64` (repeatable). The variable `KUR_SET`
    /// does the same with assignments separated by `;`; `--set` wins.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Optimisation: 0 none, 1 simplify the graph, 2 also fuse.
    #[arg(short = 'O', long = "opt-level", value_name = "LEVEL", default_value = "2", value_parser = ["0", "1", "2"])]
    pub(super) opt_level: String,
    /// Print the graph after a pass to stderr (repeatable).
    #[arg(long, value_name = "PASS", value_parser = pass_name)]
    pub(super) print_after: Vec<String>,
    /// Print how long each stage and pass took to stderr.
    #[arg(long)]
    pub(super) time_passes: bool,
}

fn pass_name(name: &str) -> Result<String, String> {
    if crate::passes::find(name).is_some() {
        return Ok(name.to_owned());
    }
    let known: Vec<&str> = crate::passes::REGISTRY.iter().map(|p| p.name).collect();
    Err(format!("no such pass; there are {}", known.join(", ")))
}

/// Instruction sets for `--target-cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CpuArg {
    /// Any x86-64.
    #[value(name = "x86-64")]
    Baseline,
    /// With AVX2 and FMA.
    #[value(name = "x86-64-v3")]
    V3,
}

impl CpuArg {
    pub(super) fn level(self) -> CpuLevel {
        match self {
            CpuArg::Baseline => CpuLevel::Baseline,
            CpuArg::V3 => CpuLevel::V3,
        }
    }
}

impl CompileArgs {
    /// As the driver takes them.
    pub(super) fn options(&self) -> Options {
        Options {
            level: match self.opt_level.as_str() {
                "0" => OptLevel::None,
                "1" => OptLevel::Simplify,
                _ => OptLevel::Full,
            },
            data: self.shape_data.clone(),
            tested: None,
            set: self.set.clone(),
            print_after: self.print_after.clone(),
            ..Options::default()
        }
    }
}

fn stage(name: &str) -> Result<Stage, String> {
    let known: Vec<&str> = STAGES.iter().map(|(n, _)| *n).collect();
    STAGES
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, s)| *s)
        .ok_or_else(|| format!("no such stage; there are {}", known.join(", ")))
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Compile a Kurfile to one native executable.
    Build(BuildArgs),
    /// Report everything that is wrong with a Kurfile; exit code 3 if there is an error.
    Check {
        /// The Kurfile.
        kurfile: String,
        /// Also print the layers with their shapes and parameters, and the messages of `debug`.
        #[arg(short, long)]
        verbose: bool,
        /// Print layers and messages as one JSON object a line.
        #[arg(long, requires = "verbose")]
        json: bool,
        #[command(flatten)]
        compile: CompileArgs,
    },
    /// Draw the model with shapes and parameters: DOT on standard output, or a file.
    Graph {
        /// The Kurfile.
        kurfile: String,
        /// The file to write, `.svg` or `.dot`.
        #[arg(short, long, value_name = "FILE")]
        output: Option<String>,
        #[command(flatten)]
        compile: CompileArgs,
    },
    /// Print a Kurfile with its includes merged, its templates evaluated and its model expanded, or explain a value.
    Dump(DumpArgs),
    /// Compile in memory and train.
    Train {
        /// The Kurfile.
        kurfile: String,
        #[command(flatten)]
        compile: CompileArgs,
        #[command(flatten)]
        run: kur_runtime::cli::TrainArgs,
    },
    /// Compile in memory and test.
    Test {
        /// The Kurfile.
        kurfile: String,
        #[command(flatten)]
        compile: CompileArgs,
        #[command(flatten)]
        run: kur_runtime::cli::TestArgs,
    },
    /// Compile in memory and evaluate: predictions beside the truth.
    Evaluate {
        /// The Kurfile.
        kurfile: String,
        #[command(flatten)]
        compile: CompileArgs,
        #[command(flatten)]
        run: kur_runtime::cli::EvaluateArgs,
    },
    /// Compile in memory and predict for data without labels.
    Predict {
        /// The Kurfile.
        kurfile: String,
        #[command(flatten)]
        compile: CompileArgs,
        #[command(flatten)]
        run: kur_runtime::cli::PredictArgs,
    },
    /// Print the JSON Schema of Kurfiles, for editors.
    Schema,
    /// Write a small Kurfile with data, build it, train, test and predict; each command is printed.
    Demo {
        /// The folder to write into; it must be empty or not exist.
        #[arg(default_value = "kurc-demo")]
        dir: String,
    },
    /// Explain what the id of an error or warning means, with an example; without an id, list all.
    Explain {
        /// The id in the brackets of a message, e.g. `shape-mismatch`.
        id: Option<String>,
    },
    /// Say what a command does, which layers, losses, optimizers … there are, or what a word of a Kurfile means.
    Help {
        /// `layers`, `losses`, `metrics`, `optimizers`, `suppliers`, a word or key of a Kurfile, or a command.
        topic: Option<String>,
    },
    /// Run passes over graph IR text and print the result.
    Opt {
        /// A file with graph IR, as `kurc --emit-ir` prints it; `-` reads standard input.
        file: String,
        /// The passes, in order. Without any the text is verified and printed as it is.
        #[arg(long, value_name = "PASS", value_delimiter = ',', value_parser = pass_name)]
        pass: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// The Kurfile.
    pub(super) kurfile: String,
    /// Merge includes and overrides, but evaluate nothing.
    #[arg(long)]
    pub(super) pre_parse: bool,
    /// Print JSON instead of YAML. What JSON has no number for stands as Python prints it: NaN, Infinity, -Infinity.
    #[arg(long)]
    pub(super) json: bool,
    /// Say where a value comes from, e.g. `--explain train.provider.batch_size` or `--explain model.2.dense`.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["pre_parse", "json"])]
    pub(super) explain: Option<String>,
    /// Replace a value of the Kurfile, e.g. `--set train.provider.batch_size=64` (repeatable). The variable `KUR_SET`
    /// does the same with assignments separated by `;`; `--set` wins.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The Kurfile.
    pub(super) kurfile: String,
    /// The executable to write; the Kurfile's name with `.bin` when not given.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<String>,
    /// Print stages instead of writing an executable: value, model, graph, graph-opt, kernel, clif, asm, plan.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', value_parser = stage)]
    pub(super) emit: Vec<Stage>,
    /// Print arithmetic and traffic of each launch instead of writing an executable.
    #[arg(long, conflicts_with = "emit")]
    pub(super) report: bool,
    /// Samples per batch in the report; that of the Kurfile when not given.
    #[arg(long, visible_alias = "batch", value_name = "N", requires = "report")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MOST_SAMPLES))]
    pub(super) batch_size: Option<u64>,
    /// Make code for one kind of processor only; both are packed when not given.
    #[arg(long, value_name = "CPU", value_enum)]
    pub(super) target_cpu: Option<CpuArg>,
    #[command(flatten)]
    pub(super) compile: CompileArgs,
}
