//! `train.optimizer` (kur-reference 5.3).

mod schedule;

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Kind};
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::wrong_type;
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{Clip, Curve, Optimizer, OptimizerKind, ScaleRate};

/// An optimizer of the language.
pub(crate) struct Rule {
    /// The word.
    pub(crate) word: &'static str,
    /// What it does, one phrase.
    pub(crate) doc: &'static str,
    /// Keys that it has beside those of all optimizers, with their defaults as numbers; 0 is `no` for a yes-or-no key.
    pub(crate) keys: &'static [(&'static str, f64)],
    /// The default of `learning_rate`.
    pub(crate) rate: f64,
}

const fn rule(word: &'static str, rate: f64, keys: &'static [(&'static str, f64)], doc: &'static str) -> Rule {
    Rule { word, doc, keys, rate }
}

const BETA_1: (&str, f64) = ("beta_1", 0.9);
const BETA_2: (&str, f64) = ("beta_2", 0.999);
const EPSILON: (&str, f64) = ("epsilon", 1e-8);
const DECAYS: (&str, f64) = ("weight_decay", 0.01);

/// Every optimizer, in the order of [`KNOWN`].
pub(crate) const RULES: [Rule; 7] = [
    rule("adam", 0.001, &[BETA_1, BETA_2, EPSILON], "steps divided by the running size of the gradients (default)"),
    rule("sgd", 0.01, &[("momentum", 0.0), ("nesterov", 0.0)], "steps against the gradient, with momentum if wanted"),
    rule("rmsprop", 0.001, &[("rho", 0.9), EPSILON], "gradients divided by their running root mean square"),
    rule("adadelta", 1.0, &[("rho", 0.95), EPSILON], "gradients scaled by the running size of earlier steps"),
    rule("adamw", 0.001, &[BETA_1, BETA_2, EPSILON, DECAYS], "adam with weight decay apart from the gradient"),
    rule("lion", 0.0001, &[BETA_1, ("beta_2", 0.99), ("weight_decay", 0.0)], "the sign of a momentum as the step"),
    rule(
        "lamb",
        0.001,
        &[BETA_1, BETA_2, ("epsilon", 1e-6), DECAYS],
        "adamw with steps in proportion to each tensor's norm, for large batches",
    ),
];

const KNOWN: &[&str] = &["adam", "sgd", "rmsprop", "adadelta", "adamw", "lion", "lamb"];

const CLIP: &[Key] = &[
    Key::new("norm", Ty::Number(Range::NOT_NEGATIVE), "largest norm of all gradients together"),
    Key::new("abs", Ty::Number(Range::NOT_NEGATIVE), "largest size of an element"),
];

/// The most batches that one update may take: far below where their count would lose its unit in f32.
const MOST_BATCHES: u64 = 1 << 20;

/// Keys of the mapping form.
pub(crate) const KEYS: &[Key] = &[
    Key::new("name", Ty::Word(KNOWN), "the rule, `adam` by default"),
    Key::new("learning_rate", Ty::Number(Range::POSITIVE), "size of a step"),
    Key::new("decay", Ty::Number(Range::NOT_NEGATIVE), "learning rate divided by 1 + decay · updates"),
    Key::new("schedule", schedule::FORM, "how the learning rate changes with the updates"),
    Key::new("momentum", Ty::Number(Range::NOT_NEGATIVE), "share of the step before in a step of `sgd`"),
    Key::new("nesterov", Ty::Bool, "Nesterov's form of the momentum of `sgd`"),
    Key::new("beta_1", Ty::Number(Range::FRACTION), "weight of old gradients in their mean"),
    Key::new("beta_2", Ty::Number(Range::FRACTION), "weight of old squares in their mean (`lion`: of old gradients)"),
    Key::new("rho", Ty::Number(Range::FRACTION), "weight of old squares in their mean"),
    Key::new("epsilon", Ty::Number(Range::POSITIVE), "added to what is divided by"),
    Key::new("weight_decay", Ty::Number(Range::NOT_NEGATIVE), "share of each weight, times the rate, taken off it"),
    Key::new("clip", Ty::Map(CLIP), "limit of the gradients"),
    Key::new("scale_rate", Ty::Text, "column of the data whose mean over a batch multiplies the rate"),
    Key::new("scale_mode", Ty::Word(SCALES), "`linear` (default), or `sqrt` for the root of that mean"),
    Key::new(
        "accumulate",
        Ty::Whole(1),
        "batches whose mean gradient makes one update, 1 by default; what an epoch leaves over makes one too",
    ),
];

const SCALES: &[&str] = &["linear", "sqrt"];

/// `train.optimizer`.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Word(KNOWN), Ty::Map(KEYS)]);

/// Reads `optimizer: NAME` or `optimizer: {name: NAME, …}`.
pub(super) fn read(cx: &mut Cx<'_>, value: &Value) -> Result<Optimizer, Reported> {
    let Kind::Map(_) = value.kind else {
        let rule = name(cx, value)?;
        return Ok(Optimizer {
            kind: kind(rule, |key| default_of(rule, key)),
            learning_rate: rule.rate,
            ..Optimizer::default()
        });
    };
    let rule = match value.get("name").filter(|v| !v.is_null()) {
        Some(v) => name(cx, v)?,
        None => &RULES[0],
    };
    let fields = Fields::open(cx, value, format!("the optimizer `{}`", rule.word), KEYS)?;
    for key in KEYS {
        let owners: Vec<&str> =
            RULES.iter().filter(|r| r.keys.iter().any(|(k, _)| *k == key.name)).map(|r| r.word).collect();
        if let Some(e) = value.entry(key.name)
            && !owners.is_empty()
            && !owners.contains(&rule.word)
        {
            cx.push(foreign_key(&e.key, rule.word, key.name, &owners));
        }
    }
    let before = cx.sink.error_count();
    let rate = number(cx, &fields, "learning_rate", Range::POSITIVE);
    let decay = number(cx, &fields, "decay", Range::NOT_NEGATIVE);
    let clip = fields.read(cx, "clip", clip);
    let schedule = fields.read(cx, "schedule", schedule::read);
    let scale_rate = scale_rate(cx, &fields);
    let accumulate = fields.read(cx, "accumulate", batches);
    let mut own = Vec::new();
    for (key, default) in rule.keys {
        let found = match KEYS.iter().find(|k| k.name == *key).map(|k| &k.ty) {
            Some(Ty::Bool) => fields.read(cx, key, convert::boolean).map(|b| b.map(f64::from)),
            Some(Ty::Number(range)) => number(cx, &fields, key, *range),
            _ => Ok(None),
        };
        own.push((*key, found?.unwrap_or(*default)));
    }
    let value = |key: &str| own.iter().find(|(k, _)| *k == key).map_or(0.0, |(_, x)| *x);
    let (decay, schedule) = (decay?.unwrap_or(0.0), schedule?.unwrap_or_default());
    if decay > 0.0
        && schedule.curve != Curve::Constant
        && let Some(v) = fields.get("decay")
    {
        cx.push(two_schedules(v));
    }
    let optimizer = Optimizer {
        kind: kind(rule, value),
        learning_rate: rate?.unwrap_or(rule.rate),
        decay,
        schedule,
        clip: clip?.unwrap_or(Clip::None),
        scale_rate: scale_rate?,
        accumulate: accumulate?.unwrap_or(1),
    };
    cx.sink.check_since(before).map(|()| optimizer)
}

fn number(cx: &mut Cx<'_>, fields: &Fields<'_>, key: &str, range: Range) -> Result<Option<f64>, Reported> {
    fields.read(cx, key, |cx, v, what| convert::number_in(cx, v, what, range))
}

fn default_of(rule: &Rule, key: &str) -> f64 {
    rule.keys.iter().find(|(k, _)| *k == key).map_or(0.0, |(_, x)| *x)
}

/// The rule with its numbers.
fn kind(rule: &Rule, of: impl Fn(&str) -> f64) -> OptimizerKind {
    let (beta_1, beta_2, epsilon) = (of("beta_1"), of("beta_2"), of("epsilon"));
    let (rho, weight_decay) = (of("rho"), of("weight_decay"));
    match rule.word {
        "sgd" => OptimizerKind::Sgd { momentum: of("momentum"), nesterov: of("nesterov") > 0.0 },
        "rmsprop" => OptimizerKind::RmsProp { rho, epsilon },
        "adadelta" => OptimizerKind::AdaDelta { rho, epsilon },
        "adamw" => OptimizerKind::AdamW { beta_1, beta_2, epsilon, weight_decay },
        "lamb" => OptimizerKind::Lamb { beta_1, beta_2, epsilon, weight_decay },
        "lion" => OptimizerKind::Lion { beta_1, beta_2, weight_decay },
        _ => OptimizerKind::Adam { beta_1, beta_2, epsilon },
    }
}

fn name(cx: &mut Cx<'_>, value: &Value) -> Result<&'static Rule, Reported> {
    if value.as_str().is_none() {
        return Err(cx.fail(wrong_type(value, "`optimizer`", "the name of an optimizer, or a mapping")));
    }
    Ok(&RULES[convert::word(cx, value, "`optimizer`", KNOWN)?])
}

fn batches(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<u32, Reported> {
    let n = convert::whole(cx, value, what, 1)?;
    if n > MOST_BATCHES {
        let expected = format!("a whole number of at most {MOST_BATCHES}");
        return Err(cx.fail(crate::model::report::values::out_of_range(value, what, &expected)));
    }
    Ok(u32::try_from(n).unwrap_or(u32::MAX))
}

/// `scale_rate: COLUMN` with `scale_mode`.
fn scale_rate(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Result<Option<ScaleRate>, Reported> {
    let source = fields.read(cx, "scale_rate", convert::text);
    let mode = fields.read(cx, "scale_mode", |cx, v, what| convert::word(cx, v, what, SCALES));
    let (source, mode) = (source?, mode?);
    if let (None, Some(_), Some(v)) = (&source, mode, fields.get("scale_mode")) {
        let d = Diagnostic::warning("ignored-setting", "`scale_mode` has no effect without `scale_rate`");
        cx.push(d.at_value(v, "ignored").help("add `scale_rate: COLUMN`, the column whose mean scales the rate"));
    }
    Ok(source.map(|source| ScaleRate { source, sqrt: mode == Some(1) }))
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

fn two_schedules(decay: &Value) -> Diagnostic {
    Diagnostic::warning("two-schedules", "`decay` and `schedule` both lower the learning rate")
        .at_value(decay, "divides the scheduled rate by 1 + decay · updates")
        .help("leave out one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_rules_agree() {
        assert_eq!(RULES.map(|r| r.word), KNOWN);
        for rule in &RULES {
            assert_eq!(kind(rule, |k| default_of(rule, k)).word(), rule.word);
            for (key, _) in rule.keys {
                assert!(KEYS.iter().any(|k| k.name == *key), "{key}");
            }
        }
        let adam = &RULES[0];
        let plain = Optimizer::default();
        assert_eq!((plain.kind, plain.learning_rate), (kind(adam, |k| default_of(adam, k)), adam.rate));
        assert_eq!(plain.schedule.curve, Curve::Constant);
    }
}
