//! Warnings about what is legal, but has no effect or is hardly meant.
//!
//! Comes in: the value tree before evaluation and the typed Kurfile. Goes out: warnings, never errors. A warning must
//! not cry wolf: what a template, a name or an include may have a reason for is left alone.

mod includes;
mod layers;
mod training;
mod usage;

pub(super) use includes::check as check_includes;

use crate::diag::Span;
use crate::frontend::Value;

use super::cx::Cx;
use super::types::Kurfile;

/// Looks a Kurfile without mistakes over. `root` is its value tree before evaluation.
///
/// Warnings: `unused-setting`, `unused-template`, `idle-layer`, `repeated-activation`, `relu-before-softmax`,
/// `dropout-at-output`, `untrained-output`, `same-data`.
pub(super) fn check(cx: &mut Cx<'_>, root: &Value, kurfile: &Kurfile) {
    usage::check(cx, root);
    layers::check(cx, kurfile);
    training::check(cx, kurfile);
}

/// Whether a template is written at a place: its value may be another one elsewhere.
fn computed(cx: &Cx<'_>, span: Span) -> bool {
    let text = cx.sources.text(span.file).get(span.start as usize..span.end as usize);
    text.is_none_or(|t| t.contains("{{") || t.contains("{%"))
}
