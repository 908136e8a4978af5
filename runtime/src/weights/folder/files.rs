//! Reads the tensors of a weight folder: IDX files (kur-reference 8.1) anywhere below it, hidden ones too, because the
//! names of unnamed layers begin with two dots.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::data::file;
use crate::error::{Error, Exit, Place, Result};

/// Folders inside folders that are looked into.
const DEPTH: usize = 16;
/// Tensors that a folder may hold.
const TENSORS: usize = 1 << 16;
const EXTENSION: &str = ".kur";

/// A tensor of a folder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    /// Name of the layer: the file's name up to the first `+`.
    pub(super) layer: String,
    /// Name of the tensor.
    pub(super) name: String,
    /// Its file.
    pub(super) path: String,
    /// Its axes.
    pub(super) shape: Vec<u64>,
    /// Row-major values.
    pub(super) values: Vec<f32>,
}

impl Tensor {
    /// The name of its file.
    pub(super) fn file(&self) -> String {
        format!("{}+{}{EXTENSION}", self.layer, self.name)
    }
}

/// Reads all tensors of a folder in the order of their names. Of files of one name in several folders the first counts.
pub(super) fn read(folder: &Path) -> Result<Vec<Tensor>> {
    let mut paths = Vec::new();
    list(folder, 0, &mut paths)?;
    let mut tensors: Vec<Tensor> = Vec::new();
    for (name, path) in paths {
        let Some((layer, tensor)) = name.strip_suffix(EXTENSION).unwrap_or(&name).split_once('+') else { continue };
        if tensors.iter().any(|t| t.layer == layer && t.name == tensor) {
            continue;
        }
        if tensors.len() == TENSORS {
            let message = format!("`{}` holds more than {TENSORS} tensors", folder.display());
            return Err(Error::new(Exit::Run, "load-weights", message));
        }
        let shown = path.display().to_string();
        let (shape, values) = idx(&shown)?;
        tensors.push(Tensor { layer: layer.to_owned(), name: tensor.to_owned(), path: shown, shape, values });
    }
    Ok(tensors)
}

fn list(folder: &Path, depth: usize, out: &mut Vec<(String, std::path::PathBuf)>) -> Result<()> {
    let fail = |e: std::io::Error| Error::io("load-weights", "read", &folder.display().to_string(), &e);
    let mut entries = fs::read_dir(folder).map_err(fail)?.collect::<std::io::Result<Vec<_>>>().map_err(fail)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            folders.push(path);
        } else if name.ends_with(EXTENSION) && name.contains('+') {
            out.push((name, path));
        }
    }
    for inner in folders.into_iter().filter(|_| depth < DEPTH) {
        list(&inner, depth + 1, out)?;
    }
    Ok(())
}

/// Reads an IDX file of any of its types: `00 00 TYPE RANK`, big-endian sizes, big-endian values.
fn idx(path: &str) -> Result<(Vec<u64>, Vec<f32>)> {
    let damaged = |what: String| {
        Error::new(Exit::Run, "weights-damaged", format!("`{path}` is no intact IDX file: {what}"))
            .at(Place::file(path))
            .help("restore the folder from a copy")
    };
    let read = |e: &std::io::Error| Error::io("load-weights", "read", path, e);
    let mut input = fs::File::open(path).and_then(file::unpacked).map_err(|e| read(&e))?;
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|e| read(&e))?;
    let (Some([0, 0, code, rank]), Some(rest)) = (bytes.get(..4), bytes.get(4..)) else {
        return Err(damaged("it does not start as one".to_owned()));
    };
    let rank = usize::from(*rank);
    let (Some(sizes), Some(data)) = (rest.get(..rank * 4), rest.get(rank * 4..)) else {
        return Err(damaged("it is cut off".to_owned()));
    };
    let shape: Vec<u64> = sizes.as_chunks::<4>().0.iter().map(|b| u64::from(u32::from_be_bytes(*b))).collect();
    let width: u64 = match code {
        0x08 | 0x09 => 1,
        0x0b => 2,
        0x0c | 0x0d => 4,
        0x0e => 8,
        other => return Err(damaged(format!("it holds values of the unknown type {other:#04x}"))),
    };
    let expected = shape.iter().try_fold(width, |a, b| a.checked_mul(*b));
    if expected != Some(data.len() as u64) {
        let promised = expected.map_or_else(|| "more bytes than there are".to_owned(), |n| format!("{n} bytes"));
        return Err(damaged(format!("its header promises {promised} of values, {} are there", data.len())));
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "weights are f32")]
    let values = match code {
        0x08 => data.iter().map(|b| f32::from(*b)).collect(),
        0x09 => data.iter().map(|b| f32::from(b.cast_signed())).collect(),
        0x0b => data.as_chunks::<2>().0.iter().map(|b| f32::from(i16::from_be_bytes(*b))).collect(),
        0x0c => data.as_chunks::<4>().0.iter().map(|b| i32::from_be_bytes(*b) as f32).collect(),
        0x0d => data.as_chunks::<4>().0.iter().map(|b| f32::from_be_bytes(*b)).collect(),
        _ => data.as_chunks::<8>().0.iter().map(|b| f64::from_be_bytes(*b) as f32).collect(),
    };
    Ok((shape, values))
}
