//! Diagnostics: the one type in which every stage tells the user what is wrong, where, and what to write instead.
//!
//! Stages push into a [`Sink`] and go on, so that one bad layer does not hide the next; a stage that cannot give a
//! result returns [`Reported`]. Rendering is in `render`, the explanation of every id in [`pages`]. Depends on nothing
//! else in the crate.

pub mod pages;
mod render;
mod source;

pub use render::{Format, render};
pub use source::{FileId, SourceMap};

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A byte range in a file of the [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span from byte offsets.
    #[must_use]
    pub fn new(file: FileId, start: usize, end: usize) -> Span {
        let clamp = |x: usize| u32::try_from(x).unwrap_or(u32::MAX);
        Span { file, start: clamp(start), end: clamp(end) }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Compilation cannot succeed.
    Error,
    /// Legal, but probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// Stable kebab-case name, e.g. `shape-mismatch`.
    pub id: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// One phrase that makes sense alone: lower-case start, no full stop.
    pub message: String,
    /// The place, with a label (may be empty).
    pub primary: Option<(Span, String)>,
    /// Other places that explain it.
    pub secondary: Vec<(Span, String)>,
    /// Facts.
    pub notes: Vec<String>,
    /// What to do.
    pub helps: Vec<String>,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(id: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, id, message)
    }

    /// A warning.
    #[must_use]
    pub fn warning(id: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Warning, id, message)
    }

    fn new(severity: Severity, id: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            id,
            severity,
            message: message.into(),
            primary: None,
            secondary: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
        }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.primary = Some((span, label.into()));
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.secondary.push((span, label.into()));
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Diagnostic {
        self.notes.push(text.into());
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.helps.push(text.into());
        self
    }
}

/// Proof that at least one error was pushed into a [`Sink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported(());

/// Collects findings of all stages.
#[derive(Debug, Default)]
pub struct Sink {
    found: Vec<Diagnostic>,
    /// Where in `found` findings of a hash are, so that repetitions are noticed among thousands; never iterated.
    places: HashMap<u64, Vec<usize>>,
    errors: usize,
}

impl Sink {
    /// Adds a finding, unless an equal one is there.
    pub fn push(&mut self, d: Diagnostic) {
        let mut hasher = DefaultHasher::new();
        d.hash(&mut hasher);
        let places = self.places.entry(hasher.finish()).or_default();
        if places.iter().all(|i| self.found[*i] != d) {
            places.push(self.found.len());
            self.errors += usize::from(d.severity == Severity::Error);
            self.found.push(d);
        }
    }

    /// Adds an error and returns the proof of it.
    pub fn fail(&mut self, d: Diagnostic) -> Reported {
        debug_assert_eq!(d.severity, Severity::Error);
        self.push(d);
        Reported(())
    }

    /// Whether an error was pushed.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Number of errors so far, to tell whether a part of a stage added some.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// `Err` when an error was pushed.
    ///
    /// # Errors
    /// [`Reported`] when there are errors.
    pub fn check(&self) -> Result<(), Reported> {
        self.check_since(0)
    }

    /// `Err` when there are more errors than `before`, an earlier [`Sink::error_count`].
    ///
    /// # Errors
    /// [`Reported`] when errors were added.
    pub fn check_since(&self, before: usize) -> Result<(), Reported> {
        if self.error_count() > before { Err(Reported(())) } else { Ok(()) }
    }

    /// Changes findings when all of a stage are known, say to add notes.
    pub fn amend(&mut self, change: impl FnMut(&mut Diagnostic)) {
        self.found.iter_mut().for_each(change);
    }

    /// All findings in source order (those without a place first). Those that differ only in the way by which their
    /// place is used, as every use of a template has its own, are one.
    #[must_use]
    pub fn sorted(&self) -> Vec<Diagnostic> {
        // Where in `out` a finding is, and how often it was found; never iterated.
        let mut places: HashMap<(&str, &str, &(Span, String)), usize> = HashMap::new();
        let mut out: Vec<(Diagnostic, usize)> = Vec::new();
        for d in &self.found {
            let first = d.primary.as_ref().map(|at| *places.entry((d.id, &d.message, at)).or_insert(out.len()));
            match first {
                Some(i) if i < out.len() => out[i].1 += 1,
                _ => out.push((d.clone(), 1)),
            }
        }
        let mut v: Vec<Diagnostic> = out
            .into_iter()
            .map(|(d, uses)| if uses > 1 { d.note(format!("the same in {uses} uses of this place")) } else { d })
            .collect();
        v.sort_by_key(|d| d.primary.as_ref().map(|(s, _)| *s));
        v
    }
}

/// Names that unknown ones are compared with, up to a limit of work: thousands of mistakes among thousands of names
/// must not take minutes, and nobody reads the suggestions for all of them.
#[derive(Debug)]
pub struct Suggestions<'a> {
    known: Vec<&'a str>,
    left: usize,
}

impl<'a> Suggestions<'a> {
    /// Comparisons in all.
    const WORK: usize = 200_000;

    /// From names in their order.
    #[must_use]
    pub fn new(known: Vec<&'a str>) -> Suggestions<'a> {
        let left = Self::WORK / known.len().max(1);
        Suggestions { known, left }
    }

    /// The names to compare the next unknown name with; none when that was done often enough.
    pub fn take(&mut self) -> &[&'a str] {
        if self.left == 0 {
            return &[];
        }
        self.left -= 1;
        &self.known
    }
}

/// Letters of a word for which similar ones are looked for.
const LONGEST_WORD: usize = 100;

/// A number of things: `1 key`, `2 keys`, `3 axes`.
#[must_use]
pub fn count(n: usize, noun: &str) -> String {
    match (n, noun.strip_suffix("is")) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{n} {stem}es"),
        (_, None) => format!("{n} {noun}s"),
    }
}

/// The closest of `known` to `word`, for "did you mean"; `None` when nothing is close.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    // Any letter is one step from any other: that is no resemblance.
    let limit = (length / 3).max(1).min(length.saturating_sub(1));
    // The comparison takes the product of both lengths, and nobody mistypes a word of that size.
    if length > LONGEST_WORD {
        return None;
    }
    let word = word.to_lowercase();
    let length = word.chars().count();
    let mut best: Option<(usize, &str)> = None;
    for k in known.into_iter().filter(|k| k.len() <= 2 * LONGEST_WORD) {
        let lower = k.to_lowercase();
        // Each character more or less is one edit; most words are told apart by that.
        if lower.chars().count().abs_diff(length) > limit {
            continue;
        }
        let d = strsim::damerau_levenshtein(&word, &lower);
        if d <= limit && best.is_none_or(|(b, _)| d < b) {
            best = Some((d, k));
        }
    }
    best.map(|(_, k)| k)
}
