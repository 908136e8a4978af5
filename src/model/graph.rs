//! Nodes -> layers in topological order, and the model's outputs (kur-reference 2.4).
//!
//! Comes in: the flat node list of `containers`. Goes out: layers each of whose inputs precede it, and outputs that
//! point at the layers that compute them. Nodes that compute nothing (`output`, layers switched off) are resolved away:
//! they hand their input on and take over its names.

use std::collections::BTreeMap;

use crate::diag::{Reported, Span, Suggestions};

use super::containers::{Node, NodeKind};
use super::cx::Cx;
use super::report::graph::{
    cyclic_inputs, duplicate_name, input_with_inputs, no_input, softmax_over_one, too_many_inputs, unknown_input,
    unused_input,
};
use super::types::{Activation, Layer, LayerId, LayerKind, ModelOutput};

/// The connected model.
pub(super) struct Graph {
    pub(super) layers: Vec<Layer>,
    pub(super) outputs: Vec<ModelOutput>,
    /// Every name of every node with its place, for errors about names that are no outputs.
    pub(super) names: BTreeMap<String, Span>,
    /// The layer that makes the value of every name.
    pub(super) made_by: BTreeMap<String, LayerId>,
}

/// Connects the nodes. `before` is the number of errors before the model was read: a model with mistakes is checked
/// as far as possible, but gives no graph.
///
/// # Errors
/// `duplicate-name`, `unknown-input`, `input-with-inputs`, `no-input`, `too-many-inputs`, `cyclic-inputs`.
/// Warnings: `unused-input`, `softmax-over-one`.
pub(super) fn connect(cx: &mut Cx<'_>, mut nodes: Vec<Node>, before: usize) -> Result<Graph, Reported> {
    let names = index_names(cx, &nodes);
    let inputs = edges(cx, &nodes, &names);
    let order = order(cx, &nodes, &inputs)?;
    let consumed = consumed(&inputs, nodes.len());
    cx.sink.check_since(before)?;
    for (i, node) in nodes.iter().enumerate() {
        if !consumed[i] && matches!(node.kind, NodeKind::Layer(LayerKind::Input { .. })) {
            cx.push(unused_input(&node.name.value, node.span));
        }
    }

    let mut is_output: Vec<bool> = nodes.iter().zip(&consumed).map(|(n, c)| n.sink || !c).collect();
    let mut layers: Vec<Layer> = Vec::new();
    let mut made_by: Vec<Option<LayerId>> = vec![None; nodes.len()];
    for i in order {
        let sources: Vec<LayerId> = inputs[i].iter().filter_map(|&j| made_by[j]).collect();
        match &nodes[i].kind {
            NodeKind::Layer(kind) => {
                made_by[i] = u32::try_from(layers.len()).ok().map(LayerId);
                let n = &nodes[i];
                // Names are still complete here: only later nodes take them over.
                let is_input = matches!(kind, LayerKind::Input { .. });
                let name = n.names.first().filter(|_| !is_input).unwrap_or(&n.name);
                let layer = Layer {
                    name: name.value.clone(),
                    span: n.span,
                    inputs: sources,
                    kind: with_children(kind, &n.children),
                    freeze: n.freeze,
                    regularizer: n.regularizer,
                    via: n.via.clone(),
                };
                layers.push(layer);
            }
            NodeKind::Pass | NodeKind::Broken | NodeKind::Reuse(_) => {
                made_by[i] = sources.first().copied();
                let Some(&source) = inputs[i].first() else { continue };
                let taken = std::mem::take(&mut nodes[source].names);
                nodes[i].names.extend(taken);
                // An output whose names went away lives on under the new ones.
                is_output[i] |= is_output[source];
                is_output[source] = false;
            }
        }
    }
    warn_softmax(cx, &layers);
    let outputs =
        nodes.iter().enumerate().filter(|(i, n)| is_output[*i] && !n.names.is_empty()).filter_map(|(i, n)| {
            let mut texts = n.names.iter().map(|n| n.value.clone());
            Some(ModelOutput { name: texts.next()?, aliases: texts.collect(), layer: made_by[i]?, span: n.span })
        });
    let outputs = outputs.collect();
    let made_by = names.iter().filter_map(|(name, i)| Some((name.clone(), made_by[*i]?))).collect();
    let places = names.into_iter().map(|(name, i)| (name, nodes[i].span)).collect();
    Ok(Graph { layers, outputs, names: places, made_by })
}

/// The layer of a node with the layers of its children in it; children that compute nothing are left out.
fn with_children(kind: &LayerKind, children: &[Node]) -> LayerKind {
    match kind {
        LayerKind::Parallel { .. } => {
            let layer = |n: &Node| match &n.kind {
                NodeKind::Layer(kind) => Some(Layer {
                    name: n.names.first().unwrap_or(&n.name).value.clone(),
                    span: n.span,
                    inputs: Vec::new(),
                    kind: with_children(kind, &n.children),
                    freeze: n.freeze,
                    regularizer: n.regularizer,
                    via: n.via.clone(),
                }),
                NodeKind::Pass | NodeKind::Broken | NodeKind::Reuse(_) => None,
            };
            LayerKind::Parallel { apply: children.iter().filter_map(layer).collect() }
        }
        LayerKind::Reuse { target, kind } => {
            LayerKind::Reuse { target: target.clone(), kind: Box::new(with_children(kind, children)) }
        }
        _ => kind.clone(),
    }
}

/// All names of all nodes; those inside a `parallel` are taken too, but lead nowhere.
fn index_names(cx: &mut Cx<'_>, nodes: &[Node]) -> BTreeMap<String, usize> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut places: BTreeMap<&str, Span> = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in &node.names {
            if let Some(first) = places.insert(&name.value, name.span) {
                cx.push(duplicate_name(&name.value, name.span, first));
                places.insert(&name.value, first);
            } else {
                names.insert(name.value.clone(), i);
            }
        }
    }
    // The children of a reused `parallel` are copies: only those of its first use give their names.
    let mut chains: Vec<&Node> = nodes.iter().filter(|n| !is_reuse(n)).rev().collect();
    while let Some(node) = chains.pop() {
        for child in &node.children {
            for name in &child.names {
                if let Some(first) = places.insert(&name.value, name.span) {
                    cx.push(duplicate_name(&name.value, name.span, first));
                    places.insert(&name.value, first);
                }
            }
        }
        chains.extend(node.children.iter().filter(|n| !is_reuse(n)).rev());
    }
    names
}

fn is_reuse(node: &Node) -> bool {
    matches!(node.kind, NodeKind::Layer(LayerKind::Reuse { .. }))
}

/// The nodes each node reads. Broken references are reported and left out.
fn edges(cx: &mut Cx<'_>, nodes: &[Node], names: &BTreeMap<String, usize>) -> Vec<Vec<usize>> {
    let known: Vec<&str> = names.keys().map(String::as_str).filter(|n| !n.starts_with("..")).collect();
    let mut suggestions = Suggestions::new(known);
    let mut all = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let is_input = matches!(node.kind, NodeKind::Layer(LayerKind::Input { .. }));
        let mut own = Vec::new();
        match &node.inputs {
            Some(inputs) if is_input => cx.push(input_with_inputs(node.span, inputs.span)),
            Some(inputs) => {
                for name in &inputs.value {
                    match names.get(&name.value) {
                        Some(&j) => own.push(j),
                        None => cx.push(unknown_input(&name.value, name.span, suggestions.take())),
                    }
                }
                let joins = match &node.kind {
                    NodeKind::Layer(LayerKind::Reuse { kind, .. }) => matches!(**kind, LayerKind::Merge { .. }),
                    NodeKind::Layer(kind) => matches!(kind, LayerKind::Merge { .. }),
                    NodeKind::Broken => true,
                    NodeKind::Pass | NodeKind::Reuse(_) => false,
                };
                if inputs.value.len() > 1 && !joins {
                    cx.push(too_many_inputs(node.span, node.word, inputs.span, inputs.value.len()));
                }
            }
            None if is_input => {}
            None if i > 0 => own.push(i - 1),
            None if matches!(node.kind, NodeKind::Broken) => {}
            None => cx.push(no_input(node.span, node.word)),
        }
        all.push(own);
    }
    all
}

fn consumed(inputs: &[Vec<usize>], count: usize) -> Vec<bool> {
    let mut consumed = vec![false; count];
    inputs.iter().flatten().for_each(|&j| consumed[j] = true);
    consumed
}

/// Nodes without inputs first, then repeated passes in file order (kur-reference 2.4.3).
///
/// The passes are not made: a node's pass is that of its latest input, or the one after it when that input stands
/// further down in the file, so one walk along the edges finds them all.
fn order(cx: &mut Cx<'_>, nodes: &[Node], inputs: &[Vec<usize>]) -> Result<Vec<usize>, Reported> {
    let count = nodes.len();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (i, own) in inputs.iter().enumerate() {
        own.iter().for_each(|&j| readers[j].push(i));
    }
    let mut waits: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let mut pass = vec![0usize; count];
    let mut order: Vec<usize> = (0..count).filter(|&i| waits[i] == 0).collect();
    let mut next = 0;
    while let Some(&j) = order.get(next) {
        next += 1;
        for &i in &readers[j] {
            let again = usize::from(pass[j] == 0 || j > i);
            pass[i] = pass[i].max(pass[j] + again);
            waits[i] -= 1;
            if waits[i] == 0 {
                order.push(i);
            }
        }
    }
    if order.len() < count {
        let circle = circle(inputs, &waits);
        let places: Vec<(Span, String)> =
            circle.iter().map(|&i| (nodes[i].span, nodes[i].name.value.clone())).collect();
        return Err(cx.fail(cyclic_inputs(&places)));
    }
    order.sort_unstable_by_key(|&i| (pass[i], i));
    Ok(order)
}

/// The nodes of one circle among those that still wait for inputs, in the order in which values would flow.
fn circle(inputs: &[Vec<usize>], waits: &[usize]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut place: Vec<Option<usize>> = vec![None; inputs.len()];
    let mut at = waits.iter().position(|w| *w > 0).unwrap_or(0);
    while place[at].is_none() {
        place[at] = Some(path.len());
        path.push(at);
        // A node that waits has an input that waits.
        at = inputs[at].iter().copied().find(|&j| waits[j] > 0).unwrap_or(at);
    }
    let mut circle = path.split_off(place[at].unwrap_or(0));
    circle.sort_unstable();
    circle
}

fn warn_softmax(cx: &mut Cx<'_>, layers: &[Layer]) {
    for layer in layers {
        if !matches!(layer.kind, LayerKind::Activation(Activation::Softmax)) {
            continue;
        }
        let source = layer.inputs.first().and_then(|id| layers.get(id.0 as usize));
        if let Some(Layer { kind: LayerKind::Dense { sizes, .. }, span, .. }) = source
            && sizes.last().is_some_and(|s| s.value == 1)
        {
            cx.push(softmax_over_one(layer.span, *span));
        }
    }
}
