//! Warnings about what is legal but has no effect, or is hardly meant.

use crate::diag::{Diagnostic, Span};
use crate::frontend::Value;
use crate::frontend::value::AtValue;

/// A key of `settings` that no template uses. `near` is a setting of kurc itself that is spelled alike.
pub(crate) fn unused_setting(key: &Value, path: &str, near: Option<&str>) -> Diagnostic {
    let d = Diagnostic::warning("unused-setting", format!("the setting `{path}` is never used"))
        .at_value(key, "no template uses it");
    match near {
        Some(near) => d.help(format!("did you mean `{near}`?")),
        None => d.help(format!("use it in a template, `\"{{{{ {path} }}}}\"`, or remove it")),
    }
}

/// A template of layers that nothing uses.
pub(crate) fn unused_template(key: &Value, name: &str) -> Diagnostic {
    Diagnostic::warning("unused-template", format!("the template `{name}` is never used"))
        .at_value(key, "no entry of the model uses it")
        .help(format!("use it like a layer, `- {name}: {{}}`, or remove it"))
}

/// A layer that gives what it is given.
pub(crate) fn idle_layer(layer: &Value, word: &str, why: &str, help: &str) -> Diagnostic {
    Diagnostic::warning("idle-layer", format!("this `{word}` changes nothing: it {why}"))
        .at_value(layer, "without effect")
        .help(help)
}

/// The same activation twice in a row.
pub(crate) fn repeated_activation(second: &Value, first: Span, word: &str) -> Diagnostic {
    let (what, label) = match word {
        "softmax" => ("makes all classes nearly alike", "shares of shares"),
        _ => ("changes nothing", "no value is below 0 here"),
    };
    Diagnostic::warning("repeated-activation", format!("a second `{word}` right after the first {what}"))
        .at_value(second, label)
        .also(first, "the first one")
        .help("remove one of the two, or put a layer with weights between them")
}

/// `relu` right before `softmax`.
pub(crate) fn relu_before_softmax(softmax: &Value, relu: Span) -> Diagnostic {
    Diagnostic::warning("relu-before-softmax", "a `relu` right before a `softmax` hides which classes are unlikely")
        .at_value(softmax, "chooses among what is left")
        .also(relu, "all numbers below 0 become 0 here")
        .help("remove the `relu`: the softmax makes shares of any numbers")
}

/// Dropout with nothing but the output behind it.
pub(crate) fn dropout_at_output(dropout: &Value, output: &str) -> Diagnostic {
    Diagnostic::warning("dropout-at-output", format!("a dropout right at the output `{output}` spoils predictions"))
        .at_value(dropout, "drops predictions while the model trains")
        .help("remove it, or put it before the last layer with weights")
}

/// An output whose weights nothing trains.
pub(crate) fn untrained_output(name: &str, output: Span, weights: Span) -> Diagnostic {
    let d = Diagnostic::warning("untrained-output", format!("no loss trains the output `{name}`"));
    let d = if weights == output {
        d.at(output, "its weights stay as they are at the start")
    } else {
        d.at(output, "not a `target` of a loss").also(weights, "these weights stay as they are at the start")
    };
    d.help(format!("add a loss with `target: {name}`, or remove the layers that lead to it alone"))
}

/// Validation or test on the data that the model was trained on.
pub(crate) fn same_data(section: &str, at: Span, train: Span) -> Diagnostic {
    let what = if section == "test" { "tests" } else { "validates" };
    Diagnostic::warning("same-data", format!("`{section}` {what} on the very data of `train`"))
        .at(at, "the same data")
        .also(train, "trained on here")
        .note("a model that has learned its rows by heart looks perfect on them")
        .help("keep some rows apart and name their file here")
}

/// A key without a value that stands over a section of an included file.
pub(crate) fn erased_include(key: &Value, lost: Span, file: &str) -> Diagnostic {
    let name = key.as_str().unwrap_or_default();
    Diagnostic::warning("erased-include", format!("the empty `{name}:` erases what `{file}` says there"))
        .at_value(key, "nothing at all is a value, too")
        .also(lost, "erased")
        .help(format!("remove the line to keep what is included, or write `{name}: null` if it is to go"))
}
