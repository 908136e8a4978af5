//! Models of every layer kind in all its forms: an input, a dense layer `lift` that shows whether gradients come through,
//! the layer, and a dense layer behind it.

use super::{Choices, Make, Model, ROWS, holds};

pub(super) const ALL: &[(&str, u32, Make)] = &[
    ("input", 12, input),
    ("dense", 24, dense),
    ("convolution", 64, convolution),
    ("pool", 48, pool),
    ("activation", 64, activation),
    ("dropout", 16, dropout),
    ("batch_normalization", 24, batch_normalization),
    ("flatten", 12, flatten),
    ("expand", 16, expand),
    ("squeeze", 16, squeeze),
    ("transpose", 16, transpose),
    ("repeat", 8, repeat),
    ("merge", 32, merge),
    ("recurrent", 96, recurrent),
    ("embedding", 12, embedding),
    ("parallel", 32, parallel),
    ("reuse", 24, reuse),
    ("upsample", 16, upsample),
    ("pad", 16, pad),
    ("global_pool", 16, global_pool),
    ("layer_normalization", 16, layer_normalization),
    ("position_embedding", 12, position_embedding),
    ("attention", 32, attention),
    ("output", 8, output),
];

macro_rules! tests {
    ($($name:ident: $($word:literal)+;)+) => {
        $(#[test]
        fn $name() {
            for word in [$($word),+] {
                let (_, cases, make) = ALL.iter().find(|(w, ..)| *w == word).expect("a row of the table");
                holds(word, *cases, *make);
            }
        })+

        #[test]
        fn every_row_is_tested() {
            let tested = [$($($word),+),+];
            assert!(ALL.iter().all(|(word, ..)| tested.contains(word)));
        }
    };
}

tests! {
    gradients_of_windows: "convolution" "pool" "global_pool" "upsample" "pad";
    gradients_of_sequences: "recurrent" "embedding" "position_embedding" "attention";
    gradients_of_chains: "parallel" "reuse" "merge" "input" "output";
    gradients_of_units: "dense" "activation" "dropout" "batch_normalization" "layer_normalization";
    gradients_of_shapes: "flatten" "expand" "squeeze" "transpose" "repeat";
}

/// Sizes as a YAML list; the first is null where the number of steps varies.
fn list(sizes: &[usize], variable: bool) -> String {
    let mut items: Vec<String> = sizes.iter().map(usize::to_string).collect();
    if variable {
        items[0] = "null".to_owned();
    }
    format!("[{}]", items.join(", "))
}

/// `n` sizes in a range.
fn sizes(c: &mut Choices<'_>, n: usize, range: std::ops::RangeInclusive<usize>) -> Vec<usize> {
    (0..n).map(|_| c.size(range.clone())).collect()
}

/// A layer on values of `leading` sizes and `features`, between two dense layers.
fn around(c: &mut Choices<'_>, leading: &[usize], features: usize, variable: bool, layers: &[String]) -> Model {
    let mut shape = leading.to_vec();
    shape.push(c.size(1..=3));
    let mut all = vec![
        format!("{{input: {{shape: {}}}, name: x}}", list(&shape, variable)),
        format!("{{dense: {features}, name: lift}}"),
    ];
    all.extend(layers.iter().cloned());
    all.push(format!("{{dense: {}, name: y}}", c.size(1..=3)));
    let mut model = Model::new(all);
    if variable {
        model.steps = leading[0];
    }
    model
}

/// On a random number of axes.
fn anywhere(c: &mut Choices<'_>, features: usize, layer: String) -> Model {
    let axes = c.size(0..=2);
    let leading = sizes(c, axes, 1..=3);
    around(c, &leading, features, false, &[layer])
}

fn input(c: &mut Choices<'_>) -> Model {
    let (a, b) = (c.size(1..=7), c.size(1..=7));
    Model::new(vec![
        format!("{{input: {{shape: [{a}]}}, name: x}}"),
        format!("{{dense: {}, name: one}}", c.size(1..=3)),
        format!("{{input: {{shape: {b}}}, name: z}}"),
        format!("{{dense: {}, name: two}}", c.size(1..=3)),
        "{merge: concat, inputs: [one, two]}".to_owned(),
        "{dense: 2, name: y}".to_owned(),
    ])
}

fn dense(c: &mut Choices<'_>) -> Model {
    let f = c.size(1..=5);
    let axes = c.size(0..=2);
    let leading = sizes(c, axes, 1..=3);
    let flat: usize = leading.iter().product::<usize>() * f;
    let (a, b) = (c.size(1..=7), c.size(1..=4));
    let frozen = c.pick(&["", ", freeze: yes", ", regularizer: {l1: 0.1, l2: 0.2}"]);
    let layer = match c.below(6) {
        0 => format!("{{dense: {a}{frozen}}}"),
        1 => format!("{{dense: [{a}, {b}]{frozen}}}"),
        2 => format!("{{dense: {{size: [{b}, {a}], flatten: yes}}{frozen}}}"),
        3 => format!("{{dense: {{size: {f}, highway: yes}}{frozen}}}"),
        4 => format!("{{dense: {{size: [{f}, {f}], highway: yes, bias: -0.5}}{frozen}}}"),
        _ => format!("{{dense: {{size: {flat}, highway: yes, flatten: yes}}{frozen}}}"),
    };
    around(c, &leading, f, false, &[layer])
}

const ACTIVATIONS: &[&str] = &[
    "relu",
    "softmax",
    "sigmoid",
    "tanh",
    "linear",
    "none",
    "hard_sigmoid",
    "elu",
    "selu",
    "softplus",
    "softsign",
    "leaky_relu",
    "gelu",
    "silu",
    "mish",
    "prelu",
];

fn activation(c: &mut Choices<'_>) -> Model {
    let (word, f) = (c.pick(ACTIVATIONS), c.size(2..=7));
    anywhere(c, f, format!("activation: {word}"))
}

/// Sizes of `axes` spatial axes and of a window that fits into them.
struct Space {
    cells: Vec<usize>,
    window: Vec<usize>,
    strides: Vec<usize>,
    dilation: Vec<usize>,
    border: &'static str,
}

fn space(c: &mut Choices<'_>, most_dilation: usize) -> Space {
    let axes = c.size(1..=3);
    let border = c.pick(&["same", "valid"]);
    let (window, strides) = (sizes(c, axes, 1..=3), sizes(c, axes, 1..=2));
    let dilation = sizes(c, axes, 1..=most_dilation);
    let reach = window.iter().zip(&dilation).map(|(k, d)| (k - 1) * d + 1);
    let least: Vec<usize> = reach.map(|r| if border == "valid" { r } else { 1 }).collect();
    let cells = least.into_iter().map(|n| n + c.below(if axes == 3 { 2 } else { 4 })).collect();
    Space { cells, window, strides, dilation, border }
}

fn convolution(c: &mut Choices<'_>) -> Model {
    let (mut s, f) = (space(c, 2), c.size(1..=3));
    let variable = s.cells.len() == 1 && c.yes();
    let (kernels, more) = match c.below(4) {
        0 => (f, {
            (s.border, s.strides) = ("same", vec![1; s.cells.len()]);
            c.pick(&[", highway: yes", ", highway: yes, bias: 0.5"])
        }),
        1 => (f * c.size(1..=2), ", separable: yes"),
        _ => (c.size(1..=4), ""),
    };
    let layer = format!(
        "convolution: {{kernels: {kernels}, size: {}, strides: {}, dilation: {}, border: {}{more}}}",
        list(&s.window, false),
        list(&s.strides, false),
        list(&s.dilation, false),
        s.border
    );
    around(c, &s.cells.clone(), f, variable, &[layer])
}

fn pool(c: &mut Choices<'_>) -> Model {
    let (s, f) = (space(c, 1), c.size(1..=3));
    let variable = s.cells.len() == 1 && c.yes();
    let layer = format!(
        "pool: {{size: {}, strides: {}, border: {}, type: {}}}",
        list(&s.window, false),
        list(&s.strides, false),
        s.border,
        c.pick(&["max", "average"])
    );
    around(c, &s.cells.clone(), f, variable, &[layer])
}

/// One to three spatial axes, of which a single one may vary.
fn spatial(c: &mut Choices<'_>) -> (Vec<usize>, bool) {
    let axes = c.size(1..=3);
    let variable = axes == 1 && c.yes();
    (sizes(c, axes, 1..=4), variable)
}

fn upsample(c: &mut Choices<'_>) -> Model {
    let (cells, variable) = spatial(c);
    let factors = if c.yes() { vec![c.size(1..=3)] } else { sizes(c, cells.len(), 1..=3) };
    let (f, layer) = (c.size(1..=3), format!("upsample: {}", list(&factors, false)));
    around(c, &cells, f, variable, &[layer])
}

fn pad(c: &mut Choices<'_>) -> Model {
    let (cells, variable) = spatial(c);
    let layer = match c.below(3) {
        0 => format!("pad: {}", c.size(0..=2)),
        1 => format!("pad: {{before: {}, after: {}}}", c.size(0..=2), c.size(0..=2)),
        _ => format!("pad: {}", list(&sizes(c, cells.len(), 0..=2), false)),
    };
    let f = c.size(1..=3);
    around(c, &cells, f, variable, &[layer])
}

fn global_pool(c: &mut Choices<'_>) -> Model {
    let (cells, variable) = spatial(c);
    let (f, layer) = (c.size(1..=4), format!("global_pool: {}", c.pick(&["max", "average"])));
    around(c, &cells, f, variable, &[layer])
}

fn dropout(c: &mut Choices<'_>) -> Model {
    let (axes, f) = (c.size(0..=3), c.size(2..=7));
    let leading = sizes(c, axes, 1..=3);
    let fraction = c.pick(&["0", "0.25", "0.5"]);
    let layer = match c.yes() {
        true => format!("dropout: {fraction}"),
        false => format!("dropout: {{fraction: {fraction}, independent: no}}"),
    };
    around(c, &leading, f, false, &[layer])
}

fn batch_normalization(c: &mut Choices<'_>) -> Model {
    let (axes, f) = (c.size(0..=2), c.size(1..=4));
    let leading = sizes(c, axes, 1..=3);
    let layer = match c.below(3) {
        0 => "batch_normalization:".to_owned(),
        1 => format!("batch_normalization: {{axis: {}, momentum: 0.5}}", c.size(1..=axes + 1)),
        // Works with the running statistics.
        _ => "{batch_normalization: , freeze: yes}".to_owned(),
    };
    around(c, &leading, f, false, &[layer])
}

fn layer_normalization(c: &mut Choices<'_>) -> Model {
    let f = c.size(3..=7);
    let layer = c.pick(&["layer_normalization", "layer_normalization: {epsilon: 0.1}"]);
    anywhere(c, f, layer.to_owned())
}

fn flatten(c: &mut Choices<'_>) -> Model {
    let f = c.size(1..=4);
    anywhere(c, f, "flatten:".to_owned())
}

/// The axes in any order; with the batch counted it stays where it is.
fn transpose(c: &mut Choices<'_>) -> Model {
    let axes = c.size(1..=3);
    let leading = sizes(c, axes - 1, 1..=4);
    let mut order: Vec<usize> = (0..axes).collect();
    for i in (1..axes).rev() {
        order.swap(i, c.below(i + 1));
    }
    let layer = if c.yes() {
        let with: Vec<usize> = std::iter::once(0).chain(order.iter().map(|a| a + 1)).collect();
        format!("transpose: {{axes: {}, include_batch: yes}}", list(&with, false))
    } else {
        format!("transpose: {}", list(&order, false))
    };
    let f = c.size(1..=4);
    around(c, &leading, f, false, &[layer])
}

fn expand(c: &mut Choices<'_>) -> Model {
    let (axes, f) = (c.size(0..=2), c.size(1..=4));
    let leading = sizes(c, axes, 1..=3);
    let rank = axes as i64 + 2;
    let layer = format!("expand: {}", c.below(2 * rank as usize) as i64 - rank);
    around(c, &leading, f, false, &[layer])
}

fn squeeze(c: &mut Choices<'_>) -> Model {
    let (axes, f) = (c.size(0..=2), c.size(1..=4));
    let leading = sizes(c, axes, 1..=3);
    let rank = axes as i64 + 2;
    // The same place, counted from either end.
    let place = c.below(rank as usize) as i64;
    let again = if c.yes() { place } else { place - rank };
    let layers =
        [format!("expand: {place}"), "activation: tanh".to_owned(), format!("squeeze: {{dimension: {again}}}")];
    around(c, &leading, f, false, &layers)
}

fn repeat(c: &mut Choices<'_>) -> Model {
    let (f, layer) = (c.size(1..=5), format!("repeat: {}", c.size(1..=5)));
    around(c, &[], f, false, &[layer])
}

fn merge(c: &mut Choices<'_>) -> Model {
    let (axes, f) = (c.size(0..=2), c.size(1..=4));
    let leading = sizes(c, axes, 1..=3);
    let variable = axes > 0 && c.yes();
    let word = c.pick(&["add", "multiply", "average", "concat"]);
    // Joined along the last axis the values may differ in width.
    let axis = if word == "concat" { c.size(0..=axes + 1) } else { 0 };
    let width = if axis == axes + 1 { c.size(1..=3) } else { f };
    let form = match axis {
        0 => word.to_owned(),
        axis => format!("{{mode: concat, axis: {axis}}}"),
    };
    let inputs = c.pick(&["lift, other", "other, lift", "lift, other, lift", "other, lift, lift, lift", "other"]);
    let width = if word == "concat" && axis == 0 { c.size(1..=3) } else { width };
    let layers = [
        format!("{{dense: {width}, inputs: lift, name: inner}}"),
        "{activation: tanh, name: other}".to_owned(),
        format!("{{merge: {form}, inputs: [{inputs}]}}"),
    ];
    around(c, &leading, f, variable, &layers)
}

/// All cells, directions, merges and functions.
fn cell(c: &mut Choices<'_>, sequence: &str) -> String {
    let kind = c.pick(&["gru", "lstm", "sru"]);
    let torch = kind != "sru" && c.below(3) == 0;
    let outer = match (torch, c.below(2)) {
        (true, _) => ", cell: torch".to_owned(),
        (false, 0) => String::new(),
        (false, _) => {
            let words = ["tanh", "sigmoid", "linear", "none", "hard_sigmoid", "elu", "selu", "softplus", "softsign"];
            format!(", outer_activation: {}", c.pick(&words))
        }
    };
    let (merge, even) = match c.below(6) {
        0 | 1 => ("", false),
        2 => (", bidirectional: yes", false),
        3 => (", bidirectional: yes, merge: concat", true),
        4 => (", bidirectional: yes, merge: add", false),
        _ => (", bidirectional: yes, merge: multiply", false),
    };
    let size = if even { 2 * c.size(1..=3) } else { c.size(1..=5) };
    format!("recurrent: {{size: {size}, type: {kind}{outer}{merge}{sequence}}}")
}

fn recurrent(c: &mut Choices<'_>) -> Model {
    let (steps, variable, f) = (c.size(1..=5), c.yes(), c.size(1..=4));
    let sequence = c.pick(&["", ", sequence: no"]);
    let layer = cell(c, sequence);
    around(c, &[steps], f, variable, &[layer])
}

fn embedding(c: &mut Choices<'_>) -> Model {
    let (steps, rows, size) = (c.size(1..=6), c.size(ROWS..=7), c.size(1..=5));
    let shape = list(&[steps], c.yes());
    let mut model = Model::new(vec![
        format!("{{input: {{shape: {shape}}}, name: index}}"),
        format!("embedding: {{vocab_size: {rows}, size: {size}}}"),
        "activation: tanh".to_owned(),
        "{dense: 2, name: y}".to_owned(),
    ]);
    model.steps = steps;
    model
}

/// A chain on `[…, features]` and the width behind it.
fn chain(c: &mut Choices<'_>, features: usize) -> (Vec<String>, usize) {
    let mut width = features;
    let mut layers = Vec::new();
    for _ in 0..c.size(1..=3) {
        layers.push(match c.below(6) {
            0 => "{activation: tanh}".to_owned(),
            1 => "{batch_normalization: }".to_owned(),
            2 => format!("{{dense: {{size: {width}, highway: yes}}}}"),
            3 => "{dropout: 0.3}".to_owned(),
            4 => "{activation: softplus}".to_owned(),
            _ => {
                width = c.size(1..=4);
                format!("{{dense: {width}}}")
            }
        });
    }
    (layers, width)
}

fn parallel(c: &mut Choices<'_>) -> Model {
    let (steps, variable, f) = (c.size(1..=4), c.yes(), c.size(1..=3));
    let (inner, _) = chain(c, f);
    let inner = inner.join(", ");
    let (leading, apply) = match c.below(5) {
        0 => (vec![], inner),
        1 => (vec![c.size(1..=3)], format!("{inner}, {{flatten: }}, {{dense: 2}}")),
        2 => (vec![c.size(1..=3)], format!("{{parallel: {{apply: [{inner}]}}}}")),
        // A recurrent layer has a width of its own.
        3 => (vec![c.size(1..=3)], format!("{{{}}}, {{dense: 2}}, {{activation: tanh}}", cell(c, ", sequence: no"))),
        _ => {
            let layer = format!("{{convolution: {{kernels: {}, size: {}}}}}", c.size(1..=3), c.size(1..=3));
            (vec![c.size(1..=3)], layer)
        }
    };
    let all: Vec<usize> = std::iter::once(steps).chain(leading).collect();
    around(c, &all, f, variable, &[format!("parallel: {{apply: [{apply}]}}")])
}

/// The same weights twice or three times, inside `parallel` and for a block of layers too.
fn reuse(c: &mut Choices<'_>) -> Model {
    let (steps, variable, f) = (c.size(1..=4), c.yes(), c.size(1..=4));
    let own = match c.below(6) {
        0 => format!("{{dense: {f}, name: shared}}"),
        1 => format!("{{dense: {{size: {f}, highway: yes}}, name: shared}}"),
        2 => format!("{{convolution: {{kernels: {f}, size: {}}}, name: shared}}", c.size(1..=3)),
        3 => format!("{{recurrent: {{size: {f}, outer_activation: tanh}}, name: shared}}"),
        4 => format!("{{for: {{range: 2, iterate: [{{dense: {f}}}, {{activation: tanh}}]}}, name: shared}}"),
        _ => "{batch_normalization: , name: shared}".to_owned(),
    };
    let again = if own.contains("dense") && c.yes() { "parallel: {apply: [{reuse: shared}]}" } else { "reuse: shared" };
    let mut layers = vec![own, "activation: tanh".to_owned(), again.to_owned()];
    if c.yes() {
        layers.insert(0, "{reuse: {target: shared}, inputs: lift}".to_owned());
    }
    around(c, &[steps], f, variable, &layers)
}

fn position_embedding(c: &mut Choices<'_>) -> Model {
    let (steps, f) = (c.size(1..=5), c.size(1..=5));
    around(c, &[steps], f, false, &["position_embedding:".to_owned(), "activation: tanh".to_owned()])
}

fn attention(c: &mut Choices<'_>) -> Model {
    let (steps, variable, heads) = (c.size(1..=5), c.yes(), c.size(1..=3));
    let f = heads * c.size(1..=3);
    let causal = c.pick(&["", ", causal: yes"]);
    around(c, &[steps], f, variable, &[format!("attention: {{heads: {heads}{causal}}}")])
}

/// An output in the middle of the model, trained by a loss of its own.
fn output(c: &mut Choices<'_>) -> Model {
    let f = c.size(1..=5);
    let word = c.pick(&["{output: middle}", "{output: , name: middle}", "{output: {name: middle}}"]);
    let mut model = around(c, &[], f, false, &[word.to_owned(), "activation: tanh".to_owned()]);
    model.losses.push("{target: middle, name: mean_squared_error}".to_owned());
    model
}
