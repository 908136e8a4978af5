//! The `csv` supplier (kur-reference 6.2, and `columns`, `normalize`, `missing`, which Kur lacked).

use kur_runtime::spec::{ColumnGroup, CsvSpec, FileSpec, Missing, Normalize};

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Kind};
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::{out_of_range, wrong_type};
use crate::model::table::{Key, Ty};

use super::data::file;

const NORMALIZE: &[&str] = &["standard", "minmax", "none"];
const MISSING: &[&str] = &["error", "mean", "zero", "drop"];

const NAMES: Ty = Ty::AnyOf(&[Ty::Text, Ty::List(&Ty::Text)]);
const NORMALIZE_FORM: Ty = Ty::AnyOf(&[Ty::Word(NORMALIZE), Ty::Bool]);
const MISSING_FORM: Ty = Ty::AnyOf(&[Ty::Word(MISSING), Ty::Whole(0)]);

/// Keys of the mapping form.
pub(super) const KEYS: &[Key] = &[
    Key::new("path", Ty::Path, "the file"),
    Key::new("url", Ty::Text, "where the file can be fetched from"),
    Key::new("checksum", Ty::Text, "SHA-256 of the file"),
    Key::new("format", Ty::Map(FORMAT), "separator and quote, when they should not be guessed"),
    Key::new("header", Ty::Bool, "the first row names the columns (default)"),
    Key::new("columns", Ty::Dict(&GROUP_FORM), "named groups of columns, one for each input and target"),
    Key::new(
        "normalize",
        NORMALIZE_FORM,
        "scaling of the inputs, learned on training data, unless their group has its own",
    ),
    Key::new("missing", MISSING_FORM, "what an empty cell means, unless its group says it; targets are only dropped"),
    // Known for their error only.
    Key::new("delimiter", Ty::Any, ""),
    Key::new("separator", Ty::Any, ""),
    Key::new("seperator", Ty::Any, ""),
    Key::new("sep", Ty::Any, ""),
    Key::new("quote", Ty::Any, ""),
];

const FORMAT: &[Key] =
    &[Key::new("delimiter", Ty::Text, "one character, or `tab`"), Key::new("quote", Ty::Text, "one character")];

/// Words for what belongs under `format`.
const MISPLACED: &[(&str, &str)] = &[
    ("delimiter", "delimiter"),
    ("separator", "delimiter"),
    ("seperator", "delimiter"),
    ("sep", "delimiter"),
    ("quote", "quote"),
];

const GROUP: &[Key] = &[
    Key::new("from", NAMES, "header names and globs"),
    Key::new("column", Ty::Text, "a single column"),
    Key::new("normalize", NORMALIZE_FORM, "scaling, learned on training data; for inputs that of `csv` by default"),
    Key::new("missing", MISSING_FORM, "what an empty cell means, by default as in `csv`"),
    Key::new("one_hot", Ty::Bool, "one column per class"),
];

const GROUP_FORM: Ty = Ty::AnyOf(&[Ty::Text, Ty::List(&Ty::Text), Ty::Map(GROUP)]);

/// `csv: FILE`, a list of it, or a mapping.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Path, Ty::List(&Ty::Any), Ty::Map(KEYS)]);

/// Reads `csv: FILE` or `csv: {path: FILE, …}`; what is not given is taken from `base`.
pub(super) fn read(cx: &mut Cx<'_>, arg: &Value, base: &CsvSpec) -> Result<CsvSpec, Reported> {
    if let Some(items) = arg.as_list() {
        return match items {
            [path] => read(cx, path, base),
            _ => Err(cx.fail(wrong_type(arg, "`csv`", "a path or a mapping with `path`"))),
        };
    }
    if !matches!(arg.kind, Kind::Map(_)) {
        let path = convert::path(cx, arg, "`csv`")?;
        return Ok(CsvSpec { file: FileSpec { path, checksum: None }, ..base.clone() });
    }
    for e in arg.as_map().unwrap_or_default() {
        if let Some((word, meant)) = MISPLACED.iter().find(|(w, _)| e.key.as_str() == Some(w)) {
            cx.push(misplaced(&e.key, word, meant));
        }
    }
    let fields = Fields::open(cx, arg, "`csv`", KEYS)?;
    let file = file(cx, &fields);
    let header = fields.read(cx, "header", convert::boolean);
    let normalize = fields.read(cx, "normalize", normalize);
    let missing = fields.read(cx, "missing", missing);
    let columns = fields.read(cx, "columns", columns);
    let (mut delimiter, mut quote) = (base.delimiter, base.quote);
    if let Some(v) = fields.get("format") {
        let format = Fields::open(cx, v, fields.what("format"), FORMAT)?;
        delimiter = format.read(cx, "delimiter", one_byte)?.or(delimiter);
        quote = format.read(cx, "quote", one_byte)?.or(quote);
    }
    Ok(CsvSpec {
        file: file?,
        delimiter,
        quote,
        header: header?.unwrap_or(base.header),
        columns: columns?.unwrap_or_else(|| base.columns.clone()),
        normalize: normalize?.unwrap_or(base.normalize),
        missing: missing?.unwrap_or(base.missing),
    })
}

/// A single ASCII character; `tab` and `\t` name the tab.
fn one_byte(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<u8, Reported> {
    let text = match &value.kind {
        Kind::Str(s, _) => s.to_string(),
        _ => convert::text(cx, value, what)?,
    };
    match text.as_bytes() {
        [one] if one.is_ascii() && *one != b'\n' => Ok(*one),
        b"tab" | b"\\t" => Ok(b'\t'),
        _ => Err(cx.fail(out_of_range(value, what, "a single character"))),
    }
}

fn normalize(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Normalize, Reported> {
    match value.kind {
        Kind::Bool(false) => Ok(Normalize::None),
        _ => Ok(match convert::word(cx, value, what, NORMALIZE)? {
            0 => Normalize::Standard,
            1 => Normalize::MinMax,
            _ => Normalize::None,
        }),
    }
}

fn missing(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Missing, Reported> {
    match value.kind {
        // `missing: 0` can only mean one thing.
        Kind::Int(0) => Ok(Missing::Zero),
        _ => Ok(match convert::word(cx, value, what, MISSING)? {
            0 => Missing::Error,
            1 => Missing::Mean,
            2 => Missing::Zero,
            _ => Missing::Drop,
        }),
    }
}

fn columns(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Vec<ColumnGroup>, Reported> {
    let Some(entries) = value.as_map() else {
        return Err(cx.fail(wrong_type(value, what, "a mapping (`NAME: [column, …]` lines)")));
    };
    let all: Vec<_> = entries
        .iter()
        .map(|e| {
            let name = convert::text(cx, &e.key, "the name of a column group")?;
            group(cx, name, &e.value)
        })
        .collect();
    all.into_iter().collect()
}

fn group(cx: &mut Cx<'_>, name: String, value: &Value) -> Result<ColumnGroup, Reported> {
    let what = format!("the column group `{name}`");
    let mut group = ColumnGroup { name, from: Vec::new(), normalize: None, missing: None, one_hot: None };
    let Kind::Map(_) = value.kind else {
        group.from = column_names(cx, value, &what)?;
        return Ok(group);
    };
    let fields = Fields::open(cx, value, what.clone(), GROUP)?;
    let from = match (fields.get("from"), fields.get("column")) {
        (Some(_), Some(column)) => Err(cx.fail(from_and_column(column, &what))),
        (Some(v), None) => column_names(cx, v, &fields.what("from")),
        (None, Some(v)) => convert::text(cx, v, &fields.what("column")).map(|c| vec![c]),
        (None, None) => fields.need(cx, "from", "from: [COLUMN, …]").map(|_| Vec::new()),
    };
    let normalize = fields.read(cx, "normalize", normalize);
    let missing = fields.read(cx, "missing", missing);
    let one_hot = fields.read(cx, "one_hot", convert::boolean);
    group.from = from?;
    group.normalize = normalize?;
    group.missing = missing?;
    group.one_hot = one_hot?;
    Ok(group)
}

fn column_names(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Vec<String>, Reported> {
    match value.as_list() {
        Some([]) => Err(cx.fail(out_of_range(value, what, "at least one column"))),
        Some(items) => {
            let all: Vec<_> = items.iter().map(|v| convert::text(cx, v, "a column name")).collect();
            all.into_iter().collect()
        }
        None if value.is_null() => Err(cx.fail(wrong_type(value, what, "a list of columns"))),
        None => Ok(vec![convert::text(cx, value, what)?]),
    }
}

fn misplaced(key: &Value, word: &str, meant: &str) -> Diagnostic {
    Diagnostic::error("unknown-key", format!("`csv` has no key `{word}`"))
        .at_value(key, "unknown key")
        .help(format!("write `format: {{{meant}: …}}`"))
}

fn from_and_column(column: &Value, what: &str) -> Diagnostic {
    Diagnostic::error("invalid-value", format!("{what} has both `from` and `column`"))
        .at_value(column, "one of the two is enough")
        .help("use `from` for several columns and `column` for one")
}
