//! Suppliers of named arrays: `pickle`, `numpy_dict`, `npz` and `jsonl` (kur-reference 6.2).
//!
//! A file goes in, one [`ArraySource`] per wanted name comes out. Values are taken as they are: nothing is learned from
//! them and nothing is scaled. Arrays whose samples differ in the length of their first axis become sources of variable
//! length. A target of one whole number per sample under a softmax is a class, as in a CSV file.

mod column;
mod jsonl;
pub(crate) mod numpy;
mod pickle;
mod value;
pub(crate) mod zip;

use std::collections::BTreeSet;
use std::io::Read as _;

use self::column::Column;
use self::value::{Heap, Object, Value};
use super::bind::Wanted;
use super::learned::{Encoding, LearnedColumn, LearnedSource};
use super::{Depth, Role, Source, Store, Truth, errors, file};
use crate::error::{Error, Place, Result};
use crate::spec::{ArrayFormat, FileSpec, Missing};

/// Bytes of a member of an archive that are enough to know its shape.
const HEADER_BYTES: u64 = 1 << 16;
/// Names that a file may offer.
const MAX_NAMES: usize = 1 << 16;

/// What is wrong with a file of arrays.
#[derive(Clone, Debug)]
struct Trouble {
    /// Whether the file is sound and only its values are of no use.
    values: bool,
    /// Follows the name of the file or array: "is cut off".
    text: String,
    /// Byte in the file.
    at: Option<usize>,
    /// Line of text, from 1.
    line: Option<u64>,
    /// Sample, from 1.
    row: Option<u64>,
    helps: Vec<String>,
}

impl Trouble {
    /// The bytes are not what they should be.
    fn format(text: impl Into<String>) -> Trouble {
        Trouble { values: false, text: text.into(), at: None, line: None, row: None, helps: Vec::new() }
    }

    /// The values cannot be samples of a model.
    fn values(text: impl Into<String>) -> Trouble {
        Trouble { values: true, ..Trouble::format(text) }
    }

    fn at(mut self, byte: usize) -> Trouble {
        self.at = self.at.or(Some(byte));
        self
    }

    fn line(mut self, line: u64) -> Trouble {
        self.line = Some(line);
        self
    }

    fn row(mut self, row: u64) -> Trouble {
        self.row = self.row.or(Some(row));
        self
    }

    fn help(mut self, text: impl Into<String>) -> Trouble {
        self.helps.push(text.into());
        self
    }

    /// The error, with the file's name and that of the array, if it concerns one.
    fn into_error(self, path: &str, format: ArrayFormat, array: Option<&str>) -> Error {
        let subject = match array {
            Some(array) => format!("`{array}` in `{path}`"),
            None => format!("`{path}`"),
        };
        let byte = self.at.map_or_else(String::new, |at| format!(" (at byte {at})"));
        let column = array.map(str::to_owned);
        let place = Place { line: self.line, row: self.row, column, ..Place::file(path) };
        let message = format!("{subject} {}{byte}", self.text);
        let error = match (self.values, format) {
            (true, _) => Error::data("array-values", message),
            (false, ArrayFormat::Pickle) => Error::data("pickle-format", message),
            (false, ArrayFormat::NumpyDict | ArrayFormat::Npz) => Error::data("numpy-format", message),
            (false, ArrayFormat::JsonLines) => Error::data("jsonl-format", message),
        };
        self.helps.into_iter().fold(error.at(place), Error::help)
    }
}

/// A source read from a file of arrays.
#[derive(Debug)]
pub struct ArraySource {
    /// Name of the model input or output.
    pub name: String,
    /// Which of the two.
    pub role: Role,
    /// Shape of one sample; where lengths differ the first axis is the longest.
    pub shape: Vec<u64>,
    /// Whether samples differ in the length of their first axis.
    pub variable: bool,
    /// Classes, for a target of class numbers.
    pub learned: LearnedSource,
    store: Store,
}

impl ArraySource {
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

    /// Adds the samples of a source of the same name (kur-reference 6.1).
    fn stack(&mut self, other: ArraySource, path: &str) -> Result<()> {
        let clash = |a: &[u64], b: &[u64]| {
            errors::stacked_arrays(path, &other.name, &numpy::shape_text(b), &numpy::shape_text(a))
        };
        match (&mut self.store, &other.store) {
            (Store::Classes(a, n), Store::Classes(b, m)) if n == m => {
                a.extend(b);
                return Ok(());
            }
            (Store::Numbers(_) | Store::Ragged { .. }, Store::Numbers(_) | Store::Ragged { .. }) => {}
            _ => return Err(clash(&self.shape, &other.shape)),
        }
        // Samples without any element say nothing of the axes behind the first.
        let blank = [self.shape == [0], other.shape == [0]];
        let fits = self.shape.len() == other.shape.len() && self.shape.get(1..) == other.shape.get(1..);
        if !fits && blank == [false; 2] {
            return Err(clash(&self.shape, &other.shape));
        }
        if let (Store::Numbers(a), Store::Numbers(b)) = (&mut self.store, &other.store)
            && self.shape == other.shape
        {
            a.extend(b);
            return Ok(());
        }
        if !self.variable && !other.variable {
            return Err(clash(&self.shape, &other.shape));
        }
        let (own, new) = (lengths(&self.store, &self.shape), lengths(&other.store, &other.shape));
        if blank[0] {
            self.shape.clone_from(&other.shape);
        }
        let mut values = std::mem::replace(&mut self.store, Store::Numbers(Vec::new())).into_values();
        values.extend(other.store.into_values());
        let unit = self.shape.iter().skip(1).product();
        self.shape[0] = self.shape[0].max(other.shape[0]);
        self.store = Store::ragged(values, own.into_iter().chain(new), unit);
        self.variable = true;
        Ok(())
    }
}

/// The length of the first axis of every sample.
fn lengths(store: &Store, shape: &[u64]) -> Vec<u32> {
    match store {
        Store::Ragged { starts, unit, .. } => {
            let unit = (*unit).max(1);
            starts.windows(2).map(|w| u32::try_from((w[1] - w[0]) / unit).unwrap_or(u32::MAX)).collect()
        }
        Store::Numbers(values) => {
            let width = shape.iter().product::<u64>().max(1);
            let rows = values.len() as u64 / width;
            let length = shape.first().map_or(1, |d| u32::try_from(*d).unwrap_or(u32::MAX));
            (0..rows).map(|_| length).collect()
        }
        Store::Bytes(..) | Store::Classes(..) => Vec::new(),
    }
}

/// What a file offers, beside the sources read from it.
#[derive(Debug, Default)]
pub struct Offer {
    /// Every name in the file.
    pub names: Vec<String>,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

/// Reads those arrays of a file that the model wants and stacks them on what earlier suppliers gave. At
/// [`Depth::Shapes`] as little is read as the format allows, and the values of the sources mean nothing.
///
/// # Errors
/// `data-file`, `checksum`, `pickle-format`, `numpy-format`, `jsonl-format`, `array-values`, `stacked-shapes`.
pub fn read(
    spec: &FileSpec,
    format: ArrayFormat,
    wanted: &Wanted<'_>,
    depth: Depth,
    out: &mut Vec<ArraySource>,
) -> Result<Offer> {
    let path = spec.path.as_str();
    let mut bytes = Vec::new();
    let mut input = file::open(spec)?;
    input.read_to_end(&mut bytes).map_err(|e| file::read_error(path, &e))?;
    let fail = |t: Trouble| t.into_error(path, format, None);
    let needs = |name: &str| match wanted.find(name) {
        Some((Role::Target, _)) if wanted.truth == Truth::Ignored => None,
        found => found,
    };
    let mut offer = Offer::default();
    let mut found: Vec<(String, Result<Column, Trouble>)> = Vec::new();
    match format {
        ArrayFormat::Pickle => {
            let (heap, top) = pickle::read(&bytes).map_err(fail)?;
            dictionary(&heap, top, &needs, &mut offer, &mut found).map_err(fail)?;
        }
        ArrayFormat::NumpyDict => {
            let header = numpy::header(&bytes).map_err(fail)?;
            if !header.dtype.is_object() {
                let trouble = Trouble::values("is an array of numbers, where a dictionary of arrays is needed")
                    .help("write it with `numpy.save(file, {'name': array, …})`");
                return Err(fail(trouble));
            }
            let (heap, top) = pickle::read(&bytes[header.start..]).map_err(|mut t| {
                t.at = t.at.map(|at| at + header.start);
                fail(t)
            })?;
            let top = inner(&heap, top);
            dictionary(&heap, top, &needs, &mut offer, &mut found).map_err(fail)?;
        }
        ArrayFormat::Npz => npz(&bytes, &needs, depth, &mut offer, &mut found).map_err(fail)?,
        ArrayFormat::JsonLines => {
            jsonl::read(&bytes, &|n| needs(n).is_some(), &mut offer.names, &mut found).map_err(fail)?;
        }
    }
    let mut seen = BTreeSet::new();
    for (given, column) in found {
        let Some((role, name)) = needs(&given) else { continue };
        let column = column.map_err(|t| t.into_error(path, format, Some(&given)))?;
        if !seen.insert(name.clone()) {
            return Err(errors::same_source_twice(path, &name));
        }
        let source = make(name, role, column, wanted, depth, path, &given)?;
        match out.iter_mut().find(|s| s.name == source.name) {
            Some(old) => old.stack(source, path)?,
            None => out.push(source),
        }
    }
    Ok(offer)
}

/// A name's role and model name, when the model wants it.
type Needs<'n> = dyn Fn(&str) -> Option<(Role, String)> + 'n;

/// The object inside an array without axes, which is how numpy saves a dictionary.
fn inner(heap: &Heap<'_>, value: Value) -> Value {
    match heap.get(value) {
        Some(Object::Array(raw)) if raw.dtype.is_object() && raw.shape.is_empty() => {
            heap.list(raw.data).and_then(|l| l.first().copied()).unwrap_or(value)
        }
        _ => value,
    }
}

fn dictionary(
    heap: &Heap<'_>,
    top: Value,
    needs: &Needs<'_>,
    offer: &mut Offer,
    found: &mut Vec<(String, Result<Column, Trouble>)>,
) -> Result<(), Trouble> {
    let top = inner(heap, top);
    let Some(Object::Dict(pairs)) = heap.get(top) else {
        return Err(Trouble::values(format!("holds {}, where a dictionary of arrays is needed", heap.kind(top)))
            .help("write a dictionary: `pickle.dump({'name': array, …}, file)`"));
    };
    for (key, value) in pairs.iter().take(MAX_NAMES) {
        let name = match (*key, heap.text(*key)) {
            (_, Some(text)) => text.to_owned(),
            (Value::Int(n), _) => n.to_string(),
            (Value::Float(x), _) => x.to_string(),
            (Value::Bool(b), _) => if b { "True" } else { "False" }.to_owned(),
            (Value::None, _) => "None".to_owned(),
            (other, _) => {
                return Err(Trouble::values(format!("has {} as a key, where names are needed", heap.kind(other))));
            }
        };
        if needs(&name).is_some() {
            let column = column::of_value(heap, *value);
            match found.iter_mut().find(|(n, _)| *n == name) {
                // The last of equal keys counts, as in Python.
                Some(old) => old.1 = column,
                None => found.push((name.clone(), column)),
            }
        }
        if !offer.names.contains(&name) {
            offer.names.push(name);
        }
    }
    Ok(())
}

fn npz(
    bytes: &[u8],
    needs: &Needs<'_>,
    depth: Depth,
    offer: &mut Offer,
    found: &mut Vec<(String, Result<Column, Trouble>)>,
) -> Result<(), Trouble> {
    if bytes.starts_with(numpy::NPY_MAGIC) {
        return Err(Trouble::format("is a `.npy` file, where an archive of arrays (`.npz`) is needed").help(
            "write it with `numpy.savez(file, name=array)`; a `.npy` file of a dictionary is read by `numpy_dict`",
        ));
    }
    for member in zip::members(bytes)? {
        let name = member.name.strip_suffix(".npy").unwrap_or(&member.name).to_owned();
        if needs(&name).is_some() {
            found.push((name.clone(), npy(bytes, &member, depth)));
        }
        offer.names.push(name);
    }
    Ok(())
}

fn npy(bytes: &[u8], member: &zip::Member, depth: Depth) -> Result<Column, Trouble> {
    if depth == Depth::Shapes {
        let head = zip::read(bytes, member, Some(HEADER_BYTES))?;
        if let Ok(header) = numpy::header(&head)
            && !header.dtype.is_object()
            && header.dtype.unusable.is_none()
            && let Ok(column) = column::whole(&header.shape, Vec::new())
            && !header.shape[1..].is_empty()
        {
            return Ok(column);
        }
    }
    let data = zip::read(bytes, member, None)?;
    let header = numpy::header(&data)?;
    if header.dtype.is_object() {
        let (heap, top) = pickle::read(&data[header.start..])?;
        return column::of_value(&heap, top);
    }
    let values = numpy::decode(&header.dtype, &header.shape, header.fortran, &data[header.start..])?;
    column::whole(&header.shape, values)
}

/// Makes a source of a column.
fn make(
    name: String,
    role: Role,
    column: Column,
    wanted: &Wanted<'_>,
    depth: Depth,
    path: &str,
    given: &str,
) -> Result<ArraySource> {
    let width = wanted.targets.iter().find(|t| role == Role::Target && t.name == name).and_then(|t| t.softmax_width);
    let width = width.and_then(|w| usize::try_from(w).ok()).filter(|w| *w >= 2);
    let scalar = column.lengths.is_none() && column.shape.iter().all(|d| *d == 1);
    let mut learned =
        LearnedSource { name: name.clone(), target: role == Role::Target, columns_of_csv: false, columns: Vec::new() };
    if column.rows == 0 {
        return Err(Trouble::values("has no samples").into_error(path, ArrayFormat::Pickle, Some(given)));
    }
    if let Some(width) = width.filter(|_| scalar) {
        let index = if depth == Depth::Values || !column.values.is_empty() {
            classes(&column.values, width).map_err(|t| t.into_error(path, ArrayFormat::Pickle, Some(given)))?
        } else {
            Vec::new()
        };
        let names = (0..width).map(|c| c.to_string()).collect();
        let encoding = Encoding::Classes { names };
        learned.columns.push(LearnedColumn { name: given.to_owned(), encoding, missing: Missing::Error });
        let shape = vec![width as u64];
        return Ok(ArraySource { name, role, shape, variable: false, learned, store: Store::Classes(index, width) });
    }
    // One number is a vector of one (kur-reference 3.1).
    let shape = if column.shape.is_empty() { vec![1] } else { column.shape };
    let unit = shape.iter().skip(1).product();
    // Numbers alone would not tell how many samples without any there are.
    let empty = || shape.contains(&0).then(|| vec![0; column.rows]);
    let lengths = column.lengths.or_else(empty);
    let variable = lengths.is_some();
    let store = match lengths {
        Some(lengths) => Store::ragged(column.values, lengths.into_iter(), unit),
        None => Store::Numbers(column.values),
    };
    Ok(ArraySource { name, role, shape, variable, learned, store })
}

/// Class numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "range is checked"
)]
fn classes(values: &[f32], width: usize) -> Result<Vec<u32>, Trouble> {
    let class = |(row, x): (usize, &f32)| {
        if x.fract() == 0.0 && *x >= 0.0 && *x < width as f32 {
            return Ok(*x as u32);
        }
        Err(Trouble::values(format!("has the value {x}, where classes are whole numbers from 0 to {}", width - 1))
            .row(row as u64 + 1)
            .help("the target of a softmax is the number of a class, or one probability per class"))
    };
    values.iter().enumerate().map(class).collect()
}

/// An array of a `.npz` archive.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedArray {
    /// Its name, without `.npy`.
    pub name: String,
    /// All its axes.
    pub shape: Vec<u64>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// All arrays of numbers in the bytes of a `.npz` archive.
///
/// # Errors
/// `numpy-format`, `array-values`; `path` is only shown.
pub fn open_npz(path: &str, bytes: &[u8]) -> Result<Vec<NamedArray>> {
    let fail = |t: Trouble| t.into_error(path, ArrayFormat::Npz, None);
    let read = |m: &zip::Member| {
        let name = m.name.strip_suffix(".npy").unwrap_or(&m.name).to_owned();
        let (shape, values) = zip::read(bytes, m, None).and_then(|b| array(&b))?;
        Ok(NamedArray { name, shape, values })
    };
    zip::members(bytes).and_then(|all| all.iter().map(read).collect()).map_err(fail)
}

/// The axes and row-major values of the bytes of a `.npy` file.
///
/// # Errors
/// As [`open_npz`].
pub fn open_npy(path: &str, bytes: &[u8]) -> Result<(Vec<u64>, Vec<f32>)> {
    array(bytes).map_err(|t| t.into_error(path, ArrayFormat::Npz, None))
}

fn array(bytes: &[u8]) -> Result<(Vec<u64>, Vec<f32>), Trouble> {
    let header = numpy::header(bytes)?;
    if header.dtype.is_object() {
        return Err(Trouble::values("holds objects, where numbers are needed"));
    }
    let values = numpy::decode(&header.dtype, &header.shape, header.fortran, &bytes[header.start..])?;
    Ok((header.shape, values))
}

/// The format of a file, by its name.
#[must_use]
pub fn format_of(path: &str) -> Option<ArrayFormat> {
    let lower = path.to_lowercase();
    let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
    let formats = [
        (".pkl", ArrayFormat::Pickle),
        (".pickle", ArrayFormat::Pickle),
        (".npy", ArrayFormat::NumpyDict),
        (".npz", ArrayFormat::Npz),
        (".jsonl", ArrayFormat::JsonLines),
    ];
    formats.into_iter().find(|(e, _)| plain.ends_with(e)).map(|(_, f)| f)
}

#[cfg(test)]
mod tests;
