//! One rule per layer kind: shapes of the inputs -> output shape and weights (kur-reference 3).

use super::infer::{Cx, Place, Seen, Unseen, Weights};
use super::windows::{Window, windows};
use super::{Size, modern, report, shape_text};
use crate::diag::{Severity, count};
use crate::model::types::{Activation, Cell, Highway, Layer, LayerKind, MergeMode, Recurrent, Spanned};

/// The output shape of a layer; `None` when it is not known, or was reported. `kind` is that of the layer, or of the
/// original that it reuses.
pub(super) fn layer<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &'a Layer,
    kind: &'a LayerKind,
    inputs: &[Option<Seen<'_, 'a>>],
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    match kind {
        LayerKind::Input { shape, .. } => return input(cx, layer, shape.as_ref()),
        LayerKind::Merge { mode, axis } => return merge(cx, layer, inputs, *mode, *axis),
        LayerKind::Reuse { target, kind } => return reuse(cx, layer, &target.value, kind, inputs, weights),
        LayerKind::Parallel { apply } => return parallel(cx, layer, apply, inputs, weights),
        _ => {}
    }
    let Some(Some(x)) = inputs.first() else { return of_unknown(kind, weights) };
    match kind {
        LayerKind::Dense { sizes, flatten, highway } => dense(cx, layer, x, (sizes, *flatten, *highway), weights),
        LayerKind::Activation(function) => {
            if *function == Activation::Softmax {
                warn_softmax(cx, layer, x);
            }
            if *function == Activation::Prelu {
                modern::slopes(cx, layer, x, weights)?;
            }
            Some(x.shape.clone())
        }
        LayerKind::Dropout { .. } | LayerKind::Output => Some(x.shape.clone()),
        LayerKind::Flatten => flatten(cx, layer, x).map(|n| vec![n]),
        LayerKind::Expand { dimension } => expand(cx, layer, x, *dimension),
        LayerKind::Squeeze { dimension } => squeeze(cx, layer, x, *dimension),
        LayerKind::Convolution { .. } => convolution(cx, layer, kind, x, weights),
        LayerKind::Pool { size, strides, border, .. } => {
            let window = Window { size, strides, dilation: &vec![1; size.value.len()], border: *border };
            let (mut shape, channels) = windows(cx, layer, kind.word(), x, &window)?;
            shape.push(channels);
            Some(shape)
        }
        LayerKind::BatchNormalization { axis, .. } => batch_normalization(cx, layer, x, *axis, weights),
        LayerKind::Recurrent(r) => recurrent(cx, layer, x, r, weights),
        LayerKind::Embedding { vocab_size, size } => {
            cx.weight(layer, weights, &[*vocab_size, *size]);
            let [steps] = vector(cx, layer, x, "embedding", "indices", "flatten it first, or name another input")?;
            Some(vec![steps, Size::Known(*size)])
        }
        LayerKind::Repeat { count } => {
            let [n] = vector(cx, layer, x, "repeat", "numbers", "put `flatten` before it")?;
            Some(vec![Size::Known(*count), n])
        }
        LayerKind::Upsample { size } => modern::upsample(cx, layer, x, size),
        LayerKind::Pad { before, after } => modern::pad(cx, layer, x, before, after),
        LayerKind::GlobalPool { .. } => modern::global_pool(cx, layer, x),
        LayerKind::LayerNormalization { .. } => modern::layer_normalization(cx, layer, x, weights),
        LayerKind::PositionEmbedding => modern::position_embedding(cx, layer, x, weights),
        LayerKind::Attention { heads, .. } => modern::attention(cx, layer, x, heads, weights),
        LayerKind::Transpose { axes, include_batch } => transpose(cx, layer, x, axes, *include_batch),
        LayerKind::Input { .. } | LayerKind::Merge { .. } | LayerKind::Reuse { .. } | LayerKind::Parallel { .. } => {
            None
        }
    }
}

/// What is known of a layer whose input shape is not.
fn of_unknown(kind: &LayerKind, weights: &mut Weights) -> Option<Vec<Size>> {
    match kind {
        LayerKind::Embedding { vocab_size, size } => {
            let shape = vec![*vocab_size, *size];
            weights.params = shape.iter().copied().fold(1, u64::saturating_mul);
            weights.tensors.push(shape);
            Some(vec![Size::Unknown, Size::Known(*size)])
        }
        LayerKind::Repeat { count } => Some(vec![Size::Known(*count), Size::Unknown]),
        LayerKind::Flatten => Some(vec![Size::Unknown]),
        LayerKind::Dense { sizes, flatten, .. } => {
            weights.unknown = true;
            sizes.last().filter(|_| *flatten).map(|s| vec![Size::Known(s.value)])
        }
        LayerKind::Recurrent(r) => {
            weights.unknown = true;
            let n = Size::Known(units(r).0);
            Some(if r.sequence { vec![Size::Unknown, n] } else { vec![n] })
        }
        LayerKind::Convolution { kernels, size, .. } => {
            weights.unknown = true;
            let mut shape = vec![Size::Unknown; size.value.len()];
            shape.push(Size::Known(*kernels));
            Some(shape)
        }
        LayerKind::Pool { size, .. } => Some(vec![Size::Unknown; size.value.len() + 1]),
        LayerKind::BatchNormalization { .. }
        | LayerKind::LayerNormalization { .. }
        | LayerKind::PositionEmbedding
        | LayerKind::Attention { .. }
        | LayerKind::Activation(Activation::Prelu) => {
            weights.unknown = true;
            None
        }
        _ => None,
    }
}

/// A placeholder (3.1): the shape from the data, from the Kurfile, or from both.
fn input(cx: &mut Cx<'_, '_>, layer: &Layer, given: Option<&Spanned<Vec<Option<u64>>>>) -> Option<Vec<Size>> {
    let data = cx.data.iter().find(|d| d.name == layer.name);
    let known = |shape: &[u64]| -> Vec<Size> { shape.iter().map(|s| Size::Known(*s)).collect() };
    let of_data = |shape: &[u64]| -> Vec<Size> {
        shape.iter().map(|s| if *s == 0 { Size::Variable } else { Size::Known(*s) }).collect()
    };
    let product = |v: &[u64]| v.iter().copied().fold(1u64, u64::saturating_mul);
    let shape = match (given, data) {
        (None, None) => {
            let severity = match cx.unseen {
                Unseen::Error => Severity::Error,
                Unseen::Warning => Severity::Warning,
                Unseen::Silent => return None,
            };
            let d = report::unknown_input_shape(layer, severity);
            cx.push(layer, d);
            return None;
        }
        (None, Some(d)) => of_data(&d.shape),
        (Some(s), None) => s.value.iter().map(|s| s.map_or(Size::Variable, Size::Known)).collect(),
        (Some(s), Some(d)) => {
            let fits = s.value.len() == d.shape.len()
                && s.value.iter().zip(&d.shape).all(|(a, b)| a.is_none_or(|a| a == *b || *b == 0));
            match s.value.iter().copied().collect::<Option<Vec<u64>>>() {
                // Columns have no shape of their own: any with as many elements will do.
                Some(full) if d.reshapes && product(&full) == product(&d.shape) => known(&full),
                // A fixed size holds samples of any length up to it.
                _ if fits => {
                    let both = s.value.iter().zip(of_data(&d.shape));
                    both.map(|(own, data)| own.map_or(data, Size::Known)).collect()
                }
                _ => {
                    let d = report::declared_otherwise(layer, s.span, d);
                    cx.push(layer, d);
                    return None;
                }
            }
        }
    };
    if shape.contains(&Size::Known(0)) {
        cx.push(layer, report::empty_axis(layer));
        return None;
    }
    // A scalar per sample is a vector of one (3.1).
    Some(if shape.is_empty() { vec![Size::Known(1)] } else { shape })
}

/// The number of elements of one sample.
fn flatten<'a>(cx: &mut Cx<'a, '_>, layer: &Layer, x: &Seen<'_, 'a>) -> Option<Size> {
    if let Some(axis) = x.shape.iter().position(|s| *s == Size::Variable) {
        let text = format!("cannot flatten {}: its size {axis} is variable", shape_text(Some(&x.shape)));
        let help = "give that size a number, or reduce the axis first with `recurrent: {size: N, sequence: no}`";
        return cx.mismatch(layer, text, (layer.span, "the number of elements is not fixed"), x, help);
    }
    let known: Option<Vec<u64>> = x.shape.iter().map(|s| s.known()).collect();
    Some(known.map_or(Size::Unknown, |v| Size::Known(v.into_iter().fold(1, u64::saturating_mul))))
}

/// The last size of a value, which must be fixed: `None` after a report, otherwise the number if it is known.
pub(super) fn features<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    word: &str,
    x: &Seen<'_, 'a>,
    size: Option<Size>,
) -> Option<Option<u64>> {
    match size {
        Some(Size::Known(n)) => Some(Some(n)),
        Some(Size::Unknown) => Some(None),
        Some(Size::Variable) | None => {
            let text = format!("`{word}` needs an input whose last size is known");
            cx.mismatch(layer, text, (layer.span, "this layer"), x, "flatten or pool first")
        }
    }
}

/// Successive affine maps over the last axis (3.2).
fn dense<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    (sizes, flat, highway): (&[Spanned<u64>], bool, Option<Highway>),
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    let mut shape = if flat { vec![flatten(cx, layer, x)?] } else { x.shape.clone() };
    for size in sizes {
        let inputs = features(cx, layer, "dense", x, shape.last().copied())?;
        let n = size.value;
        match inputs {
            None => weights.unknown = true,
            Some(inputs) => {
                if highway.is_some() && inputs != n {
                    let text = format!("a highway layer gives as many numbers as it reads: {inputs}, not {n}");
                    let help = format!("write `size: {inputs}`, or put `dense: {n}` before it");
                    return cx.mismatch(layer, text, (size.span, format!("must be {inputs}")), x, help);
                }
                gates(cx, layer, weights, &[inputs, n], n, highway);
            }
        }
        if let Some(last) = shape.last_mut() {
            *last = Size::Known(n);
        }
    }
    Some(shape)
}

/// Kernel and bias, and those of the transform gate of a highway layer; a gate bias that is given is not trained.
fn gates(cx: &mut Cx<'_, '_>, layer: &Layer, w: &mut Weights, kernel: &[u64], units: u64, highway: Option<Highway>) {
    cx.weight(layer, w, kernel);
    cx.weight(layer, w, &[units]);
    if let Some(highway) = highway {
        cx.weight(layer, w, kernel);
        if highway.bias.is_none() {
            cx.weight(layer, w, &[units]);
        }
    }
}

/// The front end warns where a dense layer of one unit stands directly before.
fn warn_softmax<'a>(cx: &mut Cx<'a, '_>, layer: &Layer, x: &Seen<'_, 'a>) {
    if x.shape.last() != Some(&Size::Known(1)) {
        return;
    }
    let from = cx.trail(x.place, 1).first().map(|(layer, _)| *layer);
    if !from.is_some_and(|l| matches!(l.kind, LayerKind::Dense { .. })) || matches!(x.place, Place::Inside(..)) {
        cx.push(layer, report::softmax_over_one(layer, from.map(|l| l.span)));
    }
}

/// Inserts an axis of size 1 (3.10).
fn expand<'a>(cx: &mut Cx<'a, '_>, layer: &Layer, x: &Seen<'_, 'a>, dimension: i64) -> Option<Vec<Size>> {
    let rank = x.shape.len();
    let Some(axis) = position(dimension, rank + 1) else {
        let text = format!("cannot expand dimension {dimension} of a shape with {}", sizes(rank));
        let help = format!("use a dimension from -{} to {rank}", rank + 1);
        return cx.mismatch(layer, text, (layer.span, "out of range"), x, help);
    };
    let mut shape = x.shape.clone();
    shape.insert(axis, Size::Known(1));
    Some(shape)
}

/// Removes an axis of size 1 (3.10).
fn squeeze<'a>(cx: &mut Cx<'a, '_>, layer: &Layer, x: &Seen<'_, 'a>, dimension: i64) -> Option<Vec<Size>> {
    let mut shape = x.shape.clone();
    let Some(axis) = position(dimension, shape.len()) else {
        let text = format!("cannot squeeze dimension {dimension} of a shape with {}", sizes(shape.len()));
        let help = "count dimensions from 0, or from the end with -1";
        return cx.mismatch(layer, text, (layer.span, "out of range"), x, help);
    };
    let size = shape.remove(axis);
    match size {
        Size::Known(1) | Size::Unknown => Some(shape),
        _ => {
            let size = if size == Size::Variable { "variable".to_owned() } else { size.to_string() };
            let text = format!("cannot squeeze dimension {dimension}: its size is {size}, not 1");
            cx.mismatch(layer, text, (layer.span, "this layer"), x, "squeeze a dimension of size 1, or use `flatten`")
        }
    }
}

/// `1 size`, `3 sizes`.
fn sizes(n: usize) -> String {
    count(n, "size")
}

/// A dimension counted from either end, as an index below `n`.
#[must_use]
pub fn position(d: i64, n: usize) -> Option<usize> {
    let n = i64::try_from(n).ok()?;
    let i = if d < 0 { d.checked_add(n)? } else { d };
    (0..n).contains(&i).then(|| usize::try_from(i).ok()).flatten()
}

/// Convolution, depthwise or not, with or without a gate (3.3).
fn convolution<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    kind: &LayerKind,
    x: &Seen<'_, 'a>,
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    let LayerKind::Convolution { kernels, size, strides, dilation, border, separable, highway } = kind else {
        return None;
    };
    let window = Window { size, strides, dilation, border: *border };
    let (mut shape, channels) = windows(cx, layer, kind.word(), x, &window)?;
    let channels = features(cx, layer, "convolution", x, Some(channels))?;
    shape.push(Size::Known(*kernels));
    let Some(channels) = channels else {
        weights.unknown = true;
        return Some(shape);
    };
    if *separable && !kernels.is_multiple_of(channels) {
        let text = format!("a separable convolution needs a multiple of {channels} kernels, found {kernels}");
        let next = kernels.div_ceil(channels).saturating_mul(channels);
        let label = format!("its input has {channels} channels");
        return cx.mismatch(layer, text, (layer.span, label), x, format!("write `kernels: {next}`"));
    }
    if highway.is_some() && shape != x.shape {
        let (want, have) = (shape_text(Some(&x.shape)), shape_text(Some(&shape)));
        let text = format!("a highway convolution gives the shape it reads: {want}, not {have}");
        let help = format!("use `kernels: {channels}`, `border: same` and strides of 1");
        return cx.mismatch(layer, text, (layer.span, "changes the shape"), x, help);
    }
    let mut kernel = size.value.clone();
    kernel.extend([if *separable { 1 } else { channels }, *kernels]);
    gates(cx, layer, weights, &kernel, *kernels, *highway);
    Some(shape)
}

/// Statistics and scale for each cell of one axis (3.7).
fn batch_normalization<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    axis: i64,
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    let rank = x.shape.len();
    let size = position(axis, rank + 1).and_then(|a| a.checked_sub(1)).and_then(|a| x.shape.get(a));
    match size {
        None => {
            let text = format!("batch_normalization has no axis {axis} to keep in a shape with {}", sizes(rank));
            let help = "the batch is axis 0; leave `axis` out to normalise the last axis";
            return cx.mismatch(layer, text, (layer.span, "out of range"), x, help);
        }
        Some(Size::Variable) => {
            let text = "batch_normalization needs a fixed size on its axis".to_owned();
            return cx.mismatch(layer, text, (layer.span, "this axis varies"), x, "choose another axis");
        }
        Some(Size::Unknown) => weights.unknown = true,
        Some(Size::Known(n)) => {
            cx.weight(layer, weights, &[*n]);
            cx.weight(layer, weights, &[*n]);
            weights.running = n.saturating_mul(2);
        }
    }
    Some(x.shape.clone())
}

/// Output units and units of each direction (3.5): `concat` halves them.
fn units(r: &Recurrent) -> (u64, u64) {
    match r.bidirectional {
        Some(MergeMode::Concat) => (r.size.value / 2 * 2, r.size.value / 2),
        _ => (r.size.value, r.size.value),
    }
}

/// Recurrent cells over the first axis of a sequence (3.5).
fn recurrent<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    r: &Recurrent,
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    let &[steps, last] = x.shape.as_slice() else {
        let found = shape_text(Some(&x.shape));
        let text = format!("`recurrent` needs a sequence of shape [steps, features], found {found}");
        let help = match x.shape.len() {
            0 | 1 => "add the missing axis with `expand: -1` (one feature a step) or `expand: 0` (one step)".to_owned(),
            _ => "flatten each step first with `parallel: {apply: [flatten]}`".to_owned(),
        };
        return cx.mismatch(layer, text, (layer.span, "this layer"), x, help);
    };
    let (output, n) = units(r);
    if r.bidirectional == Some(MergeMode::Concat) && r.size.value % 2 == 1 {
        if n == 0 {
            cx.push(layer, report::one_unit_halved(layer, r.size.span));
            return None;
        }
        cx.push(layer, report::odd_halves(layer, r.size.span, r.size.value));
    }
    match features(cx, layer, "recurrent", x, Some(last))? {
        None => weights.unknown = true,
        Some(inputs) => {
            let directions = if r.bidirectional.is_some() { 2 } else { 1 };
            for _ in 0..directions {
                cell(cx, layer, weights, (r.cell, r.torch), (inputs, n), n.saturating_mul(directions));
            }
        }
    }
    let n = Size::Known(output);
    Some(if r.sequence { vec![steps, n] } else { vec![n] })
}

/// The weights of one direction: gates packed side by side.
fn cell(
    cx: &mut Cx<'_, '_>,
    layer: &Layer,
    w: &mut Weights,
    (cell, torch): (Cell, bool),
    (inputs, n): (u64, u64),
    all: u64,
) {
    let gates = match cell {
        Cell::Gru => 3u64,
        Cell::Lstm => 4,
        Cell::Sru => {
            // Where the input is as wide as the output it is handed on as it is; otherwise through a fourth matrix.
            let matrices: u64 = if inputs == all { 3 } else { 4 };
            cx.weight(layer, w, &[inputs, n.saturating_mul(matrices)]);
            cx.weight(layer, w, &[n.saturating_mul(2)]);
            return;
        }
    };
    let packed = n.saturating_mul(gates);
    cx.weight(layer, w, &[inputs, packed]);
    cx.weight(layer, w, &[n, packed]);
    cx.weight(layer, w, &[packed]);
    if torch {
        cx.weight(layer, w, &[packed]);
    }
}

/// The only size of a value that must be a vector.
fn vector<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    word: &str,
    of: &str,
    help: &str,
) -> Option<[Size; 1]> {
    if let [one] = x.shape.as_slice() {
        return Some([*one]);
    }
    let text = format!("`{word}` needs a vector of {of}, found the shape {}", shape_text(Some(&x.shape)));
    cx.mismatch(layer, text, (layer.span, format!("expected {}", sizes(1))), x, help)
}

/// A permutation of the axes (3.11).
fn transpose<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    x: &Seen<'_, 'a>,
    axes: &Spanned<Vec<u64>>,
    include_batch: bool,
) -> Option<Vec<Size>> {
    let rank = x.shape.len();
    if include_batch && axes.value.first() != Some(&0) {
        let text = "`transpose` moves the batch away from axis 0".to_owned();
        let help = "let the list begin with 0: every layer needs the batch there";
        return cx.mismatch(layer, text, (axes.span, "the first entry must be 0"), x, help);
    }
    let want = rank + usize::from(include_batch);
    let index = |a: &u64| usize::try_from(*a).ok();
    let moved: Option<Vec<Size>> = if include_batch {
        let axes = axes.value.iter().filter(|a| **a > 0);
        axes.map(|a| index(a).and_then(|a| x.shape.get(a - 1)).copied()).collect()
    } else {
        axes.value.iter().map(|a| index(a).and_then(|a| x.shape.get(a)).copied()).collect()
    };
    match moved.filter(|_| axes.value.len() == want) {
        Some(shape) => Some(shape),
        None => {
            let counted = if include_batch { ", the batch included" } else { "" };
            let text =
                format!("`transpose` names {}, but its input has {want}{counted}", count(axes.value.len(), "axis"));
            let order: Vec<String> = (0..want).rev().map(|a| a.to_string()).collect();
            let help = format!("give each axis once, for example `[{}]`", order.join(", "));
            cx.mismatch(layer, text, (axes.span, format!("expected {}", count(want, "number"))), x, help)
        }
    }
}

/// Values of one shape, or one behind the other along an axis (3.12).
fn merge<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    inputs: &[Option<Seen<'_, 'a>>],
    mode: MergeMode,
    axis: i64,
) -> Option<Vec<Size>> {
    let all: Vec<&Seen<'_, 'a>> = inputs.iter().flatten().collect();
    let (first, rest) = all.split_first()?;
    let mut shape = first.shape.clone();
    let joined = match mode {
        MergeMode::Concat => match concat_axis(axis, shape.len()) {
            Some(axis) => Some(axis),
            None => {
                let rank = shape.len();
                let text = format!("`merge` cannot join along axis {axis} of a shape with {}", sizes(rank));
                let help = if axis == 0 {
                    "axis 0 is the batch; the first axis of a sample is 1".to_owned()
                } else if rank == 1 {
                    "use axis 1 or -1".to_owned()
                } else {
                    format!("use an axis from 1 to {rank}, or from -{rank} to -1")
                };
                return cx.mismatch(layer, text, (layer.span, "out of range"), first, help);
            }
        },
        _ => None,
    };
    for other in rest {
        let fits = other.shape.len() == shape.len()
            && (0..shape.len()).all(|i| Some(i) == joined || agree(shape[i], other.shape[i]));
        if !fits {
            let (a, b) = (shape_text(Some(&first.shape)), shape_text(Some(&other.shape)));
            let (text, help) = match joined {
                None => (
                    format!("`merge` needs inputs of one shape, found {a} and {b}"),
                    "bring both to one shape with `dense`, `flatten` or `pool`, or use `merge: concat`",
                ),
                Some(_) if other.shape.len() != shape.len() => (
                    format!("`merge: concat` needs inputs with as many axes, found {a} and {b}"),
                    "flatten the larger one, or add an axis with `expand`",
                ),
                Some(axis) => (
                    format!(
                        "`merge: concat` along axis {} needs all other sizes to agree, found {a} and {b}",
                        axis + 1
                    ),
                    "join along the axis that differs, or bring the others to one size first",
                ),
            };
            let d = cx.trail(first.place, 1).first().map(|(l, _)| (l.span, format!("`{}` gives {a}", l.kind.word())));
            return cx.mismatch_of_two(layer, text, other, d, help);
        }
        for (i, (have, new)) in shape.iter_mut().zip(&other.shape).enumerate() {
            *have = if Some(i) == joined { plus(*have, *new) } else { certain(*have, *new) };
        }
    }
    // An input of unknown shape may change what is joined, and nothing else.
    if let Some(axis) = joined.filter(|_| all.len() < inputs.len()) {
        shape[axis] = Size::Unknown;
    }
    Some(shape)
}

/// Axis of `concat` as an index into a shape without the batch: from 0 on it counts the batch.
fn concat_axis(axis: i64, rank: usize) -> Option<usize> {
    if axis < 0 { position(axis, rank) } else { position(axis, rank + 1)?.checked_sub(1) }
}

fn agree(a: Size, b: Size) -> bool {
    match (a, b) {
        (Size::Known(a), Size::Known(b)) => a == b,
        _ => true,
    }
}

/// The more certain of two sizes that agree.
fn certain(a: Size, b: Size) -> Size {
    match (a, b) {
        (Size::Known(_), _) => a,
        (_, Size::Known(_)) => b,
        (Size::Variable, _) | (_, Size::Variable) => Size::Variable,
        _ => Size::Unknown,
    }
}

fn plus(a: Size, b: Size) -> Size {
    match (a, b) {
        (Size::Known(a), Size::Known(b)) => Size::Known(a.saturating_add(b)),
        (Size::Unknown, _) | (_, Size::Unknown) => Size::Unknown,
        _ => Size::Variable,
    }
}

/// A chain for every element of the first axis (3.16).
fn parallel<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &'a Layer,
    apply: &'a [Layer],
    inputs: &[Option<Seen<'_, 'a>>],
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    let x = inputs.first().and_then(Option::as_ref);
    let split = match x {
        None => None,
        Some(x) if apply.is_empty() => return Some(x.shape.clone()),
        Some(x) => match x.shape.split_first().filter(|(_, rest)| !rest.is_empty()) {
            Some((first, rest)) => Some((*first, rest.to_vec(), x)),
            None => {
                let found = shape_text(Some(&x.shape));
                let text = format!("`parallel` needs an input of at least two sizes, found {found}");
                let help = "add an axis with `expand: -1`, or write the layers without `parallel`";
                return cx.mismatch(layer, text, (layer.span, "nothing to go through"), x, help);
            }
        },
    };
    let mut shape = split.as_ref().map(|(_, rest, _)| rest.clone());
    let mut steps: Vec<(&Layer, Vec<Size>)> = Vec::new();
    for child in apply {
        let seen = match (&shape, &split) {
            (Some(shape), Some((_, _, x))) => {
                Some(Seen { shape: shape.clone(), place: Place::Inside(&steps, &x.place) })
            }
            _ => None,
        };
        let (result, own) = cx.layer(child, &[seen]);
        weights.params = weights.params.saturating_add(own.params);
        weights.running = weights.running.saturating_add(own.running);
        weights.unknown |= own.unknown;
        weights.tensors.extend(own.tensors.iter().cloned());
        weights.children.push(own.row(result.clone()));
        if let Some(shape) = &result {
            steps.push((child, shape.clone()));
        }
        // Behind a layer of unknown shape nothing below has a trail to show.
        shape = result;
    }
    let (first, _, _) = split?;
    let mut out = vec![first];
    out.extend(shape?);
    Some(out)
}

/// A layer with the weights of another (3.15): its rule on the new input, no weights of its own.
fn reuse<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &'a Layer,
    target: &'a str,
    kind: &'a LayerKind,
    inputs: &[Option<Seen<'_, 'a>>],
    weights: &mut Weights,
) -> Option<Vec<Size>> {
    let mut own = Weights::default();
    let shape = self::layer(cx, layer, kind, inputs, &mut own);
    if !own.unknown && shape.is_some() {
        cx.reuse(layer, target, own.tensors);
    }
    weights.children = own.children;
    weights.children.iter_mut().for_each(without_weights);
    shape
}

fn without_weights(row: &mut super::LayerShape) {
    row.params = Some(0);
    row.running = 0;
    row.children.iter_mut().for_each(without_weights);
}
