//! Recurrent layers by their definitions (kur-reference 3.5), one unit at a time.

use kur_runtime::plan::{CellActivation, RnnCell, RnnGradOf};
use ndarray::{ArrayD, IxDyn};

use super::super::op::RnnAttrs;

/// An activation.
pub(super) fn activate(kind: CellActivation, x: f64) -> f64 {
    let elu = |x: f64| if x > 0.0 { x } else { x.exp_m1() };
    match kind {
        CellActivation::Linear => x,
        CellActivation::Relu => x.max(0.0),
        CellActivation::Tanh => x.tanh(),
        CellActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        CellActivation::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
        CellActivation::Elu => elu(x),
        CellActivation::Selu => {
            let y = if x > 0.0 { x } else { 1.673_263_242_354_377_2 * x.exp_m1() };
            1.050_700_987_355_480_5 * y
        }
        CellActivation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        CellActivation::Softsign => x / (1.0 + x.abs()),
    }
}

/// Slope of an activation where its value is `y`.
fn slope(kind: CellActivation, y: f64) -> f64 {
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    match kind {
        CellActivation::Linear => 1.0,
        CellActivation::Relu => flag(y > 0.0),
        CellActivation::Tanh => 1.0 - y * y,
        CellActivation::Sigmoid => y * (1.0 - y),
        CellActivation::HardSigmoid => 0.2 * flag(y > 0.0 && y < 1.0),
        CellActivation::Elu => flag(y > 0.0) + flag(y <= 0.0) * (y + 1.0),
        CellActivation::Selu => {
            let (scale, alpha) = (1.050_700_987_355_480_5, 1.673_263_242_354_377_2);
            if y > 0.0 { scale } else { y + scale * alpha }
        }
        CellActivation::Softplus => -(-y).exp_m1(),
        CellActivation::Softsign => (1.0 - y.abs()).powi(2),
    }
}

/// Sizes, and the steps in the order in which they run.
struct Run {
    n: usize,
    u: usize,
    order: Vec<usize>,
}

fn sizes(a: &RnnAttrs, sequence: &[usize], u: usize) -> Run {
    let mut order: Vec<usize> = (0..sequence[1]).collect();
    if a.reverse {
        order.reverse();
    }
    Run { n: sequence[0], u, order }
}

/// `Σ_k x[k] · w[k, column]`.
fn product(x: &[f64], w: &ArrayD<f64>, column: usize) -> f64 {
    x.iter().enumerate().map(|(k, x)| x * w[[k, column]]).sum()
}

pub(super) fn forward(
    a: &RnnAttrs,
    xw: &ArrayD<f64>,
    w: &ArrayD<f64>,
    bias: Option<&ArrayD<f64>>,
    shape: &[usize],
) -> ArrayD<f64> {
    let Run { n, u, order } = sizes(a, xw.shape(), w.shape()[0]);
    let mut tape = ArrayD::zeros(IxDyn(shape));
    let (inner, outer) = (|x| activate(a.inner, x), |x| activate(a.outer, x));
    for i in 0..n {
        let (mut h, mut c) = (vec![0.0; u], vec![0.0; u]);
        for &t in &order {
            let x = |gate: usize, k: usize| xw[[i, t, gate * u + k]];
            let hu = |gate: usize, k: usize| product(&h, w, gate * u + k);
            let parts: Vec<Vec<f64>> = match a.cell {
                RnnCell::Gru => {
                    let z: Vec<f64> = (0..u).map(|k| inner(x(0, k) + hu(0, k))).collect();
                    let r: Vec<f64> = (0..u).map(|k| inner(x(1, k) + hu(1, k))).collect();
                    let rh: Vec<f64> = (0..u).map(|k| r[k] * h[k]).collect();
                    let new: Vec<f64> = (0..u).map(|k| outer(x(2, k) + product(&rh, w, 2 * u + k))).collect();
                    let next = (0..u).map(|k| z[k] * h[k] + (1.0 - z[k]) * new[k]).collect();
                    vec![next, z, r, new]
                }
                RnnCell::GruAfter => {
                    let b = |gate: usize, k: usize| bias.map_or(0.0, |b| b[[gate * u + k]]);
                    let r: Vec<f64> = (0..u).map(|k| inner(x(0, k) + hu(0, k) + b(0, k))).collect();
                    let z: Vec<f64> = (0..u).map(|k| inner(x(1, k) + hu(1, k) + b(1, k))).collect();
                    let q: Vec<f64> = (0..u).map(|k| hu(2, k) + b(2, k)).collect();
                    let new: Vec<f64> = (0..u).map(|k| outer(x(2, k) + r[k] * q[k])).collect();
                    let next = (0..u).map(|k| z[k] * h[k] + (1.0 - z[k]) * new[k]).collect();
                    vec![next, r, z, new, q]
                }
                RnnCell::Lstm => {
                    let gate = |g: usize| -> Vec<f64> { (0..u).map(|k| inner(x(g, k) + hu(g, k))).collect() };
                    let (input, forget, output) = (gate(0), gate(1), gate(3));
                    let new: Vec<f64> = (0..u).map(|k| outer(x(2, k) + hu(2, k))).collect();
                    let memory: Vec<f64> = (0..u).map(|k| forget[k] * c[k] + input[k] * new[k]).collect();
                    let next = (0..u).map(|k| output[k] * outer(memory[k])).collect();
                    c.clone_from(&memory);
                    vec![next, memory, input, forget, new, output]
                }
            };
            h.clone_from(&parts[0]);
            for (p, values) in parts.iter().enumerate() {
                for (k, v) in values.iter().enumerate() {
                    tape[[i, t, p * u + k]] = *v;
                }
            }
        }
    }
    tape
}

/// Gradient to the products with the input kernel.
pub(super) fn grad(
    a: &RnnAttrs,
    of: RnnGradOf,
    tape: &ArrayD<f64>,
    w: &ArrayD<f64>,
    g: &ArrayD<f64>,
    shape: &[usize],
) -> ArrayD<f64> {
    let Run { n, u, order } = sizes(a, shape, w.shape()[0]);
    let mut gxw = ArrayD::zeros(IxDyn(shape));
    let (inner, outer) = (|y| slope(a.inner, y), |y| slope(a.outer, y));
    // Σ over the columns of some gates of gradient · w, for state k.
    let back = |d: &[f64], first: usize, k: usize| -> f64 {
        d.iter().enumerate().map(|(c, d)| d * w[[k, first * u + c]]).sum()
    };
    for i in 0..n {
        let (mut carry, mut carry_c) = (vec![0.0; u], vec![0.0; u]);
        for (step, &t) in order.iter().enumerate().rev() {
            let part = |p: usize, k: usize| tape[[i, t, p * u + k]];
            let before = |p: usize, k: usize| if step == 0 { 0.0 } else { tape[[i, order[step - 1], p * u + k]] };
            let dh: Vec<f64> = (0..u)
                .map(|k| {
                    carry[k]
                        + match of {
                            RnnGradOf::States => g[[i, t, k]],
                            RnnGradOf::Final if step + 1 == order.len() => g[[i, k]],
                            RnnGradOf::Final => 0.0,
                        }
                })
                .collect();
            let each = |f: &dyn Fn(usize) -> f64| (0..u).map(f).collect::<Vec<f64>>();
            let gates = match a.cell {
                RnnCell::Gru => {
                    let dz = each(&|k| dh[k] * (before(0, k) - part(3, k)) * inner(part(1, k)));
                    let dn = each(&|k| dh[k] * (1.0 - part(1, k)) * outer(part(3, k)));
                    let drh = each(&|k| back(&dn, 2, k));
                    let dr = each(&|k| drh[k] * before(0, k) * inner(part(2, k)));
                    carry = each(&|k| dh[k] * part(1, k) + drh[k] * part(2, k) + back(&dz, 0, k) + back(&dr, 1, k));
                    vec![dz, dr, dn]
                }
                RnnCell::GruAfter => {
                    let dz = each(&|k| dh[k] * (before(0, k) - part(3, k)) * inner(part(2, k)));
                    let dn = each(&|k| dh[k] * (1.0 - part(2, k)) * outer(part(3, k)));
                    let dr = each(&|k| dn[k] * part(4, k) * inner(part(1, k)));
                    let dq = each(&|k| dn[k] * part(1, k));
                    carry = each(&|k| dh[k] * part(2, k) + back(&dr, 0, k) + back(&dz, 1, k) + back(&dq, 2, k));
                    vec![dr, dz, dn]
                }
                RnnCell::Lstm => {
                    let y = |k: usize| activate(a.outer, part(1, k));
                    let dc = each(&|k| carry_c[k] + dh[k] * part(5, k) * outer(y(k)));
                    let di = each(&|k| dc[k] * part(4, k) * inner(part(2, k)));
                    let df = each(&|k| dc[k] * before(1, k) * inner(part(3, k)));
                    let dn = each(&|k| dc[k] * part(2, k) * outer(part(4, k)));
                    let d_out = each(&|k| dh[k] * y(k) * inner(part(5, k)));
                    carry_c = each(&|k| dc[k] * part(3, k));
                    let gates = vec![di, df, dn, d_out];
                    carry = each(&|k| gates.iter().enumerate().map(|(p, d)| back(d, p, k)).sum());
                    gates
                }
            };
            for (p, values) in gates.iter().enumerate() {
                for (k, v) in values.iter().enumerate() {
                    gxw[[i, t, p * u + k]] = *v;
                }
            }
        }
    }
    gxw
}

/// Gradient to the recurrent product of gate `p` at a step, from that to its sum with the input's product.
fn recurrent(a: &RnnAttrs, tape: &ArrayD<f64>, gxw: &ArrayD<f64>, at: (usize, usize), u: usize, column: usize) -> f64 {
    let g = gxw[[at.0, at.1, column]];
    if a.cell == RnnCell::GruAfter && column >= 2 * u { g * tape[[at.0, at.1, u + column - 2 * u]] } else { g }
}

/// Gradient to the recurrent kernel.
pub(super) fn grad_weight(a: &RnnAttrs, tape: &ArrayD<f64>, gxw: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let Run { n, u, order } = sizes(a, tape.shape(), shape[0]);
    let mut gw = ArrayD::zeros(IxDyn(shape));
    for i in 0..n {
        for pair in order.windows(2) {
            let (before, t) = (pair[0], pair[1]);
            for k in 0..u {
                for column in 0..shape[1] {
                    let reset = a.cell == RnnCell::Gru && column >= 2 * u;
                    let h = tape[[i, before, k]] * if reset { tape[[i, t, 2 * u + k]] } else { 1.0 };
                    gw[[k, column]] += h * recurrent(a, tape, gxw, (i, t), u, column);
                }
            }
        }
    }
    gw
}

/// Gradient to the recurrent bias.
pub(super) fn grad_bias(a: &RnnAttrs, tape: &ArrayD<f64>, gxw: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let mut gb = ArrayD::zeros(IxDyn(shape));
    let u = shape[0] / usize::try_from(a.cell.gates()).unwrap_or(1);
    for i in 0..gxw.shape()[0] {
        for t in 0..gxw.shape()[1] {
            for column in 0..shape[0] {
                gb[[column]] += recurrent(a, tape, gxw, (i, t), u, column);
            }
        }
    }
    gb
}
