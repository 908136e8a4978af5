//! Model entries: the tables of layer types and operators, and which of them an entry is (kur-reference 2.1).

mod activation;
mod children;
mod common;
mod convolution;
mod dense;
mod expand;
mod input;
mod merge;
mod modern;
mod normalization;
mod operators;
mod pool;
mod recurrent;
mod reuse;
mod shape;
mod templates;

pub(crate) use activation::WORDS as ACTIVATIONS;
pub(super) use common::FIELDS;
pub(super) use expand::{Expander, Node, NodeKind};
pub(super) use reuse::resolve as resolve_reuse;
pub(super) use templates::Templates;

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::{Entry, Kind};

use super::cx::Cx;
use super::report::keys::{
    misplaced_parameter, no_layer_type, outside, two_layer_types, two_templates, unknown_layer, unknown_pair,
};
use super::table::Ty;
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

/// How an entry of a type is read.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// A layer: its whole argument is evaluated, then parsed.
    Layer(fn(&mut Cx<'_>, &Value) -> Result<Parsed, Reported>),
    /// `parallel`: a layer with a chain of its own.
    Parallel,
    /// `reuse`: a layer that stands for others.
    Reuse,
    /// `for`.
    For,
    /// `for_each`.
    ForEach,
    /// `debug`.
    Debug,
    /// `assert`.
    Assert,
}

/// A type of container.
pub(in crate::model) struct ContainerType {
    /// The Kurfile word.
    pub(super) word: &'static str,
    /// Its argument.
    pub(super) form: Ty,
    /// What it does, one phrase.
    pub(super) doc: &'static str,
    pub(super) how: How,
}

const fn layer(
    word: &'static str,
    form: Ty,
    parse: fn(&mut Cx<'_>, &Value) -> Result<Parsed, Reported>,
    doc: &'static str,
) -> ContainerType {
    ContainerType { word, form, doc, how: How::Layer(parse) }
}

const fn operator(word: &'static str, form: Ty, how: How, doc: &'static str) -> ContainerType {
    ContainerType { word, form, doc, how }
}

/// All containers: layers, then operators.
pub(in crate::model) static CONTAINERS: &[ContainerType] = &[
    layer("input", input::FORM, input::input, "data that enters the model"),
    layer("dense", dense::FORM, dense::dense, "fully connected units over the last axis"),
    layer("convolution", convolution::FORM, convolution::convolution, "convolution in one to three dimensions"),
    layer("pool", pool::FORM, pool::pool, "maximum or average over windows"),
    layer("activation", activation::FORM, activation::activation, "elementwise function or softmax"),
    layer("dropout", normalization::DROPOUT_FORM, normalization::dropout, "drops values at random while training"),
    layer(
        "batch_normalization",
        normalization::BATCH_FORM,
        normalization::batch_normalization,
        "scales values by the statistics of the batch",
    ),
    layer("flatten", shape::FLATTEN, shape::flatten, "one axis out of all"),
    layer("expand", shape::EXPAND, shape::expand, "a new axis of size 1"),
    layer("squeeze", shape::EXPAND, shape::squeeze, "removes an axis of size 1"),
    layer("transpose", shape::TRANSPOSE_FORM, shape::transpose, "another order of axes"),
    layer("repeat", shape::REPEAT_FORM, shape::repeat, "the same vector several times"),
    layer("merge", merge::FORM, merge::merge, "joins several inputs"),
    layer("recurrent", recurrent::FORM, recurrent::recurrent, "GRU, LSTM or SRU over a sequence"),
    layer("embedding", recurrent::EMBEDDING_FORM, recurrent::embedding, "vectors for indices"),
    operator("parallel", children::PARALLEL, How::Parallel, "layers applied to every element of the first axis"),
    operator("reuse", reuse::FORM, How::Reuse, "another layer once more, with its weights"),
    layer("upsample", modern::UPSAMPLE_FORM, modern::upsample, "every cell several times along the spatial axes"),
    layer("pad", modern::PAD_FORM, modern::pad, "zeros around the spatial axes"),
    layer("global_pool", modern::GLOBAL_POOL_FORM, modern::global_pool, "maximum or average over all spatial axes"),
    layer(
        "layer_normalization",
        modern::NORMALIZATION_FORM,
        modern::layer_normalization,
        "scales each sample by the statistics of its last axis",
    ),
    layer(
        "position_embedding",
        modern::POSITION_FORM,
        modern::position_embedding,
        "adds a trained vector to each step of a sequence",
    ),
    layer("attention", modern::ATTENTION_FORM, modern::attention, "every step of a sequence looks at the others"),
    layer("output", input::OUTPUT_FORM, input::output, "names the value as an output of the model"),
    operator("for", children::FOR, How::For, "its body several times"),
    operator("for_each", children::FOR_EACH, How::ForEach, "its body for each item of a list"),
    operator("debug", operators::DEBUG, How::Debug, "a message, shown by `kurc check -v`"),
    operator("assert", operators::ASSERT, How::Assert, "an error unless the condition holds"),
];

/// The words of all containers.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    CONTAINERS.iter().map(|t| t.word)
}

/// What an entry is.
pub(super) enum Form<'v> {
    /// A container of a built-in type, with its argument.
    Builtin(&'static ContainerType, &'v Entry),
    /// The use of a template, with its arguments.
    Template(&'v Entry),
}

/// Finds the type of an entry, which must be a mapping, and checks its other keys.
///
/// # Errors
/// `wrong-type`, `no-layer-type`, `two-layer-types`, `two-templates`, `unknown-layer`; `unknown-key` without failing.
pub(super) fn resolve<'v>(cx: &mut Cx<'_>, entry: &'v Value, templates: &Templates) -> Result<Form<'v>, Reported> {
    let Some(entries) = entry.as_map() else {
        return Err(cx.fail(super::report::values::wrong_type(entry, "a model entry", "a layer, such as `dense: 10`")));
    };
    let name_of = |e: &'v Entry| e.key.as_str().unwrap_or_default();
    let builtin = |e: &&'v Entry| words().any(|w| w == name_of(e));
    let mut typed = entries.iter().filter(|e| builtin(e) || templates.contains(name_of(e)));
    let Some(first) = typed.next() else {
        let known: Vec<&str> = words().collect::<Vec<&str>>().into_iter().chain(templates.names()).collect();
        return Err(match entries.iter().find(|e| !FIELDS.iter().any(|k| k.name == name_of(e))) {
            Some(e) => cx.fail(unknown_layer(&e.key, &e.value, &known)),
            None => cx.fail(no_layer_type(entry, &known)),
        });
    };
    if let Some(second) = typed.next() {
        let of_first = |t: &ContainerType| t.form.keys().iter().any(|k| k.name == name_of(second) && !k.doc.is_empty());
        let first_type = CONTAINERS.iter().find(|t| t.word == name_of(first));
        if !matches!(first.value.kind, Kind::Map(_) | Kind::Null) && first_type.is_some_and(of_first) {
            return Err(cx.fail(outside(&second.key, name_of(first), &first.value, &second.value)));
        }
        let d = if builtin(&first) || builtin(&second) { two_layer_types } else { two_templates };
        return Err(cx.fail(d(&first.key, &second.key)));
    }
    let word = name_of(first);
    let container = CONTAINERS.iter().find(|t| t.word == word);
    let params: Vec<&str> = container.map_or(Vec::new(), |t| t.form.keys().iter().map(|k| k.name).collect());
    for e in entries {
        let key = name_of(e);
        if key != word && !FIELDS.iter().any(|k| k.name == key) {
            let misplaced = first.value.is_null() && params.contains(&key);
            let short = !matches!(first.value.kind, Kind::Map(_)) && params.contains(&key);
            let d = if misplaced {
                misplaced_parameter(&e.key, word)
            } else if short {
                outside(&e.key, word, &first.value, &e.value)
            } else {
                let known: Vec<&str> = FIELDS.iter().map(|k| k.name).chain([word]).collect();
                unknown_pair(&e.key, Some(&e.value), &format!("the `{word}` entry"), &known)
            };
            let reported = cx.fail(d);
            if misplaced {
                // The argument is known to be incomplete; a second error about it would only confuse.
                return Err(reported);
            }
        }
    }
    Ok(container.map_or(Form::Template(first), |t| Form::Builtin(t, first)))
}

/// A bare word (`- flatten`) as the mapping it stands for (`- flatten:`).
pub(super) fn bare(word: &Value) -> Value {
    let null = Value { written: None, ..word.with_kind(Kind::Null) };
    word.with_kind(Kind::Map(vec![Entry { key: word.clone(), value: null }]))
}
