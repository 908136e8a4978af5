//! Losses against plain arithmetic on the model's own predictions, and their gradients against central differences in
//! f64; at the edges, that huge scores keep loss and gradient finite and right.

use std::time::Duration;

use kur_runtime::abi::rng;
use kur_runtime::dim::BATCH;
use kur_runtime::plan::InputRole;
use kurc::driver::{Build, Options, Session};
use kurc::frontend::MemoryWorld;
use kurc::ir::graph::Graph;
use kurc::ir::interp::{Inputs, Outcome, run};
use kurc::ir::op::Op;
use kurc::lower::model::Mode;
use kurc::passes::{PassCx, find, run_pass};
use ndarray::{ArrayD, IxDyn};

fn build(units: u64, middle: &str, activation: &str, loss: &str) -> Build {
    let text = format!(
        "model:\n  - {{input: {{shape: [{middle}3]}}, name: x}}\n  - dense: {units}\n  - activation: {activation}\n    name: y\nloss: [{{target: y, {loss}}}]\n"
    );
    let world = MemoryWorld::with_file("Kurfile.yml", &text);
    let mut session = Session::new(&world);
    session.compile("Kurfile.yml", &Options::default()).unwrap_or_else(|e| panic!("{e:?} {:?}", session.sink.sorted()))
}

/// Deterministic numbers in 0..1.
fn draw(stream: u32, n: usize) -> Vec<f64> {
    (0..n).map(|i| f64::from(rng::uniform(rng::stream(7, stream, 0), u32::try_from(i).expect("small")))).collect()
}

fn tensor(shape: &[usize], data: Vec<f64>) -> ArrayD<f64> {
    ArrayD::from_shape_vec(IxDyn(shape), data).expect("sizes agree")
}

/// One model, one batch.
struct Case {
    train: Graph,
    infer: Graph,
    inputs: Vec<(InputRole, String, ArrayD<f64>)>,
    states: Vec<ArrayD<f64>>,
    batch: u64,
}

impl Case {
    /// `truth` makes the truth of element `i`, given a number in 0..1 and the size of the last axis.
    fn new(build: &Build, batch: u64, scale: f64, truth: impl Fn(usize, f64, usize) -> f64) -> Case {
        let step = |mode| build.steps.iter().find(|s| s.mode == mode).expect("the step");
        let mut train = step(Mode::Train).lowered.clone();
        let pass = find("autodiff").expect("registered");
        run_pass(pass, &PassCx::default(), &mut train, &|| Duration::ZERO)
            .unwrap_or_else(|e| panic!("{e}\n{}", e.dump));
        let sizes = train.symbols.values(&[(BATCH, batch)]);
        let of = |shape: &[kur_runtime::dim::Dim]| -> Vec<usize> {
            shape.iter().map(|d| usize::try_from(d.eval(&sizes)).expect("small")).collect()
        };
        let mut inputs = Vec::new();
        for id in train.ids() {
            let Op::Input { name, role } = &train.node(id).op else { continue };
            let shape = of(train.shape(id));
            let n = shape.iter().product();
            let (width, draws) = (*shape.last().expect("an axis"), draw(u32::from(*role == InputRole::Target), n));
            let data = draws.into_iter().enumerate().map(|(i, u)| match role {
                InputRole::Target => truth(i, u, width),
                _ => 2.0 * u - 1.0,
            });
            inputs.push((*role, name.clone(), tensor(&shape, data.collect())));
        }
        let states = train.states.iter().enumerate().map(|(i, s)| {
            let shape = of(&s.ty.shape);
            let n = shape.iter().product();
            let data = draw(100 + u32::try_from(i).expect("few"), n);
            tensor(&shape, data.into_iter().map(|u| (2.0 * u - 1.0) * scale).collect())
        });
        let states = states.collect();
        Case { train, infer: step(Mode::Infer).lowered.clone(), inputs, states, batch }
    }

    fn run(&self, graph: &Graph, states: &[ArrayD<f64>]) -> Outcome {
        let (sizes, tensors, states) = (vec![(BATCH, self.batch)], self.inputs.clone(), states.to_vec());
        run(graph, &Inputs { sizes, tensors, states, seed: 0, updates: 0 }).expect("the graph runs")
    }

    fn loss(&self, states: &[ArrayD<f64>]) -> f64 {
        let outcome = self.run(&self.train, states);
        outcome.values.iter().find(|(n, _)| n == "loss").expect("a loss").1.sum()
    }

    fn truth(&self) -> Vec<f64> {
        let (_, _, t) = self.inputs.iter().find(|(r, _, _)| *r == InputRole::Target).expect("a target");
        t.iter().copied().collect()
    }

    fn prediction(&self) -> Vec<f64> {
        let outcome = self.run(&self.infer, &self.states);
        outcome.values[0].1.iter().copied().collect()
    }

    /// Along a random direction of all parameters.
    fn check_gradient(&self, what: &str) {
        let outcome = self.run(&self.train, &self.states);
        let direction: Vec<ArrayD<f64>> = self
            .states
            .iter()
            .enumerate()
            .map(|(i, s)| tensor(s.shape(), draw(500 + u32::try_from(i).expect("few"), s.len())))
            .collect();
        let exact: f64 = outcome.gradients.iter().map(|(i, g)| (g * &direction[*i as usize]).sum()).sum();
        let at = |h: f64| {
            let moved: Vec<_> = self.states.iter().zip(&direction).map(|(s, d)| s + &(d * h)).collect();
            self.loss(&moved)
        };
        let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!(exact.abs() > 1e-6, "{what}: the gradient is zero");
        assert!((exact - numeric).abs() < 1e-6 * (1.0 + exact.abs()), "{what}: {exact} against {numeric}");
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
    sum / n
}

fn one_hot(i: usize, _: f64, width: usize) -> f64 {
    f64::from(u8::from(i % width == (i / width * 7 + 1) % width))
}

/// A loss of elements: truth and prediction to its value.
type Each = fn(f64, f64) -> f64;

#[test]
fn losses_of_elements() {
    let cases: [(&str, &str, Each); 8] = [
        ("none", "name: mean_squared_error", |t, p| (p - t).powi(2)),
        ("none", "name: mean_absolute_error", |t, p| (p - t).abs()),
        ("none", "name: huber, delta: 0.4", |t, p| {
            let d = (p - t).abs();
            if d <= 0.4 { 0.5 * d * d } else { 0.4 * (d - 0.2) }
        }),
        ("none", "name: huber, weight: 3", |t, p| {
            3.0 * if (p - t).abs() <= 1.0 { 0.5 * (p - t).powi(2) } else { (p - t).abs() - 0.5 }
        }),
        ("sigmoid", "name: binary_crossentropy", |t, p| -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())),
        ("sigmoid", "name: binary_crossentropy, label_smoothing: 0.2", |t, p| {
            let t = t * 0.8 + 0.1;
            -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())
        }),
        ("sigmoid", "name: binary_crossentropy, class_weights: [0.5, 3]", |t, p| {
            -(t * p.ln() + (1.0 - t) * (1.0 - p).ln()) * (0.5 * (1.0 - t) + 3.0 * t)
        }),
        ("hard_sigmoid", "name: binary_crossentropy", |t, p| -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())),
    ];
    for (activation, loss, each) in cases {
        for (units, middle, batch) in [(1, "", 1), (3, "", 7), (7, "17, ", 3)] {
            let case = Case::new(&build(units, middle, activation, loss), batch, 1.0, |_, u, _| u);
            let by_hand = mean(case.truth().into_iter().zip(case.prediction()).map(|(t, p)| each(t, p)));
            let found = case.loss(&case.states);
            let what = format!("{activation}, {loss}, {units} units of [{middle}], batch {batch}");
            assert!((found - by_hand).abs() < 1e-12 * (1.0 + by_hand), "{what}: {found}, by hand {by_hand}");
            case.check_gradient(&what);
        }
    }
}

#[test]
fn losses_of_classes() {
    let weights = [0.5, 2.0, 3.0];
    for (activation, options, smoothing, weighted) in [
        ("softmax", "", 0.0, false),
        ("softmax", ", label_smoothing: 0.3", 0.3, false),
        ("softmax", ", class_weights: [0.5, 2, 3]", 0.0, true),
        ("softmax", ", label_smoothing: 0.1, class_weights: [0.5, 2, 3]", 0.1, true),
        ("sigmoid", ", class_weights: [0.5, 2, 3]", 0.0, true),
    ] {
        for (middle, batch) in [("", 1), ("", 7), ("3, 17, ", 3)] {
            for soft in [false, true] {
                let built = build(3, middle, activation, &format!("name: categorical_crossentropy{options}"));
                let truth = |i, u, w| if soft { u / 2.0 } else { one_hot(i, u, w) };
                let case = Case::new(&built, batch, 1.0, truth);
                let (truths, found) = (case.truth(), case.prediction());
                let rows = truths.chunks(3).zip(found.chunks(3)).map(|(t, p)| {
                    let total: f64 = p.iter().sum();
                    let weight: f64 = if weighted { t.iter().zip(weights).map(|(t, w)| t * w).sum() } else { 1.0 };
                    let log = |p: f64| (p / total).ln();
                    -weight
                        * t.iter().zip(p).map(|(t, p)| (t * (1.0 - smoothing) + smoothing / 3.0) * log(*p)).sum::<f64>()
                });
                let by_hand = mean(rows);
                let found = case.loss(&case.states);
                let what = format!("{activation}{options} of [{middle}], batch {batch}, soft {soft}");
                assert!((found - by_hand).abs() < 1e-12 * (1.0 + by_hand), "{what}: {found}, by hand {by_hand}");
                case.check_gradient(&what);
            }
        }
    }
}

#[test]
fn penalties_are_part_of_the_loss() {
    let text = "model:\n  - {input: {shape: [3]}, name: x}\n  - dense: 5\n    regularizer: {l1: 0.5, l2: 0.25}\n  - dense: 2\n    name: y\nloss: [{target: y, name: mean_squared_error}]\n";
    let compile = |text: &str| {
        let world = MemoryWorld::with_file("Kurfile.yml", text);
        Session::new(&world).compile("Kurfile.yml", &Options::default()).expect("compiles")
    };
    let with = Case::new(&compile(text), 3, 1.0, |_, u, _| u);
    let without = Case::new(&compile(&text.replace("    regularizer: {l1: 0.5, l2: 0.25}\n", "")), 3, 1.0, |_, u, _| u);
    let kernel = &with.states[0];
    assert_eq!(with.train.states[0].name.split('/').nth(1), Some("kernel"));
    let penalty: f64 = kernel.iter().map(|w| 0.5 * w.abs() + 0.25 * w * w).sum();
    let found = with.loss(&with.states) - without.loss(&without.states);
    assert!((found - penalty).abs() < 1e-12, "{found} {penalty}");
    with.check_gradient("with penalties");
}

#[test]
fn huge_scores_stay_finite_and_right() {
    for (units, activation, loss) in [
        (3, "softmax", "categorical_crossentropy"),
        (3, "sigmoid", "binary_crossentropy"),
        (1, "sigmoid", "binary_crossentropy"),
    ] {
        let built = build(units, "", activation, &format!("name: {loss}"));
        for scale in [0.0, 1e4, -1e4] {
            let case =
                Case::new(
                    &built,
                    7,
                    scale,
                    |i, u, w| if w == 1 { f64::from(u8::from(u > 0.5)) } else { one_hot(i, u, w) },
                );
            let outcome = case.run(&case.train, &case.states);
            let found = outcome.values[0].1.sum();
            assert!(found.is_finite(), "{activation} at {scale}: the loss is {found}");
            // The gradient to the scores is (p − t) / n whatever their size, so that of the bias is its sum over rows.
            let (truth, p) = (case.truth(), case.prediction());
            let units = usize::try_from(units).expect("small");
            let (_, bias) = outcome
                .gradients
                .iter()
                .find(|(i, _)| case.train.states[*i as usize].name.ends_with("bias"))
                .expect("a bias");
            let rows = if activation == "softmax" { 7.0 } else { 7.0 * units as f64 };
            for k in 0..units {
                let by_hand: f64 = (0..7).map(|r| (p[r * units + k] - truth[r * units + k]) / rows).sum();
                let g = bias.iter().nth(k).expect("a unit");
                assert!((g - by_hand).abs() < 1e-12, "{activation} at {scale}: unit {k} has {g}, by hand {by_hand}");
            }
        }
    }
}
