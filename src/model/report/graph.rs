//! Findings about names, connections, outputs and losses.

use crate::diag::{Diagnostic, Span, did_you_mean};
use crate::frontend::Value;
use crate::frontend::value::AtValue;

use super::keys::words;

/// Two containers of one name.
pub(crate) fn duplicate_name(name: &str, second: Span, first: Span) -> Diagnostic {
    let d = Diagnostic::error("duplicate-name", format!("two layers are named `{name}`"));
    if second == first {
        return d
            .at(second, "gives the same name in every round of the loop")
            .help(format!("use the loop's index in the name: `\"{name}_{{{{ index }}}}\"`"));
    }
    d.at(second, "second use of the name").also(first, "first use").help("give one of them another name")
}

/// `inputs` names nothing.
pub(crate) fn unknown_input(name: &str, at: Span, known: &[&str]) -> Diagnostic {
    let d = Diagnostic::error("unknown-input", format!("no layer is named `{name}`")).at(at, "unknown name");
    match did_you_mean(name, known.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None if known.is_empty() => d.help(format!("name the layer it should read: `name: {name}`")),
        None => d.note(format!("named layers are {}", words(known))),
    }
}

/// An `input` layer with `inputs`.
pub(crate) fn input_with_inputs(layer: Span, inputs: Span) -> Diagnostic {
    Diagnostic::error("input-with-inputs", "an `input` layer cannot have `inputs`: its values come from the data")
        .at(inputs, "remove this")
        .also(layer, "of this layer")
}

/// The first layer is no input.
pub(crate) fn no_input(layer: Span, word: &str) -> Diagnostic {
    Diagnostic::error("no-input", format!("this `{word}` has nothing to read"))
        .at(layer, "the first layer of a model must be an `input`")
        .help("start the model with `- input: NAME`, where NAME is the name of the data")
}

/// A layer that reads several values but takes one.
pub(crate) fn too_many_inputs(layer: Span, word: &str, inputs: Span, count: usize) -> Diagnostic {
    Diagnostic::error("too-many-inputs", format!("`{word}` reads one value, but {count} inputs are given"))
        .at(inputs, format!("{count} inputs"))
        .also(layer, "this layer takes one")
        .help("join them with a `merge` layer first: `- merge: concat` with these `inputs`")
}

/// `inputs: []`.
pub(crate) fn empty_inputs(value: &Value) -> Diagnostic {
    Diagnostic::error("wrong-type", "`inputs` must name at least one layer, found an empty list")
        .at_value(value, "expected a name")
        .help("remove `inputs` to read the layer above")
}

/// Layers that wait for each other.
pub(crate) fn cyclic_inputs(spans: &[(Span, String)]) -> Diagnostic {
    // Of a circle through thousands of layers the first ones are enough to find it.
    const MARKED: usize = 24;
    let names: Vec<&str> = spans.iter().map(|(_, n)| n.as_str()).collect();
    let text = format!("layers wait for each other in a circle: {}", words(&names));
    let d = Diagnostic::error("cyclic-inputs", text);
    spans.iter().take(MARKED).enumerate().fold(d, |d, (i, (span, _))| {
        if i == 0 { d.at(*span, "part of the circle") } else { d.also(*span, "part of the circle") }
    })
}

/// An input that nothing reads.
pub(crate) fn unused_input(name: &str, span: Span) -> Diagnostic {
    Diagnostic::warning("unused-input", format!("nothing reads the input `{name}`, so it is an output as well"))
        .at(span, "not read by any layer")
}

/// Loops made too many layers.
pub(crate) fn model_too_large(at: Span, limit: usize) -> Diagnostic {
    Diagnostic::error("model-too-large", format!("the model has more than {limit} layers"))
        .at(at, "the limit is crossed here")
        .help("look at the `range` of the loops around this entry")
}

/// A loss for something that is no output.
pub(crate) fn unknown_target(value: &Value, outputs: &[&str], inner: Option<Span>) -> Diagnostic {
    let name = value.as_str().unwrap_or_default();
    let d =
        Diagnostic::error("unknown-target", format!("the loss trains `{name}`, which is not an output of the model"))
            .at_value(value, "not an output");
    let d = match inner {
        Some(span) => {
            d.also(span, "this layer feeds others, so it is no output").help("add `sink: yes` to make it one")
        }
        None => d,
    };
    let d = match did_you_mean(name, outputs.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None => d,
    };
    d.note(format!("the outputs are {}", words(outputs)))
}

/// Two losses for one output.
pub(crate) fn replaced_loss(name: &str, old: Span, new: Span) -> Diagnostic {
    Diagnostic::warning("replaced-loss", format!("two losses train `{name}`; the last one counts"))
        .at(old, "ignored")
        .also(new, "this one counts")
}

/// A softmax over one value.
pub(crate) fn softmax_over_one(softmax: Span, dense: Span) -> Diagnostic {
    Diagnostic::warning("softmax-over-one", "a softmax over one unit always gives 1, so the model learns nothing")
        .at(softmax, "always 1")
        .also(dense, "one unit")
        .help("for a number, remove the softmax; for two classes, use `activation: sigmoid` or two units")
}

/// `name:` beside `input: NAME`.
pub(crate) fn two_names(name: &Value, short: Span) -> Diagnostic {
    Diagnostic::warning("two-names", "this layer is named twice; `name` counts")
        .at_value(name, "this name counts")
        .also(short, "ignored")
}

/// `reuse` names nothing.
pub(crate) fn unknown_reuse(name: &str, at: Span, known: &[&str]) -> Diagnostic {
    let d =
        Diagnostic::error("unknown-reuse", format!("`reuse` names `{name}`, but nothing in the model has that name"))
            .at(at, "unknown name");
    match did_you_mean(name, known.iter().copied()) {
        Some(better) => d.help(format!("did you mean `{better}`?")),
        None => d.help(format!("give the layer that should be used again a name: `name: {name}`")),
    }
}

/// A `reuse` that stands for itself.
pub(crate) fn cyclic_reuse(target: Span, inner: Span) -> Diagnostic {
    let d = Diagnostic::error("cyclic-reuse", "this `reuse` stands for itself").at(target, "leads back here");
    let d = if inner == target { d } else { d.also(inner, "through this") };
    d.help("name a container that does not contain the `reuse`")
}

/// `parallel` in `parallel` through `reuse`, far too often.
pub(crate) fn reuse_too_deep(target: Span, depth: usize) -> Diagnostic {
    let text = format!("`parallel` layers nest deeper than {depth} levels through `reuse`");
    Diagnostic::error("too-deep", text)
        .at(target, "too deep")
        .help("let a `parallel` reuse layers from outside rather than another `parallel`")
}

/// `reuse` of an input.
pub(crate) fn reused_input(name: &str, at: Span, input: Span) -> Diagnostic {
    Diagnostic::error("reused-input", format!("`{name}` is an input, which cannot be reused"))
        .at(at, "not a layer with weights")
        .also(input, "this is data")
        .help(format!("to read the data again, write `inputs: {name}` at the layer that should read it"))
}

/// Templates that use each other without end.
pub(crate) fn endless_template(at: &Value, name: &str, depth: usize) -> Diagnostic {
    Diagnostic::error("endless-template", format!("the template `{name}` uses itself without end"))
        .at_value(at, format!("{depth} templates deep"))
        .help("end the recursion with `when`, or use a `for` loop")
}

/// Layers of `parallel` read the one before.
pub(crate) fn inputs_in_parallel(inputs: Span, parallel: Span) -> Diagnostic {
    Diagnostic::error("inputs-in-parallel", "layers inside `parallel` cannot choose their inputs")
        .at(inputs, "each layer reads the one before it")
        .also(parallel, "inside this")
        .help("remove `inputs`, or move the layer out of `parallel`")
}

/// An `input` inside `parallel`.
pub(crate) fn input_in_parallel(input: Span, parallel: Span) -> Diagnostic {
    Diagnostic::error("input-in-parallel", "data cannot enter the model inside `parallel`")
        .at(input, "an input")
        .also(parallel, "inside this")
        .help("put the `input` before the `parallel`")
}
