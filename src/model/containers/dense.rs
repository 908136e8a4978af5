//! `dense` (kur-reference 3.2).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::{idle_bias, out_of_range};
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{Highway, LayerKind, Spanned};

use super::Parsed;

const SIZES: Ty = Ty::AnyOf(&[Ty::Whole(1), Ty::List(&Ty::Whole(1))]);

const KEYS: &[Key] = &[
    Key::new("size", SIZES, "units, or units of several layers in a row").required(),
    Key::new("flatten", Ty::Bool, "flatten the input first"),
    Key::new("highway", Ty::Bool, "a highway layer: as many units as the input has"),
    Key::new("bias", Ty::Number(Range::ANY), "fixed bias of the highway's transform gate"),
];

/// `dense: N`, `dense: [N1, N2]` or a mapping.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Whole(1), Ty::List(&Ty::Whole(1)), Ty::Map(KEYS)]);

/// Reads `dense`.
pub(super) fn dense(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let Kind::Map(_) = arg.kind else {
        return Ok(
            LayerKind::Dense { sizes: sizes(cx, arg, "the size of `dense`")?, flatten: false, highway: None }.into()
        );
    };
    let fields = Fields::open(cx, arg, "`dense`", KEYS)?;
    let size = fields.need(cx, "size", "size: 64").and_then(|v| sizes(cx, v, &fields.what("size")));
    let flatten = fields.read(cx, "flatten", convert::boolean);
    let highway = highway(cx, &fields);
    Ok(LayerKind::Dense { sizes: size?, flatten: flatten?.unwrap_or(false), highway: highway? }.into())
}

fn sizes(cx: &mut Cx<'_>, size: &Value, what: &str) -> Result<Vec<Spanned<u64>>, Reported> {
    match size.as_list() {
        Some([]) => Err(cx.fail(out_of_range(size, what, "at least one whole number"))),
        Some(items) => {
            let all: Vec<_> = items.iter().map(|v| one(cx, v, what)).collect();
            all.into_iter().collect()
        }
        None => Ok(vec![one(cx, size, what)?]),
    }
}

fn one(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Spanned<u64>, Reported> {
    Ok(Spanned { value: convert::whole(cx, value, what, 1)?, span: value.span })
}

/// `highway` and the `bias` that only it has.
pub(super) fn highway(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Result<Option<Highway>, Reported> {
    let on = fields.read(cx, "highway", convert::boolean);
    let bias = fields.read(cx, "bias", convert::number);
    let (on, bias) = (on?.unwrap_or(false), bias?);
    if let (false, Some(v)) = (on, fields.get("bias")) {
        cx.push(idle_bias(v));
    }
    Ok(on.then_some(Highway { bias }))
}
