//! The two streams of a run: results and JSON events go to standard output, progress and remarks to standard error.
//!
//! Invariant: output never panics. A reader that went away or a full disk is remembered (see [`Console::take_failure`]), so
//! that a training can save its weights before it ends.

use std::io::{self, IsTerminal, Write};

use serde_json::{Map, Value};

use crate::error::{Error, Exit, FILE_LIMIT, Result, io_phrase};

/// Where a run prints.
pub struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    json: bool,
    live: bool,
    failure: Option<Error>,
}

impl Console {
    /// The streams of the process.
    #[must_use]
    pub fn system(json: bool) -> Console {
        Console {
            out: Box::new(io::BufWriter::with_capacity(1 << 16, io::stdout())),
            err: Box::new(io::stderr()),
            json,
            live: !json && io::stderr().is_terminal(),
            failure: None,
        }
    }

    /// Streams of the caller's choice, as for a standard error that is no terminal.
    #[must_use]
    pub fn to(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, json: bool) -> Console {
        Console { out, err, json, live: false, failure: None }
    }

    /// Whether `--json` was given.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether standard error is a terminal that shows a live bar.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// What went wrong with standard output, once.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Whether standard output has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// With `--json`, prints one object with `event` first.
    pub fn event(&mut self, name: &str, fields: impl IntoIterator<Item = (String, Value)>) {
        if !self.json {
            return;
        }
        let mut object = Map::new();
        object.insert("event".into(), name.into());
        object.extend(fields);
        self.results(&format!("{}\n", Value::Object(object)));
        self.flush();
    }

    /// Prints results.
    pub fn results(&mut self, text: &str) {
        if self.failure.is_none()
            && let Err(e) = self.out.write_all(text.as_bytes())
        {
            self.failure = Some(stdout_error(&e));
        }
    }

    /// Sends what is buffered on its way.
    pub fn flush(&mut self) {
        if self.failure.is_none()
            && let Err(e) = self.out.flush()
        {
            self.failure = Some(stdout_error(&e));
        }
    }

    /// Prints a line of progress, unless `--json` tells the same as an event.
    pub fn progress(&mut self, line: &str) {
        if !self.json {
            // Progress that nobody can read is no reason to stop.
            let _ = writeln!(self.err, "{line}");
        }
    }

    /// Prints a remark, also with `--json`.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "note: {text}");
    }

    /// Prints what is probably wrong with a result, also with `--json`.
    pub fn warn(&mut self, text: &str) {
        let _ = writeln!(self.err, "warning: {text}");
    }

    /// Prints an error as the last word.
    pub fn error(&mut self, error: &Error) {
        let _ = self.err.write_all(error.render(self.json).as_bytes());
        let _ = self.err.flush();
    }

    /// Standard output for a writer of its own.
    pub fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }
}

/// A failed write to standard output.
#[must_use]
pub fn stdout_error(cause: &io::Error) -> Error {
    if cause.kind() == io::ErrorKind::BrokenPipe {
        return Error::closed_pipe();
    }
    let error = Error::new(Exit::Run, "write-output", format!("cannot write to standard output: {}", io_phrase(cause)));
    match cause.kind() {
        io::ErrorKind::StorageFull => error.help("free some space or write to another place"),
        io::ErrorKind::FileTooLarge => error.help(FILE_LIMIT),
        _ => error,
    }
}

/// Ends a run: flushes, and turns a failure of standard output into the run's error.
///
/// # Errors
/// `closed-pipe`, `write-output`.
pub fn finish(console: &mut Console) -> Result<()> {
    console.flush();
    console.take_failure().map_or(Ok(()), Err)
}
