//! The commands of kurc: the only place that prints.

/// Prints a line to stderr. A closed or full stderr is no reason to fail, so errors are dropped.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

mod args;
mod build;
mod check;
mod demo;
mod dump;
mod explain;
mod graph;
mod help;
mod opt;
mod run;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use kur_runtime::train::stop;

use crate::diag::{self, pages};
use crate::diag::{Diagnostic, Format, render};
use crate::driver::{Session, Stop};
use crate::frontend::OsWorld;
use args::{Cli, Command, CompileArgs, FormatArg, GlobalArgs};

/// Exit status: usage.
const USAGE: u8 = 2;
/// Exit status: the Kurfile is wrong.
const KURFILE: u8 = 3;
/// Exit status: a bug of kurc.
const INTERNAL: u8 = 5;

/// Parses the command line, runs the command, and gives the exit status.
#[must_use]
pub fn main() -> ExitCode {
    install_panic_hook();
    stop::survive_file_limit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout with status 0, everything else to stderr with status 2.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { USAGE } else { 0 });
        }
    };
    // A training listens when it has something to save.
    if !matches!(cli.command, Some(Command::Train { .. }))
        && let Err(e) = stop::end_on_signals()
    {
        let _ = write!(io::stderr(), "{}", e.render(false));
        return ExitCode::from(e.exit().code());
    }
    ExitCode::from(dispatch(&cli))
}

fn dispatch(cli: &Cli) -> u8 {
    if let Some(path) = &cli.emit_ir {
        return build::emit_ir(path, &cli.compile, &cli.global);
    }
    let global = &cli.global;
    match &cli.command {
        Some(Command::Build(args)) => build::build(args, global),
        Some(Command::Check { kurfile, verbose, json, compile }) => {
            let layers = verbose.then_some(if *json { check::Layers::Json } else { check::Layers::Text });
            check::check(kurfile, layers, compile, global)
        }
        Some(Command::Dump(args)) => dump::dump(args, global),
        Some(Command::Train { kurfile, compile, run }) => {
            run::in_memory(kurfile, compile, global, &kur_runtime::cli::Command::Train(run.clone()))
        }
        Some(Command::Test { kurfile, compile, run }) => {
            run::in_memory(kurfile, compile, global, &kur_runtime::cli::Command::Test(run.clone()))
        }
        Some(Command::Evaluate { kurfile, compile, run }) => {
            run::in_memory(kurfile, compile, global, &kur_runtime::cli::Command::Evaluate(run.clone()))
        }
        Some(Command::Predict { kurfile, compile, run }) => {
            run::in_memory(kurfile, compile, global, &kur_runtime::cli::Command::Predict(run.clone()))
        }
        Some(Command::Schema) => out(&format!("{:#}\n", crate::model::schema())),
        Some(Command::Graph { kurfile, output, compile }) => graph::graph(kurfile, output.as_deref(), compile, global),
        Some(Command::Demo { dir }) => demo::demo(dir),
        Some(Command::Explain { id }) => explain::explain(id.as_deref(), global),
        Some(Command::Help { topic }) => help::print(topic.as_deref()),
        Some(Command::Opt { file, pass }) => opt::opt(file, pass),
        None => {
            say!("error: no command is given\n\nTry `kurc --help`, or `kurc demo` for a first look.");
            USAGE
        }
    }
}

/// A panic is a bug of kurc: say so, with what helps to report it, and end with code 5.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or(String::new(), |l| format!(" ({}:{})", l.file(), l.line()));
        let text = info.payload().downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| info.payload().downcast_ref::<String>().cloned()).unwrap_or_default();
        internal_error(&format!("{text}{place}"));
        std::process::exit(i32::from(INTERNAL));
    }));
}

fn internal_error(message: &str) {
    say!("error[internal]: {message}");
    say!("  = note: this is a bug of kurc {}, not of your Kurfile", env!("CARGO_PKG_VERSION"));
    say!("  = help: please report it together with the Kurfile");
}

/// Findings that a person is shown.
const SHOWN: usize = 100;

/// Prints findings in source order and gives whether there are errors.
fn show(session: &Session<'_>, global: &GlobalArgs) {
    let format = match global.format {
        FormatArg::Full => Format::Full { color: color() },
        FormatArg::Short => Format::Short,
        FormatArg::Json => Format::Json,
    };
    let found = session.sink.sorted();
    // A program that reads JSON wants all of them, a person does not.
    let limit = if matches!(format, Format::Json) { found.len() } else { SHOWN };
    // Of too many the errors come first.
    let errors = found.iter().filter(|d| d.severity == crate::diag::Severity::Error).count();
    let mut left = [errors.min(limit), limit.saturating_sub(errors)];
    for d in &found {
        let left = &mut left[usize::from(d.severity != crate::diag::Severity::Error)];
        if *left == 0 {
            continue;
        }
        *left -= 1;
        let _ = write!(io::stderr(), "{}", render(d, &session.sources, format));
        if matches!(format, Format::Full { .. }) {
            say!();
        }
    }
    match found.len().saturating_sub(limit) {
        0 => {}
        1 => say!("1 more is not shown"),
        more => say!("{more} more are not shown"),
    }
    if let (FormatArg::Full, true) = (global.format, !found.is_empty()) {
        summary(&found);
        offer_pages(&found);
    }
}

/// Says where to read on: of the first error, or of the first warning when there is no error.
fn offer_pages(found: &[Diagnostic]) {
    let mut ids: Vec<&str> = Vec::new();
    let worst = found.iter().map(|d| d.severity).min();
    for d in found.iter().filter(|d| Some(d.severity) == worst && pages::find(d.id).is_some()) {
        if !ids.contains(&d.id) {
            ids.push(d.id);
        }
    }
    match ids.as_slice() {
        [] => {}
        [one] => say!("for more about it: kurc explain {one}"),
        [first, others @ ..] => say!("for more about it: kurc explain {first} (or {})", others.join(", ")),
    }
}

/// `2 errors, 1 warning`.
fn summary(found: &[Diagnostic]) {
    let count = |s| found.iter().filter(|d| d.severity == s).count();
    let part = |n: usize, word: &str| (n > 0).then(|| diag::count(n, word));
    let parts: Vec<String> =
        [part(count(crate::diag::Severity::Error), "error"), part(count(crate::diag::Severity::Warning), "warning")]
            .into_iter()
            .flatten()
            .collect();
    say!("{}", parts.join(", "));
}

/// Whether diagnostics are coloured.
fn color() -> bool {
    colors_wanted() && io::stderr().is_terminal()
}

/// Colours on a terminal, unless `NO_COLOR` says otherwise.
fn colors_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Prints why a compilation stopped and gives the exit status. Findings are shown by [`show`] before.
fn stopped(stop: &Stop, global: &GlobalArgs) -> u8 {
    match stop {
        Stop::Reported(_) => KURFILE,
        Stop::Data(e) => {
            let _ = write!(io::stderr(), "{}", e.render(matches!(global.format, FormatArg::Json)));
            if matches!(global.format, FormatArg::Full) && pages::find(e.id()).is_some() {
                say!("\nfor more about it: kurc explain {}", e.id());
            }
            e.exit().code()
        }
        Stop::Internal { stage, message, dump } => {
            internal_error(&format!("{stage}: {message}"));
            if !dump.is_empty() {
                say!("{dump}");
            }
            INTERNAL
        }
    }
}

/// Prints what `--time-passes` and `--print-after` ask for.
fn show_extras(session: &Session<'_>, compile: &CompileArgs) {
    for (title, text) in &session.printed {
        say!("// {title}\n{text}");
    }
    if compile.time_passes {
        for t in &session.timings {
            say!("{:>10.3} ms  {:<6} {}", t.time.as_secs_f64() * 1e3, t.step, t.name);
        }
    }
}

/// Writes a result to stdout. A closed pipe ends the program quietly, any other failure is an error.
fn out(text: &str) -> u8 {
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => 0,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(e) => {
            say!("error[write-failed]: cannot write to standard output: {e}");
            1
        }
    }
}

/// The outside of every command.
static WORLD: OsWorld = OsWorld;
