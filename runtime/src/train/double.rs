//! An engine for tests: a linear model with momentum, computed by hand in a few lines. Like a compiled program it keeps
//! all of its state in state tensors, and its result depends on seed and update number.

use std::sync::{Arc, Mutex};

use super::console::Console;
use super::cx::{About, RunCx};
use super::engine::{Blame, Engine, RunError};
use super::stop::Stop;
use crate::abi::rng;
use crate::dim::{Dim, SymbolTable};
use crate::error::Error;
use crate::exec::StepKind;
use crate::plan::{
    Init, InputRole, InputSlot, LayerInfo, Place, Plan, Program, ResultRole, ResultSlot, StateRole, StateSpec,
};
use crate::spec::{
    CsvSpec, FileSpec, InputSpec, OutputSpec, ProviderSpec, RunSpec, SectionSpec, SupplierSpec, TrainWeights,
};

/// Inputs of the model.
pub(crate) const WIDTH: usize = 2;

/// `y = x · w`, trained by gradient descent with momentum on the squared error, with a little noise on each update.
pub(crate) struct Linear {
    pub(crate) program: Program,
    states: Vec<Vec<f32>>,
    results: [Vec<f32>; 3],
    pub(crate) rate: f32,
    /// Called after each train step with the number of updates done.
    pub(crate) after_step: Box<dyn FnMut(u32)>,
}

pub(crate) fn slot(name: &str, role: InputRole, shape: &[u64]) -> InputSlot {
    InputSlot { name: name.into(), role, shape: shape.iter().map(|d| Dim::constant(*d)).collect() }
}

pub(crate) fn result(name: &str, role: ResultRole, shape: &[Dim]) -> ResultSlot {
    ResultSlot { name: name.into(), role, place: Place::State { offset: 0 }, shape: shape.to_vec() }
}

pub(crate) fn run_spec(name: &str) -> RunSpec {
    RunSpec {
        name: name.into(),
        seed: 5,
        inputs: Vec::new(),
        outputs: Vec::new(),
        train: None,
        validate: None,
        test: None,
        evaluate: None,
        epochs: Some(2),
        train_weights: TrainWeights::default(),
        unbuilt: Vec::new(),
        validate_best: None,
        test_weights: None,
        evaluate_weights: None,
        destination: None,
        rate: Default::default(),
    }
}

/// A section of one CSV file in batches of four.
pub(crate) fn csv_section(path: &str) -> SectionSpec {
    let file = FileSpec { path: path.into(), checksum: None };
    SectionSpec {
        data: vec![SupplierSpec::Csv(CsvSpec { file, header: true, ..CsvSpec::default() })],
        provider: ProviderSpec { batch_size: 4, ..ProviderSpec::default() },
    }
}

pub(crate) fn linear(run: RunSpec) -> Linear {
    let state = |name: &str, role| StateSpec {
        name: name.into(),
        shape: vec![WIDTH as u64],
        role,
        init: Init::Constant(0.0),
        offset: 0,
    };
    let x = || slot("x", InputRole::Data, &[WIDTH as u64]);
    let y = || slot("y", InputRole::Target, &[1]);
    let control = || slot("control", InputRole::Control, &[2]);
    let output = || result("y", ResultRole::Output, &[Dim::batch(), Dim::ONE]);
    let loss = || result("loss", ResultRole::Metric, &[]);
    let plan = |inputs, results| Plan { inputs, results, arena: Vec::new(), launches: Vec::new() };
    let program = Program {
        compiler: "0.0".into(),
        symbols: SymbolTable::default(),
        state: vec![state("w", StateRole::Param), state("w:sgd.m", StateRole::Optimizer)],
        state_bytes: 128,
        train: Some(plan(vec![x(), control(), y()], vec![loss()])),
        test: Some(plan(vec![x(), y()], vec![loss(), output()])),
        infer: plan(vec![x()], vec![output()]),
        kernels: Vec::new(),
        layers: vec![LayerInfo { name: "y".into(), kind: "dense".into(), shape: "1".into(), params: 2, line: 3 }],
        run: RunSpec {
            inputs: vec![InputSpec { name: "x".into(), shape: vec![WIDTH as u64] }],
            outputs: vec![OutputSpec {
                name: "y".into(),
                aliases: Vec::new(),
                shape: vec![1],
                softmax: false,
                loss: Some("mean_squared_error".into()),
                loss_reads: Vec::new(),
                metrics: Vec::new(),
                blank_first: false,
            }],
            ..run
        },
    };
    Linear {
        program,
        states: vec![vec![0.0; WIDTH]; 2],
        results: Default::default(),
        rate: 0.02,
        after_step: Box::new(|_| {}),
    }
}

impl Engine for Linear {
    fn program(&self) -> &Program {
        &self.program
    }

    fn init_state(&mut self, seed: u64) {
        let key = rng::stream(crate::data::order::fold_seed(seed), 1, 0);
        self.states[0] = (0..WIDTH as u32).map(|i| rng::uniform(key, i) - 0.5).collect();
        self.states[1] = vec![0.0; WIDTH];
    }

    fn state(&self, index: usize) -> &[f32] {
        &self.states[index]
    }

    fn state_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.states[index]
    }

    fn run(&mut self, step: StepKind, batch: u64, inputs: &[&[f32]], seed: u32, updates: u32) -> Result<(), RunError> {
        let rows = usize::try_from(batch).expect("batch");
        let x = inputs[0];
        if x.len() != rows * WIDTH {
            return Err(Error::internal("wrong length"));
        }
        let predict = |w: &[f32]| -> Vec<f32> { x.chunks(WIDTH).map(|r| r[0] * w[0] + r[1] * w[1]).collect() };
        let found = predict(&self.states[0]);
        if let Some(y) = inputs.get(1) {
            let errors: Vec<f32> = found.iter().zip(*y).map(|(a, b)| a - b).collect();
            self.results[0] = vec![errors.iter().map(|e| e * e).sum::<f32>() / rows as f32];
            if step == StepKind::Train {
                let key = rng::stream(seed, 2, updates);
                for i in 0..WIDTH {
                    let gradient: f32 =
                        errors.iter().zip(x.chunks(WIDTH)).map(|(e, r)| 2.0 * e * r[i]).sum::<f32>() / rows as f32;
                    self.states[1][i] = 0.5 * self.states[1][i] - self.rate * gradient;
                    self.states[0][i] += self.states[1][i] + 1e-4 * rng::uniform(key, i as u32);
                }
                (self.after_step)(updates + 1);
            }
        }
        self.results[if step == StepKind::Infer { 0 } else { 1 }] = found;
        Ok(())
    }

    fn result(&self, _: StepKind, index: usize) -> &[f32] {
        &self.results[index]
    }

    fn arena_bytes(&self, _: StepKind, batch: u64) -> u64 {
        batch * 64
    }

    fn threads(&self) -> usize {
        1
    }

    fn cpu_name(&self) -> String {
        "test double".into()
    }

    fn diagnose(&mut self, _: StepKind, _: u64, _: &[&[f32]], _: u32, _: u32) -> Option<Blame> {
        Some(Blame::Launch { op: "matmul".into(), layer: Some(0) })
    }
}

/// A stream that can be read afterwards.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<u8>>>);

impl Recorder {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("lock").clone()).expect("UTF-8")
    }

    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
    }
}

impl std::io::Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A context around an engine, with recorded streams.
pub(crate) fn context<E>(engine: E, json: bool) -> (RunCx<E>, Recorder, Recorder) {
    let (out, err) = (Recorder::default(), Recorder::default());
    let console = Console::to(Box::new(out.clone()), Box::new(err.clone()), json);
    let about = About { stem: "model".into(), invocation: "./model.bin".into(), ..About::default() };
    (RunCx { engine, console, about, stop: Stop::default() }, out, err)
}
