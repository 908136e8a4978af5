//! The graph IR: whole tensors in SSA form.
//!
//! Invariants (held by [`Graph::add`], checked by `verify`): operands precede their node, so node order is a
//! topological order; each node has one result of the type that shape inference gives it; state is explicit: a step
//! reads [`Op::State`] leaves and hands new values back as [`Role::Update`] results.

use kur_runtime::dim::{Dim, SymbolTable};
use kur_runtime::plan::{Init, StateRole};

use super::infer::{infer, sum_of};
use super::kernel::{ReduceOp, ScalarOp};
use super::op::Op;
use super::types::Type;
use crate::diag::Span;

/// A node and the value it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index of a [`Layer`] in [`Graph::layers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerRef(pub u32);

/// One computation of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// `train`, `test` or `infer`; any word in tests.
    pub name: String,
    /// Symbols of its sizes.
    pub symbols: SymbolTable,
    /// Kurfile layers that nodes point back to.
    pub layers: Vec<Layer>,
    /// State tensors, shared by all steps of a program.
    pub states: Vec<State>,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// What the step hands back.
    pub results: Vec<GraphResult>,
}

/// Where a node came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Container name.
    pub name: String,
    /// 1-based line.
    pub line: u32,
    /// Exact place; `None` for parsed IR text.
    pub span: Option<Span>,
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Operands.
    pub args: Vec<NodeId>,
    /// Type of the result.
    pub ty: Type,
    /// The Kurfile layer it belongs to.
    pub layer: Option<LayerRef>,
}

/// Declaration of a state tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `LAYER/TENSOR`.
    pub name: String,
    /// What it is for.
    pub role: StateRole,
    /// Its (constant) type.
    pub ty: Type,
    /// How it starts.
    pub init: Init,
    /// Whether the optimizer may change it.
    pub trainable: bool,
}

/// A value handed back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphResult {
    /// What for.
    pub role: Role,
    /// The value.
    pub value: NodeId,
}

/// Purpose of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A model output.
    Output(String),
    /// A scalar metric.
    Metric(String),
    /// The new value of a state tensor.
    Update(u32),
    /// The gradient of the loss to a parameter: between the passes `autodiff` and `optimizer` only.
    Gradient(u32),
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Graph {
        Graph {
            name: name.into(),
            symbols: SymbolTable::default(),
            layers: Vec::new(),
            states: Vec::new(),
            nodes: Vec::new(),
            results: Vec::new(),
        }
    }

    /// The node of a value.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The type of a value.
    #[must_use]
    pub fn ty(&self, id: NodeId) -> &Type {
        &self.nodes[id.index()].ty
    }

    /// The shape of a value.
    #[must_use]
    pub fn shape(&self, id: NodeId) -> &[Dim] {
        &self.nodes[id.index()].ty.shape
    }

    /// All node ids in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// Number of uses of every value, results included.
    #[must_use]
    pub fn use_counts(&self) -> Vec<u32> {
        let mut n = vec![0; self.nodes.len()];
        for node in &self.nodes {
            for a in &node.args {
                n[a.index()] += 1;
            }
        }
        for r in &self.results {
            n[r.value.index()] += 1;
        }
        n
    }

    /// Appends a node of a known type without checking it: parser and rebuilding passes, which verify afterwards.
    pub fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
    }

    /// Appends a node whose type follows from its operands.
    ///
    /// # Panics
    /// When the operands do not fit: callers have checked what users can get wrong.
    pub fn add(&mut self, op: Op, args: &[NodeId], layer: Option<LayerRef>) -> NodeId {
        let types: Vec<&Type> = args.iter().map(|a| self.ty(*a)).collect();
        match infer(&op, &types, None) {
            Ok(ty) => self.push(Node { op, args: args.to_vec(), ty, layer }),
            Err(e) => panic!("ill-typed {}: {}", op.name(), e),
        }
    }

    /// Appends a node whose result shape is given (reshape, broadcast, random, convolution gradients).
    ///
    /// # Panics
    /// As [`Graph::add`].
    pub fn add_shaped(&mut self, op: Op, args: &[NodeId], shape: Vec<Dim>, layer: Option<LayerRef>) -> NodeId {
        let types: Vec<&Type> = args.iter().map(|a| self.ty(*a)).collect();
        let want = Type::f32(shape);
        match infer(&op, &types, Some(&want)) {
            Ok(ty) => self.push(Node { op, args: args.to_vec(), ty, layer }),
            Err(e) => panic!("ill-typed {}: {}", op.name(), e),
        }
    }

    /// Removes nodes that no result needs (inputs and used states stay in order) and renumbers the rest.
    pub fn compact(&mut self) {
        let mut live = vec![false; self.nodes.len()];
        for r in &self.results {
            live[r.value.index()] = true;
        }
        for i in (0..self.nodes.len()).rev() {
            if matches!(self.nodes[i].op, Op::Input { .. }) {
                live[i] = true;
            }
            if live[i] {
                for a in &self.nodes[i].args {
                    live[a.index()] = true;
                }
            }
        }
        let mut map = vec![NodeId(u32::MAX); self.nodes.len()];
        let old = std::mem::take(&mut self.nodes);
        for (i, mut node) in old.into_iter().enumerate() {
            if live[i] {
                for a in &mut node.args {
                    *a = map[a.index()];
                }
                map[i] = self.push(node);
            }
        }
        for r in &mut self.results {
            r.value = map[r.value.index()];
        }
    }
}

/// Appends nodes for one layer: the vocabulary in which layers, losses, optimizers and gradients are written.
pub struct Builder<'g> {
    /// The graph that grows.
    pub graph: &'g mut Graph,
    /// Layer of the nodes that are appended.
    pub layer: Option<LayerRef>,
}

impl<'g> Builder<'g> {
    /// A builder for nodes of one layer.
    pub fn new(graph: &'g mut Graph, layer: Option<LayerRef>) -> Builder<'g> {
        Builder { graph, layer }
    }

    /// The shape of a value.
    #[must_use]
    pub fn shape(&self, x: NodeId) -> Vec<Dim> {
        self.graph.shape(x).to_vec()
    }

    /// Any operation whose type follows from its operands.
    pub fn op(&mut self, op: Op, args: &[NodeId]) -> NodeId {
        self.graph.add(op, args, self.layer)
    }

    /// Any operation with a given result shape.
    pub fn shaped(&mut self, op: Op, args: &[NodeId], shape: Vec<Dim>) -> NodeId {
        self.graph.add_shaped(op, args, shape, self.layer)
    }

    /// A scalar constant.
    pub fn constant(&mut self, v: f64) -> NodeId {
        self.op(Op::Const(v), &[])
    }

    /// A size as a scalar.
    pub fn size(&mut self, d: Dim) -> NodeId {
        #[expect(clippy::cast_precision_loss, reason = "sizes above 2^53 cannot be allocated")]
        match d.as_const() {
            Some(n) => self.constant(n as f64),
            None => self.op(Op::Size(d), &[]),
        }
    }

    /// A scalar operation with broadcasting.
    pub fn map(&mut self, op: ScalarOp, args: &[NodeId]) -> NodeId {
        self.op(Op::Map(op), args)
    }

    /// a + b.
    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.map(ScalarOp::Add, &[a, b])
    }

    /// a − b.
    pub fn sub(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.map(ScalarOp::Sub, &[a, b])
    }

    /// a · b.
    pub fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.map(ScalarOp::Mul, &[a, b])
    }

    /// a / b.
    pub fn div(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.map(ScalarOp::Div, &[a, b])
    }

    /// −a.
    pub fn neg(&mut self, a: NodeId) -> NodeId {
        self.map(ScalarOp::Neg, &[a])
    }

    /// a + constant.
    pub fn add_const(&mut self, a: NodeId, c: f64) -> NodeId {
        let c = self.constant(c);
        self.add(a, c)
    }

    /// a · constant.
    pub fn mul_const(&mut self, a: NodeId, c: f64) -> NodeId {
        let c = self.constant(c);
        self.mul(a, c)
    }

    /// Sum along axes, kept with size 1.
    pub fn sum(&mut self, x: NodeId, axes: &[usize]) -> NodeId {
        if axes.is_empty() {
            return x;
        }
        self.op(Op::Reduce { op: ReduceOp::Add, axes: axes.to_vec() }, &[x])
    }

    /// Mean along axes, kept with size 1.
    pub fn mean(&mut self, x: NodeId, axes: &[usize]) -> NodeId {
        let shape = self.shape(x);
        let count = Dim::product(&axes.iter().map(|a| shape[*a]).collect::<Vec<_>>());
        let s = self.sum(x, axes);
        let n = self.size(count);
        self.div(s, n)
    }

    /// The mean of all elements, a scalar.
    pub fn mean_all(&mut self, x: NodeId) -> NodeId {
        let shape = self.shape(x);
        let axes: Vec<usize> = (0..shape.len()).collect();
        let s = self.sum(x, &axes);
        let s = self.reshape(s, Vec::new());
        let n = self.size(Dim::product(&shape));
        self.div(s, n)
    }

    /// The same elements under another shape.
    pub fn reshape(&mut self, x: NodeId, shape: Vec<Dim>) -> NodeId {
        if self.graph.shape(x) == shape {
            return x;
        }
        self.shaped(Op::Reshape, &[x], shape)
    }

    /// Repeats size-1 or missing axes.
    pub fn broadcast(&mut self, x: NodeId, shape: Vec<Dim>) -> NodeId {
        if self.graph.shape(x) == shape {
            return x;
        }
        self.shaped(Op::Broadcast, &[x], shape)
    }

    /// Values one behind the other along an axis.
    ///
    /// # Panics
    /// When the sum of their sizes is no monomial (see [`Builder::concat_to`]).
    pub fn concat(&mut self, parts: &[NodeId], axis: usize) -> NodeId {
        match parts {
            [one] => *one,
            parts => self.op(Op::Concat { axis }, parts),
        }
    }

    /// As [`Builder::concat`] with the size of the result's axis.
    pub fn concat_to(&mut self, parts: &[NodeId], axis: usize, size: Dim) -> NodeId {
        let [first, _, ..] = parts else { return self.concat(parts, axis) };
        let mut shape = self.shape(*first);
        shape[axis] = size;
        self.shaped(Op::Concat { axis }, parts, shape)
    }

    /// `len` cells of an axis from `start` on.
    pub fn slice(&mut self, x: NodeId, axis: usize, start: Dim, len: Dim) -> NodeId {
        let mut shape = self.shape(x);
        if shape[axis] == len {
            return x;
        }
        shape[axis] = len;
        self.shaped(Op::Slice { axis, start: sum_of(&[start]) }, &[x], shape)
    }

    /// The value from `start` on in an axis of `size` cells that are 0 elsewhere.
    pub fn pad(&mut self, x: NodeId, axis: usize, start: Dim, size: Dim) -> NodeId {
        let mut shape = self.shape(x);
        if shape[axis] == size {
            return x;
        }
        shape[axis] = size;
        self.shaped(Op::Pad { axis, start: sum_of(&[start]) }, &[x], shape)
    }

    /// Sums a gradient of a broadcast operand back to the operand's shape.
    pub fn unbroadcast(&mut self, g: NodeId, shape: &[Dim]) -> NodeId {
        let from = self.shape(g);
        let extra = from.len() - shape.len();
        let axes: Vec<usize> = (0..from.len())
            .filter(|&i| i < extra && from[i] != Dim::ONE || i >= extra && shape[i - extra] != from[i])
            .collect();
        let s = self.sum(g, &axes);
        self.reshape(s, shape.to_vec())
    }
}
