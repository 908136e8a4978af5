//! Numbers that Kur itself computed against ours, through the front door: each Kurfile of `fixtures/oracle/` with its
//! pickle of data runs through `kurc test`, `evaluate` and `train`, from the weight folders of Kur's back ends, and
//! outputs, losses and the weights after five steps of every optimizer are compared.
//!
//! `case.json` says which back end counts for what. What is not built yet stands in [`WAITING`], what differs on
//! purpose in [`DIFFERENT`]; an entry that is no longer true fails the test.

mod case;
mod files;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

use case::{Case, Compared, Kind};

/// Cases, or `CASE/OPTIMIZER`, that cannot be built yet, and why. All are.
const WAITING: &[(&str, &str)] = &[];

/// `CASE/LABEL/WHAT` that differ on purpose, and why; `loss WHAT` is the loss of a target or the mean loss of an epoch.
const DIFFERENT: &[(&str, &str)] = &[
    ("04-conv1d/k1th/o_same_2", PADDING),
    ("04-conv1d/k1th/loss o_same_2", PADDING),
    ("04-conv1d/pt2/o_same_2", PADDING),
    ("04-conv1d/pt2/loss o_same_2", PADDING),
    ("05-conv2d/k2th/o_same_2", PADDING),
    ("05-conv2d/k2th/loss o_same_2", PADDING),
    ("05-conv2d/pt2/o_same_2", PADDING),
    ("05-conv2d/pt2/loss o_same_2", PADDING),
    ("13-rnn-bidir-concat/k1tf/o_gru_yes", ALIGNED),
    ("13-rnn-bidir-concat/k1tf/o_lstm_yes", ALIGNED),
    ("13-rnn-bidir-concat/k1tf/loss o_gru_yes", ALIGNED),
    ("13-rnn-bidir-concat/k1tf/loss o_lstm_yes", ALIGNED),
    ("13-rnn-bidir-concat/k2tf/o_gru_yes", ALIGNED),
    ("13-rnn-bidir-concat/k2tf/o_lstm_yes", ALIGNED),
    ("13-rnn-bidir-concat/k2tf/loss o_gru_yes", ALIGNED),
    ("13-rnn-bidir-concat/k2tf/loss o_lstm_yes", ALIGNED),
    ("13-rnn-bidir-concat/k2th/loss adam", ALIGNED),
    ("13-rnn-bidir-concat/k2th/loss sgd", ALIGNED),
    ("13-rnn-bidir-concat/pt2/o_gru_no", LAST),
    ("13-rnn-bidir-concat/pt2/o_lstm_no", LAST),
    ("13-rnn-bidir-concat/pt2/loss o_gru_no", LAST),
    ("13-rnn-bidir-concat/pt2/loss o_lstm_no", LAST),
    ("15-embedding/pt2/y", "PyTorch's `softmax` gives logarithms of probabilities"),
];

const PADDING: &str = "with strides, `same` pads as TensorFlow does; Theano and PyTorch pad both sides alike";
const ALIGNED: &str = "the backward sequence is turned around again before it is merged; Keras leaves it reversed";
const LAST: &str = "without `sequence` the backward half is its state at the end of its way; PyTorch takes its first";

/// Runs with settings of their own: the back end whose outputs they have.
const SETTINGS: &[(&str, &str, &[&str])] = &[
    // Statistics of the batch also outside training, as Keras 1 has them.
    ("10-batchnorm", "k1tf", &["settings.compat=kur"]),
    ("29-autonames", "k1th", &["settings.compat=kur"]),
    ("11-rnn", "pt2", TORCH),
    ("13-rnn-bidir-concat", "pt2", TORCH),
];

/// PyTorch's cells.
const TORCH: &[&str] = &[
    "model.1.recurrent.cell=torch",
    "model.2.recurrent.cell=torch",
    "model.3.recurrent.cell=torch",
    "model.4.recurrent.cell=torch",
];

/// Weights that are not compared after training: the case, the beginning of the state's name, the optimizer if it is
/// one only, and why.
const SKIPPED: &[(&str, &str, Option<&str>, &str)] = &[
    ("10-batchnorm", "c/bias", Some("adam"), NOISE),
    ("10-batchnorm", "d/bias", Some("adam"), NOISE),
    ("29-autonames", "..dense.1/bias", Some("adam"), NOISE),
    ("13-rnn-bidir-concat", "o_gru_yes", None, ALIGNED),
    ("13-rnn-bidir-concat", "o_lstm_yes", None, ALIGNED),
];

const NOISE: &str = "normalisation takes the mean of a batch away and with it every bias in front of it, so that its \
    gradient is zero but for rounding, of which Adam, dividing it by its own size, makes whole steps";

/// How far results may lie apart, as a part of the larger of 1 and the expected value; f32 rounds to 6e-8 of it.
/// Sums of a layer cost a few roundings, recurrent layers those of every step of time. Adam and its relatives divide
/// by the size of the gradient, which makes more of the rounding of small ones, and statistics of a batch divide by
/// its spread.
fn tolerance(case: &str, what: &str, kind: Kind) -> f64 {
    let recurrent = case.contains("rnn") || case.contains("ctc");
    let statistics = case.contains("batchnorm") || case.contains("autonames");
    let divides = ["adam", "ada", "rms", "default"].iter().any(|w| what.contains(w));
    match kind {
        Kind::Weights if divides => 2e-6,
        _ if recurrent || statistics => 2e-6,
        Kind::Output | Kind::Loss | Kind::Weights => 6e-7,
    }
}

fn listed<'l>(list: &'l [(&str, &str)], key: &str) -> Option<&'l str> {
    list.iter().find(|(k, _)| *k == key).map(|(_, reason)| *reason)
}

/// What came of a case.
#[derive(Default)]
struct Report {
    rows: Vec<Compared>,
    wrong: Vec<String>,
    /// Entries of the lists that were needed.
    needed: BTreeSet<String>,
}

impl Report {
    /// Judges a comparison.
    fn judge(&mut self, found: Compared) {
        let key = format!("{}/{}/{}", found.case, found.label, found.what);
        let limit = tolerance(&found.case, &found.what, found.kind);
        let fits = found.worst <= limit;
        if let Some(reason) = listed(DIFFERENT, &key) {
            if fits {
                self.wrong.push(format!("{key} is listed as different ({reason}), but it is equal"));
            }
            self.needed.insert(key);
            return;
        }
        if !fits {
            self.wrong
                .push(format!("{key}: {:.2e} apart, at most {limit:.0e} is allowed; {}", found.worst, found.place));
        }
        self.rows.push(found);
    }
}

fn run(case: &Case, report: &mut Report) {
    let waits = listed(WAITING, &case.name).is_some();
    for label in case.labels() {
        match case.infer(&label, &[]) {
            Ok(found) if waits => {
                report.wrong.push(format!("{} works: take it off the list of what waits", case.name));
                report.needed.insert(case.name.clone());
                found.into_iter().for_each(|f| report.judge(f));
            }
            Ok(found) => found.into_iter().for_each(|f| report.judge(f)),
            Err(e) if waits && e.contains("not-yet-supported") => {
                report.needed.insert(case.name.clone());
                return;
            }
            Err(e) => report.wrong.push(format!("{}/{label}: {e}", case.name)),
        }
    }
    for (_, label, set) in SETTINGS.iter().filter(|(c, ..)| *c == case.name) {
        match case.infer(label, set) {
            Ok(found) => found.into_iter().for_each(|f| report.judge(f)),
            Err(e) => report.wrong.push(format!("{}/{label} with {set:?}: {e}", case.name)),
        }
    }
    for optimizer in case.optimizers() {
        let key = format!("{}/{optimizer}", case.name);
        let waits = listed(WAITING, &key).is_some();
        let skip = |state: &str| {
            let of = |(c, s, o, _): &&(&str, &str, Option<&str>, &str)| {
                *c == case.name && state.starts_with(s) && o.is_none_or(|o| o == optimizer)
            };
            SKIPPED.iter().any(|entry| of(&entry))
        };
        match case.train(&optimizer, &skip) {
            Ok(_) if waits => report.wrong.push(format!("{key} works: take it off the list of what waits")),
            Ok(found) => found.into_iter().for_each(|f| report.judge(f)),
            Err(e) if waits && e.contains("not-yet-supported") => {
                report.needed.insert(key);
            }
            Err(e) => report.wrong.push(format!("{key}: {e}")),
        }
    }
}

#[test]
fn numbers_are_those_of_kur() {
    let cases = Case::all();
    assert!(cases.len() >= 21, "{} cases", cases.len());
    let next = Mutex::new(cases.iter());
    let report = Mutex::new(Report::default());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().expect("cases").next() else { break };
                    let mut own = Report::default();
                    run(case, &mut own);
                    let mut all = report.lock().expect("report");
                    all.rows.extend(own.rows);
                    all.wrong.extend(own.wrong);
                    all.needed.extend(own.needed);
                }
            });
        }
    });
    let mut report = report.into_inner().expect("report");
    for (key, reason) in WAITING.iter().chain(DIFFERENT) {
        if !report.needed.contains(*key) {
            report.wrong.push(format!("{key} is listed ({reason}), but nothing came of it"));
        }
    }
    print!("{}", table(&mut report.rows));
    report.wrong.sort();
    assert!(report.wrong.is_empty(), "{} differences\n{}", report.wrong.len(), report.wrong.join("\n"));
}

/// The worst deviation of every case, by kind.
fn table(rows: &mut [Compared]) -> String {
    rows.sort_by(|a, b| (&a.case, a.kind).cmp(&(&b.case, b.kind)));
    let mut text = format!("{:<22} {:<8} {:>8} {:>9}  {}\n", "case", "kind", "numbers", "worst", "where");
    for group in rows.chunk_by(|a, b| a.case == b.case && a.kind == b.kind) {
        let count: usize = group.iter().map(|c| c.count).sum();
        let Some(worst) = group.iter().max_by(|a, b| a.worst.total_cmp(&b.worst)) else { continue };
        let (case, kind, apart) = (&worst.case, format!("{:?}", worst.kind).to_lowercase(), worst.worst);
        text += &format!("{case:<22} {kind:<8} {count:>8} {apart:>9.1e}  {} {}\n", worst.label, worst.what);
    }
    text
}
