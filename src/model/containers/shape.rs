//! Layers that only move values: `flatten`, `expand`, `squeeze`, `transpose`, `repeat` (kur-reference 3.9–3.11, 3.13).

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Kind};
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::{found, out_of_range};
use crate::model::table::{Key, Ty};
use crate::model::types::{LayerKind, Spanned};

use super::Parsed;

const DIMENSION: &[Key] =
    &[Key::new("dimension", Ty::Integer, "which dimension, counted without the batch; negative from the end")
        .required()];

const TRANSPOSE: &[Key] = &[
    Key::new("axes", Ty::List(&Ty::Whole(0)), "a permutation of 0, 1, …").required(),
    Key::new("include_batch", Ty::Bool, "count the batch as axis 0"),
];

const REPEAT: &[Key] = &[Key::new("count", Ty::Whole(1), "how often").required()];

/// `flatten` alone.
pub(super) const FLATTEN: Ty = Ty::AnyOf(&[Ty::Null, Ty::Map(&[])]);

/// `expand: D` or a mapping; `squeeze` likewise.
pub(super) const EXPAND: Ty = Ty::AnyOf(&[Ty::Integer, Ty::Map(DIMENSION)]);

/// `transpose: [1, 0]` or a mapping.
pub(super) const TRANSPOSE_FORM: Ty = Ty::AnyOf(&[Ty::List(&Ty::Whole(0)), Ty::Map(TRANSPOSE)]);

/// `repeat: N` or a mapping.
pub(super) const REPEAT_FORM: Ty = Ty::AnyOf(&[Ty::Whole(1), Ty::Map(REPEAT)]);

/// `flatten` takes no argument.
pub(super) fn flatten(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    match &arg.kind {
        Kind::Null => Ok(LayerKind::Flatten.into()),
        Kind::Map(m) if m.is_empty() => Ok(LayerKind::Flatten.into()),
        _ => Err(cx.fail(no_argument(arg))),
    }
}

fn no_argument(arg: &Value) -> Diagnostic {
    Diagnostic::error("wrong-type", format!("`flatten` takes no argument, found {}", found(arg)))
        .at_value(arg, "remove this")
        .help("write `- flatten`")
}

/// `expand: D` or `expand: {dimension: D}`.
pub(super) fn expand(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    Ok(LayerKind::Expand { dimension: dimension(cx, arg, "expand")? }.into())
}

/// `squeeze: D` or `squeeze: {dimension: D}`.
pub(super) fn squeeze(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    Ok(LayerKind::Squeeze { dimension: dimension(cx, arg, "squeeze")? }.into())
}

fn dimension(cx: &mut Cx<'_>, arg: &Value, word: &str) -> Result<i64, Reported> {
    match arg.kind {
        Kind::Map(_) => {
            let fields = Fields::open(cx, arg, format!("`{word}`"), DIMENSION)?;
            let value = fields.need(cx, "dimension", "dimension: -1")?;
            convert::integer(cx, value, &fields.what("dimension"))
        }
        _ => convert::integer(cx, arg, &format!("the dimension of `{word}`")),
    }
}

/// `transpose: [1, 0]` or `transpose: {axes: [0, 2, 1], include_batch: yes}`.
pub(super) fn transpose(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if !matches!(arg.kind, Kind::Map(_)) {
        return Ok(LayerKind::Transpose { axes: axes(cx, arg, "`transpose`")?, include_batch: false }.into());
    }
    let fields = Fields::open(cx, arg, "`transpose`", TRANSPOSE)?;
    let axes = fields.need(cx, "axes", "axes: [1, 0]").and_then(|v| axes(cx, v, &fields.what("axes")));
    let include_batch = fields.read(cx, "include_batch", convert::boolean);
    Ok(LayerKind::Transpose { axes: axes?, include_batch: include_batch?.unwrap_or(false) }.into())
}

/// A permutation of 0..n.
fn axes(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Spanned<Vec<u64>>, Reported> {
    let items = convert::list(cx, value, what, "a list of axes, such as [1, 0]")?;
    let all: Vec<_> = items.iter().map(|v| convert::whole(cx, v, &format!("an axis of {what}"), 0)).collect();
    let axes: Vec<u64> = all.into_iter().collect::<Result<_, _>>()?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if axes.is_empty() || sorted.iter().zip(0u64..).any(|(a, i)| *a != i) {
        let expected = match axes.len() {
            0 => "at least one axis".to_owned(),
            1 => "[0]: each axis once".to_owned(),
            n => format!("the axes 0 to {}, each once", n - 1),
        };
        return Err(cx.fail(out_of_range(value, what, &expected)));
    }
    Ok(Spanned { value: axes, span: value.span })
}

/// `repeat: N` or `repeat: {count: N}`.
pub(super) fn repeat(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let count = match arg.kind {
        Kind::Map(_) => {
            let fields = Fields::open(cx, arg, "`repeat`", REPEAT)?;
            let value = fields.need(cx, "count", "count: 3")?;
            convert::whole(cx, value, &fields.what("count"), 1)?
        }
        _ => convert::whole(cx, arg, "the count of `repeat`", 1)?,
    };
    Ok(LayerKind::Repeat { count }.into())
}
