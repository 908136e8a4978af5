//! `loss` (kur-reference 5.1).

use kur_runtime::spec::{Measured, MetricSpec};

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::AtValue;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::graph::Graph;
use crate::model::report::graph::{replaced_loss, unknown_input, unknown_target};
use crate::model::report::values::out_of_range;
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{CtcLoss, LayerId, Loss, LossKind, Spanned};

/// A loss of the language.
pub(crate) struct Rule {
    /// The word.
    pub(crate) word: &'static str,
    kind: LossKind,
    /// What it is, one phrase.
    pub(crate) doc: &'static str,
    /// Keys that it has beside those of all losses.
    pub(crate) keys: &'static [&'static str],
    /// An entry of the section.
    pub(crate) example: &'static str,
}

const fn rule(
    word: &'static str,
    kind: LossKind,
    keys: &'static [&'static str],
    doc: &'static str,
    example: &'static str,
) -> Rule {
    Rule { word, kind, doc, keys, example }
}

/// Every loss, in the order of [`WORDS`].
pub(crate) const RULES: [Rule; 6] = [
    rule(
        "categorical_crossentropy",
        LossKind::CategoricalCrossentropy,
        &["label_smoothing", "class_weights"],
        "classes behind a softmax: −Σ t·ln p, the mean over rows; the truth is a class or a share for each class",
        "{target: y, name: categorical_crossentropy, label_smoothing: 0.1, metrics: [f1, {top_k: 2}]}",
    ),
    rule(
        "mean_squared_error",
        LossKind::MeanSquaredError,
        &[],
        "numbers: the mean of (prediction − truth)²",
        "{target: y, name: mean_squared_error, metrics: [mae, r2]}",
    ),
    rule(
        "ctc",
        LossKind::Ctc,
        CTC_ONLY,
        "sequences of labels without known places (kur-reference 5.2)",
        "{target: y, name: ctc, input_length: frames, output_length: letters, output: transcript, metrics: [cer]}",
    ),
    rule(
        "binary_crossentropy",
        LossKind::BinaryCrossentropy,
        &["label_smoothing", "class_weights"],
        "yes or no behind a sigmoid: −(t·ln p + (1−t)·ln(1−p)), the mean over elements",
        "{target: y, name: binary_crossentropy, class_weights: [1, 5], metrics: [auroc]}",
    ),
    rule(
        "mean_absolute_error",
        LossKind::MeanAbsoluteError,
        &[],
        "numbers: the mean of |prediction − truth|",
        "{target: y, name: mean_absolute_error, weight: 0.5}",
    ),
    rule(
        "huber",
        LossKind::Huber,
        &["delta"],
        "numbers: squares of small errors, sizes of large ones, so that outliers count less",
        "{target: y, name: huber, delta: 1.5}",
    ),
];

const WORDS: &[&str] =
    &["categorical_crossentropy", "mean_squared_error", "ctc", "binary_crossentropy", "mean_absolute_error", "huber"];

/// A metric that is a word.
pub(crate) struct Measure {
    /// The word.
    pub(crate) word: &'static str,
    spec: MetricSpec,
    /// What it is, one phrase.
    pub(crate) doc: &'static str,
}

const fn measure(word: &'static str, spec: MetricSpec, doc: &'static str) -> Measure {
    Measure { word, spec, doc }
}

/// Every metric that is a word, in the order of [`METRICS`].
pub(crate) const MEASURES: [Measure; 9] = [
    measure("accuracy", MetricSpec::Accuracy, "classes: share of rows whose likeliest class is the truth"),
    measure("precision", MetricSpec::Precision, "classes: share of what was found positive that is"),
    measure("recall", MetricSpec::Recall, "classes: share of the positives that was found"),
    measure("f1", MetricSpec::F1, "classes: harmonic mean of precision and recall"),
    measure("auroc", MetricSpec::Auroc, "classes: area under the receiver operating characteristic"),
    measure("mae", MetricSpec::Mae, "numbers: mean of |prediction − truth| in units of the data"),
    measure("r2", MetricSpec::R2, "numbers: coefficient of determination"),
    measure(
        "cer",
        MetricSpec::Cer,
        "`ctc`: edits (inserted, removed, replaced labels) that make the truth of the best path, per label of the truth",
    ),
    measure(
        "wer",
        MetricSpec::Wer(None),
        "`ctc`: the same of words; every label is a word unless `separator` is given",
    ),
];

const METRICS: &[&str] = &["accuracy", "precision", "recall", "f1", "auroc", "mae", "r2", "cer", "wer"];

/// Metrics with an argument.
pub(crate) const ARGUED: &[Key] = &[
    Key::new("top_k", Ty::Whole(1), "classes: share of rows whose class is among the k likeliest"),
    Key::new("wer", Ty::Map(WORDS_OF_LABELS), "`ctc`: edits of words per word of the truth"),
];
const WORDS_OF_LABELS: &[Key] =
    &[Key::new("separator", Ty::Whole(0), "the label between two words, counted as in the data").required()];
const METRIC: Ty = Ty::AnyOf(&[Ty::Word(METRICS), Ty::Map(ARGUED)]);

/// More class weights would make the kernel that computes them absurdly long.
const MOST_CLASSES: usize = 256;

/// Variants of `ctc`, and their places in the list.
const VARIANTS: &[&str] = &["warp", "loss_scale"];
const WARP: usize = 0;
const LOSS_SCALE: usize = 1;
const VARIANT: Ty = Ty::Word(VARIANTS);

/// Keys of a loss.
pub(crate) const KEYS: &[Key] = &[
    Key::new("target", Ty::Text, "the output to train").required(),
    Key::new("name", Ty::Word(WORDS), "which loss").required(),
    Key::new("weight", Ty::Number(Range::ANY), "multiplier, 1 by default"),
    Key::new("label_smoothing", Ty::Number(Range::FRACTION), "share of the truth that is spread over all classes"),
    Key::new("class_weights", Ty::List(&Ty::Number(Range::NOT_NEGATIVE)), "how much each class counts, 1 by default"),
    Key::new("delta", Ty::Number(Range::POSITIVE), "`huber`: errors above it count by size, 1 by default"),
    Key::new("metrics", Ty::List(&METRIC), "what tests and validation measure beside the loss"),
    Key::new("input_length", Ty::Text, "data with the lengths of the utterances (`ctc`)"),
    Key::new("output_length", Ty::Text, "data with the lengths of the labels (`ctc`)"),
    Key::new("output", Ty::Text, "data with the labels (`ctc`)"),
    Key::new("relative_to", Ty::Text, "layer that `input_length` belongs to (`ctc`)"),
    Key::new(
        "variant",
        Ty::AnyOf(&[Ty::Null, VARIANT, Ty::List(&VARIANT)]),
        "conventions of the blank and the scale (`ctc`)",
    ),
];

const CTC_ONLY: &[&str] = &["input_length", "output_length", "output", "relative_to", "variant"];

/// Reads the evaluated section. Without a graph (it has errors of its own) targets are not checked.
pub(crate) fn read(cx: &mut Cx<'_>, value: &Value, graph: Option<&Graph>) -> Result<Vec<Loss>, Reported> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let items = convert::list(cx, value, "`loss`", "a list (`- target: …` with `name: …` below)")?;
    let mut losses: Vec<Loss> = Vec::new();
    let all: Vec<_> = items.iter().map(|item| one(cx, item, graph)).collect();
    for loss in all {
        let Some(loss) = loss? else { continue };
        if let Some(old) = losses.iter_mut().find(|l| l.output == loss.output) {
            let name = graph.map_or("", |g| g.outputs[loss.output].name.as_str());
            cx.push(replaced_loss(name, old.span, loss.span));
            *old = loss;
        } else {
            losses.push(loss);
        }
    }
    Ok(losses)
}

fn one(cx: &mut Cx<'_>, item: &Value, graph: Option<&Graph>) -> Result<Option<Loss>, Reported> {
    let fields = Fields::open(cx, item, "a loss", KEYS)?;
    let kind = fields
        .need(cx, "name", "name: categorical_crossentropy` or `name: mean_squared_error")
        .and_then(|v| convert::word(cx, v, "`name` of a loss", WORDS))
        .map(|index| RULES[index].kind);
    let kind = kind.and_then(|kind| ctc(cx, item, &fields, kind, graph).map(|ctc| (kind, ctc)));
    let kind = kind.and_then(|kind| own_keys(cx, item, kind.0).map(|()| kind));
    let weight = fields.read(cx, "weight", convert::number);
    let number =
        |cx: &mut Cx<'_>, key: &str, range| fields.read(cx, key, |cx, v, what| convert::number_in(cx, v, what, range));
    let delta = number(cx, "delta", Range::POSITIVE);
    let label_smoothing = number(cx, "label_smoothing", Range::FRACTION);
    let class_weights = fields.read(cx, "class_weights", class_weights);
    let metrics =
        fields.read(cx, "metrics", |cx, v, what| metrics(cx, v, what, kind.as_ref().ok().map(|(kind, _)| *kind)));
    let target = fields.need(cx, "target", "target: NAME");
    let output = target.and_then(|v| output(cx, v, graph));
    let Some(output) = output? else { return kind.and(weight).map(|_| None) };
    let span = target.map_or(item.span, |v| v.span);
    let (kind, ctc) = kind?;
    Ok(Some(Loss {
        output,
        kind,
        ctc,
        weight: weight?.unwrap_or(1.0),
        delta: delta?.unwrap_or(1.0),
        label_smoothing: label_smoothing?.unwrap_or(0.0),
        class_weights: class_weights?.unwrap_or_default(),
        metrics: metrics?.unwrap_or_default(),
        span,
    }))
}

/// Keys that other losses have; those of `ctc` are dealt with where it is read.
fn own_keys(cx: &mut Cx<'_>, item: &Value, kind: LossKind) -> Result<(), Reported> {
    let before = cx.sink.error_count();
    for key in ["label_smoothing", "class_weights", "delta"] {
        let owners: Vec<&Rule> = RULES.iter().filter(|r| r.keys.contains(&key)).collect();
        if let Some(e) = item.entry(key)
            && !owners.iter().any(|r| r.kind == kind)
        {
            let words: Vec<&str> = owners.iter().map(|r| r.word).collect();
            let message = format!("the loss `{}` has no key `{key}`", kind.word());
            let d = Diagnostic::error("unknown-key", message).at_value(&e.key, "unknown key");
            cx.push(d.help(format!("`{key}` belongs to the loss {}", convert::either(&words))));
        }
    }
    cx.sink.check_since(before)
}

fn class_weights(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Vec<f64>, Reported> {
    let items = convert::list(cx, value, what, "a list of numbers, one for each class")?;
    if items.is_empty() || items.len() > MOST_CLASSES {
        return Err(cx.fail(out_of_range(value, what, &format!("one to {MOST_CLASSES} numbers"))));
    }
    let item = format!("an item of {what}");
    let all: Vec<_> = items.iter().map(|v| convert::number_in(cx, v, &item, Range::NOT_NEGATIVE)).collect();
    let weights: Vec<f64> = all.into_iter().collect::<Result<_, _>>()?;
    if weights.iter().all(|w| *w == 0.0) {
        return Err(cx.fail(out_of_range(value, what, "a list in which at least one class counts")));
    }
    Ok(weights)
}

/// `[precision, {top_k: 5}]`: each once, and of the kind that the loss has.
fn metrics(cx: &mut Cx<'_>, value: &Value, what: &str, kind: Option<LossKind>) -> Result<Vec<MetricSpec>, Reported> {
    let before = cx.sink.error_count();
    let items = convert::list(cx, value, what, "a list of metrics")?;
    let mut found: Vec<MetricSpec> = Vec::new();
    for item in items {
        let Ok(metric) = metric(cx, item, &format!("an item of {what}")) else { continue };
        if let Some(kind) = kind.filter(|k| trained(*k) != metric.measures()) {
            let of = match metric.measures() {
                Measured::Classes => "classes",
                Measured::Numbers => "numbers",
                Measured::Labels => "sequences of labels",
            };
            let message =
                format!("the metric `{}` measures {of}, which `{}` does not train", metric.name(), kind.word());
            let others: Vec<&str> =
                MEASURES.iter().filter(|m| m.spec.measures() == trained(kind)).map(|m| m.word).collect();
            let d = Diagnostic::error("invalid-value", message).at_value(item, "of another kind");
            cx.push(d.help(format!("metrics of this loss are {}", convert::either(&others))));
        } else if let Some(other) = found.iter().find(|m| m.name() == metric.name() && **m != metric) {
            let message = format!("the metric `{}` stands here twice, with different arguments", other.name());
            cx.push(Diagnostic::error("invalid-value", message).at_value(item, "the second one"));
        } else if !found.contains(&metric) {
            found.push(metric);
        }
    }
    cx.sink.check_since(before).map(|()| found)
}

/// What a loss trains.
fn trained(kind: LossKind) -> Measured {
    match kind {
        LossKind::Ctc => Measured::Labels,
        kind if kind.is_regression() => Measured::Numbers,
        _ => Measured::Classes,
    }
}

fn metric(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<MetricSpec, Reported> {
    if value.as_map().is_none() {
        return Ok(MEASURES[convert::word(cx, value, what, METRICS)?].spec);
    }
    let fields = Fields::open(cx, value, what, ARGUED)?;
    match (fields.get("top_k"), fields.get("wer")) {
        (Some(_), Some(wer)) => {
            let d = Diagnostic::error("invalid-value", "an item of `metrics` is one metric, found `top_k` and `wer`");
            Err(cx.fail(d.at_value(wer, "another metric").help("make it an item of its own")))
        }
        (None, Some(wer)) => {
            let fields = Fields::open(cx, wer, fields.what("wer"), WORDS_OF_LABELS)?;
            let label = fields.need(cx, "separator", "separator: LABEL")?;
            convert::whole(cx, label, &fields.what("separator"), 0).map(|s| MetricSpec::Wer(Some(s)))
        }
        _ => {
            let k = fields.need(cx, "top_k", "top_k: 5")?;
            convert::whole(cx, k, &fields.what("top_k"), 1).map(MetricSpec::TopK)
        }
    }
}

/// The parameters that only `ctc` has.
fn ctc(
    cx: &mut Cx<'_>,
    item: &Value,
    fields: &Fields<'_>,
    kind: LossKind,
    graph: Option<&Graph>,
) -> Result<Option<CtcLoss>, Reported> {
    let before = cx.sink.error_count();
    if kind != LossKind::Ctc {
        for key in CTC_ONLY {
            if let Some(e) = item.entry(key) {
                cx.push(ctc_only(&e.key, kind.word()));
            }
        }
        return cx.sink.check_since(before).map(|()| None);
    }
    let mut source = |key: &'static str| {
        let value = fields.need(cx, key, &format!("{key}: NAME_OF_THE_DATA"))?;
        Ok(Spanned { value: convert::text(cx, value, &fields.what(key))?, span: value.span })
    };
    let (input_length, output_length, labels) = (source("input_length"), source("output_length"), source("output"));
    let relative_to =
        fields.read(cx, "relative_to", |cx, v, what| Ok(Spanned { value: convert::text(cx, v, what)?, span: v.span }));
    let relative_to = relative_to.and_then(|name| match (graph, name) {
        (Some(graph), Some(name)) => layer_called(cx, graph, &name).map(Some),
        _ => Ok(None),
    });
    let variants = fields.read(cx, "variant", variants);
    let variants = variants?.unwrap_or_default();
    Ok(Some(CtcLoss {
        input_length: input_length?,
        output_length: output_length?,
        labels: labels?,
        relative_to: relative_to?,
        warp: variants.contains(&WARP),
        loss_scale: variants.contains(&LOSS_SCALE),
    }))
}

/// A layer by one of its names.
fn layer_called(cx: &mut Cx<'_>, graph: &Graph, name: &Spanned<String>) -> Result<Spanned<LayerId>, Reported> {
    if let Some(layer) = graph.made_by.get(&name.value) {
        return Ok(Spanned { value: *layer, span: name.span });
    }
    let known: Vec<&str> = graph.names.keys().map(String::as_str).filter(|n| !n.starts_with("..")).collect();
    Err(cx.fail(unknown_input(&name.value, name.span, &known)))
}

/// A variant or a list of them, as indices into [`VARIANTS`].
fn variants(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Vec<usize>, Reported> {
    match value.as_list() {
        _ if value.is_null() => Ok(Vec::new()),
        Some(items) => {
            let what = format!("an item of {what}");
            let all: Vec<_> = items.iter().map(|v| convert::word(cx, v, &what, VARIANTS)).collect();
            all.into_iter().collect()
        }
        None => Ok(vec![convert::word(cx, value, what, VARIANTS)?]),
    }
}

fn ctc_only(key: &Value, word: &str) -> Diagnostic {
    let name = key.as_str().unwrap_or_default();
    Diagnostic::error("unknown-key", format!("the loss `{word}` has no key `{name}`"))
        .at_value(key, "unknown key")
        .help(format!("`{name}` belongs to the loss `ctc`"))
}

/// The output a target names, by any of its names.
fn output(cx: &mut Cx<'_>, value: &Value, graph: Option<&Graph>) -> Result<Option<usize>, Reported> {
    let target = convert::text(cx, value, "`target` of a loss")?;
    let Some(graph) = graph else { return Ok(None) };
    let found = graph.outputs.iter().position(|o| o.name == target || o.aliases.contains(&target));
    if found.is_none() {
        let names: Vec<&str> = graph.outputs.iter().map(|o| o.name.as_str()).collect();
        return Err(cx.fail(unknown_target(value, &names, graph.names.get(&target).copied())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_rules_agree() {
        assert_eq!(RULES.map(|r| r.word), WORDS);
        assert_eq!(MEASURES.map(|m| m.word), METRICS);
        assert!(MEASURES.iter().all(|m| m.spec.name() == m.word));
        for rule in &RULES {
            assert_eq!(rule.kind.word(), rule.word);
            assert!(rule.keys.iter().all(|k| KEYS.iter().any(|key| key.name == *k)));
        }
    }
}
