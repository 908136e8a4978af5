//! Convolution and pooling by their definitions, for one to three spatial axes.

use kur_runtime::plan::padding;
use ndarray::{ArrayD, IxDyn};

use super::super::op::{ConvAttrs, PoolAttrs};

/// Every index vector below a shape, in row-major order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let shape = shape.to_vec();
    let total: usize = shape.iter().product();
    (0..total).map(move |mut flat| {
        let mut ix = vec![0; shape.len()];
        for i in (0..shape.len()).rev() {
            ix[i] = flat % shape[i];
            flat /= shape[i];
        }
        ix
    })
}

/// Input cell of output cell `o` and tap `k`, or `None` in the padding.
fn cell(
    o: &[usize],
    k: &[usize],
    stride: &[u32],
    pad: &[usize],
    dilation: Option<&[u32]>,
    size: &[usize],
) -> Option<Vec<usize>> {
    let mut out = Vec::with_capacity(o.len());
    for i in 0..o.len() {
        let tap = k[i] * dilation.map_or(1, |d| d[i] as usize);
        let at = (o[i] * stride[i] as usize + tap).checked_sub(pad[i])?;
        if at >= size[i] {
            return None;
        }
        out.push(at);
    }
    Some(out)
}

fn join(n: usize, mid: &[usize], c: usize) -> Vec<usize> {
    let mut v = vec![n];
    v.extend(mid);
    v.push(c);
    v
}

/// Calls `f(x index, w index, y index)` for every product of the convolution.
fn visit(a: &ConvAttrs, x: &[usize], w: &[usize], y: &[usize], mut f: impl FnMut(&[usize], &[usize], &[usize])) {
    let d = a.stride.len();
    let pad = padded(&a.pad, &x[1..=d], &y[1..=d], |i| ((w[i].max(1) - 1) * a.dilation[i] as usize + 1, a.stride[i]));
    let per_group = (w[d + 1] / a.groups as usize).max(1);
    for yi in indices(y) {
        for k in indices(&w[..d]) {
            let Some(at) = cell(&yi[1..=d], &k, &a.stride, &pad, Some(&a.dilation), &x[1..=d]) else { continue };
            for c in 0..w[d] {
                let mut wi = k.clone();
                wi.extend([c, yi[d + 1]]);
                let group = yi[d + 1] / per_group;
                f(&join(yi[0], &at, group * w[d] + c), &wi, &yi);
            }
        }
    }
}

pub(super) fn forward(a: &ConvAttrs, x: &ArrayD<f64>, w: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let mut y = ArrayD::zeros(IxDyn(shape));
    visit(a, x.shape(), w.shape(), shape, |xi, wi, yi| y[yi] += x[xi] * w[wi]);
    y
}

pub(super) fn grad_input(a: &ConvAttrs, gy: &ArrayD<f64>, w: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let mut gx = ArrayD::zeros(IxDyn(shape));
    visit(a, shape, w.shape(), gy.shape(), |xi, wi, yi| gx[xi] += gy[yi] * w[wi]);
    gx
}

pub(super) fn grad_weight(a: &ConvAttrs, x: &ArrayD<f64>, gy: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let mut gw = ArrayD::zeros(IxDyn(shape));
    visit(a, x.shape(), shape, gy.shape(), |xi, wi, yi| gw[wi] += x[xi] * gy[yi]);
    gw
}

/// The padding before each axis; `window` gives reach and stride.
fn padded(given: &[u32], x: &[usize], y: &[usize], window: impl Fn(usize) -> (usize, u32)) -> Vec<usize> {
    let one = |i: usize| {
        let (reach, stride) = window(i);
        padding(given[i], x[i], y[i], reach, stride as usize)
    };
    (0..given.len()).map(one).collect()
}

/// The real cells of the window of output cell `yi`.
fn window(a: &PoolAttrs, yi: &[usize], x: &[usize], y: &[usize]) -> Vec<Vec<usize>> {
    let d = a.stride.len();
    let pad = padded(&a.pad, &x[1..=d], &y[1..=d], |i| (a.window[i] as usize, a.stride[i]));
    let size: Vec<usize> = a.window.iter().map(|w| *w as usize).collect();
    indices(&size)
        .filter_map(|k| cell(&yi[1..=d], &k, &a.stride, &pad, None, &x[1..=d]))
        .map(|at| join(yi[0], &at, yi[d + 1]))
        .collect()
}

/// Index in the window of the first maximum; a NaN counts as one.
fn winner(x: &ArrayD<f64>, cells: &[Vec<usize>]) -> usize {
    let mut best = 0;
    for i in 1..cells.len() {
        let (v, b) = (x[&cells[i][..]], x[&cells[best][..]]);
        if v > b || v.is_nan() && !b.is_nan() {
            best = i;
        }
    }
    best
}

#[expect(clippy::cast_precision_loss, reason = "windows are small")]
pub(super) fn pool(a: &PoolAttrs, x: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    ArrayD::from_shape_fn(IxDyn(shape), |ix| {
        let yi: Vec<usize> = (0..shape.len()).map(|i| ix[i]).collect();
        let cells = window(a, &yi, x.shape(), shape);
        if a.average {
            cells.iter().map(|c| x[&c[..]]).sum::<f64>() / cells.len() as f64
        } else {
            x[&cells[winner(x, &cells)][..]]
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "windows are small")]
pub(super) fn pool_grad(a: &PoolAttrs, x: &ArrayD<f64>, gy: &ArrayD<f64>) -> ArrayD<f64> {
    let mut gx = ArrayD::zeros(x.raw_dim());
    for yi in indices(gy.shape()) {
        let cells = window(a, &yi, x.shape(), gy.shape());
        let g = gy[&yi[..]];
        if a.average {
            for c in &cells {
                gx[&c[..]] += g / cells.len() as f64;
            }
        } else {
            gx[&cells[winner(x, &cells)][..]] += g;
        }
    }
    gx
}
