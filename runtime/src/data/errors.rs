//! Every complaint about data, one function each, so that wording can be read in one place. The golden texts are in
//! `tests.rs` beside this file.

use crate::error::{Error, Place, count, did_you_mean, name_list};
use crate::plan::LayerInfo;

/// Cells longer than this are cut in messages.
const CELL_LIMIT: usize = 40;

/// A place in a CSV file; `row` counts data rows from 1.
#[must_use]
pub fn cell_place(file: &str, line: u64, row: u64, column: Option<&str>) -> Place {
    Place { file: file.to_owned(), line: Some(line), row: Some(row), column: column.map(str::to_owned) }
}

/// A section without data, and none on the command line.
#[must_use]
pub fn no_data() -> Error {
    Error::data("no-data", "this section of the Kurfile names no data")
        .help("give a CSV file on the command line, or add `data:` to the section")
}

/// Data that this version cannot read.
#[must_use]
pub fn not_built(what: &str) -> Error {
    Error::data("not-yet-supported", format!("{what} is part of the language, but this version cannot read it yet"))
        .help("give a CSV file on the command line")
}

/// A file of no bytes, or of blank lines.
#[must_use]
pub fn empty_file(file: &str) -> Error {
    Error::data("csv-empty", format!("`{file}` is empty"))
        .help("a CSV file needs a header line and at least one row of values")
}

/// A header and nothing after it.
#[must_use]
pub fn header_only(file: &str) -> Error {
    Error::data("csv-no-rows", format!("`{file}` has a header but no rows"))
        .at(Place { line: Some(1), ..Place::file(file) })
}

/// Bytes that are no UTF-8 text.
#[must_use]
pub fn not_utf8(file: &str, line: Option<u64>, utf16: bool) -> Error {
    let found = if utf16 { "is UTF-16 text" } else { "is not UTF-8 text" };
    Error::data("csv-not-utf8", format!("`{file}` {found}")).at(Place { line, ..Place::file(file) }).help(
        "save it as UTF-8, for example `iconv -f LATIN1 -t UTF-8`"
            .replace("LATIN1", if utf16 { "UTF-16" } else { "LATIN1" }),
    )
}

/// The same name twice in a header.
#[must_use]
pub fn duplicate_column(file: &str, name: &str, first: usize, second: usize) -> Error {
    Error::data("csv-duplicate-column", format!("column name `{name}` stands twice in the header"))
        .at(Place { line: Some(1), ..Place::file(file) })
        .help(format!("columns {} and {} need different names", first + 1, second + 1))
}

/// A row with more or fewer cells than the header.
#[must_use]
pub fn ragged(place: Place, found: usize, expected: usize, lines: u64, delimiter: char) -> Error {
    let cells = |n: usize| count(n as u64, "cell");
    let error =
        Error::data("csv-ragged", format!("row has {}, the header has {}", cells(found), cells(expected))).at(place);
    if lines > 1 {
        return error.help("the row spans several lines: look for a quote that is never closed");
    }
    if found == expected + 1 {
        return error.help(format!(
            "a cell that contains `{delimiter}` needs quotes; a column of row names needs a name in the header"
        ));
    }
    error.help(format!("cells are separated by `{}`", delimiter.escape_default()))
}

/// A quote that runs to the end of the file, in a row that has all its cells.
#[must_use]
pub fn open_quote(place: Place) -> Error {
    Error::data("csv-ragged", "the last cell of this row goes on to the end of the file")
        .at(place)
        .help("look for a quote that is never closed; a quote inside of a quoted cell is written twice")
}

/// A target column in which there is nothing to tell apart.
#[must_use]
pub fn one_class(file: &str, column: &str, class: &str) -> Error {
    let place = Place { column: Some(column.to_owned()), ..Place::file(file) };
    let message = format!("column `{column}` is to be learned, but all its cells are {}", quoted(class));
    Error::data("one-class", message).at(place).help("rows of at least two classes are needed to tell them apart")
}

/// An empty cell under `missing: error`.
#[must_use]
pub fn missing_cell(place: Place) -> Error {
    let column = place.column.clone().unwrap_or_default();
    Error::data("csv-missing-cell", format!("cell in column `{column}` is empty"))
        .at(place)
        .help("`missing: mean`, `zero` or `drop` in the column's group says what an empty cell means")
}

/// Text where a number belongs.
#[must_use]
pub fn not_a_number(place: Place, value: &str) -> Error {
    let column = place.column.clone().unwrap_or_default();
    let error =
        Error::data("csv-not-a-number", format!("{} in column `{column}` is not a number", quoted(value))).at(place);
    let comma = value.replacen(',', ".", 1);
    if comma != value && comma.parse::<f64>().is_ok() {
        return error.help(format!("numbers use a point: {comma}"));
    }
    error.help(format!(
        "for a column of words write `columns: {{NAME: {{column: {column}, one_hot: yes}}}}`; for gaps in the data add `missing: mean`, `zero` or `drop`"
    ))
}

/// NaN or an infinity written in a cell.
#[must_use]
pub fn not_finite(place: Place, value: &str) -> Error {
    let column = place.column.clone().unwrap_or_default();
    Error::data("csv-not-finite", format!("{} in column `{column}` is not a finite number", quoted(value)))
        .at(place)
        .help("training needs finite numbers; for gaps in the data add `missing: mean`, `zero` or `drop`")
}

/// A column that holds no number at all; `text` is its first cell that is not empty, with its place.
#[must_use]
pub fn text_column(file: &str, column: &str, text: Option<&(String, Place)>) -> Error {
    let error = Error::data("csv-text-column", format!("column `{column}` holds no number"));
    match text {
        None => error
            .at(Place { column: Some(column.to_owned()), ..Place::file(file) })
            .help("all its cells are empty: leave the column out, or fill it"),
        Some((text, place)) => error.at(place.clone()).help(format!(
            "{} is a word; for a column of words write `columns: {{NAME: {{column: {column}, one_hot: yes}}}}`, or leave it out",
            quoted(text)
        )),
    }
}

/// `missing: drop` where every row lacks something.
#[must_use]
pub fn none_left(file: &str) -> Error {
    Error::data("csv-no-rows", format!("every row of `{file}` lacks a value, so `missing: drop` leaves none"))
        .at(Place::file(file))
        .help("fill gaps with `missing: mean` or `zero`, or leave out the columns that have most of them")
}

/// A column that the model needs and the header lacks.
#[must_use]
pub fn missing_column(file: &str, column: &str, names: &[String]) -> Error {
    let error = Error::data("csv-missing-column", format!("`{file}` has no column `{column}`"))
        .at(Place { line: Some(1), ..Place::file(file) })
        .help(format!("its columns are {}", name_list(names.iter().map(String::as_str), 12)));
    match did_you_mean(column, names.iter().map(String::as_str)) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// A glob of a group that matches nothing.
#[must_use]
pub fn empty_glob(file: &str, group: &str, pattern: &str, names: &[String]) -> Error {
    Error::data("csv-missing-column", format!("pattern `{pattern}` of group `{group}` matches no column of `{file}`"))
        .at(Place { line: Some(1), ..Place::file(file) })
        .help(format!("its columns are {}", name_list(names.iter().map(String::as_str), 12)))
}

/// A group that names nothing of the model.
#[must_use]
pub fn unknown_group(group: &str, inputs: &[&str], outputs: &[&str]) -> Error {
    let all: Vec<&str> = inputs.iter().chain(outputs).copied().collect();
    let error =
        Error::data("unknown-column-group", format!("column group `{group}` is no input or output of the model")).help(
            format!(
                "inputs: {}; outputs with a loss: {}",
                name_list(inputs.iter().copied(), 8),
                name_list(outputs.iter().copied(), 8)
            ),
        );
    match did_you_mean(group, all) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// Several inputs or targets and nothing that says which columns are whose.
#[must_use]
pub fn ambiguous_columns(file: &str, what: &str, unbound: &[&str], names: &[String]) -> Error {
    let half = names.len().div_ceil(unbound.len().max(1));
    let mut section = "write which columns belong to which, for example\ncolumns:".to_owned();
    for (name, part) in unbound.iter().zip(names.chunks(half.max(1))) {
        section.push_str(&format!("\n  {name}: [{}]", part.join(", ")));
    }
    Error::data(
        "ambiguous-columns",
        format!(
            "the columns of `{file}` cannot be divided among {} {what}: {}",
            unbound.len(),
            name_list(unbound.iter().copied(), 8)
        ),
    )
    .help(section)
}

/// A model input that no supplier feeds.
#[must_use]
pub fn no_source(role: &str, name: &str, offered: &[String]) -> Error {
    let error = Error::data("no-data-for", format!("the data has nothing for {role} `{name}`"))
        .help(format!("it offers {}", name_list(offered.iter().map(String::as_str), 12)));
    match did_you_mean(name, offered.iter().map(String::as_str)) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help(format!("name the {role} like a source of the data, or group columns under `{name}`")),
    }
}

/// A class that training never saw.
#[must_use]
pub fn unseen_class(place: Place, value: &str, classes: &[String]) -> Error {
    let column = place.column.clone().unwrap_or_default();
    let error =
        Error::data("unseen-class", format!("class {} in column `{column}` did not occur in training", quoted(value)))
            .at(place)
            .help(format!("the model knows {}", name_list(classes.iter().map(String::as_str), 12)));
    match did_you_mean(value, classes.iter().map(String::as_str)) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// A CSV file for a model trained on IDX files, or the other way round.
#[must_use]
pub fn other_kind(name: &str, trained_on_csv: bool) -> Error {
    let (trained, given) =
        if trained_on_csv { ("CSV columns", "no CSV file") } else { ("IDX files or arrays", "a CSV file") };
    Error::data("other-data-kind", format!("`{name}` was trained on {trained}, and the data is {given}"))
        .help(format!("values would be scaled in another way; give {trained}, or train anew with `train --fresh`"))
}

/// A broken number where a class belongs.
#[must_use]
pub fn fractional_class(place: Place, value: &str) -> Error {
    let column = place.column.clone().unwrap_or_default();
    Error::data("not-a-class", format!("{} in column `{column}` is not a class", quoted(value)))
        .at(place)
        .help("the targets of a softmax are words or whole numbers; for other numbers end the model without softmax")
}

/// `missing: mean|zero` on a class column.
#[must_use]
pub fn missing_class(place: Place) -> Error {
    let column = place.column.clone().unwrap_or_default();
    Error::data("csv-missing-cell", format!("cell in class column `{column}` is empty"))
        .at(place)
        .help("a class has no mean; `missing: drop` leaves the row out")
}

/// Sources of different length.
#[must_use]
pub fn row_counts(a: &str, rows_a: usize, b: &str, rows_b: usize) -> Error {
    Error::data("row-counts", format!("`{a}` has {}, `{b}` has {rows_b}", count(rows_a as u64, "sample")))
        .help("every source of a section needs the same number of samples")
}

/// Stacked sources of different width.
#[must_use]
pub fn stacked_shapes(file: &str, name: &str, found: usize, expected: usize) -> Error {
    Error::data(
        "stacked-shapes",
        format!("`{file}` gives `{name}` {}, the files before it give {expected}", count(found as u64, "column")),
    )
    .at(Place::file(file))
}

/// Stacked arrays of different shape.
#[must_use]
pub fn stacked_arrays(file: &str, name: &str, found: &str, expected: &str) -> Error {
    Error::data(
        "stacked-shapes",
        format!("`{file}` gives `{name}` samples of the shape {found}, the files before it give {expected}"),
    )
    .at(Place::file(file))
    .help("sources of one name are put one behind the other, so their samples need the same shape")
}

/// A source that several kinds of files give.
#[must_use]
pub fn stacked_kinds(name: &str) -> Error {
    Error::data("stacked-shapes", format!("`{name}` comes from files of several kinds")).help(
        "sources of one name are put one behind the other where one supplier gives them; name one of them otherwise",
    )
}

/// A source under two names in one file.
#[must_use]
pub fn same_source_twice(file: &str, name: &str) -> Error {
    Error::data("stacked-shapes", format!("`{file}` has `{name}` twice, once under another name of the output"))
        .at(Place::file(file))
}

/// A target whose size differs from its output's.
#[must_use]
pub fn target_shape(name: &str, found: &str, expected: &str, classes: Option<&[String]>) -> Error {
    match classes {
        Some(classes) => Error::data(
            "class-count",
            format!(
                "the data has {} for `{name}`, the model's output has {expected}",
                count(classes.len() as u64, "class")
            ),
        )
        .help(format!("the classes are {}", name_list(classes.iter().map(String::as_str), 12)))
        .help(format!("give the last layer {}", count(classes.len() as u64, "unit"))),
        None => {
            Error::data("shape-mismatch", format!("`{name}` has shape {found} in the data, {expected} in the model"))
                .help("compile the Kurfile for this data, or give data of the shape it was compiled for")
        }
    }
}

/// A target that is shorter or longer than its output; `from` is the input that the output's length follows from.
#[must_use]
pub fn target_length(name: &str, found: u64, wanted: u64, from: Option<(&str, u64)>) -> Error {
    let of = from.map_or_else(String::new, |(input, n)| format!(" for {} of `{input}`", steps(n)));
    Error::data("target-length", format!("the target `{name}` has {}, its output has {wanted}{of}", steps(found)))
        .help("give the target of each sample one step for every step of the output, or leave the sample out")
}

/// A sample that is smaller than a window.
#[must_use]
pub fn too_short(name: &str, axis: usize, found: u64, layer: Option<&LayerInfo>, least: Option<u64>) -> Error {
    let size = if axis == 0 { steps(found) } else { format!("size {found} on axis {axis}") };
    let layer = layer.map_or_else(
        || "a layer".to_owned(),
        |l| format!("layer `{}` ({}, line {} of the Kurfile)", l.name, l.kind, l.line),
    );
    let error = Error::data("too-short", format!("a sample of `{name}` has {size}, too few for {layer}"));
    let error = match least {
        Some(least) => error.help(format!("it needs at least {least}; leave out shorter samples, or fill them up")),
        None => error,
    };
    error.help("with `border: same` a layer takes samples of any size")
}

/// A target of varying length for a program that does not expect one.
#[must_use]
pub fn ragged_target(name: &str, size: u64) -> Error {
    let message =
        format!("the samples of the target `{name}` differ in length, the program was built for {size} in each");
    Error::data("target-length", message)
        .help("padding would count as truth; build the program with this data, so that it does not: `kurc build KURFILE --data FILE`")
}

fn steps(n: u64) -> String {
    count(n, "step")
}

/// A file that is no IDX file of the expected kind.
#[must_use]
pub fn bad_idx(file: &str, message: impl Into<String>) -> Error {
    Error::data("idx-format", format!("`{file}` {}", message.into())).at(Place::file(file))
}

/// A cell in backquotes, cut when long.
fn quoted(value: &str) -> String {
    let mut chars = value.chars();
    let head: String = chars.by_ref().take(CELL_LIMIT).collect();
    if chars.next().is_some() { format!("`{head}…`") } else { format!("`{head}`") }
}
