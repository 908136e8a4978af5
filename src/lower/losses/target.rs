//! The truth that an output is compared with.

use kur_runtime::dim::Dim;
use kur_runtime::plan::InputRole;

use super::mask::Mask;
use crate::diag::{Diagnostic, Reported};
use crate::ir::graph::{Builder, LayerRef, NodeId};
use crate::lower::layers::span_of;
use crate::lower::model::{Cx, Value};
use crate::model::types::LossKind;

/// The truth of an output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Its value.
    pub(super) node: NodeId,
    /// Whether it has, on the last axis, the number of a class instead of a share for each class.
    pub(super) sparse: bool,
    /// Which steps count, where samples differ in length.
    mask: Option<Mask>,
}

impl Target {
    /// A value of shape `[n, t, …]`, with a constant in the place of its padding.
    pub(super) fn real(self, b: &mut Builder<'_>, x: NodeId, otherwise: f64) -> NodeId {
        self.mask.map_or(x, |m| m.keep(b, x, otherwise))
    }

    /// The mean of what each place has, padding left out: a scalar.
    pub(super) fn mean(self, b: &mut Builder<'_>, each: NodeId) -> NodeId {
        match self.mask {
            Some(mask) => mask.mean(b, each),
            None => b.mean_all(each),
        }
    }
}

/// The truth an output is compared with: an input of the same shape, checked against the data; for classes also one of
/// their numbers in each place.
pub(super) fn lower(
    cx: &mut Cx<'_>,
    output: usize,
    kind: LossKind,
    value: Value,
    at: LayerRef,
) -> Result<Target, Reported> {
    let output = &cx.kurfile.outputs[output];
    let shape = cx.graph.shape(value.node).to_vec();
    let names = std::iter::once(&output.name).chain(&output.aliases);
    let data = names.into_iter().find_map(|n| cx.data.iter().find(|d| d.name == *n)).cloned();
    let ragged = data.as_ref().is_some_and(|d| d.shape.first() == Some(&0));
    let steps = steps(&shape, kind, ragged);
    if let Some(d) = data {
        let want: Vec<Dim> = shape[1..].to_vec();
        let mut found: Vec<Dim> = d.shape.iter().map(|s| Dim::constant(*s)).collect();
        // Sizes that differ from batch to batch are compared when the batch is made.
        for (axis, (found, want)) in found.iter_mut().zip(&want).enumerate() {
            if want.as_const().is_none() || (axis == 0 && d.shape[0] == 0) {
                *found = *want;
            }
        }
        // A missing trailing axis of size 1 is added once (2.5).
        if found.len() + 1 == want.len() && want.last() == Some(&Dim::ONE) {
            found.push(Dim::ONE);
        }
        let sparse = kind == LossKind::CategoricalCrossentropy && numbers_of_classes(&found, &want);
        if sparse {
            let mut shape = shape;
            if let Some(last) = shape.last_mut() {
                *last = Dim::ONE;
            }
            let node = cx.input(&output.name, InputRole::Target, shape, Some(at));
            return Ok(Target { node, sparse, mask: steps.map(|s| mask(cx, &output.name, s, at)) });
        }
        if found != want {
            let have = cx.shape_text(value.node);
            let text = format!(
                "output `{}` has shape {have}, but its target in the data has shape {:?}",
                output.name, d.shape
            );
            let layer = cx.kurfile.outputs.iter().find(|o| o.name == output.name).map_or(output.layer, |o| o.layer);
            let mut e = Diagnostic::error("target-shape-mismatch", text)
                .at(output.span, format!("this output is {have}"))
                .note(format!("`{}` gives {:?} per sample", d.source, d.shape));
            if span_of(cx, layer) != output.span {
                e = e.also(span_of(cx, layer), "computed here");
            }
            let units = d.shape.last().copied().unwrap_or(1);
            let help = format!("give the last layer {units} unit{}", if units == 1 { "" } else { "s" });
            return Err(cx.sink.fail(e.help(help)));
        }
    }
    let node = cx.input(&output.name, InputRole::Target, shape, Some(at));
    Ok(Target { node, sparse: false, mask: steps.map(|s| mask(cx, &output.name, s, at)) })
}

/// The size of the axis of steps, padding included, where samples may differ in it: the first behind the batch, if it
/// varies or the data is known to. The last axis of a cross-entropy of classes holds those, and no steps.
fn steps(shape: &[Dim], kind: LossKind, ragged: bool) -> Option<Dim> {
    let axes = if kind == LossKind::CategoricalCrossentropy { &shape[..shape.len() - 1] } else { shape };
    axes.get(1).copied().filter(|first| ragged || !first.is_const())
}

/// The real steps of the target of an output, of which the batch tells how many they are.
fn mask(cx: &mut Cx<'_>, name: &str, steps: Dim, at: LayerRef) -> Mask {
    let lengths = cx.input(name, InputRole::Lengths, vec![Dim::batch()], Some(at));
    Mask::new(&mut cx.builder(at), lengths, steps)
}

/// Whether data of shape `found` has one number where the output `want` has a share for each class.
fn numbers_of_classes(found: &[Dim], want: &[Dim]) -> bool {
    let Some((classes, places)) = want.split_last() else { return false };
    if *classes == Dim::ONE || found == want {
        return false;
    }
    // A single place is `[1]` in the data, and so is each of several when their axis is kept.
    found == places || found.split_last().is_some_and(|(one, rest)| *one == Dim::ONE && rest == places)
}
