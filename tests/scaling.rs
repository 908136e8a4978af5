//! Time grows with the size of a Kurfile, not with its square, and no size overflows the stack.
//!
//! The figures of a busy machine scatter, so a ratio of least times is compared with a bound that lies between linear
//! growth and the square. Absolute times are in benches/README.md.

#[path = "support/large.rs"]
mod large;

use std::time::{Duration, Instant};

use kurc::diag::{Format, render};
use kurc::driver::{Options, Session, Stop};
use kurc::frontend::MemoryWorld;
use kurc::passes::pipeline::OptLevel;
use kurc::shapes::table;
use large::{KINDS, Kind};

/// The most layers of one model.
const MOST: usize = 19_900;

/// What `kurc check -v` does: reads, types, infers shapes, lowers; makes the table and shows all findings.
fn check(kind: Kind, text: &str) {
    let world = MemoryWorld::with_file(kind.file_name(), text);
    let mut session = Session::new(&world);
    let checked = session.check(kind.file_name(), &Options::default());
    if let Ok(checked) = &checked {
        assert!(!table(&checked.kurfile, &checked.shapes).is_empty());
    }
    let found = session.sink.sorted();
    assert_eq!(checked.is_err(), kind == Kind::Errors, "{kind:?}: {:?}", found.first());
    for format in [Format::Full { color: false }, Format::Short, Format::Json] {
        assert!(found.iter().all(|d| !render(d, &session.sources, format).is_empty()));
    }
}

/// The whole compilation but for machine code.
fn build(kind: Kind, text: &str, level: OptLevel) {
    let world = MemoryWorld::with_file(kind.file_name(), text);
    let mut session = Session::new(&world);
    match session.compile(kind.file_name(), &Options { level, ..Options::default() }) {
        Ok(build) => assert!(!build.program.infer.launches.is_empty()),
        Err(Stop::Internal { stage, message, .. }) => panic!("{kind:?}, {stage}: {message}"),
        Err(e) => panic!("{kind:?}: {e:?}"),
    }
}

fn least(runs: usize, mut work: impl FnMut()) -> Duration {
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..runs).map(|_| time(&mut work)).min().unwrap_or_default()
}

/// Compares a size with ten times that size. Linear growth gives 10, a square 100.
fn grows_linearly(kinds: &[(&str, Kind)], small: usize, work: impl Fn(Kind, &str)) {
    let mut slow = Vec::new();
    for (name, kind) in kinds {
        let (few, many) = (kind.text(small), kind.text(10 * small));
        // A disturbance may hit all runs of one side, so the whole comparison gets another chance.
        let ratios: Vec<f64> = (0..3)
            .scan(false, |done, _| {
                let short = least(5, || work(*kind, &few)).as_secs_f64().max(1e-4);
                let long = least(2, || work(*kind, &many)).as_secs_f64();
                let ratio = long / short;
                (!std::mem::replace(done, ratio < 20.0)).then_some(ratio)
            })
            .collect();
        println!("{name:12} {ratios:.1?}");
        if ratios.iter().all(|r| *r >= 20.0) {
            slow.push(format!("{name}: {ratios:.1?}"));
        }
    }
    assert!(slow.is_empty(), "ten times the layers take far more than ten times as long: {slow:?}");
}

#[test]
fn checking_takes_time_in_proportion_to_the_layers() {
    grows_linearly(KINDS, 500, check);
}

#[test]
fn compiling_takes_time_in_proportion_to_the_layers() {
    let sound: Vec<_> = KINDS.iter().filter(|(_, k)| *k != Kind::Errors).copied().collect();
    grows_linearly(&sound, 100, |kind, text| build(kind, text, OptLevel::Full));
}

/// Deep chains need no deep stack: this runs on the 2 MiB of a test thread.
#[test]
fn checking_the_largest_models_overflows_no_stack() {
    for (_, kind) in KINDS {
        check(*kind, &kind.text(MOST));
    }
}

#[test]
fn building_the_largest_list_overflows_no_stack() {
    build(Kind::List, &Kind::List.text(MOST), OptLevel::Full);
    build(Kind::List, &Kind::List.text(MOST), OptLevel::None);
}

#[test]
fn building_the_largest_chain_of_activations_overflows_no_stack() {
    build(Kind::Activations, &Kind::Activations.text(MOST), OptLevel::Full);
}
