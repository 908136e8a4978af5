//! `kurc build`, `kurc --emit-ir`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kur_runtime::payload::{CpuLevel, encode};

use super::args::{BuildArgs, CompileArgs, GlobalArgs};
use super::{INTERNAL, WORLD, internal_error, out, show, show_extras, stopped};
use crate::diag::count;
use crate::driver::{Build, Options, Session, Stage};
use crate::link;

/// Compiles, and shows findings and what the options ask for.
pub(super) fn compile(path: &str, args: &CompileArgs, options: &Options, global: &GlobalArgs) -> Result<Build, u8> {
    let mut session = Session::new(&WORLD);
    let result = session.compile(path, options);
    show(&session, global);
    show_extras(&session, args);
    result.map_err(|stop| stopped(&stop, global))
}

/// `kurc --emit-ir`: the optimised graph of the main step.
pub(super) fn emit_ir(path: &str, args: &CompileArgs, global: &GlobalArgs) -> u8 {
    match compile(path, args, &args.options(), global) {
        Ok(build) => build.main_step().map_or(0, |s| out(&crate::ir::text::print_graph(&s.graph))),
        Err(status) => status,
    }
}

/// `kurc build`.
pub(super) fn build(args: &BuildArgs, global: &GlobalArgs) -> u8 {
    let start = Instant::now();
    let mut options = args.compile.options();
    if let Some(cpu) = args.target_cpu {
        options.targets = vec![cpu.level()];
    }
    let build = match compile(&args.kurfile, &args.compile, &options, global) {
        Ok(b) => b,
        Err(status) => return status,
    };
    if !args.emit.is_empty() {
        let level = options.targets.first().copied().unwrap_or(CpuLevel::V3);
        let status = emit(&build, &args.emit, level, global);
        if status != 0 || args.output.is_none() {
            return status;
        }
    }
    if args.report {
        let status = build.report(args.batch_size).map_or_else(|stop| stopped(&stop, global), |text| out(&text));
        if status != 0 || args.output.is_none() {
            return status;
        }
    }
    let path = args.output.as_ref().map_or_else(|| default_output(&args.kurfile), PathBuf::from);
    match pack(&build, &options, &path, global) {
        Ok(bytes) => {
            say!(
                "built {} ({bytes} bytes, {}) in {:.3} s",
                path.display(),
                count(build.kernels.len(), "kernel"),
                start.elapsed().as_secs_f64()
            );
            0
        }
        Err(status) => status,
    }
}

fn emit(build: &Build, stages: &[Stage], level: CpuLevel, global: &GlobalArgs) -> u8 {
    let mut text = String::new();
    for s in stages {
        if stages.len() > 1 {
            text.push_str(&format!("// stage {}\n", s.name()));
        }
        match build.emit(*s, level) {
            Ok(t) => text.push_str(&t),
            Err(stop) => return stopped(&stop, global),
        }
    }
    out(&text)
}

/// The Kurfile's name with `.bin`, in the working directory.
fn default_output(kurfile: &str) -> PathBuf {
    let stem = Path::new(kurfile).file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    PathBuf::from(format!("{stem}.bin"))
}

/// A file that is there already is replaced only if it is an executable: a Kurfile or data file named by mistake stays.
fn refuse_to_destroy(path: &Path) -> Result<(), String> {
    use std::io::Read as _;
    if !std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() > 0) {
        return Ok(());
    }
    let mut head = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
    match read {
        Ok(()) if head == *b"\x7fELF" => Ok(()),
        _ => Err(format!("`{}` exists and is no executable; it will not be overwritten", path.display())),
    }
}

/// Makes the executable and writes it; gives its size in bytes.
fn pack(build: &Build, options: &Options, path: &Path, global: &GlobalArgs) -> Result<usize, u8> {
    let run_error = |id: &str, message: String, help: &str| {
        say!("error[{id}]: {message}\n  = help: {help}");
        1
    };
    if let Err(e) = refuse_to_destroy(path) {
        return Err(run_error("write-failed", e, "choose another place with `-o`, or remove that file"));
    }
    let payload = build.payload(&options.targets).map_err(|stop| stopped(&stop, global))?;
    let payload = encode(&payload).map_err(|e| {
        internal_error(&e);
        INTERNAL
    })?;
    let stub = link::find_stub().map_err(|e| {
        run_error("missing-stub", e, "keep `kur-stub` beside `kurc`: `cargo build --release` makes both")
    })?;
    let stub_bytes = std::fs::read(&stub).map_err(|e| {
        run_error("missing-stub", format!("cannot read `{}`: {e}", stub.display()), "check its permissions")
    })?;
    let bytes = link::pack(&stub_bytes, &payload).map_err(|e| {
        run_error("bad-stub", e.to_string(), "build kurc and its stub again with `cargo build --release`")
    })?;
    link::write_atomically(path, &bytes, true)
        .map_err(|e| run_error("write-failed", e.to_string(), "choose another place with `-o`"))?;
    Ok(bytes.len())
}
