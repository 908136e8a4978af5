//! The one error type of the running program: what went wrong in one phrase, where, and what to do about it.
//!
//! Every error carries an [`Exit`], so the process's status follows from the error alone and never from where it was
//! caught. Rendering is done by [`Error::render`]; nothing below the command line prints.

use std::fmt;
use std::io;

use serde_json::{Map, Value};

/// Result of everything in this crate that can fail for a reason a user should read.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit status of the process for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: nothing to report, such as a reader that closed our standard output.
    Quiet,
    /// 1: the run failed (files, weights, the system).
    Run,
    /// 2: the command line does not make sense.
    Usage,
    /// 3: the resolved Kurfile asks for something this run cannot give.
    Kurfile,
    /// 4: the data is not what the model needs.
    Data,
    /// 5: a broken invariant or a damaged executable.
    Internal,
    /// 6: the loss became NaN or infinite.
    Diverged,
}

impl Exit {
    /// The process status.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Exit::Quiet => 0,
            Exit::Run => 1,
            Exit::Usage => 2,
            Exit::Kurfile => 3,
            Exit::Data => 4,
            Exit::Internal => 5,
            Exit::Diverged => 6,
        }
    }
}

/// Where an error lies in the user's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Path as the user wrote it; empty where only the row in all the data of a section is known.
    pub file: String,
    /// Line in the file, from 1.
    pub line: Option<u64>,
    /// Data row, from 1; the header is not counted.
    pub row: Option<u64>,
    /// Column name.
    pub column: Option<String>,
}

impl Place {
    /// A whole file.
    #[must_use]
    pub fn file(path: &str) -> Place {
        Place { file: path.to_owned(), ..Place::default() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (true, Some(row)) = (self.file.is_empty(), self.row) {
            return write!(f, "row {row} of the data");
        }
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match (self.row, &self.column) {
            (Some(row), Some(column)) => write!(f, " (row {row}, column `{column}`)"),
            (Some(row), None) => write!(f, " (row {row})"),
            (None, Some(column)) => write!(f, " (column `{column}`)"),
            (None, None) => Ok(()),
        }
    }
}

/// An error with an identifier, a place and advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    exit: Exit,
    id: &'static str,
    message: String,
    place: Option<Place>,
    sample: Option<u64>,
    helps: Vec<String>,
}

impl Error {
    /// An error with a kebab-case identifier and a one-phrase message, lower-case and without a full stop.
    #[must_use]
    pub fn new(exit: Exit, id: &'static str, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { exit, id, message: message.into(), place: None, sample: None, helps: Vec::new() }))
    }

    /// An error in the data, exit status 4.
    #[must_use]
    pub fn data(id: &'static str, message: impl Into<String>) -> Error {
        Error::new(Exit::Data, id, message)
    }

    /// A broken invariant, exit status 5.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(Exit::Internal, "internal", message)
            .help("this is a defect of kurc; please report it with the Kurfile and the command")
    }

    /// The reader of our standard output went away: end without a word.
    #[must_use]
    pub fn closed_pipe() -> Error {
        Error::new(Exit::Quiet, "closed-pipe", "standard output was closed")
    }

    /// A failed system call on a file; `action` reads like `write`.
    #[must_use]
    pub fn io(id: &'static str, action: &str, path: &str, cause: &io::Error) -> Error {
        let error = Error::new(Exit::Run, id, format!("cannot {action} `{path}`: {}", io_phrase(cause)));
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                error.help("free some space or choose another place")
            }
            io::ErrorKind::FileTooLarge => error.help(FILE_LIMIT),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                error.help("choose a place you may write to, or change its permissions")
            }
            _ => error,
        }
    }

    /// The same error with a place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Error {
        self.0.place = Some(place);
        self
    }

    /// The same error about one sample of the batch, from 0. Who knows the batch makes a place of it.
    #[must_use]
    pub fn of_sample(mut self, sample: u64) -> Error {
        self.0.sample = Some(sample);
        self
    }

    /// The sample of the batch that it is about, from 0.
    #[must_use]
    pub fn sample(&self) -> Option<u64> {
        self.0.sample
    }

    /// The same error with one more line of advice.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Error {
        self.0.helps.push(text.into());
        self
    }

    /// The same error with another exit status.
    #[must_use]
    pub fn exit_as(mut self, exit: Exit) -> Error {
        self.0.exit = exit;
        self
    }

    /// The exit status.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The identifier, such as `csv-not-a-number`.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.0.id
    }

    /// The one-phrase message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it lies.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// Advice, a line each.
    #[must_use]
    pub fn helps(&self) -> &[String] {
        &self.0.helps
    }

    /// The text for standard error, with a final newline; empty for [`Exit::Quiet`].
    #[must_use]
    pub fn render(&self, json: bool) -> String {
        if self.0.exit == Exit::Quiet {
            return String::new();
        }
        if json {
            return format!("{}\n", self.to_json());
        }
        format!("{self}\n")
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("event".into(), "error".into());
        object.insert("id".into(), self.0.id.into());
        object.insert("message".into(), self.0.message.clone().into());
        if let Some(place) = &self.0.place {
            if !place.file.is_empty() {
                object.insert("file".into(), place.file.clone().into());
            }
            if let Some(line) = place.line {
                object.insert("line".into(), line.into());
            }
            if let Some(row) = place.row {
                object.insert("row".into(), row.into());
            }
            if let Some(column) = &place.column {
                object.insert("column".into(), column.clone().into());
            }
        }
        object.insert("helps".into(), self.0.helps.clone().into());
        object.insert("exit".into(), self.0.exit.code().into());
        Value::Object(object)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.0.id, self.0.message)?;
        if let Some(place) = &self.0.place {
            write!(f, "\n  --> {place}")?;
        }
        for help in &self.0.helps {
            let mut lines = help.lines();
            write!(f, "\n  = help: {}", lines.next().unwrap_or_default())?;
            for line in lines {
                write!(f, "\n          {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// What to do where a file may not become as large as it has to be.
pub(crate) const FILE_LIMIT: &str = "`ulimit -f` shows the size limit for files of this shell";

/// A system error without the `(os error 2)` tail.
#[must_use]
pub fn io_phrase(cause: &io::Error) -> String {
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// The closest of some names, for "did you mean"; `None` when nothing is near.
#[must_use]
pub fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().max(3) / 3;
    names
        .into_iter()
        .map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(d, _)| *d <= limit && *d < name.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(row[j - 1] + 1).min(rows[i - 1][j] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A number of things: `1 epoch`, `2 epochs`, `3 classes`.
#[must_use]
pub fn count(n: u64, noun: &str) -> String {
    let ending = match n {
        1 => "",
        _ if noun.ends_with('s') || noun.ends_with("nch") => "es",
        _ => "s",
    };
    format!("{n} {noun}{ending}")
}

/// Names in backquotes, separated by commas, at most `limit` of them.
#[must_use]
pub fn name_list<'a>(names: impl IntoIterator<Item = &'a str>, limit: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let mut text = names.iter().take(limit).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if names.len() > limit {
        text.push_str(&format!(", … ({} in all)", names.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_text_and_json() {
        let e = Error::data("csv-not-a-number", "`abc` is not a number")
            .at(Place { file: "a.csv".into(), line: Some(3), row: Some(2), column: Some("x".into()) })
            .help("first\nsecond");
        assert_eq!(
            e.render(false),
            "error[csv-not-a-number]: `abc` is not a number\n  --> a.csv:3 (row 2, column `x`)\n  = help: first\n          second\n"
        );
        assert_eq!(
            e.render(true),
            "{\"event\":\"error\",\"id\":\"csv-not-a-number\",\"message\":\"`abc` is not a number\",\"file\":\"a.csv\",\
             \"line\":3,\"row\":2,\"column\":\"x\",\"helps\":[\"first\\nsecond\"],\"exit\":4}\n"
        );
        assert_eq!(Error::closed_pipe().render(false), "");
    }

    #[test]
    fn suggests_only_near_names() {
        assert_eq!(did_you_mean("petal_widht", ["petal_width", "petal_length"]), Some("petal_width"));
        assert_eq!(did_you_mean("xyz", ["petal_width"]), None);
    }

    #[test]
    fn one_thing_is_no_things() {
        let of = |n| [count(n, "epoch"), count(n, "class"), count(n, "launch")];
        assert_eq!(of(1), ["1 epoch", "1 class", "1 launch"]);
        assert_eq!(of(0), ["0 epochs", "0 classes", "0 launches"]);
    }

    #[test]
    fn system_errors_lose_their_number() {
        let e = io::Error::from_raw_os_error(28);
        assert_eq!(
            Error::io("write-failed", "write", "out.csv", &e).to_string(),
            "error[write-failed]: cannot write `out.csv`: no space left on device\n  = help: free some space or choose another place"
        );
    }
}
