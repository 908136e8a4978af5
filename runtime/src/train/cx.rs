//! What every command shares: the engine, the streams, the program's name, and how sections turn into data.

use std::path::{Path, PathBuf};

use super::console::Console;
use super::engine::Engine;
use super::stop::Stop;
use crate::data::bind::Wanted;
use crate::data::{self, Dataset, Learned, TargetHint, Truth};
use crate::error::{Error, Exit, Result};
use crate::spec::{RunSpec, SectionSpec};
use crate::weights::{self, Loaded, Meta};

/// Facts about the program that the engine does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Stem of default weight names: that of the executable, or of the Kurfile for a run in memory.
    pub stem: String,
    /// How the user calls the program, for advice: `./model.bin`, or `kurc`; see [`invocation`].
    pub invocation: String,
    /// The Kurfile, which `kurc` takes behind the command.
    pub kurfile: Option<String>,
    /// Options of `kurc` that must be given again to mean the same program: `--set` with each assignment, `-O`.
    pub options: Vec<String>,
    /// Directory of the executable, where default weights are looked for too.
    pub directory: Option<PathBuf>,
    /// SHA-256 of the payload, in hex.
    pub hash: Option<String>,
    /// Instruction set of the generated code in use.
    pub code: Option<String>,
}

impl About {
    /// A command as the user would type it: `./model.bin train`, `kurc train Kurfile.yml --set model.1.dense=20`.
    #[must_use]
    pub fn command(&self, word: &str) -> String {
        let kurfile = self.kurfile.iter().map(|k| format!(" {}", shell_path(k)));
        let options = self.options.iter().map(|o| format!(" {}", shell_word(o)));
        format!("{} {word}{}", self.invocation, kurfile.chain(options).collect::<String>())
    }
}

/// How the running program was called, with those of some variables of the environment that change what it does.
#[must_use]
pub fn invocation(program: &str, variables: &[&str]) -> String {
    let set = variables.iter().filter_map(|name| Some((*name, std::env::var(name).ok().filter(|v| !v.is_empty())?)));
    set.map(|(name, value)| format!("{name}={} ", shell_word(&value))).collect::<String>() + &shell_word(program)
}

/// A text as one word of a shell's command line: as it is, or between single quotes.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=:,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A file's name as one word that is not taken for an option.
#[must_use]
pub fn shell_path(path: &str) -> String {
    let here = if path.starts_with('-') { "./" } else { "" };
    shell_word(&format!("{here}{path}"))
}

/// The context of a command.
pub struct RunCx<E> {
    /// Runs the steps.
    pub engine: E,
    /// Standard output and error.
    pub console: Console,
    /// Facts about the program.
    pub about: About,
    /// The wish to stop.
    pub stop: Stop,
}

impl<E> RunCx<E> {
    /// Says what these sections of the Kurfile ask for beside the computation and will not get.
    pub fn say_unbuilt(&mut self, run: &RunSpec, sections: &[&str]) {
        for what in &run.unbuilt {
            if sections.iter().any(|s| what.ends_with(&format!("`{s}`"))) {
                self.console.note(&format!("{what} is not built yet; this run goes on without it"));
            }
        }
    }
}

/// A section of the Kurfile that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `train`.
    Train,
    /// `validate`.
    Validate,
    /// `test`.
    Test,
    /// `evaluate`, also for `predict`.
    Evaluate,
}

impl Section {
    /// The Kurfile word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Section::Train => "train",
            Section::Validate => "validate",
            Section::Test => "test",
            Section::Evaluate => "evaluate",
        }
    }

    fn of(self, run: &RunSpec) -> Option<&SectionSpec> {
        match self {
            Section::Train => run.train.as_ref(),
            Section::Validate => run.validate.as_ref(),
            Section::Test => run.test.as_ref(),
            Section::Evaluate => run.evaluate.as_ref(),
        }
    }
}

/// The section's data and provider, with what the command line replaces.
///
/// # Errors
/// `no-data`, `usage` for a data file of an unknown kind.
pub fn section(run: &RunSpec, which: Section, file: Option<&str>, batch_size: Option<u64>) -> Result<SectionSpec> {
    let own = which.of(run);
    let mut section = match (file, own) {
        (Some(path), _) if data::idx::holds_images(path) => data::with_images(own, path),
        (Some(path), _) => {
            check_kind(path)?;
            let others = [run.train.as_ref(), run.validate.as_ref(), run.test.as_ref(), run.evaluate.as_ref()];
            data::with_file(own, &others, path)
        }
        (None, Some(own)) if !own.data.is_empty() => own.clone(),
        (None, _) => {
            let has = if own.is_some() { "names no data" } else { "is missing in the Kurfile" };
            return Err(Error::data("no-data", format!("section `{}` {has}, and no data file is given", which.word()))
                .help(format!("give a CSV file on the command line: `{} DATA.csv`", which.word())));
        }
    };
    if own.is_none()
        && let Some(train) = &run.train
    {
        // Batches do not change results outside training, but their size is what the arena was planned for.
        section.provider.batch_size = train.provider.batch_size;
    }
    if matches!(which, Section::Test | Section::Evaluate) {
        section.provider.randomize = false;
        if own.is_none() {
            section.provider.num_batches = None;
            section.provider.force_batch_size = false;
        }
    }
    if let Some(size) = batch_size {
        section.provider.batch_size = size;
    }
    Ok(section)
}

/// Whether a data file can be a CSV file, by its name; devices and pipes have no name to go by.
fn check_kind(path: &str) -> Result<()> {
    let lower = path.to_lowercase();
    let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
    let known = [".csv", ".tsv", ".txt"].iter().any(|e| plain.ends_with(e)) || data::arrays::format_of(path).is_some();
    let special = std::fs::metadata(data::file::expand(path)).is_ok_and(|m| !m.is_file());
    if known || special {
        return Ok(());
    }
    Err(Error::new(Exit::Usage, "data-kind", format!("`{path}` is no data file by its name"))
        .help("data files on the command line end in .csv, .tsv, .txt, .npz, .npy, .pkl or .jsonl, or are IDX images"))
}

/// Loads a section for this program.
///
/// # Errors
/// Every defect of the data.
pub fn load(
    run: &RunSpec,
    section: &SectionSpec,
    truth: Truth,
    learned: Option<&Learned>,
) -> Result<(Dataset, Learned)> {
    load_with(run, section, None, truth, learned)
}

/// As [`load`], with one more source that is read like an input.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    run: &RunSpec,
    section: &SectionSpec,
    more: Option<&str>,
    truth: Truth,
    learned: Option<&Learned>,
) -> Result<(Dataset, Learned)> {
    let inputs = run.inputs.iter().map(|i| i.name.clone()).chain(more.map(str::to_owned));
    let inputs: Vec<String> = inputs.collect();
    let targets: Vec<TargetHint> = data::loss_targets(run);
    let found = data::load(section, &Wanted { inputs: &inputs, targets: &targets, truth }, learned)?;
    data::domain::check(run, &found.0)?;
    Ok(found)
}

/// Reads a weights file, or one of Kur's weight folders, into the engine.
///
/// # Errors
/// Those of [`weights::read`].
pub fn restore<E: Engine>(engine: &mut E, path: &Path) -> Result<Option<Meta>> {
    let loaded: Loaded<Meta> = weights::read(path, engine.program())?;
    put(engine, &loaded);
    Ok(loaded.meta)
}

/// Copies loaded tensors into the engine's state.
pub fn put<E: Engine, M>(engine: &mut E, loaded: &Loaded<M>) {
    for (index, values) in &loaded.tensors {
        engine.state_mut(*index).copy_from_slice(values);
    }
}
