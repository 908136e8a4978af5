//! The sections of a Kurfile: their names, aliases and order of evaluation (kur-reference 1.3 and 1.4).

pub(super) mod csv;
pub(super) mod data;
pub(super) mod evaluation;
pub(super) mod hooks;
pub(super) mod loss;
pub(super) mod mnist;
pub(super) mod optimizer;
pub(super) mod provider;
pub(super) mod settings;
pub(super) mod suppliers;
pub(super) mod train;
pub(super) mod weights;

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::{Entry, Kind};

use super::cx::Cx;
use super::report::keys::{shadowed_section, unknown_section};

/// Canonical names with their other spelling, in the order of evaluation.
pub(super) const SECTIONS: &[(&str, Option<&str>)] = &[
    ("settings", None),
    ("train", Some("training")),
    ("validate", Some("validation")),
    ("test", Some("testing")),
    ("evaluate", Some("evaluation")),
    ("templates", None),
    ("model", None),
    ("loss", None),
];

/// Checks the top-level keys.
pub(super) fn check_names(cx: &mut Cx<'_>, root: &[Entry]) {
    let spellings = |(name, alias): &(&'static str, Option<&'static str>)| [Some(*name), *alias];
    let known: Vec<&str> = SECTIONS.iter().flat_map(spellings).flatten().collect();
    for e in root {
        let name = e.key.as_str().unwrap_or_default();
        if !known.contains(&name) {
            let canonical: Vec<&str> = SECTIONS.iter().map(|(n, _)| *n).collect();
            let near = crate::diag::did_you_mean(name, known.iter().copied());
            cx.push(unknown_section(&e.key, if near.is_some() { &known } else { &canonical }));
        }
    }
}

/// A section's canonical name and its other spelling.
pub(super) fn spellings(name: &'static str) -> impl Iterator<Item = &'static str> {
    let alias = SECTIONS.iter().find(|(n, _)| *n == name).and_then(|(_, alias)| *alias);
    [Some(name), alias].into_iter().flatten()
}

/// Whether a name is one of the sections with data, in any spelling.
pub(super) fn is_data_section(name: &str) -> bool {
    SECTIONS.iter().any(|(n, alias)| alias.is_some_and(|a| *n == name || a == name))
}

/// Finds a section under either spelling.
pub(super) fn find<'v>(cx: &mut Cx<'_>, root: &'v Value, name: &str) -> Option<&'v Entry> {
    let alias = SECTIONS.iter().find(|(n, _)| *n == name).and_then(|(_, a)| *a);
    let canonical = root.entry(name);
    let other = alias.and_then(|a| root.entry(a));
    if let (Some(c), Some(o)) = (canonical, other) {
        cx.push(shadowed_section(&o.key, &c.key));
    }
    canonical.or(other)
}

/// Evaluates a section key by key. Its own raw value is in scope under its name, with the keys before already
/// evaluated, so that `settings.b` may compute with `settings.a`; with `spread` the keys are in scope themselves.
///
/// A key that cannot be evaluated is reported and left out; the flag says whether that happened.
pub(super) fn evaluate(cx: &mut Cx<'_>, section: &Entry, spread: bool) -> (Value, Result<(), Reported>) {
    let name = section.key.as_str().unwrap_or_default();
    let outer = cx.scope.clone();
    let mut so_far = section.value.clone();
    let mut state = Ok(());
    let out = match &section.value.kind {
        Kind::Map(entries) => {
            let mut out = Vec::new();
            for (i, e) in entries.iter().enumerate() {
                cx.scope = outer.clone();
                if spread {
                    let keys = so_far.as_map().unwrap_or_default();
                    keys.iter()
                        .filter_map(|e| Some((e.key.as_str()?, &e.value)))
                        .for_each(|(k, v)| cx.scope.push(k, v));
                }
                cx.scope.push(name, &so_far);
                match cx.deep(&e.value) {
                    Ok(value) => {
                        if let Kind::Map(done) = &mut so_far.kind {
                            done[i].value = value.clone();
                        }
                        out.push(Entry { key: e.key.clone(), value });
                    }
                    Err(r) => state = Err(r),
                }
            }
            section.value.with_kind(Kind::Map(out))
        }
        _ => match cx.deep(&section.value) {
            Ok(value) => value,
            Err(r) => {
                state = Err(r);
                section.value.with_kind(Kind::Null)
            }
        },
    };
    cx.scope = outer;
    (out, state)
}
