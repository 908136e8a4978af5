//! `loss` (kur-reference 5.1).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::graph::Graph;
use crate::model::report::graph::{replaced_loss, unknown_target};
use crate::model::report::keys::not_yet_supported;
use crate::model::report::values::{unknown_word, wrong_type};
use crate::model::types::{Loss, LossKind};

const KNOWN: &[(&str, LossKind)] = &[
    ("categorical_crossentropy", LossKind::CategoricalCrossentropy),
    ("mean_squared_error", LossKind::MeanSquaredError),
];

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
    let fields = Fields::open(cx, item, "a loss", &["target", "name", "weight"], &[])?;
    let kind = fields
        .need(cx, "name", "name: categorical_crossentropy` or `name: mean_squared_error")
        .and_then(|v| name(cx, v));
    let weight = fields.read(cx, "weight", convert::number);
    let target = fields.need(cx, "target", "target: NAME");
    let output = target.and_then(|v| output(cx, v, graph));
    let Some(output) = output? else { return kind.and(weight).map(|_| None) };
    let span = target.map_or(item.span, |v| v.span);
    Ok(Some(Loss { output, kind: kind?, weight: weight?.unwrap_or(1.0), span }))
}

fn name(cx: &mut Cx<'_>, value: &Value) -> Result<LossKind, Reported> {
    let Some(text) = value.as_str() else {
        return Err(cx.fail(wrong_type(value, "`name` of a loss", "the name of a loss")));
    };
    if text.eq_ignore_ascii_case("ctc") {
        return Err(cx.fail(not_yet_supported(value, "the loss `ctc`")));
    }
    let words: Vec<&str> = KNOWN.iter().map(|(w, _)| *w).collect();
    match KNOWN.iter().find(|(w, _)| w.eq_ignore_ascii_case(text)) {
        Some((_, kind)) => Ok(*kind),
        None => Err(cx.fail(unknown_word(value, "`name` of a loss", &words))),
    }
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
