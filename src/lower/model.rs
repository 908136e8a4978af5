//! Typed Kurfile with inferred shapes to graph IR, one graph per step. That the shapes fit is known before; findings
//! here are about losses and targets.

use std::collections::BTreeMap;

use kur_runtime::dim::Dim;
use kur_runtime::plan::InputRole;

use super::layers;
use super::losses;
use crate::diag::{Diagnostic, Reported, Sink, SourceMap};
use crate::ir::graph::{Builder, Graph, GraphResult, Layer, LayerRef, Node, NodeId, Role};
use crate::ir::op::Op;
use crate::ir::types::Type;
use crate::model::types::{DataShape, Kurfile, Layer as KurLayer, LayerId};
use crate::shapes::Shapes;

/// Which step a graph is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout and batch statistics are on; losses and metrics are results.
    Train,
    /// As for inference, with losses and metrics.
    Test,
    /// Outputs only.
    Infer,
}

impl Mode {
    /// Name of the step.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Train => "train",
            Mode::Test => "test",
            Mode::Infer => "infer",
        }
    }
}

/// A lowered layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// Its result.
    pub(super) node: NodeId,
    /// The argument of the softmax, when the result is one.
    pub(super) logits: Option<NodeId>,
}

/// What layers are lowered with.
pub(super) struct Cx<'a> {
    pub(super) kurfile: &'a Kurfile,
    pub(super) mode: Mode,
    /// Inferred shapes, one for each layer.
    pub(super) shapes: &'a Shapes,
    pub(super) sink: &'a mut Sink,
    pub(super) graph: Graph,
    /// Shapes of targets known from data.
    pub(super) data: &'a [DataShape],
    /// Number of the next drawing operation.
    pub(super) next_random: u32,
    /// States by name: a layer that is reused finds those of the original here.
    pub(super) states: BTreeMap<String, NodeId>,
    /// Where among the results the update of a state is.
    pub(super) updates: BTreeMap<u32, usize>,
    values: Vec<Option<Value>>,
}

impl Cx<'_> {
    pub(super) fn value(&self, id: LayerId) -> Option<Value> {
        self.values.get(id.0 as usize).copied().flatten()
    }

    pub(super) fn builder(&mut self, layer: LayerRef) -> Builder<'_> {
        Builder::new(&mut self.graph, Some(layer))
    }

    /// Adds a leaf that the data pipeline fills.
    pub(super) fn input(&mut self, name: &str, role: InputRole, shape: Vec<Dim>, layer: Option<LayerRef>) -> NodeId {
        let op = Op::Input { name: name.to_owned(), role };
        self.graph.push(Node { op, args: Vec::new(), ty: Type::f32(shape), layer })
    }

    /// The shape of a value without the batch, as text.
    pub(super) fn shape_text(&self, node: NodeId) -> String {
        shape_text(&self.graph, node)
    }
}

/// The shape of a value without the batch: `[28, 28, 1]`.
#[must_use]
pub fn shape_text(graph: &Graph, node: NodeId) -> String {
    let dims: Vec<String> = graph.shape(node).iter().skip(1).map(|d| d.display(&graph.symbols).to_string()).collect();
    format!("[{}]", dims.join(", "))
}

/// A step as a graph, with what the summary needs.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The graph: outputs for inference; loss and metrics for training and testing.
    pub graph: Graph,
    /// Shape without the batch per model output, and whether it is a softmax.
    pub outputs: Vec<(Vec<Dim>, bool)>,
}

/// Lowers one step.
///
/// # Errors
/// Missing losses, targets that do not fit; all of them are reported.
pub fn lower(
    kurfile: &Kurfile,
    mode: Mode,
    shapes: &Shapes,
    data: &[DataShape],
    sources: &SourceMap,
    sink: &mut Sink,
) -> Result<Lowered, Reported> {
    let mut graph = Graph::new(mode.name());
    for l in &kurfile.layers {
        let line = sources.line(l.span);
        graph.layers.push(Layer { name: l.name.clone(), line, span: Some(l.span) });
    }
    let mut cx = Cx {
        kurfile,
        mode,
        shapes,
        sink,
        graph,
        data,
        next_random: 1,
        states: BTreeMap::new(),
        updates: BTreeMap::new(),
        values: Vec::new(),
    };
    for (i, layer) in kurfile.layers.iter().enumerate() {
        let at = LayerRef(u32::try_from(i).unwrap_or(u32::MAX));
        let inputs: Vec<Value> = layer.inputs.iter().filter_map(|l| cx.value(*l)).collect();
        let value = layers::lower(&mut cx, layer, at, &inputs)?;
        cx.values.push(Some(value));
    }
    let mut measured = vec![false; kurfile.outputs.len()];
    for l in kurfile.losses.iter().filter(|l| l.kind.is_regression() || !l.metrics.is_empty()) {
        measured[l.output] = true;
    }
    let mut outputs = Vec::new();
    for (o, measured) in kurfile.outputs.iter().zip(measured) {
        let Some(v) = cx.value(o.layer) else { continue };
        outputs.push((cx.graph.shape(v.node)[1..].to_vec(), v.logits.is_some()));
        // The test step leaves regressions behind too, so that errors can be told in the units of a scaled target, and
        // whatever the runtime measures over the whole set.
        if mode == Mode::Infer || mode == Mode::Test && measured {
            cx.graph.results.push(GraphResult { role: Role::Output(o.name.clone()), value: v.node });
        }
    }
    if mode != Mode::Infer {
        losses::lower(&mut cx)?;
    }
    if mode == Mode::Train
        && let Some(source) = kurfile.rate_source()
    {
        // The optimizer finds it by its name. One number a sample unless the data is known to have more.
        let sizes = data.iter().find(|d| d.name == source).map_or_else(|| vec![1], |d| d.shape.clone());
        let shape = std::iter::once(Dim::batch()).chain(sizes.into_iter().map(Dim::constant)).collect();
        cx.input(source, InputRole::Data, shape, None);
    }
    cx.sink.check()?;
    let mut graph = cx.graph;
    graph.compact();
    Ok(Lowered { graph, outputs })
}

/// The id of a finding about kurc itself: a shape that was not inferred as it is.
pub const UNSOUND: &str = "internal";

/// Shapes were inferred before; that lowering finds another one is a bug of kurc.
pub(super) fn unsound(cx: &mut Cx<'_>, layer: &KurLayer) -> Reported {
    let message = format!("`{}` does not have the shape that was inferred for it", layer.kind.word());
    cx.sink.fail(Diagnostic::error(UNSOUND, message).at(layer.span, "this layer"))
}
