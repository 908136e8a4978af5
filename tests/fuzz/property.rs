//! What must hold for whatever is read as a Kurfile.

use std::fmt;

use kurc::diag::{Diagnostic, Format, Sink, SourceMap, render};
use kurc::driver::{Options, Session, Stop};
use kurc::frontend::MemoryWorld;
use kurc::lower::model::{Mode, UNSOUND, lower};
use kurc::model;
use kurc::model::types::{Kurfile, Need};
use kurc::shapes::{Unseen, infer, table};

use crate::harness::bounded;

/// Files, the first of which is read, and arguments of `--set`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) set: Vec<String>,
}

impl Files {
    /// One file.
    pub(crate) fn one(name: &str, text: impl Into<Vec<u8>>) -> Files {
        Files { files: vec![(name.to_owned(), text.into())], set: Vec::new() }
    }

    fn world(&self) -> MemoryWorld {
        let mut world = MemoryWorld { host: "localhost".to_owned(), ..MemoryWorld::default() };
        world.files.extend(self.files.iter().cloned());
        world
    }

    fn path(&self) -> &str {
        self.files.first().map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, bytes) in &self.files {
            match std::str::from_utf8(bytes) {
                Ok(text) => writeln!(f, "--- {name}\n{text}")?,
                Err(_) => writeln!(f, "--- {name}\n{bytes:?}")?,
            }
        }
        self.set.iter().try_for_each(|s| writeln!(f, "--set {s:?}"))
    }
}

type Read = (Option<Kurfile>, Vec<Diagnostic>, SourceMap, Sink);

fn read(files: &Files) -> Read {
    let world = files.world();
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let result = bounded("reading", || model::load(&world, files.path(), &files.set, &mut sources, &mut sink));
    assert_eq!(result.is_err(), sink.has_errors(), "a result is missing exactly when an error is reported");
    (result.ok(), sink.sorted(), sources, sink)
}

fn shown(findings: &[Diagnostic], sources: &SourceMap) {
    bounded("showing the findings", || {
        for d in findings.iter().take(50) {
            for format in [Format::Full { color: false }, Format::Full { color: true }, Format::Short, Format::Json] {
                let text = render(d, sources, format);
                assert!(text.ends_with('\n') && text.contains(d.id), "{d:?} is shown as {text:?}");
            }
        }
    });
}

/// Reads, shows and lowers.
pub(crate) fn holds(files: &Files) {
    let (kurfile, findings, sources, mut sink) = read(files);
    let (again, same, ..) = read(files);
    assert_eq!(findings, same, "reading twice gives other findings");
    shown(&findings, &sources);
    let text = |k: &Option<Kurfile>| k.as_ref().map(|k| (model::dump(k), k.resolved.clone()));
    assert_eq!(text(&kurfile), text(&again), "reading twice gives another Kurfile");
    let Some(kurfile) = kurfile else { return };
    let shapes = bounded("inferring shapes", || {
        let shapes = infer(&kurfile, &[], Unseen::Error, &sources, &mut sink);
        assert!(!table(&kurfile, &shapes).is_empty());
        shapes
    });
    let built = kurfile.unbuilt.iter().all(|u| u.need != Need::Build);
    for mode in [Mode::Infer, Mode::Train] {
        if !built || sink.has_errors() {
            break;
        }
        let result = bounded("lowering", || lower(&kurfile, mode, &shapes, &[], &sources, &mut sink));
        assert_eq!(result.is_err(), sink.has_errors(), "{mode:?}: no result exactly when an error is reported");
        let unsound = sink.sorted().into_iter().find(|d| d.id == UNSOUND);
        assert!(unsound.is_none(), "{unsound:?}");
    }
    shown(&sink.sorted(), &sources);
}

/// As [`holds`], and compiles all but the machine code. Only for Kurfiles whose data is nowhere.
pub(crate) fn compiles(files: &Files) {
    holds(files);
    let world = files.world();
    let mut session = Session::new(&world);
    let options = Options { set: files.set.clone(), ..Options::default() };
    match bounded("compiling", || session.compile(files.path(), &options)) {
        Ok(_) => assert!(!session.sink.has_errors(), "a program in spite of errors"),
        Err(Stop::Reported(_)) => assert!(session.sink.has_errors(), "no program and no error"),
        Err(Stop::Data(_)) => {}
        Err(Stop::Internal { stage, message, dump }) => panic!("{stage}: {message}\n{dump}"),
    }
    shown(&session.sink.sorted(), &session.sources);
}
