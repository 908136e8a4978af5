//! `bench` measures models of every kind on data that their kernels accept: those of `benches/kurfiles`, and small ones
//! whose inputs are no plain numbers.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Builds a Kurfile's text and runs `bench` with arguments; gives the objects that it prints.
fn bench(text: &str, args: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("Kurfile.yml"), text).expect("writes");
    let kurc = Command::new(env!("CARGO_BIN_EXE_kurc"))
        .args(["build", "Kurfile.yml", "-o", "m.bin"])
        .current_dir(dir.path())
        .stderr(Stdio::piped())
        .output()
        .expect("kurc runs");
    assert!(kurc.status.success(), "{}\n{text}", String::from_utf8_lossy(&kurc.stderr));
    let mut command = Command::new(dir.path().join("m.bin"));
    command.arg("bench").args(args).args(["--json", "--seconds", "0.001"]).current_dir(dir.path());
    for _ in 0..200 {
        match command.output() {
            // Another test's child may hold the file open between fork and exec.
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => {
                let done = done.expect("the executable runs");
                let out = String::from_utf8_lossy(&done.stdout);
                assert!(done.status.success(), "{}\n{text}", String::from_utf8_lossy(&done.stderr));
                return out.lines().map(|l| serde_json::from_str(l).expect("an object a line")).collect();
            }
        }
    }
    panic!("the executable stays busy")
}

fn number(event: &Value, key: &str) -> f64 {
    event[key].as_f64().unwrap_or_else(|| panic!("`{key}` is no number in {event}"))
}

/// A measured step: every figure is there and makes sense.
fn sound(events: &[Value], what: &str) {
    let event = events.last().expect("an event");
    assert_eq!(event["event"], "bench", "{what}");
    for key in ["samples_per_s", "cpu_s_per_step", "first_step_s", "roofline", "flops_per_step", "peak_flops_per_s"] {
        assert!(number(event, key) >= 0.0, "{what}: {key} of {event}");
    }
    assert!(number(event, "roofline") > 0.0 && number(event, "working_set_bytes") > 0.0, "{what}: {event}");
    for memory in ["L2", "L3", "DRAM"] {
        assert!(number(&event["peak_bytes_per_s"], memory) > 1e6, "{what}: {event}");
    }
}

#[test]
fn the_kurfiles_of_the_benchmarks_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/kurfiles");
    let mut paths: Vec<_> = fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 8);
    for path in paths {
        let text = fs::read_to_string(&path).expect("the Kurfile");
        let what = path.display().to_string();
        let events = bench(&text, &["train", "--batch", "2", "--threads", "1"]);
        sound(&events, &what);
        let loss = number(events.last().expect("an event"), "loss");
        assert!(loss.is_finite() && loss >= 0.0, "{what}: loss {loss}");
        sound(&bench(&text, &["infer", "--batch", "1", "--threads", "2"]), &what);
    }
}

#[test]
fn every_kind_of_input_gets_values_that_fit() {
    let words = "model:
  - input: {shape: [null], name: words}
  - embedding: {vocab_size: 11, size: 4}
  - recurrent: {size: 8, type: lstm, sequence: no}
  - dense: 3
  - activation: softmax
    name: kind
";
    let shares = "model:
  - input: {shape: [6], name: x}
  - dense: 2
  - activation: sigmoid
    name: y
";
    let letters = "model:
  - input: {shape: [null, 5], name: sound}
  - convolution: {kernels: 6, size: 3, strides: 2, border: valid}
  - recurrent: {size: 8, type: gru}
  - parallel: {apply: [{dense: 3}]}
  - activation: softmax
    name: text
";
    let ctc = "loss: [{target: text, name: ctc, input_length: frames, output_length: count, output: said, \
               relative_to: sound}]";
    for (model, rest) in [
        (words, "loss: [{target: kind, name: categorical_crossentropy}]"),
        (shares, "loss: [{target: y, name: binary_crossentropy}]"),
        (
            shares,
            "train: {optimizer: {name: sgd, scale_rate: rate, scale_mode: sqrt}}\nloss: [{target: y, name: mean_squared_error}]",
        ),
        (letters, ctc),
    ] {
        let text = format!("{model}{rest}\n");
        let events = bench(&text, &["train", "--batch", "3", "--threads", "1"]);
        sound(&events, &text);
        assert!(number(events.last().expect("an event"), "loss").is_finite(), "{text}");
    }
}

#[test]
fn a_profile_has_every_launch_with_its_line() {
    let text = "model:
  - input: {shape: [6], name: x}
  - dense: 5
    name: y
";
    let events = bench(text, &["infer", "--batch", "3", "--threads", "1", "--profile"]);
    let (last, launches) = events.split_last().expect("events");
    assert_eq!(last["event"], "profile");
    let product = launches.iter().find(|l| l["name"] == "matmul+bias").expect("the product");
    assert_eq!(number(product, "flops"), 2.0 * 3.0 * 6.0 * 5.0 + 3.0 * 5.0);
    assert_eq!((product["layer"].as_str(), product["line"].as_u64()), (Some("y"), Some(3)));
    assert!(number(product, "roofline") > 0.0 && number(product, "seconds") > 0.0);
    let flops: f64 = launches.iter().map(|l| number(l, "flops")).sum();
    assert_eq!(number(last, "flops_per_step"), flops);
}
