//! `train.optimizer` (kur-reference 5.3).

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Kind};
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::wrong_type;
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{Clip, Need, Optimizer, OptimizerKind};

const KNOWN: &[&str] = &["adam", "sgd", "rmsprop", "adadelta"];

const CLIP: &[Key] = &[
    Key::new("norm", Ty::Number(Range::NOT_NEGATIVE), "largest norm of all gradients together"),
    Key::new("abs", Ty::Number(Range::NOT_NEGATIVE), "largest size of an element"),
];

const KEYS: &[Key] = &[
    Key::new("name", Ty::Word(KNOWN), "`adam` (default), `sgd`, `rmsprop` or `adadelta`"),
    Key::new("learning_rate", Ty::Number(Range::POSITIVE), "size of a step"),
    Key::new("decay", Ty::Number(Range::NOT_NEGATIVE), "learning rate divided by 1 + decay · updates"),
    Key::new("momentum", Ty::Number(Range::NOT_NEGATIVE), "momentum of `sgd`"),
    Key::new("nesterov", Ty::Bool, "Nesterov's form of the momentum of `sgd`"),
    Key::new("rho", Ty::Number(Range::FRACTION), "weight of old squares in `rmsprop` and `adadelta`")
        .unbuilt(Need::Build),
    Key::new("epsilon", Ty::Number(Range::POSITIVE), "fuzz of `rmsprop`").unbuilt(Need::Build),
    Key::new("clip", Ty::Map(CLIP), "limit of the gradients"),
    Key::new("scale_rate", Ty::Text, "data source that scales the learning rate").unbuilt(Need::Build),
    Key::new("scale_mode", Ty::Word(&["linear", "sqrt"]), "how it scales").unbuilt(Need::Build),
];

/// Keys that only some optimizers have.
const OWN: &[(&str, &[&str])] =
    &[("momentum", &["sgd"]), ("nesterov", &["sgd"]), ("rho", &["rmsprop", "adadelta"]), ("epsilon", &["rmsprop"])];

/// `train.optimizer`.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Word(KNOWN), Ty::Map(KEYS)]);

impl Default for Optimizer {
    /// Adam with learning rate 0.001.
    fn default() -> Self {
        Optimizer { kind: OptimizerKind::Adam, learning_rate: 0.001, decay: 0.0, clip: Clip::None }
    }
}

/// Reads `optimizer: NAME` or `optimizer: {name: NAME, …}`.
pub(super) fn read(cx: &mut Cx<'_>, value: &Value) -> Result<Optimizer, Reported> {
    let Kind::Map(_) = value.kind else {
        return Ok(if name(cx, value)? == "sgd" { plain_sgd() } else { Optimizer::default() });
    };
    let word = match value.get("name").filter(|v| !v.is_null()) {
        Some(v) => name(cx, v)?,
        None => "adam",
    };
    let base = if word == "sgd" { plain_sgd() } else { Optimizer::default() };
    let fields = Fields::open(cx, value, format!("the optimizer `{word}`"), KEYS)?;
    for (key, owners) in OWN {
        if let Some(e) = value.entry(key)
            && !owners.contains(&word)
        {
            cx.push(foreign_key(&e.key, word, key, owners));
        }
    }
    let rate = fields.read(cx, "learning_rate", |cx, v, what| convert::number_in(cx, v, what, Range::POSITIVE));
    let decay = fields.read(cx, "decay", |cx, v, what| convert::number_in(cx, v, what, Range::NOT_NEGATIVE));
    let clip = fields.read(cx, "clip", clip);
    let kind = if word == "sgd" {
        let momentum = fields.read(cx, "momentum", |cx, v, what| convert::number_in(cx, v, what, Range::NOT_NEGATIVE));
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

fn name(cx: &mut Cx<'_>, value: &Value) -> Result<&'static str, Reported> {
    if value.as_str().is_none() {
        return Err(cx.fail(wrong_type(value, "`optimizer`", "the name of an optimizer, or a mapping")));
    }
    let word = KNOWN[convert::word(cx, value, "`optimizer`", KNOWN)?];
    if !matches!(word, "adam" | "sgd") {
        cx.unbuilt(Need::Build, value, &format!("the optimizer `{word}`"));
    }
    Ok(word)
}

/// `{norm: X}` or `{abs: X}`; 0 switches it off.
fn clip(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Clip, Reported> {
    let fields = Fields::open(cx, value, what, CLIP)?;
    let limit = |cx: &mut Cx<'_>, v: &Value, what: &str| convert::number_in(cx, v, what, Range::NOT_NEGATIVE);
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

fn foreign_key(key: &Value, word: &str, name: &str, owners: &[&str]) -> Diagnostic {
    let owner = convert::either(owners);
    let first = owners.first().copied().unwrap_or_default();
    Diagnostic::error("unknown-key", format!("the optimizer `{word}` has no key `{name}`"))
        .at_value(key, "unknown key")
        .help(format!("`{name}` belongs to the optimizer {owner}: write `name: {first}`"))
}

fn two_clips(abs: &Value) -> Diagnostic {
    Diagnostic::warning("two-clips", "`clip` has both `norm` and `abs`; `norm` counts").at_value(abs, "ignored")
}
