//! `dropout` and `batch_normalization` (kur-reference 3.7, 3.8).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::idle_dropout;
use crate::model::table::{Key, Range, Ty};
use crate::model::types::LayerKind;

use super::Parsed;

const DROPOUT: &[Key] = &[
    Key::new("fraction", Ty::Number(Range::FRACTION), "how many values are dropped").required(),
    Key::new("independent", Ty::Bool, "each value on its own (default), or whole channels"),
];

const BATCH: &[Key] = &[
    Key::new("axis", Ty::Integer, "axis that keeps its own statistics; the batch is 0, -1 the last"),
    Key::new("momentum", Ty::Number(Range::FRACTION), "weight of the old running statistics, 0.99 by default"),
];

/// `dropout: P` or a mapping.
pub(super) const DROPOUT_FORM: Ty = Ty::AnyOf(&[Ty::Number(Range::FRACTION), Ty::Map(DROPOUT)]);

/// `batch_normalization` or a mapping.
pub(super) const BATCH_FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Map(BATCH)]);

/// Weight of the old running statistics in an update. Kur never updated them, so this is Keras' default.
const MOMENTUM: f64 = 0.99;

/// `dropout: P` or `dropout: {fraction: P}`.
pub(super) fn dropout(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let mut independent = Ok(None);
    let (value, what) = match arg.kind {
        Kind::Map(_) => {
            let fields = Fields::open(cx, arg, "`dropout`", DROPOUT)?;
            independent = fields.read(cx, "independent", convert::boolean);
            (fields.need(cx, "fraction", "fraction: 0.5")?, "`fraction` of `dropout`")
        }
        _ => (arg, "`dropout`"),
    };
    let fraction = convert::number_in(cx, value, what, Range::FRACTION)?;
    if fraction == 0.0 {
        cx.push(idle_dropout(value));
    }
    Ok(LayerKind::Dropout { fraction, independent: independent?.unwrap_or(true) }.into())
}

/// `batch_normalization` or `batch_normalization: {axis: A, momentum: M}`.
pub(super) fn batch_normalization(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if arg.is_null() {
        return Ok(LayerKind::BatchNormalization { axis: -1, momentum: MOMENTUM }.into());
    }
    let fields = Fields::open(cx, arg, "`batch_normalization`", BATCH)?;
    let axis = fields.read(cx, "axis", convert::integer);
    let momentum = fields.read(cx, "momentum", |cx, v, what| convert::number_in(cx, v, what, Range::FRACTION));
    Ok(LayerKind::BatchNormalization { axis: axis?.unwrap_or(-1), momentum: momentum?.unwrap_or(MOMENTUM) }.into())
}
