//! `convolution` (kur-reference 3.3), and what it shares with `pool`.

use crate::diag::{Diagnostic, Reported, count};
use crate::frontend::Value;
use crate::frontend::value::AtValue;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::missing_key;
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{Border, Highway, LayerKind, Spanned};

use super::Parsed;
use super::dense::highway;

/// Words of `border`.
pub(super) const BORDERS: &[&str] = &["same", "valid"];

const KEYS: &[Key] = &[
    Key::new("kernels", Ty::Whole(1), "output channels").required(),
    Key::new("size", Ty::Sizes(3), "window; one to three sizes make it 1-D to 3-D").required(),
    Key::new("strides", Ty::Sizes(3), "step of the window, 1 by default"),
    Key::new("dilation", Ty::Sizes(3), "distance between the cells of the window, 1 by default"),
    Key::new("border", Ty::Word(BORDERS), "`same` (zero padding, default) or `valid` (none)"),
    Key::new("separable", Ty::Bool, "each input channel on its own"),
    Key::new("highway", Ty::Bool, "a highway layer: as many kernels as the input has channels"),
    Key::new("bias", Ty::Number(Range::ANY), "fixed bias of the highway's transform gate, -1 by default"),
    // Known so that the error can say what to write; never part of the schema.
    Key::new("activation", Ty::Any, ""),
];

/// Bias of the transform gate where none is given.
const GATE_BIAS: f64 = -1.0;

/// A mapping.
pub(super) const FORM: Ty = Ty::Map(KEYS);

/// Reads `convolution`.
pub(super) fn convolution(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if arg.is_null() {
        return Err(cx.fail(missing_key(arg, "`convolution`", "kernels", "kernels: 64")));
    }
    let fields = Fields::open(cx, arg, "`convolution`", KEYS)?;
    if let Some(v) = fields.get("activation") {
        return Err(cx.fail(nested_activation(v)));
    }
    let kernels = fields.need(cx, "kernels", "kernels: 64");
    let kernels = kernels.and_then(|v| convert::whole(cx, v, &fields.what("kernels"), 1));
    let size = fields.need(cx, "size", "size: [3, 3]");
    let size = size.and_then(|v| window(cx, v, &fields.what("size")));
    let separable = fields.read(cx, "separable", convert::boolean);
    // The gate's bias is never trained (3.3).
    let fixed = |h: Highway| Highway { bias: h.bias.or(Some(GATE_BIAS)) };
    let highway = highway(cx, &fields).map(|h| h.map(fixed));
    let border = border(cx, &fields, Border::Same);
    let size = size?;
    let strides = each(cx, &fields, "strides", size.value.len());
    let dilation = each(cx, &fields, "dilation", size.value.len());
    Ok(LayerKind::Convolution {
        kernels: kernels?,
        size,
        strides: strides?,
        dilation: dilation?,
        border: border?,
        separable: separable?.unwrap_or(false),
        highway: highway?,
    }
    .into())
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
    each(cx, fields, "strides", rank)
}

/// One number for each dimension, 1 by default; a single number holds for all.
fn each(cx: &mut Cx<'_>, fields: &Fields<'_>, key: &str, rank: usize) -> Result<Vec<u64>, Reported> {
    let Some(value) = fields.get(key) else { return Ok(vec![1; rank]) };
    let what = fields.what(key);
    let all = convert::sizes(cx, value, &what, 3)?;
    match (value.as_list(), all.as_slice()) {
        (None, [one]) => Ok(vec![*one; rank]),
        _ if all.len() == rank => Ok(all),
        _ => {
            let message = format!("{what} has {}, but `size` has {rank}", count(all.len(), "number"));
            let expected = format!("expected {}", count(rank, "number"));
            let d = Diagnostic::error("invalid-value", message).at_value(value, expected);
            let one = if key == "strides" { "one stride" } else { "one" };
            Err(cx.fail(d.help(format!("give {one} for each number in `size`, or a single number for all"))))
        }
    }
}

/// `same` or `valid`.
pub(super) fn border(cx: &mut Cx<'_>, fields: &Fields<'_>, default: Border) -> Result<Border, Reported> {
    let index = fields.read(cx, "border", |cx, v, what| convert::word(cx, v, what, BORDERS))?;
    Ok(match index {
        Some(0) => Border::Same,
        Some(_) => Border::Valid,
        None => default,
    })
}
