//! Typed Kurfile to graph IR, one graph per step. Shapes are inferred on the way; what does not fit is reported with
//! the Kurfile places of both sides.

use std::collections::BTreeSet;

use kur_runtime::dim::Dim;
use kur_runtime::plan::InputRole;

use super::layers;
use super::losses;
use crate::diag::{Diagnostic, Reported, Sink, SourceMap, Span};
use crate::ir::graph::{Builder, Graph, GraphResult, Layer, LayerRef, Node, NodeId, Role};
use crate::ir::op::Op;
use crate::ir::types::Type;
use crate::model::types::{DataShape, Kurfile, LayerId, LayerKind, LossKind};

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
    pub(super) sources: &'a SourceMap,
    pub(super) sink: &'a mut Sink,
    pub(super) graph: Graph,
    /// Shapes known from data.
    pub(super) data: &'a [DataShape],
    /// Number of the next drawing operation.
    pub(super) next_random: u32,
    /// Names of the states so far.
    pub(super) tensors: BTreeSet<String>,
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
    /// Output shape without the batch and number of parameters, per Kurfile layer.
    pub layers: Vec<(Vec<Dim>, u64)>,
    /// Shape without the batch per model output, and whether it is a softmax.
    pub outputs: Vec<(Vec<Dim>, bool)>,
}

/// Lowers one step.
///
/// # Errors
/// Shape errors, missing shapes, losses that do not fit; all of them are reported.
pub fn lower(
    kurfile: &Kurfile,
    mode: Mode,
    data: &[DataShape],
    sources: &SourceMap,
    sink: &mut Sink,
) -> Result<Lowered, Reported> {
    let mut graph = Graph::new(mode.name());
    for l in &kurfile.layers {
        let line = sources.line(l.span);
        graph.layers.push(Layer { name: l.name.clone(), line, span: Some(l.span) });
    }
    let mut cx =
        Cx { kurfile, mode, sources, sink, graph, data, next_random: 1, tensors: BTreeSet::new(), values: Vec::new() };
    let mut failed = None;
    let mut info = Vec::new();
    for (i, layer) in kurfile.layers.iter().enumerate() {
        let states = cx.graph.states.len();
        let at = LayerRef(u32::try_from(i).unwrap_or(u32::MAX));
        let inputs: Option<Vec<Value>> = layer.inputs.iter().map(|l| cx.value(*l)).collect();
        // A layer below a faulty one is not lowered: its shape is unknown, and the cause is reported already.
        let value = match inputs {
            None => None,
            Some(inputs) => match layers::lower(&mut cx, layer, at, &inputs) {
                Ok(v) => Some(v),
                Err(e) => {
                    failed = Some(e);
                    None
                }
            },
        };
        cx.values.push(value);
        let params = cx.graph.states[states..]
            .iter()
            .filter(|s| s.role == kur_runtime::plan::StateRole::Param)
            .map(|s| s.ty.len().coef())
            .sum();
        let shape = value.map_or(Vec::new(), |v| cx.graph.shape(v.node)[1..].to_vec());
        info.push((shape, params));
    }
    if let Some(e) = failed {
        return Err(e);
    }
    let mut regression = vec![false; kurfile.outputs.len()];
    for l in kurfile.losses.iter().filter(|l| l.kind == LossKind::MeanSquaredError) {
        regression[l.output] = true;
    }
    let mut outputs = Vec::new();
    for (o, regression) in kurfile.outputs.iter().zip(regression) {
        let Some(v) = cx.value(o.layer) else { continue };
        outputs.push((cx.graph.shape(v.node)[1..].to_vec(), v.logits.is_some()));
        // The test step leaves regressions behind too, so that errors can be told in the units of a scaled target.
        if mode == Mode::Infer || mode == Mode::Test && regression {
            cx.graph.results.push(GraphResult { role: Role::Output(o.name.clone()), value: v.node });
        }
    }
    if mode != Mode::Infer {
        losses::lower(&mut cx)?;
    }
    cx.sink.check()?;
    let mut graph = cx.graph;
    graph.compact();
    Ok(Lowered { graph, layers: info, outputs })
}

/// Spans of a layer and of the layer it reads, for shape errors that concern both.
pub(super) fn mismatch(
    cx: &mut Cx<'_>,
    message: String,
    (layer, label): (Span, String),
    from: Option<(LayerId, NodeId)>,
    help: String,
) -> Reported {
    let mut d = Diagnostic::error("shape-mismatch", message).at(layer, label);
    if let Some((id, node)) = from {
        let producer = &cx.kurfile.layers[id.0 as usize];
        let shape = cx.shape_text(node);
        d = d.also(producer.span, format!("`{}` gives {shape} (batch not counted)", producer.kind.word()));
        // The chain above it, so that one sees where the shape came from.
        let mut chain = Vec::new();
        let mut at = Some(id);
        while let Some(l) = at {
            let Some(v) = cx.value(l) else { break };
            let k = &cx.kurfile.layers[l.0 as usize];
            let line = cx.sources.line(k.span);
            let what = match &k.kind {
                LayerKind::Input { .. } => format!("input `{}`", k.name),
                kind => kind.word().to_owned(),
            };
            chain.push(format!("{what} (line {line}) {}", cx.shape_text(v.node)));
            at = k.inputs.first().copied();
        }
        chain.reverse();
        const SHOWN: usize = 6;
        let skip = chain.len().saturating_sub(SHOWN);
        let dots = if skip > 0 { "… -> " } else { "" };
        d = d.note(format!("shapes so far: {dots}{}", chain[skip..].join(" -> ")));
    }
    cx.sink.fail(d.help(help))
}
