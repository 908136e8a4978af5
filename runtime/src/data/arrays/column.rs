//! One named source of a data file: samples of numbers, all of one shape, or of one shape but for their first axis.

use super::Trouble;
use super::numpy::{decode, elements, shape_text};
use super::value::{Heap, Object, Value};

/// Numbers that lists may unfold to whatever the size of their file; pickles can name the same list many times.
const UNFOLD_FLOOR: usize = 1 << 22;
/// The same per byte of the file.
const UNFOLD: usize = 16;
/// Deepest nesting of lists.
const DEPTH: usize = 32;

/// The samples of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Column {
    /// Number of samples.
    pub(super) rows: usize,
    /// Shape of one sample; where lengths differ the first axis is the longest.
    pub(super) shape: Vec<u64>,
    /// Length of every sample's first axis, when they differ.
    pub(super) lengths: Option<Vec<u32>>,
    /// All numbers, row-major, one sample after the other.
    pub(super) values: Vec<f32>,
}

/// Takes samples one after the other.
#[derive(Debug, Default)]
pub(super) struct Builder {
    column: Column,
    lengths: Vec<u32>,
}

impl Builder {
    /// Adds the numbers of a sample of a given shape.
    pub(super) fn push(&mut self, shape: &[u64], values: &[f32]) -> Result<(), Trouble> {
        let row = self.column.rows as u64 + 1;
        let length = shape.first().copied().unwrap_or(1);
        let length = u32::try_from(length).map_err(|_| Trouble::values("has a sample that is too long").row(row))?;
        let column = &mut self.column;
        // A sample without any element says nothing of the axes behind the first.
        let blank = |s: &[u64]| s == [0];
        if column.rows == 0 || (blank(&column.shape) && column.values.is_empty()) {
            column.shape = shape.to_vec();
        } else if !blank(shape) {
            let fits = shape.len() == column.shape.len() && shape.get(1..) == column.shape.get(1..);
            if !fits {
                return Err(Trouble::values(format!(
                    "has samples of the shapes {} and {}",
                    shape_text(&column.shape),
                    shape_text(shape)
                ))
                .row(row)
                .help("samples may differ in the length of their first axis only"));
            }
            if let (Some(longest), Some(own)) = (column.shape.first_mut(), shape.first()) {
                *longest = (*longest).max(*own);
            }
        }
        column.rows += 1;
        column.values.extend_from_slice(values);
        self.lengths.push(length);
        Ok(())
    }

    /// The samples.
    pub(super) fn finish(self) -> Column {
        let mut column = self.column;
        let longest = column.shape.first().copied().unwrap_or(1);
        if !column.shape.is_empty() && self.lengths.iter().any(|l| u64::from(*l) != longest) {
            column.lengths = Some(self.lengths);
        }
        column
    }
}

/// Turns a list or array, whose first axis counts samples, into a column.
pub(super) fn of_value(heap: &Heap<'_>, value: Value) -> Result<Column, Trouble> {
    let mut reader = Reader { heap, left: heap.file.len().saturating_mul(UNFOLD).max(UNFOLD_FLOOR) };
    let samples = match heap.get(value) {
        Some(Object::Array(raw)) if raw.shape.is_empty() => {
            return Err(Trouble::values("is a single number, where samples are needed"));
        }
        Some(Object::Array(raw)) if !raw.dtype.is_object() => {
            let bytes = heap.bytes(raw.data).unwrap_or_default();
            let values = decode(&raw.dtype, &raw.shape, raw.fortran, bytes)?;
            return whole(&raw.shape, values);
        }
        Some(Object::Array(raw)) => {
            let items = heap.list(raw.data).unwrap_or_default();
            if elements(&raw.shape) != Some(items.len() as u64) {
                return Err(Trouble::format("has an array of objects whose number does not match its shape"));
            }
            if raw.shape.len() > 1 {
                // Rows of objects: numbers that numpy keeps one by one.
                let mut values = Vec::new();
                for item in items {
                    let mut nest = Nest::default();
                    reader.sample(*item, 0, &mut nest, &mut values)?;
                    if !nest.shape.is_empty() {
                        return Err(Trouble::values("has arrays of unequal shapes inside an array of several axes"));
                    }
                }
                if raw.fortran {
                    return Err(Trouble::values("is an array of objects in Fortran order")
                        .help("store it with `numpy.ascontiguousarray`"));
                }
                return whole(&raw.shape, values);
            }
            items
        }
        Some(Object::List(items)) => items.as_slice(),
        _ => return Err(Trouble::values(format!("is {}, where an array or list is needed", heap.kind(value)))),
    };
    let mut builder = Builder::default();
    let mut values = Vec::new();
    for item in samples {
        let row = builder.column.rows as u64 + 1;
        let mut nest = Nest::default();
        values.clear();
        let read = reader.sample(*item, 0, &mut nest, &mut values);
        let shape = read.and_then(|()| nest.finish(values.len())).map_err(|t| t.row(row))?;
        builder.push(&shape, &values)?;
    }
    Ok(builder.finish())
}

/// The samples of an array.
pub(super) fn whole(shape: &[u64], values: Vec<f32>) -> Result<Column, Trouble> {
    let Some((rows, sample)) = shape.split_first() else {
        return Err(Trouble::values("is a single number, where samples are needed"));
    };
    let rows = usize::try_from(*rows).map_err(|_| Trouble::values("has too many samples"))?;
    Ok(Column { rows, shape: sample.to_vec(), lengths: None, values })
}

/// The axes of a nested list, found while it is walked through. Every part has to agree with those before it.
#[derive(Debug, Default)]
pub(super) struct Nest {
    /// Sizes of the axes, the outermost first.
    pub(super) shape: Vec<u64>,
    /// How deep numbers lie, once one was seen.
    leaf: Option<usize>,
}

impl Nest {
    /// A list of so many items, inside `depth` others.
    pub(super) fn list(&mut self, depth: usize, size: u64) -> Result<(), Trouble> {
        let fits = match self.shape.get(depth) {
            Some(known) => *known == size,
            None => self.leaf.is_none() && self.shape.len() == depth,
        };
        if !fits {
            return Err(unequal());
        }
        if self.shape.len() == depth {
            self.shape.push(size);
        }
        Ok(())
    }

    /// A number inside `depth` lists.
    pub(super) fn number(&mut self, depth: usize) -> Result<(), Trouble> {
        if self.shape.len() != depth || self.leaf.is_some_and(|l| l != depth) {
            return Err(unequal());
        }
        self.leaf = Some(depth);
        Ok(())
    }

    /// The shape of so many numbers.
    pub(super) fn finish(self, numbers: usize) -> Result<Vec<u64>, Trouble> {
        if elements(&self.shape) == Some(numbers as u64) { Ok(self.shape) } else { Err(unequal()) }
    }
}

struct Reader<'h, 'f> {
    heap: &'h Heap<'f>,
    /// Numbers that may still be read.
    left: usize,
}

impl Reader<'_, '_> {
    /// Appends the numbers of a nested list to `out`. `depth` is how many axes lie outside this part.
    fn sample(&mut self, value: Value, depth: usize, nest: &mut Nest, out: &mut Vec<f32>) -> Result<(), Trouble> {
        if depth > DEPTH {
            return Err(Trouble::values(format!("is nested more than {DEPTH} deep")));
        }
        let start = out.len();
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "tensors are f32")]
        let number = match value {
            Value::Int(n) => Some(n as f32),
            Value::Float(x) => Some(x as f32),
            Value::Bool(b) => Some(f32::from(u8::from(b))),
            Value::None | Value::Callable(_) | Value::Object(_) => None,
        };
        if let Some(x) = number {
            out.push(x);
            nest.number(depth)?;
            return self.count(out.len() - start);
        }
        match self.heap.get(value) {
            Some(Object::Array(raw)) if !raw.dtype.is_object() => {
                let bytes = self.heap.bytes(raw.data).unwrap_or_default();
                self.count(bytes.len() / raw.dtype.size.max(1))?;
                out.extend(decode(&raw.dtype, &raw.shape, raw.fortran, bytes)?);
                Self::axes(depth, &raw.shape, nest)
            }
            Some(Object::Array(raw)) if raw.shape.len() == 1 => self.items(raw.data, depth, nest, out),
            Some(Object::List(_)) => self.items(value, depth, nest, out),
            _ => {
                let what = match self.heap.text(value) {
                    Some(text) => format!("the text `{}`", text.chars().take(40).collect::<String>()),
                    None => self.heap.kind(value).to_owned(),
                };
                Err(Trouble::values(format!("has {what} where a number is needed")))
            }
        }
    }

    fn items(&mut self, list: Value, depth: usize, nest: &mut Nest, out: &mut Vec<f32>) -> Result<(), Trouble> {
        let items = self.heap.list(list).unwrap_or_default();
        self.count(1)?;
        nest.list(depth, items.len() as u64)?;
        for item in items {
            self.sample(*item, depth + 1, nest, out)?;
        }
        Ok(())
    }

    /// Checks the axes of an array inside a sample against those seen before.
    fn axes(depth: usize, own: &[u64], nest: &mut Nest) -> Result<(), Trouble> {
        for (i, size) in own.iter().enumerate() {
            nest.list(depth + i, *size)?;
        }
        nest.number(depth + own.len())
    }

    fn count(&mut self, numbers: usize) -> Result<(), Trouble> {
        self.left = self
            .left
            .checked_sub(numbers)
            .ok_or_else(|| Trouble::format("names the same lists so often that they unfold beyond all measure"))?;
        Ok(())
    }
}

fn unequal() -> Trouble {
    Trouble::values("has lists of unequal length inside a sample")
        .help("samples may differ in the length of their first axis only")
}
