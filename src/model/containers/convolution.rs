//! `convolution` (kur-reference 3.3), and what it shares with `pool`.

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::AtValue;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::{missing_key, not_yet_supported};
use crate::model::types::{Border, LayerKind, Spanned};

use super::Parsed;

/// Keys of the mapping.
pub(super) const PARAMS: &[&str] = &["kernels", "size", "strides", "border", "separable", "activation"];

/// `convolution: {kernels: K, size: S, strides: 1, border: same}`.
pub(super) fn convolution(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if arg.is_null() {
        return Err(cx.fail(missing_key(arg, "`convolution`", "kernels", "kernels: 64")));
    }
    let fields = Fields::open(cx, arg, "`convolution`", PARAMS, &["highway", "bias"])?;
    if let Some(v) = fields.get("separable")
        && convert::boolean(cx, v, &fields.what("separable"))?
    {
        return Err(cx.fail(not_yet_supported(v, "a separable convolution")));
    }
    if let Some(v) = fields.get("activation") {
        return Err(cx.fail(nested_activation(v)));
    }
    let kernels = fields.need(cx, "kernels", "kernels: 64")?;
    let kernels = convert::whole(cx, kernels, &fields.what("kernels"), 1);
    let size = fields.need(cx, "size", "size: [3, 3]")?;
    let size = window(cx, size, &fields.what("size"))?;
    let strides = strides(cx, &fields, size.value.len())?;
    let border = border(cx, &fields, Border::Same)?;
    Ok(LayerKind::Convolution { kernels: kernels?, size, strides, border }.into())
}

fn nested_activation(value: &Value) -> Diagnostic {
    Diagnostic::error("unknown-key", "`convolution` has no key `activation`")
        .at_value(value, "would be ignored")
        .help(format!("write an entry of its own below: `- activation: {}`", value.as_str().unwrap_or("relu")))
}

/// A window of one to three sizes.
pub(super) fn window(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Spanned<Vec<u64>>, Reported> {
    Ok(Spanned { value: convert::sizes(cx, value, what, 3)?, span: value.span })
}

/// One stride for each dimension; a single number holds for all.
pub(super) fn strides(cx: &mut Cx<'_>, fields: &Fields<'_>, rank: usize) -> Result<Vec<u64>, Reported> {
    let Some(value) = fields.get("strides") else { return Ok(vec![1; rank]) };
    let what = fields.what("strides");
    let strides = convert::sizes(cx, value, &what, 3)?;
    match (value.as_list(), strides.as_slice()) {
        (None, [one]) => Ok(vec![*one; rank]),
        _ if strides.len() == rank => Ok(strides),
        _ => {
            let message = format!("{what} has {} numbers, but `size` has {rank}", strides.len());
            let d = Diagnostic::error("invalid-value", message).at_value(value, format!("expected {rank} numbers"));
            Err(cx.fail(d.help("give one stride for each number in `size`, or a single number for all")))
        }
    }
}

/// `same` or `valid`.
pub(super) fn border(cx: &mut Cx<'_>, fields: &Fields<'_>, default: Border) -> Result<Border, Reported> {
    let index = fields.read(cx, "border", |cx, v, what| convert::word(cx, v, what, &["same", "valid"]))?;
    Ok(match index {
        Some(0) => Border::Same,
        Some(_) => Border::Valid,
        None => default,
    })
}
