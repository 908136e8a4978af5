//! Kur's documented examples, written anew in `fixtures/examples` (kur-reference 12): all of them check, and those
//! whose layers exist build.

use std::path::{Path, PathBuf};

use kurc::diag::{Format, Severity, render};
use kurc::driver::{Options, Session, Stop};
use kurc::frontend::OsWorld;
use kurc::model::types::Need;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/examples");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    files.retain(|f| f.extension().is_some_and(|e| e == "yml"));
    // Values that another example includes; no Kurfile of its own.
    files.retain(|f| !f.ends_with("mnist-defaults.yml"));
    files.sort();
    let count = files.len();
    let mut trials: Vec<Trial> = files
        .into_iter()
        .map(|f| Trial::test(f.file_stem().unwrap_or_default().to_string_lossy().into_owned(), move || example(&f)))
        .collect();
    trials.push(Trial::test("there are examples", move || {
        if count < 20 { Err(format!("only {count}").into()) } else { Ok(()) }
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

fn example(path: &Path) -> Result<(), Failed> {
    let world = OsWorld;
    let path = path.to_string_lossy();
    let options = Options::default();
    let mut session = Session::new(&world);
    let checked = session.check(&path, &options).map_err(|stop| told(&session, &stop))?;
    let unbuilt = checked.kurfile.unbuilt.iter().any(|u| u.need == Need::Build);
    if session.sink.has_errors() {
        return Err("checks, but with errors".into());
    }
    let mut session = Session::new(&world);
    match session.compile(&path, &options) {
        Ok(build) if !unbuilt => {
            // Machine code too, not only plans.
            build.payload(&options.targets).map_err(|stop| told(&session, &stop))?;
            Ok(())
        }
        Ok(_) => Err("builds, although a construct in it is not built yet".into()),
        Err(_) if unbuilt => {
            let other: Vec<_> = session.sink.sorted();
            let other = other.iter().filter(|d| d.severity == Severity::Error && d.id != "not-yet-supported");
            other
                .map(|d| Err(render(d, &session.sources, Format::Full { color: false }).into()))
                .next()
                .unwrap_or(Ok(()))
        }
        Err(stop) => Err(told(&session, &stop)),
    }
}

fn told(session: &Session<'_>, stop: &Stop) -> Failed {
    let format = Format::Full { color: false };
    let texts: Vec<String> = session.sink.sorted().iter().map(|d| render(d, &session.sources, format)).collect();
    format!("{stop:?}\n{}", texts.join("\n")).into()
}
