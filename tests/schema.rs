//! The JSON Schema that `kurc schema` prints, against the parser: what is a Kurfile for one is one for the other.
//!
//! Every Kurfile that is read without an error must be valid; one whose only errors are of its grammar (unknown or
//! missing keys, wrong types) must not be.

mod support;

use std::collections::BTreeMap;

use kurc::diag::{Severity, Sink, SourceMap};
use kurc::frontend::MemoryWorld;
use kurc::frontend::Value;
use kurc::frontend::value::Kind;
use kurc::model;
use regex_lite::Regex;
use serde_json::{Map, Value as Json};

/// Findings that a schema can make as well.
const GRAMMAR: &[&str] = &["unknown-key", "unknown-section", "unknown-value", "wrong-type", "two-suppliers"];

/// A merged file as JSON. Keys are text there.
fn json(value: &Value) -> Json {
    match &value.kind {
        Kind::Null => Json::Null,
        Kind::Bool(b) => Json::from(*b),
        Kind::Int(n) => i64::try_from(*n).map_or_else(|_| Json::from(n.to_string()), Json::from),
        Kind::Float(x) => Json::from(*x),
        Kind::Str(s, _) => Json::from(s.as_ref()),
        Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => v.iter().map(json).collect(),
        Kind::Map(m) => {
            let text = |k: &Value| k.as_str().map_or_else(|| format!("{}", json(k)), str::to_owned);
            Json::Object(m.iter().map(|e| (text(&e.key), json(&e.value))).collect::<Map<_, _>>())
        }
        Kind::Complex(..) | Kind::Bytes(_) => Json::from("?"),
    }
}

/// The errors of a file, and the file as JSON; `None` when it cannot be read at all.
fn read(text: &str) -> Option<(Vec<&'static str>, Json)> {
    let mut parts = text.split("\n#=== ");
    let mut world = MemoryWorld::with_file("Kurfile.yml", parts.next().unwrap_or_default());
    for (name, text) in parts.filter_map(|p| p.split_once('\n')) {
        world.files.insert(name.trim().to_owned(), text.as_bytes().to_vec());
    }
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let merged = model::merged(&world, "Kurfile.yml", &[], &mut sources, &mut sink).ok()?.1;
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let _ = model::load(&world, "Kurfile.yml", &[], &mut sources, &mut sink);
    // A merge key may bring a section keys of another one, so the schema lets them through; the parser knows the way
    // they came.
    let foreign =
        |m: &str| ["train", "validate", "test", "evaluate"].iter().any(|s| m.starts_with(&format!("`{s}` has")));
    let found = sink.sorted();
    let errors = found.iter().filter(|d| d.severity == Severity::Error);
    let errors = errors.map(|d| if foreign(&d.message) { "foreign-key" } else { d.id }).collect();
    Some((errors, json(&merged)))
}

/// Where a value is not what the schema says. Knows the keywords that the schema uses and no others.
struct Validator {
    root: Json,
    patterns: BTreeMap<String, Regex>,
}

impl Validator {
    fn new() -> Validator {
        let root = model::schema();
        let mut patterns = BTreeMap::new();
        collect(&root, &mut patterns);
        Validator { root, patterns }
    }

    fn errors(&self, value: &Json) -> Vec<String> {
        self.check(&self.root, value, "")
    }

    fn check(&self, schema: &Json, value: &Json, at: &str) -> Vec<String> {
        let Some(keywords) = schema.as_object() else {
            let free = schema.as_bool().expect("a schema is a mapping or a boolean");
            return if free { Vec::new() } else { vec![format!("{at}: not allowed")] };
        };
        keywords.iter().flat_map(|(k, v)| self.keyword(schema, k, v, value, at)).collect()
    }

    fn keyword(&self, schema: &Json, keyword: &str, wants: &Json, value: &Json, at: &str) -> Vec<String> {
        let list = |v: &Json| v.as_array().cloned().expect("a list");
        let fits = |s: &Json| self.check(s, value, at).is_empty();
        let complain =
            |ok: bool| if ok { Vec::new() } else { vec![format!("{at}: {value} against {keyword} {wants}")] };
        let number = || wants.as_f64().expect("a number");
        let size = || usize::try_from(wants.as_u64().expect("a size")).expect("a size");
        match keyword {
            "$schema" | "$defs" | "title" | "description" => Vec::new(),
            "$ref" => {
                let path = wants.as_str().and_then(|r| r.strip_prefix('#')).expect("a reference into the schema");
                self.check(self.root.pointer(path).expect("a definition"), value, at)
            }
            "type" => {
                let is = |t: &Json| match t.as_str().expect("a type") {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("unknown type {other}"),
                };
                complain(wants.as_array().map_or_else(|| is(wants), |all| all.iter().any(is)))
            }
            "enum" => complain(list(wants).contains(value)),
            "anyOf" => complain(list(wants).iter().any(fits)),
            "oneOf" => complain(list(wants).iter().filter(|s| fits(s)).count() == 1),
            "not" => complain(!fits(wants)),
            "pattern" => {
                let pattern = wants.as_str().and_then(|p| self.patterns.get(p)).expect("a pattern");
                complain(value.as_str().is_none_or(|s| pattern.is_match(s)))
            }
            "minLength" => complain(value.as_str().is_none_or(|s| s.chars().count() >= size())),
            "minimum" => complain(value.as_f64().is_none_or(|x| x >= number())),
            "maximum" => complain(value.as_f64().is_none_or(|x| x <= number())),
            "exclusiveMinimum" => complain(value.as_f64().is_none_or(|x| x > number())),
            "exclusiveMaximum" => complain(value.as_f64().is_none_or(|x| x < number())),
            "minItems" => complain(value.as_array().is_none_or(|v| v.len() >= size())),
            "maxItems" => complain(value.as_array().is_none_or(|v| v.len() <= size())),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.flat_map(|(i, v)| self.check(wants, v, &format!("{at}/{i}"))).collect()
            }
            "required" => {
                let has = |name: &Json| value.get(name.as_str().expect("a name")).is_some();
                complain(!value.is_object() || list(wants).iter().all(has))
            }
            "propertyNames" => {
                let names = value.as_object().into_iter().flatten().map(|(k, _)| Json::from(k.as_str()));
                names.flat_map(|n| self.check(wants, &n, at)).collect()
            }
            "properties" => {
                let pairs = value.as_object().into_iter().flatten().filter_map(|(k, v)| Some((k, v, wants.get(k)?)));
                pairs.flat_map(|(k, v, s)| self.check(s, v, &format!("{at}/{k}"))).collect()
            }
            "additionalProperties" => {
                let known = |k: &String| schema.get("properties").is_some_and(|p| p.get(k).is_some());
                let pairs = value.as_object().into_iter().flatten().filter(|(k, _)| !known(k));
                pairs.flat_map(|(k, v)| self.check(wants, v, &format!("{at}/{k}"))).collect()
            }
            other => panic!("the schema uses the keyword {other}"),
        }
    }
}

/// All patterns of a schema.
fn collect(schema: &Json, patterns: &mut BTreeMap<String, Regex>) {
    match schema {
        Json::Object(map) => {
            if let Some(p) = map.get("pattern").and_then(Json::as_str) {
                patterns.entry(p.to_owned()).or_insert_with(|| Regex::new(p).expect("a pattern"));
            }
            map.values().for_each(|v| collect(v, patterns));
        }
        Json::Array(all) => all.iter().for_each(|v| collect(v, patterns)),
        _ => {}
    }
}

#[test]
fn what_the_parser_takes_is_valid() {
    let validator = Validator::new();
    let mut inputs = support::inputs("frontend", &["yml"]).expect("filetests");
    for folder in ["iris", "breast-cancer", "digits", "seed"] {
        let path = format!("{}/fixtures/{folder}/Kurfile.yml", env!("CARGO_MANIFEST_DIR"));
        inputs.push(std::fs::read_to_string(path).expect("a fixture"));
    }
    let examples = format!("{}/fixtures/examples", env!("CARGO_MANIFEST_DIR"));
    for file in std::fs::read_dir(examples).expect("examples").flatten() {
        if file.path().extension().is_some_and(|e| e == "yml") {
            inputs.push(std::fs::read_to_string(file.path()).expect("an example"));
        }
    }
    let mut seen = 0;
    for input in &inputs {
        let Some((errors, json)) = read(input) else { continue };
        if errors.is_empty() {
            seen += 1;
            let wrong = validator.errors(&json);
            assert!(wrong.is_empty(), "{}\nis refused: {wrong:#?}", input.trim());
        }
    }
    assert!(seen > 60, "only {seen} good Kurfiles were found");
}

#[test]
fn mistakes_of_grammar_are_invalid() {
    let validator = Validator::new();
    let inputs = support::inputs("frontend", &["yml"]).expect("filetests");
    let mut seen = 0;
    let mut passed = Vec::new();
    for input in &inputs {
        let Some((errors, json)) = read(input) else { continue };
        // What a template gives is known to the parser only.
        if errors.is_empty() || !errors.iter().all(|id| GRAMMAR.contains(id)) || input.contains("{{") {
            continue;
        }
        seen += 1;
        if validator.errors(&json).is_empty() {
            passed.push(input.trim().to_owned());
        }
    }
    assert!(seen > 15, "only {seen} faulty Kurfiles were found");
    assert!(passed.is_empty(), "the schema takes {} of {seen}:\n{}", passed.len(), passed.join("\n---\n"));
}
