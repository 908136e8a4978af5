//! Affine layers and tables: `dense`, its highway form, `embedding` (kur-reference 3.2, 3.14).

use kur_runtime::dim::Dim;
use kur_runtime::plan::Init;

use super::{param, shape, state, torch_init};
use crate::diag::Reported;
use crate::ir::graph::{Builder, LayerRef, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::{Cx, unsound};
use crate::model::types::{Highway, Layer, Spanned};
use kur_runtime::plan::StateRole;

/// Successive affine maps over the last axis: `[n, …, inputs]` to `[n, …, size]`.
pub(super) fn dense(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    sizes: &[Spanned<u64>],
    flat: bool,
    highway: Option<Highway>,
) -> Result<NodeId, Reported> {
    let mut x = x;
    if flat {
        x = shape::flatten(cx, at, x);
    }
    for (i, size) in sizes.iter().enumerate() {
        let shape = cx.graph.shape(x).to_vec();
        let Some(inputs) = shape.last().and_then(|d| d.as_const()).filter(|_| shape.len() >= 2) else {
            return Err(unsound(cx, layer));
        };
        let own = if i + 1 == sizes.len() { layer.name.clone() } else { format!("{}.{i}", layer.name) };
        let tensor = |cx: &mut Cx<'_>, name: &str, shape: &[u64], init| {
            state(cx, layer, at, format!("{own}/{name}"), StateRole::Param, shape, init)
        };
        let (init, bias_init) = match highway {
            Some(_) => (torch_init(inputs), torch_init(inputs)),
            None => (Init::GlorotUniform { fan_in: inputs, fan_out: size.value }, Init::Constant(0.0)),
        };
        let kernel = tensor(cx, "kernel", &[inputs, size.value], init);
        let bias = tensor(cx, "bias", &[size.value], bias_init);
        let gate = highway.map(|h| {
            let kernel = tensor(cx, "gate_kernel", &[inputs, size.value], init);
            (kernel, h.bias.ok_or_else(|| tensor(cx, "gate_bias", &[size.value], bias_init)))
        });
        let mut b = cx.builder(at);
        let rows = Dim::product(&shape[..shape.len() - 1]);
        let flat = b.reshape(x, vec![rows, Dim::constant(inputs)]);
        let y = b.op(Op::MatMul { ta: false, tb: false }, &[flat, kernel]);
        let mut y = b.add(y, bias);
        if let Some((kernel, bias)) = gate {
            let t = b.op(Op::MatMul { ta: false, tb: false }, &[flat, kernel]);
            let t = gate_bias(&mut b, t, bias);
            y = carry(&mut b, flat, y, t);
        }
        let mut out = shape;
        if let Some(last) = out.last_mut() {
            *last = Dim::constant(size.value);
        }
        x = b.reshape(y, out);
    }
    Ok(x)
}

/// Adds the bias of a transform gate: a fixed number or a trained tensor.
pub(super) fn gate_bias(b: &mut Builder<'_>, t: NodeId, bias: Result<f64, NodeId>) -> NodeId {
    match bias {
        Ok(fixed) => b.add_const(t, fixed),
        Err(trained) => b.add(t, trained),
    }
}

/// `relu(h) · σ(t) + x · (1 − σ(t))`: Srivastava, Greff and Schmidhuber, Highway Networks (2015), equation 3.
pub(super) fn carry(b: &mut Builder<'_>, x: NodeId, h: NodeId, t: NodeId) -> NodeId {
    let zero = b.constant(0.0);
    let h = b.map(ScalarOp::Max, &[h, zero]);
    let t = b.map(ScalarOp::Sigmoid, &[t]);
    let one = b.constant(1.0);
    let rest = b.sub(one, t);
    let new = b.mul(h, t);
    let old = b.mul(x, rest);
    b.add(new, old)
}

/// Limit of the initial values of an embedding (Keras).
pub(super) const EMBEDDING_LIMIT: f32 = 0.05;

/// Vectors for indices: `[n, steps]` to `[n, steps, size]`. An index outside the vocabulary is a fault of the data.
pub(super) fn embedding(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    vocab_size: u64,
    size: u64,
) -> Result<NodeId, Reported> {
    if cx.graph.shape(x).len() != 2 {
        return Err(unsound(cx, layer));
    }
    let init = Init::Uniform { limit: EMBEDDING_LIMIT };
    let table = param(cx, layer, at, "embeddings", &[vocab_size, size], init);
    Ok(cx.builder(at).op(Op::Gather, &[table, x]))
}
