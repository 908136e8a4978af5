//! End to end: Kurfiles become executables, which run in folders of their own.

#[path = "support/place.rs"]
mod place;

use std::fs;
use std::path::Path;
use std::process::Command;

use place::{Place, fail, number, stderr, stdout, succeed};

#[test]
fn real_data_is_learned() {
    for (fixture, floor) in [("iris", 0.93), ("breast-cancer", 0.95), ("digits", 0.95)] {
        let p = Place::of(fixture);
        p.build(&[]);
        succeed(&p.run("m.bin", &["train"]));
        let test = p.run("m.bin", &["test", "--json"]);
        succeed(&test);
        let accuracy = number(&test, "test", "accuracy");
        assert!(accuracy >= floor, "{fixture}: accuracy {accuracy}");
        let out = p.run("m.bin", &["evaluate", "-o", "out.jsonl"]);
        succeed(&out);
        let lines = fs::read_to_string(p.path("out.jsonl")).expect("written").lines().count() as f64;
        assert!((lines - number(&test, "test", "samples")).abs() < 0.5, "{fixture}: one line per sample");
    }
}

#[test]
fn every_build_of_a_kurfile_has_the_same_bytes_and_its_ir_reads_back() {
    for fixture in ["iris", "breast-cancer", "digits", "seed"] {
        let p = Place::of(fixture);
        if fixture == "seed" {
            p.write("data.csv", &hundred_columns(3));
        }
        let data: &[&str] = if fixture == "seed" { &["--data", "data.csv"] } else { &[] };
        p.build(data);
        let first = p.bytes("m.bin");
        p.build(data);
        assert!(first == p.bytes("m.bin"), "{fixture}");
        // Three megabytes of 2^20 bytes; two thirds are code that most models do not use (ARCHITECTURE.md).
        assert!(first.len() < 3 << 20, "{fixture}: {} bytes", first.len());

        let mut args = data.to_vec();
        args.extend(["--emit-ir", "Kurfile.yml"]);
        let ir = p.kurc(&args);
        succeed(&ir);
        p.write("step.ir", &stdout(&ir));
        let again = p.kurc(&["opt", "step.ir"]);
        succeed(&again);
        assert_eq!(stdout(&again), stdout(&ir), "{fixture}");
    }
}

/// A CSV of 100 numbers and a target.
fn hundred_columns(rows: usize) -> String {
    let names: Vec<String> = (0..100).map(|i| format!("c{i}")).collect();
    let mut text = names.join(",") + ",t\n";
    for r in 0..rows {
        let cells: Vec<String> = (0..100).map(|i| format!("{}", (r * 7 + i * 3) % 11)).collect();
        text.push_str(&format!("{},{}\n", cells.join(","), r % 2));
    }
    text
}

#[test]
fn the_seed_example_builds_trains_and_predicts() {
    let p = Place::of("seed");
    p.write("data.csv", &hundred_columns(20));
    let built = p.kurc(&["build", "Kurfile.yml", "-o", "m.bin", "--data", "data.csv"]);
    succeed(&built);
    assert!(stderr(&built).contains("warning[softmax-over-one]"), "{}", stderr(&built));
    assert!(stderr(&built).contains("Kurfile.yml:7:"), "{}", stderr(&built));
    succeed(&p.run("m.bin", &["train", "data.csv", "--epochs", "2"]));
    let out = p.run("m.bin", &["predict", "data.csv"]);
    succeed(&out);
    assert_eq!(stdout(&out).lines().count(), 21);
    assert!(stdout(&out).starts_with("my_output\n1"), "{}", stdout(&out));
}

#[test]
fn other_data_is_judged_by_the_classes_of_training() {
    let p = Place::of("seed");
    // A cell that ends with a line break before its quote, and below one class of three.
    p.write("all.csv", "a,b,kind\n1,2,cat\n2,3,dog\n3,1,\"cow\n\"\n");
    p.write("some.csv", "a,b,kind\n3,1,cat\n2,2,cat\n");
    let model = "model: [{input: {shape: [2], name: x}}, {dense: 3}, {activation: softmax, name: kind}]\n";
    let rest = "train: {data: [{csv: all.csv}], epochs: 1}\ntest: {provider: {batch_size: 2}}\n\
                evaluate: {provider: {batch_size: 2}}\nloss: [{target: kind, name: categorical_crossentropy}]\n";
    p.write("Kurfile.yml", &format!("{model}{rest}"));
    succeed(&p.kurc(&["train", "Kurfile.yml"]));
    for command in ["test", "evaluate"] {
        let out = p.kurc(&[command, "Kurfile.yml", "some.csv"]);
        succeed(&out);
        assert!(!stdout(&out).is_empty(), "{command}");
    }
    let out = p.kurc(&["train", "Kurfile.yml", "some.csv", "--weights", "other.safetensors"]);
    assert!(stderr(&out).contains("error[one-class]"), "{}", stderr(&out));
    assert_eq!(out.status.code(), Some(4));
}

#[test]
fn an_executable_can_be_stripped_moved_linked_and_read_only() {
    let p = Place::of("iris");
    p.build(&[]);
    succeed(&p.run("m.bin", &["train", "--epochs", "1"]));
    let want = stdout(&p.run("m.bin", &["test"]));
    for (tool, args) in [("strip", ["-o", "s.bin", "m.bin"]), ("objcopy", ["--strip-all", "m.bin", "s.bin"])] {
        // The tools are looked up in the test's own environment.
        let o = Command::new(tool).args(args).current_dir(p.dir.path()).output().expect("binutils are installed");
        succeed(&o);
        assert_eq!(stdout(&p.run("s.bin", &["test"])), want, "{tool}");
    }
    let other = Place::empty();
    fs::create_dir(other.path("bin")).expect("a folder");
    fs::copy(p.path("m.bin"), other.path("bin/tool")).expect("copies");
    fs::copy(p.path("iris.weights"), other.path("iris.weights")).expect("copies");
    fs::copy(p.path("iris-test.csv"), other.path("iris-test.csv")).expect("copies");
    let mut mode = fs::metadata(other.path("bin/tool")).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o555);
    fs::set_permissions(other.path("bin/tool"), mode).expect("read-only");
    std::os::unix::fs::symlink("bin/tool", other.path("link")).expect("links");
    assert_eq!(stdout(&other.run("link", &["test"])), want);
    assert_eq!(stdout(&other.run("bin/tool", &["test"])), want);
}

#[test]
fn a_damaged_executable_says_so() {
    let p = Place::of("iris");
    p.build(&[]);
    let whole = p.bytes("m.bin");
    let run = |name: &str, bytes: &[u8]| {
        fs::write(p.path(name), bytes).expect("writes");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(p.path(name), mode).expect("executable");
        p.run(name, &["info"])
    };
    // The payload takes the last pages; its first page holds the header.
    for back in [1, 100, 5_000, 20_000] {
        fail(&run("short.bin", &whole[..whole.len() - back]), 5, &["damaged", "kurc build"]);
    }
    for back in [4_000, 12_000, 25_000] {
        let mut flipped = whole.clone();
        let at = whole.len() - back;
        flipped[at] ^= 0x10;
        fail(&run("flipped.bin", &flipped), 5, &["damaged", "kurc build"]);
    }
    let stub = Path::new(env!("CARGO_BIN_EXE_kurc")).with_file_name("kur-stub");
    let bare = fs::read(stub).expect("the stub is built beside kurc");
    fail(&run("bare.bin", &bare), 5, &["carries no model", "kurc build"]);
}

/// Executables are linked without what unwinding needs, so a panic must end them from its hook. The one panic that can be
/// had from outside is that of Rust's library at a clock that fails.
#[test]
fn a_panic_is_an_internal_error() {
    let p = Place::of("iris");
    p.build(&[]);
    p.write("clock.c", "int clock_gettime(int id, void *time) { return -1; }\n");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o", "clock.so", "clock.c"]).current_dir(p.dir.path());
    succeed(&cc.output().expect("the C compiler that Rust links with"));
    let run = |args: &[&str]| p.command(&p.path("m.bin"), args).env("LD_PRELOAD", p.path("clock.so")).output();
    fail(&run(&["train"]).expect("starts"), 5, &["error[internal]: ", "this is a defect of kurc; please report it"]);
    let o = run(&["train", "--json"]).expect("starts");
    fail(&o, 5, &["{\"event\":\"error\",\"id\":\"internal\""]);
    assert_eq!(stderr(&o).lines().count(), 1, "{}", stderr(&o));
}

#[test]
fn weights_do_not_depend_on_threads_or_runs() {
    for fixture in ["breast-cancer", "digits"] {
        let p = Place::of(fixture);
        p.build(&[]);
        let mut seen: Option<Vec<u8>> = None;
        for threads in ["1", "2", "4", "1"] {
            let args = ["train", "--epochs", "2", "--threads", threads, "--weights", "w", "--fresh", "--seed", "5"];
            succeed(&p.run("m.bin", &args));
            let bytes = p.bytes("w");
            assert!(seen.as_ref().is_none_or(|s| *s == bytes), "{fixture}: {threads} threads give other weights");
            seen = Some(bytes);
        }
        let args = ["train", "--epochs", "2", "--weights", "w2", "--seed", "6"];
        succeed(&p.run("m.bin", &args));
        assert!(seen != Some(p.bytes("w2")), "{fixture}: another seed gives the same weights");
    }
}

#[test]
fn training_continues_as_if_it_had_not_stopped() {
    let p = Place::of("breast-cancer");
    p.build(&[]);
    succeed(&p.run("m.bin", &["train", "--epochs", "5", "--weights", "whole"]));
    succeed(&p.run("m.bin", &["train", "--epochs", "2", "--weights", "parts"]));
    succeed(&p.run("m.bin", &["train", "--epochs", "3", "--weights", "parts"]));
    assert!(p.bytes("whole") == p.bytes("parts"));
    assert!(p.bytes("whole.optimizer") == p.bytes("parts.optimizer"));
}

#[test]
fn steps_in_memory_are_the_steps_of_the_executable() {
    let p = Place::of("iris");
    p.build(&[]);
    succeed(&p.run("m.bin", &["train", "--epochs", "3", "--weights", "a"]));
    succeed(&p.kurc(&["train", "Kurfile.yml", "--epochs", "3", "--weights", "b"]));
    assert!(p.bytes("a") == p.bytes("b"));
    let test = p.kurc(&["test", "Kurfile.yml", "--weights", "b", "--json"]);
    succeed(&test);
    assert_eq!(number(&test, "test", "samples"), 30.0);
}

#[test]
fn every_processor_and_optimisation_level_learns() {
    let p = Place::of("iris");
    for args in [["-O", "0"], ["-O", "1"], ["--target-cpu", "x86-64"], ["--target-cpu", "x86-64-v3"]] {
        p.build(&args);
        for cpu in ["baseline", "avx2", "avx512"] {
            let run = |a: &[&str]| p.command(&p.path("m.bin"), a).env("KUR_CPU", cpu).output().expect("runs");
            let train = run(&["train", "--fresh"]);
            if train.status.code() == Some(2) && stderr(&train).contains("KUR_CPU") {
                // This processor lacks the level; the message is the behaviour under test.
                continue;
            }
            if args[1] == "x86-64-v3" && cpu == "baseline" {
                fail(&train, 1, &["needs x86-64-v3", "--target-cpu"]);
                continue;
            }
            succeed(&train);
            let accuracy = number(&run(&["test", "--json"]), "test", "accuracy");
            assert!(accuracy > 0.9, "{args:?} {cpu}: {accuracy}");
        }
    }
}

#[test]
fn divergence_keeps_the_last_good_weights() {
    let p = Place::of("iris");
    p.build(&[]);
    succeed(&p.run("m.bin", &["train", "--epochs", "2"]));
    let good = p.bytes("iris.weights");
    p.build(&["--set", "train.optimizer.learning_rate=1e38", "--set", "loss.0.name=mean_squared_error"]);
    let o = p.run("m.bin", &["train", "--epochs", "50"]);
    fail(&o, 6, &["epoch"]);
    assert!(p.bytes("iris.weights") == good, "weights were overwritten");
}

#[test]
fn a_ruinous_last_update_is_never_saved() {
    // One batch an epoch: the loss is computed before the update that ruins the weights.
    let p = Place::of("iris");
    p.build(&["--set", "train.provider.batch_size=120"]);
    succeed(&p.run("m.bin", &["train", "--epochs", "2", "--weights", "w"]));
    let good = p.bytes("w");
    let sets = ["--set", "train.provider.batch_size=120", "--set", "train.optimizer.learning_rate=1e300"];
    p.build(&sets);
    fail(&p.run("m.bin", &["train", "--epochs", "1", "--weights", "w"]), 6, &["no longer finite"]);
    assert!(p.bytes("w") == good, "weights were overwritten");
}

#[test]
fn a_scaled_regression_tells_errors_in_the_units_of_the_column() {
    let p = Place::empty();
    let rows: String = (0..40).map(|i| format!("{},{}\n", i, 1000 + 50 * i)).collect();
    p.write("d.csv", &format!("x,price\n{rows}"));
    p.write(
        "Kurfile.yml",
        "model: [{input: x}, {dense: 1}, {output: price}]
train:
  data: [{csv: {path: d.csv, columns: {x: {from: [x], normalize: standard}, price: {from: [price], normalize: standard}}}}]
  epochs: 300
  optimizer: {name: sgd, learning_rate: 0.1}
loss: [{target: price, name: mean_squared_error}]
",
    );
    p.build(&[]);
    succeed(&p.run("m.bin", &["train"]));
    p.write("t.csv", "x,price\n0,1010\n10,1490\n20,2010\n30,2490\n");
    let test = p.run("m.bin", &["test", "t.csv", "--json"]);
    succeed(&test);
    // Predictions are 1000 + 50 x, so every error is 10.
    let rmse = number(&test, "test", "rmse");
    assert!((rmse - 10.0).abs() < 0.5, "{rmse}");
    let o = p.run("m.bin", &["predict", "t.csv"]);
    let first: f64 = stdout(&o).lines().nth(1).and_then(|l| l.parse().ok()).unwrap_or(0.0);
    assert!((first - 1000.0).abs() < 1.0, "{}", stdout(&o));
}

#[test]
fn files_of_the_user_are_not_overwritten() {
    let p = Place::of("iris");
    let kurfile = p.bytes("Kurfile.yml");
    fail(&p.kurc(&["build", "Kurfile.yml", "-o", "Kurfile.yml"]), 1, &["will not be overwritten"]);
    p.build(&[]);
    fail(&p.run("m.bin", &["train", "--fresh", "--weights", "iris-train.csv"]), 1, &["will not be overwritten"]);
    assert!(p.bytes("Kurfile.yml") == kurfile);
    assert!(p.bytes("iris-train.csv").starts_with(b"sepal_length"));
}

#[test]
fn bad_data_is_told_by_row_column_and_value() {
    let p = Place::of("iris");
    p.build(&[]);
    succeed(&p.run("m.bin", &["train", "--epochs", "1"]));
    let head = "sepal_length,sepal_width,petal_length,petal_width,species\n";
    let rows = "5.0,3.3,1.4,0.2,setosa\n5.0,3.5,1.3,0.3,virginica\n";
    let cases: &[(&str, String, &[&str])] = &[
        ("text.csv", format!("{head}{rows}5.1,abc,1.3,0.3,setosa\n"), &["`abc`", "sepal_width", "row 3"]),
        ("ragged.csv", format!("{head}{rows}5.1,1.3\n"), &["row has 2 cells", "5"]),
        ("nan.csv", format!("{head}5.1,nan,1.3,0.3,setosa\n"), &["`nan`", "sepal_width"]),
        ("hole.csv", format!("{head}5.1,,1.3,0.3,setosa\n"), &["empty", "sepal_width"]),
        ("empty.csv", String::new(), &["is empty"]),
        ("header.csv", head.to_owned(), &["no rows"]),
        ("class.csv", format!("{head}5.1,3.0,1.3,0.3,tulip\n"), &["`tulip`", "species", "setosa"]),
        ("column.csv", "sepal_length,species\n5.1,setosa\n".to_owned(), &["sepal_width"]),
    ];
    for (name, text, parts) in cases {
        p.write(name, text);
        fail(&p.run("m.bin", &["test", name]), 4, parts);
    }
    fail(&p.run("m.bin", &["test", "gone.csv"]), 4, &["`gone.csv` does not exist"]);
}

#[test]
fn failures_lose_nothing_and_leave_nothing() {
    let p = Place::of("iris");
    p.build(&[]);
    let before = p.files();
    fail(&p.kurc(&["build", "Kurfile.yml", "-o", "/dev/full"]), 1, &["/dev/full"]);
    fail(&p.kurc(&["build", "Kurfile.yml", "-o", "no/such/folder/m.bin"]), 1, &["no/such/folder"]);
    fail(&p.run("m.bin", &["train", "--epochs", "1", "--weights", "Kurfile.yml/w"]), 1, &["Kurfile.yml/w"]);
    fail(&p.run("m.bin", &["train", "--epochs", "1", "--weights", "/dev/full"]), 1, &["/dev/full"]);
    fail(&p.run("m.bin", &["test"]), 1, &["iris.weights", "train"]);
    assert_eq!(p.files(), before, "a failed command left files behind");

    succeed(&p.run("m.bin", &["train", "--epochs", "1"]));
    let saved = p.bytes("iris.weights");
    // Another model's weights are refused and kept.
    p.build(&["--set", "model.1.dense=17"]);
    fail(&p.run("m.bin", &["train", "--epochs", "1"]), 1, &["iris.weights", "..dense.0/kernel"]);
    assert!(p.bytes("iris.weights") == saved);
    // So are damaged ones.
    p.build(&[]);
    fs::write(p.path("iris.weights"), &saved[..saved.len() / 2]).expect("writes");
    fail(&p.run("m.bin", &["test"]), 1, &["iris.weights"]);
    let out = p.run("m.bin", &["evaluate", "-o", "out.parquet"]);
    fail(&out, 2, &[".csv", ".jsonl", ".npz"]);
}

#[test]
fn predictions_need_no_label_and_come_in_the_asked_form() {
    let p = Place::of("iris");
    p.build(&[]);
    succeed(&p.run("m.bin", &["train"]));
    p.write("new.csv", "petal_width,sepal_length,sepal_width,petal_length\n0.2,5.0,3.3,1.4\n2.1,6.8,3.0,5.5\n");
    let o = p.run("m.bin", &["predict", "new.csv"]);
    succeed(&o);
    assert_eq!(stdout(&o), "species\nsetosa\nvirginica\n");
    let o = p.run("m.bin", &["predict", "new.csv", "--proba"]);
    assert!(
        stdout(&o).starts_with("species,species_p_setosa,species_p_versicolor,species_p_virginica\n"),
        "{}",
        stdout(&o)
    );
    succeed(&p.run("m.bin", &["evaluate", "-o", "o.csv"]));
    let text = fs::read_to_string(p.path("o.csv")).expect("written");
    assert!(text.starts_with("species,truth_species\n"), "{text}");
    assert_eq!(text.lines().count(), 31);
}

#[test]
fn usage_errors_have_status_two_and_kurfile_errors_three() {
    let p = Place::of("iris");
    fail(&p.kurc(&["biuld"]), 2, &["build"]);
    fail(&p.kurc(&["check", "Kurfil.yml"]), 3, &["Kurfil.yml"]);
    p.write("bad.yml", "model:\n  - input: x\n  - dens: 3\n");
    let o = p.kurc(&["check", "bad.yml"]);
    fail(&o, 3, &["bad.yml:3:", "did you mean `dense`?"]);
    let o = p.kurc(&["check", "bad.yml", "--format", "json"]);
    assert!(stderr(&o).lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{}", stderr(&o));
    let o = p.kurc(&["check", "Kurfile.yml"]);
    succeed(&o);
    assert!(stderr(&o).contains("no errors ("), "{}", stderr(&o));
    // Nothing but objects for a program, also when all is well.
    let o = p.kurc(&["check", "Kurfile.yml", "--format", "json"]);
    succeed(&o);
    assert!(stderr(&o).lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{}", stderr(&o));
    // A person is shown the first hundred findings, a program all.
    p.write("many.yml", &format!("model:\n  - input: x\n{}", "  - dens: 3\n".repeat(150)));
    let o = p.kurc(&["check", "many.yml", "--format", "short"]);
    fail(&o, 3, &["many.yml:102:", "50 more are not shown"]);
    assert_eq!(stderr(&o).lines().count(), 101);
    assert_eq!(stderr(&p.kurc(&["check", "many.yml", "--format", "json"])).lines().count(), 150);
}

/// Includes on a real disk, and the Kurfile as data: what `dump` prints is a Kurfile with the same dump.
#[test]
fn a_dump_is_a_kurfile_again() {
    let place = Place::empty();
    place.write("base.yml", "settings: {units: 3}\nmodel:\n  - input: {shape: [4]}\n    name: x\n");
    fs::create_dir_all(place.path("nets/parts")).expect("a folder");
    place.write("nets/parts/more.json", r#"{"settings": {"units": 4, "more": [1e3, null, NaN]}}"#);
    place.write(
        "nets/Kurfile.yml",
        "include:\n  - {source: ../base.yml, method: concat}\n  - parts/*\nmodel:\n  - dense: '{{ units }}'\n",
    );
    for args in [&["--json"][..], &[]] {
        let first = place.kurc(&[&["dump", "nets/Kurfile.yml"], args].concat());
        succeed(&first);
        let name = if args.is_empty() { "again.yml" } else { "again.json" };
        place.write(name, &stdout(&first));
        let again = place.kurc(&[&["dump", name], args].concat());
        succeed(&again);
        assert_eq!(stdout(&again), stdout(&first));
    }
    let told = place.kurc(&["dump", "nets/Kurfile.yml", "--explain", "model.1.dense", "--set", "settings.units=7"]);
    succeed(&told);
    assert!(stdout(&told).starts_with("model.1.dense = 7\n  computed from `{{ units }}`\n"), "{}", stdout(&told));
    let wrong = place.kurc(&["dump", "nets/Kurfile.yml", "--set", "model.1.dense=no"]);
    fail(&wrong, 3, &["wrong-type"]);
    assert!(stdout(&wrong).is_empty());
}

/// The layer table and the picture tell the same of the model, and neither overwrites anything by mistake.
#[test]
fn a_model_is_listed_and_drawn() {
    let place = Place::of("digits");
    let table = place.kurc(&["check", "-v", "Kurfile.yml"]);
    succeed(&table);
    let rows = place.kurc(&["check", "-v", "--json", "Kurfile.yml"]);
    succeed(&rows);
    let rows: Vec<serde_json::Value> =
        stdout(&rows).lines().map(|l| serde_json::from_str(l).expect("an object a line")).collect();
    assert_eq!(rows[0]["name"], "images");
    assert_eq!(rows[0]["shape"], serde_json::json!([28, 28, 1]));
    let dot = place.kurc(&["graph", "Kurfile.yml"]);
    succeed(&dot);
    let known = rows.iter().filter_map(|r| r["name"].as_str());
    for name in known.filter(|n| !n.starts_with("..")) {
        assert!(stdout(&table).contains(name), "{name} in {}", stdout(&table));
        assert!(stdout(&dot).contains(name), "{name} in {}", stdout(&dot));
    }
    succeed(&place.kurc(&["graph", "Kurfile.yml", "-o", "model.svg"]));
    let svg = String::from_utf8(place.bytes("model.svg")).expect("text");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("images"), "{svg}");
    let before = place.files();
    fail(&place.kurc(&["graph", "Kurfile.yml", "-o", "model.png"]), 2, &["model.svg"]);
    // A drawing is replaced, a file of the user is not, also behind a link.
    succeed(&place.kurc(&["graph", "Kurfile.yml", "-o", "model.svg"]));
    place.write("mine.svg", "<svg></svg>");
    fail(&place.kurc(&["graph", "Kurfile.yml", "-o", "mine.svg"]), 1, &["mine.svg"]);
    std::os::unix::fs::symlink("Kurfile.yml", place.path("link.dot")).expect("a link");
    fail(&place.kurc(&["graph", "Kurfile.yml", "-o", "link.dot"]), 1, &["link.dot"]);
    assert!(fs::read_to_string(place.path("Kurfile.yml")).expect("text").contains("model:"));
    place.write("bad.yml", "model:\n  - dens: 3\n");
    fail(&place.kurc(&["graph", "bad.yml", "-o", "model.svg"]), 3, &["dense"]);
    assert_eq!(place.bytes("model.svg"), svg.as_bytes());
    assert_eq!(place.files().len(), before.len() + 3);
}

/// Sequences of different lengths, from JSON lines: every batch is as long as its longest.
#[test]
fn sequences_of_any_length_are_trained_on() {
    let p = Place::empty();
    let line = |n: usize| {
        let x: Vec<String> = (0..n).map(|i| format!("[{}, {}]", i % 3, 1 + i % 2)).collect();
        let y: Vec<String> = (0..n).map(|i| format!("[{}]", 2 * (i % 3) + 1 + i % 2)).collect();
        format!("{{\"x\": [{}], \"y\": [{}]}}\n", x.join(", "), y.join(", "))
    };
    p.write("train.jsonl", &(0..40).map(|i| line(1 + i % 7)).collect::<String>());
    p.write("test.jsonl", &[line(3), line(11), line(1)].concat());
    p.write(
        "Kurfile.yml",
        "model: [{input: x}, {convolution: {kernels: 4, size: 3}}, {activation: relu}, {dense: 1, name: y}]\n\
         train: {data: [{jsonl: train.jsonl}], epochs: 60, provider: {batch_size: 8}, optimizer: {name: adam, learning_rate: 0.02}, weights: w}\n\
         test: {data: [{jsonl: test.jsonl}], provider: {batch_size: 2}}\n\
         evaluate: {data: [{jsonl: test.jsonl}], provider: {batch_size: 2}}\n\
         loss: [{target: y, name: mean_squared_error}]\n",
    );
    p.build(&[]);
    succeed(&p.run("m.bin", &["train"]));
    let tested = p.run("m.bin", &["test", "--json"]);
    succeed(&tested);
    let loss = number(&tested, "test", "loss");
    assert!(loss < 0.5, "{loss}");
    // The same bits in memory, and whatever the number of threads.
    let one = p.kurc(&["test", "Kurfile.yml", "--json", "--threads", "1"]);
    assert_eq!(number(&one, "test", "loss").to_bits(), loss.to_bits());
    succeed(&p.run("m.bin", &["evaluate", "-o", "out.jsonl"]));
    let lines = fs::read_to_string(p.path("out.jsonl")).expect("written");
    let rows: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let length = |row: usize, key: &str| rows[row][key].as_array().map_or(0, Vec::len);
    // Outputs are as long as their own sample, whatever stood in the same batch.
    assert_eq!((length(0, "y"), length(0, "truth_y"), length(1, "truth_y"), length(2, "y")), (3, 3, 11, 1));
    let last = rows[2]["y"][0][0].as_f64().expect("a number");
    assert!((last - 1.0).abs() < 2.0, "{last}");
    succeed(&p.run("m.bin", &["evaluate", "-o", "out.npz"]));
    let arrays = kur_runtime::data::arrays::open_npz("out.npz", &p.bytes("out.npz")).expect("an archive");
    let shapes: Vec<(&str, &[u64])> = arrays.iter().map(|a| (a.name.as_str(), a.shape.as_slice())).collect();
    let (y, lengths) = (&[3, 11, 1][..], &[3][..]);
    assert_eq!(shapes, [("y", y), ("y_lengths", lengths), ("truth_y", y), ("truth_y_lengths", lengths)]);
    assert_eq!((&arrays[1].values, &arrays[3].values), (&vec![3.0, 11.0, 1.0], &vec![3.0, 11.0, 1.0]));
    assert!(arrays[0].values[3..11].iter().all(|x| *x == 0.0) && arrays[0].values[0] != 0.0);
    fail(&p.run("m.bin", &["evaluate"]), 2, &["error[variable-shape]", "-o out.jsonl"]);
    // Samples without a step are samples too, among others and alone.
    for (name, text) in
        [("some.jsonl", ["{\"x\": []}\n".to_owned(), line(2)].concat()), ("none.jsonl", "{\"x\": []}\n".repeat(3))]
    {
        p.write(name, &text);
        succeed(&p.run("m.bin", &["predict", name, "-o", "empty.jsonl"]));
        let rows = fs::read_to_string(p.path("empty.jsonl")).expect("written");
        assert_eq!(rows.lines().count(), text.lines().count(), "{name}: {rows}");
        assert_eq!(rows.lines().next(), Some("{\"y\":[]}"), "{name}");
        succeed(&p.run("m.bin", &["predict", name, "-o", "empty.npz"]));
    }
    let arrays = kur_runtime::data::arrays::open_npz("empty.npz", &p.bytes("empty.npz")).expect("an archive");
    assert_eq!((arrays[0].shape.as_slice(), &arrays[1].values), (&[3, 0, 1][..], &vec![0.0; 3]));
    // The number of rows says what is wrong, and the truth of an empty sample is empty.
    p.write("none.jsonl", &"{\"x\": [], \"y\": []}\n".repeat(3));
    succeed(&p.run("m.bin", &["test", "none.jsonl"]));
    succeed(&p.run("m.bin", &["evaluate", "none.jsonl", "-o", "empty.jsonl"]));
    p.write("none.jsonl", "{\"x\": [], \"y\": []}\n{\"x\": [], \"y\": [[1]]}\n");
    fail(&p.run("m.bin", &["test", "none.jsonl"]), 4, &["error[target-length]", "row 2 of the data"]);
    // A fixed size holds shorter sequences and refuses longer ones.
    p.build(&["--set", "model.0={input: {shape: [7, 2]}, name: x}"]);
    fail(&p.run("m.bin", &["test", "--weights", "w"]), 4, &["`x` has shape 11x2 in the data, 7x2 in the model"]);
    p.write("none.jsonl", &"{\"x\": []}\n".repeat(3));
    let full = p.run("m.bin", &["predict", "none.jsonl", "--weights", "w"]);
    succeed(&full);
    assert_eq!(stdout(&full).lines().count(), 4, "{}", stdout(&full));
    assert!(stderr(&full).contains("note: samples of `x` that are shorter than the 7 steps"), "{}", stderr(&full));
}

/// Weights of Kur, arrays in and arrays out, by the executable.
#[test]
fn folders_of_kur_and_numpy_files_go_in_and_out() {
    let p = Place::of("oracle/22-freeze");
    fs::create_dir(p.path("kur")).expect("a folder");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle/22-freeze/k2tf");
    for entry in fs::read_dir(from.join("weights")).expect("weights") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, p.path("kur").join(path.file_name().expect("a name"))).expect("copies");
    }
    fs::rename(p.path("kurfile.yml"), p.path("Kurfile.yml")).expect("renames");
    p.build(&[]);
    let open = |name: &str| kur_runtime::data::arrays::open_npz(name, &p.bytes(name)).expect("an archive");
    p.write("out.npz", "old");
    succeed(&p.run("m.bin", &["evaluate", "--weights", "kur", "-o", "out.npz"]));
    let arrays = open("out.npz");
    assert_eq!(arrays.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["y", "truth_y"]);
    // What was written is data for the next run; the model sees its truth again.
    let kurs = kur_runtime::data::arrays::open_npy("y", &fs::read(from.join("out_y.npy")).expect("readable"));
    let kurs = kurs.expect("an array").1;
    assert!(arrays[0].values.iter().zip(&kurs).all(|(a, b)| (a - b).abs() < 1e-6));
    // Predictions for data on the command line, or of the Kurfile, are the same.
    succeed(&p.run("m.bin", &["predict", "data.pkl", "--weights", "kur", "-o", "a.npz"]));
    succeed(&p.run("m.bin", &["predict", "--weights", "kur", "-o", "b.npz"]));
    assert_eq!(open("a.npz"), open("b.npz"));
    assert_eq!(open("a.npz")[0], arrays[0]);
    // Training starts from the folder and saves a file beside it.
    succeed(&p.run("m.bin", &["train", "--weights", "kur", "--epochs", "1"]));
    assert!(p.path("kur.safetensors").is_file() && p.path("kur").is_dir());
    succeed(&p.run("m.bin", &["test", "--weights", "kur.safetensors"]));
    // A failed run keeps the old output and leaves nothing else.
    let (old, before) = (p.bytes("out.npz"), p.files());
    fs::remove_file(p.path("kur/y+y_bias:0.kur")).expect("removes");
    let out = p.run("m.bin", &["evaluate", "--weights", "kur", "-o", "out.npz"]);
    fail(&out, 1, &["error[other-model]", "`y/bias` is missing in the folder"]);
    assert!(p.bytes("out.npz") == old && p.files() == before);
    let pickle = p.bytes("data.pkl");
    fs::write(p.path("data.pkl"), &pickle[..pickle.len() / 2]).expect("writes");
    fail(&p.run("m.bin", &["test", "--weights", "kur.safetensors"]), 4, &["error[pickle-format]", "is cut off"]);
}

/// Both commands ask the same place.
#[test]
fn a_step_larger_than_any_memory_is_told_alike() {
    let p = Place::empty();
    p.write(
        "Kurfile.yml",
        "model: [{input: {shape: [3000, 1500]}, name: x}, {flatten: null}, {dense: 1, name: y}]\n\
         loss: [{target: y, name: mean_squared_error}]\n",
    );
    p.build(&[]);
    let most = (1 << 24).to_string();
    let told =
        "error[no-memory]: the train step is larger than any memory\n  = help: a smaller `--batch-size` takes less\n";
    fail(&p.run("m.bin", &["bench", "--batch-size", &most]), 1, &[told]);
    fail(&p.kurc(&["build", "Kurfile.yml", "--report", "--batch-size", &most]), 1, &[told]);
}

/// Several suppliers in one section: side by side under different names, stacked under equal ones.
#[test]
fn suppliers_stand_side_by_side_and_stack() {
    let p = Place::empty();
    p.write("a.jsonl", "{\"x\": [1, 2]}\n{\"x\": [3, 4]}\n");
    p.write("b.jsonl", "{\"x\": [5, 6]}\n");
    p.write("y.csv", "y\n1\n2\n3\n");
    let kurfile = |data: &str| {
        p.write(
            "Kurfile.yml",
            &format!(
                "model: [{{input: x}}, {{dense: 1, name: y}}]\ntrain: {{data: {data}, epochs: 1, weights: w}}\n\
                 loss: [{{target: y, name: mean_squared_error}}]\n"
            ),
        );
    };
    kurfile("[{jsonl: a.jsonl}, {jsonl: b.jsonl}, {csv: y.csv}]");
    let out = p.kurc(&["train", "Kurfile.yml", "--json"]);
    succeed(&out);
    assert_eq!(number(&out, "start", "samples"), 3.0);
    kurfile("[{jsonl: a.jsonl}, {csv: y.csv}]");
    fail(&p.kurc(&["train", "Kurfile.yml", "--fresh"]), 4, &["error[row-counts]", "`y` has 3 samples", "`x` has 2"]);
    p.write("b.jsonl", "{\"x\": [5, 6, 7]}\n");
    kurfile("[{jsonl: a.jsonl}, {jsonl: b.jsonl}, {csv: y.csv}]");
    fail(&p.kurc(&["train", "Kurfile.yml", "--fresh"]), 4, &["error[stacked-shapes]", "b.jsonl"]);
}

#[test]
fn a_value_outside_a_vocabulary_ends_a_training_and_keeps_its_weights() {
    let place = Place::empty();
    let kurfile = "
model:
  - input: words
  - embedding: {vocab_size: 4, size: 3}
  - parallel: {apply: [{dense: 2}, {activation: tanh}]}
  - flatten
  - {dense: 1, name: y}
train:
  data: [csv: words.csv]
  provider: {batch_size: 2, randomize: no}
  epochs: 3
  weights: w
loss: [{target: y, name: mean_squared_error}]
";
    place.write("Kurfile.yml", kurfile);
    let good = "a,b,y\n0,1,0.5\n2,3,1.5\n3,3,2.0\n1,0,0.0\n2,2,1.0\n";
    place.write("words.csv", good);
    place.build(&[]);
    succeed(&place.run("m.bin", &["train"]));
    let kept = place.bytes("w");
    // The fourth row stands in the second batch, after an update.
    place.write("words.csv", &good.replace("1,0,0.0", "1,4,0.0"));
    let parts =
        ["error[bad-value]: the index 4 is outside a table of 4 rows", "row 4 of the data", "embedding", "line 4"];
    fail(&place.run("m.bin", &["train"]), 4, &parts);
    assert_eq!(place.bytes("w"), kept);
    for command in ["test", "evaluate", "predict"] {
        fail(&place.run("m.bin", &[command, "words.csv"]), 4, &["bad-value", "row 4 of the data"]);
    }
    let json = place.run("m.bin", &["predict", "words.csv", "--json"]);
    assert!(stderr(&json).contains("\"row\":4"), "{}", stderr(&json));
}
