//! `flatten`, `expand` and `squeeze` (kur-reference 3.9, 3.10).

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Kind};
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::found;
use crate::model::types::LayerKind;

use super::Parsed;

/// Keys of the mapping form of `expand` and `squeeze`.
pub(super) const PARAMS: &[&str] = &["dimension"];

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
            let fields = Fields::open(cx, arg, format!("`{word}`"), PARAMS, &[])?;
            let value = fields.need(cx, "dimension", "dimension: -1")?;
            convert::integer(cx, value, &fields.what("dimension"))
        }
        _ => convert::integer(cx, arg, &format!("the dimension of `{word}`")),
    }
}
