//! `recurrent` and `embedding` (kur-reference 3.5, 3.14).

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::{AtValue, Kind};
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::missing_key;
use crate::model::table::{Key, Ty};
use crate::model::types::{Activation, Cell, LayerKind, MergeMode, Recurrent, Spanned};

use super::Parsed;
use super::activation;
use super::merge;

const CELLS: &[&str] = &["gru", "lstm", "sru"];

/// Activations that work on each unit by itself and that cells are built with.
const OUTER: &[&str] =
    &["relu", "tanh", "sigmoid", "hard_sigmoid", "linear", "none", "elu", "selu", "softplus", "softsign"];

/// `outer_activation`; null is the identity.
const OUTER_FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Word(OUTER)]);

const FORMULAS: &[&str] = &["keras", "torch"];

const KEYS: &[Key] = &[
    Key::new("size", Ty::Whole(1), "units").required(),
    Key::new("type", Ty::Word(CELLS), "`gru` (default), `lstm` or `sru`"),
    Key::new("sequence", Ty::Bool, "give the whole sequence (default), or only the last state"),
    Key::new("bidirectional", Ty::Bool, "run in both directions"),
    Key::new("merge", Ty::Word(merge::MODES), "how both directions are joined, `average` by default"),
    Key::new("outer_activation", OUTER_FORM, "activation of candidate and output, `relu` by default"),
    Key::new(
        "cell",
        Ty::Word(FORMULAS),
        "formulas of `gru` and `lstm`: Keras' (`keras`, default) or PyTorch's (`torch`)",
    ),
];

const EMBEDDING: &[Key] = &[
    Key::new("vocab_size", Ty::Whole(1), "number of vectors").required(),
    Key::new("size", Ty::Whole(1), "length of a vector").required(),
];

/// A mapping.
pub(super) const FORM: Ty = Ty::Map(KEYS);

/// A mapping.
pub(super) const EMBEDDING_FORM: Ty = Ty::Map(EMBEDDING);

/// Reads `recurrent: {size: N, …}`.
pub(super) fn recurrent(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if arg.is_null() {
        return Err(cx.fail(missing_key(arg, "`recurrent`", "size", "size: 64")));
    }
    let fields = Fields::open(cx, arg, "`recurrent`", KEYS)?;
    let size = fields.need(cx, "size", "size: 64").and_then(|v| {
        // Kur takes no float here, not even a whole one.
        let value = convert::whole(cx, v, &fields.what("size"), 1)?;
        Ok(Spanned { value, span: v.span })
    });
    let cell = fields.read(cx, "type", |cx, v, what| convert::word(cx, v, what, CELLS));
    let sequence = fields.read(cx, "sequence", convert::boolean);
    let both = fields.read(cx, "bidirectional", convert::boolean);
    let join = fields.read(cx, "merge", merge::mode);
    let outer_activation = fields.read(cx, "outer_activation", outer_activation);
    let torch = fields.read(cx, "cell", |cx, v, what| convert::word(cx, v, what, FORMULAS));
    let torch = torch?.is_some_and(|word| word == 1);
    if let (true, Some(v)) = (torch, fields.get("outer_activation").filter(|v| !v.is_null())) {
        return Err(cx.fail(always_tanh(v)));
    }
    let cell = cell?;
    if let (Some(2), Some(v)) = (cell, fields.get("cell")) {
        return Err(cx.fail(one_formula(v)));
    }
    let (both, join) = (both?.unwrap_or(false), join?);
    if let (false, Some(v)) = (both, fields.get("merge")) {
        return Err(cx.fail(one_direction(v)));
    }
    Ok(LayerKind::Recurrent(Recurrent {
        size: size?,
        cell: match cell {
            Some(1) => Cell::Lstm,
            Some(2) => Cell::Sru,
            _ => Cell::Gru,
        },
        sequence: sequence?.unwrap_or(true),
        torch,
        bidirectional: both.then(|| join.unwrap_or(MergeMode::Average)),
        outer_activation: outer_activation?,
    })
    .into())
}

/// One of [`OUTER`]. An activation that only layers have is told from a word that means nothing.
fn outer_activation(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Activation, Reported> {
    if value.is_null() {
        return Ok(Activation::Linear);
    }
    let word = value.as_str().unwrap_or_default().to_lowercase();
    match activation::meaning(&word) {
        Some(function) if OUTER.contains(&word.as_str()) => Ok(function),
        Some(function) => {
            let all = function == Activation::Softmax;
            let label = if all { "works on all units together" } else { "no function that a cell can use" };
            let d = Diagnostic::error("invalid-value", format!("{what} cannot be {word}"))
                .at_value(value, label)
                .help(format!("a cell takes {}", convert::either(OUTER)));
            Err(cx.fail(d))
        }
        // Reports the word, or that it is none.
        None => convert::word(cx, value, what, OUTER).map(|_| Activation::Linear),
    }
}

fn always_tanh(value: &Value) -> Diagnostic {
    Diagnostic::error("invalid-value", "`outer_activation` of `recurrent` does not go with `cell: torch`")
        .at_value(value, "PyTorch's cells always use tanh")
        .help("remove `outer_activation`, or `cell: torch`")
}

fn one_formula(value: &Value) -> Diagnostic {
    Diagnostic::error("invalid-value", "`cell` of `recurrent` does not go with `type: sru`")
        .at_value(value, "there is only one kind of this cell")
        .help("remove `cell`")
}

fn one_direction(merge: &Value) -> Diagnostic {
    Diagnostic::error("invalid-value", "`merge` of `recurrent` needs `bidirectional: yes`")
        .at_value(merge, "there is only one direction")
        .help("add `bidirectional: yes`, or remove `merge`")
}

/// Reads `embedding: {vocab_size: V, size: N}`.
pub(super) fn embedding(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if !matches!(arg.kind, Kind::Map(_)) {
        return Err(cx.fail(missing_key(arg, "`embedding`", "vocab_size", "embedding: {vocab_size: 100, size: 16}")));
    }
    let fields = Fields::open(cx, arg, "`embedding`", EMBEDDING)?;
    let mut one = |key: &'static str, example: &str| {
        fields.need(cx, key, example).and_then(|v| convert::whole(cx, v, &fields.what(key), 1))
    };
    let (vocab_size, size) = (one("vocab_size", "vocab_size: 100"), one("size", "size: 16"));
    Ok(LayerKind::Embedding { vocab_size: vocab_size?, size: size? }.into())
}
