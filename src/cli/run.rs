//! `kurc train|test|evaluate|predict`: the same steps as in an executable, their code loaded in memory.

use std::path::Path;

use kur_runtime::cli::{Command, default_threads, run};
use kur_runtime::cpu::level::{self, Level};
use kur_runtime::exec::Executor;
use kur_runtime::train::console::Console;
use kur_runtime::train::cx::{About, RunCx, invocation};
use kur_runtime::train::stop::Stop;

use super::args::{CompileArgs, GlobalArgs};
use super::{INTERNAL, build, internal_error, stopped};
use crate::codegen::jit;
use crate::model::OVERRIDES_VARIABLE;

/// Compiles a Kurfile for this processor and carries a command out.
pub(super) fn in_memory(kurfile: &str, args: &CompileArgs, global: &GlobalArgs, command: &Command) -> u8 {
    let mut console = Console::system(command.json());
    let mut fail = |e: kur_runtime::error::Error| {
        console.error(&e);
        e.exit().code()
    };
    let level = match Level::current() {
        Ok(l) => l,
        Err(e) => return fail(e.into()),
    };
    let mut options = args.options();
    let given = command.data().map(str::to_owned);
    if matches!(command, Command::Train(_)) {
        options.data = options.data.or(given);
    } else {
        // It may lack a class, or the label, of what the model was trained on.
        options.tested = given.filter(|_| options.data.is_none());
    }
    let build = match build::compile(kurfile, args, &options, global) {
        Ok(b) => b,
        Err(status) => return status,
    };
    let code = match build.code(level.code_level()) {
        Ok(c) => c,
        Err(stop) => return stopped(&stop, global),
    };
    let table = match jit::load(&code) {
        Ok(t) => t,
        Err(e) => {
            internal_error(&e.to_string());
            return INTERNAL;
        }
    };
    let threads = command.threads().unwrap_or_else(default_threads);
    let engine = match Executor::with_level(build.program, table, threads, level) {
        Ok(e) => e,
        Err(e) => return fail(e.into()),
    };
    let stem = Path::new(kurfile).file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    let about = About {
        stem,
        invocation: invocation(
            &std::env::args().next().unwrap_or_else(|| "kurc".to_owned()),
            &[level::LEVEL_VARIABLE, OVERRIDES_VARIABLE],
        ),
        kurfile: Some(kurfile.to_owned()),
        options: repeated(args),
        directory: None,
        hash: None,
        code: Some(code.level.to_string()),
    };
    run(&mut RunCx { engine, console, about, stop: Stop::default() }, command)
}

/// Options without which the same Kurfile is another program.
fn repeated(args: &CompileArgs) -> Vec<String> {
    let level = (args.opt_level != "2").then(|| ["-O".to_owned(), args.opt_level.clone()]);
    let set = args.set.iter().flat_map(|s| ["--set".to_owned(), s.clone()]);
    let data = args.shape_data.iter().flat_map(|d| ["--data".to_owned(), d.clone()]);
    level.into_iter().flatten().chain(set).chain(data).collect()
}
