//! Layers that change nothing, and pairs of layers that are hardly meant.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Span};
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::cx::Cx;
use crate::model::report::lint::{dropout_at_output, idle_layer, relu_before_softmax, repeated_activation};
use crate::model::types::{Activation, Kurfile, Layer, LayerKind};

use super::computed;

/// Findings by the entry of the file that made the layer: for each layer it made, what is wrong with that one.
type Found = BTreeMap<Span, Vec<Option<Diagnostic>>>;

/// Warns of single layers and of pairs. In a loop or template an entry makes several layers, and it may be needed for
/// one of them; so all of them have to be found fault with.
pub(super) fn check(cx: &mut Cx<'_>, kurfile: &Kurfile) {
    let ranks = ranks(kurfile);
    let mut readers = vec![0_u32; kurfile.layers.len()];
    for input in kurfile.layers.iter().flat_map(|l| &l.inputs) {
        if let Some(n) = readers.get_mut(input.0 as usize) {
            *n += 1;
        }
    }
    let mut found = Found::new();
    for layer in &kurfile.layers {
        let id = if let [one] = layer.inputs.as_slice() { Some(one.0 as usize) } else { None };
        let before = id.and_then(|i| {
            let shared = readers.get(i).is_some_and(|n| *n > 1);
            Some(Before { layer: kurfile.layers.get(i)?, rank: *ranks.get(i)?, shared })
        });
        look(cx, layer, before.as_ref(), &mut found);
    }
    for output in &kurfile.outputs {
        if let Some(layer) = kurfile.layers.get(output.layer.0 as usize)
            && let LayerKind::Dropout { fraction, .. } = layer.kind
            && fraction > 0.0
        {
            cx.push(dropout_at_output(&place(layer), &output.name));
        }
    }
    for findings in found.into_values() {
        if let Some(all) = findings.into_iter().collect::<Option<Vec<_>>>()
            && let [first, others @ ..] = all.as_slice()
            && others.iter().all(|d| d.message == first.message)
        {
            cx.push(first.clone());
        }
    }
}

/// The one layer that a layer reads.
struct Before<'k> {
    layer: &'k Layer,
    /// The number of sizes of its result, where it is known.
    rank: Option<usize>,
    /// Whether other layers read it, too.
    shared: bool,
}

fn look(cx: &Cx<'_>, layer: &Layer, before: Option<&Before<'_>>, found: &mut Found) {
    if let LayerKind::Parallel { apply } = &layer.kind {
        for (i, inner) in apply.iter().enumerate() {
            let before = i.checked_sub(1).and_then(|i| apply.get(i));
            let before = before.map(|layer| Before { layer, rank: None, shared: false });
            look(cx, inner, before.as_ref(), found);
        }
    }
    let finding = match idle(cx, layer, before) {
        Some((why, help)) => Some(idle_layer(&place(layer), layer.kind.word(), why, help)),
        None => before.and_then(|b| pair(b.layer, layer)),
    };
    found.entry(layer.span).or_default().push(finding);
}

/// Two layers in a row that are hardly meant.
fn pair(first: &Layer, second: &Layer) -> Option<Diagnostic> {
    use Activation::{Relu, Softmax};
    let (LayerKind::Activation(a), LayerKind::Activation(b)) = (&first.kind, &second.kind) else { return None };
    match (a, b) {
        (Relu, Relu) => Some(repeated_activation(&place(second), first.span, "relu")),
        (Softmax, Softmax) => Some(repeated_activation(&place(second), first.span, "softmax")),
        (Relu, Softmax) => Some(relu_before_softmax(&place(second), first.span)),
        _ => None,
    }
}

/// Why a layer changes nothing, and what to do about it.
fn idle(cx: &Cx<'_>, layer: &Layer, before: Option<&Before<'_>>) -> Option<(&'static str, &'static str)> {
    // A layer that somebody named has the use of being named.
    if !layer.name.starts_with("..") || computed(cx, layer.span) {
        return None;
    }
    let ones = |v: &[u64]| v.iter().all(|n| *n == 1);
    let shared = before.is_some_and(|b| b.shared);
    match (&layer.kind, before.map(|b| &b.layer.kind)) {
        (LayerKind::Activation(Activation::Linear), _) => {
            Some(("gives what it is given", "write which activation it should be, such as `relu`, or remove the entry"))
        }
        (LayerKind::Flatten, Some(LayerKind::Flatten)) if !shared => {
            Some(("reads what is flat already", "remove one of the two"))
        }
        (LayerKind::Flatten, _) if before.and_then(|b| b.rank) == Some(1) => {
            Some(("reads what is flat already", "remove the entry"))
        }
        (LayerKind::Pool { size, strides, .. }, _)
            if ones(&size.value) && ones(strides) && !computed(cx, size.span) =>
        {
            Some(("takes each value alone", "give the size of the window, such as `pool: [2, 2]`, or remove the entry"))
        }
        (LayerKind::Squeeze { dimension: a }, Some(LayerKind::Expand { dimension: b })) if a == b && !shared => {
            Some(("takes away what `expand` has added", "remove both"))
        }
        _ => None,
    }
}

/// For each layer the number of sizes that one sample of its result has, where the Kurfile alone tells.
fn ranks(kurfile: &Kurfile) -> Vec<Option<usize>> {
    let mut ranks: Vec<Option<usize>> = Vec::with_capacity(kurfile.layers.len());
    for layer in &kurfile.layers {
        let before = layer.inputs.first().and_then(|i| ranks.get(i.0 as usize)).copied().flatten();
        ranks.push(match &layer.kind {
            // Without sizes of its own a sample is a single number, in a list of one.
            LayerKind::Input { shape, .. } => shape.as_ref().map(|s| s.value.len().max(1)),
            LayerKind::Flatten | LayerKind::Dense { flatten: true, .. } => Some(1),
            LayerKind::Dense { .. }
            | LayerKind::Activation(_)
            | LayerKind::Dropout { .. }
            | LayerKind::BatchNormalization { .. } => before,
            _ => None,
        });
    }
    ranks
}

/// The place of a layer with the templates and includes it came through.
fn place(layer: &Layer) -> Value {
    Value { origin: layer.via.clone(), ..Value::new(Kind::Null, layer.span) }
}
