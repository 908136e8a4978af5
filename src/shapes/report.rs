//! Findings of shape inference: shapes that do not fit, with both sides and the way the shape took.

use super::infer::{Cx, Place, Seen};
use super::{Size, shape_text};
use crate::diag::{Diagnostic, Severity, Span};
use crate::frontend::value::also_via;
use crate::model::types::{DataShape, Layer, LayerKind};

/// How many layers above a faulty one are shown.
const SHOWN: usize = 6;

/// Adds the places through which a layer came: the template or alias that is used.
pub(super) fn via(layer: &Layer, d: Diagnostic) -> Diagnostic {
    also_via(d, layer.via.as_deref())
}

impl<'a> Cx<'a, '_> {
    /// Two shapes that do not fit: a layer, the value it reads, and what to write instead. Gives nothing, as the layer
    /// has no shape then.
    pub(super) fn mismatch<T>(
        &mut self,
        layer: &Layer,
        message: String,
        (span, label): (Span, impl Into<String>),
        from: &Seen<'_, 'a>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.mismatch_with(layer, message, (span, label.into()), from, None, help.into())
    }

    /// As [`Cx::mismatch`], for two inputs that do not fit each other; `other` is where the first comes from.
    pub(super) fn mismatch_of_two<T>(
        &mut self,
        layer: &Layer,
        message: String,
        from: &Seen<'_, 'a>,
        other: Option<(Span, String)>,
        help: &str,
    ) -> Option<T> {
        self.mismatch_with(layer, message, (layer.span, "these do not fit".to_owned()), from, other, help.to_owned())
    }

    fn mismatch_with<T>(
        &mut self,
        layer: &Layer,
        message: String,
        (span, label): (Span, String),
        from: &Seen<'_, 'a>,
        other: Option<(Span, String)>,
        help: String,
    ) -> Option<T> {
        let mut d = Diagnostic::error("shape-mismatch", message).at(span, label);
        if let Some((span, label)) = other {
            d = d.also(span, label);
        }
        let mut trail = self.trail(from.place, SHOWN + 1);
        if let Some((producer, shape)) = trail.first() {
            let gives = format!("`{}` gives {} (batch not counted)", producer.kind.word(), shape_text(Some(shape)));
            d = d.also(producer.span, gives);
        }
        let dots = if trail.len() > SHOWN { "… -> " } else { "" };
        trail.truncate(SHOWN);
        let chain: Vec<String> = trail.iter().rev().map(|(layer, shape)| self.step(layer, shape, span)).collect();
        d = d.note(format!("shapes so far: {dots}{}", chain.join(" -> ")));
        if matches!(from.place, Place::Inside(..)) {
            let seen = shape_text(Some(&from.shape));
            d = d.note(format!("inside `parallel` a layer sees one element of the first axis: here {seen}"));
        }
        self.push(layer, d.help(help));
        None
    }

    /// One layer on the way to the place `from`, with its file when that is another one.
    fn step(&self, layer: &Layer, shape: &[Size], from: Span) -> String {
        let line = self.sources.line(layer.span);
        let file = match self.sources.name(layer.span.file) {
            name if layer.span.file != from.file => format!(" of {name}"),
            _ => String::new(),
        };
        let what = match &layer.kind {
            LayerKind::Input { .. } => format!("input `{}`", layer.name),
            kind => kind.word().to_owned(),
        };
        format!("{what} (line {line}{file}) {}", shape_text(Some(shape)))
    }
}

pub(super) fn unknown_input_shape(layer: &Layer, severity: Severity) -> Diagnostic {
    let message = format!("the shape of input `{}` is not known", layer.name);
    let d = match severity {
        Severity::Error => Diagnostic::error("unknown-input-shape", message),
        Severity::Warning => Diagnostic::warning("unknown-input-shape", message),
    };
    d.at(layer.span, "no shape here, and no data to learn it from")
        .help(format!("write `input: {{shape: [100], name: {}}}` (sizes of one sample)", layer.name))
        .help("or name the data in the `train` section, or build with `--data FILE`")
}

pub(super) fn declared_otherwise(layer: &Layer, declared: Span, data: &DataShape) -> Diagnostic {
    let text = format!("input `{}` is declared with another shape than its data has", layer.name);
    let d = Diagnostic::error("shape-mismatch", text)
        .at(declared, "declared here")
        .note(format!("`{}` gives {:?} per sample", data.source, data.shape))
        .help(format!("write `shape: {:?}`, or leave `shape` out", data.shape));
    if !data.reshapes {
        return d;
    }
    let numbers = data.shape.iter().copied().fold(1, u64::saturating_mul);
    d.help(format!("any shape of {numbers} numbers fits the columns"))
}

pub(super) fn empty_axis(layer: &Layer) -> Diagnostic {
    Diagnostic::error("shape-mismatch", format!("a size of input `{}` is 0", layer.name))
        .at(layer.span, "sizes are at least 1")
}

pub(super) fn large_sample(layer: &Layer, shape: &[Size]) -> Diagnostic {
    let what = match &layer.kind {
        LayerKind::Input { .. } => format!("input `{}`", layer.name),
        kind => format!("the result of `{}`", kind.word()),
    };
    Diagnostic::error("model-too-large", format!("one sample of {what} is too large"))
        .at(layer.span, format!("its shape is {}", shape_text(Some(shape))))
}

pub(super) fn large_tensor(layer: &Layer, shape: &[u64]) -> Diagnostic {
    Diagnostic::error("model-too-large", format!("a tensor of `{}` is too large", layer.kind.word()))
        .at(layer.span, format!("it would have the shape {shape:?}"))
        .help("use fewer units or kernels, or make the layers before it smaller")
}

pub(super) fn duplicate_tensor(inner: &str, list: &Layer, other: Span) -> Diagnostic {
    let (what, rule) = match list.kind {
        LayerKind::Recurrent(_) => (
            "by one direction of this layer",
            "both directions of a `recurrent` layer are called NAME_fwd and NAME_rev",
        ),
        _ => ("by an inner layer of this list", "the inner layers of a `dense` list are called NAME.0, NAME.1, …"),
    };
    Diagnostic::error("duplicate-tensor", format!("two layers keep a tensor called `{inner}/kernel`"))
        .at(other, "this name is taken")
        .also(list.span, what)
        .help(format!("rename `{}`: {rule}", list.name))
}

pub(super) fn reuse_of_other_size(
    layer: &Layer,
    target: &str,
    original: Span,
    pair: Option<(&Vec<u64>, &Vec<u64>)>,
) -> Diagnostic {
    let d =
        Diagnostic::error("shape-mismatch", format!("the weights of `{target}` do not fit the input of this `reuse`"))
            .at(layer.span, "reads a value of another shape than the original does")
            .also(original, "the original");
    let d = match pair {
        Some((have, want)) => d.note(format!("the original has weights of shape {have:?}, this use needs {want:?}")),
        None => d,
    };
    d.help("give both the same input sizes, or write the layer again instead of reusing it")
}

pub(super) fn softmax_over_one(layer: &Layer, from: Option<Span>) -> Diagnostic {
    let d =
        Diagnostic::warning("softmax-over-one", "a softmax over one unit always gives 1, so the model learns nothing")
            .at(layer.span, "this softmax has nothing to choose from");
    let d = match from {
        Some(span) => d.also(span, "one unit comes from here"),
        None => d,
    };
    d.help("use `activation: sigmoid` for a probability, drop the activation for a number, or give one unit per class")
}

pub(super) fn odd_halves(layer: &Layer, size: Span, units: u64) -> Diagnostic {
    let text = format!("{units} units cannot be halved between two directions");
    Diagnostic::warning("odd-recurrent-size", text)
        .at(size, "odd")
        .also(layer.span, "`merge: concat` gives each direction half of the units")
        .note(format!("as in Kur, one unit is dropped: the output has {} units", units - 1))
        .help(format!("write `size: {}`", units + 1))
}

pub(super) fn one_unit_halved(layer: &Layer, size: Span) -> Diagnostic {
    Diagnostic::error("invalid-value", "1 unit cannot be halved between two directions")
        .at(size, "at least 2")
        .also(layer.span, "`merge: concat` gives each direction half of the units")
        .help("write `size: 2`, or another `merge`")
}
