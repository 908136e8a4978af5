//! The data pipeline: a section of the Kurfile goes in, named tensors of whole data sets come out, cut into batches.
//!
//! The way of the data: [`mod@file`] opens bytes, [`csv`], [`idx`] and [`arrays`] read them, [`bind`] decides which columns make which
//! model input or loss target, [`table`] reads those columns, [`encode`] learns statistics and classes and makes
//! tensors, [`order`] shuffles rows, [`batch`] gathers them. [`probe`] (what the compiler asks) and [`load`] (what a
//! run does) share every step, so a shape seen at build time is the shape loaded later.
//!
//! Invariant: statistics and classes come from training data only. They are kept in [`Learned`], travel with the
//! weights, and every later section is encoded with them.

pub mod arrays;
pub mod batch;
pub mod bind;
pub mod csv;
pub mod domain;
pub mod encode;
pub mod errors;
pub mod file;
pub mod idx;
pub mod learned;
pub mod order;
mod sizes;
pub mod table;

use crate::error::Result;
use crate::spec::{CsvSpec, FileSpec, OutputSpec, RunSpec, SectionSpec, SupplierSpec};

use self::bind::Wanted;
pub use self::learned::{Encoding, Learned, LearnedColumn, LearnedSource};
use self::table::RawSource;

/// Whether a source feeds the model or is compared with an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A model input.
    Input,
    /// A loss target, or the truth of an output.
    Target,
}

/// What is known of a loss target before its data is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetHint {
    /// Primary name of the output.
    pub name: String,
    /// Other names of the same output; data may carry any of them (kur-reference 2.5).
    pub aliases: Vec<String>,
    /// Units of the softmax that makes the output; `None` when it is no softmax.
    pub softmax_width: Option<u64>,
}

impl TargetHint {
    /// The hint of a resolved output.
    #[must_use]
    pub fn of(output: &OutputSpec) -> TargetHint {
        TargetHint {
            name: output.name.clone(),
            aliases: output.aliases.clone(),
            softmax_width: if output.softmax { output.shape.last().copied() } else { None },
        }
    }

    /// The hint of data that a loss reads by its own name.
    #[must_use]
    pub fn named(name: &str) -> TargetHint {
        TargetHint { name: name.to_owned(), ..TargetHint::default() }
    }

    /// Whether data under `name` belongs to this output.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|a| a == name)
    }
}

/// Whether targets are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Training and tests: a missing target is an error.
    Required,
    /// Evaluation: targets are used when the data has them.
    Optional,
    /// Prediction: targets are not read.
    Ignored,
}

/// What the data of a section looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Sources that belong to a model input or loss target.
    pub sources: Vec<ProbedSource>,
    /// Every name that the data offers: columns of CSV files, sources of the other suppliers.
    pub offered: Vec<String>,
}

/// One source of a [`Probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbedSource {
    /// Name of the model input, or primary name of the output.
    pub name: String,
    /// Which of the two.
    pub role: Role,
    /// Shape of one sample; one number has the shape `[1]`.
    pub shape: Vec<u64>,
    /// Class names when the source is a class target.
    pub classes: Option<Vec<String>>,
    /// Whether samples differ in the length of their first axis; `shape` then has the longest.
    pub variable: bool,
}

impl Probe {
    /// The source of an input or output.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ProbedSource> {
        self.sources.iter().find(|s| s.name == name)
    }
}

/// The values of one source for all rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// Row-major numbers.
    Numbers(Vec<f32>),
    /// Row-major bytes and the number that each byte stands for.
    Bytes(Vec<u8>, Box<[f32; 256]>),
    /// A class per row, read as a one-hot row of the given width.
    Classes(Vec<u32>, usize),
    /// Samples of different lengths, one after the other.
    Ragged {
        /// The numbers.
        values: Vec<f32>,
        /// Where each sample starts, and the end of the last.
        starts: Vec<usize>,
        /// Numbers in one step of the first axis.
        unit: usize,
    },
}

impl Store {
    /// Samples of the given lengths along the first axis, `unit` numbers a step.
    #[must_use]
    pub fn ragged(values: Vec<f32>, lengths: impl Iterator<Item = u32>, unit: u64) -> Store {
        let unit = usize::try_from(unit).unwrap_or(usize::MAX);
        let ends = lengths.scan(0usize, |at, l| {
            *at = at.saturating_add(usize::try_from(l).unwrap_or(usize::MAX).saturating_mul(unit));
            Some(*at)
        });
        Store::Ragged { starts: std::iter::once(0).chain(ends).collect(), values, unit }
    }

    /// The numbers of all samples, one after the other; none for classes and bytes.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        match self {
            Store::Numbers(values) | Store::Ragged { values, .. } => values,
            Store::Bytes(..) | Store::Classes(..) => Vec::new(),
        }
    }
}

/// One named tensor of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Name of the model input, or primary name of the output.
    pub name: String,
    /// Which of the two.
    pub role: Role,
    /// Shape of one sample.
    pub shape: Vec<u64>,
    /// Whether only the number of elements counts, since columns have no shape of their own.
    pub reshapes: bool,
    /// The values.
    pub store: Store,
    /// The values of a scaled target as the file has them, row-major; else empty.
    pub units: Vec<f64>,
}

impl Source {
    /// Elements of one sample.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).product()
    }

    /// The class of a row when the source is a class target.
    #[must_use]
    pub fn class(&self, row: usize) -> Option<usize> {
        match &self.store {
            Store::Classes(index, _) => index.get(row).and_then(|&c| usize::try_from(c).ok()),
            _ => None,
        }
    }

    /// Whether no sample has any element, so that nothing is known of the axes behind the first.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        matches!(self.store, Store::Ragged { .. }) && self.shape == [0]
    }

    /// Length of a sample's first axis.
    #[must_use]
    pub fn length(&self, row: usize) -> u64 {
        match &self.store {
            Store::Ragged { starts, unit, .. } => ((starts[row + 1] - starts[row]) / (*unit).max(1)) as u64,
            Store::Numbers(_) | Store::Bytes(..) | Store::Classes(..) => self.shape.first().copied().unwrap_or(1),
        }
    }

    /// The numbers of one sample in its own length.
    pub fn sample(&self, row: usize, out: &mut Vec<f32>) {
        let width = match &self.store {
            Store::Ragged { starts, .. } => starts[row + 1] - starts[row],
            Store::Numbers(_) | Store::Bytes(..) | Store::Classes(..) => self.width(),
        };
        out.resize(width, 0.0);
        self.write_row(row, out);
    }

    /// Writes one sample; `out` has [`Source::width`] elements. Samples of variable length fill any `out` that holds
    /// them, with zeros behind.
    pub fn write_row(&self, row: usize, out: &mut [f32]) {
        let width = out.len();
        let range = row * width..(row + 1) * width;
        if let Store::Ragged { values, starts, .. } = &self.store {
            let sample = &values[starts[row]..starts[row + 1]];
            out[..sample.len()].copy_from_slice(sample);
            out[sample.len()..].fill(0.0);
            return;
        }
        match &self.store {
            Store::Numbers(values) => out.copy_from_slice(&values[range]),
            Store::Bytes(values, table) => {
                for (to, from) in out.iter_mut().zip(&values[range]) {
                    *to = table[usize::from(*from)];
                }
            }
            Store::Classes(index, _) => {
                out.fill(0.0);
                out[index[row] as usize] = 1.0;
            }
            Store::Ragged { .. } => {}
        }
    }
}

/// A loaded section: every source has [`Dataset::rows`] samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Number of samples.
    pub rows: usize,
    /// The sources that the model needs.
    pub sources: Vec<Source>,
    /// Places of left-out rows (`missing: drop`) in the sequence of all data rows, ascending, from 0.
    pub dropped: Vec<usize>,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

impl Dataset {
    /// The source of an input or output.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|s| s.name == name)
    }

    /// Place of a row in the sequence of all data rows, those that were left out included.
    #[must_use]
    pub fn original_row(&self, row: usize) -> usize {
        self.dropped.iter().fold(row, |at, dropped| if *dropped <= at { at + 1 } else { at })
    }

    /// Tells data sets apart: FNV-1a over the number of rows and up to 4096 evenly spaced samples of every source.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        const SAMPLES: usize = 4096;
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |word: u64| {
            for byte in word.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        add(self.rows as u64);
        for source in &self.sources {
            source.name.bytes().for_each(|b| add(u64::from(b)));
            let mut row = vec![0.0; source.width()];
            for i in (0..self.rows).step_by((self.rows / SAMPLES).max(1)) {
                source.write_row(i, &mut row);
                row.iter().for_each(|v| add(u64::from(v.to_bits())));
            }
        }
        hash
    }
}

/// Looks at the data of a section: which inputs and targets it feeds and with what shapes. Reads no more than it needs:
/// the header of a CSV file, its target column when that may hold classes, the header of an IDX file.
///
/// # Errors
/// Everything that makes binding impossible: missing files or columns, ambiguous columns, an empty file.
pub fn probe(section: &SectionSpec, input_names: &[String], targets: &[TargetHint]) -> Result<Probe> {
    let wanted = Wanted { inputs: input_names, targets, truth: Truth::Optional };
    let collected = Collected::new(section, &wanted, None, Depth::Shapes)?;
    table::check_left(&collected.tables)?;
    let mut sources = Vec::new();
    for raw in &collected.tables {
        let learned = encode::learn(raw, Depth::Shapes)?;
        sources.push(ProbedSource {
            name: raw.name.clone(),
            role: raw.role,
            shape: learned.shape(),
            classes: learned.classes().map(<[String]>::to_vec),
            variable: false,
        });
    }
    for image in collected.images {
        let classes = image.learned.classes().map(<[String]>::to_vec);
        sources.push(ProbedSource { name: image.name, role: image.role, shape: image.shape, classes, variable: false });
    }
    // Samples without any element tell no shape.
    for array in collected.arrays.into_iter().filter(|a| a.shape != [0]) {
        let classes = array.learned.classes().map(<[String]>::to_vec);
        let (name, role, shape, variable) = (array.name, array.role, array.shape, array.variable);
        sources.push(ProbedSource { name, role, shape, classes, variable });
    }
    Ok(Probe { sources, offered: collected.offered })
}

/// Loads a section. With `learned`, columns are found and encoded as in training; without, statistics and classes are
/// learned from this data, which is then training data.
///
/// # Errors
/// Every defect of the data, with file, row, column and value where they apply.
pub fn load(section: &SectionSpec, wanted: &Wanted<'_>, learned: Option<&Learned>) -> Result<(Dataset, Learned)> {
    let mut collected = Collected::new(section, wanted, learned, Depth::Values)?;
    let mut result = learned
        .cloned()
        .unwrap_or_else(|| Learned { header: std::mem::take(&mut collected.header), sources: Vec::new() });
    if learned.is_none() {
        table::check_left(&collected.tables)?;
    }
    let mut sources = Vec::new();
    for raw in collected.tables {
        collected.notes.extend(raw.notes());
        if let Some(known) = result.source(&raw.name) {
            collected.notes.extend(encode::unheeded(&raw, known));
            sources.push(encode::apply(raw, known)?);
        } else {
            let lesson = encode::learn(&raw, Depth::Values)?;
            sources.push(encode::apply(raw, &lesson)?);
            result.sources.push(lesson);
        }
    }
    for image in collected.images {
        if result.source(&image.name).is_none() {
            result.sources.push(image.learned.clone());
        }
        sources.push(image.into_source());
    }
    for array in collected.arrays {
        if result.source(&array.name).is_none() {
            result.sources.push(array.learned.clone());
        }
        sources.push(array.into_source());
    }
    bind::check_complete(section, wanted, &sources, &collected.offered)?;
    let rows = same_rows(&sources)?;
    let dataset = Dataset { rows, sources, dropped: collected.dropped, notes: collected.notes };
    Ok((dataset, result))
}

/// How much of the data to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Enough to know shapes and classes.
    Shapes,
    /// Everything.
    Values,
}

/// The suppliers of a section, read and stacked by name (kur-reference 6.1).
struct Collected {
    tables: Vec<RawSource>,
    images: Vec<idx::IdxSource>,
    arrays: Vec<arrays::ArraySource>,
    offered: Vec<String>,
    header: Vec<String>,
    dropped: Vec<usize>,
    notes: Vec<String>,
}

impl Collected {
    fn new(section: &SectionSpec, wanted: &Wanted<'_>, learned: Option<&Learned>, depth: Depth) -> Result<Collected> {
        if section.data.is_empty() {
            return Err(errors::no_data());
        }
        let mut all = Collected {
            tables: Vec::new(),
            images: Vec::new(),
            arrays: Vec::new(),
            offered: Vec::new(),
            header: Vec::new(),
            dropped: Vec::new(),
            notes: Vec::new(),
        };
        let mut rows_before = 0;
        // Columns are bound last: they stand for what no source bears the name of.
        let is_csv = |s: &&SupplierSpec| matches!(s, SupplierSpec::Csv(_));
        let (tables, named): (Vec<_>, Vec<_>) = section.data.iter().partition(is_csv);
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for supplier in named.into_iter().chain(tables) {
            match supplier {
                SupplierSpec::Csv(spec) => {
                    let mut file = csv::CsvFile::open(spec, learned)?;
                    all.notes.extend(file.take_notes());
                    let rest = all.rest(&file, spec, wanted, &mut inputs, &mut targets)?;
                    let bound = bind::bind(&file, spec, &rest, learned)?;
                    same_kind(learned, bound.iter().map(|b| b.name.as_str()), true)?;
                    all.offered.extend(file.names().iter().cloned());
                    if all.header.is_empty() {
                        all.header = file.names().to_vec();
                    }
                    let read = table::read(&mut file, bound, &mut all.tables, depth)?;
                    all.notes.extend(read.note(file.path()));
                    all.dropped.extend(read.dropped.iter().map(|r| r + rows_before));
                    rows_before += read.records;
                }
                SupplierSpec::Mnist { images, labels } => {
                    let named = [(idx::IMAGES, images), (idx::LABELS, labels)];
                    let given = named.into_iter().filter(|(_, f)| !f.path.is_empty());
                    all.offered.extend(given.map(|(n, _)| n.to_owned()));
                    idx::read(images, labels, wanted, depth, &mut all.images)?;
                    same_kind(learned, all.images.iter().map(|i| i.name.as_str()), false)?;
                }
                SupplierSpec::Arrays { format, file } => {
                    let offer = arrays::read(file, *format, wanted, depth, &mut all.arrays)?;
                    all.offered.extend(offer.names);
                    same_kind(learned, all.arrays.iter().map(|a| a.name.as_str()), false)?;
                }
                SupplierSpec::Unbuilt { what } => return Err(errors::not_built(what)),
            }
        }
        all.one_kind_each()?;
        Ok(all)
    }

    /// What columns have to feed: everything that no other supplier gives.
    fn rest<'r>(
        &self,
        file: &csv::CsvFile,
        spec: &CsvSpec,
        wanted: &Wanted<'_>,
        inputs: &'r mut Vec<String>,
        targets: &'r mut Vec<TargetHint>,
    ) -> Result<Wanted<'r>> {
        let given =
            |name: &str| self.images.iter().any(|i| i.name == name) || self.arrays.iter().any(|a| a.name == name);
        let columns = file.names().iter().chain(spec.columns.iter().map(|g| &g.name));
        let clash = columns.filter_map(|c| wanted.find(c)).find(|(_, name)| given(name));
        if let Some((_, name)) = clash {
            return Err(errors::stacked_kinds(&name));
        }
        *inputs = wanted.inputs.iter().filter(|n| !given(n)).cloned().collect();
        *targets = wanted.targets.iter().filter(|t| !given(&t.name)).cloned().collect();
        Ok(Wanted { inputs, targets, truth: wanted.truth })
    }

    /// Sources of one name are stacked where they come from files of one kind.
    fn one_kind_each(&self) -> Result<()> {
        let tables = self.tables.iter().map(|t| t.name.as_str());
        let mut names: Vec<&str> = tables.chain(self.images.iter().map(|i| i.name.as_str())).collect();
        names.extend(self.arrays.iter().map(|a| a.name.as_str()));
        names.sort_unstable();
        match names.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => Err(errors::stacked_kinds(twice[0])),
            None => Ok(()),
        }
    }
}

/// What was trained on one kind of file is not fed from the other, whose values are scaled in another way.
fn same_kind<'n>(learned: Option<&Learned>, mut names: impl Iterator<Item = &'n str>, is_csv: bool) -> Result<()> {
    let other = |name: &&str| learned.and_then(|l| l.source(name)).is_some_and(|k| k.columns_of_csv != is_csv);
    names.find(other).map_or(Ok(()), |name| Err(errors::other_kind(name, !is_csv)))
}

fn same_rows(sources: &[Source]) -> Result<usize> {
    let rows_of = |s: &Source| match &s.store {
        Store::Numbers(v) => v.len() / s.width().max(1),
        Store::Bytes(v, _) => v.len() / s.width().max(1),
        Store::Classes(v, _) => v.len(),
        Store::Ragged { starts, .. } => starts.len().saturating_sub(1),
    };
    let Some(first) = sources.first() else { return Ok(0) };
    let rows = rows_of(first);
    match sources.iter().find(|s| rows_of(s) != rows) {
        Some(other) => Err(errors::row_counts(&first.name, rows, &other.name, rows_of(other))),
        None => Ok(rows),
    }
}

/// The targets that the losses of a run need: those of the outputs, or what a loss reads in their place. Data that
/// several losses read is there once.
#[must_use]
pub fn loss_targets(run: &RunSpec) -> Vec<TargetHint> {
    let mut hints: Vec<TargetHint> = Vec::new();
    for output in run.outputs.iter().filter(|o| o.loss.is_some()) {
        if output.loss_reads.is_empty() {
            hints.push(TargetHint::of(output));
        }
        hints.extend(output.loss_reads.iter().map(|name| TargetHint::named(name)));
    }
    let mut seen = std::collections::BTreeSet::new();
    hints.retain(|h| seen.insert(h.name.clone()));
    hints
}

/// A section whose data is one IDX file of images, without labels.
#[must_use]
pub fn with_images(section: Option<&SectionSpec>, path: &str) -> SectionSpec {
    let images = FileSpec { path: path.to_owned(), checksum: None };
    SectionSpec {
        data: vec![SupplierSpec::Mnist { images, labels: FileSpec::default() }],
        provider: section.map(|s| s.provider.clone()).unwrap_or_default(),
    }
}

/// A section whose data is one file from the command line: named arrays or CSV, by its name. For CSV columns, normalisation and file format are those of the
/// section's own CSV supplier, else of the first of `others` that has one.
#[must_use]
pub fn with_file(section: Option<&SectionSpec>, others: &[Option<&SectionSpec>], path: &str) -> SectionSpec {
    let csv_of = |s: &SectionSpec| {
        s.data.iter().find_map(|d| match d {
            SupplierSpec::Csv(c) => Some(c.clone()),
            SupplierSpec::Mnist { .. } | SupplierSpec::Arrays { .. } | SupplierSpec::Unbuilt { .. } => None,
        })
    };
    let spec = section
        .and_then(csv_of)
        .or_else(|| others.iter().flatten().find_map(|s| csv_of(s)))
        .unwrap_or_else(|| CsvSpec { header: true, ..CsvSpec::default() });
    let provider = section.or_else(|| others.iter().flatten().copied().next()).map(|s| s.provider.clone());
    let file = FileSpec { path: path.to_owned(), checksum: None };
    let supplier = match arrays::format_of(path) {
        Some(format) => SupplierSpec::Arrays { format, file },
        None => SupplierSpec::Csv(CsvSpec { file, ..spec }),
    };
    SectionSpec { data: vec![supplier], provider: provider.unwrap_or_default() }
}

#[cfg(test)]
mod tests;
