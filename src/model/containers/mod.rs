//! Model entries: the table of layer types, and which type an entry has (kur-reference 2.1).

mod activation;
mod common;
mod convolution;
mod dense;
mod expand;
mod for_loop;
mod input;
mod normalization;
mod pool;
mod shape;

pub(super) use expand::{Expander, Node, NodeKind};

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::{Entry, Kind};

use super::cx::Cx;
use super::report::keys::{
    misplaced_parameter, no_layer_type, not_yet_supported, two_layer_types, unknown_key, unknown_layer,
};
use super::types::LayerKind;

/// A parsed argument.
pub(super) struct Parsed {
    /// The layer.
    pub(super) kind: LayerKind,
    /// A name inside the argument: `input: NAME`, `output: {name: NAME}`.
    pub(super) name: Option<Value>,
}

impl From<LayerKind> for Parsed {
    fn from(kind: LayerKind) -> Parsed {
        Parsed { kind, name: None }
    }
}

/// Parses the evaluated argument of a layer type.
type Parse = fn(&mut Cx<'_>, &Value) -> Result<Parsed, Reported>;

/// A layer type: its word, the keys of its mapping form, its parser.
pub(super) struct LayerType {
    /// The Kurfile word.
    pub(super) word: &'static str,
    params: &'static [&'static str],
    pub(super) parse: Parse,
}

/// All layer types of this version.
static LAYERS: &[LayerType] = &[
    LayerType { word: "input", params: input::PARAMS, parse: input::input },
    LayerType { word: "dense", params: dense::PARAMS, parse: dense::dense },
    LayerType { word: "activation", params: &[], parse: activation::activation },
    LayerType { word: "dropout", params: normalization::DROPOUT_PARAMS, parse: normalization::dropout },
    LayerType { word: "flatten", params: &[], parse: shape::flatten },
    LayerType { word: "expand", params: shape::PARAMS, parse: shape::expand },
    LayerType { word: "squeeze", params: shape::PARAMS, parse: shape::squeeze },
    LayerType { word: "convolution", params: convolution::PARAMS, parse: convolution::convolution },
    LayerType { word: "pool", params: pool::PARAMS, parse: pool::pool },
    LayerType {
        word: "batch_normalization",
        params: normalization::BATCH_PARAMS,
        parse: normalization::batch_normalization,
    },
    LayerType { word: "output", params: input::OUTPUT_PARAMS, parse: input::output },
];

/// The loop operator.
const FOR: &str = "for";

/// Container types of Kur that this version does not build.
const LATER: &[&str] =
    &["recurrent", "transpose", "merge", "repeat", "embedding", "reuse", "parallel", "for_each", "debug", "assert"];

/// What an entry is.
pub(super) enum Form<'v> {
    /// A layer with its type and argument.
    Layer(&'static LayerType, &'v Entry),
    /// A `for` loop with its argument.
    For(&'v Entry),
}

/// Finds the type of an entry, which must be a mapping, and checks its other keys.
///
/// # Errors
/// `wrong-type`, `no-layer-type`, `two-layer-types`, `unknown-layer`, `not-yet-supported`; `unknown-key` without failing.
pub(super) fn resolve<'v>(cx: &mut Cx<'_>, entry: &'v Value) -> Result<Form<'v>, Reported> {
    let mut words: Vec<&str> = LAYERS.iter().map(|t| t.word).collect();
    words.push(FOR);
    let Some(entries) = entry.as_map() else {
        return Err(cx.fail(super::report::values::wrong_type(entry, "a model entry", "a layer, such as `dense: 10`")));
    };
    let name_of = |e: &'v Entry| e.key.as_str().unwrap_or_default();
    let mut typed = entries.iter().filter(|e| words.contains(&name_of(e)) || LATER.contains(&name_of(e)));
    let Some(first) = typed.next() else {
        return Err(match entries.iter().find(|e| !common::FIELDS.contains(&name_of(e))) {
            Some(e) => cx.fail(unknown_layer(&e.key, &words)),
            None => cx.fail(no_layer_type(entry, &words)),
        });
    };
    if let Some(second) = typed.next() {
        return Err(cx.fail(two_layer_types(&first.key, &second.key)));
    }
    let word = name_of(first);
    if LATER.contains(&word) {
        return Err(cx.fail(not_yet_supported(&first.key, &format!("`{word}`"))));
    }
    let layer = LAYERS.iter().find(|t| t.word == word);
    let params = layer.map_or(for_loop::PARAMS, |t| t.params);
    for e in entries {
        let key = name_of(e);
        if key != word && !common::FIELDS.contains(&key) {
            let misplaced = first.value.is_null() && params.contains(&key);
            let d = if misplaced {
                misplaced_parameter(&e.key, word)
            } else {
                unknown_key(&e.key, &format!("the `{word}` entry"), &[common::FIELDS, &[word]].concat())
            };
            let reported = cx.fail(d);
            if misplaced {
                // The argument is known to be incomplete; a second error about it would only confuse.
                return Err(reported);
            }
        }
    }
    Ok(layer.map_or(Form::For(first), |t| Form::Layer(t, first)))
}

/// A bare word (`- flatten`) as the mapping it stands for (`- flatten:`).
pub(super) fn bare(word: &Value) -> Value {
    let null = Value { written: None, ..word.with_kind(Kind::Null) };
    word.with_kind(Kind::Map(vec![Entry { key: word.clone(), value: null }]))
}
