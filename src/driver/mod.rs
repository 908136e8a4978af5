//! The pipeline as a visible list of stage calls: Kurfile → value tree → model → graphs → plans and kernels → code.
//!
//! Nothing here prints; findings go to the session's sink, broken invariants come back as [`Stop::Internal`].

mod check;
mod emit;
mod program;
mod report;

pub use check::Checked;
pub use emit::{STAGES, Stage};

use std::time::{Duration, Instant};

use kur_runtime::payload::{CodeVariant, CpuLevel, Payload};
use kur_runtime::plan::Program;

use crate::codegen::cpu::compile_variant;
use crate::diag::{Reported, Severity, Sink, SourceMap};
use crate::frontend::World;
use crate::ir::graph::Graph;
use crate::ir::kernel::Kernel;
use crate::lower::model::{Lowered, Mode, UNSOUND, lower};
use crate::lower::schedule::{KernelSet, StateLayout, schedule};
use crate::model::types::{DataShape, Kurfile, Need};
use crate::passes::pipeline::{self, OptLevel};
use crate::passes::{PassCx, PassError};
use crate::shapes::{Shapes, Unseen, infer};

/// What a compilation is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much is optimised.
    pub level: OptLevel,
    /// Code variants to make.
    pub targets: Vec<CpuLevel>,
    /// A CSV file to learn shapes from instead of the Kurfile's data.
    pub data: Option<String>,
    /// A CSV file that is only tested on; shapes are learned from it too, unless the Kurfile's own data has more classes.
    pub tested: Option<String>,
    /// `KEY=VALUE` overrides of the Kurfile.
    pub set: Vec<String>,
    /// Passes after which the graph is printed.
    pub print_after: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            level: OptLevel::Full,
            targets: vec![CpuLevel::V3, CpuLevel::Baseline],
            data: None,
            tested: None,
            set: Vec::new(),
            print_after: Vec::new(),
        }
    }
}

/// Why a compilation gave nothing.
#[derive(Debug)]
pub enum Stop {
    /// The Kurfile is wrong; the sink says how.
    Reported(Reported),
    /// The data that shapes were to be learned from is wrong.
    Data(kur_runtime::error::Error),
    /// A broken invariant: a bug of kurc.
    Internal {
        /// The stage or pass.
        stage: String,
        /// What went wrong.
        message: String,
        /// Text of the IR, if there is one.
        dump: String,
    },
}

impl From<Reported> for Stop {
    fn from(r: Reported) -> Stop {
        Stop::Reported(r)
    }
}

impl From<PassError> for Stop {
    fn from(e: PassError) -> Stop {
        Stop::Internal { stage: e.pass.to_owned(), message: e.message, dump: e.dump }
    }
}

/// A step before and after the passes.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which step.
    pub mode: Mode,
    /// As lowered from the Kurfile.
    pub lowered: Graph,
    /// After all passes.
    pub graph: Graph,
}

/// Lowered steps in the order of the program.
type Steps = Vec<(Mode, Graph)>;

/// Everything a compilation makes, stage by stage.
#[derive(Clone, Debug)]
pub struct Build {
    /// The typed Kurfile.
    pub kurfile: Kurfile,
    /// The steps: train and test when there is a loss, then infer.
    pub steps: Vec<Step>,
    /// Distinct kernels of all steps.
    pub kernels: Vec<Kernel>,
    /// The program for the runtime.
    pub program: Program,
}

impl Build {
    /// The step that stands for the program in the payload and under `--emit-ir`: train, or infer without a loss.
    #[must_use]
    pub fn main_step(&self) -> Option<&Step> {
        self.steps.first()
    }

    /// Machine code of all kernels for one level.
    ///
    /// # Errors
    /// The code generator failed (a bug).
    pub fn code(&self, level: CpuLevel) -> Result<CodeVariant, Stop> {
        compile_variant(&self.kernels, level).map_err(|e| Stop::Internal {
            stage: "codegen".to_owned(),
            message: e.to_string(),
            dump: String::new(),
        })
    }

    /// The payload of an executable.
    ///
    /// # Errors
    /// As [`Build::code`].
    pub fn payload(&self, targets: &[CpuLevel]) -> Result<Payload, Stop> {
        let code = targets.iter().map(|t| self.code(*t)).collect::<Result<_, _>>()?;
        let ir = self.main_step().map_or(String::new(), |s| crate::ir::text::print_graph(&s.graph));
        Ok(Payload { program: self.program.clone(), kurfile: self.kurfile.resolved.clone(), ir, code })
    }
}

/// Time of one pass over one step.
#[derive(Clone, Debug)]
pub struct Timing {
    /// `train`, `test` or `infer`; empty for stages that are not per step.
    pub step: &'static str,
    /// Pass or stage.
    pub name: &'static str,
    /// How long it took.
    pub time: Duration,
}

/// One compilation: where files come from and where findings go.
pub struct Session<'w> {
    /// The outside.
    pub world: &'w dyn World,
    /// Files read so far.
    pub sources: SourceMap,
    /// Findings so far.
    pub sink: Sink,
    /// Times of stages and passes, in the order they ran.
    pub timings: Vec<Timing>,
    /// Graphs printed after passes (`--print-after`).
    pub printed: Vec<(String, String)>,
}

impl<'w> Session<'w> {
    /// A session without any file.
    #[must_use]
    pub fn new(world: &'w dyn World) -> Session<'w> {
        Session {
            world,
            sources: SourceMap::default(),
            sink: Sink::default(),
            timings: Vec::new(),
            printed: Vec::new(),
        }
    }

    fn time<T>(&mut self, name: &'static str, f: impl FnOnce(&mut Self) -> T) -> T {
        let start = Instant::now();
        let out = f(self);
        self.timings.push(Timing { step: "", name, time: start.elapsed() });
        out
    }

    /// Text to typed Kurfile.
    ///
    /// # Errors
    /// Everything that is wrong with the Kurfile as such is in the sink.
    pub fn load(&mut self, path: &str, set: &[String]) -> Result<Kurfile, Stop> {
        self.time("load", |s| crate::model::load(s.world, path, set, &mut s.sources, &mut s.sink)).map_err(Stop::from)
    }

    /// The whole pipeline up to the program; machine code is made by [`Build::code`].
    ///
    /// # Errors
    /// See [`Stop`].
    pub fn compile(&mut self, path: &str, options: &Options) -> Result<Build, Stop> {
        let kurfile = self.load(path, &options.set)?;
        for u in &kurfile.unbuilt {
            let severity = if u.need == Need::Build { Severity::Error } else { Severity::Warning };
            self.sink.push(u.finding(severity));
        }
        self.sink.check()?;
        self.compile_model(kurfile, options)
    }

    /// As [`Session::compile`], from a typed Kurfile.
    ///
    /// # Errors
    /// See [`Stop`].
    pub fn compile_model(&mut self, kurfile: Kurfile, options: &Options) -> Result<Build, Stop> {
        let (steps, shapes, infer) = self.lower_all(&kurfile, options)?;
        let mut done = Vec::new();
        for (mode, lowered) in steps {
            let graph = self.optimise(mode, lowered.clone(), &kurfile, options)?;
            done.push(Step { mode, lowered, graph });
        }
        let mut kernels = KernelSet::default();
        let states = program::states(&done)?;
        let layout = StateLayout { offsets: states.iter().map(|s| s.offset).collect() };
        let plans: Vec<_> = self.time("schedule", |_| {
            done.iter().map(|s| (s.mode, schedule(&s.graph, options.level, &layout, &mut kernels))).collect()
        });
        let symbols = program::symbols(&done)?;
        let program =
            program::assemble(&kurfile, &shapes, &infer, states, symbols, plans, &kernels.kernels, &self.sources);
        Ok(Build { kurfile, steps: done, kernels: kernels.kernels, program })
    }

    /// All steps as graphs, with the shapes and the inference step.
    fn lower_all(&mut self, kurfile: &Kurfile, options: &Options) -> Result<(Steps, Shapes, Lowered), Stop> {
        let start = Instant::now();
        let file = program::shape_file(kurfile, options);
        let check::Look { mut inputs, trouble, .. } = check::look(kurfile, file);
        if inputs.is_empty() && file.is_none() {
            inputs.extend(program::fixed_shapes(kurfile));
        }
        let mut findings = Sink::default();
        let shapes = infer(kurfile, &inputs, Unseen::Error, &self.sources, &mut findings);
        let mut hidden = false;
        for d in findings.sorted() {
            // Why there is no data is a better message than that there is no shape.
            if d.id == "unknown-input-shape" && trouble.is_some() {
                hidden = true;
            } else {
                self.sink.push(d);
            }
        }
        let seen = trouble.is_none();
        match trouble {
            Some(e) if hidden => return Err(Stop::Data(e)),
            _ if findings.has_errors() => self.sink.check()?,
            Some(e) if file.is_some() || e.id() != check::MISSING_FILE => return Err(Stop::Data(e)),
            // The shapes are known without the data; the file may turn up at run time.
            Some(e) => self.sink.push(check::not_seen(&e)),
            None => {}
        }
        let lowered = self.lower_step(kurfile, Mode::Infer, &shapes, &[])?;
        let found = if seen { program::probe(kurfile, Some(&lowered), file) } else { Ok(None) };
        let data = found.map_err(Stop::Data)?.unwrap_or_default().into_iter().map(|(_, s)| s).collect();
        let steps = self.lower_steps(kurfile, &shapes, &lowered, data, start)?;
        Ok((steps, shapes, lowered))
    }

    /// One step. Where lowering finds a shape that was not inferred, kurc is wrong and not the Kurfile.
    fn lower_step(
        &mut self,
        kurfile: &Kurfile,
        mode: Mode,
        shapes: &Shapes,
        data: &[DataShape],
    ) -> Result<Lowered, Stop> {
        let mut findings = Sink::default();
        let lowered = lower(kurfile, mode, shapes, data, &self.sources, &mut findings);
        for d in findings.sorted() {
            if d.id == UNSOUND {
                let place = d.primary.as_ref().map_or(String::new(), |(span, _)| {
                    let (line, _) = self.sources.line_col(*span);
                    format!(" (line {line} of the Kurfile)")
                });
                let message = format!("{}{place}", d.message);
                return Err(Stop::Internal { stage: "lower".to_owned(), message, dump: String::new() });
            }
            self.sink.push(d);
        }
        Ok(lowered?)
    }

    /// The remaining steps, once the inference step is known to be sound.
    fn lower_steps(
        &mut self,
        kurfile: &Kurfile,
        shapes: &Shapes,
        infer: &Lowered,
        data: Vec<DataShape>,
        start: Instant,
    ) -> Result<Steps, Stop> {
        let mut steps = Vec::new();
        let trains = !kurfile.losses.is_empty();
        let wants_loss = trains || kurfile.train.is_some() || kurfile.test.is_some();
        if wants_loss {
            for mode in [Mode::Train, Mode::Test] {
                let l = self.lower_step(kurfile, mode, shapes, &data)?;
                steps.push((mode, l.graph));
            }
        }
        steps.push((Mode::Infer, infer.graph.clone()));
        self.sink.check()?;
        self.timings.push(Timing { step: "", name: "lower", time: start.elapsed() });
        Ok(steps)
    }

    fn optimise(&mut self, mode: Mode, mut graph: Graph, kurfile: &Kurfile, options: &Options) -> Result<Graph, Stop> {
        let optimizer = (mode == Mode::Train).then(|| program::optimizer(kurfile));
        let cx = PassCx { optimizer };
        let start = Instant::now();
        let (timings, printed) = (&mut self.timings, &mut self.printed);
        pipeline::run(&cx, &mut graph, options.level, &|| start.elapsed(), &mut |pass, ran, g| {
            timings.push(Timing { step: mode.name(), name: ran.name, time: ran.time });
            if options.print_after.iter().any(|p| p == pass.name) {
                printed.push((format!("{} after {}", mode.name(), pass.name), crate::ir::text::print_graph(g)));
            }
        })?;
        Ok(graph)
    }
}
