//! One Kurfile of the oracle: runs `kurc` on it and compares what comes out with what Kur has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kur_runtime::data::arrays::{open_npy, open_npz};
use kur_runtime::plan::Program;
use kur_runtime::weights;
use kurc::driver::{Options, Session};
use kurc::frontend::OsWorld;
use serde_json::Value;
use tempfile::TempDir;

use super::files;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The values of a model output.
    Output,
    /// The loss of a target, or the mean loss of an epoch.
    Loss,
    /// All weights after training.
    Weights,
}

/// A comparison.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) case: String,
    pub(crate) label: String,
    pub(crate) what: String,
    pub(crate) kind: Kind,
    /// Numbers compared.
    pub(crate) count: usize,
    /// Largest distance, relative to the larger of 1 and the expected value; infinite when something is missing.
    pub(crate) worst: f64,
    /// Where it is.
    pub(crate) place: String,
}

/// A folder of the oracle.
pub(crate) struct Case {
    pub(crate) name: String,
    folder: PathBuf,
    facts: Value,
}

impl Case {
    /// All cases with numbers.
    pub(crate) fn all() -> Vec<Case> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle");
        let mut cases = Vec::new();
        for entry in fs::read_dir(root).expect("the oracle") {
            let folder = entry.expect("an entry").path();
            let Ok(text) = fs::read_to_string(folder.join("case.json")) else { continue };
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            cases.push(Case { name, folder, facts: serde_json::from_str(&text).expect("JSON") });
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    fn text(&self, key: &str) -> String {
        self.facts[key].as_str().expect("text").to_owned()
    }

    /// The back ends whose outputs and test losses count.
    pub(crate) fn labels(&self) -> Vec<String> {
        let mut all = vec![self.text("outputs")];
        all.extend(
            self.facts["weights_only"].as_array().expect("a list").iter().filter_map(Value::as_str).map(str::to_owned),
        );
        all
    }

    /// The optimizers that were run.
    pub(crate) fn optimizers(&self) -> Vec<String> {
        let after = &self.facts["labels"][self.text("steps")]["after"];
        after.as_object().expect("a mapping").keys().cloned().collect()
    }

    /// A folder with the Kurfile, its data, and the weights of a back end as `start`.
    fn place(&self, label: &str) -> TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for file in ["kurfile.yml", "data.pkl"] {
            fs::copy(self.folder.join(file), dir.path().join(file)).expect("copies");
        }
        let start = dir.path().join("start");
        fs::create_dir(&start).expect("a folder");
        for entry in fs::read_dir(self.folder.join(label).join("weights")).expect("weights") {
            let path = entry.expect("an entry").path();
            fs::copy(&path, start.join(path.file_name().expect("a name"))).expect("copies");
        }
        dir
    }

    /// Outputs and test losses from the weights of a back end.
    pub(crate) fn infer(&self, label: &str, set: &[&str]) -> Result<Vec<Compared>, String> {
        let place = self.place(label);
        let with = |args: &[&str]| {
            let mut all: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
            all.extend(set.iter().flat_map(|s| ["--set".to_owned(), (*s).to_owned()]));
            kurc(place.path(), &all)
        };
        with(&["evaluate", "kurfile.yml", "--weights", "start", "-o", "out.npz"])?;
        let bytes = fs::read(place.path().join("out.npz")).map_err(|e| e.to_string())?;
        let arrays = open_npz("out.npz", &bytes).map_err(|e| e.to_string())?;
        let events = with(&["test", "kurfile.yml", "--weights", "start", "--json"])?;
        let tested = event(&events, "test")?;
        let mut found = Vec::new();
        let losses = self.facts["labels"][label]["test_loss"].as_object().expect("losses");
        for entry in fs::read_dir(self.folder.join(label)).expect("readable") {
            let path = entry.expect("an entry").path();
            let file = path.file_name().expect("a name").to_string_lossy().into_owned();
            let Some(name) = file.strip_prefix("out_").and_then(|n| n.strip_suffix(".npy")) else { continue };
            let expected = open_npy(&file, &fs::read(&path).expect("readable")).expect("an array");
            let ours = arrays.iter().find(|a| a.name == name).ok_or_else(|| format!("no output `{name}`"))?;
            let same = files::elements(&ours.shape) == files::elements(&expected.0) && ours.shape[0] == expected.0[0];
            let (worst, at) =
                if same { files::worst(&ours.values, &expected.1) } else { (f64::INFINITY, "the shape".to_owned()) };
            found.push(self.compared(label, name, Kind::Output, expected.1.len(), worst, at));
        }
        for (name, expected) in losses {
            let key = if losses.len() == 1 { "loss".to_owned() } else { format!("loss:{name}") };
            let ours = tested.get(&key).and_then(Value::as_f64).unwrap_or(f64::NAN);
            let expected = expected.as_f64().expect("a number");
            let (worst, at) = (files::apart(ours, expected), format!("{ours} for {expected}"));
            found.push(self.compared(label, &format!("loss {name}"), Kind::Loss, 1, worst, at));
        }
        assert!(found.len() >= 2, "{}/{label}: nothing was compared", self.name);
        Ok(found)
    }

    /// The weights after one epoch of five steps, and its mean loss.
    /// `skip` says which weights to leave out.
    pub(crate) fn train(&self, optimizer: &str, skip: &dyn Fn(&str) -> bool) -> Result<Vec<Compared>, String> {
        let label = self.text("steps");
        let place = self.place(&label);
        let facts = &self.facts["labels"][&label];
        let set = format!("train.optimizer={}", self.facts["optimizers"][optimizer]);
        let args = ["train", "kurfile.yml", "--weights", "start", "--json", "--set", &set].map(str::to_owned);
        let events = kurc(place.path(), &args)?;
        let program = self.program(place.path())?;
        let file = facts["after"][optimizer].as_str().expect("a file");
        let bytes = fs::read(self.folder.join(&label).join(file)).expect("readable");
        let expected = place.path().join("expected");
        files::weight_folder(&expected, &open_npz(file, &bytes).expect("arrays"));
        let expected = weights::read(&expected, &program).map_err(|e| e.to_string())?;
        let ours = weights::read(&place.path().join("start.safetensors"), &program).map_err(|e| e.to_string())?;
        let (mut worst, mut at, mut count) = (0.0, String::new(), 0);
        for ((index, ours), (other, theirs)) in ours.tensors.iter().zip(&expected.tensors) {
            assert_eq!(index, other, "both are in the order of the program");
            let state = &program.state[*index];
            // Kur never updates running statistics.
            if state.role == kur_runtime::plan::StateRole::Running {
                continue;
            }
            if skip(&state.name) {
                continue;
            }
            count += theirs.len();
            let (w, p) = files::worst(ours, theirs);
            if w >= worst {
                (worst, at) = (w, format!("{} {p}", state.name));
            }
        }
        assert!(count > 0, "{}/{optimizer}: nothing was compared", self.name);
        let losses: Vec<f64> =
            facts["loss"][optimizer].as_array().expect("losses").iter().filter_map(Value::as_f64).collect();
        let expected = losses.iter().sum::<f64>() / losses.len() as f64;
        let ours = event(&events, "epoch")?.get("loss").and_then(Value::as_f64).unwrap_or(f64::NAN);
        let apart = (files::apart(ours, expected), format!("{ours} for {expected}"));
        Ok(vec![
            self.compared(&label, optimizer, Kind::Weights, count, worst, at),
            self.compared(&label, &format!("loss {optimizer}"), Kind::Loss, 1, apart.0, apart.1),
        ])
    }

    /// The program, for the names and places of its states.
    fn program(&self, folder: &Path) -> Result<Program, String> {
        let at = |name: &str| folder.join(name).display().to_string();
        let options = Options { data: Some(at("data.pkl")), ..Options::default() };
        let mut session = Session::new(&OsWorld);
        let build = session.compile(&at("kurfile.yml"), &options);
        build.map(|b| b.program).map_err(|_| "the Kurfile does not compile in process".to_owned())
    }

    fn compared(&self, label: &str, what: &str, kind: Kind, count: usize, worst: f64, place: String) -> Compared {
        Compared { case: self.name.clone(), label: label.to_owned(), what: what.to_owned(), kind, count, worst, place }
    }
}

/// Runs `kurc`; its standard output, or its errors.
fn kurc(folder: &Path, args: &[String]) -> Result<String, String> {
    let run = Command::new(env!("CARGO_BIN_EXE_kurc")).args(args).current_dir(folder).env_clear().output();
    let run = run.expect("kurc runs");
    if run.status.success() {
        return Ok(String::from_utf8_lossy(&run.stdout).into_owned());
    }
    Err(format!("kurc {}: {}", args.join(" "), String::from_utf8_lossy(&run.stderr)))
}

/// The last event of a kind.
fn event(lines: &str, kind: &str) -> Result<Value, String> {
    let all = lines.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    all.rev().find(|e| e["event"] == kind).ok_or_else(|| format!("no event `{kind}` in {lines}"))
}
