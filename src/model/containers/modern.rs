//! Layers beyond Kur's language, in its style: `upsample`, `pad`, `global_pool`, `layer_normalization`,
//! `position_embedding`, `attention`.

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::out_of_range;
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{LayerKind, PoolKind, Spanned};

use super::Parsed;
use super::convolution::window;

const CELLS: Ty = Ty::AnyOf(&[Ty::Whole(0), Ty::List(&Ty::Whole(0))]);

const PAD: &[Key] = &[
    Key::new("before", CELLS, "zeros before the first cell of each axis, 0 by default"),
    Key::new("after", CELLS, "zeros behind the last cell of each axis, 0 by default"),
];

const NORMALIZATION: &[Key] = &[Key::new("epsilon", Ty::Number(Range::POSITIVE), "added to the variance, 1e-5")];

const ATTENTION: &[Key] = &[
    Key::new("heads", Ty::Whole(1), "heads, 1 by default; divides the features"),
    Key::new("causal", Ty::Bool, "a step sees itself and those before it"),
];

const KINDS: &[&str] = &["max", "average"];

/// `upsample: N` or a list.
pub(super) const UPSAMPLE_FORM: Ty = Ty::Sizes(3);

/// `pad: N`, a list, or a mapping.
pub(super) const PAD_FORM: Ty = Ty::AnyOf(&[Ty::Whole(0), Ty::List(&Ty::Whole(0)), Ty::Map(PAD)]);

/// `global_pool: KIND`.
pub(super) const GLOBAL_POOL_FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Word(KINDS)]);

/// `layer_normalization` or a mapping.
pub(super) const NORMALIZATION_FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Map(NORMALIZATION)]);

/// `position_embedding` alone.
pub(super) const POSITION_FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Map(&[])]);

/// `attention`, `attention: HEADS` or a mapping.
pub(super) const ATTENTION_FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Whole(1), Ty::Map(ATTENTION)]);

/// ε of layer normalisation where none is given (PyTorch).
const EPSILON: f64 = 1e-5;

/// Reads `upsample: 2` or `upsample: [2, 1]`.
pub(super) fn upsample(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    Ok(LayerKind::Upsample { size: window(cx, arg, "the size of `upsample`")? }.into())
}

/// Reads `pad: 1`, `pad: [1, 0]` or `pad: {before: 1, after: [0, 2]}`.
pub(super) fn pad(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if !matches!(arg.kind, Kind::Map(_)) {
        let both = cells(cx, arg, "`pad`")?;
        return Ok(LayerKind::Pad { before: both.clone(), after: both }.into());
    }
    let fields = Fields::open(cx, arg, "`pad`", PAD)?;
    let before = fields.read(cx, "before", cells);
    let after = fields.read(cx, "after", cells);
    let none = Spanned { value: vec![0], span: arg.span };
    Ok(LayerKind::Pad { before: before?.unwrap_or(none.clone()), after: after?.unwrap_or(none) }.into())
}

/// One to three numbers of cells.
fn cells(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Spanned<Vec<u64>>, Reported> {
    let Some(items) = value.as_list() else {
        return Ok(Spanned { value: vec![convert::whole(cx, value, what, 0)?], span: value.span });
    };
    if items.is_empty() || items.len() > 3 {
        return Err(cx.fail(out_of_range(value, what, "one to three whole numbers")));
    }
    let all: Vec<_> = items.iter().map(|v| convert::whole(cx, v, what, 0)).collect();
    Ok(Spanned { value: all.into_iter().collect::<Result<_, _>>()?, span: value.span })
}

/// Reads `global_pool: max`; the average where nothing is said.
pub(super) fn global_pool(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let max = !arg.is_null() && convert::word(cx, arg, "`global_pool`", KINDS)? == 0;
    Ok(LayerKind::GlobalPool { kind: if max { PoolKind::Max } else { PoolKind::Average } }.into())
}

/// Reads `layer_normalization` or `layer_normalization: {epsilon: 1e-5}`.
pub(super) fn layer_normalization(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if arg.is_null() {
        return Ok(LayerKind::LayerNormalization { epsilon: EPSILON }.into());
    }
    let fields = Fields::open(cx, arg, "`layer_normalization`", NORMALIZATION)?;
    let epsilon = fields.read(cx, "epsilon", |cx, v, what| convert::number_in(cx, v, what, Range::POSITIVE))?;
    Ok(LayerKind::LayerNormalization { epsilon: epsilon.unwrap_or(EPSILON) }.into())
}

/// Reads `position_embedding`.
pub(super) fn position_embedding(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if !arg.is_null() {
        Fields::open(cx, arg, "`position_embedding`", &[])?;
    }
    Ok(LayerKind::PositionEmbedding.into())
}

/// Reads `attention: 4` or `attention: {heads: 4, causal: yes}`.
pub(super) fn attention(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let one = Spanned { value: 1, span: arg.span };
    match arg.kind {
        Kind::Null => Ok(LayerKind::Attention { heads: one, causal: false }.into()),
        Kind::Map(_) => {
            let fields = Fields::open(cx, arg, "`attention`", ATTENTION)?;
            let heads = fields
                .read(cx, "heads", |cx, v, what| Ok(Spanned { value: convert::whole(cx, v, what, 1)?, span: v.span }));
            let causal = fields.read(cx, "causal", convert::boolean);
            Ok(LayerKind::Attention { heads: heads?.unwrap_or(one), causal: causal?.unwrap_or(false) }.into())
        }
        _ => {
            let heads = Spanned { value: convert::whole(cx, arg, "the heads of `attention`", 1)?, span: arg.span };
            Ok(LayerKind::Attention { heads, causal: false }.into())
        }
    }
}
