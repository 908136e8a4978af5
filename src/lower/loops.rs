//! Clusters to kernel IR: one loop nest per cluster.
//!
//! Shapes are collapsed first: axes of size 1 disappear, and neighbouring axes that every access walks through
//! contiguously become one. What remains decides the form of the nest.

use std::collections::BTreeMap;

use kur_runtime::dim::{BATCH, Dim, Sym};

use crate::ir::graph::{Graph, NodeId};
use crate::ir::kernel::{
    Access, BufDecl, BufId, IdxId, Index, Kernel, LoopMode, Operand, ReduceOp, Scalar, ScalarOp, Stmt, ValId,
};
use crate::ir::op::{Control, Op};
use crate::passes::fuse::{Cluster, ClusterKind, iteration_shape, root};

/// What a kernel's buffer stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Buffer {
    /// The value of a node (never a reshape).
    Value(NodeId),
    /// A state tensor, read and overwritten.
    State(u32),
    /// The control words.
    Control,
    /// A copy of a result that would otherwise lie in an input; by its index among the results.
    Result(u32),
}

/// A kernel with what its launch needs.
pub(super) struct Nest {
    pub(super) kernel: Kernel,
    pub(super) buffers: Vec<Buffer>,
    pub(super) extent: Dim,
    pub(super) grain: u64,
    pub(super) cost: Dim,
}

/// Elements per chunk of a flat loop: chunks stay whole vectors and whole cache lines.
const GRAIN: u64 = 64;

/// Lowers a loop or reduction cluster. `target` says which outputs replace which state in place.
pub(super) fn lower(g: &Graph, cluster: &Cluster, target: &dyn Fn(NodeId) -> Option<u32>) -> Nest {
    let shape = iteration_shape(g, cluster).to_vec();
    let is_reduce = |id: &NodeId| matches!(g.node(*id).op, Op::Reduce { .. });
    let reductions: Vec<NodeId> = match cluster.kind {
        ClusterKind::Reduce => cluster.nodes.iter().copied().filter(is_reduce).collect(),
        _ => Vec::new(),
    };
    let reduced: Vec<bool> = match reductions.first().map(|r| &g.node(*r).op) {
        Some(Op::Reduce { axes, .. }) => (0..shape.len()).map(|i| axes.contains(&i)).collect(),
        _ => vec![false; shape.len()],
    };
    let mut e = Emitter {
        g,
        cluster,
        target,
        accesses: BTreeMap::new(),
        buffers: Vec::new(),
        declared: BTreeMap::new(),
        decls: Vec::new(),
        values: BTreeMap::new(),
        next_val: 0,
        body: Vec::new(),
        indices: Vec::new(),
    };
    e.find_accesses(&shape, &reductions);
    let axes = collapse(&shape, &reduced, &e.accesses);
    e.indices = (0..axes.len()).map(|i| IdxId(u32::try_from(i).unwrap_or(u32::MAX))).collect();
    if reductions.is_empty() { e.elementwise(&axes) } else { e.reduction(&reductions, &axes) }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Touch {
    Load(NodeId),
    Store(NodeId),
    Draw,
}

/// One loop of the nest: the original axes it covers.
struct Axis {
    /// First original axis.
    first: usize,
    /// Last original axis: its strides are the loop's strides.
    last: usize,
    extent: Dim,
    reduced: bool,
}

/// Whether sums are kept in memory, a row of them for each iteration of the outer loops: where a reduction keeps the
/// innermost axis and another one. Its source is then read in the order in which it lies in memory.
fn sums_in_memory(axes: &[Axis]) -> bool {
    axes.last().is_some_and(|a| !a.reduced) && axes.iter().filter(|a| !a.reduced).count() > 1
}

/// The axes from the outermost loop to the innermost: kept axes are outside of reduced ones, whatever their place in the
/// shape, but for the row of sums.
fn loop_order(axes: &[Axis]) -> Vec<usize> {
    let (mut kept, reduced): (Vec<usize>, Vec<usize>) = (0..axes.len()).partition(|i| !axes[*i].reduced);
    let row = if !reduced.is_empty() && sums_in_memory(axes) { kept.pop() } else { None };
    kept.into_iter().chain(reduced).chain(row).collect()
}

/// Row-major strides of a shape.
fn row_major(shape: &[Dim]) -> Vec<Dim> {
    let mut out = vec![Dim::ONE; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = out[i + 1].times(shape[i + 1]);
    }
    out
}

/// Strides of an operand of shape `own` inside loops over `shape` (right-aligned broadcasting).
fn strides(own: &[Dim], shape: &[Dim]) -> Vec<Dim> {
    let inner = row_major(own);
    let lead = shape.len() - own.len();
    (0..shape.len())
        .map(|i| if i < lead || own[i - lead] == Dim::ONE { Dim::constant(0) } else { inner[i - lead] })
        .collect()
}

/// Merges neighbouring axes. The first reduced axis is kept apart from later ones when the innermost axis is kept: a
/// sum over batch and space then runs as a sum of sums, which loses less precision than one long chain.
fn collapse(shape: &[Dim], reduced: &[bool], accesses: &BTreeMap<Touch, Vec<Dim>>) -> Vec<Axis> {
    let columns = reduced.last() == Some(&false);
    let mut out: Vec<Axis> = Vec::new();
    for i in 0..shape.len() {
        if shape[i] == Dim::ONE {
            continue;
        }
        if let Some(p) = out.last_mut() {
            let fits = accesses.values().all(|strides| strides[p.last] == strides[i].times(shape[i]));
            let apart = columns && reduced[i] && p.first == 0;
            if fits && p.reduced == reduced[i] && !apart {
                p.last = i;
                p.extent = p.extent.times(shape[i]);
                continue;
            }
        }
        out.push(Axis { first: i, last: i, extent: shape[i], reduced: reduced[i] });
    }
    out
}

struct Emitter<'a> {
    g: &'a Graph,
    cluster: &'a Cluster,
    target: &'a dyn Fn(NodeId) -> Option<u32>,
    /// Strides of each access over the original axes; zero where the operand is stretched.
    accesses: BTreeMap<Touch, Vec<Dim>>,
    buffers: Vec<Buffer>,
    /// Where a buffer is in `buffers`.
    declared: BTreeMap<Buffer, usize>,
    decls: Vec<BufDecl>,
    /// Values computed so far.
    values: BTreeMap<NodeId, Operand>,
    next_val: u32,
    body: Vec<Stmt>,
    indices: Vec<IdxId>,
}

impl Emitter<'_> {
    fn inside(&self, id: NodeId) -> bool {
        self.cluster.nodes.binary_search(&id).is_ok()
    }

    /// Lists every load, store and draw with its strides, so that axes collapse only where all of them allow it.
    fn find_accesses(&mut self, shape: &[Dim], reductions: &[NodeId]) {
        for id in &self.cluster.nodes {
            let node = self.g.node(*id);
            if matches!(node.op, Op::Random { .. }) {
                self.accesses.insert(Touch::Draw, row_major(shape));
                continue;
            }
            for a in &node.args {
                let op = &self.g.node(*a).op;
                if self.inside(*a) || matches!(op, Op::Const(_) | Op::Size(_) | Op::Control(_)) {
                    continue;
                }
                self.accesses.entry(Touch::Load(*a)).or_insert_with(|| match &node.op {
                    Op::Transpose { perm } => {
                        let own = row_major(self.g.shape(*a));
                        perm.iter().map(|p| own[*p]).collect()
                    }
                    _ => strides(self.g.shape(*a), shape),
                });
            }
        }
        for id in &self.cluster.outputs {
            let s = if reductions.contains(id) { strides(self.g.shape(*id), shape) } else { row_major(shape) };
            self.accesses.insert(Touch::Store(*id), s);
        }
    }

    fn index(&self, what: Touch, axes: &[Axis]) -> Index {
        let zero = Vec::new();
        let s = self.accesses.get(&what).unwrap_or(&zero);
        let mut index = Index::default();
        for i in loop_order(axes) {
            let (axis, idx) = (&axes[i], self.indices[i]);
            let stride = s.get(axis.last).copied().unwrap_or(Dim::constant(0));
            if stride != Dim::constant(0) {
                index.terms.push((idx, stride));
            }
        }
        index
    }

    fn fresh(&mut self) -> ValId {
        self.next_val += 1;
        ValId(self.next_val - 1)
    }

    /// The buffer of a value or state, declared on first use.
    fn buffer(&mut self, what: Buffer, access: Access) -> BufId {
        if let Some(&i) = self.declared.get(&what) {
            if self.decls[i].access != access {
                self.decls[i].access = Access::InOut;
            }
            return BufId(u32::try_from(i).unwrap_or(u32::MAX));
        }
        let (ty, len) = match what {
            Buffer::Value(id) => (Scalar::F32, self.g.ty(id).len()),
            Buffer::State(i) => (Scalar::F32, self.g.states[i as usize].ty.len()),
            // Copies are made by `schedule`; a cluster never names one.
            Buffer::Result(_) => (Scalar::F32, Dim::ONE),
            Buffer::Control => (Scalar::U32, Dim::from(2 + self.g.symbols.len())),
        };
        let name = format!("b{}", self.buffers.len());
        self.declared.insert(what, self.buffers.len());
        self.buffers.push(what);
        self.decls.push(BufDecl { name, ty, access, len });
        BufId(u32::try_from(self.buffers.len() - 1).unwrap_or(u32::MAX))
    }

    fn source(&self, id: NodeId) -> Buffer {
        let r = root(self.g, id);
        match self.g.node(r).op {
            Op::State { index } => Buffer::State(index),
            _ => Buffer::Value(r),
        }
    }

    fn let_(&mut self, op: ScalarOp, args: Vec<Operand>) -> Operand {
        let val = self.fresh();
        self.body.push(Stmt::Let { val, op, args });
        Operand::Val(val)
    }

    /// A control word.
    fn control(&mut self, word: u64) -> ValId {
        let buf = self.buffer(Buffer::Control, Access::In);
        let val = self.fresh();
        self.body.push(Stmt::Load { val, buf, index: Index { base: word, terms: Vec::new() } });
        val
    }

    /// The operand for a value: a literal, a computed value, or a load.
    ///
    /// What the value is computed from comes first, depth first. That is done without recursion: a cluster may hold
    /// chains of any length.
    fn operand(&mut self, id: NodeId, axes: &[Axis]) -> Operand {
        let mut waiting: Vec<NodeId> = Vec::new();
        let mut at = id;
        loop {
            let node = self.g.node(at);
            let v = match &node.op {
                _ if self.values.contains_key(&at) => self.values[&at],
                Op::Const(c) => Operand::Lit(*c),
                Op::Size(d) => self.size(*d),
                Op::Control(Control::Seed) => Operand::Val(self.control(0)),
                Op::Control(Control::Updates) => Operand::Val(self.control(1)),
                _ if self.inside(at) => {
                    if let Some(next) = node.args.iter().find(|a| !self.values.contains_key(*a)) {
                        waiting.push(at);
                        at = *next;
                        continue;
                    }
                    self.compute(at, axes)
                }
                _ => {
                    let buf = self.buffer(self.source(at), Access::In);
                    let val = self.fresh();
                    let index = self.index(Touch::Load(at), axes);
                    self.body.push(Stmt::Load { val, buf, index });
                    Operand::Val(val)
                }
            };
            self.values.insert(at, v);
            match waiting.pop() {
                Some(next) => at = next,
                None => return v,
            }
        }
    }

    /// A size as a float: coefficient times the symbols' values.
    fn size(&mut self, d: Dim) -> Operand {
        #[expect(clippy::cast_precision_loss, reason = "coefficients above 2^53 cannot be allocated")]
        let mut v = Operand::Lit(d.coef() as f64);
        for i in 0..self.g.symbols.len() {
            let s = Sym(u8::try_from(i).unwrap_or(BATCH.0));
            for _ in 0..d.power(s) {
                let word = self.control(2 + i as u64);
                let f = self.let_(ScalarOp::FromU32, vec![Operand::Val(word)]);
                v = match v {
                    Operand::Lit(c) if c.to_bits() == 1f64.to_bits() => f,
                    v => self.let_(ScalarOp::Mul, vec![v, f]),
                };
            }
        }
        v
    }

    fn compute(&mut self, id: NodeId, axes: &[Axis]) -> Operand {
        let node = self.g.node(id);
        let args: Vec<Operand> = node.args.iter().map(|a| self.operand(*a, axes)).collect();
        match &node.op {
            Op::Map(op) => self.let_(*op, args),
            Op::Random { key } => {
                let (Some(Operand::Val(seed)), Some(Operand::Val(step))) = (args.first(), args.get(1)) else {
                    return Operand::Lit(0.0);
                };
                let val = self.fresh();
                let index = self.index(Touch::Draw, axes);
                self.body.push(Stmt::Random { val, key: *key, seed: *seed, step: *step, index });
                Operand::Val(val)
            }
            // Broadcasts and transpositions happen in the index of the load.
            _ => args[0],
        }
    }

    fn store(&mut self, id: NodeId, value: Operand, axes: &[Axis]) {
        let what = match (self.target)(id) {
            Some(state) => Buffer::State(state),
            None => Buffer::Value(id),
        };
        let buf = self.buffer(what, Access::Out);
        let index = self.index(Touch::Store(id), axes);
        self.body.push(Stmt::Store { buf, index, value });
    }

    fn elementwise(mut self, axes: &[Axis]) -> Nest {
        // Everything is loaded and computed before the first store, so that in-place updates read old values.
        let nodes = self.cluster.nodes.clone();
        for id in &nodes {
            let v = self.compute_once(*id, axes);
            self.values.insert(*id, v);
        }
        for id in self.cluster.outputs.clone() {
            let v = self.operand(id, axes);
            self.store(id, v, axes);
        }
        let ops = self.body.len() as u64;
        let mut body = std::mem::take(&mut self.body);
        let last = axes.len().wrapping_sub(1);
        for (i, axis) in axes.iter().enumerate().rev() {
            let mode = match (i, axes.len()) {
                (0, 1) => LoopMode::ParallelVector,
                (0, _) => LoopMode::Parallel,
                _ if i == last => LoopMode::Vector,
                _ => LoopMode::Serial,
            };
            body = vec![Stmt::For { idx: self.indices[i], extent: axis.extent, mode, body }];
        }
        let inner = Dim::product(&axes.iter().skip(1).map(|a| a.extent).collect::<Vec<_>>());
        let extent = axes.first().map_or(Dim::ONE, |a| a.extent);
        let grain = if axes.len() == 1 { GRAIN } else { 1 };
        self.finish(body, axes.is_empty(), extent, grain, inner.times(Dim::constant(ops)))
    }

    /// The value of a node of the cluster, computed at most once.
    fn compute_once(&mut self, id: NodeId, axes: &[Axis]) -> Operand {
        match self.values.get(&id) {
            Some(v) => *v,
            None if matches!(self.g.node(id).op, Op::Const(_) | Op::Size(_) | Op::Control(_)) => self.operand(id, axes),
            None => self.compute(id, axes),
        }
    }

    /// Reductions over the same axes, and the loop nodes among the outputs, stored where they are computed.
    fn reduction(mut self, reductions: &[NodeId], axes: &[Axis]) -> Nest {
        let mut ops = Vec::with_capacity(reductions.len());
        let mut values = Vec::with_capacity(reductions.len());
        for id in reductions {
            let node = self.g.node(*id);
            let Op::Reduce { op, .. } = node.op else { unreachable!("the caller lists reductions") };
            ops.push(op);
            values.push(self.operand(node.args[0], axes));
        }
        let stored: Vec<NodeId> = self.cluster.outputs.iter().copied().filter(|id| !reductions.contains(id)).collect();
        let stored: Vec<(NodeId, Operand)> = stored.into_iter().map(|id| (id, self.operand(id, axes))).collect();
        for (id, value) in stored {
            self.store(id, value, axes);
        }
        let work = (self.body.len() + reductions.len()) as u64;
        let kept: Vec<usize> = (0..axes.len()).filter(|i| !axes[*i].reduced).collect();
        let rows = axes.last().is_none_or(|a| a.reduced);
        let in_memory = sums_in_memory(axes);
        if in_memory {
            self.add_in_memory(reductions, &ops, &values, axes);
        } else {
            self.add_in_registers(reductions, &ops, values, axes, rows);
        }
        let mut body = std::mem::take(&mut self.body);
        let outer = if in_memory { &kept[..kept.len() - 1] } else { &kept[..] };
        for (k, i) in outer.iter().enumerate().rev() {
            let last = k + 1 == kept.len() && !rows;
            let mode = match (k, last) {
                (0, true) => LoopMode::ParallelVector,
                (0, false) => LoopMode::Parallel,
                (_, true) => LoopMode::Vector,
                (_, false) => LoopMode::Serial,
            };
            body = vec![Stmt::For { idx: self.indices[*i], extent: axes[*i].extent, mode, body }];
        }
        let extent = kept.first().map_or(Dim::ONE, |i| axes[*i].extent);
        let first = kept.first().copied();
        let inner: Vec<Dim> = (0..axes.len()).filter(|i| Some(*i) != first).map(|i| axes[i].extent).collect();
        // Columns are taken in blocks of four cache lines of floats, as many as code with eight lanes adds up at once.
        let grain = if kept.len() == 1 && !rows { GRAIN } else { 1 };
        let cost = Dim::product(&inner).times(Dim::constant(work));
        self.finish(body, kept.is_empty(), extent, grain, cost)
    }

    /// Puts the reduced loops around the body and stores the sums behind them.
    fn add_in_registers(
        &mut self,
        reductions: &[NodeId],
        ops: &[ReduceOp],
        mut values: Vec<Operand>,
        axes: &[Axis],
        rows: bool,
    ) {
        let mut innermost = true;
        for (axis, idx) in axes.iter().zip(self.indices.clone()).rev() {
            if !axis.reduced {
                continue;
            }
            let body = std::mem::take(&mut self.body);
            let accs: Vec<_> = ops.iter().map(|op| (*op, self.fresh())).collect();
            let sums = accs.iter().map(|(_, v)| Operand::Val(*v)).collect();
            let yields = std::mem::replace(&mut values, sums);
            self.body.push(Stmt::Reduce { idx, extent: axis.extent, vector: rows && innermost, accs, body, yields });
            innermost = false;
        }
        for (id, value) in reductions.iter().zip(values) {
            self.store(*id, value, axes);
        }
    }

    /// Adds the values to a row of sums that was cleared before, inside the reduced loops.
    fn add_in_memory(&mut self, reductions: &[NodeId], ops: &[ReduceOp], values: &[Operand], axes: &[Axis]) {
        let (row, columns) = (axes.len() - 1, axes.last().map_or(Dim::ONE, |a| a.extent));
        let first = IdxId(u32::try_from(self.indices.len()).unwrap_or(u32::MAX));
        let mut clear = Vec::with_capacity(reductions.len());
        for ((id, op), value) in reductions.iter().zip(ops).zip(values) {
            let buf = self.buffer(Buffer::Value(*id), Access::In);
            let sum = self.fresh();
            let index = self.index(Touch::Store(*id), axes);
            let mut start = index.clone();
            for (idx, _) in start.terms.iter_mut().filter(|(idx, _)| *idx == self.indices[row]) {
                *idx = first;
            }
            clear.push(Stmt::Store { buf, index: start, value: Operand::Lit(op.neutral()) });
            self.body.push(Stmt::Load { val: sum, buf, index });
            let new = self.let_(op.combine(), vec![Operand::Val(sum), *value]);
            self.store(*id, new, axes);
        }
        let mut body = std::mem::take(&mut self.body);
        body = vec![Stmt::For { idx: self.indices[row], extent: columns, mode: LoopMode::Vector, body }];
        for (axis, idx) in axes.iter().zip(&self.indices).rev().filter(|(a, _)| a.reduced) {
            body = vec![Stmt::For { idx: *idx, extent: axis.extent, mode: LoopMode::Serial, body }];
        }
        self.body.push(Stmt::For { idx: first, extent: columns, mode: LoopMode::Vector, body: clear });
        self.body.extend(body);
    }

    fn finish(self, body: Vec<Stmt>, bare: bool, extent: Dim, grain: u64, cost: Dim) -> Nest {
        let outer = if bare {
            let idx = IdxId(u32::try_from(self.indices.len()).unwrap_or(u32::MAX));
            Stmt::For { idx, extent: Dim::ONE, mode: LoopMode::Parallel, body }
        } else {
            body.into_iter().next().unwrap_or(Stmt::For {
                idx: IdxId(0),
                extent: Dim::ONE,
                mode: LoopMode::Parallel,
                body: Vec::new(),
            })
        };
        let kernel = Kernel { name: self.name(), symbols: self.g.symbols.clone(), bufs: self.decls, body: outer };
        Nest { kernel, buffers: self.buffers, extent, grain, cost }
    }

    /// A name that says what the kernel does: its distinct operations, at most four.
    fn name(&self) -> String {
        let mut words: Vec<&str> = Vec::new();
        for id in &self.cluster.nodes {
            let w = self.g.node(*id).op.name();
            if !words.contains(&w) && !matches!(self.g.node(*id).op, Op::Const(_) | Op::Broadcast) {
                words.push(w);
            }
        }
        if words.is_empty() {
            return "fill".to_owned();
        }
        words.truncate(4);
        words.join("_")
    }
}
