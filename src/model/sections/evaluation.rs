//! `validate`, `test` and `evaluate`: data, provider, weights (kur-reference 7.1, 7.5).

use kur_runtime::spec::{CsvSpec, SectionSpec};

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::table::{self, Key, Ty};
use crate::model::types::Need;

use super::hooks::{EVALUATION_HOOKS, OUTPUT};
use super::{data, provider, weights};

/// `data` of any section.
pub(super) const DATA: Ty = Ty::AnyOf(&[Ty::Suppliers, Ty::Dict(&Ty::Suppliers)]);

/// Keys of `validate`.
pub(crate) const VALIDATE: &[Key] = &[
    Key::new("data", DATA, "suppliers, or named data sets"),
    Key::new("provider", Ty::Map(provider::KEYS), "how batches are made"),
    Key::new("weights", weights::VALIDATE_FORM, "where the best weights are saved"),
    Key::new("hooks", EVALUATION_HOOKS, "what is done with the results").unbuilt(Need::Run),
];

/// Keys of `test`.
pub(crate) const TEST: &[Key] = &[
    Key::new("data", DATA, "suppliers, or named data sets"),
    Key::new("provider", Ty::Map(provider::KEYS), "how batches are made"),
    Key::new("weights", weights::OTHER_FORM, "weights to load"),
    Key::new("hooks", EVALUATION_HOOKS, "what is done with the results").unbuilt(Need::Run),
];

/// Keys of `evaluate`.
pub(crate) const EVALUATE: &[Key] = &[
    Key::new("data", DATA, "suppliers"),
    Key::new("provider", Ty::Map(provider::KEYS), "how batches are made"),
    Key::new("weights", weights::OTHER_FORM, "weights to load"),
    Key::new("destination", Ty::AnyOf(&[Ty::Path, Ty::Map(OUTPUT)]), "file of the results"),
    Key::new("hooks", EVALUATION_HOOKS, "what is done with the results").unbuilt(Need::Run),
];

/// What one of these sections says.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    /// Data and provider.
    pub(crate) section: SectionSpec,
    /// The weights path.
    pub(crate) weights: Option<String>,
    /// `evaluate.destination`.
    pub(crate) destination: Option<String>,
}

/// Reads an evaluated section. CSV settings that it does not give are those of `train` (`inherited`).
pub(crate) fn read(cx: &mut Cx<'_>, name: &str, value: &Value, inherited: &CsvSpec) -> Result<Evaluation, Reported> {
    if value.is_null() {
        return Ok(Evaluation::default());
    }
    let keys = match name {
        "validate" => VALIDATE,
        "test" => TEST,
        _ => EVALUATE,
    };
    let fields = Fields::open_section(cx, value, format!("`{name}`"), keys)?;
    let data = data::read(cx, &fields, inherited);
    let provider = provider::read(cx, &fields);
    let key = if name == "validate" { "best" } else { "initial" };
    let weights = fields.read(cx, "weights", |cx, v, what| weights::one(cx, v, what, key));
    let destination = if name == "evaluate" { fields.read(cx, "destination", destination) } else { Ok(None) };
    let mut provider = provider?;
    if name != "validate" {
        // File order, so that results line up with their rows (kur-reference 6.6).
        provider.randomize = false;
    }
    Ok(Evaluation {
        section: SectionSpec { data: data?, provider },
        weights: weights?.flatten(),
        destination: destination?,
    })
}

/// A path, or an `output` hook's `{path, format}`.
fn destination(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<String, Reported> {
    if !matches!(value.kind, Kind::Map(_)) {
        return convert::path(cx, value, what);
    }
    let fields = Fields::open(cx, value, what, OUTPUT)?;
    if let (Some(format), Some(key)) = (fields.get("format"), OUTPUT.iter().find(|k| k.name == "format")) {
        table::check(cx, format, &key.ty, &fields.what("format"))?;
    }
    fields.need(cx, "path", "path: FILE").and_then(|v| convert::path(cx, v, &fields.what("path")))
}
