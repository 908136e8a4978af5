//! Learns classes and statistics from raw training columns, and turns raw columns into tensors with what was learned.
//!
//! Statistics are computed in f64 over the values that are there (two passes, file order); the standard deviation is
//! that of the population. Values are scaled in f64 and rounded to f32 once.

use super::learned::{Encoding, LearnedColumn, LearnedSource};
use super::table::{Cells, NO_CLASS, Names, RawColumn, RawSource};
use super::{Depth, Role, Source, Store, errors};
use crate::error::{Place, Result};
use crate::spec::{Missing, Normalize};

/// Learns how the columns of a source become numbers. At [`Depth::Shapes`] numbers may not have been read, and only
/// classes are meaningful in the result.
///
/// # Errors
/// `csv-text-column` for a column without any number, `not-a-class` for a fraction under a softmax, `one-class` for a
/// target with a single one.
pub fn learn(raw: &RawSource, depth: Depth) -> Result<LearnedSource> {
    let none = |column: &RawColumn| errors::text_column(&raw.file, &column.name, column.text.as_ref());
    let mut columns = Vec::new();
    for column in &raw.columns {
        let encoding = match &column.cells {
            Cells::Numbers(values) if depth == Depth::Values => {
                statistics(values, raw.normalize).ok_or_else(|| none(column))?
            }
            Cells::Numbers(_) => Encoding::Number { subtract: 0.0, divide: 1.0, mean: 0.0 },
            Cells::Undecided(_) => return Err(none(column)),
            Cells::Classes(_, names) => {
                // Before classes without a row are filled in.
                if raw.role == Role::Target
                    && let [class] = class_names(names, None)?.as_slice()
                {
                    return Err(errors::one_class(&raw.file, &column.name, class));
                }
                Encoding::Classes { names: class_names(names, raw.softmax_width)? }
            }
        };
        columns.push(LearnedColumn { name: column.name.clone(), encoding, missing: raw.missing });
    }
    Ok(LearnedSource { name: raw.name.clone(), target: raw.role == Role::Target, columns_of_csv: true, columns })
}

/// What to say where the Kurfile asks for another scaling than training has learned, which is the one that counts. Data
/// for which it asks for none may be that of a section that says nothing of its own, and is scaled all the same.
#[must_use]
pub fn unheeded(raw: &RawSource, learned: &LearnedSource) -> Option<String> {
    let word = |normalize| match normalize {
        Normalize::None => "none",
        Normalize::Standard => "standard",
        Normalize::MinMax => "minmax",
    };
    let numbers = learned.columns.iter().filter_map(|c| match &c.encoding {
        Encoding::Number { subtract, divide, mean } => Some((*subtract, *divide, *mean)),
        Encoding::Classes { .. } => None,
    });
    let numbers: Vec<(f64, f64, f64)> = numbers.collect();
    // A constant column is only shifted, to 0 by either scaling. Numbers that have mean 0 and deviation 1, or lie between 0
    // and 1, stay as they are under one of them.
    #[expect(clippy::float_cmp, reason = "0, 1 and the mean itself are what was stored")]
    let was = match numbers.iter().find(|(_, divide, _)| *divide != 1.0) {
        Some((subtract, _, mean)) if subtract == mean => Normalize::Standard,
        Some(_) => Normalize::MinMax,
        None if numbers.iter().any(|(subtract, ..)| *subtract != 0.0) => return None,
        None => match raw.normalize {
            Normalize::Standard if numbers.iter().all(|(_, _, mean)| *mean == 0.0) => return None,
            Normalize::MinMax if numbers.iter().all(|(_, _, mean)| (0.0..=1.0).contains(mean)) => return None,
            _ => Normalize::None,
        },
    };
    (raw.normalize != Normalize::None && raw.normalize != was && !numbers.is_empty()).then(|| {
        format!(
            "`{}`: `{}` is scaled as training has learned it (`normalize: {}`) and not by `normalize: {}`, which takes \
             another training: `train --fresh`",
            raw.file,
            raw.name,
            word(was),
            word(raw.normalize)
        )
    })
}

/// Turns raw columns into a tensor.
///
/// # Errors
/// `unseen-class`, `csv-missing-cell`, `csv-not-a-number` where the data differs in kind from the training data.
pub fn apply(raw: RawSource, learned: &LearnedSource) -> Result<Source> {
    let shape = learned.shape();
    let class_target = raw.role == Role::Target && raw.columns.len() == 1;
    let mut columns = raw.columns;
    if class_target
        && let [RawColumn { cells: Cells::Classes(ids, names), .. }] = columns.as_mut_slice()
        && let [LearnedColumn { encoding: Encoding::Classes { names: known }, .. }] = learned.columns.as_slice()
    {
        let index = translate(names, known)?;
        for id in ids.iter_mut() {
            *id = index.get(*id as usize).copied().ok_or_else(|| errors::missing_class(Place::file(&raw.file)))?;
        }
        let store = Store::Classes(std::mem::take(ids), known.len());
        return Ok(Source { name: raw.name, role: raw.role, shape, reshapes: true, store, units: Vec::new() });
    }
    let width: usize = learned.columns.iter().map(|c| c.encoding.width()).sum();
    let rows = columns.first().map_or(0, |c| match &c.cells {
        Cells::Undecided(n) => *n,
        Cells::Numbers(v) => v.len(),
        Cells::Classes(v, _) => v.len(),
    });
    let mut values = vec![0.0; rows * width];
    let units = if raw.role == Role::Target && learned.is_scaled() { interleave(&columns, rows) } else { Vec::new() };
    let mut offset = 0;
    for (column, lesson) in columns.into_iter().zip(&learned.columns) {
        write_column(column, lesson, raw.missing, &mut values, width, offset)?;
        offset += lesson.encoding.width();
    }
    Ok(Source { name: raw.name, role: raw.role, shape, reshapes: true, store: Store::Numbers(values), units })
}

/// Number columns row by row; empty when a column holds classes.
fn interleave(columns: &[RawColumn], rows: usize) -> Vec<f64> {
    let width = columns.len();
    let mut all = vec![f64::NAN; rows * width];
    for (i, column) in columns.iter().enumerate() {
        match &column.cells {
            Cells::Numbers(values) => {
                for (row, value) in all.chunks_exact_mut(width).zip(values) {
                    row[i] = *value;
                }
            }
            Cells::Undecided(_) => {}
            Cells::Classes(..) => return Vec::new(),
        }
    }
    all
}

#[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
fn write_column(
    column: RawColumn,
    lesson: &LearnedColumn,
    missing: Missing,
    out: &mut [f32],
    width: usize,
    offset: usize,
) -> Result<()> {
    match (column.cells, &lesson.encoding) {
        (Cells::Numbers(values), Encoding::Number { subtract, divide, mean }) => {
            let scaled = lesson.encoding.is_scaled();
            let fill = if missing == Missing::Mean { *mean } else { 0.0 };
            for (row, x) in out.chunks_exact_mut(width).zip(values) {
                let x = if x.is_nan() { fill } else { x };
                row[offset] = if scaled { (x - subtract) / divide } else { x } as f32;
            }
        }
        (Cells::Classes(ids, names), Encoding::Classes { names: known }) => {
            let index = translate(&names, known)?;
            for (row, id) in out.chunks_exact_mut(width).zip(ids) {
                // A missing cell of a one-hot column has no class: a row of zeros.
                if id != NO_CLASS {
                    row[offset + index[id as usize] as usize] = 1.0;
                }
            }
        }
        (Cells::Undecided(rows), Encoding::Number { subtract, divide, mean }) => {
            let fill = if missing == Missing::Mean { *mean } else { 0.0 };
            for row in out.chunks_exact_mut(width).take(rows) {
                row[offset] = ((fill - subtract) / divide) as f32;
            }
        }
        (Cells::Undecided(_), Encoding::Classes { .. }) => {}
        (Cells::Classes(_, names), Encoding::Number { .. }) => {
            let (value, place) = names.list.into_iter().next().unwrap_or_default();
            return Err(errors::not_a_number(place, &value));
        }
        (Cells::Numbers(_), Encoding::Classes { names }) => {
            let place = Place { column: Some(lesson.name.clone()), ..Place::default() };
            return Err(errors::unseen_class(place, "a number", names));
        }
    }
    Ok(())
}

/// Mean and scale; `None` when no value is there.
#[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
fn statistics(values: &[f64], normalize: Normalize) -> Option<Encoding> {
    let there = || values.iter().copied().filter(|x| !x.is_nan());
    let count = there().count();
    if count == 0 {
        return None;
    }
    let mean = there().sum::<f64>() / count as f64;
    let (subtract, divide) = match normalize {
        Normalize::None => (0.0, 1.0),
        Normalize::Standard => (mean, (there().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64).sqrt()),
        Normalize::MinMax => {
            let (low, high) = there().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
            (low, high - low)
        }
    };
    // The spread of a constant column is rounding noise around zero, relative to its size.
    let constant = divide <= mean.abs() * 1e-13;
    Some(Encoding::Number { subtract, divide: if constant { 1.0 } else { divide }, mean })
}

/// Sorted class names. Whole numbers sort by value and fill up to the softmax's width when they all lie below it, so
/// that a class without a training row keeps its place.
fn class_names(names: &Names, softmax_width: Option<u64>) -> Result<Vec<String>> {
    let numbers: Option<Vec<f64>> = names.list.iter().map(|(n, _)| n.parse::<f64>().ok()).collect();
    let Some(numbers) = numbers.filter(|n| n.iter().all(|x| x.is_finite())) else {
        let mut sorted: Vec<String> = names.list.iter().map(|(n, _)| n.clone()).collect();
        sorted.sort();
        return Ok(sorted);
    };
    if let Some(at) = numbers.iter().position(|x| whole(*x).is_none()) {
        let (value, place) = &names.list[at];
        return Err(errors::fractional_class(place.clone(), value));
    }
    let mut sorted: Vec<i64> = numbers.iter().copied().filter_map(whole).collect();
    sorted.sort_unstable();
    sorted.dedup();
    if let Some(width) = softmax_width.and_then(|w| i64::try_from(w).ok())
        && sorted.len() as u64 != width.unsigned_abs()
        && sorted.iter().all(|x| (0..width).contains(x))
    {
        sorted = (0..width).collect();
    }
    Ok(sorted.into_iter().map(|x| x.to_string()).collect())
}

/// The whole number that a value is.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole(x: f64) -> Option<i64> {
    (x.fract() == 0.0 && x.abs() < 9e15).then_some(x as i64)
}

/// Maps ids of appearance to positions among the known classes.
fn translate(names: &Names, known: &[String]) -> Result<Vec<u32>> {
    let find = |name: &str| known.iter().position(|k| k == name);
    names
        .list
        .iter()
        .map(|(name, place)| {
            let canonical = || name.parse::<f64>().ok().and_then(whole).and_then(|x| find(&x.to_string()));
            find(name)
                .or_else(canonical)
                .and_then(|i| u32::try_from(i).ok())
                .ok_or_else(|| errors::unseen_class(place.clone(), name, known))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(values: &[f64], normalize: Normalize) -> (f64, f64, f64) {
        match statistics(values, normalize) {
            Some(Encoding::Number { subtract, divide, mean }) => (subtract, divide, mean),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn statistics_are_of_the_population() {
        assert_eq!(number(&[1.0, 3.0, f64::NAN], Normalize::Standard), (2.0, 1.0, 2.0));
        assert_eq!(number(&[1.0, 3.0], Normalize::MinMax), (1.0, 2.0, 2.0));
        assert_eq!(number(&[1.0, 3.0], Normalize::None), (0.0, 1.0, 2.0));
        assert_eq!(number(&[0.1, 0.1, 0.1], Normalize::Standard).1, 1.0, "a constant column is only centred");
        assert!(statistics(&[f64::NAN], Normalize::Standard).is_none());
    }

    fn names(list: &[&str]) -> Names {
        let mut names = Names::default();
        names.list = list.iter().map(|n| ((*n).to_owned(), Place::default())).collect();
        names
    }

    #[test]
    fn classes_sort_by_kind() {
        let sorted = |list: &[&str], width| class_names(&names(list), width).expect("classes");
        assert_eq!(sorted(&["b", "a", "10"], None), ["10", "a", "b"]);
        assert_eq!(sorted(&["10", "9", "2"], None), ["2", "9", "10"]);
        assert_eq!(sorted(&["1.0", "0.0"], None), ["0", "1"]);
        assert_eq!(sorted(&["0", "2"], Some(4)), ["0", "1", "2", "3"]);
        assert_eq!(sorted(&["5", "7"], Some(2)), ["5", "7"]);
        assert_eq!(class_names(&names(&["0", "0.5"]), Some(2)).err().map(|e| e.id()), Some("not-a-class"));
    }

    #[test]
    fn ids_follow_names() {
        let known = ["0".to_owned(), "1".to_owned()];
        assert_eq!(translate(&names(&["1", "0.0"]), &known), Ok(vec![1, 0]));
        assert_eq!(translate(&names(&["2"]), &known).err().map(|e| e.id()), Some("unseen-class"));
    }
}
