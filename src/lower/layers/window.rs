//! `convolution` and `pool` (kur-reference 3.3, 3.6), and what else works along spatial axes: `global_pool`, `upsample`,
//! `pad`.

use kur_runtime::dim::Dim;
use kur_runtime::plan::{Init, PAD_SAME};

use super::dense::{carry, gate_bias};
use super::{derived, param, sum, torch_init};
use crate::diag::Reported;
use crate::ir::graph::{LayerRef, NodeId};
use crate::ir::kernel::ReduceOp;
use crate::ir::op::{ConvAttrs, Op, PoolAttrs};
use crate::lower::model::{Cx, unsound};
use crate::model::types::{Border, Layer, LayerKind, PoolKind};
use crate::shapes::{reach, window};

/// Spatial geometry of a convolution or pooling.
struct Windows {
    output: Vec<Dim>,
    pad: Vec<u32>,
    stride: Vec<u32>,
    window: Vec<u32>,
    channels: u64,
}

/// Output size and padding along each spatial axis.
fn windows(
    cx: &mut Cx<'_>,
    layer: &Layer,
    x: NodeId,
    (size, strides, dilation): (&[u64], &[u64], &[u64]),
    border: Border,
) -> Result<Windows, Reported> {
    let shape = cx.graph.shape(x).to_vec();
    let [_, spatial @ .., channels] = shape.as_slice() else { return Err(unsound(cx, layer)) };
    let Some(channels) = channels.as_const() else { return Err(unsound(cx, layer)) };
    let mut w = Windows { output: Vec::new(), pad: Vec::new(), stride: Vec::new(), window: Vec::new(), channels };
    let small = |v: u64| u32::try_from(v).ok();
    for (((n, &k), &s), &spread) in spatial.iter().zip(size).zip(strides).zip(dilation) {
        let (Some(stride), Some(window)) = (small(s), small(k)) else { return Err(unsound(cx, layer)) };
        let k = reach(k, spread);
        let (out, pad) = match n.as_const() {
            Some(n) => match self::window(n, k, s, border) {
                Some((out, pad)) => (Dim::constant(out), small(pad).unwrap_or(0)),
                None => return Err(unsound(cx, layer)),
            },
            None => variable(cx, layer, *n, (k, s), border)?,
        };
        w.output.push(out);
        w.pad.push(pad);
        w.stride.push(stride);
        w.window.push(window);
    }
    Ok(w)
}

/// The same along an axis whose size varies from batch to batch. How much padding `same` needs there depends on the
/// size unless the stride is 1.
fn variable(
    cx: &mut Cx<'_>,
    layer: &Layer,
    n: Dim,
    (k, s): (u64, u64),
    border: Border,
) -> Result<(Dim, u32), Reported> {
    let signed = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
    match border {
        Border::Valid => Ok((derived(cx, layer, n, signed(s) - signed(k), s)?, 0)),
        Border::Same if s == 1 => Ok((n, u32::try_from((k - 1) / 2).unwrap_or(0))),
        Border::Same => Ok((derived(cx, layer, n, signed(s) - 1, s)?, PAD_SAME)),
    }
}

/// Cross-correlation of `[n, …, channels]` with a kernel `[size…, channels, kernels]`, plus a bias. A separable one is
/// depthwise: each channel has `kernels / channels` kernels of its own. A highway one is gated as a dense one is.
pub(super) fn convolution(cx: &mut Cx<'_>, layer: &Layer, at: LayerRef, x: NodeId) -> Result<NodeId, Reported> {
    let LayerKind::Convolution { kernels, size, strides, dilation, border, separable, highway } = &layer.kind else {
        return Err(unsound(cx, layer));
    };
    let w = windows(cx, layer, x, (&size.value, strides, dilation), *border)?;
    let groups = if *separable { w.channels } else { 1 };
    if groups == 0 || !kernels.is_multiple_of(groups) {
        return Err(unsound(cx, layer));
    }
    let field: u64 = size.value.iter().product();
    let mut shape = size.value.clone();
    shape.extend([w.channels / groups, *kernels]);
    let (init, bias_init) = if *separable || highway.is_some() {
        (torch_init(field * w.channels), torch_init(field * w.channels))
    } else {
        (Init::GlorotUniform { fan_in: field * w.channels, fan_out: field * kernels }, Init::Constant(0.0))
    };
    let kernel = param(cx, layer, at, "kernel", &shape, init);
    let bias = param(cx, layer, at, "bias", &[*kernels], bias_init);
    let gate = highway.map(|h| {
        let kernel = param(cx, layer, at, "gate_kernel", &shape, init);
        (kernel, h.bias.ok_or_else(|| param(cx, layer, at, "gate_bias", &[*kernels], bias_init)))
    });
    let dilation = dilation.iter().map(|d| u32::try_from(*d).unwrap_or(u32::MAX)).collect();
    let groups = u32::try_from(groups).unwrap_or(u32::MAX);
    let attrs = ConvAttrs { stride: w.stride, pad: w.pad, dilation, output: w.output, groups };
    let mut b = cx.builder(at);
    let y = b.op(Op::Conv(attrs.clone()), &[x, kernel]);
    let y = b.add(y, bias);
    let Some((kernel, bias)) = gate else { return Ok(y) };
    if b.shape(y) != b.shape(x) {
        return Err(unsound(cx, layer));
    }
    let t = b.op(Op::Conv(attrs), &[x, kernel]);
    let t = gate_bias(&mut b, t, bias);
    Ok(carry(&mut b, x, y, t))
}

/// Maximum or mean of the real cells of each window: `[n, …, channels]` to as many axes.
#[expect(clippy::too_many_arguments, reason = "the arguments of the Kurfile layer, one by one")]
pub(super) fn pool(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    kind: PoolKind,
    size: &[u64],
    strides: &[u64],
    border: Border,
) -> Result<NodeId, Reported> {
    let w = windows(cx, layer, x, (size, strides, &vec![1; size.len()]), border)?;
    let attrs = PoolAttrs {
        average: kind == PoolKind::Average,
        window: w.window,
        stride: w.stride,
        pad: w.pad,
        output: w.output,
    };
    Ok(cx.builder(at).op(Op::Pool(attrs), &[x]))
}

/// The maximum or mean over all axes between batch and channels: `[n, …, c]` to `[n, c]`.
pub(super) fn global_pool(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    kind: PoolKind,
) -> Result<NodeId, Reported> {
    let shape = cx.graph.shape(x).to_vec();
    let [n, _, .., channels] = shape.as_slice() else { return Err(unsound(cx, layer)) };
    let axes: Vec<usize> = (1..shape.len() - 1).collect();
    let mut b = cx.builder(at);
    let y = match kind {
        PoolKind::Average => b.mean(x, &axes),
        PoolKind::Max => b.op(Op::Reduce { op: ReduceOp::Max, axes }, &[x]),
    };
    Ok(b.reshape(y, vec![*n, *channels]))
}

/// Every cell several times along each spatial axis (nearest neighbour): `[n, h, w, c]` to `[n, h · a, w · b, c]`.
pub(super) fn upsample(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    size: &[u64],
) -> Result<NodeId, Reported> {
    let shape = cx.graph.shape(x).to_vec();
    let [n, spatial @ .., channels] = shape.as_slice() else { return Err(unsound(cx, layer)) };
    let Some(factors) = each(size, spatial.len()) else { return Err(unsound(cx, layer)) };
    let (mut apart, mut wide, mut out) = (vec![*n], vec![*n], vec![*n]);
    for (s, factor) in spatial.iter().zip(factors) {
        let factor = Dim::constant(factor);
        apart.extend([*s, Dim::ONE]);
        wide.extend([*s, factor]);
        out.push(s.times(factor));
    }
    for shape in [&mut apart, &mut wide, &mut out] {
        shape.push(*channels);
    }
    let mut b = cx.builder(at);
    let y = b.reshape(x, apart);
    let y = b.broadcast(y, wide);
    Ok(b.reshape(y, out))
}

/// Zeros before and behind each spatial axis.
pub(super) fn pad(
    cx: &mut Cx<'_>,
    layer: &Layer,
    at: LayerRef,
    x: NodeId,
    before: &[u64],
    after: &[u64],
) -> Result<NodeId, Reported> {
    let axes = cx.graph.shape(x).len().saturating_sub(2);
    let (Some(before), Some(after)) = (each(before, axes), each(after, axes)) else {
        return Err(unsound(cx, layer));
    };
    let mut y = x;
    for (i, (a, b)) in before.into_iter().zip(after).enumerate() {
        let sizes = [cx.graph.shape(y)[i + 1], Dim::constant(a), Dim::constant(b)];
        let size = sum(cx, layer, &sizes)?;
        y = cx.builder(at).pad(y, i + 1, Dim::constant(a), size);
    }
    Ok(y)
}

/// One number for each axis, of which a single one holds for all.
fn each(given: &[u64], axes: usize) -> Option<Vec<u64>> {
    match given {
        [one] => Some(vec![*one; axes]),
        all => (all.len() == axes).then(|| all.to_vec()),
    }
}
