//! `loss` (kur-reference 5.1).

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::AtValue;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::graph::Graph;
use crate::model::report::graph::{replaced_loss, unknown_input, unknown_target};
use crate::model::table::{self, Key, Range, Ty};
use crate::model::types::{Loss, LossKind, Need};

/// The words, in the order of [`MEANING`].
const WORDS: &[&str] = &["categorical_crossentropy", "mean_squared_error", "ctc"];
const MEANING: [LossKind; 3] = [LossKind::CategoricalCrossentropy, LossKind::MeanSquaredError, LossKind::Ctc];

const VARIANT: Ty = Ty::Word(&["warp", "loss_scale"]);

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

const CTC_NEEDS: &[&str] = &["input_length", "output_length", "output"];
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
    let kind = kind.and_then(|kind| ctc(cx, item, &fields, kind, graph).map(|()| kind));
    let weight = fields.read(cx, "weight", convert::number);
    let target = fields.need(cx, "target", "target: NAME");
    let output = target.and_then(|v| output(cx, v, graph));
    let Some(output) = output? else { return kind.and(weight).map(|_| None) };
    let span = target.map_or(item.span, |v| v.span);
    Ok(Some(Loss { output, kind: kind?, weight: weight?.unwrap_or(1.0), span }))
}

/// The parameters that only `ctc` has.
fn ctc(
    cx: &mut Cx<'_>,
    item: &Value,
    fields: &Fields<'_>,
    kind: LossKind,
    graph: Option<&Graph>,
) -> Result<(), Reported> {
    let before = cx.sink.error_count();
    if kind != LossKind::Ctc {
        for key in CTC_ONLY {
            if let Some(e) = item.entry(key) {
                cx.push(ctc_only(&e.key, kind.word()));
            }
        }
        return cx.sink.check_since(before);
    }
    for key in CTC_NEEDS {
        // Reported; the other keys are still of interest.
        let _ = fields.need(cx, key, &format!("{key}: NAME_OF_THE_DATA"));
    }
    for key in KEYS.iter().filter(|k| CTC_ONLY.contains(&k.name)) {
        if let Some(v) = fields.get(key.name) {
            let _ = table::check(cx, v, &key.ty, &fields.what(key.name));
        }
    }
    if let (Some(graph), Some(v)) = (graph, fields.get("relative_to"))
        && let Some(name) = v.as_str()
        && !graph.names.contains_key(name)
    {
        let known: Vec<&str> = graph.names.keys().map(String::as_str).filter(|n| !n.starts_with("..")).collect();
        cx.push(unknown_input(name, v.span, &known));
    }
    if let Some(v) = fields.get("name") {
        cx.unbuilt(Need::Build, v, "the loss `ctc`");
    }
    cx.sink.check_since(before)
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
