//! `data`: the list of suppliers (kur-reference 6.1 and 6.2).

use kur_runtime::spec::{CsvSpec, FileSpec, SupplierSpec};

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Kind};
use crate::frontend::world::expand_path;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::{not_yet_supported, unknown_key, words};
use crate::model::report::values::{out_of_range, wrong_type};

use super::{csv, mnist};

const KNOWN: &[&str] = &["csv", "mnist"];
const LATER: &[&str] = &["cifar", "jsonl", "pickle", "numpy_dict", "text", "speech_recognition", "mind"];
const COMMON: &[&str] = &["when", "name"];

/// Reads the `data` key of a section; CSV settings that an entry does not give are those of `base`.
pub(super) fn read(cx: &mut Cx<'_>, section: &Fields<'_>, base: &CsvSpec) -> Result<Vec<SupplierSpec>, Reported> {
    let Some(value) = section.get("data") else { return Ok(Vec::new()) };
    let what = section.what("data");
    if let Kind::Map(entries) = &value.kind {
        let supplier =
            entries.iter().find(|e| e.key.as_str().is_some_and(|k| KNOWN.contains(&k) || LATER.contains(&k)));
        return Err(match supplier {
            Some(e) => cx.fail(not_a_list(&e.key, &what)),
            None => cx.fail(not_yet_supported(value, "a section with several named data sets")),
        });
    }
    let items = convert::list(cx, value, &what, "a list of suppliers (`- csv: FILE`)")?;
    let all: Vec<_> = items.iter().map(|item| one(cx, item, base)).collect();
    Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
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
    let mut found = None;
    for e in entries {
        let name = e.key.as_str().unwrap_or_default();
        if LATER.contains(&name) {
            return Err(cx.fail(not_yet_supported(&e.key, &format!("the supplier `{name}`"))));
        }
        match (KNOWN.contains(&name), found) {
            (true, None) => found = Some(e),
            (true, Some(first)) => return Err(cx.fail(two_suppliers(&first.key, &e.key))),
            (false, _) if COMMON.contains(&name) => {}
            (false, _) => return Err(cx.fail(unknown_supplier(&e.key, item))),
        }
    }
    let Some(entry) = found else { return Err(cx.fail(no_supplier(item))) };
    if item.get("when").is_some_and(|v| !v.is_true()) {
        return Ok(None);
    }
    match entry.key.as_str() {
        Some("csv") => csv::read(cx, &entry.value, base).map(|spec| Some(SupplierSpec::Csv(spec))),
        _ => mnist::read(cx, &entry.value).map(Some),
    }
}

fn unknown_supplier(key: &Value, item: &Value) -> Diagnostic {
    let beside = item.as_map().unwrap_or_default().iter().any(|e| e.key.as_str() == Some("csv") && e.value.is_null());
    let name = key.as_str().unwrap_or_default();
    if beside && csv::KEYS.contains(&name) {
        return Diagnostic::error("unknown-key", format!("`{name}` stands beside `csv:` instead of below it"))
            .at_value(key, "not indented enough")
            .help(format!("indent this line deeper than `csv:`, so that `{name}` belongs to it"));
    }
    unknown_key(key, "a supplier entry", &[KNOWN, COMMON].concat())
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
        .note(format!("suppliers are {}", words(KNOWN)))
}

/// A local file with its optional checksum: a path, or `{path, checksum, url}`. Downloads come later, so a `url` only
/// passes when the file is already there.
pub(super) fn file(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Result<FileSpec, Reported> {
    let path = fields.read(cx, "path", convert::path)?;
    let checksum = fields.read(cx, "checksum", checksum)?;
    let here = path.as_ref().is_some_and(|p| cx.world.exists(&expand_path(cx.world, p)));
    match (path, fields.get("url")) {
        (Some(path), url) if here || url.is_none() => Ok(FileSpec { path, checksum }),
        (path, Some(url)) => Err(cx.fail(download(url, path.as_deref()))),
        (_, None) => fields.need(cx, "path", "path: FILE").map(|_| FileSpec::default()),
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

fn download(url: &Value, path: Option<&str>) -> Diagnostic {
    let d = not_yet_supported(url, "downloading data (`url`)");
    match path {
        Some(path) => d.help(format!("download the file yourself and save it as `{path}`")),
        None => d.help("download the file yourself and give its place with `path`"),
    }
}
