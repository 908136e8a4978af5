//! What `kurc help` says of layers, losses, optimizers, suppliers and single keys, as Markdown: made from the tables that
//! the parser uses, so that it cannot say anything else than what is parsed.

use std::fmt::Write as _;

use super::containers::{CONTAINERS, FIELDS, How};
use super::sections::evaluation::{EVALUATE, TEST, VALIDATE};
use super::sections::suppliers::SUPPLIERS;
use super::sections::{loss, optimizer, settings, train};
use super::table::{Key, Ty};

/// The topics beside single words.
pub const TOPICS: &[&str] = &["layers", "losses", "metrics", "optimizers", "suppliers"];

/// Other names of topics.
const ALIASES: &[(&str, &str)] = &[
    ("layer", "layers"),
    ("loss", "losses"),
    ("metric", "metrics"),
    ("optimizer", "optimizers"),
    ("optimiser", "optimizers"),
    ("optimisers", "optimizers"),
    ("supplier", "suppliers"),
    ("data", "suppliers"),
];

/// An entry of `model` for each layer and operator.
const ENTRIES: &[(&str, &str)] = &[
    ("input", "- input: {shape: [28, 28, 1]}\n  name: images"),
    ("dense", "- dense: 64"),
    ("convolution", "- convolution: {kernels: 32, size: [3, 3], strides: 1, border: same}"),
    ("pool", "- pool: {size: [2, 2], strides: 2, type: max}"),
    ("activation", "- activation: relu"),
    ("dropout", "- dropout: 0.25"),
    ("batch_normalization", "- batch_normalization:"),
    ("flatten", "- flatten:"),
    ("expand", "- expand: -1"),
    ("squeeze", "- squeeze: -1"),
    ("transpose", "- transpose: [1, 0]"),
    ("repeat", "- repeat: 5"),
    ("merge", "- merge: concat\n  inputs: [left, right]"),
    ("recurrent", "- recurrent: {size: 128, type: gru, bidirectional: yes}"),
    ("embedding", "- embedding: {vocab_size: 1000, size: 32}"),
    ("parallel", "- parallel:\n    apply:\n      - dense: 32\n      - activation: relu"),
    ("upsample", "- upsample: [2, 2]"),
    ("pad", "- pad: {before: 1, after: 1}"),
    ("global_pool", "- global_pool: average"),
    ("layer_normalization", "- layer_normalization:"),
    ("position_embedding", "- position_embedding:"),
    ("attention", "- attention: {heads: 4, causal: yes}"),
    ("reuse", "- reuse: encoder\n  inputs: right"),
    ("output", "- output: species"),
    ("for", "- for:\n    range: 3\n    iterate:\n      - dense: 32\n      - activation: relu"),
    ("for_each", "- for_each:\n    items: [64, 32]\n    loop_var: size\n    iterate:\n      - dense: \"{{ size }}\""),
    ("debug", "- debug: \"the model has {{ layers | length }} layers so far\""),
    ("assert", "- assert: \"{{ 2 > 1 }}\""),
];

/// Markdown about a topic, about a single layer, loss, optimizer or supplier, or about a key; `None` when nothing is known
/// by the name.
#[must_use]
pub fn help(topic: &str) -> Option<String> {
    let topic = topic.to_lowercase();
    let alias = ALIASES.iter().find(|(other, _)| *other == topic);
    Some(match alias.map_or(topic.as_str(), |(_, own)| own) {
        "layers" => layers(),
        "losses" => losses(),
        "metrics" => metrics(),
        "optimizers" => optimizers(),
        "suppliers" => suppliers(),
        word => match (one(word), key_page(word)) {
            // Some words are a layer or a supplier, and a key elsewhere.
            (Some(page), Some(key)) => format!("{}\n\n#{key}", page.trim_end()),
            (page, key) => page.or(key)?,
        },
    })
}

/// All words that [`help`] knows beside [`TOPICS`]; some stand there several times.
pub fn words() -> impl Iterator<Item = &'static str> {
    let keys = tables().into_iter().flat_map(|(_, keys)| keys).filter(|k| !k.doc.is_empty()).map(|k| k.name);
    CONTAINERS
        .iter()
        .map(|c| c.word)
        .chain(loss::RULES.iter().map(|r| r.word))
        .chain(optimizer::RULES.iter().map(|r| r.word))
        .chain(SUPPLIERS.iter().map(|s| s.word))
        .chain(keys)
}

/// Every mapping of the language: what it belongs to, and its keys.
fn tables() -> Vec<(String, &'static [Key])> {
    let mut all = vec![("every layer".to_owned(), FIELDS)];
    all.extend(CONTAINERS.iter().map(|c| (format!("`{}`", c.word), c.form.keys())));
    let sections: [(&str, &'static [Key]); 7] = [
        ("every loss", loss::KEYS),
        ("`metrics`", loss::ARGUED),
        ("`train`", train::KEYS),
        ("`validate`", VALIDATE),
        ("`test`", TEST),
        ("`evaluate`", EVALUATE),
        ("`settings`", settings::KEYS),
    ];
    all.extend(sections.map(|(of, keys)| (of.to_owned(), keys)));
    all.extend(SUPPLIERS.iter().map(|s| (format!("`{}`", s.word), s.form.keys())));
    // The mappings inside of these, and those inside of them.
    let mut next = 0;
    while let Some((of, keys)) = all.get(next).map(|(of, keys)| (of.clone(), *keys)) {
        all.extend(keys.iter().map(|k| (format!("`{}` of {of}", k.name), inner(&k.ty))).filter(|(_, k)| !k.is_empty()));
        next += 1;
    }
    all
}

/// The keys of the mappings that a type takes: itself, as items of a list, or under names of the user's own.
fn inner(ty: &Ty) -> &'static [Key] {
    match ty {
        Ty::Map(keys) => keys,
        Ty::List(item) | Ty::Dict(item) => inner(item),
        Ty::AnyOf(all) => all.iter().map(inner).find(|k| !k.is_empty()).unwrap_or_default(),
        _ => &[],
    }
}

/// Where a key may stand, and what it does there.
fn key_page(word: &str) -> Option<String> {
    // The same key in several places is told once.
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (of, keys) in tables() {
        for k in keys.iter().filter(|k| k.name == word && !k.doc.is_empty()) {
            let mut text = String::new();
            key(&mut text, k, None, 0);
            if !matches!(k.ty, Ty::Map(_)) {
                self::keys(&mut text, inner(&k.ty), 1);
            }
            match found.iter_mut().find(|(known, _)| *known == text) {
                Some((_, places)) => places.push(of.clone()),
                None => found.push((text, vec![of.clone()])),
            }
        }
    }
    let mut out = format!("# {word}\n");
    for (text, places) in &found {
        let _ = write!(out, "\nkey of {}:\n\n{text}", places.join(", "));
    }
    (!found.is_empty()).then_some(out)
}

fn suppliers() -> String {
    let mut out = "Suppliers: entries of the list `data` in `train`, `validate`, `test` and `evaluate`.\n".to_owned();
    for s in SUPPLIERS {
        out.push('\n');
        supplier(&mut out, s.word);
    }
    out += "\n```yaml\ntrain:\n  data:\n    - csv: {path: data.csv, normalize: standard}\n```\n";
    out
}

fn supplier(out: &mut String, word: &str) -> Option<()> {
    let s = SUPPLIERS.iter().find(|s| s.word == word)?;
    let _ = writeln!(out, "# {}\n\nsupplier: {}\n", s.word, s.doc);
    let _ = writeln!(out, "takes {}", s.form.describe());
    let own: Vec<&Key> = s.form.keys().iter().filter(|k| !k.doc.is_empty()).collect();
    if !own.is_empty() {
        out.push('\n');
    }
    for k in own {
        key(out, k, None, 0);
        if !matches!(k.ty, Ty::Map(_)) {
            keys(out, inner(&k.ty), 1);
        }
    }
    Some(())
}

/// The section of one word.
fn one(word: &str) -> Option<String> {
    let mut out = String::new();
    if supplier(&mut out, word).is_some() {
        out += "\nAll suppliers: `kurc help suppliers`\n";
        return Some(out);
    }
    if let Some(i) = CONTAINERS.iter().position(|c| c.word == word) {
        container(&mut out, i);
        out += "\nFields that every layer has: `kurc help layers`\n";
    } else if let Some(rule) = loss::RULES.iter().find(|r| r.word == word) {
        one_loss(&mut out, rule);
        out += "\nKeys that every loss has: `kurc help losses`\n";
    } else {
        let rule = optimizer::RULES.iter().find(|r| r.word == word)?;
        one_optimizer(&mut out, rule);
        out += "\nKeys that every optimizer has: `kurc help optimizers`\n";
    }
    Some(out)
}

fn layers() -> String {
    let mut out = "Layers and operators of `model`, each an entry of the list.\n".to_owned();
    for i in 0..CONTAINERS.len() {
        out.push('\n');
        container(&mut out, i);
    }
    out += "\n# fields of every layer\n\nBeside its type an entry may have:\n\n";
    keys(&mut out, FIELDS, 0);
    out += "\n```yaml\n- dense: 64\n  name: hidden\n  freeze: yes\n  regularizer: {l2: 0.0001}\n```\n";
    out
}

fn container(out: &mut String, index: usize) {
    let c = &CONTAINERS[index];
    let kind = match c.how {
        How::Layer(_) | How::Parallel | How::Reuse => "layer",
        How::For | How::ForEach | How::Debug | How::Assert => "operator",
    };
    let _ = writeln!(out, "# {}\n\n{kind}: {}\n", c.word, c.doc);
    let _ = writeln!(out, "takes {}", c.form.describe());
    if !c.form.keys().is_empty() {
        out.push('\n');
        keys(out, c.form.keys(), 0);
    }
    if let Some((_, example)) = ENTRIES.iter().find(|(w, _)| *w == c.word) {
        let _ = writeln!(out, "\n```yaml\n{example}\n```");
    }
}

fn losses() -> String {
    let mut out = "Losses: entries of the section `loss`, one for each output that is trained.\n".to_owned();
    for rule in &loss::RULES {
        out.push('\n');
        one_loss(&mut out, rule);
    }
    let own = |k: &&Key| !loss::RULES.iter().any(|r| r.keys.contains(&k.name));
    out += "\n# keys of every loss\n\n";
    loss::KEYS.iter().filter(own).for_each(|k| key(&mut out, k, None, 0));
    out.push('\n');
    measures(&mut out);
    out
}

fn metrics() -> String {
    let mut out =
        "Metrics: `metrics` of an entry of `loss`, what tests and validation measure beside the loss.\n\n".to_owned();
    measures(&mut out);
    out
}

fn measures(out: &mut String) {
    *out += "# metrics\n\n";
    for m in &loss::MEASURES {
        let _ = writeln!(out, "- `{}`: {}", m.word, m.doc);
    }
    keys(out, loss::ARGUED, 0);
    *out += "\n```yaml\nloss:\n  - {target: y, name: categorical_crossentropy, metrics: [accuracy, {top_k: 5}]}\n```\n";
}

fn one_loss(out: &mut String, rule: &loss::Rule) {
    let _ = writeln!(out, "# {}\n\nloss: {}", rule.word, rule.doc);
    if !rule.keys.is_empty() {
        out.push('\n');
        loss::KEYS.iter().filter(|k| rule.keys.contains(&k.name)).for_each(|k| key(out, k, None, 0));
    }
    let _ = writeln!(out, "\n```yaml\nloss:\n  - {}\n```", rule.example);
}

fn optimizers() -> String {
    let mut out = "Optimizers: `optimizer` of the section `train`, a word or a mapping.\n".to_owned();
    for rule in &optimizer::RULES {
        out.push('\n');
        one_optimizer(&mut out, rule);
    }
    let own = |k: &&Key| !optimizer::RULES.iter().any(|r| r.keys.iter().any(|(own, _)| *own == k.name));
    out += "\n# keys of every optimizer\n\n";
    for k in optimizer::KEYS.iter().filter(own).filter(|k| k.name != "learning_rate") {
        key(&mut out, k, None, 0);
    }
    out += "\n```yaml\ntrain:\n  optimizer:\n    name: adam\n    clip: {norm: 5}\n    schedule: {name: cosine, steps: 10000, warmup: 500}\n```\n";
    out
}

fn one_optimizer(out: &mut String, rule: &optimizer::Rule) {
    let _ = writeln!(out, "# {}\n\noptimizer: {}\n", rule.word, rule.doc);
    for k in optimizer::KEYS {
        let default = if k.name == "learning_rate" {
            Some(rule.rate)
        } else {
            rule.keys.iter().find(|(name, _)| *name == k.name).map(|(_, d)| *d)
        };
        let Some(default) = default else { continue };
        let default = match k.ty {
            Ty::Bool => if default > 0.0 { "yes" } else { "no" }.to_owned(),
            _ if default != 0.0 && default < 1e-4 => format!("{default:e}"),
            _ => default.to_string(),
        };
        key(out, k, Some(&default), 0);
    }
    let _ = writeln!(out, "\n```yaml\ntrain:\n  optimizer: {{name: {}, learning_rate: {}}}\n```", rule.word, rule.rate);
}

fn keys(out: &mut String, keys: &[Key], depth: usize) {
    keys.iter().for_each(|k| key(out, k, None, depth));
}

/// `name: what it does (its values; default)`, and the keys of a mapping below it.
fn key(out: &mut String, k: &Key, default: Option<&str>, depth: usize) {
    let indent = "  ".repeat(depth);
    let mut about = vec![k.ty.describe()];
    if let Ty::List(item) = k.ty {
        about = vec![format!("a list; each item {}", item.describe())];
    }
    if k.required {
        about.push("required".to_owned());
    }
    about.extend(default.map(|d| format!("default {d}")));
    if k.unbuilt.is_some() {
        about.push("not built yet".to_owned());
    }
    let _ = writeln!(out, "{indent}- `{}`: {} ({})", k.name, k.doc, about.join("; "));
    if let Ty::Map(inner) = k.ty {
        keys(out, inner, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Sink, SourceMap};
    use crate::frontend::MemoryWorld;

    fn read(text: &str) {
        let world = MemoryWorld::with_file("Kurfile.yml", text);
        let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
        let read = crate::model::load(&world, "Kurfile.yml", &[], &mut sources, &mut sink);
        assert!(read.is_ok() && !sink.has_errors(), "{text}\n{:?}", sink.sorted());
    }

    /// The YAML blocks of a page.
    fn examples(page: &str) -> Vec<String> {
        page.split("```yaml\n").skip(1).filter_map(|p| p.split("```").next()).map(str::to_owned).collect()
    }

    const MODEL: &str =
        "model:\n  - input: {shape: [4]}\n    name: x\n  - dense: 3\n  - activation: sigmoid\n    name: y\n";

    #[test]
    fn every_container_has_an_example_that_is_read() {
        assert_eq!(ENTRIES.len(), CONTAINERS.len());
        for c in CONTAINERS {
            let (_, entry) = ENTRIES.iter().find(|(w, _)| *w == c.word).unwrap_or_else(|| panic!("{}", c.word));
            let before = match c.word {
                "input" => "",
                "merge" | "reuse" => {
                    "- {input: {shape: [4]}, name: left}\n- dense: 4\n  name: encoder\n- {input: {shape: [4]}, name: right}\n"
                }
                _ => "- {input: {shape: [4, 4]}, name: x}\n",
            };
            let after = "\n- dense: 3\n  name: y_of_example\n";
            let list: String = format!("{before}{entry}{after}").lines().map(|l| format!("  {l}\n")).collect();
            read(&format!("model:\n{list}"));
        }
    }

    #[test]
    fn examples_of_losses_and_optimizers_are_read() {
        for page in [losses(), metrics(), optimizers(), suppliers()] {
            for example in examples(&page) {
                read(&format!("{MODEL}{example}"));
            }
        }
    }

    #[test]
    fn every_word_has_its_section() {
        let is_topic = |word: &&str| TOPICS.contains(word) || ALIASES.iter().any(|(other, _)| other == word);
        for word in words().filter(|w| !is_topic(w)) {
            let page = help(word).unwrap_or_else(|| panic!("{word}"));
            assert!(page.contains(&format!("# {word}\n")) && page.contains(": "), "{word}: {page}");
        }
        for topic in TOPICS.iter().chain(ALIASES.iter().map(|(other, _)| other)) {
            assert!(help(topic).is_some_and(|p| p.contains("```yaml")), "{topic}");
        }
        for (word, part) in [
            ("regularizer", "key of every layer:\n\n- `regularizer`: penalty on its kernels"),
            ("regularizer", "  - `l2`: factor of the sum of squares"),
            ("schedule", "key of `optimizer` of `train`:"),
            ("merge", "## merge\n\nkey of `recurrent`:"),
            ("schedule", "  - `patience`: "),
            ("provider", "key of `train`, `validate`, `test`, `evaluate`:"),
            ("csv", "- `normalize`: scaling of the inputs"),
            ("csv", "  - `one_hot`: "),
            ("optimizer", "# lamb"),
            ("loss", "# huber"),
            ("metrics", "- `auroc`: "),
            ("clip", "  - `norm`: "),
            ("DATA", "# jsonl"),
        ] {
            let page = help(word).unwrap_or_default();
            assert!(page.contains(part), "{word} lacks `{part}`:\n{page}");
        }
        // Known for their error only.
        assert_eq!(help("seperator"), None);
        assert!(help("DENSE").is_some_and(|p| p.contains("`size`")));
        assert_eq!(help("nothing"), None);
        let page = help("optimizers").expect("a page");
        assert!(page.contains("- `beta_2`: weight of old squares") && page.contains("default 0.999"), "{page}");
    }
}
