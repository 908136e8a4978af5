//! `info`: the model and this executable, for people or as one JSON object.

use serde_json::{Value, json};

use crate::error::count;
use crate::exec::StepKind;
use crate::plan::{Call, Plan};
use crate::train::cx::RunCx;
use crate::train::engine::Engine;
use crate::train::tables::{bytes, layers, thousands};

/// Prints the description.
pub(super) fn run<E: Engine>(cx: &mut RunCx<E>) {
    if cx.console.is_json() {
        let object = as_json(cx);
        let fields: Vec<(String, Value)> = object.as_object().cloned().unwrap_or_default().into_iter().collect();
        cx.console.event("info", fields);
    } else {
        let text = as_text(cx);
        cx.console.results(&text);
    }
}

/// The steps that the program has, with the batch size that memory is told for.
fn steps<E: Engine>(cx: &RunCx<E>) -> Vec<(&'static str, StepKind, &Plan)> {
    let program = cx.engine.program();
    let all = [
        ("train", StepKind::Train, program.train.as_ref()),
        ("test", StepKind::Test, program.test.as_ref()),
        ("infer", StepKind::Infer, Some(&program.infer)),
    ];
    all.into_iter().filter_map(|(n, k, p)| p.map(|p| (n, k, p))).collect()
}

fn default_batch<E: Engine>(cx: &RunCx<E>) -> u64 {
    let run = &cx.engine.program().run;
    run.train.as_ref().or(run.evaluate.as_ref()).map_or(32, |s| s.provider.batch_size)
}

fn library_calls(plan: &Plan) -> usize {
    plan.launches.iter().filter(|l| matches!(l.call, Call::Lib(_))).count()
}

fn shape(dims: &[u64]) -> String {
    if dims.is_empty() {
        return "one number".to_owned();
    }
    dims.iter().map(u64::to_string).collect::<Vec<_>>().join("x")
}

fn as_text<E: Engine>(cx: &RunCx<E>) -> String {
    let program = cx.engine.program();
    let batch = default_batch(cx);
    let mut text = format!("model `{}`\n\n{}\n", program.run.name, layers(program));
    for input in &program.run.inputs {
        text.push_str(&format!("input     {}: {}\n", input.name, shape(&input.shape)));
    }
    for output in &program.run.outputs {
        let loss = output.loss.as_ref().map_or_else(String::new, |l| format!(", trained by {l}"));
        text.push_str(&format!("output    {}: {}{loss}\n", output.name, shape(&output.shape)));
    }
    text.push_str(&format!("state     {}\n", bytes(program.state_bytes)));
    for (name, kind, plan) in steps(cx) {
        text.push_str(&format!(
            "{:<9} {} of arena at batch size {batch}, {} ({})\n",
            format!("{name}:"),
            bytes(cx.engine.arena_bytes(kind, batch)),
            count(plan.launches.len() as u64, "launch"),
            count(library_calls(plan) as u64, "library call"),
        ));
    }
    text.push_str(&format!("kernels   {}\n", thousands(program.kernels.len() as u64)));
    if let Some(code) = &cx.about.code {
        text.push_str(&format!("code      {code}\n"));
    }
    text.push_str(&format!("device    {}, {}\n", cx.engine.cpu_name(), count(cx.engine.threads() as u64, "thread")));
    text.push_str(&format!("compiler  kurc {}\n", program.compiler));
    if let Some(hash) = &cx.about.hash {
        text.push_str(&format!("hash      {hash}\n"));
    }
    text
}

fn as_json<E: Engine>(cx: &RunCx<E>) -> Value {
    let program = cx.engine.program();
    let batch = default_batch(cx);
    let layers: Vec<Value> = program
        .layers
        .iter()
        .map(|l| json!({"name": l.name, "type": l.kind, "shape": l.shape, "parameters": l.params, "line": l.line}))
        .collect();
    let inputs: Vec<Value> = program.run.inputs.iter().map(|i| json!({"name": i.name, "shape": i.shape})).collect();
    let outputs: Vec<Value> = program
        .run
        .outputs
        .iter()
        .map(|o| json!({"name": o.name, "shape": o.shape, "softmax": o.softmax, "loss": o.loss}))
        .collect();
    let steps: Vec<Value> = steps(cx)
        .into_iter()
        .map(|(name, kind, plan)| {
            json!({
                "step": name,
                "arena_bytes": cx.engine.arena_bytes(kind, batch),
                "launches": plan.launches.len(),
                "library_calls": library_calls(plan),
            })
        })
        .collect();
    let kernels: Vec<&str> = program.kernels.iter().map(|k| k.name.as_str()).collect();
    json!({
        "model": program.run.name,
        "parameters": program.layers.iter().map(|l| l.params).sum::<u64>(),
        "layers": layers,
        "inputs": inputs,
        "outputs": outputs,
        "state_bytes": program.state_bytes,
        "batch_size": batch,
        "steps": steps,
        "kernels": kernels,
        "code": cx.about.code,
        "device": cx.engine.cpu_name(),
        "threads": cx.engine.threads(),
        "compiler": program.compiler,
        "hash": cx.about.hash,
        "seed": program.run.seed,
    })
}
