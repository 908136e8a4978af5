//! Kur's own output against ours: includes, evaluated sections, accepted and refused Kurfiles, names of layers.
//!
//! `fixtures/oracle/` holds Kurfiles and what Kur 0.7.0 made of them: `golden_PYTHON.json` has, for each Kurfile, the
//! data of `kur dump` with and without `--pre-parse` and whether the model could be built (`build_bare`), or the
//! exception. `layers.txt` are the layers that have weights. Where we differ on purpose, [`DIFFERENT`] says why, and
//! `fixtures/README.md` has the same list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kurc::diag::{Severity, Sink, SourceMap};
use kurc::frontend::merge::{Strategy, merge};
use kurc::frontend::{MemoryWorld, Value, json, print};
use kurc::model;
use kurc::model::types::{Layer, LayerKind};

/// Kurfiles with other data than Kur's, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("30-include/badmethod.yml", METHOD),
    ("30-include/concat.yml", METHOD),
    ("30-include/dict_sources.yml", METHOD),
    ("30-include/extrakey.yml", UNKNOWN),
    ("30-include/merge.yml", METHOD),
    ("30-include/missing.yml", "a file that does not exist is an error, Kur leaves it out"),
    ("30-include/nested_concat.yml", METHOD),
    ("30-include/nested_merge.yml", METHOD),
    ("31-config/jinja.yml", UNDEFINED),
    ("31-config/jinja_cross.yml", UNDEFINED),
];

/// Kurfiles that Kur takes and we refuse, or the other way round, and why.
const REFUSED: &[(&str, &str)] = &[
    ("30-include/badmethod.yml", METHOD),
    ("30-include/blend.yml", TARGET),
    ("30-include/chain.yml", TARGET),
    ("30-include/concat.yml", TARGET),
    ("30-include/dict_sources.yml", TARGET),
    ("30-include/extrakey.yml", UNKNOWN),
    ("30-include/merge.yml", TARGET),
    ("30-include/missing.yml", "a file that does not exist is an error, Kur leaves it out"),
    ("30-include/nested_blend.yml", TARGET),
    ("30-include/nested_concat.yml", TARGET),
    ("30-include/nested_merge.yml", TARGET),
    ("30-include/two.yml", TARGET),
    ("31-config/jinja.yml", UNDEFINED),
    ("31-config/jinja_chain_arith.yml", "a setting sees the evaluated ones it uses, in Kur their templates"),
    ("31-config/jinja_cross.yml", UNDEFINED),
    ("31-config/layer_act_none.yml", "Kur's PyTorch back end has no `activation: none`, its Keras back end has"),
    ("31-config/layer_act_null.yml", "Kur's PyTorch back end has no empty `activation`, its Keras back end has"),
    ("31-config/layer_dense_float.yml", "a size with a fraction is an error, Kur cuts it off"),
    ("31-config/layer_merge_dict_noaxis.yml", "`axis` of `merge` is the last one when not given, as documented"),
    ("31-config/layer_rnn_size_float.yml", "`4.0` is a whole number wherever one is asked for"),
    ("31-config/layer_two_layers.yml", "two layer types in one entry are an error, Kur takes the first it knows"),
    ("31-config/unexpected.yml", UNKNOWN),
];

const METHOD: &str = "`method` of `include` means what is documented; Kur uses it one level further down";
const UNKNOWN: &str = "unknown keys and sections are errors, Kur warns and ignores them";
const UNDEFINED: &str = "undefined names are errors; with `settings.compat: kur` they are empty as in Kur";
const TARGET: &str = "the loss trains an output that the model does not have, which Kur finds when it trains";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle").join(name)
}

/// The files of a folder as a world, so that nothing of this machine shows through.
fn world(name: &str) -> MemoryWorld {
    let mut world = MemoryWorld { host: "localhost".to_owned(), ..MemoryWorld::default() };
    for entry in fs::read_dir(folder(name)).expect("readable") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            continue;
        }
        let file = path.file_name().expect("name").to_string_lossy().into_owned();
        world.files.insert(file, fs::read(&path).expect("readable"));
    }
    world
}

/// Reads JSON as Kur's Python wrote it.
fn read_json(text: &str) -> Value {
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let file = sources.add("golden.json", text);
    json::read(text, file, &mut sink).expect("golden files are JSON")
}

/// One text for equal data: keys sorted.
fn canonical(value: &Value) -> String {
    match value.as_map() {
        Some(entries) => {
            let pairs: BTreeMap<String, String> =
                entries.iter().map(|e| (print::json_line(&e.key), canonical(&e.value))).collect();
            let pairs: Vec<String> = pairs.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        None => match value.as_list() {
            Some(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(", ")),
            None => print::json_line(value),
        },
    }
}

/// Our data as it reads back from JSON, which is how the golden data was written.
fn as_json(value: &Value) -> String {
    canonical(&read_json(&print::json_line(value)))
}

/// What we make of a Kurfile.
struct Ours {
    /// Before evaluation.
    merged: Option<String>,
    /// The evaluated sections.
    parsed: Option<String>,
    /// All errors.
    errors: Vec<String>,
}

fn ours(world: &MemoryWorld, file: &str) -> Ours {
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let merged = model::merged(world, file, &[], &mut sources, &mut sink).ok().map(|(_, v)| as_json(&v));
    let data = model::data(world, file, &[], &mut sources, &mut sink).ok();
    assert_eq!(data.as_ref().is_none_or(|d| d.state.is_err()), sink.has_errors());
    let errors = sink.sorted().into_iter().filter(|d| d.severity == Severity::Error);
    Ours {
        merged,
        parsed: data.map(|d| as_json(&d.parsed)),
        errors: errors.map(|d| format!("{}: {}", d.id, d.message)).collect(),
    }
}

fn listed(list: &[(&str, &str)], path: &str) -> bool {
    list.iter().any(|(p, _)| *p == path)
}

/// Compares all Kurfiles of a folder, for both Pythons.
fn compare(name: &str) {
    let world = world(name);
    let mut wrong = Vec::new();
    // Entries of the lists that were needed: all others are out of date.
    let mut needed: BTreeSet<(bool, String)> = BTreeSet::new();
    for python in ["py36", "py311"] {
        let text = fs::read_to_string(folder(name).join(format!("golden_{python}.json"))).expect("readable");
        for file in read_json(&text).as_map().expect("a mapping of Kurfiles") {
            let file_name = file.key.as_str().expect("a file name");
            let path = format!("{name}/{file_name}");
            let ours = ours(&world, file_name);
            let kurs = |stage: &str| file.value.get(stage).and_then(|s| s.get("stdout")).map(canonical);
            let fails = |stage: &str| file.value.get(stage).and_then(|s| s.get("exception")).is_some();
            let mut tell = |data: bool, what: &str, a: &Option<String>, b: &Option<String>| {
                needed.insert((data, path.clone()));
                if !listed(if data { DIFFERENT } else { REFUSED }, &path) {
                    let show = |x: &Option<String>| x.clone().unwrap_or_else(|| "nothing".to_owned());
                    let errors = ours.errors.join("; ");
                    wrong.push(format!("{path} {python} {what}\n  ours  {}\n  Kur's {}\n  {errors}", show(a), show(b)));
                }
            };
            if ours.merged != kurs("pre_parse") {
                tell(true, "before evaluation", &ours.merged, &kurs("pre_parse"));
            }
            if !fails("parse") && ours.parsed != kurs("parse") {
                tell(true, "evaluated", &ours.parsed, &kurs("parse"));
            }
            let refused = fails("pre_parse") || fails("parse") || fails("build_bare");
            if refused == ours.errors.is_empty() {
                tell(false, if refused { "is refused by Kur" } else { "is taken by Kur" }, &None, &None);
            }
        }
    }
    for (data, list) in [(true, DIFFERENT), (false, REFUSED)] {
        for (path, _) in list.iter().filter(|(p, _)| p.starts_with(name)) {
            if !needed.contains(&(data, (*path).to_owned())) {
                wrong.push(format!("{path} is listed as different, but it is not"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn includes_merge_as_in_kur() {
    compare("30-include");
}

#[test]
fn sections_evaluate_as_in_kur() {
    compare("31-config");
}

/// The Kurfiles with undefined names, read as Kur reads them, have Kur's data.
#[test]
fn undefined_names_are_empty_on_request() {
    let world = world("31-config");
    // Python up to 3.6 computes sums in literals, so that `1-2-3` is -4 there.
    let text = fs::read_to_string(folder("31-config").join("golden_py311.json")).expect("readable");
    let golden = read_json(&text);
    for file in ["jinja.yml", "jinja_cross.yml"] {
        let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
        let set = ["settings.compat=kur".to_owned()];
        let data = model::data(&world, file, &set, &mut sources, &mut sink).expect("readable");
        let kurs = golden.get(file).and_then(|f| f.get("parse")).and_then(|p| p.get("stdout")).expect("golden data");
        assert_eq!(as_json(&data.parsed).replace("\"compat\": \"kur\", ", ""), canonical(kurs), "{file}");
    }
}

#[test]
fn trees_merge_as_in_kur() {
    let text = fs::read_to_string(folder("30-include").join("deep_merge.json")).expect("readable");
    let mut compared = 0;
    for case in read_json(&text).as_list().expect("a list of cases") {
        let side = |name: &str| case.get(name).cloned().expect("both sides");
        for word in Strategy::WORDS {
            let golden = case.get(word).expect("every strategy");
            let ours = merge(side("first"), side("second"), Strategy::from_word(word).expect("known"));
            // Kur's `merge` crashes where a mapping meets something else; the including side wins there.
            let expected = if golden.get("__exception__").is_some() { side("second") } else { golden.clone() };
            assert_eq!(canonical(&ours), canonical(&expected), "{word} of {}", canonical(case));
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared} merges");
}

/// Layers are flattened and named as in Kur: those with weights are the ones whose weights Kur saved.
#[test]
fn layers_are_named_as_in_kur() {
    for name in ["21-templating", "22-freeze", "29-autonames"] {
        let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
        let kurfile = model::load(&world(name), "kurfile.yml", &[], &mut sources, &mut sink).expect(name);
        let weights = |l: &&Layer| matches!(l.kind, LayerKind::Dense { .. } | LayerKind::BatchNormalization { .. });
        let ours: BTreeSet<&str> = kurfile.layers.iter().filter(weights).map(|l| l.name.as_str()).collect();
        let text = fs::read_to_string(folder(name).join("layers.txt")).expect("readable");
        assert_eq!(ours, text.lines().collect(), "{name}");
        let frozen: Vec<&str> = kurfile.layers.iter().filter(|l| l.freeze).map(|l| l.name.as_str()).collect();
        assert_eq!(frozen, if name == "22-freeze" { vec!["d1"] } else { Vec::new() }, "{name}");
    }
}

/// The list of differences for readers names the same Kurfiles.
#[test]
fn the_readme_lists_the_differences() {
    let text = fs::read_to_string(folder("../README.md")).expect("readable");
    for (path, reason) in DIFFERENT.iter().chain(REFUSED) {
        let file = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".yml");
        let line = text.lines().find(|l| l.contains(reason));
        let line = line.unwrap_or_else(|| panic!("fixtures/README.md does not give this reason: {reason}"));
        assert!(line.contains(&format!("`{file}`")), "fixtures/README.md does not name `{file}` for: {reason}");
    }
}
