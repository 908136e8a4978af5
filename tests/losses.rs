//! Losses against plain arithmetic on the model's own predictions, and their gradients against central differences in
//! f64; at the edges, that huge scores keep loss and gradient finite and right.

use std::time::Duration;

use kur_runtime::abi::rng;
use kur_runtime::dim::Sym;
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
    sizes: Vec<(Sym, u64)>,
}

impl Case {
    /// `truth` makes the truth of element `i`, given a number in 0..1 and the size of the last axis.
    fn new(build: &Build, batch: u64, scale: f64, truth: impl Fn(usize, f64, usize) -> f64) -> Case {
        Case::sized(build, &[batch], scale, truth)
    }

    /// As [`Case::new`], with the values of all free symbols.
    fn sized(build: &Build, sizes: &[u64], scale: f64, truth: impl Fn(usize, f64, usize) -> f64) -> Case {
        let step = |mode| build.steps.iter().find(|s| s.mode == mode).expect("the step");
        let mut train = step(Mode::Train).lowered.clone();
        let pass = find("autodiff").expect("registered");
        run_pass(pass, &PassCx::default(), &mut train, &|| Duration::ZERO)
            .unwrap_or_else(|e| panic!("{e}\n{}", e.dump));
        let free: Vec<(Sym, u64)> = (0..).map(Sym).zip(sizes.iter().copied()).collect();
        let sizes = train.symbols.values(&free);
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
        Case { train, infer: step(Mode::Infer).lowered.clone(), inputs, states, sizes: free }
    }

    fn run(&self, graph: &Graph, states: &[ArrayD<f64>]) -> Outcome {
        let (sizes, tensors, states) = (self.sizes.clone(), self.inputs.clone(), states.to_vec());
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

/// A model over sequences of any length, without a batch yet.
fn sequences(units: u64, middle: &str, activation: &str, loss: &str) -> Build {
    build(units, &format!("null, {middle}"), activation, loss)
}

/// One batch of samples of the given lengths, filled up to `steps`.
fn ragged(build: &Build, lengths: &[u64], steps: u64, truth: impl Fn(usize, f64, usize) -> f64) -> Case {
    let mut case = Case::sized(build, &[lengths.len() as u64, steps], 1.0, truth);
    let real = case.inputs.iter_mut().find(|(r, _, _)| *r == InputRole::Lengths).expect("lengths");
    real.2 = tensor(&[lengths.len()], lengths.iter().map(|l| *l as f64).collect());
    case
}

impl Case {
    /// Replaces the padding of inputs of a role.
    fn pad(&mut self, role: InputRole, lengths: &[u64], with: f64) {
        for (_, _, x) in self.inputs.iter_mut().filter(|(r, _, _)| *r == role) {
            let mut samples = x.outer_iter_mut();
            for length in lengths {
                let mut sample = samples.next().expect("a sample");
                let real = usize::try_from(*length).expect("small");
                sample.outer_iter_mut().skip(real).for_each(|mut step| step.fill(with));
            }
        }
    }
}

/// Kurfile loss, activation, and the loss of one step from its truths and predictions.
type Step = fn(&[f64], &[f64]) -> f64;

const SEQUENCES: [(&str, &str, Step); 8] = [
    ("none", "name: mean_squared_error", |t, p| mean(t.iter().zip(p).map(|(t, p)| (p - t).powi(2)))),
    ("none", "name: mean_absolute_error", |t, p| mean(t.iter().zip(p).map(|(t, p)| (p - t).abs()))),
    ("none", "name: huber, delta: 0.4", |t, p| {
        mean(t.iter().zip(p).map(|(t, p)| {
            let d = (p - t).abs();
            if d <= 0.4 { 0.5 * d * d } else { 0.4 * (d - 0.2) }
        }))
    }),
    ("sigmoid", "name: binary_crossentropy, class_weights: [0.5, 3]", |t, p| {
        mean(t.iter().zip(p).map(|(t, p)| -(t * p.ln() + (1.0 - t) * (1.0 - p).ln()) * (0.5 * (1.0 - t) + 3.0 * t)))
    }),
    ("hard_sigmoid", "name: binary_crossentropy", |t, p| {
        mean(t.iter().zip(p).map(|(t, p)| -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())))
    }),
    ("softmax", "name: categorical_crossentropy", classes),
    ("softmax", "name: categorical_crossentropy, weight: 2, label_smoothing: 0.3", |t, p| {
        let soft: Vec<f64> = t.iter().map(|t| t * 0.7 + 0.1).collect();
        2.0 * mean(soft.chunks(3).zip(p.chunks(3)).map(|(t, p)| -t.iter().zip(p).map(|(t, p)| t * p.ln()).sum::<f64>()))
    }),
    ("sigmoid", "name: categorical_crossentropy", classes),
];

fn classes(t: &[f64], p: &[f64]) -> f64 {
    mean(t.chunks(3).zip(p.chunks(3)).map(|(t, p)| {
        let total: f64 = p.iter().sum();
        -t.iter().zip(p).map(|(t, p)| t * (p / total).ln()).sum::<f64>()
    }))
}

/// The loss of a sample is the mean over its own steps, that of a batch the mean over samples: by hand, against
/// differences, and whatever the padding is and however long.
#[test]
fn padding_has_no_part_in_losses() {
    for (activation, loss, each) in SEQUENCES {
        for (middle, inner) in [("", 1usize), ("2, ", 2)] {
            let built = sequences(3, middle, activation, loss);
            for (lengths, steps) in [(&[3, 1, 5, 0, 4][..], 5), (&[1, 2], 4), (&[4], 4), (&[0], 1)] {
                let what = format!("{activation}, {loss}, [{middle}], {lengths:?} of {steps}");
                let truth = |i, u, w| if loss.contains("categorical") { one_hot(i, u, w) } else { u };
                let case = ragged(&built, lengths, steps, truth);
                let (truths, found) = (case.truth(), case.prediction());
                let wide = 3 * inner * usize::try_from(steps).expect("small");
                let samples = truths.chunks(wide).zip(found.chunks(wide)).zip(lengths);
                let by_hand = mean(samples.map(|((t, p), length)| {
                    let real = 3 * inner * usize::try_from(*length).expect("small");
                    let steps = t[..real].chunks(3 * inner).zip(p[..real].chunks(3 * inner));
                    if real == 0 { 0.0 } else { mean(steps.map(|(t, p)| each(t, p))) }
                }));
                let loss = case.loss(&case.states);
                assert!((loss - by_hand).abs() < 1e-12 * (1.0 + by_hand), "{what}: {loss}, by hand {by_hand}");
                if by_hand > 0.0 {
                    case.check_gradient(&what);
                }
                // More padding, of other numbers: the same loss. What of the numbers does not matter in the truth
                // matters nowhere.
                let mut other = ragged(&built, lengths, steps, truth);
                other.pad(InputRole::Data, lengths, 3.0);
                other.pad(InputRole::Target, lengths, f64::NAN);
                let found = other.loss(&other.states);
                assert!(
                    (found - loss).abs() < 1e-12 * (1.0 + loss),
                    "{what}: {found} with other padding, {loss} before"
                );
            }
        }
    }
}

/// The gradient of a padded place is exactly 0, whatever a loss makes of it: shares of which none is anything divide by
/// their sum, and a NaN times the 0 of a mask would be one.
#[test]
fn broken_padding_reaches_no_gradient() {
    for (activation, loss, _) in SEQUENCES {
        let built = sequences(3, "", activation, loss);
        let lengths = [2, 0, 3];
        let truth = |i, u, w| if loss.contains("categorical") { one_hot(i, u, w) } else { u };
        let case = ragged(&built, &lengths, 3, truth);
        let mut broken = ragged(&built, &lengths, 3, truth);
        broken.pad(InputRole::Target, &lengths, f64::INFINITY);
        let (good, bad) = (case.run(&case.train, &case.states), broken.run(&broken.train, &broken.states));
        assert!(good.values.iter().zip(&bad.values).all(|(a, b)| a == b), "{activation}, {loss}");
        for ((_, a), (_, b)) in good.gradients.iter().zip(&bad.gradients) {
            assert!(a == b && a.iter().all(|x| x.is_finite()), "{activation}, {loss}: {a} {b}");
        }
        assert!(good.gradients.iter().any(|(_, g)| g.iter().any(|x| *x != 0.0)));
    }
    // Behind `relu` without a bias, the zeros of padding have no sum to divide by: 0 / 0.
    let built = sequences(3, "", "relu", "name: categorical_crossentropy");
    let lengths = [2, 1];
    let mut case = ragged(&built, &lengths, 3, one_hot);
    case.states.iter_mut().zip(&case.train.states).for_each(|(s, spec)| {
        s.mapv_inplace(|w| if spec.name.ends_with("bias") { 0.0 } else { w.abs() });
    });
    case.inputs.iter_mut().filter(|(r, _, _)| *r == InputRole::Data).for_each(|(_, _, x)| x.mapv_inplace(f64::abs));
    case.pad(InputRole::Data, &lengths, 0.0);
    assert!(case.prediction()[6..9].iter().all(|p| *p == 0.0), "the padding of the first sample has no shares");
    case.check_gradient("shares of nothing");
    assert!(case.run(&case.train, &case.states).gradients.iter().all(|(_, g)| g.iter().all(|x| x.is_finite())));
}

/// Losses of fixed sizes read no lengths; those that vary, and those whose data does, read one input more.
#[test]
fn only_sizes_that_vary_ask_for_lengths() {
    for (middle, loss, reads) in [
        ("", "mean_squared_error", false),
        ("5, ", "mean_squared_error", false),
        ("null, ", "mean_squared_error", true),
        ("null, 2, ", "categorical_crossentropy", true),
        ("5, null, ", "mean_squared_error", false),
    ] {
        let built = build(3, middle, "softmax", &format!("name: {loss}"));
        for mode in [Mode::Train, Mode::Test] {
            let step = built.steps.iter().find(|s| s.mode == mode).expect("the step");
            let found = step.lowered.ids().any(
                |id| matches!(&step.lowered.node(id).op, Op::Input { role: InputRole::Lengths, name } if name == "y"),
            );
            assert_eq!(found, reads, "{loss} of [{middle}]");
        }
    }
}
