//! `validate`, `test` and `evaluate`: data, provider, weights (kur-reference 7.1, 7.5).

use kur_runtime::spec::{CsvSpec, SectionSpec};

use crate::diag::Reported;
use crate::frontend::Value;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;

use super::{data, provider, weights};

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
    let known: &[&str] = if name == "evaluate" {
        &["data", "provider", "weights", "destination"]
    } else {
        &["data", "provider", "weights"]
    };
    let fields = Fields::open(cx, value, format!("`{name}`"), known, &["hooks"])?;
    let data = data::read(cx, &fields, inherited);
    let provider = provider::read(cx, &fields);
    let key = if name == "validate" { "best" } else { "initial" };
    let weights = fields.read(cx, "weights", |cx, v, what| weights::one(cx, v, what, key));
    let destination = if name == "evaluate" { fields.read(cx, "destination", convert::path) } else { Ok(None) };
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
