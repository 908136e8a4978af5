//! IR text: what the parsers take is printed and read back; what the verifiers pass goes through all passes, the
//! scheduler and the printers of kernels.

use std::sync::OnceLock;
use std::time::Duration;

use kurc::ir::text::kernel_parse::parse_kernels;
use kurc::ir::text::kernel_print::print_all;
use kurc::ir::text::{parse_graphs, print_graph};
use kurc::ir::verify::{annotate, verify};
use kurc::ir::verify_kernel;
use kurc::lower::schedule::{KernelSet, StateLayout, schedule};
use kurc::model::types::{Clip, Optimizer, OptimizerKind};
use kurc::passes::pipeline::{OptLevel, SIMPLIFY, TRAIN};
use kurc::passes::{PassCx, REGISTRY, find, run_pass};

use crate::harness::{bounded, run};
use crate::support;
use crate::tape::Tape;

fn corpus(kernels: bool) -> &'static [String] {
    static GRAPHS: OnceLock<Vec<String>> = OnceLock::new();
    static KERNELS: OnceLock<Vec<String>> = OnceLock::new();
    let place = if kernels { &KERNELS } else { &GRAPHS };
    place.get_or_init(|| {
        let folders: &[&str] = if kernels { &["clif"] } else { &["passes", "verify", "fuse"] };
        let inputs = folders.iter().flat_map(|f| support::inputs(f, &["ir"]).unwrap_or_default());
        let mut all: Vec<String> = inputs.map(|t| t.trim_start().to_owned()).collect();
        if kernels {
            // The kernels that the graphs become are the better part of the corpus.
            for text in corpus(false) {
                for g in parse_graphs(text).unwrap_or_default().iter().filter(|g| verify(g).is_empty()) {
                    let mut set = KernelSet::default();
                    let _ = schedule(g, OptLevel::Full, &StateLayout::default(), &mut set);
                    all.extend(set.kernels.iter().map(|k| print_all(std::slice::from_ref(k))));
                }
            }
        }
        assert!(all.len() > 20, "the test inputs are gone");
        all
    })
}

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "4",
    "7",
    "65535",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999",
];

const WORDS: &[&str] = &[
    "f32",
    "u32",
    "n",
    "n*4",
    "n*n",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "%0",
    "%1",
    "%2",
    "=",
    ",",
    ":",
    "data.\"x\"",
    "state.\"w\"",
    "\"x\"",
    "\"loss\"",
    "\"\"",
    "add",
    "mul",
    "sub",
    "div",
    "neg",
    "max",
    "select",
    "exp",
    "matmul",
    "reshape",
    "broadcast",
    "transpose",
    "reduce_add",
    "reduce",
    "conv",
    "pool",
    "softmax",
    "argmax",
    "positions",
    "concat",
    "slice",
    "pad",
    "gather",
    "gather_grad",
    "gru",
    "gru_after",
    "lstm",
    "rnn_grad",
    "rnn_grad_weight",
    "rnn_grad_bias",
    "part",
    "part_grad",
    "scan",
    "shift",
    "ctc",
    "ctc_grad",
    "lengths",
    "inner_sigmoid",
    "outer_relu",
    "part=1",
    "parts=2",
    "parts=0",
    "last",
    "reverse",
    "window=[0]",
    "axis=0",
    "start=[1]",
    "start=[]",
    "random",
    "const",
    "size",
    "control",
    "perm=[1, 0]",
    "axes=[0]",
    "axes=[5]",
    "ta",
    "tb",
    "key=1",
    "stride=[1, 1]",
    "pad=[0]",
    "output=[2]",
    "0.5",
    "-1.0",
    "nan",
    "inf",
    "metric",
    "output",
    "update",
    "gradient",
    "input",
    "state",
    "param",
    "running",
    "layer",
    "line",
    "@0",
    "@g",
    "symbols(n)",
    "for i in n parallel",
    "load",
    "store",
    "yield",
    "vector",
    "serial",
    "b0",
    "in",
    "out",
    "inout",
];

/// A test input with some of its words changed.
fn changed(tape: &mut Tape<'_>, corpus: &[String]) -> String {
    let text = tape.pick(corpus);
    // Words, numbers and single signs; what lies between them is kept.
    let mut parts: Vec<String> = Vec::new();
    for c in text.chars() {
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        match parts.last_mut() {
            Some(last) if word(c) && last.chars().next_back().is_some_and(word) => last.push(c),
            _ => parts.push(c.to_string()),
        }
    }
    for _ in 0..=tape.below(6) {
        let at = tape.below(parts.len());
        match tape.below(6) {
            0 => {
                // Numbers become other numbers, names other names: that keeps the text readable.
                let digits = parts[at].chars().next().is_some_and(|c| c.is_ascii_digit());
                parts[at] = tape.word(if digits { NUMBERS } else { WORDS }).to_owned();
            }
            1 => {
                let numbers: Vec<usize> =
                    (0..parts.len()).filter(|i| parts[*i].chars().next().is_some_and(|c| c.is_ascii_digit())).collect();
                if !numbers.is_empty() {
                    let at = *tape.pick(&numbers);
                    parts[at] = tape.word(NUMBERS).to_owned();
                }
            }
            2 => {
                let other = parts[tape.below(parts.len())].clone();
                parts[at] = other;
            }
            3 => parts.insert(at, format!(" {} ", tape.word(WORDS))),
            4 => {
                parts.remove(at);
                if parts.is_empty() {
                    parts.push("graph".to_owned());
                }
            }
            _ => {
                // A line again: repeated declarations, instructions and results.
                let text = parts.concat();
                let lines: Vec<&str> = text.lines().collect();
                if lines.is_empty() {
                    continue;
                }
                let (from, to) = (tape.below(lines.len()), tape.below(lines.len()));
                let mut moved = lines.clone();
                moved.insert(to, lines[from]);
                parts = moved.join("\n").chars().map(String::from).collect();
            }
        }
    }
    parts.concat()
}

fn graph_text(tape: &mut Tape<'_>) -> String {
    changed(tape, corpus(false))
}

fn kernel_text(tape: &mut Tape<'_>) -> String {
    changed(tape, corpus(true))
}

#[expect(clippy::ptr_arg, reason = "the harness hands out what it made")]
fn graphs_hold(text: &String) {
    let Ok(graphs) = bounded("parsing", || parse_graphs(text)) else { return };
    let kind = OptimizerKind::Sgd { momentum: 0.9, nesterov: true };
    let optimizers = [
        Optimizer::default(),
        Optimizer { kind, learning_rate: 0.1, decay: 0.5, clip: Clip::Norm(2.0), ..Optimizer::default() },
    ];
    for g in graphs {
        let printed = print_graph(&g);
        match parse_graphs(&printed) {
            Ok(again) => assert_eq!(again.iter().map(print_graph).collect::<String>(), printed, "printed otherwise"),
            Err(e) => panic!("what was printed is not read: {e}\n{printed}"),
        }
        let findings = bounded("verifying", || verify(&g));
        if !findings.is_empty() {
            assert!(annotate(&g, &findings).contains("error"));
            continue;
        }
        bounded("passes and schedules", || {
            for pass in REGISTRY {
                let cx = PassCx { optimizer: Some(optimizers[0].clone()) };
                // A pass may refuse a graph, but not with an invalid result.
                if let Err(e) = run_pass(pass, &cx, &mut g.clone(), &|| Duration::ZERO) {
                    assert!(!e.message.contains("invalid graph"), "{e}\n{}", e.dump);
                }
            }
            for optimizer in &optimizers {
                let cx = PassCx { optimizer: Some(optimizer.clone()) };
                let mut out = g.clone();
                let all = TRAIN.iter().chain(SIMPLIFY).filter_map(|name| find(name));
                let done: Result<Vec<_>, _> = all.map(|p| run_pass(p, &cx, &mut out, &|| Duration::ZERO)).collect();
                let out = if done.is_ok() { out } else { g.clone() };
                for level in [OptLevel::None, OptLevel::Full] {
                    let mut kernels = KernelSet::default();
                    let _ = schedule(&out, level, &StateLayout::default(), &mut kernels);
                    for k in &kernels.kernels {
                        if let Err(e) = verify_kernel::verify(k) {
                            panic!("{e}\n{k}\n{}", print_graph(&out));
                        }
                    }
                }
            }
        });
    }
}

#[expect(clippy::ptr_arg, reason = "the harness hands out what it made")]
fn kernels_hold(text: &String) {
    let Ok(kernels) = bounded("parsing", || parse_kernels(text)) else { return };
    let printed = print_all(&kernels);
    match parse_kernels(&printed) {
        Ok(again) => assert_eq!(print_all(&again), printed, "printed otherwise"),
        Err(e) => panic!("what was printed is not read: {e}\n{printed}"),
    }
    for k in &kernels {
        let _ = bounded("verifying", || verify_kernel::verify(k).map_err(|e| e.to_string()));
    }
}

#[test]
fn ir_graphs() {
    run("ir_graphs", 3_000, graph_text, graphs_hold);
}

#[test]
fn ir_kernels() {
    run("ir_kernels", 6_000, kernel_text, kernels_hold);
}
