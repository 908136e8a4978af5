//! Models of every loss with its options.

use super::{Choices, Make, Model};

pub(super) const ALL: &[(&str, u32, Make)] = &[
    ("categorical_crossentropy", 32, categorical),
    ("mean_squared_error", 12, |c| regression(c, "mean_squared_error")),
    ("mean_absolute_error", 12, |c| regression(c, "mean_absolute_error")),
    ("huber", 12, |c| regression(c, "huber")),
    ("binary_crossentropy", 24, binary),
    ("ctc", 24, ctc),
];

/// Rows of features, or one row.
fn start(c: &mut Choices<'_>) -> (Vec<String>, Option<usize>) {
    let (features, steps) = (c.size(1..=4), c.yes().then(|| c.size(1..=3)));
    let shape = steps.map_or(format!("[{features}]"), |t| format!("[{t}, {features}]"));
    (vec![format!("{{input: {{shape: {shape}}}, name: x}}")], steps)
}

fn weight(c: &mut Choices<'_>) -> &'static str {
    c.pick(&["", ", weight: 0.3", ", weight: 2"])
}

/// Two values that an activation made, and their mean: probabilities whose scores the loss does not see.
fn two(layers: &mut Vec<String>, units: usize, activation: &str) {
    for i in 0..2 {
        layers.push(format!("{{dense: {units}, inputs: x, name: d{i}}}"));
        layers.push(format!("{{activation: {activation}, name: a{i}}}"));
    }
    layers.push("{merge: average, inputs: [a0, a1], name: y}".to_owned());
}

fn one(layers: &mut Vec<String>, units: usize, activation: &str) {
    layers.push(format!("dense: {units}"));
    layers.push(format!("{{activation: {activation}, name: y}}"));
}

fn classes(c: &mut Choices<'_>, n: usize) -> String {
    let weights: Vec<String> = (0..n).map(|_| c.pick(&["1", "0.5", "3"]).to_owned()).collect();
    if c.yes() { format!(", class_weights: [{}]", weights.join(", ")) } else { String::new() }
}

fn categorical(c: &mut Choices<'_>) -> Model {
    let (mut layers, steps) = start(c);
    let units = c.size(2..=5);
    let sparse = c.yes();
    // Of several softmaxes the generator of truths would not know which one counts.
    if !sparse && c.yes() {
        two(&mut layers, units, "softmax");
    } else {
        one(&mut layers, units, "softmax");
    }
    let mut model = Model::new(layers);
    let smoothing = c.pick(&["", ", label_smoothing: 0.1", ", label_smoothing: 0.5"]);
    let (weights, weight) = (classes(c, units), weight(c));
    model.losses = vec![format!("{{target: y, name: categorical_crossentropy{smoothing}{weights}{weight}}}")];
    model.classes = sparse.then(|| steps.map_or(vec![1], |t| vec![t as u64, 1]));
    model
}

fn binary(c: &mut Choices<'_>) -> Model {
    let (mut layers, _) = start(c);
    let units = c.size(1..=4);
    if c.yes() {
        two(&mut layers, units, "sigmoid");
    } else {
        one(&mut layers, units, "sigmoid");
    }
    let mut model = Model::new(layers);
    let smoothing = c.pick(&["", ", label_smoothing: 0.2"]);
    let (weights, weight) = (classes(c, 2), weight(c));
    model.losses = vec![format!("{{target: y, name: binary_crossentropy{smoothing}{weights}{weight}}}")];
    model
}

/// With a second output and a penalty on kernels.
fn regression(c: &mut Choices<'_>, word: &str) -> Model {
    let (mut layers, _) = start(c);
    let penalty = c.pick(&["", ", regularizer: {l2: 0.1}", ", regularizer: {l1: 0.2, l2: 0.05}"]);
    layers.push(format!("{{dense: {}, name: middle{penalty}}}", c.size(1..=5)));
    layers.push("activation: tanh".to_owned());
    layers.push(format!("{{dense: {}, name: y}}", c.size(1..=4)));
    let delta = if word == "huber" { c.pick(&["", ", delta: 0.3", ", delta: 2.5"]) } else { "" };
    let mut model = Model::new(layers);
    model.losses = vec![format!("{{target: y, name: {word}{delta}{}}}", weight(c))];
    if c.yes() {
        model.layers.push(format!("{{dense: {}, inputs: middle, name: z}}", c.size(1..=3)));
        model.losses.push(format!("{{target: z, name: mean_squared_error{}}}", weight(c)));
    }
    model
}

/// Frames behind a stride or not, of fixed or variable number, with probabilities or scores.
fn ctc(c: &mut Choices<'_>) -> Model {
    let (steps, features) = (c.size(5..=7), c.size(1..=3));
    let shape = if c.yes() { "null".to_owned() } else { steps.to_string() };
    let mut layers = vec![format!("{{input: {{shape: [{shape}, {features}]}}, name: x}}")];
    let relative = c.yes();
    if relative {
        layers.push(format!("{{convolution: {{kernels: {}, size: {}, strides: 2}}}}", c.size(1..=3), c.size(1..=3)));
        layers.push("activation: tanh".to_owned());
    }
    let (warp, scale) = (c.yes(), c.yes());
    let inner = format!("{{dense: {}}}", c.size(3..=5));
    layers.push(if c.yes() { format!("parallel: {{apply: [{inner}]}}") } else { inner });
    if !warp {
        layers.push("activation: softmax".to_owned());
    }
    layers.push("output: y".to_owned());
    let variants = [(warp, "warp"), (scale, "loss_scale")];
    let variants: Vec<&str> = variants.into_iter().filter(|(on, _)| *on).map(|(_, v)| v).collect();
    let from = if relative { ", relative_to: x" } else { "" };
    let mut model = Model::new(layers);
    model.losses = vec![format!(
        "{{target: y, name: ctc, input_length: frames, output_length: lengths, output: labels{from}, variant: [{}]{}}}",
        variants.join(", "),
        weight(c)
    )];
    model.steps = steps;
    model
}
