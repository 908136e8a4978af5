//! Compiled code against the interpreter: whole Kurfiles, every step, three optimisation levels, both code variants,
//! every instruction set of the library kernels; and the same bits for 1, 2 and 4 threads.

#[path = "support/layer_cases.rs"]
mod layer_cases;
#[path = "support/sequence_cases.rs"]
mod sequence_cases;

use kur_runtime::abi::rng;
use kur_runtime::cpu::level::Level;
use kur_runtime::dim::{BATCH, Sym};
use kur_runtime::exec::{Executor, StepKind};
use kur_runtime::payload::CpuLevel;
use kur_runtime::plan::{InputRole, Plan, StateRole};
use kurc::codegen::jit;
use kurc::driver::{Build, Options, Session};
use kurc::frontend::MemoryWorld;
use kurc::ir::interp::{Inputs, Outcome, run};
use kurc::lower::model::Mode;
use kurc::passes::pipeline::OptLevel;
use ndarray::{ArrayD, IxDyn};

const SEED: u32 = 11;
const UPDATES: u32 = 4;

/// Kurfiles by name. Inputs and targets are drawn; classes are one-hot rows.
const CASES: &[(&str, &str)] = &[
    ("seed", include_str!("../fixtures/seed/Kurfile.yml")),
    (
        "activations",
        "
model:
  - {input: {shape: [7]}, name: x}
  - dense: [17, 5]
  - activation: relu
  - dense: 9
  - activation: tanh
  - dense: 9
  - activation: sigmoid
  - dense: 9
  - activation: hard_sigmoid
  - dense: 9
  - activation: elu
  - dense: 9
  - activation: selu
  - dense: 9
  - activation: softplus
  - dense: 9
  - activation: softsign
  - dense: {size: 3}
  - output: y
train: {optimizer: {name: sgd, learning_rate: 0.1, momentum: 0.9, nesterov: yes, decay: 0.01, clip: {norm: 0.1}}}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "image classes",
        "
model:
  - {input: {shape: [9, 7, 3]}, name: x}
  - convolution: {kernels: 6, size: [3, 3]}
  - batch_normalization:
  - activation: relu
  - pool: {size: [2, 2], strides: 2}
  - convolution: {kernels: 5, size: [2, 3], strides: [2, 1], border: valid}
  - activation: tanh
  - dropout: 0.25
  - flatten:
  - dense: 10
  - activation: softmax
  - output: y
train: {optimizer: {name: adam, decay: 0.1, clip: {abs: 0.01}}}
loss: [{target: y, name: categorical_crossentropy}]
",
    ),
    (
        "one axis, average, same",
        "
model:
  - {input: {shape: [17, 4]}, name: x}
  - convolution: {kernels: 8, size: 5, strides: 2}
  - pool: {size: 3, strides: 2, type: average, border: same}
  - batch_normalization: {axis: 1}
  - expand: 0
  - squeeze: 0
  - dense: 33
  - activation: softmax
  - output: y
loss: [{target: y, name: categorical_crossentropy}]
",
    ),
    (
        "two branches, two losses",
        "
model:
  - {input: {shape: [100]}, name: a}
  - dense: 17
  - activation: relu
    name: trunk
  - dense: 1
    name: number
    sink: yes
  - dense: 4
    inputs: trunk
  - activation: sigmoid
    name: shares
train: {optimizer: {name: sgd, momentum: 0.5}}
loss:
  - {target: number, name: mean_squared_error, weight: 0.3}
  - {target: shares, name: categorical_crossentropy}
",
    ),
    (
        "yes or no, accumulated",
        "
model:
  - {input: {shape: [5]}, name: x}
  - dense: 17
  - activation: tanh
  - dense: 3
  - activation: sigmoid
    name: y
train:
  optimizer:
    name: adamw
    weight_decay: 0.1
    accumulate: 1
    schedule: {name: cosine, steps: 9, warmup: 2, final: 0.1}
loss: [{target: y, name: binary_crossentropy, label_smoothing: 0.1, class_weights: [1, 3], metrics: [auroc]}]
",
    ),
    (
        "weighted classes in a sequence",
        "
model:
  - {input: {shape: [7, 5]}, name: x}
  - dense: 4
  - activation: softmax
    name: y
train: {optimizer: {name: lamb, schedule: {name: step, every: 2, factor: 0.5}}}
loss: [{target: y, name: categorical_crossentropy, label_smoothing: 0.2, class_weights: [0.5, 1, 2, 3]}]
",
    ),
    (
        "huber, penalties",
        "
model:
  - {input: {shape: [33]}, name: x}
  - dense: 17
    regularizer: {l1: 0.01, l2: 0.02}
  - activation: relu
  - dense: 3
    name: y
train: {optimizer: {name: rmsprop, clip: {norm: 0.5}, schedule: {name: exponential, every: 3, warmup: 7}}}
loss: [{target: y, name: huber, delta: 0.3}]
",
    ),
    (
        "sizes of errors, scaled rate",
        "
model:
  - {input: {shape: [3]}, name: x}
  - dense: 1
    name: y
train: {optimizer: {name: adadelta, scale_rate: w, scale_mode: linear}}
loss: [{target: y, name: mean_absolute_error}]
",
    ),
    (
        "signs",
        "
model:
  - {input: {shape: [3]}, name: x}
  - dense: 7
  - activation: sigmoid
  - dense: 1
    name: y
train: {optimizer: {name: lion, weight_decay: 0.1, schedule: {name: linear, steps: 50}}}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "frozen",
        "
model:
  - {input: {shape: [5]}, name: x}
  - dense: 8
    freeze: yes
  - batch_normalization:
  - dense: 2
  - output: y
loss: [{target: y, name: mean_squared_error}]
",
    ),
];

/// All Kurfiles.
fn cases() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    CASES.iter().chain(layer_cases::CASES).chain(sequence_cases::CASES)
}

fn compile(name: &str, text: &str, level: OptLevel) -> Build {
    let text = match name {
        // The seed example leaves its shape to the data.
        "seed" => text.replace("- input: my_input", "- {input: {shape: [100]}, name: my_input}"),
        _ => text.to_owned(),
    };
    let world = MemoryWorld::with_file("Kurfile.yml", &text);
    let mut session = Session::new(&world);
    let options = Options { level, ..Options::default() };
    match session.compile("Kurfile.yml", &options) {
        Ok(b) => b,
        Err(e) => panic!("{name}: {e:?} {:?}", session.sink.sorted()),
    }
}

/// Deterministic numbers in ±1.
fn draw(stream: u32, n: usize) -> Vec<f32> {
    (0..n).map(|i| rng::uniform(rng::stream(99, stream, 0), u32::try_from(i).expect("small")) * 2.0 - 1.0).collect()
}

/// A value for every free symbol: the batch, and variable sizes that follow from it so that they differ.
fn free(build: &Build, batch: u64) -> Vec<(Sym, u64)> {
    let symbols = &build.program.symbols;
    let all = (0..symbols.len()).map(|s| Sym(u8::try_from(s).expect("few")));
    all.filter(|s| symbols.def(*s).is_none())
        .map(|s| (s, if s == BATCH { batch } else { 8 + (batch + u64::from(s.0)) % 7 }))
        .collect()
}

fn sizes(build: &Build, dims: &[kur_runtime::dim::Dim], batch: u64) -> Vec<usize> {
    let values = build.program.symbols.values(&free(build, batch));
    dims.iter().map(|d| usize::try_from(d.eval(&values)).expect("small")).collect()
}

/// One tensor per input of a plan but control: random data, one-hot targets, random lengths.
fn inputs(build: &Build, plan: &Plan, batch: u64, one_hot: bool) -> Vec<(InputRole, String, Vec<usize>, Vec<f32>)> {
    let mut out = Vec::new();
    for (i, slot) in plan.inputs.iter().enumerate() {
        if slot.role == InputRole::Control {
            continue;
        }
        let mut shape = vec![usize::try_from(batch).expect("small")];
        shape.extend(sizes(build, &slot.shape, batch));
        let n: usize = shape.iter().product();
        let mut data = draw(u32::try_from(i).expect("few"), n);
        if slot.name.starts_with("index") {
            data.iter_mut().for_each(|x| *x = (x.abs() * layer_cases::VOCABULARY).floor());
        }
        if slot.role == InputRole::Lengths {
            let target = plan.inputs.iter().find(|s| s.role == InputRole::Target && s.name == slot.name);
            let steps = sizes(build, &target.expect("a target").shape[..1], batch)[0];
            data.iter_mut().for_each(|x| *x = (x.abs() * (steps as f32 + 1.0)).floor());
        } else if sequence_cases::draw(&slot.name, &mut data) {
            // Labels and lengths are no classes.
        } else if slot.role == InputRole::Target && one_hot {
            let width = *shape.last().expect("an axis");
            for row in data.chunks_mut(width) {
                let hot = (row[0].abs() * 1000.0) as usize % width;
                row.iter_mut().enumerate().for_each(|(k, v)| *v = if k == hot { 1.0 } else { 0.0 });
            }
        }
        out.push((slot.role, slot.name.clone(), shape, data));
    }
    out
}

/// State values: small random parameters, positive variances and second moments.
fn state(build: &Build) -> Vec<Vec<f32>> {
    build
        .program
        .state
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let n = usize::try_from(s.len()).expect("small");
            let moments = ["variance", "adam.v", "rmsprop.a", "adadelta.a", "adadelta.d", "optimizer:drops"];
            let positive = moments.iter().any(|m| s.name.ends_with(m));
            let v = draw(1000 + u32::try_from(i).expect("few"), n);
            v.into_iter().map(|x| if positive { 0.5 + x.abs() } else { x * 0.5 }).collect()
        })
        .collect()
}

fn plan_of(build: &Build, mode: Mode) -> &Plan {
    let p = &build.program;
    match mode {
        Mode::Train => p.train.as_ref().expect("a loss"),
        Mode::Test => p.test.as_ref().expect("a loss"),
        Mode::Infer => &p.infer,
    }
}

fn kind(mode: Mode) -> StepKind {
    match mode {
        Mode::Train => StepKind::Train,
        Mode::Test => StepKind::Test,
        Mode::Infer => StepKind::Infer,
    }
}

/// The interpreter's answer.
fn judge(reference: &Build, mode: Mode, batch: u64) -> Outcome {
    let step = reference.steps.iter().find(|s| s.mode == mode).expect("the step");
    let tensor = |shape: &[usize], data: &[f32]| {
        let data = data.iter().map(|x| f64::from(*x)).collect();
        ArrayD::from_shape_vec(IxDyn(shape), data).expect("sizes agree")
    };
    let plan = plan_of(reference, mode);
    let one_hot = reference.program.run.outputs.iter().any(|o| o.softmax);
    let states = state(reference);
    let given = Inputs {
        sizes: free(reference, batch),
        tensors: inputs(reference, plan, batch, one_hot)
            .into_iter()
            .map(|(r, n, s, d)| (r, n, tensor(&s, &d)))
            .collect(),
        states: step
            .graph
            .states
            .iter()
            .zip(&states)
            .map(|(s, v)| tensor(&sizes(reference, &s.ty.shape, batch), v))
            .collect(),
        seed: SEED,
        updates: UPDATES,
    };
    run(&step.graph, &given).unwrap_or_else(|e| panic!("interpreter: {e}"))
}

struct Answer {
    results: Vec<(String, Vec<f32>)>,
    states: Vec<Vec<f32>>,
}

/// The executor's answer.
fn execute(build: &Build, mode: Mode, batch: u64, code: CpuLevel, level: Level, threads: usize) -> Answer {
    let table = jit::load(&build.code(code).expect("code")).expect("loads");
    let mut e = Executor::with_level(build.program.clone(), table, threads, level).expect("executor");
    for (i, v) in state(build).iter().enumerate() {
        e.state_mut(i).copy_from_slice(v);
    }
    let plan = plan_of(build, mode);
    let one_hot = build.program.run.outputs.iter().any(|o| o.softmax);
    let data = inputs(build, plan, batch, one_hot);
    let slices: Vec<&[f32]> = data.iter().map(|(_, _, _, d)| d.as_slice()).collect();
    // Steps of other sizes first, and NaN in all memory that a step has to write before it reads it: nothing of them may
    // show in this one.
    for other in [batch + 5, 1, batch] {
        let more = inputs(build, plan, other, one_hot);
        let slices: Vec<&[f32]> = more.iter().map(|(_, _, _, d)| d.as_slice()).collect();
        e.run_sized(kind(mode), &free(build, other), &slices, SEED, UPDATES).expect("runs");
    }
    e.fill_memory(f32::NAN);
    for (i, v) in state(build).iter().enumerate() {
        e.state_mut(i).copy_from_slice(v);
    }
    e.run_sized(kind(mode), &free(build, batch), &slices, SEED, UPDATES).expect("runs");
    let results =
        plan.results.iter().enumerate().map(|(i, r)| (r.name.clone(), e.result(kind(mode), i).to_vec())).collect();
    let states = (0..build.program.state.len()).map(|i| e.state(i).to_vec()).collect();
    Answer { results, states }
}

/// Largest deviation relative to the magnitude of the tensor.
fn deviation(a: &[f32], b: &ArrayD<f64>) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    a.iter()
        .zip(b.iter())
        .map(|(x, y)| if (f64::from(*x) - y).is_nan() { f64::INFINITY } else { (f64::from(*x) - y).abs() / scale })
        .fold(0.0, f64::max)
}

/// Rounding of f32 through a few dozen operations and sums of up to some thousand terms.
const TOLERANCE: f64 = 3e-5;

fn compare(what: &str, build: &Build, got: &Answer, want: &Outcome) {
    for (name, value) in &want.values {
        let (_, v) = got.results.iter().find(|(n, _)| n == name).expect("the result");
        let d = deviation(v, value);
        assert!(d < TOLERANCE, "{what}: result `{name}` deviates by {d:e}\n{v:?}\n{value}");
    }
    let before = state(build);
    for (i, s) in build.program.state.iter().enumerate() {
        match want.updates.iter().find(|(k, _)| *k as usize == i) {
            Some((_, value)) => {
                let d = deviation(&got.states[i], value);
                assert!(d < TOLERANCE, "{what}: state `{}` deviates by {d:e}", s.name);
                if s.role == StateRole::Param {
                    assert_ne!(got.states[i], before[i], "{what}: parameter `{}` did not change", s.name);
                }
            }
            None => assert_eq!(got.states[i], before[i], "{what}: state `{}` changed without an update", s.name),
        }
    }
}

#[test]
fn compiled_train_steps_equal_interpreted_ones() {
    compiled_equal_interpreted(&[Mode::Train]);
}

#[test]
fn compiled_steps_without_training_equal_interpreted_ones() {
    compiled_equal_interpreted(&[Mode::Test, Mode::Infer]);
}

/// Every case at all levels of optimisation, code and kernels.
fn compiled_equal_interpreted(modes: &[Mode]) {
    for (name, text) in cases() {
        let reference = compile(name, text, OptLevel::None);
        let levels = [OptLevel::None, OptLevel::Simplify, OptLevel::Full];
        let builds = levels.map(|level| (level, compile(name, text, level)));
        for mode in modes.iter().copied() {
            for batch in [1, 3, 32] {
                let want = judge(&reference, mode, batch);
                for (level, build) in &builds {
                    for code in [CpuLevel::Baseline, CpuLevel::V3] {
                        if code == CpuLevel::V3 && !Level::available().contains(&Level::Avx2) {
                            continue;
                        }
                        for cpu in Level::available() {
                            let what =
                                format!("{name}, {} at {level:?}, batch {batch}, {code}, {}", mode.name(), cpu.name());
                            let got = execute(build, mode, batch, code, cpu, 1);
                            compare(&what, build, &got, &want);
                        }
                    }
                }
            }
        }
    }
}

/// Widths and batches of which none is a multiple of a register, a tile or a cache line, in every kind of kernel.
#[test]
fn odd_sizes_and_batches() {
    const ODD: [u64; 6] = [1, 3, 7, 17, 33, 100];
    let models: [fn(u64) -> String; 4] = [
        |w| {
            format!(
                "  - {{input: {{shape: [{w}]}}, name: x}}\n  - dense: {w}\n  - batch_normalization:\n  - activation: relu\n  \
                 - dense: {w}\n  - activation: tanh\n  - dropout: 0.3\n  - dense: 3\n    name: y\n"
            )
        },
        |w| {
            let side = w.min(7);
            format!(
                "  - {{input: {{shape: [{side}, {side}, 3]}}, name: x}}\n  - convolution: {{kernels: {w}, size: [3, 3]}}\n  \
                 - activation: relu\n  - pool: {{size: [2, 2], strides: [1, 1], border: same}}\n  - convolution: {{kernels: 5, size: \
                 [2, 3], strides: [2, 1]}}\n  - batch_normalization:\n  - flatten:\n  - dense: 3\n    name: y\n"
            )
        },
        |w| {
            // `concat` halves the units of the first layer.
            let (steps, units) = (w.min(7), w.min(33));
            format!(
                "  - {{input: {{shape: [{steps}, {w}]}}, name: x}}\n  - recurrent: {{size: {}, type: lstm, bidirectional: \
                 yes, merge: concat}}\n  - batch_normalization:\n  - recurrent: {{size: {units}, sequence: no}}\n  - dense: 3\n    \
                 name: y\n",
                units + 1
            )
        },
        |w| {
            let (steps, heads) = (w.min(17), if w % 2 == 0 { 2 } else { 1 });
            format!(
                "  - {{input: {{shape: [{steps}, {w}]}}, name: x}}\n  - attention: {{heads: {heads}, causal: yes}}\n  - \
                 layer_normalization:\n  - global_pool: average\n  - dense: 3\n    name: y\n"
            )
        },
    ];
    for (i, width) in ODD.into_iter().enumerate() {
        for model in models {
            let text = format!("model:\n{}loss: [{{target: y, name: mean_squared_error}}]\n", model(width));
            let reference = compile(&text, &text, OptLevel::None);
            let build = compile(&text, &text, OptLevel::Full);
            // Every width meets three batches, every batch three widths.
            for batch in [0, 1, 3].map(|d| ODD[(i + d) % ODD.len()]) {
                let want = judge(&reference, Mode::Train, batch);
                for cpu in Level::available() {
                    let code = if cpu == Level::Baseline { CpuLevel::Baseline } else { CpuLevel::V3 };
                    let got = execute(&build, Mode::Train, batch, code, cpu, 2);
                    compare(&format!("width {width}, batch {batch}, {}\n{text}", cpu.name()), &build, &got, &want);
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for (name, text) in cases() {
        let build = compile(name, text, OptLevel::Full);
        let code = if Level::available().contains(&Level::Avx2) { CpuLevel::V3 } else { CpuLevel::Baseline };
        let bits = |threads: usize| {
            let a = execute(&build, Mode::Train, 513, code, Level::hardware(), threads);
            let states: Vec<Vec<u32>> = a.states.iter().map(|s| s.iter().map(|x| x.to_bits()).collect()).collect();
            let results: Vec<Vec<u32>> =
                a.results.iter().map(|(_, r)| r.iter().map(|x| x.to_bits()).collect()).collect();
            (states, results)
        };
        let one = bits(1);
        assert!(one == bits(2), "{name}: two threads give other bits");
        assert!(one == bits(4), "{name}: four threads give other bits");
        assert!(one == bits(1), "{name}: a second run gives other bits");
    }
}

#[test]
fn emitted_graphs_read_back_and_builds_repeat() {
    use kurc::driver::Stage;
    use kurc::ir::text::{parse_graphs, print_graph};
    for (name, text) in cases() {
        let build = compile(name, text, OptLevel::Full);
        for stage in [Stage::Graph, Stage::GraphOpt] {
            let out = build.emit(stage, CpuLevel::V3).expect("text");
            let graphs = parse_graphs(&out).unwrap_or_else(|e| panic!("{name}: {e}\n{out}"));
            let again: Vec<String> = graphs.iter().map(print_graph).collect();
            assert_eq!(again.join("\n"), out, "{name}");
        }
        let kernels = build.emit(Stage::Kernel, CpuLevel::V3).expect("text");
        let parsed = kurc::ir::text::kernel_parse::parse_kernels(&kernels)
            .unwrap_or_else(|e| panic!("{name}: {e:?}\n{kernels}"));
        assert_eq!(kurc::ir::text::kernel_print::print_all(&parsed), kernels, "{name}");
        for k in &build.kernels {
            if let Err(e) = kurc::ir::verify_kernel::verify(k) {
                panic!("{name}: {e:?}\n{k}");
            }
        }
        let twice = compile(name, text, OptLevel::Full);
        let bytes = |b: &Build| {
            kur_runtime::payload::encode(&b.payload(&[CpuLevel::V3, CpuLevel::Baseline]).expect("payload"))
                .expect("encodes")
        };
        assert_eq!(bytes(&build), bytes(&twice), "{name}");
    }
}
