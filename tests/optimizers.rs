//! Update rules against plain arithmetic: several steps of every optimizer on two parameters whose gradients are known,
//! with clipping, schedules, scaled rates and accumulation. The formulas are written down here once more, from the
//! papers, in the form in which they stand there.

use std::time::Duration;

use kur_runtime::dim::{BATCH, Dim};
use kur_runtime::plan::{Init, InputRole, StateRole};
use kurc::ir::graph::{Builder, Graph, GraphResult, Node, NodeId, Role, State};
use kurc::ir::interp::{Inputs, run};
use kurc::ir::op::Op;
use kurc::ir::types::Type;
use kurc::model::types::{Clip, Curve, LAST_BATCH, Optimizer, OptimizerKind, ScaleRate, Schedule};
use kurc::passes::{PassCx, find, run_pass};
use ndarray::{ArrayD, IxDyn};

/// The loss is C · Σ p² over both parameters, so the gradient is 2Cp.
const C: f64 = 0.7;
const STEPS: u32 = 9;
/// The column `w` of each step's batch.
const COLUMN: [f64; 3] = [0.5, 1.5, 0.25];

fn push(graph: &mut Graph, op: Op, ty: Type) -> NodeId {
    graph.push(Node { op, args: Vec::new(), ty, layer: None })
}

fn graph() -> Graph {
    graph_around(0.0)
}

/// With the loss C · Σ (p − centre)².
fn graph_around(centre: f64) -> Graph {
    let mut graph = Graph::new("train");
    let mut total = None;
    for (i, shape) in [vec![3, 2], vec![1]].into_iter().enumerate() {
        let ty = Type::f32(shape.into_iter().map(Dim::constant).collect());
        let (role, init) = (StateRole::Param, Init::Constant(0.0));
        graph.states.push(State { name: format!("p{i}"), role, ty: ty.clone(), init, trainable: true });
        let p = push(&mut graph, Op::State { index: u32::try_from(i).expect("few") }, ty);
        let mut b = Builder::new(&mut graph, None);
        let away = b.add_const(p, -centre);
        let sq = b.mul(away, away);
        let axes: Vec<usize> = (0..b.shape(sq).len()).collect();
        let s = b.sum(sq, &axes);
        let s = b.reshape(s, Vec::new());
        total = Some(total.map_or(s, |t| b.add(t, s)));
    }
    let mut b = Builder::new(&mut graph, None);
    let value = b.mul_const(total.expect("two parameters"), C);
    graph.results.push(GraphResult { role: Role::Metric("loss".into()), value });
    let ty = Type::f32(vec![Dim::batch(), Dim::ONE]);
    push(&mut graph, Op::Input { name: "w".into(), role: InputRole::Data }, ty);
    graph
}

/// The parameters after each step, as the compiler's graph computes them.
fn compiled(opt: &Optimizer) -> Vec<Vec<Vec<f64>>> {
    compiled_from(opt, graph(), start(), |_| false)
}

/// The same from other values; `last` says which steps the runtime marks as the last of an epoch.
fn compiled_from(
    opt: &Optimizer,
    mut g: Graph,
    start: [Vec<f64>; 2],
    last: impl Fn(u32) -> bool,
) -> Vec<Vec<Vec<f64>>> {
    let cx = PassCx { optimizer: Some(opt.clone()) };
    for name in ["autodiff", "optimizer", "canonicalize", "cse", "dce"] {
        let pass = find(name).expect("registered");
        run_pass(pass, &cx, &mut g, &|| Duration::ZERO).unwrap_or_else(|e| panic!("{e}\n{}", e.dump));
    }
    let mut states: Vec<ArrayD<f64>> = g
        .states
        .iter()
        .map(|s| {
            let shape: Vec<usize> = s.ty.shape.iter().map(|d| usize::try_from(d.coef()).expect("small")).collect();
            let Init::Constant(c) = s.init else { panic!("states of an optimizer start constant") };
            ArrayD::from_elem(IxDyn(&shape), f64::from(c))
        })
        .collect();
    for (state, start) in states.iter_mut().zip(start) {
        state.iter_mut().zip(start).for_each(|(to, from)| *to = from);
    }
    let mut found = Vec::new();
    for step in 0..STEPS {
        if let Some(mark) = g.states.iter().position(|s| s.name == LAST_BATCH) {
            states[mark].fill(f64::from(u8::from(last(step))));
        }
        let column = ArrayD::from_shape_vec(IxDyn(&[3, 1]), COLUMN.to_vec()).expect("sizes agree");
        let inputs = Inputs {
            sizes: vec![(BATCH, 3)],
            tensors: vec![(InputRole::Data, "w".into(), column)],
            states: states.clone(),
            seed: 0,
            updates: step,
        };
        for (index, value) in run(&g, &inputs).expect("the graph runs").updates {
            states[index as usize] = value;
        }
        found.push(states[..2].iter().map(|s| s.iter().copied().collect()).collect());
    }
    found
}

fn start() -> [Vec<f64>; 2] {
    [vec![0.9, -0.4, 0.03, 1.7, -2.0, 0.5], vec![0.8]]
}

fn norm<'x>(x: impl IntoIterator<Item = &'x f64>) -> f64 {
    x.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The learning rate's factor `t` updates after the beginning.
fn factor(s: &Schedule, t: f64) -> f64 {
    let warmup = f64::from(s.warmup);
    let rise = if s.warmup == 0 { 1.0 } else { ((t + 1.0) / warmup).min(1.0) };
    let t = (t - warmup).max(0.0);
    let share = |steps: u32| (t / f64::from(steps)).min(1.0);
    rise * match &s.curve {
        Curve::Constant | Curve::Plateau { .. } => 1.0,
        Curve::Every { every, factor } => factor.powf((t / f64::from(*every)).floor()),
        Curve::At { at, factor } => at.iter().filter(|a| f64::from(**a) <= t).map(|_| *factor).product(),
        Curve::Exponential { every, factor } => factor.powf(t / f64::from(*every)),
        Curve::Cosine { steps, last } => {
            last + (1.0 - last) * 0.5 * (1.0 + (std::f64::consts::PI * share(*steps)).cos())
        }
        Curve::Linear { steps, last } => 1.0 - (1.0 - last) * share(*steps),
    }
}

/// The same by hand.
fn by_hand(opt: &Optimizer) -> Vec<Vec<Vec<f64>>> {
    let mut p = start().to_vec();
    // Two moments of each element, whatever the rule calls them.
    let mut a: Vec<Vec<f64>> = p.iter().map(|p| vec![0.0; p.len()]).collect();
    let (mut c, mut sums) = (a.clone(), a.clone());
    let mut found = Vec::new();
    let mut done = 0.0;
    for step in 0..STEPS {
        for (sums, p) in sums.iter_mut().zip(&p) {
            sums.iter_mut().zip(p).for_each(|(s, p)| *s += 2.0 * C * p);
        }
        if (step + 1) % opt.accumulate != 0 {
            found.push(p.clone());
            continue;
        }
        let mut g = sums.clone();
        g.iter_mut().flatten().for_each(|g| *g /= f64::from(opt.accumulate));
        sums.iter_mut().flatten().for_each(|s| *s = 0.0);
        match opt.clip {
            Clip::None => {}
            Clip::Abs(x) => g.iter_mut().flatten().for_each(|g| *g = g.clamp(-x, x)),
            Clip::Norm(x) => {
                let n = norm(g.iter().flatten());
                g.iter_mut().flatten().for_each(|g| *g *= if n >= x { x / n } else { 1.0 });
            }
        }
        let mut lr = opt.learning_rate / (1.0 + opt.decay * done) * factor(&opt.schedule, done);
        if let Some(s) = &opt.scale_rate {
            let mean = COLUMN.iter().sum::<f64>() / 3.0;
            lr *= if s.sqrt { mean.sqrt() } else { mean };
        }
        done += 1.0;
        for (((p, g), a), c) in p.iter_mut().zip(&g).zip(&mut a).zip(&mut c) {
            update(&opt.kind, lr, done, p, g, a, c);
        }
        found.push(p.clone());
    }
    found
}

fn update(kind: &OptimizerKind, lr: f64, t: f64, p: &mut [f64], g: &[f64], a: &mut [f64], c: &mut [f64]) {
    let mut steps = vec![0.0; p.len()];
    for ((((step, p), g), a), c) in steps.iter_mut().zip(p.iter()).zip(g).zip(a).zip(c) {
        match *kind {
            OptimizerKind::Sgd { momentum, nesterov } => {
                *a = momentum * *a - lr * g;
                *step = if nesterov { momentum * *a - lr * g } else { *a };
            }
            OptimizerKind::Adam { beta_1, beta_2, epsilon } => {
                *a = beta_1 * *a + (1.0 - beta_1) * g;
                *c = beta_2 * *c + (1.0 - beta_2) * g * g;
                let lr = lr * (1.0 - beta_2.powf(t)).sqrt() / (1.0 - beta_1.powf(t));
                *step = -lr * *a / (c.sqrt() + epsilon);
            }
            OptimizerKind::AdamW { beta_1, beta_2, epsilon, weight_decay }
            | OptimizerKind::Lamb { beta_1, beta_2, epsilon, weight_decay } => {
                *a = beta_1 * *a + (1.0 - beta_1) * g;
                *c = beta_2 * *c + (1.0 - beta_2) * g * g;
                let (m, v) = (*a / (1.0 - beta_1.powf(t)), *c / (1.0 - beta_2.powf(t)));
                *step = -lr * (m / (v.sqrt() + epsilon) + weight_decay * p);
            }
            OptimizerKind::Lion { beta_1, beta_2, weight_decay } => {
                let towards = beta_1 * *a + (1.0 - beta_1) * g;
                *step = -lr * (towards.signum() + weight_decay * p);
                *a = beta_2 * *a + (1.0 - beta_2) * g;
            }
            OptimizerKind::RmsProp { rho, epsilon } => {
                *a = rho * *a + (1.0 - rho) * g * g;
                *step = -lr * g / (a.sqrt() + epsilon);
            }
            OptimizerKind::AdaDelta { rho, epsilon } => {
                *a = rho * *a + (1.0 - rho) * g * g;
                let u = g * (*c + epsilon).sqrt() / (*a + epsilon).sqrt();
                *step = -lr * u;
                *c = rho * *c + (1.0 - rho) * u * u;
            }
        }
    }
    if matches!(kind, OptimizerKind::Lamb { .. }) {
        // The rate is in the steps already.
        let trust = norm(p.iter()) / (norm(steps.iter()) / lr);
        steps.iter_mut().for_each(|s| *s *= trust);
    }
    p.iter_mut().zip(steps).for_each(|(p, s)| *p += s);
}

fn agree(opt: &Optimizer) {
    let (ours, by_hand) = (compiled(opt), by_hand(opt));
    let started = start().to_vec();
    assert_ne!(ours.last(), Some(&started), "{opt:?} changes nothing");
    for (step, (a, b)) in ours.iter().flatten().flatten().zip(by_hand.iter().flatten().flatten()).enumerate() {
        assert!((a - b).abs() <= 1e-9 * (1.0 + b.abs()), "{opt:?}: value {step} is {a}, by hand {b}");
    }
}

fn kinds() -> Vec<OptimizerKind> {
    vec![
        OptimizerKind::Sgd { momentum: 0.0, nesterov: false },
        OptimizerKind::Sgd { momentum: 0.9, nesterov: false },
        OptimizerKind::Sgd { momentum: 0.8, nesterov: true },
        OptimizerKind::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 },
        OptimizerKind::Adam { beta_1: 0.0, beta_2: 0.5, epsilon: 0.1 },
        OptimizerKind::AdamW { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-6, weight_decay: 0.1 },
        OptimizerKind::AdamW { beta_1: 0.7, beta_2: 0.9, epsilon: 1e-6, weight_decay: 0.0 },
        OptimizerKind::Lamb { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-6, weight_decay: 0.1 },
        OptimizerKind::Lion { beta_1: 0.9, beta_2: 0.99, weight_decay: 0.2 },
        OptimizerKind::RmsProp { rho: 0.8, epsilon: 1e-3 },
        OptimizerKind::AdaDelta { rho: 0.9, epsilon: 1e-8 },
    ]
}

#[test]
fn every_rule_with_every_option() {
    for kind in kinds() {
        let plain = Optimizer { kind, learning_rate: 0.02, ..Optimizer::default() };
        agree(&plain);
        agree(&Optimizer { decay: 0.3, clip: Clip::Norm(1.1), ..plain.clone() });
        agree(&Optimizer { clip: Clip::Abs(0.6), accumulate: 2, ..plain.clone() });
        for sqrt in [false, true] {
            agree(&Optimizer { scale_rate: Some(ScaleRate { source: "w".into(), sqrt }), ..plain.clone() });
        }
    }
}

#[test]
fn every_schedule() {
    let curves = [
        Curve::Constant,
        Curve::Every { every: 2, factor: 0.5 },
        Curve::Every { every: 1, factor: 0.9 },
        Curve::At { at: vec![1, 2, 5], factor: 0.3 },
        Curve::Exponential { every: 3, factor: 0.1 },
        Curve::Cosine { steps: 6, last: 0.1 },
        Curve::Cosine { steps: 20, last: 0.0 },
        Curve::Linear { steps: 5, last: 0.0 },
    ];
    for curve in curves {
        for warmup in [0, 1, 4] {
            for accumulate in [1, 3] {
                let schedule = Schedule { warmup, curve: curve.clone() };
                agree(&Optimizer { schedule, learning_rate: 0.1, accumulate, ..Optimizer::default() });
            }
        }
    }
}

/// What a paper writes for one tensor: new values from old ones, the gradient, the step counted from 1, and two moments.
type Paper = fn(f64, &mut [f64], &[f64], i32, &mut [f64], &mut [f64]);

/// You et al., Large Batch Optimization for Deep Learning (2020), algorithm 2, with φ(z) = z; a tensor or a direction of
/// length 0 has no ratio and takes the plain step.
fn lamb_of_the_paper(eta: f64, x: &mut [f64], g: &[f64], t: i32, m: &mut [f64], v: &mut [f64]) {
    let (beta_1, beta_2, epsilon, lambda) = (0.9, 0.99, 1e-6, 0.1);
    let mut direction = Vec::new();
    for i in 0..x.len() {
        m[i] = beta_1 * m[i] + (1.0 - beta_1) * g[i];
        v[i] = beta_2 * v[i] + (1.0 - beta_2) * g[i] * g[i];
        let m_hat = m[i] / (1.0 - f64::powi(beta_1, t));
        let v_hat = v[i] / (1.0 - f64::powi(beta_2, t));
        let r = m_hat / (v_hat.sqrt() + epsilon);
        direction.push(r + lambda * x[i]);
    }
    let (mut of_x, mut of_direction) = (0.0, 0.0);
    for i in 0..x.len() {
        of_x += x[i] * x[i];
        of_direction += direction[i] * direction[i];
    }
    let ratio = if of_x > 0.0 && of_direction > 0.0 { of_x.sqrt() / of_direction.sqrt() } else { 1.0 };
    for i in 0..x.len() {
        x[i] -= eta * ratio * direction[i];
    }
}

/// Chen et al., Symbolic Discovery of Optimization Algorithms (2023), algorithm 2.
fn lion_of_the_paper(eta: f64, x: &mut [f64], g: &[f64], _: i32, m: &mut [f64], _: &mut [f64]) {
    let (beta_1, beta_2, lambda) = (0.9, 0.99, 0.2);
    for i in 0..x.len() {
        let c = beta_1 * m[i] + (1.0 - beta_1) * g[i];
        let sign = if c > 0.0 { 1.0 } else { -1.0 };
        x[i] -= eta * (sign + lambda * x[i]);
        m[i] = beta_2 * m[i] + (1.0 - beta_2) * g[i];
    }
}

/// Loshchilov & Hutter, Decoupled Weight Decay Regularization (2019), algorithm 2: the decay beside the step of Adam.
fn adamw_of_the_paper(eta: f64, x: &mut [f64], g: &[f64], t: i32, m: &mut [f64], v: &mut [f64]) {
    let (beta_1, beta_2, epsilon, lambda) = (0.9, 0.99, 1e-6, 0.1);
    for i in 0..x.len() {
        m[i] = beta_1 * m[i] + (1.0 - beta_1) * g[i];
        v[i] = beta_2 * v[i] + (1.0 - beta_2) * g[i] * g[i];
        let step = m[i] / (1.0 - f64::powi(beta_1, t)) / ((v[i] / (1.0 - f64::powi(beta_2, t))).sqrt() + epsilon);
        x[i] = x[i] - eta * lambda * x[i] - eta * step;
    }
}

#[test]
fn later_rules_are_those_of_their_papers() {
    let (beta_1, beta_2, epsilon) = (0.9, 0.99, 1e-6);
    let all: [(OptimizerKind, Paper); 3] = [
        (OptimizerKind::Lamb { beta_1, beta_2, epsilon, weight_decay: 0.1 }, lamb_of_the_paper),
        (OptimizerKind::Lion { beta_1, beta_2, weight_decay: 0.2 }, lion_of_the_paper),
        (OptimizerKind::AdamW { beta_1, beta_2, epsilon, weight_decay: 0.1 }, adamw_of_the_paper),
    ];
    // The second time the first tensor begins at 0, as biases do.
    for (centre, begin) in [(0.0, start()), (1.5, [vec![0.0; 6], vec![-0.3]])] {
        for (kind, paper) in all {
            let opt = Optimizer { kind, learning_rate: 0.05, ..Optimizer::default() };
            let found = compiled_from(&opt, graph_around(centre), begin.clone(), |_| false);
            for (tensor, mut x) in begin.iter().cloned().enumerate() {
                let (mut m, mut v) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                for (step, found) in found.iter().enumerate() {
                    let g: Vec<f64> = x.iter().map(|x| 2.0 * C * (x - centre)).collect();
                    let t = i32::try_from(step + 1).expect("small");
                    paper(0.05, &mut x, &g, t, &mut m, &mut v);
                    for (a, b) in found[tensor].iter().zip(&x) {
                        assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()), "{kind:?}, step {t}: {a}, in the paper {b}");
                    }
                }
                assert_ne!(x, begin[tensor], "{kind:?}");
            }
        }
    }
}

#[test]
fn the_rest_of_an_epoch_is_an_update_of_its_own() {
    // Four batches an epoch, three to an update: updates after batches 3 and 4, each with the mean of its batches, and
    // the schedule counts updates.
    let schedule = Schedule { warmup: 0, curve: Curve::Every { every: 1, factor: 0.5 } };
    let kind = OptimizerKind::Sgd { momentum: 0.0, nesterov: false };
    let opt = Optimizer { kind, learning_rate: 0.1, accumulate: 3, schedule, ..Optimizer::default() };
    let found = compiled_from(&opt, graph(), start(), |step| step % 4 == 3);
    let mut x = start().concat();
    let mut rate = 0.1;
    for (step, found) in found.iter().enumerate() {
        // All batches of an update see the same parameters, so the mean gradient is that of one.
        if matches!(step % 4, 2 | 3) {
            x.iter_mut().for_each(|x| *x -= rate * 2.0 * C * *x);
            rate *= 0.5;
        }
        for (a, b) in found.concat().iter().zip(&x) {
            assert!((a - b).abs() < 1e-12, "step {step}: {a}, expected {b}");
        }
    }
    // More batches to an update than there are: one update an epoch.
    let opt = Optimizer { accumulate: 1000, ..opt };
    let found = compiled_from(&opt, graph(), start(), |step| step % 4 == 3);
    let expected: Vec<f64> =
        start().concat().iter().map(|x| x * (1.0 - 0.1 * 2.0 * C) * (1.0 - 0.05 * 2.0 * C)).collect();
    for (a, b) in found[7].concat().iter().zip(&expected) {
        assert!((a - b).abs() < 1e-12, "{a}, expected {b}");
    }
    assert_eq!(found[2], start().to_vec());
}

#[test]
fn a_column_that_is_not_there_is_a_broken_graph() {
    let scale_rate = Some(ScaleRate { source: "nowhere".into(), sqrt: false });
    let cx = PassCx { optimizer: Some(Optimizer { scale_rate, ..Optimizer::default() }) };
    let pass = find("optimizer").expect("registered");
    let failed = run_pass(pass, &cx, &mut graph(), &|| Duration::ZERO).expect_err("there is no such input");
    assert!(failed.message.contains("`nowhere`"), "{}", failed.message);
}
