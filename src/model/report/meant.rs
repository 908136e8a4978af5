//! What to write instead of words that other libraries use, and of shapes that beginners try first.

use crate::diag::Diagnostic;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::containers::ACTIVATIONS;

/// Layers under the names of other libraries, and what Kur writes.
const LAYERS: &[(&[&str], &str)] = &[
    (&["lstm"], "recurrent: {size: 64, type: lstm}"),
    (&["gru", "rnn"], "recurrent: {size: 64, type: gru}"),
    (&["conv", "conv2d", "convolution2d", "conv_2d"], "convolution: {kernels: 64, size: [3, 3]}"),
    (&["conv1d", "convolution1d", "conv_1d"], "convolution: {kernels: 64, size: 3}"),
    (&["conv3d", "convolution3d", "conv_3d"], "convolution: {kernels: 64, size: [3, 3, 3]}"),
    (
        &["maxpool", "max_pool", "maxpooling", "max_pooling", "maxpool2d", "maxpooling2d", "pooling"],
        "pool: {size: [2, 2], strides: 2}",
    ),
    (
        &["avgpool", "avg_pool", "averagepool", "average_pool", "avgpool2d", "averagepooling2d", "average_pooling"],
        "pool: {size: [2, 2], strides: 2, type: average}",
    ),
    (&["batchnorm", "batch_norm", "batchnormalization", "bn", "batchnorm2d"], "batch_normalization"),
    (&["linear", "fc", "fully_connected", "fullyconnected"], "dense: 64"),
    (&["concat", "concatenate"], "merge: concat"),
];

/// Keys under the names of other libraries, and what Kur calls them, where a mapping has that key.
const KEYS: &[(&[&str], &str)] = &[
    (&["units", "neurons", "nodes", "kernel_size", "pool_size", "window", "kernel"], "size"),
    (&["filters", "channels", "out_channels"], "kernels"),
    (&["padding"], "border"),
    (&["stride", "step"], "strides"),
    (&["rate", "p", "prob", "probability"], "fraction"),
    (&["lr"], "learning_rate"),
    (&["bidir"], "bidirectional"),
];

/// Layers that take a mapping, with an example of it.
const EXAMPLES: &[(&str, &str)] = &[
    ("`recurrent`", "recurrent: {size: 64, type: lstm}"),
    ("`convolution`", "convolution: {kernels: 64, size: [3, 3]}"),
    ("`for`", "for: {range: 3, iterate: [dense: 10]}"),
    ("`for_each`", "for_each: {items: [64, 32], iterate: [dense: \"{{ item }}\"]}"),
    ("`parallel`", "parallel: {apply: [dense: 10]}"),
];

fn find(table: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    table.iter().find(|(words, _)| words.contains(&lower.as_str())).map(|(_, meant)| *meant)
}

/// What to write instead of a word that is no layer type; `known` are the words that are.
pub(crate) fn layer(name: &str, value: &Value, known: &[&str]) -> Option<String> {
    // `- dense:3` is a text, not a pair.
    if let Some((word, rest)) = name.split_once(':')
        && known.contains(&word)
        && !rest.is_empty()
    {
        return Some(format!("put a blank after the colon: `{word}: {}`", rest.trim()));
    }
    if let Some(entry) = find(LAYERS, name) {
        let entry = match value.kind {
            Kind::Int(n) if n > 0 => entry.replace("64", &n.to_string()),
            _ => entry.to_owned(),
        };
        return Some(format!("write `- {entry}`"));
    }
    let word = ACTIVATIONS.iter().find(|w| w.eq_ignore_ascii_case(name))?;
    Some(format!("write `- activation: {word}`"))
}

/// The known key that another library calls `name`.
pub(crate) fn key<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let meant = find(KEYS, name)?;
    known.iter().copied().find(|k| *k == meant)
}

/// Whether a key is one of another entry: activations stand on their own.
pub(crate) fn own_entry(name: &str, value: Option<&Value>) -> Option<String> {
    if name != "activation" {
        return None;
    }
    let word = value.and_then(Value::as_str).unwrap_or("relu");
    Some(format!("write an entry of its own below: `- activation: {word}`"))
}

/// Adds an example of the mapping that should stand there.
pub(crate) fn with_example(d: Diagnostic, what: &str, value: &Value) -> Diagnostic {
    let Some((_, example)) = EXAMPLES.iter().find(|(w, _)| *w == what) else { return d };
    let example = match value.kind {
        Kind::Int(n) if n > 0 => {
            example.replace("size: 64", &format!("size: {n}")).replace("range: 3", &format!("range: {n}"))
        }
        _ => (*example).to_owned(),
    };
    d.help(format!("for example `{example}`"))
}

/// What to write instead of keys that stand beside the short form of a layer.
pub(crate) fn inside(word: &str, short: &Value, key: &str, value: &Value) -> String {
    let text = |v: &Value| match &v.kind {
        Kind::List(_) | Kind::Tuple(_) | Kind::Map(_) | Kind::Set(_) => crate::frontend::print::json_line(v),
        _ => v.written.as_deref().unwrap_or("…").to_owned(),
    };
    let value = text(value);
    let first = match word {
        "input" => "name",
        "dropout" => "fraction",
        _ => "size",
    };
    match word {
        "input" => format!("write `input: {{{key}: {value}}}`, and `name: {}` below it", text(short)),
        _ => format!("write both inside: `{word}: {{{first}: {}, {key}: {value}}}`", text(short)),
    }
}
