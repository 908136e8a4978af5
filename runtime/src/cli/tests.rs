//! Commands over the test double: what they print, write and answer with.

use std::fs;
use std::io;

use clap::CommandFactory;

use super::output::{Format, Table};
use super::*;
use crate::data::{Dataset, Encoding, Learned, LearnedColumn, LearnedSource, Role, Source, Store};
use crate::spec::{Missing, Normalize, OutputSpec, RunSpec, SupplierSpec, TrainWeights};
use crate::train::double::{Linear, Recorder, context, csv_section, linear, run_spec};

struct Bench {
    dir: tempfile::TempDir,
    spec: RunSpec,
}

/// What a command left behind, with the scratch directory taken out.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("temporary directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("train.csv"), "a,b,price\n0,1,-10\n1,0,20\n1,1,10\n0,0,0\n").expect("write");
        let spec = RunSpec {
            train: Some(csv_section(&at("train.csv"))),
            train_weights: TrainWeights { initial: Some(at("w")), last: Some(at("w")), ..TrainWeights::default() },
            ..run_spec("line")
        };
        Bench { dir, spec }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut engine = linear(self.spec.clone());
        engine.rate = 0.2;
        let args = args.iter().map(|a| a.replace("DIR", &self.dir.path().display().to_string()));
        let command = Cli::parse_from(std::iter::once("model".to_owned()).chain(args)).command;
        let (mut cx, out, err) = context(engine, command.json());
        let code = match &command {
            // Signal handlers are for the whole process, which here runs other tests too.
            Command::Train(_) => train_quietly(&mut cx, &command),
            _ => run(&mut cx, &command),
        };
        let clean = |r: Recorder| r.text().replace(&format!("{}/", self.dir.path().display()), "");
        Ran { code, out: clean(out), err: clean(err) }
    }

    fn trained() -> Bench {
        let bench = Bench::new();
        let ran = bench.run(&["train", "--epochs", "60"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        bench
    }
}

fn train_quietly(cx: &mut RunCx<Linear>, command: &Command) -> u8 {
    let Command::Train(args) = command else { panic!("train") };
    let options = TrainOptions { epochs: args.epochs, data: args.data.clone(), ..TrainOptions::default() };
    match train::train(cx, &options) {
        Ok(_) => 0,
        Err(e) => {
            cx.console.error(&e);
            e.exit().code()
        }
    }
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
    for (args, code) in [
        (&["model"][..], 2),
        (&["model", "trian"], 2),
        (&["model", "train", "--threads", "0"], 2),
        (&["model", "train", "--batch-size", "0"], 2),
        (&["model", "train", "--epochs", "-1"], 2),
        (&["model", "--help"], 0),
        (&["model", "--version"], 0),
    ] {
        let error = Cli::try_parse_from(args).expect_err("no command");
        assert_eq!(error.exit_code(), code, "{args:?}");
    }
}

#[test]
fn tests_print_a_table_or_an_event() {
    let bench = Bench::trained();
    let ran = bench.run(&["test", "DIR/train.csv"]);
    assert_eq!(ran.err, "Testing the weights `w`.\n");
    let rows: Vec<&str> = ran.out.lines().map(|l| l.split_whitespace().next().unwrap_or("")).collect();
    assert_eq!((ran.code, rows), (0, vec!["samples", "loss"]));
    let ran = bench.run(&["test", "DIR/train.csv", "--json"]);
    let event: serde_json::Value = serde_json::from_str(&ran.out).expect("one object");
    assert_eq!((event["event"].as_str(), event["samples"].as_u64()), (Some("test"), Some(4)));
    assert!(event["loss"].as_f64().is_some_and(|l| l < 1.0), "{event}");
}

#[test]
fn scaled_targets_are_told_in_their_own_units() {
    let mut bench = Bench::new();
    let Some(section) = &mut bench.spec.train else { panic!("train section") };
    let SupplierSpec::Csv(csv) = &mut section.data[0] else { panic!("csv") };
    let group = |name: &str, from: &[&str], normalize| crate::spec::ColumnGroup {
        name: name.into(),
        from: from.iter().map(|f| (*f).to_owned()).collect(),
        normalize: Some(normalize),
        missing: None,
        one_hot: None,
    };
    csv.columns = vec![group("x", &["a", "b"], Normalize::None), group("y", &["price"], Normalize::MinMax)];
    let ran = bench.run(&["train", "--epochs", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = bench.run(&["evaluate", "DIR/train.csv"]);
    assert_eq!(ran.out.lines().next(), Some("y,truth_y"));
    let column = |i: usize| -> Vec<f64> {
        ran.out.lines().skip(1).map(|l| l.split(',').nth(i).and_then(|c| c.parse().ok()).expect("number")).collect()
    };
    assert_eq!(column(1), [-10.0, 20.0, 10.0, 0.0], "the truth is in the file's units");
    let squares: f64 = column(0).iter().zip(column(1)).map(|(p, t)| (p - t).powi(2)).sum();
    let ran = bench.run(&["test", "DIR/train.csv", "--json"]);
    let event: serde_json::Value = serde_json::from_str(&ran.out).expect("one object");
    let rmse = event["rmse"].as_f64().expect("rmse");
    assert!((rmse - (squares / 4.0).sqrt()).abs() < 1e-3, "{rmse}");
}

#[test]
fn predictions_go_where_they_should() {
    let bench = Bench::trained();
    fs::write(bench.at("new.csv"), "b,a\n0,1\n1,1\n").expect("write");
    let plain = bench.run(&["predict", "DIR/new.csv"]);
    assert_eq!((plain.code, plain.out.lines().count(), plain.err.as_str()), (0, 3, ""));
    assert_eq!(plain.out.lines().next(), Some("y"));
    let ran = bench.run(&["predict", "DIR/new.csv", "-o", "DIR/out.csv"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(ran.err, "Wrote 2 rows to `out.csv` with the weights `w`.\n");
    assert_eq!(fs::read_to_string(bench.at("out.csv")).expect("read"), plain.out);
    let ran = bench.run(&["predict", "DIR/new.csv", "-o", "DIR/out.jsonl", "--json"]);
    assert_eq!(ran.out, "{\"event\":\"predict\",\"rows\":2,\"weights\":\"w\",\"path\":\"out.jsonl\"}\n");
    let lines = fs::read_to_string(bench.at("out.jsonl")).expect("read");
    let cells: Vec<String> =
        lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("object")["y"].to_string()).collect();
    assert_eq!(cells, plain.out.lines().skip(1).collect::<Vec<_>>());
    let ran = bench.run(&["predict", "DIR/new.csv", "--json"]);
    let events: Vec<&str> = ran.out.lines().map(|l| &l[..14]).collect();
    assert_eq!(events, ["{\"event\":\"row\"", "{\"event\":\"row\"", "{\"event\":\"pred"]);
}

#[test]
fn predictions_that_are_no_numbers_are_told() {
    let bench = Bench::trained();
    fs::write(bench.at("new.csv"), "a,b\n0,1\n3e38,0\n3e38,3e38\n").expect("write");
    let told =
        "warning: 2 predicted numbers in 2 of 3 rows are NaN or infinite; the first is infinite in row 2, output `y`";
    let help = "\n  = help: `./model.bin evaluate` with the same data says which layer such numbers come from\n";
    let ran = bench.run(&["predict", "DIR/new.csv"]);
    assert_eq!((ran.code, ran.err), (0, format!("{told}; no number is written for them{help}")));
    assert_eq!(ran.out.lines().skip(2).collect::<Vec<_>>(), ["\"\"", "\"\""], "a row for each sample");
    let ran = bench.run(&["predict", "DIR/new.csv", "--json"]);
    assert_eq!((ran.code, ran.err), (0, format!("{told}; numbers are null there{help}")));
    assert_eq!(ran.out.matches("\"y\":null").count(), 2);
    let ran = bench.run(&["predict", "DIR/new.csv", "-o", "DIR/out.npz"]);
    assert!(ran.err.starts_with(&format!("{told}{help}Wrote 3 rows to `out.npz`")), "{}", ran.err);
    // The same numbers are no result of an evaluation.
    assert_eq!(bench.run(&["evaluate", "DIR/new.csv"]).code, 6);
    fs::write(bench.at("new.csv"), "a,b\n3e38,3e38\n").expect("write");
    let ran = bench.run(&["predict", "DIR/new.csv", "-o", "DIR/out.csv"]);
    let told = "warning: 1 predicted number in 1 of 1 row is NaN or infinite; the first is ";
    assert!(ran.err.starts_with(told) && ran.err.contains("no number is written for them"), "{}", ran.err);
    assert!(ran.err.ends_with("Wrote 1 row to `out.csv` with the weights `w`.\n"), "{}", ran.err);
}

#[test]
fn defects_end_with_their_status_and_text() {
    let bench = Bench::trained();
    fs::write(bench.at("bad.csv"), "a,b\n1,x\n").expect("write");
    for (args, code, text) in [
        (
            &["predict", "DIR/bad.csv"][..],
            4,
            "error[csv-not-a-number]: `x` in column `b` is not a number\n  --> bad.csv:2 (row 1, column `b`)",
        ),
        (
            &["predict", "DIR/bad.csv", "-o", "DIR/out.pkl"],
            2,
            "error[output-format]: cannot tell how to write `out.pkl` from `.pkl`",
        ),
        (
            &["predict", "DIR/train.csv", "-o", "/dev/full"],
            1,
            "error[write-output]: cannot write `/dev/full`: no space left on device",
        ),
        (
            &["predict", "DIR/train.csv", "-o", "DIR/none/out.csv"],
            1,
            "error[write-output]: cannot write `none/out.csv`: no such file or directory",
        ),
        (
            &["predict", "DIR/train.csv", "--weights", "DIR/none"],
            1,
            "error[no-weights]: there are no weights: `none` does not exist",
        ),
        (
            &["predict", "DIR/train.csv", "--proba"],
            2,
            "error[no-classes]: no output of the model has classes, so `--proba` has none to show",
        ),
        (&["test"], 4, "error[no-data]: section `test` is missing in the Kurfile, and no data file is given"),
        (&["test", "DIR/w"], 2, "error[data-kind]: `w` is no data file by its name"),
        (&["evaluate", "DIR/none.csv"], 4, "error[data-file]: the data file `none.csv` does not exist"),
    ] {
        let ran = bench.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{args:?}: {}", ran.err);
        let error = ran.err.lines().skip_while(|l| !l.starts_with("error")).collect::<Vec<_>>().join("\n");
        assert!(error.starts_with(text), "{args:?}: {}", ran.err);
    }
    assert!(!fs::exists(bench.at("out.pkl")).expect("exists"));
}

#[test]
fn info_is_complete_in_both_forms() {
    let bench = Bench::new();
    let ran = bench.run(&["info"]);
    for part in ["model `line`", "dense", "input     x: 2", "trained by mean_squared_error", "compiler  kurc 0.0"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let ran = bench.run(&["info", "--json"]);
    let info: serde_json::Value = serde_json::from_str(&ran.out).expect("one object");
    assert_eq!((info["event"].as_str(), info["parameters"].as_u64()), (Some("info"), Some(2)));
}

/// A standard output that fails.
struct Failing(io::ErrorKind);

impl io::Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(self.0.into())
    }
}

#[test]
fn a_standard_output_that_fails_never_panics() {
    let bench = Bench::trained();
    for (kind, code, quiet) in [(io::ErrorKind::BrokenPipe, 0, true), (io::ErrorKind::StorageFull, 1, false)] {
        for args in [
            vec!["predict".to_owned(), bench.at("train.csv")],
            vec!["test".to_owned(), bench.at("train.csv")],
            vec!["test".to_owned(), bench.at("train.csv"), "--json".to_owned()],
            vec!["info".to_owned()],
        ] {
            let command = Cli::parse_from(std::iter::once("model".to_owned()).chain(args.clone())).command;
            let (mut cx, _, _) = context(linear(bench.spec.clone()), false);
            let err = Recorder::default();
            cx.console = Console::to(Box::new(Failing(kind)), Box::new(err.clone()), command.json());
            assert_eq!(run(&mut cx, &command), code, "{args:?}");
            assert_eq!(!err.text().contains("error"), quiet, "{args:?}: {}", err.text());
        }
    }
    // Training saves what it has before it ends.
    let before = fs::read(bench.at("w")).expect("read");
    let (mut cx, _, _) = context(linear(bench.spec.clone()), false);
    cx.console = Console::to(Box::new(Failing(io::ErrorKind::BrokenPipe)), Box::new(Recorder::default()), true);
    assert_eq!(train::train(&mut cx, &TrainOptions { epochs: Some(50), ..TrainOptions::default() }), Ok(None));
    assert_ne!(fs::read(bench.at("w")).expect("read"), before);
}

#[test]
fn class_outputs_vectors_and_left_out_rows() {
    let source = |name: &str, role, shape: &[u64], store| Source {
        name: name.into(),
        role,
        shape: shape.to_vec(),
        reshapes: true,
        store,
        units: Vec::new(),
    };
    let data = Dataset {
        rows: 2,
        sources: vec![
            source("kind", Role::Target, &[2], Store::Classes(vec![1, 0], 2)),
            source("pos", Role::Target, &[2], Store::Numbers(vec![1.0, 2.0, 3.0, 4.0])),
        ],
        dropped: vec![1, 3],
        notes: Vec::new(),
    };
    let names = vec!["cat".to_owned(), "a,b".to_owned()];
    let column = LearnedColumn { name: "kind".into(), encoding: Encoding::Classes { names }, missing: Missing::Drop };
    let learned = Learned {
        header: Vec::new(),
        sources: vec![LearnedSource { name: "kind".into(), target: true, columns_of_csv: true, columns: vec![column] }],
    };
    let output = |name: &str| OutputSpec {
        name: name.into(),
        aliases: Vec::new(),
        shape: vec![2],
        softmax: false,
        loss: None,
        loss_reads: Vec::new(),
        metrics: Vec::new(),
        blank_first: false,
    };
    let outputs = [output("kind"), output("pos")];
    let render = |format, proba, truth| {
        let mut table = Table::new(format, None, &outputs, &data, &learned, proba, truth);
        let mut text = String::new();
        table.header(&mut text);
        table.rows_of(&[0, 1], &[&[0.25, 0.75, 0.5, 0.5], &[1.5, 0.0, -1.0, 2.0]], &|_, _| vec![2], &mut text);
        table.end(&mut text);
        assert_eq!((table.rows(), table.warning()), (4, None));
        text
    };
    assert_eq!(
        render(Format::Csv, true, true),
        "kind,kind_p_cat,\"kind_p_a,b\",truth_kind,pos_0,pos_1,truth_pos_0,truth_pos_1\n\
         \"a,b\",0.25,0.75,\"a,b\",1.5,0.0,1.0,2.0\n\
         ,,,,,,,\n\
         cat,0.5,0.5,cat,-1.0,2.0,3.0,4.0\n\
         ,,,,,,,\n"
    );
    assert_eq!(
        render(Format::JsonLines, false, false).lines().take(2).collect::<Vec<_>>(),
        ["{\"kind\":\"a,b\",\"pos_0\":1.5,\"pos_1\":0.0}", "{\"kind\":null,\"pos_0\":null,\"pos_1\":null}"]
    );
    // Among shares that are no numbers, no class is the likeliest.
    let mut table = Table::new(Format::Csv, None, &outputs, &data, &learned, false, false);
    let mut text = String::new();
    table.rows_of(&[0, 1], &[&[f32::NAN, 0.5, 0.9, 0.1], &[1.0; 4]], &|_, _| vec![2], &mut text);
    assert_eq!(text, ",1.0,1.0\n,,\ncat,1.0,1.0\n");
    let told = "1 predicted number in 1 of 3 rows is NaN or infinite; the first is NaN in row 1, output `kind`";
    assert_eq!(table.warning(), Some(format!("{told}; no number is written for them")));
}
