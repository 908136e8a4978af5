//! The program inside every produced executable: reads the payload that `kurc build` packed into it, and runs the
//! command line over it. Without a payload it says so and ends with status 5.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kur_runtime::cli::{self, default_threads};
use kur_runtime::cpu::level::{self, Level};
use kur_runtime::error::Result;
use kur_runtime::exec::Executor;
use kur_runtime::payload;
use kur_runtime::train::cx::{About, invocation};

fn main() -> ExitCode {
    cli::main(open)
}

fn open(threads: Option<usize>) -> Result<(Executor, About)> {
    let level = Level::current()?;
    // This path works also when the file was moved or deleted after the start.
    let payload = payload::open(Path::new("/proc/self/exe"), level.code_level())?;
    let file = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(&payload.program.run.name));
    let about = About {
        stem: file.file_stem().map_or_else(|| payload.program.run.name.clone(), |s| s.to_string_lossy().into_owned()),
        invocation: invocation(
            &std::env::args().next().unwrap_or_else(|| file.display().to_string()),
            &[level::LEVEL_VARIABLE],
        ),
        kurfile: None,
        options: Vec::new(),
        directory: file.parent().map(Path::to_owned),
        hash: Some(payload.hash),
        code: Some(payload.level.to_string()),
    };
    let executor = Executor::new(payload.program, payload.code, threads.unwrap_or_else(default_threads))?;
    Ok((executor, about))
}
