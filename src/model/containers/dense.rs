//! `dense` (kur-reference 3.2).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::out_of_range;
use crate::model::types::{LayerKind, Spanned};

use super::Parsed;

/// Keys of the mapping form.
pub(super) const PARAMS: &[&str] = &["size", "flatten"];

/// `dense: N`, `dense: [N1, N2]` or `dense: {size: …, flatten: …}`.
pub(super) fn dense(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let (size, what, flatten) = match arg.kind {
        Kind::Map(_) => {
            let fields = Fields::open(cx, arg, "`dense`", PARAMS, &["highway", "bias"])?;
            let flatten = fields.read(cx, "flatten", convert::boolean)?.unwrap_or(false);
            (fields.need(cx, "size", "size: 10")?, "`size` of `dense`", flatten)
        }
        _ => (arg, "the size of `dense`", false),
    };
    let sizes = match size.as_list() {
        Some([]) => return Err(cx.fail(out_of_range(size, what, "at least one whole number"))),
        Some(items) => {
            let all: Vec<_> = items.iter().map(|v| one(cx, v, what)).collect();
            all.into_iter().collect::<Result<Vec<_>, _>>()?
        }
        None => vec![one(cx, size, what)?],
    };
    Ok(LayerKind::Dense { sizes, flatten }.into())
}

fn one(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Spanned<u64>, Reported> {
    Ok(Spanned { value: convert::whole(cx, value, what, 1)?, span: value.span })
}
