//! Layers over sequences `[n, steps, features]` that are made of products: `attention` and `position_embedding`.

use kur_runtime::dim::Dim;
use kur_runtime::plan::Init;

use super::{derived, param};
use crate::diag::Reported;
use crate::ir::graph::{LayerRef, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;
use crate::lower::model::{Cx, unsound};
use crate::model::types::Layer;

/// What stands for minus infinity in a score: far below all scores, and finite, so that no gradient is 0 · ∞.
const MASKED: f64 = -1e30;

/// Multi-head scaled dot-product attention of a sequence to itself: Vaswani et al., Attention Is All You Need (2017),
/// equation 1 and section 3.2.2. Frames of padding are attended to like others, as everywhere in Kur.
pub(super) fn attention(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    heads: u64,
    causal: bool,
) -> Result<NodeId, Reported> {
    let [n, steps, features] = cx.graph.shape(x)[..] else { return Err(unsound(cx, layer)) };
    let Some(size) = features.as_const().filter(|f| f.is_multiple_of(heads)) else { return Err(unsound(cx, layer)) };
    let head = Dim::constant(size / heads);
    let heads = Dim::constant(heads);
    let rows = n.times(steps);
    let split = vec![n, steps, heads, head];
    let flat = cx.builder(at).reshape(x, vec![rows, features]);
    let affine = |cx: &mut Cx<'_>, x: NodeId, name: &str| {
        let init = Init::GlorotUniform { fan_in: size, fan_out: size };
        let kernel = param(cx, layer, at, &format!("{name}_kernel"), &[size, size], init);
        let bias = param(cx, layer, at, &format!("{name}_bias"), &[size], Init::Constant(0.0));
        let mut b = cx.builder(at);
        let y = b.op(Op::MatMul { ta: false, tb: false }, &[x, kernel]);
        b.add(y, bias)
    };
    let projected = ["query", "key", "value"].map(|name| affine(cx, flat, name));
    let mut b = cx.builder(at);
    // Heads before steps, so that each head is a product of its own.
    let [q, k, v] = projected.map(|p| {
        let p = b.reshape(p, split.clone());
        b.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[p])
    });
    let scores = b.op(Op::MatMul { ta: false, tb: true }, &[q, k]);
    #[expect(clippy::cast_precision_loss, reason = "features are few")]
    let mut scores = b.mul_const(scores, 1.0 / (head.coef() as f64).sqrt());
    if causal {
        let seen = triangle(cx, layer, at, steps)?;
        let mut b = cx.builder(at);
        let never = b.constant(MASKED);
        scores = b.map(ScalarOp::Select, &[seen, scores, never]);
    }
    let mut b = cx.builder(at);
    let weights = b.op(Op::Softmax { log: false }, &[scores]);
    let y = b.op(Op::MatMul { ta: false, tb: false }, &[weights, v]);
    let y = b.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[y]);
    let y = b.reshape(y, vec![rows, features]);
    let y = affine(cx, y, "output");
    Ok(cx.builder(at).reshape(y, vec![n, steps, features]))
}

/// `[steps, steps]`: 1 where the column is not behind the row, else 0.
///
/// A row of `2 · steps` cells, the first and the last `steps - 1` of them 1, is written `steps` times. Read again in
/// rows that are one cell shorter, it moves one cell to the right with every row.
fn triangle(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, steps: Dim) -> Result<NodeId, Reported> {
    if steps == Dim::ONE {
        let mut b = cx.builder(at);
        let one = b.constant(1.0);
        return Ok(b.reshape(one, vec![Dim::ONE, Dim::ONE]));
    }
    let double = steps.times(Dim::constant(2));
    let shorter = match double.as_const() {
        Some(n) => Dim::constant(n - 1),
        None => derived(cx, layer, double, -1, 1)?,
    };
    let mut b = cx.builder(at);
    let one = b.constant(1.0);
    let first = b.reshape(one, vec![Dim::ONE]);
    let first = b.pad(first, 0, Dim::constant(0), double);
    let last = b.broadcast(one, vec![steps]);
    let last = b.pad(last, 0, steps, double);
    let row = b.map(ScalarOp::Max, &[first, last]);
    let all = b.broadcast(row, vec![steps, double]);
    let flat = b.reshape(all, vec![steps.times(double)]);
    let flat = b.slice(flat, 0, Dim::constant(0), steps.times(shorter));
    let moved = b.reshape(flat, vec![steps, shorter]);
    Ok(b.slice(moved, 1, Dim::constant(0), steps))
}

/// A trained vector for every step, added to it: `[n, steps, features]`, with a fixed number of steps. Gehring et al.,
/// Convolutional Sequence to Sequence Learning (2017), section 3.1.
pub(super) fn position_embedding(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: NodeId) -> Result<NodeId, Reported> {
    let sizes = match cx.graph.shape(x)[..] {
        [_, steps, features] => steps.as_const().zip(features.as_const()),
        _ => None,
    };
    let Some((steps, features)) = sizes else { return Err(unsound(cx, layer)) };
    let init = Init::Uniform { limit: super::dense::EMBEDDING_LIMIT };
    let table = param(cx, layer, at, "embeddings", &[steps, features], init);
    Ok(cx.builder(at).add(x, table))
}
