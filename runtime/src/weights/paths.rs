//! Which weight files a command reads and writes (kur-reference 7.1), from the Kurfile, the command line and the name
//! of the program. No file is opened here beyond asking whether it exists.

use std::path::{Path, PathBuf};

use crate::data::file::expand;
use crate::error::{Error, Exit, Result};
use crate::spec::RunSpec;

/// Weight files of a training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrainPaths {
    /// Read before training when it is there.
    pub initial: Option<PathBuf>,
    /// Whether it has to be there.
    pub must_exist: bool,
    /// Written when the training loss is the lowest so far.
    pub best_train: Option<PathBuf>,
    /// Written when the validation loss is the lowest so far.
    pub best_valid: Option<PathBuf>,
    /// Written when training ends for whatever reason.
    pub last: Option<PathBuf>,
}

impl TrainPaths {
    /// Every path that is written, once.
    #[must_use]
    pub fn written(&self) -> Vec<&Path> {
        let mut all: Vec<&Path> = Vec::new();
        for path in [&self.best_train, &self.best_valid, &self.last].into_iter().flatten() {
            if !all.contains(&path.as_path()) {
                all.push(path);
            }
        }
        all
    }

    /// Whether training may go on from this file, so that optimizer state belongs beside it.
    #[must_use]
    pub fn resumes_from(&self, path: &Path) -> bool {
        self.initial.as_deref() == Some(path) || self.last.as_deref() == Some(path)
    }
}

/// The commands that read weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// `test`.
    Test,
    /// `evaluate` and `predict`.
    Evaluate,
}

/// The file used when the Kurfile names none.
#[must_use]
pub fn default_path(stem: &str) -> PathBuf {
    PathBuf::from(format!("{stem}.safetensors"))
}

/// Weight files of `train`. `--weights FILE` replaces where training starts and ends (`--weights FOLDER` only where it
/// starts; it ends in `FOLDER.safetensors`); what the Kurfile keeps as best
/// under a name of its own stays.
#[must_use]
pub fn for_training(run: &RunSpec, given: Option<&str>, stem: &str) -> TrainPaths {
    let spec = &run.train_weights;
    let path = |p: &Option<String>| p.as_deref().map(expand);
    let mut paths = TrainPaths {
        initial: path(&spec.initial),
        must_exist: spec.must_exist,
        best_train: path(&spec.best),
        best_valid: path(&run.validate_best),
        last: path(&spec.last),
    };
    if let Some(given) = given {
        let own = |p: Option<PathBuf>, start: &Option<PathBuf>| p.filter(|p| Some(p) != start.as_ref());
        let file = expand(given);
        // Kur's folders are read, never written: what is trained from one goes beside it.
        let last = if file.is_dir() { beside(&file) } else { file.clone() };
        return TrainPaths {
            best_train: own(paths.best_train, &paths.initial),
            best_valid: own(paths.best_valid, &paths.initial),
            initial: Some(file),
            must_exist: false,
            last: Some(last),
        };
    }
    if paths == TrainPaths::default() {
        paths.initial = Some(default_path(stem));
        paths.last = paths.initial.clone();
    }
    paths
}

/// The file beside a weight folder: `FOLDER.safetensors`.
fn beside(folder: &Path) -> PathBuf {
    let name = folder.file_name().map_or_else(|| "weights".into(), |n| n.to_string_lossy().into_owned());
    folder.with_file_name(format!("{name}.safetensors"))
}

/// The weights of `test`, `evaluate` and `predict`: the command line, else the section, else what training keeps (best
/// by validation, best by training loss, last, initial), else the default file in the working directory or beside the
/// executable.
///
/// # Errors
/// `no-weights`, saying how to train.
pub fn for_reading(
    run: &RunSpec,
    reader: Reader,
    given: Option<&str>,
    stem: &str,
    beside: Option<&Path>,
    program: &str,
) -> Result<PathBuf> {
    let section = match reader {
        Reader::Test => &run.test_weights,
        Reader::Evaluate => &run.evaluate_weights,
    };
    let train = &run.train_weights;
    let candidates: Vec<PathBuf> = match given.or(section.as_deref()) {
        Some(only) => vec![expand(only)],
        None => {
            let kept = [&run.validate_best, &train.best, &train.last, &train.initial];
            let mut all: Vec<PathBuf> = kept.into_iter().flatten().map(|p| expand(p)).collect();
            if all.is_empty() {
                all.push(default_path(stem));
                all.extend(beside.map(|dir| dir.join(default_path(stem))));
            }
            all
        }
    };
    if let Some(found) = candidates.iter().find(|p| p.exists()) {
        return Ok(found.clone());
    }
    let mut names: Vec<String> = Vec::new();
    for path in &candidates {
        let name = format!("`{}`", path.display());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let error =
        Error::new(Exit::Run, "no-weights", format!("there are no weights: {} does not exist", names.join(" or ")));
    Err(error.help(format!("train first: `{program}`")).help("or name a weights file with `--weights FILE`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::TrainWeights;

    fn run(initial: Option<&str>, best: Option<&str>, last: Option<&str>) -> RunSpec {
        let own = |s: Option<&str>| s.map(str::to_owned);
        RunSpec {
            name: "m".into(),
            seed: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            train: None,
            validate: None,
            test: None,
            evaluate: None,
            epochs: None,
            train_weights: TrainWeights { initial: own(initial), must_exist: true, best: own(best), last: own(last) },
            unbuilt: Vec::new(),
            validate_best: None,
            test_weights: None,
            evaluate_weights: None,
            destination: None,
            rate: Default::default(),
        }
    }

    fn path(text: &str) -> Option<PathBuf> {
        Some(PathBuf::from(text))
    }

    #[test]
    fn the_kurfile_decides_what_training_keeps() {
        let paths = for_training(&run(Some("i"), Some("b"), Some("l")), None, "m");
        assert_eq!(
            (paths.initial, paths.best_train, paths.last, paths.must_exist),
            (path("i"), path("b"), path("l"), true)
        );
        let mut spec = run(None, None, None);
        spec.train_weights.must_exist = false;
        let paths = for_training(&spec, None, "m");
        assert_eq!((&paths.initial, &paths.last), (&path("m.safetensors"), &path("m.safetensors")));
        assert!(paths.resumes_from(Path::new("m.safetensors")));
    }

    #[test]
    fn the_command_line_replaces_both_ends() {
        let paths = for_training(&run(Some("p"), Some("p"), None), Some("w"), "m");
        assert_eq!(
            (paths.initial, paths.best_train, paths.last, paths.must_exist),
            (path("w"), None, path("w"), false)
        );
        let paths = for_training(&run(Some("i"), Some("b"), None), Some("w"), "m");
        assert_eq!(paths.best_train, path("b"));
    }

    #[test]
    fn readers_look_at_what_training_keeps() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(at("last"), "").expect("write");
        let spec = run(None, Some(&at("best")), Some(&at("last")));
        let found = for_reading(&spec, Reader::Test, None, "m", None, "./m train").expect("found");
        assert_eq!(found, PathBuf::from(at("last")));
        let error = for_reading(&run(None, None, None), Reader::Evaluate, Some("none"), "m", None, "./m train");
        assert_eq!(
            error.expect_err("missing").to_string(),
            "error[no-weights]: there are no weights: `none` does not exist\n  = help: train first: `./m train`\n  = help: or name a weights file with `--weights FILE`"
        );
        std::fs::write(at("m.safetensors"), "").expect("write");
        let found =
            for_reading(&run(None, None, None), Reader::Test, None, "m", Some(dir.path()), "./m train").expect("found");
        assert_eq!(found, dir.path().join("m.safetensors"));
    }
}
