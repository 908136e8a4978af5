//! Gradients of whole models: for every layer kind and every loss a generator of small Kurfiles with random forms and
//! sizes. A Kurfile goes through the real front end to its train step; the gradient of each parameter tensor is compared
//! with central differences in f64 along a random direction.
//!
//! Choices come from a generator with a fixed seed, so every run checks the same models. A point where the loss has a
//! kink (relu, maxima, sizes) within the step of the differences gives two step sizes different answers; then another
//! point is drawn, and a model for which no point serves fails. Tolerance: two values of class *Rounding*, [`CLOSE`]
//! relative to the larger one, plus what f64 leaves of a difference of two losses.

mod layers;
mod losses;

use std::cell::Cell;
use std::collections::BTreeSet;

use kurc::diag::{Sink, SourceMap};
use kurc::frontend::MemoryWorld;
use kurc::lower::model::{Mode, lower};
use kurc::model::types::DataShape;
use kurc::shapes::{Unseen, infer};
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::*;

/// Relative difference of a gradient and its finite difference that passes.
const CLOSE: f64 = 1e-6;
/// Step of the differences; the second one is half as long.
const STEP: f64 = 2e-5;
/// Points that are tried until one has no kink nearby.
const POINTS: u32 = 12;
/// Rows of every table at least: indices of an input called `index…` are below it.
const ROWS: usize = 3;
/// Labels of a sample for `ctc` at most.
const LABELS: u64 = 2;

/// Answers to the questions of a generator. Smaller numbers give simpler models, so failures shrink.
struct Choices<'a> {
    rest: std::slice::Iter<'a, u32>,
}

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.rest.next().map_or(0, |c| *c as usize % n)
    }

    fn size(&mut self, range: std::ops::RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A Kurfile and what its data look like.
struct Model {
    /// Entries of `model`.
    layers: Vec<String>,
    /// Entries of `loss`.
    losses: Vec<String>,
    /// Steps of variable sequences.
    steps: usize,
    /// Whether the truth of `y` is the number of a class, and the shape it then has.
    classes: Option<Vec<u64>>,
    /// Frames of every sample for `ctc` at least.
    frames: usize,
}

impl Model {
    fn new(layers: Vec<String>) -> Model {
        let losses = vec!["{target: y, name: mean_squared_error}".to_owned()];
        Model { layers, losses, steps: 4, classes: None, frames: 5 }
    }

    fn text(&self) -> String {
        let list = |items: &[String]| items.iter().map(|i| format!("  - {i}\n")).collect::<String>();
        format!("model:\n{}loss:\n{}", list(&self.layers), list(&self.losses))
    }

    /// The train step before any pass.
    fn lower(&self, text: &str) -> Graph {
        let world = MemoryWorld::with_file("Kurfile.yml", text);
        let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
        let fail = |sink: &Sink| panic!("{:?}\n{text}", sink.sorted());
        let Ok(kurfile) = kurc::model::load(&world, "Kurfile.yml", &[], &mut sources, &mut sink) else { fail(&sink) };
        let shapes = infer(&kurfile, &[], Unseen::Error, &sources, &mut sink);
        if sink.has_errors() {
            fail(&sink);
        }
        let data: Vec<DataShape> = self
            .classes
            .iter()
            .map(|shape| DataShape { name: "y".into(), shape: shape.clone(), source: "data".into(), reshapes: false })
            .collect();
        match lower(&kurfile, Mode::Train, &shapes, &data, &sources, &mut sink) {
            Ok(lowered) => lowered.graph,
            Err(_) => fail(&sink),
        }
    }

    /// What the data of a name may be: indices and labels are whole, shares sum to 1.
    fn values(&self, graph: &Graph, role: InputRole, name: &str, shape: &[usize], draws: &mut Draws) -> ArrayD<f64> {
        let width = *shape.last().expect("an axis");
        let whole = |draws: &mut Draws, n: usize| draws.tensor(shape, 0.0, n as f64).mapv(f64::floor);
        let loss = |word: &str| self.losses.iter().any(|l| l.contains(&format!("target: {name}, name: {word}")));
        match name {
            "labels" => whole(draws, 2),
            "lengths" => whole(draws, LABELS as usize + 1),
            "frames" => whole(draws, self.steps + 1 - self.frames).mapv(|x| x + self.frames as f64),
            // At least one step, so that no sample falls out of the loss.
            _ if role == InputRole::Lengths => whole(draws, self.steps).mapv(|x| x + 1.0),
            _ if name.starts_with("index") => whole(draws, ROWS),
            _ if role != InputRole::Target => draws.tensor(shape, -1.5, 1.5),
            "y" if self.classes.is_some() => whole(draws, classes_of(graph)),
            _ if loss("categorical_crossentropy") => {
                let mut x = draws.tensor(shape, 0.1, 1.0);
                for mut row in x.rows_mut() {
                    let sum = row.sum();
                    row.mapv_inplace(|x| x / sum);
                }
                x
            }
            _ if loss("binary_crossentropy") && width.is_multiple_of(2) => whole(draws, 2),
            _ if loss("binary_crossentropy") => draws.tensor(shape, 0.0, 1.0),
            _ => draws.tensor(shape, -1.0, 1.0),
        }
    }
}

/// Classes of the only softmax of a model whose truths are numbers of classes.
fn classes_of(graph: &Graph) -> usize {
    let softmax = |id: &NodeId| matches!(graph.node(*id).op, Op::Softmax { .. });
    let last = graph.ids().rfind(softmax).expect("a softmax");
    usize::try_from(graph.shape(last).last().and_then(|d| d.as_const()).expect("fixed")).expect("small")
}

/// A generator of models that have one layer kind or one loss in common.
type Make = fn(&mut Choices<'_>) -> Model;

/// Checks `cases` models.
fn holds(word: &str, cases: u32, make: Make) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (prop::collection::vec(any::<u32>(), 40), any::<u32>());
    let reached = Cell::new(0);
    let result = runner.run(&strategy, |(choices, seed)| {
        let model = make(&mut Choices { rest: choices.iter() });
        let text = model.text();
        assert!(text.contains(word), "no `{word}` in\n{text}");
        if check(&model, &text, seed)? {
            reached.set(reached.get() + 1);
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{word}: {e}");
    }
    // Cells that relu holds at 0 let nothing through; most models must.
    assert!(reached.get() * 3 >= cases * 2, "{word}: only {} of {cases} models have a gradient", reached.get());
}

/// Compares all gradients of a model; says whether the first parameter, which is far from the loss, has one.
fn check(model: &Model, text: &str, seed: u32) -> Result<bool, TestCaseError> {
    let forward = model.lower(text);
    let mut graph = forward.clone();
    for name in ["autodiff", "canonicalize", "cse", "dce"] {
        let pass = find(name).expect("registered");
        run_pass(pass, &PassCx::default(), &mut graph, &|| std::time::Duration::ZERO)
            .map_err(|e| TestCaseError::fail(format!("{e}\n{text}\n{}", e.dump)))?;
    }
    let mut sizes = vec![(BATCH, 2 + u64::from(seed % 2))];
    for (name, value) in [("t", model.steps as u64), ("l", LABELS)] {
        sizes.extend(forward.symbols.find(name).map(|s| (s, value)));
    }
    let values = forward.symbols.values(&sizes);
    let concrete = |shape: &[Dim]| -> Vec<usize> {
        shape.iter().map(|d| usize::try_from(d.eval(&values)).expect("small")).collect()
    };
    let mut last = String::new();
    for point in 0..POINTS {
        let mut draws = Draws { stream: rng::stream(seed, point, 2), next: 0 };
        let tensors: Vec<(InputRole, String, ArrayD<f64>)> = forward
            .ids()
            .filter_map(|id| match &forward.node(id).op {
                Op::Input { name, role } if *role != InputRole::Control => {
                    let shape = concrete(forward.shape(id));
                    Some((*role, name.clone(), model.values(&forward, *role, name, &shape, &mut draws)))
                }
                _ => None,
            })
            .collect();
        let states: Vec<ArrayD<f64>> = forward
            .states
            .iter()
            .map(|s| {
                let (lo, hi) = if s.role == StateRole::Param { (-0.9, 0.9) } else { (0.5, 1.5) };
                draws.tensor(&concrete(&s.ty.shape), lo, hi)
            })
            .collect();
        let inputs = |states: Vec<ArrayD<f64>>| Inputs {
            sizes: sizes.clone(),
            tensors: tensors.clone(),
            states,
            seed: 3,
            updates: 5,
        };
        let fail = |e: String| TestCaseError::fail(format!("{e}\n{text}"));
        let mut outcome = run(&graph, &inputs(states.clone())).map_err(fail)?;
        outcome.gradients.sort_by_key(|(index, _)| *index);
        let loss_of = |states: Vec<ArrayD<f64>>| -> Result<f64, TestCaseError> {
            let o = run(&forward, &inputs(states)).map_err(fail)?;
            Ok(o.values.iter().find(|(n, _)| n == "loss").expect("a loss").1.sum())
        };
        match compare(&forward, &outcome.gradients, &states, &mut draws, &loss_of)? {
            Found::Agrees { first } => return Ok(first),
            Found::Kink(what) => last = what,
            Found::Differs(what) => return Err(fail(what)),
        }
    }
    Err(TestCaseError::fail(format!("no point without a kink; the last: {last}\n{text}")))
}

/// What a comparison at one point found.
enum Found {
    Agrees { first: bool },
    Kink(String),
    Differs(String),
}

fn compare(
    graph: &Graph,
    gradients: &[(u32, ArrayD<f64>)],
    states: &[ArrayD<f64>],
    draws: &mut Draws,
    loss: &dyn Fn(Vec<ArrayD<f64>>) -> Result<f64, TestCaseError>,
) -> Result<Found, TestCaseError> {
    let here = loss(states.to_vec())?;
    if !here.is_finite() {
        return Ok(Found::Differs(format!("the loss is {here}")));
    }
    let trainable: Vec<usize> = (0..states.len()).filter(|i| graph.states[*i].trainable).collect();
    let known: Vec<usize> = gradients.iter().map(|(i, _)| *i as usize).collect();
    if known != trainable {
        return Ok(Found::Differs(format!("gradients of {known:?}, trained are {trainable:?}")));
    }
    // A difference of two losses has an error of a few ulps, which the division by the step makes larger.
    let floor = 64.0 * f64::EPSILON * (1.0 + here.abs()) / STEP;
    let (mut any, mut first) = (false, None);
    for (index, gradient) in gradients {
        let at = *index as usize;
        let direction = draws.tensor(gradient.shape(), -1.0, 1.0);
        let exact = (gradient * &direction).sum();
        let difference = |h: f64| -> Result<f64, TestCaseError> {
            let moved = |h: f64| {
                let mut states = states.to_vec();
                states[at] = &states[at] + &(&direction * h);
                loss(states)
            };
            Ok((moved(h)? - moved(-h)?) / (2.0 * h))
        };
        let (long, short) = (difference(STEP)?, difference(STEP / 2.0)?);
        // Richardson: what a smooth function's differences tend to.
        let numeric = (4.0 * short - long) / 3.0;
        let close = CLOSE * exact.abs().max(numeric.abs()) + floor;
        let name = &graph.states[at].name;
        if (long - short).abs() > close / 2.0 {
            return Ok(Found::Kink(format!("`{name}`: {long} and {short}")));
        }
        if (exact - numeric).abs() > close {
            return Ok(Found::Differs(format!("`{name}`: {exact} against {numeric}")));
        }
        let some = gradient.iter().any(|g| *g != 0.0);
        any |= some;
        first.get_or_insert(some);
    }
    Ok(match (any, first) {
        (true, Some(first)) => Found::Agrees { first },
        _ => Found::Differs("all gradients are zero".to_owned()),
    })
}

/// Words of a topic of the help: `dense`, `convolution`, ….
fn words(topic: &str, head: &str) -> BTreeSet<String> {
    let text = kurc::model::help::help(topic).expect("a topic");
    let lines: Vec<&str> = text.lines().collect();
    (2..lines.len())
        .filter(|i| lines[*i].starts_with(head))
        .map(|i| lines[i - 2].trim_start_matches("# ").to_owned())
        .collect()
}

#[test]
fn every_layer_and_every_loss_has_a_generator() {
    let of = |table: &[(&str, u32, Make)]| table.iter().map(|(word, ..)| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(of(layers::ALL), words("layers", "layer: "));
    assert_eq!(of(losses::ALL), words("losses", "loss: "));
}

#[test]
fn gradients_of_every_loss() {
    for (word, cases, make) in losses::ALL {
        holds(word, *cases, *make);
    }
}
