//! `merge` (kur-reference 3.12).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::table::{Key, Ty};
use crate::model::types::{LayerKind, MergeMode};

use super::Parsed;

/// Ways to join values.
pub(super) const MODES: &[&str] = &["multiply", "add", "concat", "average"];

const KEYS: &[Key] = &[
    Key::new("mode", Ty::Word(MODES), "how values are joined, `concat` by default"),
    Key::new("axis", Ty::Integer, "axis of `concat`, -1 (the last) by default; the batch is 0"),
];

/// `merge: MODE` or a mapping.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Word(MODES), Ty::Map(KEYS)]);

/// Reads `merge`. Kur required `axis` in the mapping form; here it is -1 as in the short one.
pub(super) fn merge(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let (join, axis) = match arg.kind {
        Kind::Null => (Ok(None), Ok(None)),
        Kind::Map(_) => {
            let fields = Fields::open(cx, arg, "`merge`", KEYS)?;
            (fields.read(cx, "mode", mode), fields.read(cx, "axis", convert::integer))
        }
        _ => (mode(cx, arg, "`merge`").map(Some), Ok(None)),
    };
    Ok(LayerKind::Merge { mode: join?.unwrap_or(MergeMode::Concat), axis: axis?.unwrap_or(-1) }.into())
}

/// A mode by its name.
pub(super) fn mode(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<MergeMode, Reported> {
    Ok(match convert::word(cx, value, what, MODES)? {
        0 => MergeMode::Multiply,
        1 => MergeMode::Add,
        2 => MergeMode::Concat,
        _ => MergeMode::Average,
    })
}
