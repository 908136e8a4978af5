//! `dropout` and `batch_normalization` (kur-reference 3.7, 3.8).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::not_yet_supported;
use crate::model::report::values::idle_dropout;
use crate::model::types::LayerKind;

use super::Parsed;

/// Keys of the mapping form of `dropout`.
pub(super) const DROPOUT_PARAMS: &[&str] = &["fraction", "independent"];

/// Keys of the mapping form of `batch_normalization`.
pub(super) const BATCH_PARAMS: &[&str] = &["axis", "momentum"];

/// Weight of the old running statistics in an update. Kur never updated them, so this is Keras' default.
const MOMENTUM: f64 = 0.99;

/// `dropout: P` or `dropout: {fraction: P}`.
pub(super) fn dropout(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let (value, what) = match arg.kind {
        Kind::Map(_) => {
            let fields = Fields::open(cx, arg, "`dropout`", DROPOUT_PARAMS, &[])?;
            if let Some(v) = fields.get("independent")
                && !convert::boolean(cx, v, &fields.what("independent"))?
            {
                return Err(cx.fail(not_yet_supported(v, "dropping whole channels (`independent: no`)")));
            }
            (fields.need(cx, "fraction", "fraction: 0.5")?, "`fraction` of `dropout`")
        }
        _ => (arg, "`dropout`"),
    };
    let expected = "a number from 0 up to, but not including, 1";
    let fraction = convert::number_where(cx, value, what, expected, |x| (0.0..1.0).contains(&x))?;
    if fraction == 0.0 {
        cx.push(idle_dropout(value));
    }
    Ok(LayerKind::Dropout { fraction }.into())
}

/// `batch_normalization` or `batch_normalization: {axis: A, momentum: M}`.
pub(super) fn batch_normalization(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if arg.is_null() {
        return Ok(LayerKind::BatchNormalization { axis: -1, momentum: MOMENTUM }.into());
    }
    let fields = Fields::open(cx, arg, "`batch_normalization`", BATCH_PARAMS, &[])?;
    let axis = fields.read(cx, "axis", convert::integer)?.unwrap_or(-1);
    let momentum = fields.read(cx, "momentum", |cx, v, what| {
        convert::number_where(cx, v, what, "a number from 0 up to, but not including, 1", |x| (0.0..1.0).contains(&x))
    })?;
    Ok(LayerKind::BatchNormalization { axis, momentum: momentum.unwrap_or(MOMENTUM) }.into())
}
