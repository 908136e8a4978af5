//! Tables of predictions: model outputs in, rows of CSV or JSON lines out, one per row of the input; or whole arrays.
//!
//! A scalar output is the column `NAME`, a vector `NAME_0…`, a class output the class name in `NAME` and, on request,
//! `NAME_p_CLASS`; the truth stands beside it as `truth_NAME`. Values of scaled columns are in the column's own units.
//! Where samples differ in length, each has its own steps in JSON lines; arrays are filled up with zeros, and
//! `NAME_lengths` says how many steps of each row are real.

use std::path::Path;

use serde_json::{Map, Value};

use crate::data::arrays::numpy::{npy, npy_counts};
use crate::data::arrays::zip;
use crate::data::{Dataset, Encoding, Learned, Source};
use crate::error::{Error, Exit, Result, count};
use crate::spec::OutputSpec;
use crate::train::blame::word;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// One object a line.
    JsonLines,
    /// An archive of numpy arrays.
    Npz,
}

impl Format {
    /// The format of a file, by its name. What exists and is no file, such as a device, gets CSV.
    pub(super) fn of(path: &str) -> Result<Format> {
        let lower = path.to_lowercase();
        if lower.ends_with(".csv") {
            return Ok(Format::Csv);
        }
        if lower.ends_with(".jsonl") {
            return Ok(Format::JsonLines);
        }
        if lower.ends_with(".npz") {
            return Ok(Format::Npz);
        }
        if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            return Ok(Format::Csv);
        }
        let extension = Path::new(path).extension().map(|e| format!(".{}", e.to_string_lossy()));
        let what = extension.map_or_else(|| "a name without extension".to_owned(), |e| format!("`{e}`"));
        Err(Error::new(Exit::Usage, "output-format", format!("cannot tell how to write `{path}` from {what}"))
            .help("predictions are written as .csv, .jsonl or .npz"))
    }
}

/// One model output in a table.
struct Column<'a> {
    name: String,
    /// Elements of a row; 0 where that differs from batch to batch.
    width: usize,
    shape: &'a [u64],
    classes: Option<&'a [String]>,
    proba: bool,
    /// One per element, when the target is scaled.
    scales: Vec<&'a Encoding>,
    truth: Option<&'a Source>,
}

/// A table of predictions.
pub(super) struct Table<'a> {
    format: Format,
    /// Extra JSON fields in front of each row: `event`, for rows on standard output.
    event: Option<&'static str>,
    columns: Vec<Column<'a>>,
    /// Keys of a row, in order.
    keys: Vec<String>,
    dropped: &'a [usize],
    /// Rows of the input written so far, the left-out ones included.
    position: usize,
    row: Vec<Value>,
    /// The arrays of an archive: predictions and truth of each column.
    arrays: Vec<(Gathered, Gathered)>,
    odd: Odd,
}

/// Predictions that are no finite numbers.
#[derive(Default)]
struct Odd {
    numbers: u64,
    rows: u64,
    /// The first one: its row from 0, its output, itself.
    first: Option<(usize, String, f32)>,
}

/// The rows of an array. Where their shapes differ, shorter ones are filled up with zeros.
#[derive(Default)]
struct Gathered {
    values: Vec<f32>,
    /// The shape of each row, where a row may have one of its own.
    shapes: Vec<Vec<u64>>,
}

impl Gathered {
    /// The array: rows first, then the axes of the output.
    fn array(&self, rows: usize, shape: &[u64]) -> Vec<u8> {
        let with_rows = |s: &[u64]| -> Vec<u64> { std::iter::once(rows as u64).chain(s.iter().copied()).collect() };
        if self.shapes.is_empty() {
            return npy(&with_rows(shape), &self.values);
        }
        let rank = shape.len();
        let largest: Vec<u64> = (0..rank).map(|a| self.shapes.iter().map(|s| s[a]).max().unwrap_or(0)).collect();
        let size = |s: &[u64]| usize::try_from(s.iter().product::<u64>()).unwrap_or(usize::MAX);
        let mut values = vec![0.0; rows * size(&largest)];
        let mut at = 0;
        for (own, out) in self.shapes.iter().zip(values.chunks_exact_mut(size(&largest).max(1))) {
            // Runs along the last axis, each at its place in the larger shape.
            let run = usize::try_from(own[rank - 1]).unwrap_or(0);
            for line in 0..size(&own[..rank - 1]) {
                let (mut rest, mut start, mut stride) = (line as u64, 0, largest[rank - 1]);
                for axis in (0..rank - 1).rev() {
                    start += rest % own[axis] * stride;
                    rest /= own[axis];
                    stride *= largest[axis];
                }
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                out[start..start + run].copy_from_slice(&self.values[at..at + run]);
                at += run;
            }
        }
        npy(&with_rows(&largest), &values)
    }
}

impl Gathered {
    /// How long the first axis of each row is.
    fn lengths(&self) -> Vec<u8> {
        let length = |s: &Vec<u64>| s.first().map_or(0, |n| u32::try_from(*n).unwrap_or(u32::MAX));
        npy_counts(&self.shapes.iter().map(length).collect::<Vec<u32>>())
    }
}

/// Whether a truth can stand beside an output.
pub(super) fn same_shape(truth: &Source, output: &OutputSpec) -> bool {
    if output.shape.contains(&0) {
        return truth.shape.len() == output.shape.len();
    }
    let width: usize = output.shape.iter().map(|d| usize::try_from(*d).unwrap_or(usize::MAX)).product();
    truth.width() == width
}

impl<'a> Table<'a> {
    /// The table of `outputs`. With `truth`, sources of the data that bear an output's name stand beside it.
    pub(super) fn new(
        format: Format,
        event: Option<&'static str>,
        outputs: &'a [OutputSpec],
        data: &'a Dataset,
        learned: &'a Learned,
        proba: bool,
        truth: bool,
    ) -> Table<'a> {
        let columns: Vec<Column<'a>> = outputs
            .iter()
            .map(|o| {
                let width = o.shape.iter().map(|d| usize::try_from(*d).unwrap_or(usize::MAX)).product();
                let classes = learned.classes(&o.name).filter(|c| c.len() == width);
                let scales = scales(learned, &o.name, width);
                let truth = data.get(&o.name).filter(|s| truth && same_shape(s, o));
                let (name, shape) = (o.name.clone(), o.shape.as_slice());
                Column { name, width, shape, classes, proba: proba && classes.is_some(), scales, truth }
            })
            .collect();
        let keys = columns.iter().flat_map(Column::keys).collect();
        let arrays = columns.iter().map(|_| Default::default()).collect();
        Table {
            format,
            event,
            columns,
            keys,
            dropped: &data.dropped,
            position: 0,
            row: Vec::new(),
            arrays,
            odd: Odd::default(),
        }
    }

    /// Whether any output has classes.
    pub(super) fn has_classes(&self) -> bool {
        self.columns.iter().any(|c| c.classes.is_some())
    }

    /// Number of input rows written.
    pub(super) fn rows(&self) -> usize {
        self.position
    }

    /// The line of column names, for CSV.
    pub(super) fn header(&self, out: &mut String) {
        if self.format == Format::Csv {
            for (i, key) in self.keys.iter().enumerate() {
                push_csv(out, i, key);
            }
            out.push('\n');
        }
    }

    /// Adds rows of the data set. `results` holds one slice per output, padded to one shape for all rows; `shape_of` is
    /// the own shape of an output for a row, which may be shorter in the first axis.
    pub(super) fn rows_of(
        &mut self,
        rows: &[u32],
        results: &[&[f32]],
        shape_of: &dyn Fn(usize, u32) -> Vec<u64>,
        out: &mut String,
    ) {
        for (i, row) in rows.iter().enumerate() {
            self.skip_dropped(out);
            self.watch(i, rows, results, shape_of);
            if self.format == Format::Npz {
                let columns = self.columns.iter().zip(results).enumerate();
                for ((k, (column, values)), (given, truth)) in columns.zip(&mut self.arrays) {
                    let width = values.len() / rows.len();
                    let values = &values[i * width..(i + 1) * width];
                    if column.width == 0 {
                        let shape = shape_of(k, *row);
                        column.own_numbers(&values[..elements(&shape)], shape, *row as usize, given, truth);
                        continue;
                    }
                    column.numbers(values, *row as usize, given, truth);
                }
                self.position += 1;
                continue;
            }
            self.row.clear();
            for (k, (column, values)) in self.columns.iter().zip(results).enumerate() {
                let width = values.len() / rows.len();
                let values = &values[i * width..(i + 1) * width];
                if column.width == 0 {
                    let shape = shape_of(k, *row);
                    column.nested(&values[..elements(&shape)], &shape, *row as usize, &mut self.row);
                    continue;
                }
                column.row(values, *row as usize, &mut self.row);
            }
            self.push(out);
        }
    }

    /// Counts the numbers of row `i` of `rows` that are not finite, padding aside.
    fn watch(&mut self, i: usize, rows: &[u32], results: &[&[f32]], shape_of: &dyn Fn(usize, u32) -> Vec<u64>) {
        let mut numbers = 0;
        for (k, (column, values)) in self.columns.iter().zip(results).enumerate() {
            let width = values.len() / rows.len();
            let own = if column.width == 0 { elements(&shape_of(k, rows[i])) } else { width };
            for (j, value) in values[i * width..].iter().take(own).enumerate() {
                let value = column.scales.get(j).map_or(*value, |s| s.unscale(*value));
                if !value.is_finite() {
                    numbers += 1;
                    self.odd.first.get_or_insert_with(|| (self.position, column.name.clone(), value));
                }
            }
        }
        self.odd.numbers += numbers;
        self.odd.rows += u64::from(numbers > 0);
    }

    /// What is wrong with predictions that are NaN or infinite.
    pub(super) fn warning(&self) -> Option<String> {
        let Odd { numbers, rows, first } = &self.odd;
        let (row, output, value) = first.as_ref()?;
        let are = if *numbers == 1 { "is" } else { "are" };
        // Infinite scores still have a largest one, so classes may be there.
        let shown = match self.format {
            Format::Csv => "; no number is written for them",
            Format::JsonLines => "; numbers are null there",
            Format::Npz => "",
        };
        Some(format!(
            "{} in {} of {} {are} NaN or infinite; the first is {} in row {}, output `{output}`{shown}",
            count(*numbers, "predicted number"),
            rows,
            count(self.position as u64, "row"),
            word(f64::from(*value)),
            row + 1,
        ))
    }

    /// Adds what follows the last row.
    pub(super) fn end(&mut self, out: &mut String) {
        self.skip_dropped(out);
    }

    /// Writes the archive: `NAME` and `truth_NAME`, the rows first, then the axes of the output; behind each its lengths,
    /// where they are the rows' own.
    pub(super) fn archive(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        if self.format != Format::Npz {
            return Ok(());
        }
        let mut members = Vec::new();
        for (column, (given, truth)) in self.columns.iter().zip(&self.arrays) {
            let mut push = |name: String, of: &Gathered| {
                members.push((format!("{name}.npy"), of.array(self.position, column.shape)));
                if column.shape.first() == Some(&0) {
                    members.push((format!("{name}_lengths.npy"), of.lengths()));
                }
            };
            push(column.name.clone(), given);
            if column.truth.is_some() {
                push(format!("truth_{}", column.name), truth);
            }
        }
        zip::write(&members, out)
    }

    /// Rows that the data left out keep their place, without values.
    fn skip_dropped(&mut self, out: &mut String) {
        while self.dropped.first() == Some(&self.position) {
            self.dropped = &self.dropped[1..];
            if self.format == Format::Npz {
                for (column, (given, truth)) in self.columns.iter().zip(&mut self.arrays) {
                    for array in [given, truth] {
                        array.values.extend(std::iter::repeat_n(f32::NAN, column.width));
                        if column.width == 0 {
                            array.shapes.push(vec![0; column.shape.len()]);
                        }
                    }
                }
                self.position += 1;
                continue;
            }
            self.row.clear();
            self.row.resize(self.keys.len(), Value::Null);
            self.push(out);
        }
    }

    fn push(&mut self, out: &mut String) {
        match self.format {
            // An empty line would be no row to most readers.
            Format::Csv if matches!(self.row.as_slice(), [Value::Null]) => out.push_str("\"\""),
            Format::Csv => {
                for (i, value) in self.row.iter().enumerate() {
                    match value {
                        Value::String(s) => push_csv(out, i, s),
                        Value::Null => push_csv(out, i, ""),
                        other => push_csv(out, i, &other.to_string()),
                    }
                }
            }
            Format::JsonLines => {
                let mut object = Map::new();
                if let Some(event) = self.event {
                    object.insert("event".to_owned(), event.into());
                }
                object.extend(self.keys.iter().cloned().zip(self.row.drain(..)));
                out.push_str(&Value::Object(object).to_string());
            }
            // Its rows are gathered as numbers.
            Format::Npz => return,
        }
        out.push('\n');
        self.position += 1;
    }
}

impl Column<'_> {
    fn keys(&self) -> Vec<String> {
        let name = &self.name;
        let values = |prefix: &str| match (self.classes, self.width) {
            (Some(_), _) | (None, 0 | 1) => vec![format!("{prefix}{name}")],
            (None, n) => (0..n).map(|i| format!("{prefix}{name}_{i}")).collect(),
        };
        let mut keys = values("");
        if let Some(classes) = self.classes.filter(|_| self.proba) {
            keys.extend(classes.iter().map(|c| format!("{name}_p_{c}")));
        }
        if self.truth.is_some() {
            keys.extend(values("truth_"));
        }
        keys
    }

    /// Appends a row of a shape of its own and, where there is one, its truth.
    fn own_numbers(&self, values: &[f32], shape: Vec<u64>, row: usize, given: &mut Gathered, truth: &mut Gathered) {
        given.values.extend_from_slice(values);
        given.shapes.push(shape);
        if let Some((own, shape)) = self.own_truth(row) {
            truth.values.extend(own);
            truth.shapes.push(shape);
        }
    }

    /// Appends the numbers of a row and, where there is one, of its truth, in the data's own units.
    fn numbers(&self, values: &[f32], row: usize, given: &mut Gathered, truth: &mut Gathered) {
        let unscaled = |values: &[f32], out: &mut Vec<f32>| match self.scales.as_slice() {
            [] => out.extend_from_slice(values),
            scales => out.extend(values.iter().zip(scales).map(|(v, s)| s.unscale(*v))),
        };
        unscaled(values, &mut given.values);
        if let Some(source) = self.truth {
            let mut own = vec![0.0; self.width];
            source.write_row(row, &mut own);
            unscaled(&own, &mut truth.values);
        }
    }

    /// The truth of a row in its own length, and its shape.
    fn own_truth(&self, row: usize) -> Option<(Vec<f32>, Vec<u64>)> {
        let source = self.truth?;
        let shape: Vec<u64> = std::iter::once(source.length(row)).chain(source.shape.iter().skip(1).copied()).collect();
        let mut own = vec![0.0; usize::try_from(shape.iter().product::<u64>()).unwrap_or(0)];
        source.write_row(row, &mut own);
        Some((own, shape))
    }

    /// A row whose size is its own, as nested lists.
    fn nested(&self, values: &[f32], shape: &[u64], row: usize, out: &mut Vec<Value>) {
        out.push(lists(values, shape));
        if self.truth.is_some() {
            out.push(self.own_truth(row).map_or(Value::Null, |(own, shape)| lists(&own, &shape)));
        }
    }

    fn row(&self, values: &[f32], row: usize, out: &mut Vec<Value>) {
        self.values(values, out);
        if self.proba {
            out.extend(values.iter().map(|v| number(*v)));
        }
        if let Some(source) = self.truth {
            if let Some(units) = source.units.get(row * self.width..(row + 1) * self.width) {
                // Scaling back what was rounded to f32 would not give the file's numbers.
                out.extend(units.iter().map(|v| Value::from(*v)));
                return;
            }
            let mut truth = vec![0.0; self.width];
            source.write_row(row, &mut truth);
            self.values(&truth, out);
        }
    }

    fn values(&self, values: &[f32], out: &mut Vec<Value>) {
        match self.classes {
            // Of numbers that are none, no class is the likeliest.
            Some(_) if values.iter().any(|v| v.is_nan()) => out.push(Value::Null),
            Some(classes) => out.push(classes.get(first_maximum(values)).map_or(Value::Null, |c| c.clone().into())),
            None if self.scales.is_empty() => out.extend(values.iter().map(|v| number(*v))),
            None => out.extend(values.iter().zip(&self.scales).map(|(v, s)| number(s.unscale(*v)))),
        }
    }
}

/// Numbers in a shape.
fn elements(shape: &[u64]) -> usize {
    usize::try_from(shape.iter().product::<u64>()).unwrap_or(usize::MAX)
}

/// Numbers as nested lists of a shape.
fn lists(values: &[f32], shape: &[u64]) -> Value {
    match shape.split_first() {
        None => values.first().map_or(Value::Null, |v| number(*v)),
        Some((_, [])) => values.iter().map(|v| number(*v)).collect(),
        Some((_, rest)) => {
            let width = usize::try_from(rest.iter().product::<u64>()).unwrap_or(usize::MAX).max(1);
            values.chunks(width).map(|part| lists(part, rest)).collect()
        }
    }
}

/// The encoding of each element of an output's target, when any is scaled.
fn scales<'l>(learned: &'l Learned, name: &str, width: usize) -> Vec<&'l Encoding> {
    let Some(source) = learned.source(name).filter(|s| s.target && s.is_scaled()) else { return Vec::new() };
    let all: Vec<&Encoding> =
        source.columns.iter().flat_map(|c| std::iter::repeat_n(&c.encoding, c.encoding.width())).collect();
    if all.len() == width { all } else { Vec::new() }
}

/// Index of the first maximum.
fn first_maximum(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

/// A number that prints as the shortest text that reads back to the same f32; null when it is not finite.
fn number(value: f32) -> Value {
    if !value.is_finite() {
        return Value::Null;
    }
    // The f64 nearest to the shortest f32 text prints as that text.
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// Adds a cell; quotes where the text needs them.
fn push_csv(out: &mut String, index: usize, text: &str) {
    if index > 0 {
        out.push(',');
    }
    if text.contains([',', '"', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_follow_the_name() {
        assert_eq!(Format::of("a.csv"), Ok(Format::Csv));
        assert_eq!(Format::of("a.JSONL"), Ok(Format::JsonLines));
        assert_eq!(Format::of("/dev/null"), Ok(Format::Csv));
        assert_eq!(
            Format::of("a.pkl").expect_err("pickle").to_string(),
            "error[output-format]: cannot tell how to write `a.pkl` from `.pkl`\n  = help: predictions are written as .csv, .jsonl or .npz"
        );
        assert_eq!(Format::of("a").expect_err("none").exit().code(), 2);
    }

    #[test]
    fn numbers_are_short_and_exact() {
        for (value, text) in [(0.1f32, "0.1"), (1.0, "1.0"), (1e-7, "1e-7"), (16_777_216.0, "16777216.0")] {
            assert_eq!(number(value).to_string(), text);
        }
        assert_eq!(number(f32::NAN), Value::Null);
    }

    #[test]
    fn cells_are_quoted_where_needed() {
        let mut out = String::new();
        push_csv(&mut out, 0, "a,b");
        push_csv(&mut out, 1, "say \"x\"");
        assert_eq!(out, "\"a,b\",\"say \"\"x\"\"\"");
    }
}
