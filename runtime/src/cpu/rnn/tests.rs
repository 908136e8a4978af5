//! Recurrent kernels against definitions in f64, and their gradients against finite differences of those; over sizes,
//! instruction sets and thread counts.

use crate::cpu::check::{check, run, values};
use crate::cpu::{Level, buffer_lens};
use crate::dim::Dim;
use crate::plan::{CellActivation, LibCall, PartOf, RnnCell, RnnGeometry, RnnGradOf, StepGeometry, StepPick};
use crate::pool::Pool;

fn activate(kind: CellActivation, x: f64) -> f64 {
    match kind {
        CellActivation::Linear => x,
        CellActivation::Relu => x.max(0.0),
        CellActivation::Tanh => x.tanh(),
        CellActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        CellActivation::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
        CellActivation::Elu if x > 0.0 => x,
        CellActivation::Elu => x.exp_m1(),
        CellActivation::Selu if x > 0.0 => 1.050_700_987_355_480_5 * x,
        CellActivation::Selu => 1.050_700_987_355_480_5 * 1.673_263_242_354_377_2 * x.exp_m1(),
        CellActivation::Softplus => x.exp().ln_1p(),
        CellActivation::Softsign => x / (1.0 + x.abs()),
    }
}

/// Sizes and operands of a layer.
struct Layer {
    g: RnnGeometry,
    n: usize,
    t: usize,
    u: usize,
    xw: Vec<f64>,
    w: Vec<f64>,
    bias: Vec<f64>,
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

impl Layer {
    fn new(
        cell: RnnCell,
        inner: CellActivation,
        outer: CellActivation,
        reverse: bool,
        n: usize,
        t: usize,
        u: usize,
    ) -> Layer {
        let (batch, steps) = (Dim::batch(), Dim::from(t));
        let g = RnnGeometry { cell, inner, outer, reverse, batch, steps, units: u as u64 };
        let packed = cell.gates() as usize * u;
        let w = wide(&values(u * packed, 2)).iter().map(|w| w / (u as f64).sqrt()).collect::<Vec<f64>>();
        Layer { g, n, t, u, xw: wide(&values(n * t * packed, 1)), w: wide(&narrow(&w)), bias: wide(&values(packed, 3)) }
    }

    /// The tape.
    fn forward(&self) -> Vec<f64> {
        let (u, gates, parts) = (self.u, self.g.cell.gates() as usize, self.g.cell.parts() as usize);
        let (inner, outer) = (|x| activate(self.g.inner, x), |x| activate(self.g.outer, x));
        let mut tape = vec![0.0; self.n * self.t * parts * u];
        for i in 0..self.n {
            let (mut h, mut c) = (vec![0.0; u], vec![0.0; u]);
            for step in 0..self.t {
                let t = if self.g.reverse { self.t - 1 - step } else { step };
                let at = i * self.t + t;
                let x = |gate: usize, k: usize| self.xw[(at * gates + gate) * u + k];
                let dot = |v: &[f64], gate: usize, k: usize| -> f64 {
                    v.iter().enumerate().map(|(j, v)| v * self.w[(j * gates + gate) * u + k]).sum()
                };
                let row: Vec<Vec<f64>> = match self.g.cell {
                    RnnCell::Gru => {
                        let z: Vec<f64> = (0..u).map(|k| inner(x(0, k) + dot(&h, 0, k))).collect();
                        let r: Vec<f64> = (0..u).map(|k| inner(x(1, k) + dot(&h, 1, k))).collect();
                        let rh: Vec<f64> = (0..u).map(|k| r[k] * h[k]).collect();
                        let new: Vec<f64> = (0..u).map(|k| outer(x(2, k) + dot(&rh, 2, k))).collect();
                        vec![(0..u).map(|k| z[k] * h[k] + (1.0 - z[k]) * new[k]).collect(), z, r, new]
                    }
                    RnnCell::GruAfter => {
                        let b = |gate: usize, k: usize| self.bias[gate * u + k];
                        let r: Vec<f64> = (0..u).map(|k| inner(x(0, k) + dot(&h, 0, k) + b(0, k))).collect();
                        let z: Vec<f64> = (0..u).map(|k| inner(x(1, k) + dot(&h, 1, k) + b(1, k))).collect();
                        let q: Vec<f64> = (0..u).map(|k| dot(&h, 2, k) + b(2, k)).collect();
                        let new: Vec<f64> = (0..u).map(|k| outer(x(2, k) + r[k] * q[k])).collect();
                        vec![(0..u).map(|k| z[k] * h[k] + (1.0 - z[k]) * new[k]).collect(), r, z, new, q]
                    }
                    RnnCell::Lstm => {
                        let gate = |g: usize| -> Vec<f64> { (0..u).map(|k| inner(x(g, k) + dot(&h, g, k))).collect() };
                        let (input, forget, output) = (gate(0), gate(1), gate(3));
                        let new: Vec<f64> = (0..u).map(|k| outer(x(2, k) + dot(&h, 2, k))).collect();
                        c = (0..u).map(|k| forget[k] * c[k] + input[k] * new[k]).collect();
                        let next = (0..u).map(|k| output[k] * outer(c[k])).collect();
                        vec![next, c.clone(), input, forget, new, output]
                    }
                };
                h.clone_from(&row[0]);
                for (p, values) in row.iter().enumerate() {
                    tape[(at * parts + p) * u..][..u].copy_from_slice(values);
                }
            }
        }
        tape
    }

    /// Σ of the states times `g`.
    fn loss(&self, g: &[f64], of: RnnGradOf) -> f64 {
        let (tape, parts) = (self.forward(), self.g.cell.parts() as usize);
        let end = if self.g.reverse { 0 } else { self.t - 1 };
        let mut sum = 0.0;
        for i in 0..self.n {
            for t in 0..self.t {
                let h = &tape[(i * self.t + t) * parts * self.u..][..self.u];
                let g = match of {
                    RnnGradOf::States => &g[(i * self.t + t) * self.u..][..self.u],
                    RnnGradOf::Final if t == end => &g[i * self.u..][..self.u],
                    RnnGradOf::Final => continue,
                };
                sum += h.iter().zip(g).map(|(h, g)| h * g).sum::<f64>();
            }
        }
        sum
    }

    /// Central differences along every element of an operand.
    fn differences(&mut self, operand: Operand, g: &[f64], of: RnnGradOf) -> Vec<f64> {
        let h = 1e-5;
        let len = operand(self).len();
        let mut out = Vec::with_capacity(len);
        for i in 0..len {
            let old = operand(self)[i];
            operand(self)[i] = old + h;
            let up = self.loss(g, of);
            operand(self)[i] = old - h;
            let down = self.loss(g, of);
            operand(self)[i] = old;
            out.push((up - down) / (2.0 * h));
        }
        out
    }
}

type Operand = fn(&mut Layer) -> &mut Vec<f64>;

const CELLS: [RnnCell; 3] = [RnnCell::Gru, RnnCell::GruAfter, RnnCell::Lstm];

#[test]
fn tapes_follow_the_definitions() {
    let sizes = [(1, 1, 1), (1, 3, 7), (3, 2, 17), (16, 4, 3), (17, 3, 8), (33, 2, 33), (7, 5, 16), (2, 3, 390)];
    for (case, (n, t, u)) in sizes.into_iter().enumerate() {
        for cell in CELLS {
            for reverse in [false, true] {
                // The pair of Kur's cells has loops of its own.
                let kurs = (CellActivation::HardSigmoid, CellActivation::Tanh);
                for (inner, outer) in [(CellActivation::ALL[(case * 2 + 3) % 9], CellActivation::ALL[case % 9]), kurs] {
                    let layer = Layer::new(cell, inner, outer, reverse, n, t, u);
                    let (xw, w, bias) = (narrow(&layer.xw), narrow(&layer.w), narrow(&layer.bias));
                    let mut inputs: Vec<&[f32]> = vec![&xw, &w];
                    if cell == RnnCell::GruAfter {
                        inputs.push(&bias);
                    }
                    let want = layer.forward();
                    // Gates without bounds make large states, whose rounding shows in all that follows.
                    let largest = want.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
                    let scale = vec![2.0 * largest; want.len()];
                    check(&LibCall::Rnn(layer.g), &[n as u64], &inputs, &want, &scale, 2e-5);
                }
            }
        }
    }
}

#[test]
fn gradients_follow_finite_differences() {
    let smooth = [CellActivation::Sigmoid, CellActivation::Tanh, CellActivation::Softplus, CellActivation::Selu];
    for (case, (n, t, u)) in
        [(1, 1, 1), (2, 4, 3), (17, 2, 2), (1, 3, 9), (3, 1, 7), (7, 2, 4), (33, 2, 3)].into_iter().enumerate()
    {
        for cell in CELLS {
            for of in [RnnGradOf::States, RnnGradOf::Final] {
                // Within these sizes no argument comes near the corners of the hard sigmoid.
                let kurs = (CellActivation::HardSigmoid, CellActivation::Tanh);
                for (inner, outer) in [(smooth[case % 4], smooth[(case + 1) % 4]), kurs] {
                    let mut layer = Layer::new(cell, inner, outer, case % 2 == 1, n, t, u);
                    let geometry = layer.g;
                    let g = values(if of == RnnGradOf::States { n * t * u } else { n * u }, 9);
                    let tape = narrow(&layer.forward());
                    let gxw = layer.differences(|l| &mut l.xw, &wide(&g), of);
                    let scale = |want: &[f64]| want.iter().map(|x| 1.0 + x.abs()).collect::<Vec<f64>>();
                    let syms = [n as u64];
                    let w = narrow(&layer.w);
                    check(&LibCall::RnnGrad(geometry, of), &syms, &[&tape, &w, &g], &gxw, &scale(&gxw), 3e-5);
                    let inner_gradient = narrow(&gxw);
                    let gw = layer.differences(|l| &mut l.w, &wide(&g), of);
                    let call = LibCall::RnnGradWeight(geometry);
                    check(&call, &syms, &[&tape, &inner_gradient], &gw, &scale(&gw), 3e-5);
                    if cell == RnnCell::GruAfter {
                        let gb = layer.differences(|l| &mut l.bias, &wide(&g), of);
                        let call = LibCall::RnnGradBias(geometry);
                        check(&call, &syms, &[&tape, &inner_gradient], &gb, &scale(&gb), 3e-5);
                    }
                }
            }
        }
    }
}

/// Batches that are cut into tasks in different ways, and steps enough for several pieces of the inner index.
#[test]
fn weight_gradients_follow_the_definition() {
    for (n, t, u) in [(1, 2, 1), (3, 1, 5), (7, 60, 3), (17, 26, 9), (33, 25, 19), (2, 4, 70)] {
        for cell in CELLS {
            for reverse in [false, true] {
                let layer = Layer::new(cell, CellActivation::Sigmoid, CellActivation::Tanh, reverse, n, t, u);
                let (gates, parts) = (cell.gates() as usize, cell.parts() as usize);
                let (tape, gxw) = (values(n * t * parts * u, 4), values(n * t * gates * u, 5));
                let (mut want, mut scale) = (vec![0.0; u * gates * u], vec![0.0; u * gates * u]);
                for (row, step) in (0..n).flat_map(|row| (1..t).map(move |step| (row, step))) {
                    let place = |step: usize| row * t + if reverse { t - 1 - step } else { step };
                    let part = |at: usize, p: usize, k: usize| f64::from(tape[(at * parts + p) * u + k]);
                    let (at, before) = (place(step), place(step - 1));
                    for (j, c) in (0..u).flat_map(|j| (0..gates * u).map(move |c| (j, c))) {
                        let (candidate, k) = (c >= 2 * u, c % u);
                        let term = part(before, 0, j)
                            * f64::from(gxw[at * gates * u + c])
                            * match cell {
                                RnnCell::Gru if candidate => part(at, 2, j),
                                RnnCell::GruAfter if candidate => part(at, 1, k),
                                _ => 1.0,
                            };
                        want[j * gates * u + c] += term;
                        scale[j * gates * u + c] += term.abs();
                    }
                }
                check(&LibCall::RnnGradWeight(layer.g), &[n as u64], &[&tape, &gxw], &want, &scale, 1e-6);
            }
        }
    }
}

/// A row has the same bits whatever batch it is in, hence whatever task and tile, and whatever the number of threads.
#[test]
fn rows_do_not_depend_on_their_neighbours() {
    let (t, u) = (3, 37);
    let mut pools: Vec<Pool> = [1, 2, 4].into_iter().map(|t| Pool::new(t).expect("threads")).collect();
    let inner = [CellActivation::Sigmoid, CellActivation::HardSigmoid];
    for (cell, inner) in CELLS.into_iter().flat_map(|cell| inner.map(|inner| (cell, inner))) {
        let (gates, parts) = (cell.gates() as usize, cell.parts() as usize);
        let most = 33;
        let layer = |n| Layer::new(cell, inner, CellActivation::Tanh, true, n, t, u);
        let whole = layer(most);
        let (xw, w, bias) = (narrow(&whole.xw), narrow(&whole.w), narrow(&whole.bias));
        let g = values(most * t * u, 9);
        for level in Level::available() {
            let mut both = |pool: usize, n: usize, from: usize| {
                let geometry = layer(n).g;
                let rows = |x: &[f32], len: usize| x[from * len..(from + n) * len].to_vec();
                let (xw, g, syms) = (rows(&xw, t * gates * u), rows(&g, t * u), [n as u64]);
                let mut inputs: Vec<&[f32]> = vec![&xw, &w];
                if cell == RnnCell::GruAfter {
                    inputs.push(&bias);
                }
                let pool = &mut pools[pool];
                let tape = run(&LibCall::Rnn(geometry), &syms, level, pool, &inputs);
                let call = LibCall::RnnGrad(geometry, RnnGradOf::States);
                let gxw = run(&call, &syms, level, pool, &[&tape, &w, &g]);
                (tape, gxw)
            };
            let alone: Vec<_> = (0..most).map(|row| both(0, 1, row)).collect();
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
            for n in [1, 3, 7, 8, 17, 33] {
                for pool in 0..3 {
                    let (tape, gxw) = both(pool, n, 0);
                    for (row, (tape_alone, gxw_alone)) in alone.iter().enumerate().take(n) {
                        let same = bits(&tape[row * t * parts * u..][..t * parts * u]) == bits(tape_alone)
                            && bits(&gxw[row * t * gates * u..][..t * gates * u]) == bits(gxw_alone);
                        assert!(same, "{level}, {cell:?}, {inner:?}: row {row} of {n} differs from the row alone");
                    }
                }
            }
        }
    }
}

#[test]
fn parts_steps_and_recurrences() {
    for (n, t, size, parts) in [(1, 1, 1, 1), (3, 5, 7, 2), (17, 2, 33, 3), (2, 7, 1, 4)] {
        let g = StepGeometry { batch: Dim::batch(), steps: Dim::from(t), size: Dim::from(size) };
        let syms = [n as u64];
        let x = values(n * t * parts * size, 1);
        for steps in [StepPick::All, StepPick::First, StepPick::Last] {
            let part = parts / 2;
            let p = PartOf { part: part as u32, parts: parts as u32, steps };
            let taken = |s: usize| match steps {
                StepPick::All => true,
                StepPick::First => s == 0,
                StepPick::Last => s + 1 == t,
            };
            let of = |i: usize, c: usize| (0..n * t).contains(&i) && taken(i % t) && c / size == part;
            let cells = || (0..n * t).flat_map(|i| (0..parts * size).map(move |c| (i, c)));
            let want: Vec<f64> =
                cells().filter(|(i, c)| of(*i, *c)).map(|(i, c)| f64::from(x[i * parts * size + c])).collect();
            let scale = vec![0.0; want.len()];
            check(&LibCall::Part(g, p), &syms, &[&x], &want, &scale, 0.0);
            let mut rest = want.iter();
            let back: Vec<f64> =
                cells().map(|(i, c)| if of(i, c) { *rest.next().expect("one each") } else { 0.0 }).collect();
            let scale = vec![0.0; back.len()];
            check(&LibCall::PartGrad(g, p), &syms, &[&narrow(&want)], &back, &scale, 0.0);
        }
        let (a, b) = (values(n * t * size, 2), values(n * t * size, 3));
        for reverse in [false, true] {
            let at = |i: usize, s: usize| (i * t + if reverse { t - 1 - s } else { s }) * size;
            let (mut y, mut moved) = (vec![0.0; n * t * size], vec![0.0; n * t * size]);
            for (i, s) in (0..n).flat_map(|i| (0..t).map(move |s| (i, s))) {
                for c in 0..size {
                    let now = at(i, s) + c;
                    let before = (s > 0).then(|| at(i, s - 1) + c);
                    y[now] = f64::from(a[now]) * before.map_or(0.0, |k| y[k]) + f64::from(b[now]);
                    moved[now] = before.map_or(0.0, |k| f64::from(a[k]));
                }
            }
            let ones = vec![2.0; y.len()];
            check(&LibCall::Scan(g, reverse), &syms, &[&a, &b], &y, &ones, 1e-6);
            check(&LibCall::Shift(g, reverse), &syms, &[&a], &moved, &vec![0.0; y.len()], 0.0);
        }
    }
}

/// Sizes of nothing and sizes that contradict the parts are refused or leave nothing to do.
#[test]
fn senseless_parts_are_refused() {
    let one = Dim::ONE;
    let g = StepGeometry { batch: one, steps: one, size: one };
    let p = |part, parts| PartOf { part, parts, steps: StepPick::All };
    assert!(buffer_lens(&LibCall::Part(g, p(2, 2)), &[1]).is_err());
    assert!(buffer_lens(&LibCall::Part(g, p(0, 0)), &[1]).is_err());
    let mut pool = Pool::new(2).expect("threads");
    for cell in CELLS {
        for (batch, steps, units) in [(0, 3, 2), (2, 0, 2), (2, 3, 0)] {
            let (batch, steps) = (Dim::constant(batch), Dim::constant(steps));
            let (inner, outer) = (CellActivation::Sigmoid, CellActivation::Tanh);
            let g = RnnGeometry { cell, inner, outer, reverse: false, batch, steps, units };
            for call in [LibCall::Rnn(g), LibCall::RnnGrad(g, RnnGradOf::States), LibCall::RnnGradWeight(g)] {
                let lens = buffer_lens(&call, &[1]).expect("small");
                let inputs: Vec<Vec<f32>> = lens[..lens.len() - 1].iter().map(|l| values(*l, 1)).collect();
                let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                let y = run(&call, &[1], Level::Baseline, &mut pool, &inputs);
                assert!(y.iter().all(|v| *v == 0.0), "{call:?}");
            }
        }
    }
}
