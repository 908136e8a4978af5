//! Reads the bound columns of a CSV file into raw columns: numbers, or ids of class names.
//!
//! Missing values stay marked until [`super::encode`] knows what they become. Rows that a `missing: drop` group lacks
//! values for never get in.

use std::collections::HashMap;

use super::bind::{Bound, BoundColumn, ColumnKind};
use super::csv::CsvFile;
use super::{Depth, Role, errors};
use crate::error::{Place, Result, count};
use crate::spec::{Missing, Normalize};

/// Marks a missing class.
pub const NO_CLASS: u32 = u32::MAX;

/// The raw columns of one source; several files may have added to it.
#[derive(Debug)]
pub struct RawSource {
    /// Name of the model input, or primary name of the output.
    pub name: String,
    /// Which of the two.
    pub role: Role,
    /// The columns in order.
    pub columns: Vec<RawColumn>,
    /// Scaling to learn.
    pub normalize: Normalize,
    /// What an empty cell means.
    pub missing: Missing,
    /// Softmax units of the output, for targets.
    pub softmax_width: Option<u64>,
    /// The last file that added rows, for messages.
    pub file: String,
    /// Rows of the files, the left-out ones included.
    pub records: usize,
}

impl RawSource {
    /// Whether rows were read, and all of them were left out.
    fn is_emptied(&self) -> bool {
        self.records > 0
            && self.columns.iter().all(|c| match &c.cells {
                Cells::Undecided(n) => *n == 0,
                Cells::Numbers(v) => v.is_empty(),
                Cells::Classes(v, _) => v.is_empty(),
            })
    }

    /// What the user should know about the values: how many were made up.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let missing: u64 = self.columns.iter().map(|c| c.missing).sum();
        let became = match self.missing {
            Missing::Mean => "the column's training mean",
            Missing::Zero => "zero",
            Missing::Error | Missing::Drop => return Vec::new(),
        };
        if missing == 0 {
            return Vec::new();
        }
        let cells = count(missing, "missing cell");
        vec![format!("`{}`: {cells} of `{}` became {became}", self.file, self.name)]
    }
}

/// One raw column.
#[derive(Debug)]
pub struct RawColumn {
    /// Name that the column is known by.
    pub name: String,
    /// Its cells.
    pub cells: Cells,
    /// How many cells were missing.
    pub missing: u64,
    /// How many cells had a value, those of left-out rows included.
    pub valued: u64,
    /// The first cell of text where a number belongs, and its place.
    pub text: Option<(String, Place)>,
}

/// The cells of a column.
#[derive(Debug)]
pub enum Cells {
    /// No cell with a value has been seen; the count of missing ones.
    Undecided(usize),
    /// Numbers; NaN is missing.
    Numbers(Vec<f64>),
    /// Ids of names; [`NO_CLASS`] is missing.
    Classes(Vec<u32>, Names),
}

/// The names of a class column in order of appearance, each with its first place.
#[derive(Debug, Default)]
pub struct Names {
    ids: HashMap<String, u32>,
    /// Name and first place.
    pub list: Vec<(String, Place)>,
}

impl Names {
    fn id(&mut self, name: &str, place: impl FnOnce() -> Place) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.list.len()).unwrap_or(NO_CLASS - 1);
        self.ids.insert(name.to_owned(), id);
        self.list.push((name.to_owned(), place()));
        id
    }
}

/// What reading a file came to.
#[derive(Debug, Default)]
pub struct ReadRows {
    /// Data rows in the file.
    pub records: usize,
    /// Left-out rows, from 0, ascending.
    pub dropped: Vec<usize>,
    /// The columns that they lack values in, and how many.
    pub gaps: Vec<(String, u64)>,
}

impl ReadRows {
    /// What the user should know about rows that were left out.
    #[must_use]
    pub fn note(&self, file: &str) -> Option<String> {
        if self.dropped.is_empty() {
            return None;
        }
        let mut gaps: Vec<String> =
            self.gaps.iter().take(NAMED).map(|(name, n)| format!("{n} in column `{name}`")).collect();
        if self.gaps.len() > NAMED {
            gaps.push(format!("others in {}", count((self.gaps.len() - NAMED) as u64, "more column")));
        }
        let (out, all) = (self.dropped.len(), count(self.records as u64, "row"));
        let missing: u64 = self.gaps.iter().map(|(_, n)| n).sum();
        let (are, values) = (if out == 1 { "is" } else { "are" }, count(missing, "missing value"));
        Some(format!("`{file}`: {out} of {all} {are} left out for {values}: {}", gaps.join(", ")))
    }
}

/// Columns that a note names.
const NAMED: usize = 8;

/// Complains where `missing: drop` has left nothing to learn from. A column of words makes every row one that lacks a
/// number, and is to be named rather than the columns whose values were left out with it.
///
/// # Errors
/// `csv-text-column`, `csv-no-rows`.
pub fn check_left(sources: &[RawSource]) -> Result<()> {
    let Some(emptied) = sources.iter().find(|s| s.is_emptied()) else { return Ok(()) };
    let drops = sources.iter().filter(|s| s.missing == Missing::Drop);
    let found = drops.flat_map(|s| s.columns.iter().map(move |c| (s, c))).find(|(_, c)| c.valued == 0);
    Err(match found {
        Some((source, column)) => errors::text_column(&source.file, &column.name, column.text.as_ref()),
        None => errors::none_left(&emptied.file),
    })
}

/// Reads the bound columns and adds them to `sources`, stacking on sources of the same name. At [`Depth::Shapes`] it
/// stops as soon as shapes and classes cannot change any more.
///
/// # Errors
/// `csv-no-rows`, `csv-ragged`, `csv-missing-cell`, `csv-not-a-number`, `csv-not-finite`, `stacked-shapes`.
pub fn read(file: &mut CsvFile, bound: Vec<Bound>, sources: &mut Vec<RawSource>, depth: Depth) -> Result<ReadRows> {
    let mut slots = Vec::new();
    for b in bound {
        let source = place_source(file, b, sources, &mut slots)?;
        sources[source].file = file.path().to_owned();
    }
    let classes = slots.iter().any(|s| s.kind == ColumnKind::Class);
    let drops = slots.iter().any(|s| s.missing == Missing::Drop);
    let mut staged = vec![Staged::Missing; slots.len()];
    let mut gaps = vec![0u64; slots.len()];
    let mut rows = ReadRows::default();
    while file.next_row()? {
        rows.records += 1;
        let mut keep = true;
        for (slot, value) in slots.iter_mut().zip(&mut staged) {
            *value = slot.stage(file)?;
            keep &= *value != Staged::Missing || slot.missing != Missing::Drop;
        }
        if !keep {
            rows.dropped.push(rows.records - 1);
            for ((slot, value), gaps) in slots.iter().zip(&staged).zip(&mut gaps) {
                *gaps += u64::from(*value == Staged::Missing && slot.missing == Missing::Drop);
            }
            continue;
        }
        for (slot, value) in slots.iter().zip(&staged) {
            let column = &mut sources[slot.source].columns[slot.column];
            column.push(*value, slot, file);
        }
        let decided = || slots.iter().all(|s| s.kind != ColumnKind::Decide);
        if depth == Depth::Shapes && !classes && !drops && decided() {
            let is_class = |s: &Slot| matches!(sources[s.source].columns[s.column].cells, Cells::Classes(..));
            if !slots.iter().any(is_class) {
                break;
            }
        }
    }
    let mut slots: Vec<(Slot, u64)> = slots.into_iter().zip(gaps).collect();
    slots.sort_by_key(|(slot, _)| slot.index);
    for (slot, gaps) in slots {
        let source = &mut sources[slot.source];
        if slot.column == 0 {
            source.records += rows.records;
        }
        let column = &mut source.columns[slot.column];
        column.valued += slot.valued;
        column.text = column.text.take().or(slot.text);
        if gaps > 0 {
            rows.gaps.push((slot.name, gaps));
        }
    }
    Ok(rows)
}

/// One column to read.
struct Slot {
    source: usize,
    column: usize,
    index: usize,
    name: String,
    kind: ColumnKind,
    missing: Missing,
    /// As [`RawColumn::valued`], of this file.
    valued: u64,
    /// As [`RawColumn::text`], of this file.
    text: Option<(String, Place)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Staged {
    Missing,
    Number(f64),
    Class,
}

impl Slot {
    /// Judges a cell. A [`ColumnKind::Decide`] slot is decided by its first value.
    fn stage(&mut self, file: &CsvFile) -> Result<Staged> {
        let staged = self.judge(file)?;
        self.valued += u64::from(staged != Staged::Missing);
        Ok(staged)
    }

    fn judge(&mut self, file: &CsvFile) -> Result<Staged> {
        let text = file.cell(self.index);
        let place = || errors::cell_place(file.path(), file.line(), file.row(), Some(&self.name));
        if text.is_empty() {
            return match (self.missing, self.kind) {
                (Missing::Error, _) => Err(errors::missing_cell(place())),
                (Missing::Mean, ColumnKind::Class) => Err(errors::missing_class(place())),
                _ => Ok(Staged::Missing),
            };
        }
        if self.kind == ColumnKind::Class {
            return Ok(Staged::Class);
        }
        match text.parse::<f64>() {
            Ok(x) if is_finite_f32(x) => {
                self.kind = ColumnKind::Number;
                Ok(Staged::Number(x))
            }
            Ok(x) if x.is_nan() && self.missing != Missing::Error => Ok(Staged::Missing),
            Ok(_) => Err(errors::not_finite(place(), text)),
            Err(_) if self.kind == ColumnKind::Decide => {
                self.kind = ColumnKind::Class;
                Ok(Staged::Class)
            }
            Err(_) if self.missing == Missing::Error => Err(errors::not_a_number(place(), text)),
            Err(_) => {
                if self.text.is_none() {
                    self.text = Some((text.to_owned(), place()));
                }
                Ok(Staged::Missing)
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the question is whether the value survives this cast")]
fn is_finite_f32(x: f64) -> bool {
    (x as f32).is_finite()
}

impl RawColumn {
    fn push(&mut self, value: Staged, slot: &Slot, file: &CsvFile) {
        if let Cells::Undecided(missing) = self.cells {
            match value {
                Staged::Missing => {}
                Staged::Number(_) => self.cells = Cells::Numbers(vec![f64::NAN; missing]),
                Staged::Class => self.cells = Cells::Classes(vec![NO_CLASS; missing], Names::default()),
            }
        }
        self.missing += u64::from(value == Staged::Missing);
        match (&mut self.cells, value) {
            (Cells::Undecided(missing), _) => *missing += 1,
            (Cells::Numbers(numbers), Staged::Number(x)) => numbers.push(x),
            (Cells::Numbers(numbers), _) => numbers.push(f64::NAN),
            (Cells::Classes(ids, names), Staged::Class) => {
                let place = || errors::cell_place(file.path(), file.line(), file.row(), Some(&slot.name));
                ids.push(names.id(file.cell(slot.index), place));
            }
            (Cells::Classes(ids, _), _) => ids.push(NO_CLASS),
        }
    }
}

/// Finds the source to stack on, or makes a new one, and lists its columns as slots.
fn place_source(file: &CsvFile, bound: Bound, sources: &mut Vec<RawSource>, slots: &mut Vec<Slot>) -> Result<usize> {
    let at = sources.iter().position(|s| s.name == bound.name);
    if let Some(at) = at
        && sources[at].columns.len() != bound.columns.len()
    {
        let expected = sources[at].columns.len();
        return Err(errors::stacked_shapes(file.path(), &bound.name, bound.columns.len(), expected));
    }
    let at = at.unwrap_or(sources.len());
    for (i, column) in bound.columns.iter().enumerate() {
        let settled = sources.get(at).map(|s| match s.columns[i].cells {
            Cells::Numbers(_) => ColumnKind::Number,
            Cells::Classes(..) => ColumnKind::Class,
            Cells::Undecided(_) => ColumnKind::Decide,
        });
        slots.push(Slot {
            source: at,
            column: i,
            index: column.index,
            name: column.name.clone(),
            kind: settled.unwrap_or(column.kind),
            missing: bound.missing,
            valued: 0,
            text: None,
        });
    }
    if at == sources.len() {
        let raw = |c: &BoundColumn| RawColumn {
            name: c.name.clone(),
            cells: match c.kind {
                ColumnKind::Number => Cells::Numbers(Vec::new()),
                ColumnKind::Class => Cells::Classes(Vec::new(), Names::default()),
                ColumnKind::Decide => Cells::Undecided(0),
            },
            missing: 0,
            valued: 0,
            text: None,
        };
        sources.push(RawSource {
            columns: bound.columns.iter().map(raw).collect(),
            name: bound.name,
            role: bound.role,
            normalize: bound.normalize,
            missing: bound.missing,
            softmax_width: bound.softmax_width,
            file: String::new(),
            records: 0,
        });
    }
    Ok(at)
}
