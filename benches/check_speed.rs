//! How long `kurc check` and `kurc build` take for large Kurfiles: the table of benches/README.md.
//!
//! `cargo bench --bench check_speed [-- KIND…]` runs the program itself, five times for each figure, and prints the
//! least wall-clock time in milliseconds.

#[path = "../tests/support/large.rs"]
mod large;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use large::{KINDS, Kind};

/// Layers of the files that are checked.
const CHECK: [usize; 4] = [500, 1000, 2000, 5000];

/// Layers of the files that are built up to the plan, without machine code.
const BUILD: [usize; 4] = [10, 100, 500, 1000];

const RUNS: usize = 5;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let kinds: Vec<_> = KINDS.iter().filter(|(n, _)| wanted.is_empty() || wanted.iter().any(|w| w == n)).collect();
    let folder = std::env::temp_dir().join(format!("kurc-check-speed-{}", std::process::id()));
    if let Err(e) = fs::create_dir_all(&folder) {
        eprintln!("cannot make {}: {e}", folder.display());
        return ExitCode::FAILURE;
    }
    table("kurc check", &["check"], &CHECK, &kinds, &folder);
    let sound: Vec<_> = kinds.into_iter().filter(|(_, k)| *k != Kind::Errors).collect();
    table("kurc build --emit=plan", &["build", "--emit=plan"], &BUILD, &sound, &folder);
    let _ = fs::remove_dir_all(&folder);
    ExitCode::SUCCESS
}

fn table(title: &str, arguments: &[&str], sizes: &[usize], kinds: &[&(&str, Kind)], folder: &Path) {
    let heads: Vec<String> = sizes.iter().map(|n| format!(" {n} |")).collect();
    println!("\n| {title}, ms |{} growth |\n|---|{}---:|", heads.concat(), "---:|".repeat(sizes.len()));
    for (name, kind) in kinds {
        let times: Vec<Duration> = sizes.iter().filter_map(|n| least(arguments, *kind, *n, folder)).collect();
        let cells: Vec<String> = times.iter().map(|t| format!(" {:.0} |", t.as_secs_f64() * 1e3)).collect();
        let growth = match (times.first(), times.last()) {
            (Some(a), Some(b)) => b.as_secs_f64() / a.as_secs_f64(),
            _ => f64::NAN,
        };
        println!("| {name} |{} ×{growth:.1} |", cells.concat());
    }
}

/// The least time of a run; `None`, with a message, when it cannot be started.
fn least(arguments: &[&str], kind: Kind, layers: usize, folder: &Path) -> Option<Duration> {
    let path = folder.join(kind.file_name());
    if let Err(e) = fs::write(&path, kind.text(layers)) {
        eprintln!("cannot write {}: {e}", path.display());
        return None;
    }
    let mut least = Duration::MAX;
    for _ in 0..RUNS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kurc"));
        command.args(arguments).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        if let Err(e) = command.status() {
            eprintln!("cannot run kurc: {e}");
            return None;
        }
        least = least.min(start.elapsed());
    }
    Some(least)
}
