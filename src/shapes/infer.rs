//! The walk over the layers: keeps what was found so far, the weights of each layer, and where a value came from.

use std::collections::BTreeMap;

use super::{LayerShape, Shapes, Size, report, rules};
use crate::diag::{Diagnostic, Sink, SourceMap, Span};
use crate::model::types::{DataShape, Kurfile, Layer, LayerId, LayerKind};

/// Elements of one tensor, or of one sample of a layer, beyond which a model is refused: 256 GiB of f32.
pub(super) const MAX_ELEMENTS: u64 = 1 << 36;

/// What an input is that has neither a shape nor data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// An error: a program is to be built.
    Error,
    /// A warning: only a look at the Kurfile is wanted.
    Warning,
    /// Nothing: why the data could not be seen was said already.
    Silent,
}

/// Infers the shapes of all layers. Findings go to `sink`; a faulty layer has no shape.
pub fn infer(kurfile: &Kurfile, data: &[DataShape], unseen: Unseen, sources: &SourceMap, sink: &mut Sink) -> Shapes {
    let cx =
        Cx { kurfile, data, unseen, sources, sink, rows: Vec::new(), weights: BTreeMap::new(), reuses: Vec::new() };
    cx.run()
}

/// What the rules work with.
pub(super) struct Cx<'a, 's> {
    pub(super) kurfile: &'a Kurfile,
    pub(super) data: &'a [DataShape],
    pub(super) unseen: Unseen,
    pub(super) sources: &'a SourceMap,
    pub(super) sink: &'s mut Sink,
    rows: Vec<LayerShape>,
    /// Weights of every layer, those inside `parallel` included, by name.
    weights: BTreeMap<&'a str, (Span, Vec<Vec<u64>>)>,
    /// Layers that use the weights of others, which may come later.
    reuses: Vec<Reuse<'a>>,
}

/// A use of the weights of another layer: its name, and what the new input asks of them.
struct Reuse<'a> {
    layer: &'a Layer,
    target: &'a str,
    tensors: Vec<Vec<u64>>,
}

/// Where a value comes from.
#[derive(Clone, Copy)]
pub(super) enum Place<'p, 'a> {
    /// A layer of the model.
    Layer(LayerId),
    /// Inside a `parallel`: the layers of its chain so far, and what the `parallel` reads.
    Inside(&'p [(&'a Layer, Vec<Size>)], &'p Place<'p, 'a>),
}

/// A value that a layer reads: its shape without the batch, and its origin.
#[derive(Clone)]
pub(super) struct Seen<'p, 'a> {
    pub(super) shape: Vec<Size>,
    pub(super) place: Place<'p, 'a>,
}

/// The weights of a layer while its rule runs.
#[derive(Default)]
pub(super) struct Weights {
    /// Shapes of the weights in their order.
    pub(super) tensors: Vec<Vec<u64>>,
    pub(super) params: u64,
    pub(super) running: u64,
    /// Whether some weights could not be counted.
    pub(super) unknown: bool,
    pub(super) children: Vec<LayerShape>,
}

impl Weights {
    pub(super) fn row(self, shape: Option<Vec<Size>>) -> LayerShape {
        let params = (!self.unknown).then_some(self.params);
        LayerShape { shape, params, running: self.running, children: self.children }
    }
}

impl<'a> Cx<'a, '_> {
    fn run(mut self) -> Shapes {
        for layer in &self.kurfile.layers {
            let inputs: Vec<Option<Seen<'_, 'a>>> = layer
                .inputs
                .iter()
                .map(|&id| {
                    let shape = self.rows.get(id.0 as usize)?.shape.clone()?;
                    Some(Seen { shape, place: Place::Layer(id) })
                })
                .collect();
            let (shape, weights) = self.layer(layer, &inputs);
            self.rows.push(weights.row(shape));
        }
        self.names_of_tensors();
        self.fit_reuses();
        Shapes { layers: self.rows }
    }

    /// One layer on its inputs; `None` is an input of unknown shape.
    pub(super) fn layer(&mut self, layer: &'a Layer, inputs: &[Option<Seen<'_, 'a>>]) -> (Option<Vec<Size>>, Weights) {
        let mut weights = Weights::default();
        let shape = rules::layer(self, layer, &layer.kind, inputs, &mut weights);
        let shape = shape.filter(|s| {
            let elements = s.iter().filter_map(|s| s.known()).fold(1, u64::saturating_mul);
            if elements > MAX_ELEMENTS {
                self.push(layer, report::large_sample(layer, s));
            }
            elements <= MAX_ELEMENTS
        });
        if !matches!(layer.kind, LayerKind::Reuse { .. }) && !weights.unknown {
            self.weights.entry(&layer.name).or_insert_with(|| (layer.span, weights.tensors.clone()));
        }
        (shape, weights)
    }

    /// Notes that a layer uses the weights of another.
    pub(super) fn reuse(&mut self, layer: &'a Layer, target: &'a str, tensors: Vec<Vec<u64>>) {
        self.reuses.push(Reuse { layer, target, tensors });
    }

    /// Counts a tensor of trained values.
    pub(super) fn weight(&mut self, layer: &Layer, weights: &mut Weights, shape: &[u64]) {
        let len = shape.iter().copied().fold(1, u64::saturating_mul);
        if len > MAX_ELEMENTS {
            self.push(layer, report::large_tensor(layer, shape));
        }
        weights.params = weights.params.saturating_add(len);
        weights.tensors.push(shape.to_vec());
    }

    /// Reports a finding at a layer, with the places through which the layer came.
    pub(super) fn push(&mut self, layer: &Layer, d: Diagnostic) {
        self.sink.push(report::via(layer, d));
    }

    /// The inner layers of a `dense` list are called NAME.0, NAME.1, …, both directions of a recurrent layer NAME_fwd and
    /// NAME_rev: names that other layers may have.
    fn names_of_tensors(&mut self) {
        let mut findings = Vec::new();
        let mut open: Vec<&'a Layer> = self.kurfile.layers.iter().rev().collect();
        while let Some(layer) = open.pop() {
            match &layer.kind {
                LayerKind::Parallel { apply } => open.extend(apply.iter().rev()),
                LayerKind::Dense { sizes, .. } => {
                    for i in 0..sizes.len().saturating_sub(1) {
                        let inner = format!("{}.{i}", layer.name);
                        if let Some((span, tensors)) = self.weights.get(inner.as_str())
                            && !tensors.is_empty()
                        {
                            findings.push((layer, report::duplicate_tensor(&inner, layer, *span)));
                        }
                    }
                }
                LayerKind::Recurrent(r) if r.bidirectional.is_some() => {
                    for inner in ["fwd", "rev"].map(|end| format!("{}_{end}", layer.name)) {
                        if let Some((span, tensors)) = self.weights.get(inner.as_str())
                            && !tensors.is_empty()
                        {
                            findings.push((layer, report::duplicate_tensor(&inner, layer, *span)));
                        }
                    }
                }
                _ => {}
            }
        }
        for (layer, d) in findings {
            self.push(layer, d);
        }
    }

    fn fit_reuses(&mut self) {
        for reuse in std::mem::take(&mut self.reuses) {
            let Some((span, tensors)) = self.weights.get(reuse.target) else { continue };
            if *tensors != reuse.tensors {
                let pair = tensors.iter().zip(&reuse.tensors).find(|(a, b)| a != b);
                let d = report::reuse_of_other_size(reuse.layer, reuse.target, *span, pair);
                self.push(reuse.layer, d);
            }
        }
    }

    /// The layers above a value with their shapes, the nearest first; not more than `most`.
    pub(super) fn trail(&self, place: Place<'_, 'a>, most: usize) -> Vec<(&'a Layer, Vec<Size>)> {
        let mut trail: Vec<(&Layer, Vec<Size>)> = Vec::new();
        let mut place = place;
        while let Place::Inside(steps, outer) = place {
            trail.extend(steps.iter().rev().take(most.saturating_sub(trail.len())).cloned());
            place = *outer;
        }
        let Place::Layer(id) = place else { return trail };
        let mut at = Some(id);
        while let Some(id) = at.filter(|_| trail.len() < most) {
            let (Some(layer), Some(row)) = (self.kurfile.layers.get(id.0 as usize), self.rows.get(id.0 as usize))
            else {
                break;
            };
            let Some(shape) = &row.shape else { break };
            trail.push((layer, shape.clone()));
            at = layer.inputs.first().copied();
        }
        trail
    }
}
