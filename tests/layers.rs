//! What layers compute, against numbers that were worked out by hand or by other programs: Kurfiles through the whole
//! compiler, run by the interpreter.

use kur_runtime::dim::{BATCH, Sym};
use kur_runtime::plan::{Init, InputRole, StateRole};
use kurc::driver::{Build, Options, Session};
use kurc::frontend::MemoryWorld;
use kurc::ir::interp::{Inputs, Outcome, run};
use kurc::lower::model::Mode;
use ndarray::{ArrayD, IxDyn};

fn compile(layers: &str) -> Build {
    let text = format!("model:\n{layers}\nloss: [{{target: y, name: mean_squared_error}}]\n");
    let world = MemoryWorld::with_file("Kurfile.yml", &text);
    let mut session = Session::new(&world);
    match session.compile("Kurfile.yml", &Options::default()) {
        Ok(b) => b,
        Err(e) => panic!("{e:?} {:?}\n{text}", session.sink.sorted()),
    }
}

fn tensor(shape: &[usize], values: &[f64]) -> ArrayD<f64> {
    ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).expect("sizes agree")
}

/// Runs a step of a model with inputs and states by name; other states are zeros, targets too, and all steps are real.
fn outcome(
    build: &Build,
    mode: Mode,
    inputs: &[(&str, ArrayD<f64>)],
    states: &[(&str, &[f64])],
    steps: Option<u64>,
) -> Outcome {
    let step = build.steps.iter().find(|s| s.mode == mode).expect("the step");
    let batch = inputs[0].1.shape()[0] as u64;
    let mut sizes = vec![(BATCH, batch)];
    sizes.extend(steps.map(|t| (Sym(1), t)));
    let values = step.graph.symbols.values(&sizes);
    let mut tensors: Vec<_> = inputs.iter().map(|(n, t)| (InputRole::Data, (*n).to_owned(), t.clone())).collect();
    for id in step.graph.ids() {
        let kurc::ir::op::Op::Input { name, role } = &step.graph.node(id).op else { continue };
        let shape: Vec<usize> = step.graph.shape(id).iter().map(|d| d.eval(&values) as usize).collect();
        let fill = match role {
            InputRole::Target => 0.0,
            InputRole::Lengths => steps.unwrap_or(0) as f64,
            InputRole::Data | InputRole::Control => continue,
        };
        tensors.push((*role, name.clone(), ArrayD::from_elem(IxDyn(&shape), fill)));
    }
    let state = |s: &kurc::ir::graph::State| {
        let shape: Vec<usize> = s.ty.shape.iter().map(|d| d.coef() as usize).collect();
        match states.iter().find(|(n, _)| *n == s.name) {
            Some((_, v)) => tensor(&shape, v),
            None => ArrayD::zeros(IxDyn(&shape)),
        }
    };
    for (name, _) in states {
        assert!(step.graph.states.iter().any(|s| s.name == *name), "no state `{name}`");
    }
    let states = step.graph.states.iter().map(state).collect();
    run(&step.graph, &Inputs { sizes, tensors, states, seed: 7, updates: 1 }).expect("runs")
}

/// The output of a model for one input `x`.
fn output(layers: &str, x: ArrayD<f64>, states: &[(&str, &[f64])]) -> ArrayD<f64> {
    let out = outcome(&compile(layers), Mode::Infer, &[("x", x)], states, None);
    out.values.into_iter().next().expect("an output").1
}

#[track_caller]
fn close(got: &ArrayD<f64>, shape: &[usize], want: &[f64]) {
    assert_eq!(got.shape(), shape);
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() < 1e-6, "element {i} is {g}, expected {w}: {got}");
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn activations_have_the_values_of_their_papers() {
    // gelu and mish as SciPy and PyTorch give them.
    let points = [-3.0, -1.0, 0.0, 0.5, 2.0];
    let of = |name: &str, want: [f64; 5]| {
        let layers = format!("  - {{input: {{shape: [5]}}, name: x}}\n  - {{activation: {name}, name: y}}");
        close(&output(&layers, tensor(&[1, 5], &points), &[]), &[1, 5], &want);
    };
    of("gelu", [-0.004_049_694_1, -0.158_655_253_9, 0.0, 0.345_731_230_6, 1.954_499_736_1]);
    of("silu", points.map(|x| x * sigmoid(x)));
    of("mish", points.map(|x| x * x.exp().ln_1p().tanh()));
    of("leaky_relu", [-0.03, -0.01, 0.0, 0.5, 2.0]);
    let prelu = "  - {input: {shape: [2]}, name: x}\n  - {activation: prelu, name: y}";
    close(&output(prelu, tensor(&[1, 2], &[-2.0, -3.0]), &[("y/slope", &[0.5, 0.1])]), &[1, 2], &[-1.0, -0.3]);
}

#[test]
fn highway_layers_carry_what_the_gate_does_not_take() {
    let layers = "  - {input: {shape: [2]}, name: x}\n  - {dense: {size: 2, highway: yes}, name: y}";
    let states: &[(&str, &[f64])] = &[
        ("y/kernel", &[1.0, 2.0, 0.0, -1.0]),
        ("y/bias", &[0.5, 0.0]),
        ("y/gate_kernel", &[0.0, 1.0, 1.0, 0.0]),
        ("y/gate_bias", &[0.0, -1.0]),
    ];
    let (h, t) = ([1.5, 0.0], [sigmoid(3.0), sigmoid(0.0)]);
    let want = [h[0] * t[0] + 1.0 * (1.0 - t[0]), h[1] * t[1] + 3.0 * (1.0 - t[1])];
    close(&output(layers, tensor(&[1, 2], &[1.0, 3.0]), states), &[1, 2], &want);
    // The gate of a convolution has the fixed bias -1 (kur-reference 3.3).
    let layers =
        "  - {input: {shape: [3, 1]}, name: x}\n  - {convolution: {kernels: 1, size: 1, highway: yes}, name: y}";
    let build = compile(layers);
    assert_eq!(build.program.state.iter().filter(|s| s.name.starts_with("y/") && !s.name.contains(':')).count(), 3);
    let states: &[(&str, &[f64])] = &[("y/kernel", &[2.0]), ("y/gate_kernel", &[1.0])];
    let want = [1.0, -2.0, 0.5].map(|x: f64| {
        let t = sigmoid(x - 1.0);
        (2.0 * x).max(0.0) * t + x * (1.0 - t)
    });
    close(&output(layers, tensor(&[1, 3, 1], &[1.0, -2.0, 0.5]), states), &[1, 3, 1], &want);
}

#[test]
fn separable_convolutions_see_one_channel_each() {
    let layers = "  - {input: {shape: [3, 2]}, name: x}
  - {convolution: {kernels: 4, size: 2, border: valid, separable: yes}, name: y}";
    // Kernel [2, 1, 4]: kernels 0 and 1 see channel 0, kernels 2 and 3 channel 1.
    let states: &[(&str, &[f64])] = &[("y/kernel", &[1.0, 0.0, 1.0, 2.0, 0.0, 1.0, -1.0, 0.5])];
    let x = tensor(&[1, 3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    let want = [1.0, 2.0, -10.0, 30.0, 2.0, 3.0, -10.0, 55.0];
    close(&output(layers, x, states), &[1, 2, 4], &want);
}

#[test]
fn dilated_convolutions_leave_cells_out() {
    let layers = "  - {input: {shape: [5, 1]}, name: x}
  - {convolution: {kernels: 1, size: 2, dilation: 3, border: valid}, name: y}";
    let x = tensor(&[1, 5, 1], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    close(&output(layers, x, &[("y/kernel", &[1.0, 10.0])]), &[1, 2, 1], &[41.0, 52.0]);
}

#[test]
fn merges_join_along_every_axis() {
    let model = |merge: &str| {
        format!(
            "  - {{input: {{shape: [1, 2]}}, name: x}}\n  - {{input: {{shape: [1, 2]}}, name: z}}\n  - {{merge: {merge}, inputs: [x, z, x], name: y}}"
        )
    };
    let (x, z) = (tensor(&[1, 1, 2], &[1.0, 2.0]), tensor(&[1, 1, 2], &[3.0, 5.0]));
    let of = |merge: &str, shape: &[usize], want: &[f64]| {
        let out = outcome(&compile(&model(merge)), Mode::Infer, &[("x", x.clone()), ("z", z.clone())], &[], None);
        close(&out.values[0].1, shape, want);
    };
    of("add", &[1, 1, 2], &[5.0, 9.0]);
    of("multiply", &[1, 1, 2], &[3.0, 20.0]);
    of("average", &[1, 1, 2], &[5.0 / 3.0, 3.0]);
    of("concat", &[1, 1, 6], &[1.0, 2.0, 3.0, 5.0, 1.0, 2.0]);
    of("{axis: -1}", &[1, 1, 6], &[1.0, 2.0, 3.0, 5.0, 1.0, 2.0]);
    for axis in ["1", "-2"] {
        of(&format!("{{mode: concat, axis: {axis}}}"), &[1, 3, 2], &[1.0, 2.0, 3.0, 5.0, 1.0, 2.0]);
    }
}

#[test]
fn values_are_moved_where_they_belong() {
    let x = tensor(&[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let input = "  - {input: {shape: [2, 3]}, name: x}\n";
    let with = |layer: &str| format!("{input}  - {{{layer}, name: y}}");
    let turned = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0];
    close(&output(&with("transpose: [1, 0]"), x.clone(), &[]), &[1, 3, 2], &turned);
    let all = "transpose: {axes: [0, 2, 1], include_batch: yes}";
    close(&output(&with(all), x.clone(), &[]), &[1, 3, 2], &turned);
    let twice = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0];
    close(&output(&with("upsample: 2"), x.clone(), &[]), &[1, 4, 3], &twice);
    let padded = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    close(&output(&with("pad: {before: 1}"), x.clone(), &[]), &[1, 3, 3], &padded);
    close(&output(&with("global_pool: average"), x.clone(), &[]), &[1, 3], &[2.5, 3.5, 4.5]);
    close(&output(&with("global_pool: max"), x.clone(), &[]), &[1, 3], &[4.0, 5.0, 6.0]);
    let normal = [-1.224_744_871, 0.0, 1.224_744_871];
    let states: &[(&str, &[f64])] = &[("y/gamma", &[1.0, 1.0, 2.0]), ("y/beta", &[0.0, 1.0, 0.0])];
    let want = [normal[0], 1.0, 2.0 * normal[2], normal[0], 1.0, 2.0 * normal[2]];
    let got = output(&with("layer_normalization: {epsilon: 1e-12}"), x, states);
    close(&got, &[1, 2, 3], &want);
    let repeat = "  - {input: {shape: [2]}, name: x}\n  - {repeat: 3, name: y}";
    close(&output(repeat, tensor(&[1, 2], &[1.0, 2.0]), &[]), &[1, 3, 2], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    let words = "  - {input: {shape: [3]}, name: x}\n  - {embedding: {vocab_size: 2, size: 2}, name: y}";
    let table: &[(&str, &[f64])] = &[("y/embeddings", &[1.0, 2.0, 3.0, 4.0])];
    close(&output(words, tensor(&[1, 3], &[1.0, 0.0, 1.9]), table), &[1, 3, 2], &[3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_batch_inside_parallel_is_all_steps_of_all_samples() {
    let layers = "  - {input: {shape: [2, 1]}, name: x}
  - {parallel: {apply: [{batch_normalization: , name: b}, {dense: 1, name: d}]}, name: y}";
    let x = tensor(&[2, 2, 1], &[1.0, 3.0, 5.0, 7.0]);
    let states: &[(&str, &[f64])] = &[("b/gamma", &[1.0]), ("d/kernel", &[2.0]), ("b/moving_mean", &[1.0])];
    let build = compile(layers);
    let out = outcome(&build, Mode::Train, &[("x", x)], states, None);
    // Mean 4 and variance 5 over four values; the running statistics keep 99 parts of 100.
    let of = |name: &str| {
        let index = build.program.state.iter().position(|s| s.name == name).expect("the state");
        out.updates.iter().find(|(i, _)| *i as usize == index).expect("an update").1.sum()
    };
    assert!((of("b/moving_mean") - (0.99 + 0.04)).abs() < 1e-9);
    assert!((of("b/moving_variance") - 0.05).abs() < 1e-9);
}

#[test]
fn reused_layers_share_weights_and_statistics() {
    let layers = "  - {input: {shape: [1]}, name: x}
  - {dense: 1, name: d}
  - {batch_normalization: {momentum: 0.5}, name: b}
  - {reuse: d}
  - {reuse: b, name: y}";
    let build = compile(layers);
    let names: Vec<&str> = build.program.state.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names.iter().filter(|n| n.ends_with("/kernel")).count(), 1, "{names:?}");
    let states: &[(&str, &[f64])] = &[("d/kernel", &[2.0]), ("d/bias", &[1.0]), ("b/gamma", &[1.0])];
    let x = tensor(&[2, 1], &[0.0, 2.0]);
    let out = outcome(&build, Mode::Train, &[("x", x)], states, None);
    let index = names.iter().position(|n| *n == "b/moving_mean").expect("statistics");
    let seen: Vec<f64> = out.updates.iter().filter(|(i, _)| *i as usize == index).map(|(_, v)| v.sum()).collect();
    // First mean 3, then 2 · 0 + 1: half of the half of 3, and half of 1.
    assert_eq!(seen.len(), 1);
    assert!((seen[0] - (0.25 * 3.0 + 0.5)).abs() < 1e-9, "{seen:?}");
}

#[test]
fn causal_attention_sees_no_later_step() {
    let layers = "  - {input: {shape: [null, 2]}, name: x}\n  - {attention: {heads: 2, causal: yes}, name: y}";
    let build = compile(layers);
    let square: &[f64] = &[0.5, -0.3, 0.8, 0.1];
    let names = ["query", "key", "value", "output"].map(|n| format!("y/{n}_kernel"));
    let states: Vec<(&str, &[f64])> = names.iter().map(|n| (n.as_str(), square)).collect();
    for steps in [1, 2, 5] {
        let mut values: Vec<f64> = (0..steps * 2).map(|i| f64::from(i).sin()).collect();
        let run = |values: &[f64]| {
            let x = tensor(&[1, steps as usize, 2], values);
            outcome(&build, Mode::Infer, &[("x", x)], &states, Some(u64::try_from(steps).expect("small"))).values[0]
                .1
                .clone()
        };
        let before = run(&values);
        // The first step sees itself alone: value, then output.
        let v = [0.5 * values[0] + 0.8 * values[1], -0.3 * values[0] + 0.1 * values[1]];
        assert!((before[[0, 0, 0]] - (0.5 * v[0] + 0.8 * v[1])).abs() < 1e-9);
        let last = values.len() - 2;
        values[last] += 1.0;
        let after = run(&values);
        for t in 0..steps as usize {
            let moved = (before[[0, t, 0]] - after[[0, t, 0]]).abs() > 1e-9;
            assert_eq!(moved, t + 1 == steps as usize, "step {t} of {steps}");
        }
    }
}

#[test]
fn dropout_of_channels_keeps_or_loses_them_whole() {
    let layers = "  - {input: {shape: [2, 2, 40]}, name: x}
  - {dropout: {fraction: 0.5, independent: no}, name: d}
  - flatten
  - {dense: 1, name: y}";
    let build = compile(layers);
    let step = build.steps.iter().find(|s| s.mode == Mode::Train).expect("training");
    let mask = step.lowered.ids().find(|id| matches!(step.lowered.node(*id).op, kurc::ir::op::Op::Random { .. }));
    let shape: Vec<u64> = step.lowered.shape(mask.expect("a draw")).iter().map(|d| d.eval(&[3])).collect();
    assert_eq!(shape, [3, 1, 1, 40]);
}

#[test]
fn weights_start_within_the_limits_of_the_reference() {
    // kur-reference 3.2, 3.3, 3.5, 3.7, 3.14: Keras' limits for the layers that Keras has; ±1/√inputs, biases too, for
    // those that only PyTorch has.
    let of = |input: &str, layer: &str, want: &[(&str, f32)]| {
        let layers = format!("  - {{input: {{shape: {input}}}, name: x}}\n  - {{{layer}, name: y}}");
        let build = compile(&layers);
        let own: Vec<_> = build.program.state.iter().filter(|s| s.role == StateRole::Param).collect();
        assert_eq!(own.len(), want.len(), "{layer}");
        for (name, limit) in want {
            let state = own.iter().find(|s| s.name == format!("y/{name}"));
            let found = match state.unwrap_or_else(|| panic!("{layer}: no `{name}`")).init {
                Init::Uniform { limit } => limit,
                Init::GlorotUniform { fan_in, fan_out } => (6.0 / (fan_in + fan_out) as f32).sqrt(),
                Init::Constant(c) => c,
                other => panic!("{layer}: `{name}` starts as {other:?}"),
            };
            assert!((found - limit).abs() < 1e-6, "{layer}: `{name}` starts within {found}, expected {limit}");
        }
    };
    let root = |x: f32| x.sqrt();
    of("[5]", "dense: 3", &[("kernel", root(6.0 / 8.0)), ("bias", 0.0)]);
    let inner = 1.0 / root(5.0);
    let highway = [("kernel", inner), ("bias", inner), ("gate_kernel", inner), ("gate_bias", inner)];
    of("[5]", "dense: {size: 5, highway: yes}", &highway);
    of("[5]", "dense: {size: 5, highway: yes, bias: -2}", &highway[..3]);
    let plain = [("kernel", root(6.0 / (6.0 * 4.0 + 6.0 * 8.0))), ("bias", 0.0)];
    of("[5, 5, 4]", "convolution: {kernels: 8, size: [3, 2]}", &plain);
    let inner = 1.0 / root(6.0 * 4.0);
    let highway = [("kernel", inner), ("bias", inner), ("gate_kernel", inner)];
    of("[5, 5, 4]", "convolution: {kernels: 8, size: [3, 2], separable: yes}", &highway[..2]);
    of("[5, 5, 4]", "convolution: {kernels: 4, size: [3, 2], highway: yes}", &highway);
    of("[5]", "embedding: {vocab_size: 7, size: 2}", &[("embeddings", 0.05)]);
    let inner = 1.0 / root(3.0);
    let all = [("kernel", inner), ("recurrent_kernel", inner), ("bias", inner), ("recurrent_bias", inner)];
    of("[4, 5]", "recurrent: {size: 3, cell: torch}", &all);
    of("[4, 5]", "recurrent: {size: 3, type: lstm, cell: torch}", &all);
    of("[4, 5]", "recurrent: {size: 3, type: sru}", &[("kernel", root(3.0 / 5.0)), ("bias", 0.0)]);
    of("[5]", "batch_normalization: ", &[("gamma", 1.0), ("beta", 0.0)]);
}
