//! The `mnist` supplier: two IDX files become the sources `images` and `labels` (kur-reference 6.2, 8.1).
//!
//! IDX is `00 00 TYPE RANK`, then one big-endian u32 per dimension, then the values. Images are `x/255 − mean`, the
//! mean taken over the file itself; labels are one of ten classes.

use std::io::{BufRead, Read};

use super::bind::Wanted;
use super::learned::{Encoding, LearnedColumn, LearnedSource};
use super::{Depth, Role, Source, Store, Truth, errors, file};
use crate::error::Result;
use crate::spec::{FileSpec, Missing};

/// Name of the images source.
pub const IMAGES: &str = "images";
/// Name of the labels source.
pub const LABELS: &str = "labels";
/// Classes of the labels.
const CLASSES: usize = 10;
/// The IDX type code of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;

/// A source read from an IDX file.
#[derive(Debug)]
pub struct IdxSource {
    /// Name of the model input or output.
    pub name: String,
    /// Which of the two.
    pub role: Role,
    /// Shape of one sample.
    pub shape: Vec<u64>,
    /// Classes, for labels.
    pub learned: LearnedSource,
    store: Store,
}

impl IdxSource {
    /// The loaded tensor.
    #[must_use]
    pub fn into_source(self) -> Source {
        Source {
            name: self.name,
            role: self.role,
            shape: self.shape,
            reshapes: false,
            store: self.store,
            units: Vec::new(),
        }
    }
}

/// Whether a file is an IDX file of images, by its content.
#[must_use]
pub fn holds_images(path: &str) -> bool {
    let spec = FileSpec { path: path.to_owned(), checksum: None };
    let mut magic = [0; 4];
    file::open(&spec).is_ok_and(|mut f| f.read_exact(&mut magic).is_ok()) && magic == [0, 0, UNSIGNED_BYTE, 3]
}

/// Reads those of the two files that the model wants and stacks them on what earlier suppliers gave. Without a path
/// for the labels there are none.
///
/// # Errors
/// `data-file`, `checksum`, `idx-format`, `stacked-shapes`.
pub fn read(
    images: &FileSpec,
    labels: &FileSpec,
    wanted: &Wanted<'_>,
    depth: Depth,
    out: &mut Vec<IdxSource>,
) -> Result<()> {
    for (source, spec) in [(IMAGES, images), (LABELS, labels)] {
        let Some((role, name)) = wanted.find(source) else { continue };
        if (role == Role::Target && wanted.truth == Truth::Ignored) || spec.path.is_empty() {
            continue;
        }
        let (mut shape, bytes) = read_bytes(spec, if source == IMAGES { 3 } else { 1 }, depth)?;
        let is_labels = source == LABELS;
        let (shape, store, columns) = if is_labels {
            if let Some(at) = bytes.iter().position(|b| usize::from(*b) >= CLASSES) {
                let text = format!("has the label {} at sample {}; labels are 0 to 9", bytes[at], at + 1);
                return Err(errors::bad_idx(&spec.path, text));
            }
            let names = (0..CLASSES).map(|c| c.to_string()).collect();
            let column = LearnedColumn {
                name: source.to_owned(),
                encoding: Encoding::Classes { names },
                missing: Missing::Error,
            };
            let index = bytes.iter().map(|b| u32::from(*b)).collect();
            (vec![CLASSES as u64], Store::Classes(index, CLASSES), vec![column])
        } else {
            shape.push(1);
            let table = pixel_table(&bytes);
            (shape, Store::Bytes(bytes, table), Vec::new())
        };
        let learned =
            LearnedSource { name: name.clone(), target: role == Role::Target, columns_of_csv: false, columns };
        stack(IdxSource { name, role, shape, learned, store }, &spec.path, out)?;
    }
    Ok(())
}

/// What each byte stands for: `x/255 − mean`, with the mean over all `bytes`.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "f32 pixels from an f64 mean")]
fn pixel_table(bytes: &[u8]) -> Box<[f32; 256]> {
    let mut counts = [0u64; 256];
    for b in bytes {
        counts[usize::from(*b)] += 1;
    }
    let sum: u64 = counts.iter().zip(0u64..).map(|(n, value)| n * value).sum();
    let mean = sum as f64 / 255.0 / bytes.len().max(1) as f64;
    let mut table = Box::new([0.0; 256]);
    for (entry, value) in table.iter_mut().zip(0u32..) {
        *entry = (f64::from(value) / 255.0 - mean) as f32;
    }
    table
}

fn stack(new: IdxSource, path: &str, out: &mut Vec<IdxSource>) -> Result<()> {
    let Some(old) = out.iter_mut().find(|s| s.name == new.name) else {
        out.push(new);
        return Ok(());
    };
    if old.shape != new.shape {
        let size = |s: &[u64]| usize::try_from(s.iter().product::<u64>()).unwrap_or(usize::MAX);
        return Err(errors::stacked_shapes(path, &new.name, size(&new.shape), size(&old.shape)));
    }
    match (&mut old.store, new.store) {
        (Store::Bytes(a, table), Store::Bytes(b, _)) => {
            a.extend(b);
            *table = pixel_table(a);
        }
        (Store::Classes(a, _), Store::Classes(b, _)) => a.extend(b),
        _ => return Err(errors::bad_idx(path, "cannot be stacked on another kind of data")),
    }
    Ok(())
}

/// The per-sample dimensions and the values of an IDX file of unsigned bytes; no values at [`Depth::Shapes`].
fn read_bytes(spec: &FileSpec, rank: u8, depth: Depth) -> Result<(Vec<u64>, Vec<u8>)> {
    let path = spec.path.as_str();
    let mut input = file::open(spec)?;
    let mut magic = [0; 4];
    fill(&mut input, &mut magic, path, "its header")?;
    if magic[..2] != [0, 0] {
        return Err(errors::bad_idx(path, format!("is no IDX file: it starts with {}", file::hex(&magic)))
            .help("MNIST files start with 0000080 and the number of dimensions"));
    }
    if magic[2] != UNSIGNED_BYTE || magic[3] != rank {
        let text =
            format!("holds {} in {} dimensions, where bytes in {rank} are needed", type_name(magic[2]), magic[3]);
        return Err(errors::bad_idx(path, text).help("are `images` and `labels` mixed up?"));
    }
    let mut dims = Vec::new();
    for _ in 0..rank {
        let mut dim = [0; 4];
        fill(&mut input, &mut dim, path, "its header")?;
        dims.push(u64::from(u32::from_be_bytes(dim)));
    }
    let samples = dims.remove(0);
    if samples == 0 || dims.contains(&0) {
        return Err(errors::bad_idx(path, "has no samples"));
    }
    if depth == Depth::Shapes {
        return Ok((dims, Vec::new()));
    }
    let size = dims.iter().fold(samples, |a, b| a.saturating_mul(*b));
    // Never trust a header with memory: what is there is read, then counted.
    let mut bytes = Vec::new();
    input.by_ref().take(size).read_to_end(&mut bytes).map_err(|e| file::read_error(path, &e))?;
    if bytes.len() as u64 != size {
        let text = format!("is cut off: its header promises {size} bytes, {} are there", bytes.len());
        return Err(errors::bad_idx(path, text).help("fetch the file again"));
    }
    if !input.fill_buf().map_err(|e| file::read_error(path, &e))?.is_empty() {
        return Err(errors::bad_idx(path, format!("has bytes after the {size} that its header promises")));
    }
    Ok((dims, bytes))
}

fn fill(input: &mut impl Read, bytes: &mut [u8], path: &str, what: &str) -> Result<()> {
    input.read_exact(bytes).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            errors::bad_idx(path, format!("is cut off inside {what}")).help("fetch the file again")
        }
        _ => file::read_error(path, &e),
    })
}

fn type_name(code: u8) -> &'static str {
    match code {
        0x08 => "bytes",
        0x09 => "signed bytes",
        0x0b => "16-bit integers",
        0x0c => "32-bit integers",
        0x0d => "32-bit floats",
        0x0e => "64-bit floats",
        _ => "values of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::data::TargetHint;

    fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, UNSIGNED_BYTE, u8::try_from(dims.len()).expect("rank")];
        for d in dims {
            bytes.extend(d.to_be_bytes());
        }
        bytes.extend(values);
        bytes
    }

    fn spec(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> FileSpec {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("write");
        FileSpec { path: path.display().to_string(), checksum: None }
    }

    fn read_both(images: &FileSpec, labels: &FileSpec) -> Result<Vec<Source>> {
        let inputs = ["images".to_owned()];
        let targets = [TargetHint { name: "labels".into(), ..TargetHint::default() }];
        let wanted = Wanted { inputs: &inputs, targets: &targets, truth: Truth::Required };
        let mut out = Vec::new();
        read(images, labels, &wanted, Depth::Values, &mut out)?;
        Ok(out.into_iter().map(IdxSource::into_source).collect())
    }

    #[test]
    fn images_are_centred_and_labels_one_hot_also_from_gzip() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let images = spec(&dir, "i", &idx(&[2, 1, 2], &[0, 255, 255, 0]));
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&idx(&[2], &[3, 9])).expect("gzip");
        let labels = spec(&dir, "l", &gz.finish().expect("gzip"));
        let sources = read_both(&images, &labels).expect("sources");
        assert_eq!(sources[0].shape, [1, 2, 1]);
        let mut row = [0.0; 2];
        sources[0].write_row(1, &mut row);
        assert_eq!(row, [0.5, -0.5]);
        let mut row = [0.0; 10];
        sources[1].write_row(0, &mut row);
        assert_eq!(row[3], 1.0);
        assert_eq!(row.iter().sum::<f32>(), 1.0);
    }

    #[test]
    fn damaged_files_are_told() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let good = spec(&dir, "good", &idx(&[2], &[3, 9]));
        for (bytes, expected) in [
            (vec![0x50, 0x4b, 3, 4], "is no IDX file: it starts with 504b0304"),
            (vec![0, 0], "is cut off inside its header"),
            (idx(&[2, 1], &[1, 2]), "holds bytes in 2 dimensions, where bytes in 3 are needed"),
            (idx(&[2, 2, 2], &[1, 2, 3]), "is cut off: its header promises 8 bytes, 3 are there"),
            (idx(&[1, 1, 1], &[1, 2]), "has bytes after the 1 that its header promises"),
            (idx(&[0, 1, 1], &[]), "has no samples"),
        ] {
            let images = spec(&dir, "bad", &bytes);
            let error = read_both(&images, &good).expect_err("damaged");
            assert_eq!(error.id(), "idx-format");
            assert_eq!(error.message(), format!("`{}` {expected}", images.path));
        }
        let images = spec(&dir, "images", &idx(&[1, 1, 1], &[1]));
        let labels = spec(&dir, "labels", &idx(&[1], &[10]));
        let error = read_both(&images, &labels).expect_err("label out of range");
        assert!(error.message().ends_with("has the label 10 at sample 1; labels are 0 to 9"), "{error}");
    }
}
