//! The training loop over the test double: equality of stopped and unstopped runs, saving, stopping, divergence.

use std::fs;
use std::path::PathBuf;

use super::double::{Linear, Recorder, context, csv_section, linear, run_spec};
use super::*;
use crate::spec::{PlateauSpec, RunSpec, TrainWeights};

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { dir: tempfile::tempdir().expect("temporary directory") };
        let mut text = "a,b,y\n".to_owned();
        for i in 0..10 {
            let (a, b) = (f64::from(i) / 10.0, f64::from(i * 7 % 10) / 10.0);
            text.push_str(&format!("{a},{b},{}\n", 2.0 * a - b));
        }
        fs::write(bench.path("train.csv"), text).expect("write");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn spec(&self) -> RunSpec {
        let path = self.text("train.csv");
        RunSpec {
            train: Some(csv_section(&path)),
            train_weights: TrainWeights {
                initial: Some(self.text("w")),
                last: Some(self.text("w")),
                ..TrainWeights::default()
            },
            ..run_spec("line")
        }
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .expect("list")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn epochs(n: u64) -> TrainOptions {
    TrainOptions { epochs: Some(n), ..TrainOptions::default() }
}

fn train_with(engine: Linear, options: &TrainOptions) -> (Result<Option<i32>>, Linear, Recorder, Recorder) {
    let (mut cx, out, err) = context(engine, true);
    let result = train(&mut cx, options);
    (result, cx.engine, out, err)
}

fn bits(engine: &Linear) -> Vec<u32> {
    (0..2).flat_map(|i| engine.state(i).iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
}

fn epoch_losses(out: &Recorder) -> Vec<f64> {
    out.events().iter().filter(|e| e["event"] == "epoch").filter_map(|e| e["loss"].as_f64()).collect()
}

#[test]
fn continued_training_equals_uninterrupted_training() {
    let through = Bench::new();
    let (result, whole, whole_out, _) = train_with(linear(through.spec()), &epochs(6));
    assert_eq!(result, Ok(None));
    let halves = Bench::new();
    let (_, _, first_out, _) = train_with(linear(halves.spec()), &epochs(2));
    let (_, second, second_out, err) = train_with(linear(halves.spec()), &epochs(4));
    assert_eq!(bits(&second), bits(&whole));
    let losses = [epoch_losses(&first_out), epoch_losses(&second_out)].concat();
    assert_eq!(losses, epoch_losses(&whole_out));
    assert!(losses[5] < losses[0]);
    for name in ["w", "w.optimizer"] {
        assert_eq!(fs::read(halves.path(name)).expect("read"), fs::read(through.path(name)).expect("read"), "{name}");
    }
    assert_eq!(err.text(), "", "--json keeps standard error for remarks");
    assert_eq!(second_out.events()[0]["epochs_done"], 2);
    assert_eq!(halves.files(), ["train.csv", "w", "w.optimizer"]);
}

#[test]
fn an_interrupted_epoch_is_finished_by_the_next_run() {
    let through = Bench::new();
    let (_, whole, whole_out, _) = train_with(linear(through.spec()), &epochs(4));
    let bench = Bench::new();
    let (mut cx, out, _) = context(linear(bench.spec()), true);
    let stop = cx.stop.clone();
    // Three batches an epoch: the fifth step is the second of epoch 2.
    cx.engine.after_step = Box::new(move |updates| {
        if updates == 5 {
            stop.request(15);
        }
    });
    assert_eq!(train(&mut cx, &epochs(4)), Ok(Some(15)));
    let end = out.events().pop().expect("events");
    assert_eq!((end["reason"].as_str(), end["epochs_left"].as_u64()), (Some("interrupted"), Some(3)));
    let (result, rest, rest_out, _) = train_with(linear(bench.spec()), &epochs(3));
    assert_eq!(result, Ok(None));
    assert_eq!(bits(&rest), bits(&whole));
    assert_eq!([epoch_losses(&out), epoch_losses(&rest_out)].concat(), epoch_losses(&whole_out));
}

#[test]
fn an_interruption_says_how_to_go_on() {
    let bench = Bench::new();
    let (mut cx, _, err) = context(linear(bench.spec()), false);
    let stop = cx.stop.clone();
    cx.engine.after_step = Box::new(move |updates| {
        if updates == 5 {
            stop.request(2);
        }
    });
    assert_eq!(train(&mut cx, &epochs(4)), Ok(Some(2)));
    let text = err.text().replace(&bench.text(""), "");
    let lines: Vec<&str> = text.lines().rev().take(2).collect();
    assert_eq!(
        lines,
        [
            "Saved `w` (epoch 1). Continue with `./model.bin train --epochs 3`.",
            "Interrupted in epoch 2, after batch 2 of 3."
        ]
    );
}

#[test]
fn the_way_to_go_on_repeats_what_was_given() {
    let bench = Bench::new();
    let (mut cx, _, err) = context(linear(bench.spec()), false);
    let about = &mut cx.about;
    about.invocation = "kurc".to_owned();
    about.kurfile = Some("my model.yml".to_owned());
    about.options = ["--set", "settings.n=[1, 2]", "--set", "train.epochs=9"].map(str::to_owned).to_vec();
    let stop = cx.stop.clone();
    cx.engine.after_step = Box::new(move |_| stop.request(2));
    let options = TrainOptions { batch_size: Some(2), threads: Some(3), ..epochs(4) };
    assert_eq!(train(&mut cx, &options), Ok(Some(2)));
    let text = err.text();
    let way = text.lines().find_map(|l| l.split_once("Continue with ")).map(|(_, way)| way.to_owned());
    let want = "`kurc train 'my model.yml' --set 'settings.n=[1, 2]' --set train.epochs=9 --epochs 4 --batch-size 2 --threads 3`.";
    assert_eq!(way.as_deref(), Some(want), "{text}");
}

#[test]
fn the_way_to_go_on_names_where_training_ended() {
    // Kurfiles may begin with one file and end in another.
    for initial in [None, Some("i")] {
        let bench = Bench::new();
        let mut spec = bench.spec();
        spec.train_weights.initial = initial.map(|i| bench.text(i));
        spec.train_weights.last = Some(bench.text("l"));
        let (mut cx, _, err) = context(linear(spec), false);
        let stop = cx.stop.clone();
        cx.engine.after_step = Box::new(move |_| stop.request(2));
        assert_eq!(train(&mut cx, &epochs(4)), Ok(Some(2)));
        let want = format!("Continue with `./model.bin train --epochs 4 --weights {}`.", bench.text("l"));
        assert!(err.text().contains(&want), "{want}\n{}", err.text());
    }
    assert_eq!(super::cx::shell_path("-x.csv"), "./-x.csv");
}

#[test]
fn a_validation_that_was_cut_short_tells_a_plateau_nothing() {
    let run = |plateau: bool, cut: bool| {
        let bench = Bench::new();
        let mut spec = bench.spec();
        spec.validate = Some(csv_section(&bench.text("train.csv")));
        // Its numbers overwrite the momentum of the double, so that they show.
        let (state, seen) = ("w".to_owned(), "w:sgd.m".to_owned());
        spec.rate.plateau = plateau.then_some(PlateauSpec { factor: 0.5, patience: 1, state, seen });
        let (mut cx, ..) = context(linear(spec), true);
        let stop = cx.stop.clone();
        // The third batch is the last of the epoch: validation ends with its first batch.
        cx.engine.after_step = Box::new(move |steps| {
            if cut && steps == 3 {
                stop.request(15);
            }
        });
        assert_eq!(train(&mut cx, &epochs(1)), Ok(cut.then_some(15)));
        bits(&cx.engine)
    };
    assert_eq!(run(true, true), run(false, true));
    assert_ne!(run(true, false), run(false, false), "a whole validation does");
}

#[test]
fn seeds_change_everything_and_are_remembered() {
    let bench = Bench::new();
    let with_seed = TrainOptions { seed: Some(9), ..epochs(1) };
    let (_, nine, _, _) = train_with(linear(bench.spec()), &with_seed);
    let other = Bench::new();
    let (_, five, _, _) = train_with(linear(other.spec()), &epochs(1));
    assert_ne!(bits(&nine), bits(&five));
    let (_, _, out, _) = train_with(linear(bench.spec()), &epochs(1));
    assert_eq!(out.events()[0]["seed"], 9, "a continued training keeps its seed");
    let (_, _, out, _) = train_with(linear(bench.spec()), &TrainOptions { fresh: true, ..epochs(1) });
    assert_eq!((out.events()[0]["seed"].as_u64(), out.events()[0]["epochs_done"].as_u64()), (Some(5), Some(0)));
}

#[test]
fn the_best_weights_are_kept_not_the_last() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    fs::write(bench.path("valid.csv"), "a,b,y\n0.5,0.5,0.5\n").expect("write");
    spec.validate = Some(csv_section(&bench.text("valid.csv")));
    spec.validate_best = Some(bench.text("best"));
    spec.train_weights = TrainWeights { best: Some(bench.text("best_train")), ..TrainWeights::default() };
    let mut engine = linear(spec);
    engine.rate = 0.9;
    let (result, _, out, _) = train_with(engine, &epochs(6));
    assert_eq!(result, Ok(None));
    let events = out.events();
    let of = |key: &str| -> Vec<f64> { events.iter().filter_map(|e| e[key].as_f64()).collect() };
    let best = |losses: &[f64]| -> u64 {
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        losses.iter().position(|l| *l == least).map_or(0, |i| i as u64 + 1)
    };
    for (file, losses) in [("best", of("val_loss")), ("best_train", of("loss"))] {
        assert_eq!(losses.len(), 6);
        let loaded: Loaded<Meta> =
            weights::load(&bench.path(file), linear(bench.spec()).program(), in_weights).expect("load");
        assert_eq!(loaded.meta.map(|m| m.epochs), Some(best(&losses)), "{file} {losses:?}");
        assert!(!bench.path(&format!("{file}.optimizer")).exists(), "nothing continues from {file}");
    }
}

#[test]
fn a_diverging_loss_ends_training_and_keeps_the_files() {
    let bench = Bench::new();
    let (_, _, _, _) = train_with(linear(bench.spec()), &epochs(1));
    let before = fs::read(bench.path("w")).expect("read");
    let mut engine = linear(bench.spec());
    engine.rate = 1e30;
    let (result, _, _, _) = train_with(engine, &epochs(5));
    let error = result.expect_err("diverged");
    assert_eq!(
        error.to_string(),
        "error[diverged]: the loss became infinite in epoch 2, batch 2\n  \
         = help: the first values that are not finite come from `matmul` in layer `y` (dense, line 3 of the Kurfile)\n  \
         = help: no weights were written by this run\n  \
         = help: a smaller learning rate, `clip` in the optimizer, or `normalize: standard` for the data usually helps"
    );
    assert_eq!(error.exit().code(), 6);
    assert_eq!(fs::read(bench.path("w")).expect("read"), before);
}

#[test]
fn weights_that_cannot_be_used_or_written_are_told_before_training() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    spec.train_weights.must_exist = true;
    let (result, _, _, _) = train_with(linear(spec.clone()), &epochs(1));
    assert_eq!(result.expect_err("must exist").id(), "no-weights");
    fs::write(bench.path("w"), "no weights").expect("write");
    let (result, _, _, _) = train_with(linear(spec.clone()), &epochs(1));
    assert_eq!(result.expect_err("some other file").id(), "save-weights");
    fs::write(bench.path("w"), b"\x40\0\0\0\0\0\0\0{cut short").expect("write");
    let (result, _, _, _) = train_with(linear(spec), &epochs(1));
    assert_eq!(result.expect_err("damaged").id(), "weights-damaged");
    let closed = TrainOptions { weights: Some("/proc/none/w".into()), ..epochs(1) };
    let (result, _, out, _) = train_with(linear(bench.spec()), &closed);
    assert_eq!(result.expect_err("unwritable").id(), "save-weights");
    assert_eq!(out.text(), "", "no epoch was wasted");
    let full = TrainOptions { weights: Some("/dev/full".into()), fresh: true, ..epochs(1) };
    let (result, _, _, _) = train_with(linear(bench.spec()), &full);
    assert_eq!(result.expect_err("full").message(), "cannot write `/dev/full`: no space left on device");
}

#[test]
fn optimizer_state_of_other_weights_is_not_used() {
    let bench = Bench::new();
    let (_, _, _, _) = train_with(linear(bench.spec()), &epochs(1));
    let old = fs::read(bench.path("w.optimizer")).expect("read");
    let (_, _, _, _) = train_with(linear(bench.spec()), &epochs(1));
    fs::write(bench.path("w.optimizer"), old).expect("write");
    let (result, _, out, err) = train_with(linear(bench.spec()), &epochs(1));
    assert_eq!(result, Ok(None));
    assert!(err.text().contains("does not belong to"), "{}", err.text());
    assert_eq!(out.events()[0]["epochs_done"], 2);
}

#[test]
fn state_of_another_optimizer_is_not_used() {
    let bench = Bench::new();
    let _ = train_with(linear(bench.spec()), &epochs(1));
    let mut other = linear(bench.spec());
    other.program.state[1].name = "w:adam.m".to_owned();
    let (result, _, _, err) = train_with(other, &epochs(1));
    assert_eq!(result, Ok(None));
    let text = err.text().replace(&bench.text(""), "");
    let note = "note: the optimizer and the best loss start anew: `w.optimizer` was saved under another `train.optimizer` \
                than the Kurfile has now; give it that one again to go on as training stopped\n";
    assert!(text.contains(note) && !text.contains("model of"), "{text}");
}

#[test]
fn no_epoch_is_told_as_such() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    spec.train_weights = crate::spec::TrainWeights { best: Some(bench.text("b")), ..Default::default() };
    let told = |spec, n| {
        let (mut cx, _, err) = context(linear(spec), false);
        assert_eq!(train(&mut cx, &epochs(n)), Ok(None));
        err.text()
    };
    let text = "No epoch was asked for: the number of epochs is 0.\n\
                Nothing was saved: without an epoch there are no better weights.\n";
    let none = told(spec, 0);
    assert!(none.ends_with(text), "{none}");
    let one = told(bench.spec(), 1);
    assert!(one.contains("Completed 1 epoch in "), "{one}");
}

#[test]
fn lines_and_table_for_people() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    spec.validate = Some(csv_section(&bench.text("train.csv")));
    let (mut cx, out, err) = context(linear(spec), false);
    assert_eq!(train(&mut cx, &epochs(2)), Ok(None));
    assert_eq!(out.text(), "");
    let text = err.text().replace(&bench.text(""), "");
    assert!(
        text.starts_with(
            "model `line`\n\
             layer  type   output  parameters\n\
             ────────────────────────────────\n\
             y      dense  1                2\n\
             ────────────────────────────────\n\
             total                          2\n\
             device: test double, 1 thread\n\
             memory: 128 bytes of state, 256 bytes of arena at batch size 4\n\
             data:   10 training rows, 10 validation rows\n\
             seed:   5\n\
             Epoch 1/2: loss="
        ),
        "{text}"
    );
    let line = text.lines().find(|l| l.starts_with("Epoch 2/2: ")).expect("line");
    let keys: Vec<&str> = line["Epoch 2/2: ".len()..].split(", ").map(|p| p.split('=').next().unwrap_or(p)).collect();
    assert_eq!(keys[..2], ["loss", "val_loss"]);
    assert!(keys[2].ends_with(" samples/s"), "{line}");
    assert!(text.trim_end().contains("Saved `w` (epoch"), "{text}");
}

#[test]
fn a_program_without_loss_cannot_train() {
    let bench = Bench::new();
    let mut program = linear(bench.spec()).program().clone();
    program.train = None;
    assert_eq!(
        require_loss(&program).expect_err("no loss").to_string(),
        "error[no-loss]: the Kurfile has no `loss` section, so there is nothing to train or test\n  \
         = help: add one and build again, for example\n          \
         loss:\n            - target: OUTPUT\n              name: mean_squared_error"
    );
}
