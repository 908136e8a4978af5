//! Graph IR to a plan: clusters are ordered, lowered to kernels or library calls, and their buffers placed.
//!
//! State is updated in place where every other reader of the old value can run first; otherwise the new value goes
//! through the arena and is copied at the end of the step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};

use kur_runtime::dim::Dim;
use kur_runtime::plan::{
    Call, ConvGeometry, CtcGeometry, InputRole, InputSlot, Launch, LibCall, PartOf, Place, Plan, PoolGeometry,
    ResultRole, ResultSlot, RnnGeometry, StepGeometry,
};

use super::loops::{self, Buffer};
use super::memory::{self, Lifetime};
use crate::ir::graph::{Graph, NodeId, Role};
use crate::ir::kernel::{Access, BufDecl, BufId, IdxId, Index, Kernel, LoopMode, Operand, Scalar, Stmt, ValId};
use crate::ir::op::{ConvAttrs, Op, PoolAttrs, RnnAttrs};
use crate::passes::fuse::{Cluster, ClusterKind, clusters, root, roots};
use crate::passes::pipeline::OptLevel;

/// Byte offsets of the states in the state block, by index.
#[derive(Clone, Debug, Default)]
pub struct StateLayout {
    /// Offset per state.
    pub offsets: Vec<u64>,
}

/// The kernels of a program; equal ones are shared between steps.
#[derive(Clone, Debug, Default)]
pub struct KernelSet {
    /// Distinct kernels with unique names.
    pub kernels: Vec<Kernel>,
    /// Kernels by the hash of what they do; never iterated.
    same: HashMap<u64, Vec<usize>>,
    /// Names that are taken.
    names: BTreeSet<String>,
    /// The number that the last kernel of a name got.
    numbers: BTreeMap<String, u32>,
}

impl KernelSet {
    /// The index of a kernel, added if no equal one is there.
    fn intern(&mut self, mut kernel: Kernel) -> u32 {
        let twins = self.same.entry(digest(&kernel)).or_default();
        let equal = |k: &Kernel| k.bufs == kernel.bufs && k.body == kernel.body && k.symbols == kernel.symbols;
        if let Some(i) = twins.iter().find(|i| equal(&self.kernels[**i])) {
            return u32::try_from(*i).unwrap_or(u32::MAX);
        }
        twins.push(self.kernels.len());
        let base = kernel.name.clone();
        let number = self.numbers.entry(base.clone()).or_insert(1);
        while !self.names.insert(kernel.name.clone()) {
            *number += 1;
            kernel.name = format!("{base}_{number}");
        }
        self.kernels.push(kernel);
        u32::try_from(self.kernels.len() - 1).unwrap_or(u32::MAX)
    }
}

/// A hash of what a kernel does, its name left out. The printed form is hashed because floats have no hash.
fn digest(kernel: &Kernel) -> u64 {
    struct Feed(DefaultHasher);
    impl std::fmt::Write for Feed {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            self.0.write(s.as_bytes());
            Ok(())
        }
    }
    let mut feed = Feed(DefaultHasher::new());
    // Writing to a hasher cannot fail.
    let _ = write!(feed, "{:?} {:?} {:?}", kernel.bufs, kernel.body, kernel.symbols);
    feed.0.finish()
}

/// A launch before its buffers are placed.
struct Draft {
    call: Call,
    buffers: Vec<Buffer>,
    layer: Option<u32>,
}

/// Schedules one step.
#[must_use]
pub fn schedule(g: &Graph, level: OptLevel, states: &StateLayout, kernels: &mut KernelSet) -> Plan {
    let clusters = clusters(g, level);
    let roots = roots(g);
    let mut home: Vec<Option<usize>> = vec![None; g.nodes.len()];
    for (c, cluster) in clusters.iter().enumerate() {
        for o in &cluster.outputs {
            home[o.index()] = Some(c);
        }
    }
    let deps = dependencies(g, &clusters, &home, &roots);
    let readers = readers(g, &clusters, &roots);
    let in_place = in_place_updates(g, &clusters, &home, &deps, &readers, &roots);
    let order = order(&clusters, &deps, &home, &readers, &in_place);

    let mut replaces: Vec<Option<u32>> = vec![None; g.nodes.len()];
    for (value, state) in &in_place {
        replaces[value.index()] = Some(*state);
    }
    let target = |id: NodeId| replaces[id.index()];
    let mut drafts: Vec<Draft> = Vec::new();
    for c in order {
        let cluster = &clusters[c];
        // A call belongs to the layer of its product, whatever it does to the result.
        let named = if cluster.kind == ClusterKind::Library { cluster.nodes.first() } else { cluster.nodes.last() };
        let layer = named.and_then(|id| g.node(*id).layer).map(|l| l.0);
        drafts.push(match cluster.kind {
            ClusterKind::Library => library(g, cluster, layer),
            ClusterKind::Loop | ClusterKind::Reduce => {
                let nest = loops::lower(g, cluster, &target);
                let kernel = kernels.intern(nest.kernel);
                let call = Call::Kernel { kernel, extent: nest.extent, grain: nest.grain, cost: nest.cost };
                Draft { call, buffers: nest.buffers, layer }
            }
        });
    }
    // Results that are leaves are copied while the leaf still has its old value; then come the states that could not be
    // updated in place, those fed by other states through a copy of their own.
    let mut late = Vec::new();
    for (i, r) in g.results.iter().enumerate() {
        let own = Buffer::Result(u32::try_from(i).unwrap_or(u32::MAX));
        let leaf = g.node(root(g, r.value)).op.is_leaf();
        match r.role {
            Role::Update(s) if target(r.value) == Some(s) => {}
            Role::Update(s) if leaf => {
                let len = g.ty(r.value).len();
                drafts.push(copy(g, len, buffer_of(g, r.value, &target), own, kernels));
                late.push((len, own, s));
            }
            Role::Update(s) => late.push((g.ty(r.value).len(), buffer_of(g, r.value, &target), s)),
            Role::Output(_) | Role::Metric(_) if leaf => {
                drafts.push(copy(g, g.ty(r.value).len(), buffer_of(g, r.value, &target), own, kernels));
            }
            _ => {}
        }
    }
    for (len, from, s) in late {
        drafts.push(copy(g, len, from, Buffer::State(s), kernels));
    }
    finish(g, drafts, states, &target)
}

/// Clusters that each cluster reads from.
fn dependencies(g: &Graph, clusters: &[Cluster], home: &[Option<usize>], roots: &[NodeId]) -> Vec<Vec<usize>> {
    clusters
        .iter()
        .enumerate()
        .map(|(c, cluster)| {
            let mut out: Vec<usize> = cluster
                .nodes
                .iter()
                .flat_map(|id| &g.node(*id).args)
                .filter_map(|a| home[roots[a.index()].index()])
                .filter(|d| *d != c)
                .collect();
            out.sort_unstable();
            out.dedup();
            out
        })
        .collect()
}

/// Per state the clusters that load its old value, in order.
fn readers(g: &Graph, clusters: &[Cluster], roots: &[NodeId]) -> Vec<Vec<usize>> {
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); g.states.len()];
    for (c, cluster) in clusters.iter().enumerate() {
        for a in cluster.nodes.iter().flat_map(|id| &g.node(*id).args) {
            if let Op::State { index } = g.node(roots[a.index()]).op
                && out[index as usize].last() != Some(&c)
            {
                out[index as usize].push(c);
            }
        }
    }
    out
}

/// Updates that may overwrite their state directly: (value, state).
fn in_place_updates(
    g: &Graph,
    clusters: &[Cluster],
    home: &[Option<usize>],
    deps: &[Vec<usize>],
    readers: &[Vec<usize>],
    roots: &[NodeId],
) -> Vec<(NodeId, u32)> {
    let mut forward: Vec<Vec<usize>> = vec![Vec::new(); clusters.len()];
    for (c, d) in deps.iter().enumerate() {
        for x in d {
            forward[*x].push(c);
        }
    }
    let mut out: Vec<(NodeId, u32)> = Vec::new();
    let mut taken = vec![false; g.nodes.len()];
    let mut read_as_result = vec![false; g.states.len()];
    for r in &g.results {
        if let Op::State { index } = g.node(roots[r.value.index()]).op {
            read_as_result[index as usize] = true;
        }
    }
    // The search that saw a cluster last, so that no search has to clear what another one marked.
    let mut seen = vec![0usize; clusters.len()];
    for (search, r) in g.results.iter().enumerate() {
        let Role::Update(state) = r.role else { continue };
        let Some(c) = home[r.value.index()] else { continue };
        let same_shape = |a: &NodeId| match g.node(roots[a.index()]).op {
            Op::State { index } if index == state => g.shape(*a) == g.shape(r.value),
            _ => true,
        };
        let aligned = clusters[c].kind == ClusterKind::Loop
            && clusters[c].nodes.iter().all(|id| !matches!(g.node(*id).op, Op::Transpose { .. }))
            && clusters[c].nodes.iter().flat_map(|id| &g.node(*id).args).all(same_shape);
        if !aligned || taken[r.value.index()] || read_as_result[state as usize] {
            continue;
        }
        // Every other reader of the old value must be able to run before: none may follow from this cluster, also
        // not through the orderings that earlier decisions imply.
        let others = || readers[state as usize].iter().copied().filter(|x| *x != c);
        let mut stack = if others().next().is_some() { vec![c] } else { Vec::new() };
        while let Some(x) = stack.pop() {
            if std::mem::replace(&mut seen[x], search + 1) != search + 1 {
                stack.extend(&forward[x]);
            }
        }
        if others().any(|o| seen[o] == search + 1) {
            continue;
        }
        for o in others() {
            forward[o].push(c);
        }
        taken[r.value.index()] = true;
        out.push((r.value, state));
    }
    out
}

/// A topological order that follows the graph's own order as closely as it can.
fn order(
    clusters: &[Cluster],
    deps: &[Vec<usize>],
    home: &[Option<usize>],
    readers: &[Vec<usize>],
    in_place: &[(NodeId, u32)],
) -> Vec<usize> {
    let n = clusters.len();
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); n];
    let mut waits = vec![0usize; n];
    let mut edge = |from: usize, to: usize| {
        next[from].push(to);
        waits[to] += 1;
    };
    for (c, d) in deps.iter().enumerate() {
        for x in d {
            edge(*x, c);
        }
    }
    for (value, state) in in_place {
        let Some(writer) = home[value.index()] else { continue };
        for r in &readers[*state as usize] {
            if *r != writer {
                edge(*r, writer);
            }
        }
    }
    let key = |c: usize| Reverse((clusters[c].nodes.last().map_or(0, |id| id.0), c));
    let mut ready: BinaryHeap<_> = (0..n).filter(|c| waits[*c] == 0).map(key).collect();
    let mut out = Vec::with_capacity(n);
    while let Some(Reverse((_, c))) = ready.pop() {
        out.push(c);
        for t in std::mem::take(&mut next[c]) {
            waits[t] -= 1;
            if waits[t] == 0 {
                ready.push(key(t));
            }
        }
    }
    // A launch that is left out would be a wrong program.
    assert_eq!(out.len(), n, "clusters form a cycle");
    out
}

/// A launch that copies a value of so many elements.
fn copy(g: &Graph, len: Dim, source: Buffer, to: Buffer, kernels: &mut KernelSet) -> Draft {
    let idx = IdxId(0);
    let index = Index { base: 0, terms: if len == Dim::ONE { Vec::new() } else { vec![(idx, Dim::ONE)] } };
    let decl = |name: &str, access| BufDecl { name: name.to_owned(), ty: Scalar::F32, access, len };
    let body = vec![
        Stmt::Load { val: ValId(0), buf: BufId(0), index: index.clone() },
        Stmt::Store { buf: BufId(1), index, value: Operand::Val(ValId(0)) },
    ];
    let mode = if len == Dim::ONE { LoopMode::Parallel } else { LoopMode::ParallelVector };
    let kernel = Kernel {
        name: "copy".to_owned(),
        symbols: g.symbols.clone(),
        bufs: vec![decl("b0", Access::In), decl("b1", Access::Out)],
        body: Stmt::For { idx, extent: len, mode, body },
    };
    let call = Call::Kernel { kernel: kernels.intern(kernel), extent: len, grain: 64, cost: Dim::constant(2) };
    Draft { call, buffers: vec![source, to], layer: None }
}

/// Where a value is read from.
fn buffer_of(g: &Graph, id: NodeId, target: &dyn Fn(NodeId) -> Option<u32>) -> Buffer {
    let r = root(g, id);
    match (&g.node(r).op, target(r)) {
        (_, Some(state)) => Buffer::State(state),
        (Op::State { index }, None) => Buffer::State(*index),
        _ => Buffer::Value(r),
    }
}

/// Spatial sizes on three axes, missing leading ones 1.
fn three<T: Copy>(v: &[T], one: T) -> [T; 3] {
    let mut out = [one; 3];
    for (i, x) in v.iter().enumerate() {
        out[3 - v.len() + i] = *x;
    }
    out
}

fn conv_geometry(a: &ConvAttrs, x: &[Dim], w: &[Dim]) -> ConvGeometry {
    let d = a.stride.len();
    let size = |d: &Dim| d.as_const().unwrap_or(0);
    let kernel: Vec<u32> = w[..d].iter().map(|k| u32::try_from(size(k)).unwrap_or(u32::MAX)).collect();
    ConvGeometry {
        batch: x[0],
        input: three(&x[1..=d], Dim::ONE),
        output: three(&a.output, Dim::ONE),
        kernel: three(&kernel, 1),
        stride: three(&a.stride, 1),
        pad: three(&a.pad, 0),
        dilation: three(&a.dilation, 1),
        cin: size(&w[d]).saturating_mul(u64::from(a.groups)),
        cout: size(&w[d + 1]),
        groups: u64::from(a.groups),
    }
}

fn pool_geometry(a: &PoolAttrs, x: &[Dim]) -> PoolGeometry {
    let d = a.stride.len();
    PoolGeometry {
        batch: x[0],
        input: three(&x[1..=d], Dim::ONE),
        output: three(&a.output, Dim::ONE),
        window: three(&a.window, 1),
        stride: three(&a.stride, 1),
        pad: three(&a.pad, 0),
        channels: x[d + 1].as_const().unwrap_or(0),
    }
}

fn rnn_geometry(a: &RnnAttrs, tape: &[Dim]) -> RnnGeometry {
    let RnnAttrs { cell, inner, outer, reverse } = *a;
    let units = tape[2].as_const().unwrap_or(0) / cell.parts();
    RnnGeometry { cell, inner, outer, reverse, batch: tape[0], steps: tape[1], units }
}

fn step_geometry(x: &[Dim]) -> StepGeometry {
    StepGeometry { batch: x[0], steps: x[1], size: x[2] }
}

fn part_geometry(p: PartOf, x: &[Dim]) -> StepGeometry {
    let size = x[2].exact_div(Dim::constant(u64::from(p.parts))).unwrap_or(Dim::constant(0));
    StepGeometry { size, ..step_geometry(x) }
}

fn ctc_geometry(blank_first: bool, scores: &[Dim], labels: &[Dim]) -> CtcGeometry {
    CtcGeometry { batch: scores[0], steps: scores[1], classes: scores[2], labels: labels[1], blank_first }
}

/// Product of the axes before one, its size, product of those behind.
fn around(shape: &[Dim], axis: usize) -> (Dim, Dim, Dim) {
    (Dim::product(&shape[..axis]), shape[axis], Dim::product(&shape[axis + 1..]))
}

/// Rows and width of a table, whose sizes are constants.
fn table(shape: &[Dim]) -> (u64, u64) {
    let size = |d: &Dim| d.as_const().unwrap_or(0);
    (shape.first().map_or(0, size), shape.last().map_or(0, size))
}

/// A library call with its operands in the order that `LibCall` documents, the output last.
fn library(g: &Graph, cluster: &Cluster, layer: Option<u32>) -> Draft {
    let id = cluster.nodes[0];
    let node = g.node(id);
    let shape = |i: usize| g.shape(node.args[i]);
    let rows_cols = |s: &[Dim]| {
        let (cols, rows) = s.split_last().map_or((Dim::ONE, &[][..]), |(c, r)| (*c, r));
        (Dim::product(rows), cols)
    };
    let mut args: Vec<usize> = (0..node.args.len()).collect();
    let call = match &node.op {
        Op::MatMul { ta, tb } => {
            let (a, y) = (shape(0), &node.ty.shape);
            let r = y.len();
            let k = if *ta { a[r - 2] } else { a[r - 1] };
            LibCall::MatMul { batch: Dim::product(&y[..r - 2]), m: y[r - 2], n: y[r - 1], k, ta: *ta, tb: *tb }
        }
        Op::Conv(a) => LibCall::ConvForward(conv_geometry(a, shape(0), shape(1))),
        Op::ConvGradInput(a) => LibCall::ConvGradInput(conv_geometry(a, &node.ty.shape, shape(1))),
        Op::ConvGradWeight(a) => LibCall::ConvGradWeight(conv_geometry(a, shape(0), &node.ty.shape)),
        Op::Pool(a) if a.average => LibCall::AvgPool(pool_geometry(a, shape(0))),
        Op::Pool(a) => LibCall::MaxPool(pool_geometry(a, shape(0))),
        Op::PoolGrad(a) if a.average => {
            args = vec![2];
            LibCall::AvgPoolGrad(pool_geometry(a, shape(0)))
        }
        Op::PoolGrad(a) => LibCall::MaxPoolGrad(pool_geometry(a, shape(0))),
        Op::Softmax { log } => {
            let (rows, cols) = rows_cols(shape(0));
            LibCall::Softmax { rows, cols, log: *log }
        }
        Op::Positions => LibCall::Positions { len: node.ty.len() },
        Op::Rnn(a) => LibCall::Rnn(rnn_geometry(a, &node.ty.shape)),
        Op::RnnGrad(a, of) => LibCall::RnnGrad(rnn_geometry(a, shape(0)), *of),
        Op::RnnGradWeight(a) => LibCall::RnnGradWeight(rnn_geometry(a, shape(0))),
        Op::RnnGradBias(a) => LibCall::RnnGradBias(rnn_geometry(a, shape(0))),
        Op::Part(p) => LibCall::Part(part_geometry(*p, shape(0)), *p),
        Op::PartGrad(p) => LibCall::PartGrad(part_geometry(*p, &node.ty.shape), *p),
        Op::Scan { reverse } => LibCall::Scan(step_geometry(shape(0)), *reverse),
        Op::Shift { reverse } => LibCall::Shift(step_geometry(shape(0)), *reverse),
        Op::Ctc { blank_first } => LibCall::Ctc(ctc_geometry(*blank_first, shape(0), shape(1))),
        Op::CtcGrad { blank_first } => LibCall::CtcGrad(ctc_geometry(*blank_first, shape(0), shape(1))),
        Op::Lengths { window, stride } => {
            let windows = window.iter().copied().zip(stride.iter().copied()).collect();
            LibCall::Lengths { len: node.ty.len(), windows }
        }
        Op::Concat { axis } => {
            let (outer, _, inner) = around(&node.ty.shape, *axis);
            LibCall::Concat { outer, inner, parts: (0..args.len()).map(|i| shape(i)[*axis]).collect() }
        }
        Op::Slice { axis, start } => {
            let (outer, size, inner) = around(shape(0), *axis);
            LibCall::Slice { outer, inner, size, start: start.clone(), len: node.ty.shape[*axis] }
        }
        Op::Pad { axis, start } => {
            let (outer, size, inner) = around(&node.ty.shape, *axis);
            LibCall::Pad { outer, inner, size, start: start.clone(), len: shape(0)[*axis] }
        }
        Op::Gather => {
            let (rows, width) = table(shape(0));
            LibCall::Gather { count: Dim::product(shape(1)), rows, width }
        }
        Op::GatherGrad => {
            let (rows, width) = table(&node.ty.shape);
            LibCall::GatherGrad { count: Dim::product(shape(0)), rows, width }
        }
        // The table of operations marks exactly the operations above and this one as library calls.
        _ => {
            let (rows, cols) = rows_cols(shape(0));
            LibCall::ArgMax { rows, cols }
        }
    };
    let mut buffers: Vec<Buffer> = args.iter().map(|i| buffer_of(g, node.args[*i], &|_| None)).collect();
    let call = match cluster.nodes[1..] {
        [] => call,
        [add, ..] => {
            let bias = g.node(add).args.iter().find(|a| root(g, **a) != id).copied().unwrap_or(add);
            buffers.push(buffer_of(g, bias, &|_| None));
            LibCall::Biased { call: Box::new(call), relu: cluster.nodes.len() > 2 }
        }
    };
    buffers.push(Buffer::Value(cluster.nodes.last().copied().unwrap_or(id)));
    Draft { call: Call::Lib(call), buffers, layer }
}

/// Places buffers and builds the plan.
fn finish(g: &Graph, mut drafts: Vec<Draft>, states: &StateLayout, target: &dyn Fn(NodeId) -> Option<u32>) -> Plan {
    let mut inputs: Vec<InputSlot> = Vec::new();
    let mut input_index: Vec<Option<u32>> = vec![None; g.nodes.len()];
    for id in g.ids() {
        if let Op::Input { name, role } = &g.node(id).op {
            input_index[id.index()] = Some(u32::try_from(inputs.len()).unwrap_or(u32::MAX));
            let shape = g.shape(id).get(1..).unwrap_or(&[]).to_vec();
            inputs.push(InputSlot { name: name.clone(), role: *role, shape });
        }
    }
    let control = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
    let words = Dim::from(2 + g.symbols.len());
    inputs.push(InputSlot { name: "control".to_owned(), role: InputRole::Control, shape: vec![words] });

    // Buffers that readers of a replaced value name: the state it lives in.
    for d in &mut drafts {
        for b in &mut d.buffers {
            if let Buffer::Value(id) = *b
                && let Some(s) = target(id)
            {
                *b = Buffer::State(s);
            }
        }
    }
    let drafts_len = drafts.len();
    let mut slot: Vec<Option<usize>> = vec![None; g.nodes.len()];
    let mut lifetimes: Vec<Lifetime> = Vec::new();
    let mut copies: Vec<Option<usize>> = vec![None; g.results.len()];
    for (at, d) in drafts.iter().enumerate() {
        for b in &d.buffers {
            if let Buffer::Result(i) = *b
                && copies[i as usize].is_none()
            {
                copies[i as usize] = Some(lifetimes.len());
                let len = g.ty(g.results[i as usize].value).len();
                lifetimes.push(Lifetime { len, first: at, last: drafts_len });
            }
            let Buffer::Value(id) = *b else { continue };
            if input_index[id.index()].is_some() {
                continue;
            }
            match slot[id.index()] {
                Some(s) => lifetimes[s].last = at,
                None => {
                    slot[id.index()] = Some(lifetimes.len());
                    lifetimes.push(Lifetime { len: g.ty(id).len(), first: at, last: at });
                }
            }
        }
    }
    for r in &g.results {
        if let (Role::Output(_) | Role::Metric(_), Some(s)) = (&r.role, slot[root(g, r.value).index()]) {
            lifetimes[s].last = drafts.len();
        }
    }
    let (places, arena) = memory::plan(&lifetimes);
    let place = |b: Buffer| match b {
        Buffer::Control => Place::Input { index: control },
        Buffer::Result(i) => copies[i as usize].map_or(Place::Arena { class: u32::MAX, unit_offset: 0 }, |s| places[s]),
        Buffer::State(i) => Place::State { offset: states.offsets.get(i as usize).copied().unwrap_or(u64::MAX) },
        Buffer::Value(id) => match (input_index[id.index()], slot[id.index()]) {
            (Some(index), _) => Place::Input { index },
            (None, Some(s)) => places[s],
            (None, None) => Place::Arena { class: u32::MAX, unit_offset: 0 },
        },
    };
    let mut results = Vec::new();
    for (i, r) in g.results.iter().enumerate() {
        let (name, role) = match &r.role {
            Role::Output(n) => (n.clone(), ResultRole::Output),
            Role::Metric(n) => (n.clone(), ResultRole::Metric),
            Role::Update(_) | Role::Gradient(_) => continue,
        };
        let own = Buffer::Result(u32::try_from(i).unwrap_or(u32::MAX));
        let at = place(if copies[i].is_some() { own } else { buffer_of(g, r.value, target) });
        results.push(ResultSlot { name, role, place: at, shape: g.shape(r.value).to_vec() });
    }
    let launches = drafts
        .into_iter()
        .map(|d| Launch { bufs: d.buffers.iter().map(|b| place(*b)).collect(), call: d.call, layer: d.layer })
        .collect();
    Plan { inputs, results, arena, launches }
}
