//! `train.optimizer` (kur-reference 5.3).

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Kind};
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::not_yet_supported;
use crate::model::report::values::{unknown_word, wrong_type};
use crate::model::types::{Clip, Optimizer, OptimizerKind};

const KNOWN: &[&str] = &["adam", "sgd"];
const LATER: &[&str] = &["rmsprop", "adadelta"];
const KEYS: &[&str] = &["name", "learning_rate", "decay", "clip", "momentum", "nesterov"];
const LATER_KEYS: &[&str] = &["scale_rate", "scale_mode"];

impl Default for Optimizer {
    /// Adam with learning rate 0.001.
    fn default() -> Self {
        Optimizer { kind: OptimizerKind::Adam, learning_rate: 0.001, decay: 0.0, clip: Clip::None }
    }
}

/// Reads `optimizer: NAME` or `optimizer: {name: NAME, …}`.
pub(super) fn read(cx: &mut Cx<'_>, value: &Value) -> Result<Optimizer, Reported> {
    let Kind::Map(_) = value.kind else {
        let sgd = name(cx, value)?;
        return Ok(if sgd { plain_sgd() } else { Optimizer::default() });
    };
    let sgd = match value.get("name").filter(|v| !v.is_null()) {
        Some(v) => name(cx, v)?,
        None => false,
    };
    let (what, base) =
        if sgd { ("the optimizer `sgd`", plain_sgd()) } else { ("the optimizer `adam`", Optimizer::default()) };
    let fields = Fields::open(cx, value, what, KEYS, LATER_KEYS)?;
    if !sgd {
        for e in value.as_map().unwrap_or_default() {
            if let Some(key @ ("momentum" | "nesterov")) = e.key.as_str() {
                cx.push(sgd_only(&e.key, key));
            }
        }
    }
    let at_least_0 = |cx: &mut Cx<'_>, v: &Value, what: &str| {
        convert::number_where(cx, v, what, "a number of at least 0", |x| x >= 0.0)
    };
    let rate = fields.read(cx, "learning_rate", |cx, v, what| {
        convert::number_where(cx, v, what, "a number greater than 0", |x| x > 0.0)
    });
    let decay = fields.read(cx, "decay", at_least_0);
    let clip = fields.read(cx, "clip", clip);
    let kind = if sgd {
        let momentum = fields.read(cx, "momentum", at_least_0);
        let nesterov = fields.read(cx, "nesterov", convert::boolean);
        OptimizerKind::Sgd { momentum: momentum?.unwrap_or(0.0), nesterov: nesterov?.unwrap_or(false) }
    } else {
        base.kind
    };
    Ok(Optimizer {
        kind,
        learning_rate: rate?.unwrap_or(base.learning_rate),
        decay: decay?.unwrap_or(base.decay),
        clip: clip?.unwrap_or(base.clip),
    })
}

fn plain_sgd() -> Optimizer {
    let kind = OptimizerKind::Sgd { momentum: 0.0, nesterov: false };
    Optimizer { kind, learning_rate: 0.01, ..Optimizer::default() }
}

/// Whether the name is `sgd`; else it is `adam`.
fn name(cx: &mut Cx<'_>, value: &Value) -> Result<bool, Reported> {
    let Some(text) = value.as_str() else {
        return Err(cx.fail(wrong_type(value, "`optimizer`", "the name of an optimizer, or a mapping")));
    };
    match text.to_lowercase().as_str() {
        "adam" => Ok(false),
        "sgd" => Ok(true),
        other if LATER.contains(&other) => Err(cx.fail(not_yet_supported(value, &format!("the optimizer `{other}`")))),
        _ => Err(cx.fail(unknown_word(value, "`optimizer`", KNOWN))),
    }
}

/// `{norm: X}` or `{abs: X}`; 0 switches it off.
fn clip(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Clip, Reported> {
    let fields = Fields::open(cx, value, what, &["norm", "abs"], &[])?;
    let limit = |cx: &mut Cx<'_>, v: &Value, what: &str| {
        convert::number_where(cx, v, what, "a number of at least 0", |x| x >= 0.0)
    };
    let norm = fields.read(cx, "norm", limit)?;
    let abs = fields.read(cx, "abs", limit)?;
    match (norm, abs) {
        (Some(x), other) => {
            if other.is_some()
                && let Some(v) = fields.get("abs")
            {
                cx.push(two_clips(v));
            }
            Ok(if x > 0.0 { Clip::Norm(x) } else { Clip::None })
        }
        (None, Some(x)) => Ok(if x > 0.0 { Clip::Abs(x) } else { Clip::None }),
        (None, None) => Err(cx.fail(wrong_type(value, what, "`norm: X` or `abs: X`"))),
    }
}

fn sgd_only(key: &Value, name: &str) -> Diagnostic {
    Diagnostic::error("unknown-key", format!("the optimizer `adam` has no key `{name}`"))
        .at_value(key, "unknown key")
        .help(format!("`{name}` belongs to the optimizer `sgd`: write `name: sgd`"))
}

fn two_clips(abs: &Value) -> Diagnostic {
    Diagnostic::warning("two-clips", "`clip` has both `norm` and `abs`; `norm` counts").at_value(abs, "ignored")
}
