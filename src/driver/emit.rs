//! The emit ladder: the text of every stage of a build.

use std::fmt::Write as _;

use kur_runtime::dim::{Dim, SymbolTable};
use kur_runtime::payload::CpuLevel;
use kur_runtime::plan::{Call, LibCall, Place, Plan, Program};

use super::{Build, Stop};
use crate::codegen::cpu;
use crate::ir::text::{kernel_print::print_all, print_graph};
use crate::model::dump;

/// A stage of the emit ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The evaluated Kurfile, YAML.
    Value,
    /// The typed Kurfile.
    Model,
    /// Graph IR of every step as lowered.
    Graph,
    /// Graph IR of every step after the passes.
    GraphOpt,
    /// Kernel IR.
    Kernel,
    /// Cranelift IR.
    Clif,
    /// Machine code, disassembled.
    Asm,
    /// Launches, buffers and memory.
    Plan,
}

/// Names of all stages, in pipeline order.
pub const STAGES: &[(&str, Stage)] = &[
    ("value", Stage::Value),
    ("model", Stage::Model),
    ("graph", Stage::Graph),
    ("graph-opt", Stage::GraphOpt),
    ("kernel", Stage::Kernel),
    ("clif", Stage::Clif),
    ("asm", Stage::Asm),
    ("plan", Stage::Plan),
];

impl Stage {
    /// Name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        STAGES.iter().find(|(_, s)| *s == self).map_or("?", |(n, _)| n)
    }
}

impl Build {
    /// The text of a stage. Stages that depend on the processor are shown for one level.
    ///
    /// # Errors
    /// The code generator failed (a bug).
    pub fn emit(&self, stage: Stage, level: CpuLevel) -> Result<String, Stop> {
        let internal = |e: String| Stop::Internal { stage: stage.name().to_owned(), message: e, dump: String::new() };
        let join = |parts: Vec<String>| parts.join("\n");
        Ok(match stage {
            Stage::Value => self.kurfile.resolved.clone(),
            Stage::Model => dump(&self.kurfile),
            Stage::Graph => join(self.steps.iter().map(|s| print_graph(&s.lowered)).collect()),
            Stage::GraphOpt => join(self.steps.iter().map(|s| print_graph(&s.graph)).collect()),
            Stage::Kernel => print_all(&self.kernels),
            Stage::Clif => join(
                self.kernels
                    .iter()
                    .map(|k| cpu::clif_text(k, level).map_err(|e| internal(e.to_string())))
                    .collect::<Result<_, _>>()?,
            ),
            Stage::Asm => join(
                self.kernels
                    .iter()
                    .map(|k| cpu::asm_text(k, level).map_err(|e| internal(e.to_string())))
                    .collect::<Result<_, _>>()?,
            ),
            Stage::Plan => plan_text(&self.program),
        })
    }
}

/// The plans of a program as text.
fn plan_text(p: &Program) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "state {} bytes", p.state_bytes);
    for s in &p.state {
        let _ = writeln!(out, "  {:>8} {:?} {:?} {}", s.offset, s.role, s.shape, s.name);
    }
    for (name, plan) in [("train", p.train.as_ref()), ("test", p.test.as_ref()), ("infer", Some(&p.infer))] {
        if let Some(plan) = plan {
            step_text(&mut out, name, plan, p);
        }
    }
    out
}

fn step_text(out: &mut String, name: &str, plan: &Plan, p: &Program) {
    let syms = &p.symbols;
    let dims = |v: &[Dim]| v.iter().map(|d| d.display(syms).to_string()).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "\nstep {name}");
    for c in &plan.arena {
        let _ = writeln!(out, "  arena {} x {} bytes", c.class.display(syms), c.unit_bytes);
    }
    for (i, s) in plan.inputs.iter().enumerate() {
        let _ = writeln!(out, "  input {i} {:?} {} [{}]", s.role, s.name, dims(&s.shape));
    }
    for (i, l) in plan.launches.iter().enumerate() {
        let places: Vec<String> = l.bufs.iter().map(|b| place_text(b, plan, syms)).collect();
        let layer = l.layer.and_then(|l| p.layers.get(l as usize)).map_or("", |l| l.name.as_str());
        let _ = write!(out, "  {i:>4} {}", call_text(&l.call, p));
        let _ = writeln!(out, " ({}){}{layer}", places.join(", "), if layer.is_empty() { "" } else { " @" });
    }
    for r in &plan.results {
        let _ = writeln!(out, "  {:?} {} [{}] = {}", r.role, r.name, dims(&r.shape), place_text(&r.place, plan, syms));
    }
}

fn place_text(p: &Place, plan: &Plan, syms: &SymbolTable) -> String {
    match p {
        Place::Arena { class, unit_offset } => {
            let class = plan.arena.get(*class as usize).map_or(Dim::ONE, |c| c.class);
            format!("arena[{}]+{unit_offset}", class.display(syms))
        }
        Place::State { offset } => format!("state+{offset}"),
        Place::Input { index } => format!("input{index}"),
    }
}

fn call_text(call: &Call, p: &Program) -> String {
    let d = |d: &Dim| d.display(&p.symbols).to_string();
    match call {
        Call::Kernel { kernel, extent, grain, cost } => {
            let name = p.kernels.get(*kernel as usize).map_or("?", |k| k.name.as_str());
            format!("kernel @{name} extent={} grain={grain} cost={}", d(extent), d(cost))
        }
        Call::Lib(call) => lib_text(call, p),
    }
}

fn lib_text(call: &LibCall, p: &Program) -> String {
    let d = |d: &Dim| d.display(&p.symbols).to_string();
    match call {
        LibCall::Biased { call, relu } => {
            format!("{} bias{}", lib_text(call, p), if *relu { " relu" } else { "" })
        }
        LibCall::MatMul { batch, m, n, k, ta, tb } => {
            let t = |on: &bool, name: &'static str| if *on { name } else { "" };
            format!("matmul batch={} m={} n={} k={}{}{}", d(batch), d(m), d(n), d(k), t(ta, " ta"), t(tb, " tb"))
        }
        LibCall::Softmax { rows, cols, log } => {
            format!("{} rows={} cols={}", if *log { "log_softmax" } else { "softmax" }, d(rows), d(cols))
        }
        LibCall::ArgMax { rows, cols } => format!("argmax rows={} cols={}", d(rows), d(cols)),
        LibCall::Positions { len } => format!("positions len={}", d(len)),
        LibCall::Concat { outer, inner, parts } => {
            let parts: Vec<String> = parts.iter().map(d).collect();
            format!("concat outer={} parts=[{}] inner={}", d(outer), parts.join(", "), d(inner))
        }
        LibCall::Slice { outer, inner, size, start, len } | LibCall::Pad { outer, inner, size, start, len } => {
            let start: Vec<String> = start.iter().map(d).collect();
            let (name, start) = (kur_runtime::cpu::name(call), start.join(" + "));
            let start = if start.is_empty() { "0" } else { &start };
            format!("{name} outer={} size={} start={start} len={} inner={}", d(outer), d(size), d(len), d(inner))
        }
        LibCall::Gather { count, rows, width } | LibCall::GatherGrad { count, rows, width } => {
            format!("{} count={} rows={rows} width={width}", kur_runtime::cpu::name(call), d(count))
        }
        _ => kur_runtime::cpu::name(call).to_owned(),
    }
}
