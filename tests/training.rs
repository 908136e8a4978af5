//! Training options end to end: `kurc train` and `kurc test` in folders of their own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Place {
        let place = Place { dir: tempfile::tempdir().expect("a folder") };
        files.iter().for_each(|(name, text)| place.write(name, text));
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("writes");
    }

    fn kurc(&self, args: &[&str]) -> Output {
        let mut c = Command::new(Path::new(env!("CARGO_BIN_EXE_kurc")));
        c.args(args).current_dir(self.dir.path()).env_clear().output().expect("kurc runs")
    }

    /// Fields of the last line of an event.
    #[track_caller]
    fn event(&self, args: &[&str], event: &str) -> serde_json::Value {
        let o = self.kurc(args);
        assert!(o.status.success(), "{args:?}\n{}", stderr(&o));
        let lines = String::from_utf8_lossy(&o.stdout).into_owned();
        let mut all = lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"));
        all.rfind(|v| v["event"] == event).unwrap_or_else(|| panic!("no `{event}` in\n{lines}"))
    }
}

fn stderr(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

#[track_caller]
fn fail(o: &Output, code: i32, parts: &[&str]) {
    let text = stderr(o);
    assert_eq!(o.status.code(), Some(code), "{text}");
    for p in parts {
        assert!(text.contains(p), "`{p}` is missing in:\n{text}");
    }
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} {b}");
}

/// A line through noise, with a column `w`.
fn line() -> String {
    let mut csv = "a,b,w,y\n".to_owned();
    for i in 0..12 {
        let (a, b) = (f64::from(i % 5) * 0.3 - 0.5, f64::from(i * 7 % 4) * 0.4 - 0.6);
        csv += &format!("{a},{b},{},{}\n", 0.5 + f64::from(i % 3) * 0.25, 2.0 * a - b + f64::from(i % 2) * 0.1);
    }
    csv
}

fn regression(optimizer: &str) -> String {
    format!(
        "model:\n  - input: x\n  - dense: 1\n    name: y\ntrain:\n  data: [{{csv: {{path: d.csv, columns: {{x: [a, b], y: [y]}}}}}}]\n  provider: {{batch_size: 4, randomize: no}}\n  epochs: 4\n  weights: w\n  optimizer: {optimizer}\nloss: [{{target: y, name: mean_squared_error}}]\n"
    )
}

#[test]
fn two_batches_of_one_update_are_one_batch_of_twice_the_size() {
    let place = Place::new(&[("d.csv", &line())]);
    let loss = |optimizer: &str, batch: &str| {
        place.write("Kurfile.yml", &regression(optimizer));
        let args = ["train", "Kurfile.yml", "--fresh", "--json", "--batch-size", batch];
        place.event(&args, "epoch");
        let test = ["test", "Kurfile.yml", "d.csv", "--weights", "w", "--json"];
        place.event(&test, "test")["loss"].as_f64().expect("a loss")
    };
    let whole = loss("{name: sgd, learning_rate: 0.1}", "4");
    let halves = loss("{name: sgd, learning_rate: 0.1, accumulate: 2}", "2");
    close(halves, whole, 1e-6);
    let other = loss("{name: sgd, learning_rate: 0.1}", "2");
    assert!((other - whole).abs() > 1e-4, "twice as many updates must show: {other} {whole}");
}

#[test]
fn the_rest_of_an_epoch_is_not_lost() {
    let place = Place::new(&[("d.csv", &line())]);
    let train = |optimizer: &str, batch: &str| {
        place.write("Kurfile.yml", &regression(optimizer));
        let args = ["train", "Kurfile.yml", "--fresh", "--json", "--batch-size", batch];
        let updates = place.event(&args, "epoch")["updates"].as_u64().expect("a number");
        let test = ["test", "Kurfile.yml", "d.csv", "--weights", "w", "--json"];
        (place.event(&test, "test")["loss"].as_f64().expect("a loss"), updates)
    };
    // More batches than an epoch has: its three batches of four rows are one update of twelve.
    let (all, updates) = train("{name: sgd, learning_rate: 0.1, accumulate: 100}", "4");
    assert_eq!(updates, 4, "one for each epoch");
    let (whole, _) = train("{name: sgd, learning_rate: 0.1}", "12");
    close(all, whole, 1e-6);
    // Two and one: the updates count, not the batches.
    assert_eq!(train("{name: sgd, learning_rate: 0.1, accumulate: 2}", "4").1, 8);
    assert_eq!(train("{name: sgd, learning_rate: 0.1}", "4").1, 12);
    // Saved in the middle or not, a run that is continued goes on counting.
    place.write("Kurfile.yml", &regression("{name: sgd, learning_rate: 0.1, accumulate: 2}"));
    place.event(&["train", "Kurfile.yml", "--fresh", "--json", "--batch-size", "4"], "epoch");
    let again = place.event(&["train", "Kurfile.yml", "--json", "--batch-size", "4"], "epoch");
    assert_eq!(again["updates"], 16);
}

#[test]
fn a_column_scales_the_rate() {
    let place = Place::new(&[("d.csv", &line())]);
    place.write("Kurfile.yml", &regression("{name: sgd, learning_rate: 0.1, scale_rate: w}"));
    let args = ["train", "Kurfile.yml", "--fresh", "--json"];
    let scaled = place.event(&args, "epoch")["loss"].as_f64().expect("a loss");
    place.write("Kurfile.yml", &regression("{name: sgd, learning_rate: 0.1}"));
    let plain = place.event(&args, "epoch")["loss"].as_f64().expect("a loss");
    assert!((scaled - plain).abs() > 1e-4, "{scaled} {plain}");
    place.write("Kurfile.yml", &regression("{name: sgd, scale_rate: nowhere}"));
    fail(&place.kurc(&["train", "Kurfile.yml", "--fresh"]), 4, &["nowhere"]);
}

#[test]
fn a_plateau_lowers_the_rate() {
    let place = Place::new(&[("d.csv", &line())]);
    let optimizer = "{name: sgd, learning_rate: 1.0e-30, schedule: {name: plateau, patience: 2, factor: 0.5}}";
    place.write("Kurfile.yml", &regression(optimizer));
    let o = place.kurc(&["train", "Kurfile.yml", "--epochs", "5"]);
    assert!(o.status.success(), "{}", stderr(&o));
    let notes =
        |share: &str| stderr(&o).matches(&format!("the learning rate is now {share} of its first size")).count();
    assert_eq!((notes("0.5000"), notes("0.2500")), (1, 1), "{}", stderr(&o));
}

#[test]
fn divergence_names_where_it_began_and_keeps_weights() {
    let place = Place::new(&[("d.csv", &line())]);
    place.write("Kurfile.yml", &regression("{name: sgd, learning_rate: 0.1}"));
    assert!(place.kurc(&["train", "Kurfile.yml"]).status.success());
    let before = fs::read(place.dir.path().join("w")).expect("weights");
    // The square of such an error is beyond the largest float.
    place.write("d.csv", &(line() + "1e30,1e30,1,0\n"));
    let o = place.kurc(&["train", "Kurfile.yml", "--set", "train.provider.batch_size=1"]);
    fail(
        &o,
        6,
        &[
            "error[diverged]",
            "batch 13",
            "the first values that are not finite come from `",
            "(dense, line 3 of the Kurfile)",
        ],
    );
    assert_eq!(fs::read(place.dir.path().join("w")).expect("weights"), before);
}

/// Rows of three classes, each a little apart.
fn classes() -> String {
    let mut csv = "a,b,c\n".to_owned();
    for i in 0..37 {
        let class = i % 3;
        let noise = f64::from(i * 13 % 11) * 0.12;
        csv += &format!(
            "{},{},{}\n",
            f64::from(class) + noise,
            f64::from(class * class) - noise,
            ["p", "q", "r"][class as usize]
        );
    }
    csv
}

#[test]
fn metrics_count_over_the_whole_set() {
    let kurfile = "model:\n  - input: x\n  - dense: 3\n  - activation: softmax\n    name: c\ntrain:\n  data: [{csv: d.csv}]\n  epochs: 3\n  weights: w\nvalidate:\n  data: [{csv: d.csv}]\nloss:\n  - target: c\n    name: categorical_crossentropy\n    metrics: [accuracy, f1, auroc, precision, recall, {top_k: 2}]\n";
    let place = Place::new(&[("d.csv", &classes()), ("Kurfile.yml", kurfile)]);
    let trained = place.event(&["train", "Kurfile.yml", "--json"], "epoch");
    let mut found = Vec::new();
    for size in ["1", "7", "64"] {
        let e =
            place.event(&["test", "Kurfile.yml", "d.csv", "--weights", "w", "--json", "--batch-size", size], "test");
        let names = ["accuracy", "f1", "auroc", "precision", "recall", "top_2"];
        found.push(names.map(|n| e[n].as_f64().unwrap_or_else(|| panic!("{n} is missing in {e}"))));
    }
    for other in &found[1..] {
        found[0].iter().zip(other).for_each(|(a, b)| close(*a, *b, 1e-6));
    }
    assert!(found[0].iter().all(|x| (0.0..=1.0).contains(x)) && found[0][5] > found[0][0], "{found:?}");
    assert!(trained["val_auroc"].as_f64().is_some(), "{trained}");
    // A measure of numbers has no place here.
    place.write("Kurfile.yml", &kurfile.replace("f1,", "r2,"));
    fail(&place.kurc(&["check", "Kurfile.yml"]), 3, &["the metric `r2` measures numbers"]);
}

#[test]
fn a_sequence_of_class_numbers_is_a_target() {
    let kurfile = "model:\n  - input: x\n  - expand: -1\n  - dense: [8, 3]\n  - activation: softmax\n    name: y\ntrain:\n  data: [{csv: {path: d.csv, columns: {x: [a, b], y: [s, t]}}}]\n  epochs: 60\n  weights: w\n  optimizer: {name: adam, learning_rate: 0.05}\nloss: [{target: y, name: categorical_crossentropy, metrics: [{top_k: 1}]}]\n";
    let mut csv = "a,b,s,t\n".to_owned();
    for i in 0..30 {
        csv += &format!("{},{},{},{}\n", i % 3, i * 7 % 3, i % 3, i * 7 % 3);
    }
    let place = Place::new(&[("d.csv", &csv), ("Kurfile.yml", kurfile)]);
    place.event(&["train", "Kurfile.yml", "--json"], "epoch");
    let test = place.event(&["test", "Kurfile.yml", "d.csv", "--weights", "w", "--json"], "test");
    assert_eq!((test["accuracy"].as_f64(), test["top_1"].as_f64()), (Some(1.0), Some(1.0)), "{test}");
    place.write("d.csv", &(csv + "0,1,0,3\n"));
    let o = place.kurc(&["train", "Kurfile.yml", "--fresh"]);
    fail(&o, 4, &["error[unseen-class]", "`y` is 3,", "row 31 of the data", "whole numbers from 0 to 2"]);
}

/// Rows of six steps by five channels, shorter ones too when `vary` says so; the last holds a value `large`.
fn pictures(vary: bool, large: &str) -> String {
    let mut lines = String::new();
    for i in 0..12 {
        let steps = if vary { 3 + i % 4 } else { 6 };
        let cell = |t: usize, c: usize| f64::from(u8::try_from((i * 7 + t * 3 + c * 5) % 11).unwrap_or(0)) * 0.1 - 0.5;
        let row: Vec<Vec<String>> =
            (0..steps).map(|t| (0..5).map(|c| cell(t, c).to_string()).collect::<Vec<_>>()).collect();
        let mut text = row.iter().map(|r| format!("[{}]", r.join(", "))).collect::<Vec<_>>().join(", ");
        if i == 11 && !large.is_empty() {
            text = text.replacen(&row[0][0], large, 1);
        }
        lines += &format!("{{\"x\": [{text}], \"y\": [{}]}}\n", i % 2);
    }
    lines
}

const POOLED: &str = "model: [{input: x}, {dense: 6}, {global_pool: max}, {dense: 1}, {output: y}]\n\
    train: {data: [{jsonl: d.jsonl}], provider: {batch_size: 3, randomize: no}, epochs: 2, optimizer: sgd}\n\
    loss: [{target: y, name: mean_squared_error}]\n";

/// Widths that are no multiple of a register, on processors without AVX: registers are loaded from places that are not
/// aligned.
#[test]
fn odd_widths_train_on_every_processor() {
    let place = Place::new(&[("d.jsonl", &pictures(false, "")), ("Kurfile.yml", POOLED)]);
    let losses = ["baseline", "avx2", "avx512"].map(|cpu| {
        let mut c = Command::new(Path::new(env!("CARGO_BIN_EXE_kurc")));
        c.args(["train", "Kurfile.yml", "--fresh", "--json"]).current_dir(place.dir.path()).env_clear();
        let o = c.env("KUR_CPU", cpu).output().expect("kurc runs");
        // Only a processor that lacks the level may refuse, and every one has the baseline.
        if cpu != "baseline" && stderr(&o).contains("cpu-level") {
            return None;
        }
        assert!(o.status.success(), "{cpu}: {:?} {}", o.status, stderr(&o));
        let lines = String::from_utf8_lossy(&o.stdout).into_owned();
        let events = lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"));
        let losses: Vec<f64> =
            events.filter(|e| e["event"] == "epoch").map(|e| e["loss"].as_f64().expect("a loss")).collect();
        assert_eq!(losses.len(), 2, "{cpu}");
        Some(losses)
    });
    let baseline = losses[0].as_ref().expect("every processor has it");
    for other in losses.iter().flatten() {
        other.iter().zip(baseline).for_each(|(a, b)| close(*a, *b, 1e-5));
    }
}

#[test]
fn divergence_is_traced_where_lengths_differ() {
    let place = Place::new(&[("d.jsonl", &pictures(true, "1e30")), ("Kurfile.yml", POOLED)]);
    let o = place.kurc(&["train", "Kurfile.yml"]);
    fail(&o, 6, &["error[diverged]", "the first values that are not finite come from `", "of the Kurfile)"]);
}

/// A penalty belongs to the weights, wherever the layers that share them stand.
#[test]
fn a_penalty_counts_once_also_when_reuse_comes_first() {
    let model = |first: &str, second: &str| {
        format!(
            "model:\n  - input: {{shape: [2]}}\n    name: x\n  - dense: 2\n    name: a\n{first}{second}  - dense: 1\n  \
             - output: y\nloss: [{{target: y, name: mean_squared_error}}]\n"
        )
    };
    let (own, again) = ("  - dense: 2\n    name: late\n    regularizer: {l2: 0.1875}\n", "  - reuse: late\n");
    let place = Place::new(&[("first.yml", &model(again, own)), ("second.yml", &model(own, again))]);
    let counts = ["first.yml", "second.yml"].map(|name| {
        let o = place.kurc(&["--emit-ir", name]);
        assert!(o.status.success(), "{}", stderr(&o));
        let ir = String::from_utf8_lossy(&o.stdout).into_owned();
        ir.matches("0.1875").count()
    });
    assert!(counts[0] > 0 && counts[0] == counts[1], "{counts:?}");
}

/// Lines of `n` samples with `steps(i)` steps each: two numbers and the class of their step.
fn steps_of(n: usize, steps: impl Fn(usize) -> usize, truth: impl Fn(usize, usize) -> String) -> String {
    let mut lines = String::new();
    for i in 0..n {
        let all = 0..steps(i);
        let x: Vec<String> = all.clone().map(|t| format!("[{}, {}]", (i + t) % 3, 1 + (i * t) % 2)).collect();
        let y: Vec<String> = all.map(|t| truth(i, t)).collect();
        lines += &format!("{{\"x\": [{}], \"y\": [{}]}}\n", x.join(", "), y.join(", "));
    }
    lines
}

const TAGGED: &str = "model: [{input: {shape: [null, 2]}, name: x}, {recurrent: {size: 6}}, {dense: 3}, {activation: softmax, name: y}]\n\
    train: {data: [{jsonl: d.jsonl}], provider: {batch_size: 5, randomize: no}, epochs: 3, weights: w, optimizer: {name: adam, learning_rate: 0.02}}\n\
    validate: {data: [{jsonl: d.jsonl}]}\n\
    loss: [{target: y, name: categorical_crossentropy, metrics: [f1, {top_k: 2}]}]\n";

fn tag(i: usize, t: usize) -> String {
    ((i + 2 * t) % 3).to_string()
}

/// Loss and metrics of a test.
fn tested(place: &Place, batch: &str, more: &[&str]) -> Vec<f64> {
    let args = ["test", "Kurfile.yml", "d.jsonl", "--weights", "w", "--json", "--batch-size", batch];
    let e = place.event(&args.iter().chain(more).copied().collect::<Vec<_>>(), "test");
    ["loss", "accuracy", "f1", "top_2"].iter().filter_map(|n| e[n].as_f64()).collect()
}

/// The loss of a batch is a mean over samples, each of its own steps alone: what shares a batch changes nothing.
#[test]
fn figures_do_not_depend_on_the_batch_size() {
    let place = Place::new(&[("d.jsonl", &steps_of(33, |i| 1 + i * i % 9, tag)), ("Kurfile.yml", TAGGED)]);
    let trained = place.event(&["train", "Kurfile.yml", "--json"], "epoch");
    let found = ["1", "3", "32"].map(|b| tested(&place, b, &[]));
    assert_eq!(found[0].len(), 4, "{found:?}");
    for other in &found[1..] {
        found[0].iter().zip(other).for_each(|(a, b)| close(*a, *b, 1e-6));
    }
    close(trained["val_loss"].as_f64().expect("a loss"), found[0][0], 1e-6);
    // The other way round: shares of classes, the loss of the same truth.
    let share = |i: usize, t: usize| {
        let mut all = ["0", "0", "0"];
        all[(i + 2 * t) % 3] = "1";
        format!("[{}]", all.join(", "))
    };
    place.write("d.jsonl", &steps_of(33, |i| 1 + i * i % 9, share));
    tested(&place, "3", &[]).iter().zip(&found[0]).for_each(|(a, b)| close(*a, *b, 1e-6));
    // Where the Kurfile fixes the longest length, the data says that samples are shorter.
    let fixed = ["--set", "model.0={input: {shape: [12, 2]}, name: x}"];
    for batch in ["1", "32"] {
        let other = tested(&place, batch, &fixed);
        other.iter().zip(&found[0]).for_each(|(a, b)| close(*a, *b, 1e-6));
    }
    // An empty sample counts as 0 and one of the mean.
    place.write("d.jsonl", &(steps_of(33, |i| 1 + i * i % 9, share) + &steps_of(1, |_| 0, share)));
    close(tested(&place, "32", &[])[0], found[0][0] * 33.0 / 34.0, 1e-6);
}

/// One update over all samples is the mean of the gradients of each alone.
#[test]
fn gradients_do_not_depend_on_the_batch_size() {
    let place = Place::new(&[("d.jsonl", &steps_of(6, |i| 1 + i * 3 % 5, tag))]);
    let kurfile = |more: &str| {
        TAGGED.replace("{name: adam, learning_rate: 0.02}", &format!("{{name: sgd, learning_rate: 0.5{more}}}"))
    };
    let loss = |more: &str, batch: &str| {
        place.write("Kurfile.yml", &kurfile(more));
        place.event(&["train", "Kurfile.yml", "--fresh", "--json", "--batch-size", batch], "epoch");
        tested(&place, "6", &[])[0]
    };
    let whole = loss("", "6");
    for (batches, batch) in [("6", "1"), ("3", "2"), ("2", "3")] {
        close(loss(&format!(", accumulate: {batches}"), batch), whole, 1e-5);
    }
    assert!((loss("", "2") - whole).abs() > 1e-3, "three updates an epoch must show");
}

/// Behind `relu` without a bias padding has shares that sum to 0, and 0 / 0 is NaN.
#[test]
fn broken_padding_leaks_nowhere() {
    let kurfile = "model: [{input: {shape: [null, 2]}, name: x}, {dense: 3}, {activation: relu, name: y}]\n\
        train: {data: [{jsonl: d.jsonl}], provider: {batch_size: 4}, epochs: 2, weights: w, optimizer: {name: sgd, learning_rate: 1.0e-30}}\n\
        loss: [{target: y, name: categorical_crossentropy}]\n";
    let place = Place::new(&[("d.jsonl", &steps_of(8, |i| 1 + i % 4, tag)), ("Kurfile.yml", kurfile)]);
    let trained = place.event(&["train", "Kurfile.yml", "--json"], "epoch");
    assert!(trained["loss"].as_f64().is_some_and(f64::is_finite), "{trained}");
    let found = ["1", "8"].map(|b| tested(&place, b, &[]));
    found[0].iter().zip(&found[1]).for_each(|(a, b)| close(*a, *b, 1e-6));
}

#[test]
fn lengths_are_checked_before_training() {
    let place = Place::new(&[("d.jsonl", &steps_of(4, |i| 2 + i, tag)), ("Kurfile.yml", TAGGED)]);
    let train = |args: &[&str]| {
        let all: Vec<&str> = ["train", "Kurfile.yml", "--fresh"].iter().chain(args).copied().collect();
        place.kurc(&all)
    };
    assert!(train(&[]).status.success());
    // A target of another length than its input.
    let odd = "{\"x\": [[1, 1], [0, 1]], \"y\": [1, 2, 0]}\n";
    place.write("d.jsonl", &(steps_of(4, |i| 2 + i, tag) + odd));
    fail(
        &train(&[]),
        4,
        &[
            "error[target-length]",
            "the target `y` has 3 steps, its output has 2 for 2 steps of `x`",
            "row 5 of the data",
        ],
    );
    // A number that is no class.
    place.write("d.jsonl", &(steps_of(4, |i| 2 + i, tag) + "{\"x\": [[1, 1], [0, 1]], \"y\": [1, 3]}\n"));
    fail(&train(&[]), 4, &["error[unseen-class]", "`y` is 3,", "row 5 of the data", "whole numbers from 0 to 2"]);
    // A sample that a window does not fit in, though it would in a batch with others.
    let pooled =
        POOLED.replace("{input: x}", "{input: x}, {convolution: {kernels: 4, size: 5, border: valid}, name: narrow}");
    let place = Place::new(&[("d.jsonl", &pictures(true, "")), ("Kurfile.yml", &pooled)]);
    fail(
        &place.kurc(&["train", "Kurfile.yml"]),
        4,
        &[
            "error[too-short]",
            "a sample of `x` has 3 steps, too few for layer `narrow` (convolution, line 1 of the Kurfile)",
            "row 1 of the data",
            "at least 5",
        ],
    );
    let same = ["train", "Kurfile.yml", "--set", "model.1.convolution.border=same"];
    assert!(place.kurc(&same).status.success());
}

/// A program for targets of one length does not take padding for truth.
#[test]
fn targets_of_other_lengths_need_a_program_for_them() {
    let place = Place::new(&[("d.jsonl", &steps_of(4, |_| 4, tag)), ("Kurfile.yml", TAGGED)]);
    let fixed = ["--set", "model.0={input: {shape: [4, 2]}, name: x}"];
    let run = |word: &str, data: &str| {
        let all: Vec<&str> = [word, "Kurfile.yml", "--weights", "w"].iter().chain(&fixed).copied().collect();
        let all: Vec<&str> = if data.is_empty() { all } else { all.into_iter().chain(["--set", data]).collect() };
        place.kurc(&all)
    };
    assert!(run("train", "").status.success());
    place.write("r.jsonl", &steps_of(4, |i| 1 + i, tag));
    // Shapes come from the first section, whose data does not vary.
    let o = run("test", "test={data: [{jsonl: r.jsonl}]}");
    fail(
        &o,
        4,
        &["error[target-length]", "`y` differ in length", "built for 4 in each", "kurc build KURFILE --data FILE"],
    );
}

/// Targets that a cross-entropy is not defined for are found when they are loaded.
#[test]
fn truths_outside_of_a_loss_are_data_errors() {
    let model = |activation: &str, loss: &str| {
        format!(
            "model: [{{input: x}}, {{dense: 2}}, {{activation: {activation}, name: y}}]\ntrain: {{data: [{{jsonl: d.jsonl}}], epochs: 1}}\nloss: [{{target: y, name: {loss}}}]\n"
        )
    };
    let place = Place::new(&[]);
    let (classes, answers) = (model("softmax", "categorical_crossentropy"), model("sigmoid", "binary_crossentropy"));
    for (kurfile, truth, parts) in [
        (&classes, "[0.25, 0.75]", &[][..]),
        (&classes, "[-0.5, 1.5]", &["error[not-a-share]", "`y` is -0.5, which is no share", "row 2 of the data"]),
        (&classes, "[0.5, 0.75]", &["error[not-a-share]", "the target `y` sum to 1.25, not to 1", "row 2 of the data"]),
        (&classes, "[0, 0.5]", &["error[not-a-share]", "sum to 0.5, not to 1"]),
        (&classes, "[0, 0]", &[]),
        (&answers, "[0.25, 1]", &[]),
        (&answers, "[0.25, 2]", &["error[not-a-share]", "`y` is 2, which is not between 0 and 1", "row 2 of the data"]),
    ] {
        place.write("Kurfile.yml", kurfile);
        place.write("d.jsonl", &format!("{{\"x\": [1, 2], \"y\": [0, 1]}}\n{{\"x\": [2, 1], \"y\": {truth}}}\n"));
        let o = place.kurc(&["train", "Kurfile.yml", "--fresh"]);
        match parts {
            [] => assert!(o.status.success(), "{truth}: {}", stderr(&o)),
            parts => fail(&o, 4, parts),
        }
    }
}

/// A pickle of rows of numbers.
fn pickle(sources: &[(&str, &[&[&str]])]) -> String {
    let list = |row: &&[&str]| format!("({}l", row.iter().map(|x| format!("F{x}\n")).collect::<String>());
    let all = sources.iter().map(|(name, rows)| format!("V{name}\n({}l", rows.iter().map(list).collect::<String>()));
    format!("({}d.", all.collect::<String>())
}

#[test]
fn a_test_that_gives_no_number_says_why() {
    let kurfile = "model: [{input: x}, {dense: 1}, {output: y}]\ntrain: {data: [{pickle: d.pkl}], provider: {batch_size: 2}, epochs: 2, weights: w, optimizer: {name: sgd, learning_rate: 0.01}}\nloss: [{target: y, name: mean_squared_error}]\n";
    let truth: &[&[&str]] = &[&["1"], &["2"], &["3"]];
    let good: &[&[&str]] = &[&["1", "2"], &["2", "1"], &["0", "1"]];
    let place = Place::new(&[("d.pkl", &pickle(&[("x", good), ("y", truth)])), ("Kurfile.yml", kurfile)]);
    let o = place.kurc(&["train", "Kurfile.yml"]);
    assert!(o.status.success(), "{}", stderr(&o));
    let weights = fs::read(place.dir.path().join("w")).expect("weights");
    let bad: &[&[&str]] = &[&["1", "2"], &["2", "1"], &["nan", "1"]];
    place.write("bad.pkl", &pickle(&[("x", bad), ("y", truth)]));
    place.write("out.jsonl", "before\n");
    let first = "the first values that are not finite come from `";
    let cause = ["`x` holds a number that is not finite in row 3 of the data", first, "(dense, line 1 of the Kurfile)"];
    let o = place.kurc(&["test", "Kurfile.yml", "bad.pkl", "--weights", "w", "--json"]);
    fail(&o, 6, &["\"id\":\"diverged\"", "the loss of the test is NaN in batch 2"]);
    fail(&o, 6, &cause);
    assert!(!String::from_utf8_lossy(&o.stdout).contains("\"test\""), "nothing is reported");
    let o = place.kurc(&["evaluate", "Kurfile.yml", "bad.pkl", "--weights", "w", "-o", "out.jsonl"]);
    fail(&o, 6, &["error[diverged]", "the output `y` is NaN in row 3 of the data"]);
    fail(&o, 6, &cause);
    assert_eq!(fs::read_to_string(place.dir.path().join("out.jsonl")).expect("the old file"), "before\n");
    // Validation tells as much, and what was the best stays.
    place.write("Kurfile.yml", &format!("{kurfile}validate: {{data: [{{pickle: bad.pkl}}]}}\n"));
    let o = place.kurc(&["train", "Kurfile.yml"]);
    fail(&o, 6, &["the validation loss became NaN after epoch 3"]);
    fail(&o, 6, &cause);
    assert_eq!(fs::read(place.dir.path().join("w")).expect("weights"), weights);
    // A sum that no float holds is no answer either, and nothing is wrong with the data then.
    let large: &[&[&str]] = &[&["1", "2"], &["2", "1"], &["1e38", "1e38"]];
    place.write("bad.pkl", &pickle(&[("x", large), ("y", truth)]));
    let o = place.kurc(&["test", "Kurfile.yml", "bad.pkl", "--weights", "w"]);
    fail(&o, 6, &["the loss of the test is infinite in batch 2", first]);
    assert!(!stderr(&o).contains("holds a number"), "{}", stderr(&o));
}

/// Frames that say a class each, and the labels that they should mean.
fn spoken(path: &[usize], labels: &[usize], classes: usize) -> String {
    let frames: Vec<String> = path
        .iter()
        .map(|c| (0..classes).map(|k| if k == *c { "1" } else { "0" }).collect::<Vec<_>>().join(", "))
        .map(|frame| format!("[{frame}]"))
        .collect();
    let n = frames.len();
    format!(
        "{{\"x\": [{}], \"frames\": {n}, \"said\": {labels:?}, \"letters\": {}}}\n",
        frames.join(", "),
        labels.len()
    )
}

/// A model that hands its frames on as they are, with the loss `ctc` in one of its forms. Its data are three utterances
/// with labels 0 to 2 and the separator 3; the best path of the first has 2 edits, and no word right.
fn labelled(warp: bool, stride: usize, metrics: &str) -> Place {
    let said: [(&[usize], &[usize]); 3] =
        [(&[0, 4, 3, 3, 2, 4, 2, 4], &[0, 1, 3, 2]), (&[0, 3, 1, 4], &[0, 3, 1]), (&[2, 2, 4], &[2])];
    let lines: String = said
        .iter()
        .map(|(path, labels)| {
            // The blank is the last class, or the first with the labels behind it.
            let class = |c: &usize| if warp { (c + 1) % 5 } else { *c };
            let path: Vec<usize> = path.iter().flat_map(|c| vec![class(c); stride]).collect();
            spoken(&path, labels, 5)
        })
        .collect();
    let (softmax, variant) = if warp { ("", ", variant: warp") } else { ("  - activation: softmax\n", "") };
    let kurfile = format!(
        "model:\n  - {{input: {{shape: [null, 5]}}, name: x}}\n  - activation: prelu\n  \
         - pool: {{size: 1, strides: {stride}}}\n{softmax}  - output: y\n\
         train: {{data: [jsonl: d.jsonl], epochs: 1, weights: w, optimizer: {{name: sgd, learning_rate: 1.0e-30}}}}\n\
         validate: {{data: [jsonl: d.jsonl]}}\n\
         loss:\n  - {{target: y, name: ctc, input_length: frames, output_length: letters, output: said, \
         relative_to: x, metrics: {metrics}{variant}}}\n"
    );
    Place::new(&[("d.jsonl", &lines), ("Kurfile.yml", &kurfile)])
}

#[test]
fn error_rates_of_labels_and_words_count_edits_over_the_whole_set() {
    for (warp, stride) in [(false, 1), (true, 1), (false, 2), (true, 3)] {
        let place = labelled(warp, stride, "[cer, {wer: {separator: 3}}]");
        let rates = |e: &serde_json::Value, head: &str| {
            ["cer", "wer"].map(|n| e[format!("{head}{n}")].as_f64().unwrap_or_else(|| panic!("no {n} in {e}")))
        };
        let trained = place.event(&["train", "Kurfile.yml", "--json"], "epoch");
        // 2 edits of 8 labels; 2 of 5 words. In a batch with longer ones the utterances are filled up.
        assert_eq!(rates(&trained, "val_"), [0.25, 0.4], "warp {warp}, stride {stride}");
        for size in ["1", "2", "3"] {
            let args = ["test", "Kurfile.yml", "d.jsonl", "--weights", "w", "--json", "--batch-size", size];
            assert_eq!(rates(&place.event(&args, "test"), ""), [0.25, 0.4], "batches of {size}");
        }
    }
    // Without a separator every label is a word.
    let place = labelled(false, 1, "[wer]");
    assert_eq!(place.event(&["train", "Kurfile.yml", "--json"], "epoch")["val_wer"], 0.25);
    let place = labelled(false, 1, "[{wer: {separator: 4}}]");
    fail(&place.kurc(&["train", "Kurfile.yml"]), 3, &["the separator 4 of `wer` is no label", "from 0 to 3"]);
}

/// A column without variance is divided by the root of ε alone.
#[test]
fn constant_inputs_survive_batch_normalisation() {
    let kurfile = "model: [{input: x}, {batch_normalization: {}}, {dense: 3}, {batch_normalization: {}}, {dense: 1}, {output: y}]\n\
        train: {data: [{jsonl: d.jsonl}], provider: {batch_size: 4}, epochs: 3, weights: w}\n\
        loss: [{target: y, name: mean_squared_error}]\n";
    let lines: String = (0..8).map(|i| format!("{{\"x\": [2, 0], \"y\": [{i}]}}\n")).collect();
    let place = Place::new(&[("d.jsonl", &lines), ("Kurfile.yml", kurfile)]);
    let trained = place.event(&["train", "Kurfile.yml", "--json"], "epoch");
    let tested = place.event(&["test", "Kurfile.yml", "d.jsonl", "--weights", "w", "--json"], "test");
    for event in [trained, tested] {
        assert!(event["loss"].as_f64().is_some_and(f64::is_finite), "{event}");
    }
}
