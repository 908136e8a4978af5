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

use crate::frontend::Value;
use crate::frontend::value::Entry;

use super::cx::Cx;
use super::report::keys::{shadowed_section, unknown_section};
use super::table::{Key, Ty};

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

const METHODS: &[&str] = &["blend", "merge", "concat"];

const INCLUDE_KEYS: &[Key] = &[
    Key::new("source", Ty::AnyOf(&[Ty::Text, Ty::List(&Ty::Text)]), "file or pattern, or a list of them").required(),
    Key::new("method", Ty::Word(METHODS), "how values of both files are joined, `blend` by default"),
];

/// `include`, which is read by [`crate::frontend::include`] before there are tables.
pub(super) const INCLUDE: Ty =
    Ty::AnyOf(&[Ty::Null, Ty::Text, Ty::Map(INCLUDE_KEYS), Ty::List(&Ty::AnyOf(&[Ty::Text, Ty::Map(INCLUDE_KEYS)]))]);

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
