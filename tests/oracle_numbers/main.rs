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

/// Cases, or `CASE/OPTIMIZER`, that cannot be built yet, and why.
const WAITING: &[(&str, &str)] = &[
    ("24-optimizers/adadelta", OPTIMIZER),
    ("24-optimizers/adadelta_opts", OPTIMIZER),
    ("24-optimizers/rmsprop", OPTIMIZER),
    ("24-optimizers/rmsprop_opts", OPTIMIZER),
    ("24-optimizers/sgd_scale_rate", SCALE),
    ("24-optimizers/sgd_scale_sqrt", SCALE),
];

const OPTIMIZER: &str = "this optimizer is not built";
const SCALE: &str = "`scale_rate` is not built";

/// `CASE/LABEL/WHAT` that differ on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("05-conv2d/k2th/o_same_2", PADDING),
    ("05-conv2d/pt2/o_same_2", PADDING),
    ("04-conv1d/k1th/o_same_2", PADDING),
    ("04-conv1d/pt2/o_same_2", PADDING),
    ("13-rnn-bidir-concat/k1tf/o_gru_yes", ALIGNED),
    ("13-rnn-bidir-concat/k1tf/o_lstm_yes", ALIGNED),
    ("13-rnn-bidir-concat/k2tf/o_gru_yes", ALIGNED),
    ("13-rnn-bidir-concat/k2tf/o_lstm_yes", ALIGNED),
    ("13-rnn-bidir-concat/k2th/adam", ALIGNED),
    ("13-rnn-bidir-concat/k2th/adam epoch", ALIGNED),
    ("13-rnn-bidir-concat/k2th/sgd", ALIGNED),
    ("13-rnn-bidir-concat/k2th/sgd epoch", ALIGNED),
];

const ALIGNED: &str = "both directions of a sequence are aligned; Keras back ends leave the second one reversed";

const PADDING: &str = "with strides, `same` pads as TensorFlow does; Theano and PyTorch pad both sides alike";

/// Runs with settings of their own: the back end whose outputs they have.
const SETTINGS: &[(&str, &str, &str)] = &[
    // Statistics of the batch also outside training, as Keras 1 has them.
    ("10-batchnorm", "k1tf", "settings.compat=kur"),
    ("29-autonames", "k1th", "settings.compat=kur"),
];

/// Weights that are not compared after Adam, as `CASE/STATE`. Normalisation takes the mean of a batch away and with it
/// every bias in front of it, so that the gradient of such a bias is zero. Rounding leaves some 1e-9 of it, and Adam,
/// which divides a gradient by its own size, makes whole steps of that, in Kur as here.
const NOISE: &[&str] = &["10-batchnorm/c/bias", "10-batchnorm/d/bias", "29-autonames/..dense.0/bias"];

/// How far results may lie apart, as a part of the larger of 1 and the expected value; f32 rounds to 6e-8 of it.
/// Sums of a layer cost a few roundings, recurrent layers those of every step of time. Adam and its relatives divide
/// by the size of the gradient, which makes more of the rounding of small ones, and statistics of a batch divide by
/// its spread.
fn tolerance(case: &str, what: &str, kind: Kind) -> f64 {
    let recurrent = case.contains("rnn") || case.contains("ctc");
    let statistics = case.contains("batchnorm") || case.contains("autonames");
    let divides = ["adam", "ada", "rms", "default"].iter().any(|w| what.contains(w));
    match kind {
        Kind::Weights if divides && (recurrent || statistics) => 2e-5,
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
        match case.infer(&label, None) {
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
        match case.infer(label, Some(set)) {
            Ok(found) => found.into_iter().for_each(|f| report.judge(f)),
            Err(e) => report.wrong.push(format!("{}/{label} with {set}: {e}", case.name)),
        }
    }
    for optimizer in case.optimizers() {
        let key = format!("{}/{optimizer}", case.name);
        let waits = listed(WAITING, &key).is_some();
        match case.train(&optimizer, NOISE) {
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
