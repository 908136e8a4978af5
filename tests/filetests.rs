//! Golden tests of the middle and back of the compiler, driven by text.
//!
//! Commands on IR text: `print` (parse, verify, print), `verify` (findings), `pass` (option `pass`, repeatable),
//! `kernel` (option `level`: none, simplify, full; the kernels and launches of the graph), `clif` (kernel IR to
//! cranelift IR, option `cpu`). Commands on Kurfiles: `lower` (option `step`; input shapes are in the Kurfile),
//! `compile` (all findings of the whole compilation).

mod support;

use std::time::Duration;

use kur_runtime::payload::CpuLevel;
use kurc::codegen::cpu::clif_text;
use kurc::diag::{Format, render};
use kurc::driver::{Options, Session, Stop};
use kurc::frontend::MemoryWorld;
use kurc::ir::graph::Graph;
use kurc::ir::text::kernel_parse::parse_kernels;
use kurc::ir::text::kernel_print::print_all;
use kurc::ir::text::{parse_graph, print_graph};
use kurc::ir::verify::{annotate, verify};
use kurc::lower::schedule::{KernelSet, StateLayout, schedule};
use kurc::model::types::{Clip, Optimizer, OptimizerKind};
use kurc::passes::pipeline::OptLevel;
use kurc::passes::{PassCx, find, run_pass};
use kurc::shapes::draw::{dot, svg};
use kurc::shapes::{table, table_json};
use support::Case;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let ir: &[(&str, support::Run)] =
        &[("print", print), ("verify", findings), ("pass", pass), ("kernel", kernel), ("clif", clif)];
    let kurfiles: &[(&str, support::Run)] = &[("lower", lower), ("compile", compile)];
    let mut trials = Vec::new();
    for folder in ["passes", "fuse", "verify", "clif"] {
        trials.extend(support::trials(folder, &["ir"], ir));
    }
    trials.extend(support::trials("lower", &["yml"], kurfiles));
    trials.extend(support::trials("shapes", &["yml"], &[("shapes", shapes)]));
    libtest_mimic::run(&arguments, trials).exit();
}

fn graph(case: &Case) -> Result<Graph, String> {
    parse_graph(&case.input).map_err(|e| format!("{e}\n"))
}

fn print(case: &Case) -> String {
    let g = match graph(case) {
        Ok(g) => g,
        Err(e) => return e,
    };
    let text = print_graph(&g);
    match parse_graph(&text) {
        Ok(again) => assert_eq!(print_graph(&again), text, "printing what was parsed gives other bytes"),
        Err(e) => panic!("{e}\n{text}"),
    }
    text
}

fn findings(case: &Case) -> String {
    match graph(case) {
        Err(e) => e,
        Ok(g) => match verify(&g) {
            f if f.is_empty() => "valid\n".to_owned(),
            f => annotate(&g, &f),
        },
    }
}

fn optimizer(case: &Case) -> Optimizer {
    let kind = match case.option("optimizer") {
        Some("sgd") => OptimizerKind::Sgd { momentum: 0.0, nesterov: false },
        Some("nesterov") => OptimizerKind::Sgd { momentum: 0.9, nesterov: true },
        _ => Optimizer::default().kind,
    };
    let clip = match case.option("clip") {
        Some("norm") => Clip::Norm(2.0),
        Some("abs") => Clip::Abs(0.5),
        _ => Clip::None,
    };
    Optimizer { kind, learning_rate: 0.125, clip, ..Optimizer::default() }
}

fn pass(case: &Case) -> String {
    let mut g = match graph(case) {
        Ok(g) => g,
        Err(e) => return e,
    };
    let cx = PassCx { optimizer: Some(optimizer(case)) };
    for name in case.all("pass") {
        let Some(pass) = find(name) else { return format!("no pass is called `{name}`\n") };
        if let Err(e) = run_pass(pass, &cx, &mut g, &|| Duration::ZERO) {
            return format!("{e}\n{}", e.dump);
        }
    }
    print_graph(&g)
}

fn kernel(case: &Case) -> String {
    let g = match graph(case) {
        Ok(g) => g,
        Err(e) => return e,
    };
    let level = match case.option("level") {
        Some("none") => OptLevel::None,
        Some("simplify") => OptLevel::Simplify,
        _ => OptLevel::Full,
    };
    let offsets = (0..g.states.len() as u64).map(|i| i * 1024).collect();
    let mut set = KernelSet::default();
    let plan = schedule(&g, level, &StateLayout { offsets }, &mut set);
    for k in &set.kernels {
        if let Err(e) = kurc::ir::verify_kernel::verify(k) {
            panic!("{e:?}\n{k}");
        }
    }
    let calls: Vec<String> = plan
        .launches
        .iter()
        .map(|l| match &l.call {
            kur_runtime::plan::Call::Kernel { kernel, .. } => {
                format!("// launch @{}\n", set.kernels[*kernel as usize].name)
            }
            kur_runtime::plan::Call::Lib(call) => format!("// launch library {}\n", kur_runtime::cpu::name(call)),
        })
        .collect();
    calls.concat() + &print_all(&set.kernels)
}

fn clif(case: &Case) -> String {
    let kernels = match parse_kernels(&case.input) {
        Ok(k) => k,
        Err(e) => return format!("{e}\n"),
    };
    let level = if case.option("cpu") == Some("x86-64-v3") { CpuLevel::V3 } else { CpuLevel::Baseline };
    kernels.iter().map(|k| clif_text(k, level).unwrap_or_else(|e| panic!("{e}"))).collect()
}

/// Compiles a Kurfile and gives the findings, and what `then` says of the build.
fn build(case: &Case, then: impl Fn(&kurc::driver::Build) -> String) -> String {
    let world = MemoryWorld::with_file("Kurfile.yml", &case.input);
    let mut session = Session::new(&world);
    let options = Options { data: case.option("data").map(str::to_owned), ..Options::default() };
    let result = session.compile("Kurfile.yml", &options);
    let mut text: Vec<String> =
        session.sink.sorted().iter().map(|d| render(d, &session.sources, Format::Full { color: false })).collect();
    match result {
        Ok(b) => text.push(then(&b)),
        Err(Stop::Reported(_)) => {}
        Err(Stop::Data(e)) => text.push(e.render(false)),
        Err(Stop::Internal { stage, message, dump }) => panic!("{stage}: {message}\n{dump}"),
    }
    text.retain(|t| !t.is_empty());
    text.join("\n")
}

/// Findings of a check and the table of layers.
fn shapes(case: &Case) -> String {
    let world = MemoryWorld::with_file("Kurfile.yml", &case.input);
    let mut session = Session::new(&world);
    let result = session.check("Kurfile.yml", &Options::default());
    let mut text: Vec<String> =
        session.sink.sorted().iter().map(|d| render(d, &session.sources, Format::Full { color: false })).collect();
    match result {
        Ok(c) if case.option("draw") == Some("dot") => text.push(dot(&c.kurfile, &c.shapes)),
        Ok(c) if case.option("draw") == Some("svg") => text.push(svg(&c.kurfile, &c.shapes)),
        Ok(c) if case.option("json").is_some() => text.push(table_json(&c.kurfile, &c.shapes, &session.sources)),
        Ok(c) => text.push(table(&c.kurfile, &c.shapes)),
        Err(Stop::Reported(_)) => {}
        Err(Stop::Data(e)) => text.push(e.render(false)),
        Err(Stop::Internal { stage, message, dump }) => panic!("{stage}: {message}\n{dump}"),
    }
    text.join("\n")
}

fn lower(case: &Case) -> String {
    let want = case.option("step").unwrap_or("train");
    build(case, |b| {
        let step = b.steps.iter().find(|s| s.mode.name() == want);
        step.map_or_else(|| format!("no step `{want}`\n"), |s| print_graph(&s.lowered))
    })
}

fn compile(case: &Case) -> String {
    build(case, |b| format!("compiles: {} kernels\n", b.kernels.len()))
}
