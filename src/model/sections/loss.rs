//! `loss` (kur-reference 5.1).

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::AtValue;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::graph::Graph;
use crate::model::report::graph::{replaced_loss, unknown_input, unknown_target};
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{CtcLoss, LayerId, Loss, LossKind, Spanned};

/// The words, in the order of [`MEANING`].
const WORDS: &[&str] = &["categorical_crossentropy", "mean_squared_error", "ctc"];
const MEANING: [LossKind; 3] = [LossKind::CategoricalCrossentropy, LossKind::MeanSquaredError, LossKind::Ctc];

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
        .map(|index| MEANING[index]);
    let kind = kind.and_then(|kind| ctc(cx, item, &fields, kind, graph).map(|ctc| (kind, ctc)));
    let weight = fields.read(cx, "weight", convert::number);
    let target = fields.need(cx, "target", "target: NAME");
    let output = target.and_then(|v| output(cx, v, graph));
    let Some(output) = output? else { return kind.and(weight).map(|_| None) };
    let span = target.map_or(item.span, |v| v.span);
    let (kind, ctc) = kind?;
    Ok(Some(Loss { output, kind, weight: weight?.unwrap_or(1.0), ctc, span }))
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
