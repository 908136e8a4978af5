//! `for` (kur-reference 4): its body once for each index.

use crate::diag::Reported;
use crate::frontend::Value;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;

/// Keys of the mapping.
pub(super) const PARAMS: &[&str] = &["range", "with_index", "iterate"];

/// A loop whose body is still as written.
pub(super) struct Loop<'v> {
    /// How often.
    pub(super) range: u64,
    /// Name of the index.
    pub(super) index: String,
    /// The body.
    pub(super) body: &'v [Value],
}

/// Reads `for: {range: N, with_index: VAR, iterate: […]}`. The body is evaluated later, with the index in scope.
pub(super) fn read<'v>(cx: &mut Cx<'_>, arg: &'v Value) -> Result<Loop<'v>, Reported> {
    let fields = Fields::open(cx, arg, "`for`", PARAMS, &[])?;
    let range = fields.need(cx, "range", "range: 3")?;
    let range = cx.deep(range).and_then(|v| convert::whole(cx, &v, &fields.what("range"), 0));
    let index = match fields.get("with_index") {
        Some(v) => {
            let v = cx.eval(v)?;
            convert::text(cx, &v, &fields.what("with_index"))?
        }
        None => "index".to_owned(),
    };
    let body = fields.need(cx, "iterate", "iterate: [dense: 10]")?;
    let body = convert::list(cx, body, &fields.what("iterate"), "a list of layers")?;
    Ok(Loop { range: range?, index, body })
}
