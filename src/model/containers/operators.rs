//! `debug` and `assert` (kur-reference 4): containers that make no layer.

use crate::diag::Diagnostic;
use crate::frontend::Value;
use crate::frontend::python;
use crate::frontend::value::{AtValue, Entry};
use crate::model::cx::Cx;
use crate::model::table::Ty;
use crate::model::types::Spanned;

/// A message.
pub(super) const DEBUG: Ty = Ty::Any;

/// A condition.
pub(super) const ASSERT: Ty = Ty::Any;

/// `debug: MSG`: the evaluated message.
pub(super) fn debug(cx: &mut Cx<'_>, arg: &Entry) {
    if let Ok(v) = cx.deep(&arg.value) {
        let span = cx.pair_span(&arg.key, &arg.value);
        cx.messages.push(Spanned { value: python::str_of(&v), span });
    }
}

/// `assert: COND`: an error unless the condition is true.
pub(super) fn assert(cx: &mut Cx<'_>, arg: &Entry) {
    let Ok(v) = cx.deep(&arg.value) else { return };
    if !v.is_true() {
        cx.push(failed(&arg.value, &v));
    }
}

fn failed(written: &Value, value: &Value) -> Diagnostic {
    let shown = python::repr(value);
    let d = Diagnostic::error("assertion-failed", "this assertion does not hold")
        .at_value(written, format!("evaluates to {shown}"));
    match written.as_str() {
        Some(text) if text.contains("{{") => d.help("change the values it compares, or remove the `assert`"),
        _ => d.help("write a condition as a template, such as `assert: \"{{ size > 0 }}\"`"),
    }
}
