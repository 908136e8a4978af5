//! `pool` (kur-reference 3.6). The default stride is 1, as in Kur, not the window.

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::table::{Key, Ty};
use crate::model::types::{Border, LayerKind, PoolKind};

use super::Parsed;
use super::convolution::{BORDERS, border, strides, window};

const KINDS: &[&str] = &["max", "average"];

const KEYS: &[Key] = &[
    Key::new("size", Ty::Sizes(3), "window; one to three sizes make it 1-D to 3-D").required(),
    Key::new("strides", Ty::Sizes(3), "step of the window, 1 by default"),
    Key::new("type", Ty::Word(KINDS), "`max` (default) or `average`"),
    Key::new("border", Ty::Word(BORDERS), "`valid` (no padding, default) or `same`"),
];

/// `pool: SIZE` or a mapping.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Sizes(3), Ty::Map(KEYS)]);

/// Reads `pool`.
pub(super) fn pool(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if !matches!(arg.kind, Kind::Map(_)) {
        let size = window(cx, arg, "the size of `pool`")?;
        let strides = vec![1; size.value.len()];
        return Ok(LayerKind::Pool { kind: PoolKind::Max, size, strides, border: Border::Valid }.into());
    }
    let fields = Fields::open(cx, arg, "`pool`", KEYS)?;
    let size = fields.need(cx, "size", "size: [2, 2]")?;
    let size = window(cx, size, &fields.what("size"))?;
    let strides = strides(cx, &fields, size.value.len())?;
    let kind = fields.read(cx, "type", |cx, v, what| convert::word(cx, v, what, KINDS))?;
    let kind = if kind == Some(1) { PoolKind::Average } else { PoolKind::Max };
    let border = border(cx, &fields, Border::Valid)?;
    Ok(LayerKind::Pool { kind, size, strides, border }.into())
}
