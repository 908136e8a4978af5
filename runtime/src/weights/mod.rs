//! Weights on disk: safetensors files whose metadata says what the numbers belong to.
//!
//! A weights file holds every parameter and running statistic as f32 under its name in the program, and one metadata
//! entry `kurc`, a JSON object ([`Meta`]). Beside it, `PATH.optimizer` holds the optimizer's tensors and the
//! [`Progress`] of training, so that training goes on as if it had never stopped. One metadata entry, because the
//! format does not fix the order of several and equal runs must give equal bytes.

pub mod folder;
pub mod paths;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, View, serialize};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic;
use crate::data::{Learned, file::hex};
use crate::error::{Error, Place, Result};
use crate::plan::{Program, StateRole, StateSpec};

/// The metadata entry.
const META: &str = "kurc";
/// Differences listed when a file belongs to another model.
const DIFFERENCES: usize = 4;

/// What a weights file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the compiler that made the program.
    pub compiler: String,
    /// Name of the model.
    pub model: String,
    /// [`fingerprint`] of the program.
    pub fingerprint: String,
    /// Finished epochs.
    pub epochs: u64,
    /// Seed of the training.
    pub seed: u64,
    /// Classes and statistics of the training data.
    pub learned: Learned,
}

/// Where training stands, kept beside the weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// SHA-256 of the weights that the optimizer's tensors belong to.
    pub weights: String,
    /// Train steps done: batches.
    #[serde(default)]
    pub steps: u64,
    /// Updates done; fewer than steps where several batches make one.
    pub updates: u64,
    /// Finished epochs.
    pub epochs: u64,
    /// The epoch that was interrupted, if one was.
    pub partial: Option<Partial>,
    /// Fingerprint of the training data that the best losses were seen on.
    #[serde(default)]
    pub data: u64,
    /// Lowest training loss of a whole epoch.
    pub best_train: Option<f64>,
    /// Lowest validation loss.
    pub best_valid: Option<f64>,
}

/// An interrupted epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// Batches done.
    pub batches: u64,
    /// Samples done.
    pub samples: u64,
    /// Sums of metric times samples, in the order of the plan's metrics.
    pub sums: Vec<f64>,
    /// Batch size; the place in the epoch means nothing under another one.
    pub batch_size: u64,
    /// Rows of the data set; likewise.
    pub rows: u64,
}

/// A file read and found fit for the program.
#[derive(Debug)]
pub struct Loaded<M> {
    /// Its metadata; `None` when another tool wrote the file.
    pub meta: Option<M>,
    /// State index and values, in program order.
    pub tensors: Vec<(usize, Vec<f32>)>,
}

/// The path of the optimizer state that belongs to a weights file.
#[must_use]
pub fn optimizer_path(weights: &Path) -> PathBuf {
    let mut name = weights.as_os_str().to_owned();
    name.push(".optimizer");
    PathBuf::from(name)
}

/// SHA-256 over the names and shapes of everything that weight files hold: two programs with equal fingerprints can
/// exchange weights.
#[must_use]
pub fn fingerprint(program: &Program) -> String {
    let mut hash = Sha256::new();
    for state in program.state.iter().filter(|s| in_weights(s)) {
        hash.update(state.name.as_bytes());
        hash.update(format!(" {:?}\n", state.shape).as_bytes());
    }
    hex(&hash.finalize())
}

/// Whether a state tensor belongs into weight files.
#[must_use]
pub fn in_weights(state: &StateSpec) -> bool {
    matches!(state.role, StateRole::Param | StateRole::Running)
}

/// Whether a state tensor belongs into optimizer files.
#[must_use]
pub fn in_optimizer(state: &StateSpec) -> bool {
    state.role == StateRole::Optimizer
}

/// SHA-256 over the values that `wants` chooses, in program order: ties optimizer state to its weights.
#[must_use]
pub fn content_hash(program: &Program, states: &[&[f32]], wants: fn(&StateSpec) -> bool) -> String {
    let mut hash = Sha256::new();
    for (_, values) in program.state.iter().zip(states).filter(|(s, _)| wants(s)) {
        hash.update(bytes_of(values));
    }
    hex(&hash.finalize())
}

/// Writes the tensors that `wants` chooses, atomically.
///
/// # Errors
/// `save-weights` with the system's reason.
pub fn save<M: Serialize>(
    path: &Path,
    program: &Program,
    states: &[&[f32]],
    wants: fn(&StateSpec) -> bool,
    meta: &M,
) -> Result<()> {
    let tensors = program.state.iter().zip(states).filter(|(s, _)| wants(s)).map(|(s, values)| {
        let shape = s.shape.iter().map(|d| usize::try_from(*d).unwrap_or(usize::MAX)).collect();
        (s.name.as_str(), Tensor { shape, bytes: bytes_of(values) })
    });
    let text = serde_json::to_string(meta).map_err(|e| Error::internal(format!("metadata of weights: {e}")))?;
    let metadata = HashMap::from([(META.to_owned(), text)]);
    let bytes =
        serialize(tensors, Some(metadata)).map_err(|e| Error::internal(format!("weights cannot be encoded: {e}")))?;
    let shown = path.display().to_string();
    if let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(|e| Error::io("save-weights", "write", &shown, &e))?;
    }
    atomic::write(path, |out| out.write_all(&bytes)).map_err(|e| Error::io("save-weights", "write", &shown, &e))
}

/// Finds out before training starts whether weights can be saved under a path.
///
/// # Errors
/// `save-weights` with the system's reason.
pub fn check_writable(path: &Path) -> Result<()> {
    let shown = path.display().to_string();
    let fail = |e: std::io::Error| Error::io("save-weights", "write", &shown, &e);
    if let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(fail)?;
    }
    if path.is_dir() {
        return Err(weight_folder(&shown));
    }
    if holds_something_else(path) {
        let message = format!("`{shown}` exists and is no weights file; it will not be overwritten");
        return Err(Error::new(crate::error::Exit::Run, "save-weights", message)
            .help("name another file for the weights, or remove this one"));
    }
    atomic::check(path).map_err(fail)
}

/// Whether a regular file is there that is neither empty nor begins like a safetensors file (the length of a JSON
/// header, then `{`): some other file of the user's.
fn holds_something_else(path: &Path) -> bool {
    use std::io::Read as _;
    let Ok(metadata) = fs::metadata(path) else { return false };
    if !metadata.is_file() || metadata.len() == 0 {
        return false;
    }
    let mut head = [0; 9];
    let read = fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
    let header = u64::from_le_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]);
    read.is_err() || head[8] != b'{' || header > 100_000_000
}

/// Reads the weights of a program: a file, or one of Kur's weight folders.
///
/// # Errors
/// Those of [`load`] and [`folder::load`].
pub fn read(path: &Path, program: &Program) -> Result<Loaded<Meta>> {
    if path.is_dir() { folder::load(path, program) } else { load(path, program, in_weights) }
}

/// Reads a file and checks that it has exactly the tensors that `wants` chooses.
///
/// # Errors
/// `load-weights`, `weights-damaged`, `other-model` (naming the first differences), `weight-folder`.
pub fn load<M: DeserializeOwned>(path: &Path, program: &Program, wants: fn(&StateSpec) -> bool) -> Result<Loaded<M>> {
    let shown = path.display().to_string();
    let metadata = fs::metadata(path).map_err(|e| Error::io("load-weights", "read", &shown, &e))?;
    if metadata.is_dir() {
        return Err(weight_folder(&shown));
    }
    if !metadata.is_file() {
        return Err(Error::new(crate::error::Exit::Run, "load-weights", format!("`{shown}` is no regular file")));
    }
    let bytes = fs::read(path).map_err(|e| Error::io("load-weights", "read", &shown, &e))?;
    let damaged = |cause: String| {
        Error::new(
            crate::error::Exit::Run,
            "weights-damaged",
            format!("`{shown}` is no intact safetensors file: {cause}"),
        )
        .at(Place::file(&shown))
        .help("restore it from a copy, or train anew with `train --fresh`")
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    compare(&shown, program, wants, &file)?;
    let meta = match header.metadata().as_ref().and_then(|m| m.get(META)) {
        Some(text) => Some(serde_json::from_str(text).map_err(|e| damaged(format!("metadata: {e}")))?),
        None => None,
    };
    let mut tensors = Vec::new();
    for (index, state) in program.state.iter().enumerate().filter(|(_, s)| wants(s)) {
        let view = file.tensor(&state.name).map_err(|e| damaged(e.to_string()))?;
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            let message = format!("`{shown}` holds the value {bad} in `{}`", state.name);
            return Err(Error::new(crate::error::Exit::Run, "weights-damaged", message)
                .at(Place::file(&shown))
                .help("the training that wrote it had diverged; train anew with `train --fresh`"));
        }
        tensors.push((index, values));
    }
    Ok(Loaded { meta, tensors })
}

fn weight_folder(shown: &str) -> Error {
    Error::new(crate::error::Exit::Run, "weight-folder", format!("`{shown}` is a folder, not a weights file")).help(
        "Kur's own weight folders are read, not written: `weights: {initial: FOLDER, last: FILE}` starts from one",
    )
}

/// Lists how the file's tensors differ from those of the program.
fn compare(shown: &str, program: &Program, wants: fn(&StateSpec) -> bool, file: &SafeTensors<'_>) -> Result<()> {
    let text = |shape: &mut dyn Iterator<Item = String>| {
        let text = shape.collect::<Vec<_>>().join("x");
        if text.is_empty() { "a single number".to_owned() } else { text }
    };
    let mut differences = Vec::new();
    for state in program.state.iter().filter(|s| wants(s)) {
        let Ok(view) = file.tensor(&state.name) else {
            differences.push(format!("`{}` is missing in the file", state.name));
            continue;
        };
        let same = view.shape().len() == state.shape.len()
            && view.shape().iter().zip(&state.shape).all(|(a, b)| *a as u64 == *b);
        if !same {
            let found = text(&mut view.shape().iter().map(ToString::to_string));
            let expected = text(&mut state.shape.iter().map(ToString::to_string));
            differences.push(format!("`{}` is {found} in the file, {expected} in the model", state.name));
        } else if view.dtype() != Dtype::F32 {
            differences.push(format!("`{}` is {} in the file, F32 in the model", state.name, view.dtype()));
        }
    }
    let mut extra: Vec<&str> =
        file.names().into_iter().filter(|n| !program.state.iter().any(|s| wants(s) && s.name == *n)).collect();
    extra.sort_unstable();
    differences.extend(extra.into_iter().map(|n| format!("`{n}` is not in the model")));
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(DIFFERENCES);
    differences.truncate(DIFFERENCES);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    Err(Error::new(crate::error::Exit::Run, "other-model", format!("`{shown}` holds the weights of another model"))
        .help(differences.join("\n"))
        .help("name other weights with `--weights FILE`, or start anew with `train --fresh`"))
}

struct Tensor<'s> {
    shape: Vec<usize>,
    bytes: &'s [u8],
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(target_endian = "big")]
compile_error!("weights are written from memory, which must be little-endian as safetensors is");

fn bytes_of(values: &[f32]) -> &[u8] {
    // SAFETY: every f32 is four initialised bytes, u8 has no alignment, and the lifetime is that of `values`.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

#[cfg(test)]
pub(crate) mod tests;
