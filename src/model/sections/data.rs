//! `data`: the list of suppliers (kur-reference 6.1 and 6.2).

use kur_runtime::spec::{ArrayFormat, CsvSpec, FileSpec, SupplierSpec};

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Entry, Kind};
use crate::frontend::world::expand_path;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::{unknown_key, words};
use crate::model::report::values::{out_of_range, wrong_type};
use crate::model::table;
use crate::model::types::Need;

use super::suppliers::{SOURCE, Supplier};
use super::{csv, mnist};

const COMMON: &[&str] = &["when", "name"];

/// Reads the `data` key of a section; CSV settings that an entry does not give are those of `base`.
pub(super) fn read(cx: &mut Cx<'_>, section: &Fields<'_>, base: &CsvSpec) -> Result<Vec<SupplierSpec>, Reported> {
    let Some(value) = section.get("data") else { return Ok(Vec::new()) };
    let what = section.what("data");
    if let Kind::Map(entries) = &value.kind {
        if let Some(e) = entries.iter().find(|e| e.key.as_str().is_some_and(|k| Supplier::find(k).is_some())) {
            return Err(cx.fail(not_a_list(&e.key, &what)));
        }
        let several = entries.len() > 1;
        let all: Vec<_> = entries.iter().map(|e| list(cx, &e.value, &format!("a data set of {what}"), base)).collect();
        let mut sets = all.into_iter().collect::<Result<Vec<_>, _>>()?;
        if !several {
            return Ok(sets.pop().unwrap_or_default());
        }
        if !matches!(section.name(), "`validate`" | "`test`") {
            return Err(cx.fail(one_data_set(value, &what)));
        }
        let what = "a section with several named data sets";
        cx.unbuilt(Need::Data, value, what);
        return Ok(vec![SupplierSpec::Unbuilt { what: what.to_owned() }]);
    }
    list(cx, value, &what, base)
}

fn list(cx: &mut Cx<'_>, value: &Value, what: &str, base: &CsvSpec) -> Result<Vec<SupplierSpec>, Reported> {
    let items = convert::list(cx, value, what, "a list of suppliers (`- csv: FILE`)")?;
    let all: Vec<_> = items.iter().map(|item| one(cx, item, base)).collect();
    Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn one_data_set(value: &Value, what: &str) -> Diagnostic {
    Diagnostic::error("invalid-value", format!("{what} takes one data set"))
        .at_value(value, "several data sets")
        .help("several data sets, each with a name, are for `validate` and `test`")
}

fn not_a_list(key: &Value, what: &str) -> Diagnostic {
    let name = key.as_str().unwrap_or_default();
    Diagnostic::error("wrong-type", format!("{what} must be a list of suppliers, found a mapping"))
        .at_value(key, "expected `- ` before this")
        .help(format!("write `- {name}: …`"))
}

fn one(cx: &mut Cx<'_>, item: &Value, base: &CsvSpec) -> Result<Option<SupplierSpec>, Reported> {
    let Some(entries) = item.as_map() else {
        return Err(cx.fail(wrong_type(item, "a supplier", "a mapping, such as `csv: FILE`")));
    };
    let mut found: Option<(&Entry, &Supplier)> = None;
    for e in entries {
        let name = e.key.as_str().unwrap_or_default();
        match (Supplier::find(name), found) {
            (Some(s), None) => found = Some((e, s)),
            (Some(_), Some((first, _))) => return Err(cx.fail(two_suppliers(&first.key, &e.key))),
            (None, _) if COMMON.contains(&name) => {}
            (None, _) => return Err(cx.fail(unknown_supplier(&e.key, item))),
        }
    }
    let Some((entry, supplier)) = found else { return Err(cx.fail(no_supplier(item))) };
    if item.get("when").is_some_and(|v| !v.is_true()) {
        return Ok(None);
    }
    match supplier.word {
        "csv" => csv::read(cx, &entry.value, base).map(|spec| Some(SupplierSpec::Csv(spec))),
        "mnist" => mnist::read(cx, &entry.value).map(Some),
        "pickle" => arrays(cx, &entry.value, ArrayFormat::Pickle).map(Some),
        "numpy_dict" => arrays(cx, &entry.value, ArrayFormat::NumpyDict).map(Some),
        "npz" => arrays(cx, &entry.value, ArrayFormat::Npz).map(Some),
        "jsonl" => arrays(cx, &entry.value, ArrayFormat::JsonLines).map(Some),
        word => {
            positional(cx, &entry.value, supplier)?;
            let what = format!("the supplier `{word}`");
            cx.unbuilt(Need::Data, &entry.key, &what);
            Ok(Some(SupplierSpec::Unbuilt { what }))
        }
    }
}

/// Reads the argument of a supplier of named arrays: a path, alone, in a list, or under `source`.
fn arrays(cx: &mut Cx<'_>, arg: &Value, format: ArrayFormat) -> Result<SupplierSpec, Reported> {
    let what = format!("`{}`", format.word());
    let path = match (&arg.kind, arg.as_list()) {
        (_, Some([one])) => convert::path(cx, one, &what)?,
        (_, Some(_)) => return Err(cx.fail(out_of_range(arg, &what, "one path"))),
        (Kind::Map(_), None) => {
            let fields = Fields::open(cx, arg, what, SOURCE)?;
            let value = fields.need(cx, "source", "source: FILE")?;
            convert::path(cx, value, &fields.what("source"))?
        }
        _ => convert::path(cx, arg, &what)?,
    };
    Ok(SupplierSpec::Arrays { format, file: FileSpec { path, checksum: None } })
}

/// Checks the argument of a supplier that is not built. A list gives the first parameters in their order, a single
/// value the first of them (kur-reference 6.1).
fn positional(cx: &mut Cx<'_>, arg: &Value, supplier: &'static Supplier) -> Result<(), Reported> {
    let what = format!("`{}`", supplier.word);
    let keys = supplier.form.keys();
    let items = match &arg.kind {
        Kind::List(items) | Kind::Tuple(items) => items.as_slice(),
        Kind::Map(_) | Kind::Null => &[],
        _ => std::slice::from_ref(arg),
    };
    if items.is_empty() {
        return table::check(cx, arg, &supplier.form, &what);
    }
    if items.len() > keys.len() {
        return Err(cx.fail(out_of_range(arg, &what, &format!("at most {} values", keys.len()))));
    }
    let all: Vec<_> =
        items.iter().zip(keys).map(|(v, k)| table::check(cx, v, &k.ty, &format!("`{}` of {what}", k.name))).collect();
    all.into_iter().collect()
}

fn unknown_supplier(key: &Value, item: &Value) -> Diagnostic {
    let beside = item.as_map().unwrap_or_default().iter().any(|e| e.key.as_str() == Some("csv") && e.value.is_null());
    let name = key.as_str().unwrap_or_default();
    if beside && csv::KEYS.iter().any(|k| k.name == name) {
        return Diagnostic::error("unknown-key", format!("`{name}` stands beside `csv:` instead of below it"))
            .at_value(key, "not indented enough")
            .help(format!("indent this line deeper than `csv:`, so that `{name}` belongs to it"));
    }
    unknown_key(key, "a supplier entry", &[Supplier::words().as_slice(), COMMON].concat())
}

fn two_suppliers(first: &Value, second: &Value) -> Diagnostic {
    let (a, b) = (first.as_str().unwrap_or_default(), second.as_str().unwrap_or_default());
    Diagnostic::error("two-suppliers", format!("one supplier entry is both `{a}` and `{b}`"))
        .at_value(second, "second supplier")
        .also(first.span, "first supplier")
        .help("write two list items, each with its own `- `")
}

fn no_supplier(item: &Value) -> Diagnostic {
    Diagnostic::error("missing-key", "this entry names no supplier")
        .at_value(item, "where does the data come from?")
        .note(format!("suppliers are {}", words(&Supplier::words())))
}

/// A local file with its optional checksum: `{path, checksum, url}`. Downloads are not built; a `url` is only noted
/// when the file is not there.
pub(super) fn file(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Result<FileSpec, Reported> {
    let path = fields.read(cx, "path", convert::path)?;
    let checksum = fields.read(cx, "checksum", checksum)?;
    match (path, fields.get("url")) {
        (Some(path), None) => Ok(FileSpec { path, checksum }),
        (Some(path), Some(url)) => {
            if !cx.world.exists(&expand_path(cx.world, &path)) {
                cx.unbuilt(Need::Data, url, "downloading data (`url`)");
            }
            Ok(FileSpec { path, checksum })
        }
        (None, Some(url)) => {
            cx.unbuilt(Need::Data, url, "downloading data (`url`)");
            // The last part of the address is what the file would be called.
            let name = url.as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            Ok(FileSpec { path: name.to_owned(), checksum })
        }
        (None, None) => fields.need(cx, "path", "path: FILE").map(|_| FileSpec::default()),
    }
}

fn checksum(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<String, Reported> {
    let sum = convert::text(cx, value, what)?;
    if sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit()) {
        Ok(sum)
    } else {
        Err(cx.fail(out_of_range(value, what, "a SHA-256: 64 hexadecimal digits")))
    }
}
