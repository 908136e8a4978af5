//! Rules of the layers beyond Kur's language: shape of the input -> output shape and weights.

use super::infer::{Cx, MAX_ELEMENTS, Seen, Weights};
use super::rules::features;
use super::{Size, report, shape_text};
use crate::diag::count;
use crate::model::types::{Layer, Spanned};

/// One number for each spatial axis, of which a single one holds for all; `None` when they do not fit, which is
/// reported.
fn each<'a>(cx: &mut Cx<'a, '_>, layer: &Layer, x: &Seen<'_, 'a>, given: &Spanned<Vec<u64>>) -> Option<Vec<u64>> {
    let axes = x.shape.len().saturating_sub(1);
    if !(1..=3).contains(&axes) {
        let found = shape_text(Some(&x.shape));
        let text = format!("`{}` needs one to three spatial axes and channels, found {found}", layer.kind.word());
        let help = "add a missing axis with `expand: -1`, or leave the layer out";
        return cx.mismatch(layer, text, (layer.span, "this layer"), x, help);
    }
    match given.value[..] {
        [one] => Some(vec![one; axes]),
        ref all if all.len() == axes => Some(all.to_vec()),
        ref all => {
            let (found, has) = (count(all.len(), "number"), count(axes, "spatial axis"));
            let text = format!("`{}` has {found}, but its input has {has}", layer.kind.word());
            let help = "give one number for each spatial axis, or a single number for all";
            cx.mismatch(layer, text, (given.span, format!("expected {axes}")), x, help)
        }
    }
}

/// Every cell several times along each spatial axis.
pub(super) fn upsample<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    size: &Spanned<Vec<u64>>,
) -> Option<Vec<Size>> {
    let factors = each(cx, layer, x, size)?;
    let mut shape = x.shape.clone();
    for (s, factor) in shape.iter_mut().zip(factors) {
        if let Size::Known(n) = s {
            *n = n.saturating_mul(factor);
        }
    }
    Some(shape)
}

/// Zeros around the spatial axes.
pub(super) fn pad<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    before: &Spanned<Vec<u64>>,
    after: &Spanned<Vec<u64>>,
) -> Option<Vec<Size>> {
    let (before, after) = (each(cx, layer, x, before)?, each(cx, layer, x, after)?);
    let mut shape = x.shape.clone();
    for (s, (a, b)) in shape.iter_mut().zip(before.into_iter().zip(after)) {
        if let Size::Known(n) = s {
            *n = n.saturating_add(a).saturating_add(b);
        }
    }
    Some(shape)
}

/// The channels alone.
pub(super) fn global_pool<'a>(cx: &mut Cx<'a, '_>, layer: &Layer, x: &Seen<'_, 'a>) -> Option<Vec<Size>> {
    match x.shape.as_slice() {
        [_, .., channels] => Some(vec![*channels]),
        _ => {
            let found = shape_text(Some(&x.shape));
            let text = format!("`global_pool` needs spatial axes and channels, found {found}");
            let help = "there is nothing to pool: leave the layer out, or put it before `flatten`";
            cx.mismatch(layer, text, (layer.span, "this layer"), x, help)
        }
    }
}

/// Scale and shift for each cell of the last axis.
pub(super) fn layer_normalization<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    match features(cx, layer, "layer_normalization", x, x.shape.last().copied())? {
        None => weights.unknown = true,
        Some(n) => {
            cx.weight(layer, weights, &[n]);
            cx.weight(layer, weights, &[n]);
        }
    }
    Some(x.shape.clone())
}

/// A trained slope for each cell of the last axis (`activation: prelu`).
pub(super) fn slopes<'a>(cx: &mut Cx<'a, '_>, layer: &Layer, x: &Seen<'_, 'a>, weights: &mut Weights) -> Option<()> {
    match features(cx, layer, "activation: prelu", x, x.shape.last().copied())? {
        None => weights.unknown = true,
        Some(n) => cx.weight(layer, weights, &[n]),
    }
    Some(())
}

/// Steps and features of a sequence.
fn sequence<'a>(cx: &mut Cx<'a, '_>, layer: &Layer, x: &Seen<'_, 'a>) -> Option<(Size, Size)> {
    if let [steps, features] = x.shape[..] {
        return Some((steps, features));
    }
    let (word, found) = (layer.kind.word(), shape_text(Some(&x.shape)));
    let text = format!("`{word}` needs a sequence of shape [steps, features], found {found}");
    let help = "add the missing axis with `expand`, or flatten each step with `parallel: {apply: [flatten]}`";
    cx.mismatch(layer, text, (layer.span, "this layer"), x, help)
}

/// A trained vector for every step, of which there must be a fixed number.
pub(super) fn position_embedding<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    let (steps, last) = sequence(cx, layer, x)?;
    let features = features(cx, layer, "position_embedding", x, Some(last))?;
    match (steps, features) {
        (Size::Variable, _) => {
            let text = "`position_embedding` needs a fixed number of steps".to_owned();
            let help = "give the input a number of steps instead of null";
            return cx.mismatch(layer, text, (layer.span, "each step has a trained vector"), x, help);
        }
        (Size::Known(steps), Some(features)) => cx.weight(layer, weights, &[steps, features]),
        _ => weights.unknown = true,
    }
    Some(x.shape.clone())
}

/// Four square matrices with their biases: query, key, value, output.
pub(super) fn attention<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    heads: &Spanned<u64>,
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    let (steps, last) = sequence(cx, layer, x)?;
    if let Size::Known(n) = steps {
        // Every head compares all steps with all others.
        let scores = n.saturating_mul(n).saturating_mul(heads.value.max(2));
        if scores > MAX_ELEMENTS {
            cx.push(layer, report::large_sample(layer, &[Size::Known(heads.value), steps, steps]));
            return None;
        }
    }
    match features(cx, layer, "attention", x, Some(last))? {
        None => weights.unknown = true,
        Some(n) if !n.is_multiple_of(heads.value) => {
            let text = format!("{n} features cannot be shared evenly by {} heads", heads.value);
            let help = format!("use a number of heads that divides {n}");
            return cx.mismatch(layer, text, (heads.span, "does not divide them"), x, help);
        }
        Some(n) => {
            for _ in 0..4 {
                cx.weight(layer, weights, &[n, n]);
                cx.weight(layer, weights, &[n]);
            }
        }
    }
    Some(x.shape.clone())
}
