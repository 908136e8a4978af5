//! `input` and `output` (kur-reference 3.1, 3.17).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::not_yet_supported;
use crate::model::report::values::wrong_type;
use crate::model::types::{LayerKind, Spanned};

use super::Parsed;

/// Keys of the mapping form of `input`.
pub(super) const PARAMS: &[&str] = &["shape", "type", "name"];

/// Keys of the mapping form of `output`.
pub(super) const OUTPUT_PARAMS: &[&str] = &["name"];

/// `input: NAME` or `input: {shape: S}`.
pub(super) fn input(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if !matches!(arg.kind, Kind::Map(_)) {
        return Ok(Parsed { kind: LayerKind::Input { shape: None }, name: short_name(cx, arg, "`input`")? });
    }
    let fields = Fields::open(cx, arg, "`input`", PARAMS, &[])?;
    if let Some(kind) = fields.get("type") {
        // Kur's default; everything is computed in this type.
        if kind.as_str() != Some("float32") {
            return Err(cx.fail(not_yet_supported(kind, "an input of another type than `float32`")));
        }
    }
    let shape = fields.read(cx, "shape", |cx, v, what| Ok(Spanned { value: shape(cx, v, what)?, span: v.span }))?;
    Ok(Parsed { kind: LayerKind::Input { shape }, name: fields.get("name").cloned() })
}

/// The shape without the batch. An empty one is that of a scalar column, which becomes a vector of one.
fn shape(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Vec<Option<u64>>, Reported> {
    let Some(items) = value.as_list() else { return Ok(vec![Some(convert::whole(cx, value, what, 1)?)]) };
    if items.is_empty() {
        return Ok(vec![Some(1)]);
    }
    let one =
        |cx: &mut Cx<'_>, v: &Value| if v.is_null() { Ok(None) } else { convert::whole(cx, v, what, 1).map(Some) };
    let all: Vec<_> = items.iter().map(|v| one(cx, v)).collect();
    all.into_iter().collect()
}

/// `output: NAME`, `output: {name: NAME}` or `output:` with a `name` beside it.
pub(super) fn output(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let name = match arg.kind {
        Kind::Map(_) => Fields::open(cx, arg, "`output`", OUTPUT_PARAMS, &[])?.get("name").cloned(),
        _ => short_name(cx, arg, "`output`")?,
    };
    Ok(Parsed { kind: LayerKind::Output, name })
}

fn short_name(cx: &mut Cx<'_>, arg: &Value, what: &str) -> Result<Option<Value>, Reported> {
    if arg.is_null() {
        return Ok(None);
    }
    match arg.kind {
        Kind::List(_) | Kind::Tuple(_) => Err(cx.fail(wrong_type(arg, what, "a name"))),
        _ => convert::text(cx, arg, what).map(|text| Some(Value::text(&text, arg.span))),
    }
}
