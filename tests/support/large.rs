//! Large Kurfiles of several kinds, for the tests and measurements of how time grows with the number of layers.
//!
//! Comes in: a kind and a number of layers. Goes out: the text of a Kurfile with about as many. Every kind but
//! [`Kind::Warnings`] and [`Kind::Errors`] is without findings.

#![allow(dead_code, reason = "each target uses a part of this module")]

use std::fmt::Write as _;

/// What a large Kurfile is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Dense layers and activations, one below the other.
    List,
    /// The same as one line of JSON.
    Json,
    /// Named layers that name their inputs.
    Named,
    /// As [`Kind::Named`], the last layer first.
    Reversed,
    /// A loop with a template in every value.
    Loop,
    /// As many settings as layers, each setting from the one before, each layer from one of them.
    Settings,
    /// Convolutions, activations and normalisations.
    Convolution,
    /// Every layer an output with a loss of its own.
    Outputs,
    /// A chain of activations, which fuses into one kernel.
    Activations,
    /// Every second layer gives rise to a warning.
    Warnings,
    /// Every second layer reads one that is not there.
    Errors,
}

/// All kinds, with their names.
pub(crate) const KINDS: &[(&str, Kind)] = &[
    ("list", Kind::List),
    ("json", Kind::Json),
    ("named", Kind::Named),
    ("reversed", Kind::Reversed),
    ("loop", Kind::Loop),
    ("settings", Kind::Settings),
    ("convolution", Kind::Convolution),
    ("outputs", Kind::Outputs),
    ("activations", Kind::Activations),
    ("warnings", Kind::Warnings),
    ("errors", Kind::Errors),
];

const LOSS: &str = "loss:\n  - {target: y, name: mean_squared_error}\n";

impl Kind {
    /// The name under which the file is to be kept: the extension chooses the reader.
    #[must_use]
    pub(crate) fn file_name(self) -> &'static str {
        if self == Kind::Json { "Kurfile.json" } else { "Kurfile.yml" }
    }

    /// The text of a Kurfile with about `layers` layers.
    #[must_use]
    pub(crate) fn text(self, layers: usize) -> String {
        let pairs = layers / 2;
        // Writing to a string cannot fail.
        let mut out = String::new();
        match self {
            Kind::List => {
                out += "model:\n  - input: {shape: [16]}\n    name: x\n";
                for i in 0..pairs {
                    let _ = write!(out, "  - dense: 16\n    name: d{i}\n  - activation: relu\n");
                }
                out += "  - output: y\n";
                out += LOSS;
            }
            Kind::Json => {
                out += r#"{"model": [{"input": {"shape": [16]}, "name": "x"}"#;
                for i in 0..pairs {
                    let _ = write!(out, r#", {{"dense": 16, "name": "d{i}"}}, {{"activation": "relu"}}"#);
                }
                out += r#", {"output": "y"}], "loss": [{"target": "y", "name": "mean_squared_error"}]}"#;
            }
            Kind::Named | Kind::Reversed => {
                let mut entries = vec!["  - input: {shape: [16]}\n    name: a0\n".to_owned()];
                for i in 0..pairs {
                    entries.push(format!("  - dense: 16\n    name: d{i}\n    inputs: a{i}\n"));
                    entries.push(format!("  - activation: relu\n    name: a{}\n    inputs: [d{i}]\n", i + 1));
                }
                entries.push(format!("  - output: y\n    inputs: a{pairs}\n"));
                if self == Kind::Reversed {
                    entries.reverse();
                }
                let _ = write!(out, "model:\n{}{LOSS}", entries.concat());
            }
            Kind::Loop => {
                let _ = write!(
                    out,
                    "settings: {{widths: [16, 32], kind: relu, depth: {pairs}}}\nmodel:\n  - input: {{shape: [16]}}\n    \
                     name: d\n  - for:\n      range: \"{{{{ depth }}}}\"\n      with_index: i\n      iterate:\n        \
                     - dense: \"{{{{ widths[i % 2] + i // depth }}}}\"\n          name: \"d{{{{ i }}}}\"\n        \
                     - activation: \"{{{{ kind | lower }}}}\"\n          inputs: \"{{{{ layers[-1] }}}}\"\n  \
                     - output: y\n{LOSS}"
                );
            }
            Kind::Settings => {
                out += "settings:\n  w0: 16\n";
                for i in 1..pairs {
                    let _ = writeln!(out, "  w{i}: \"{{{{ w{} }}}}\"", i - 1);
                }
                out += "model:\n  - input: {shape: [16]}\n    name: x\n";
                for i in 0..pairs {
                    let _ = write!(out, "  - dense: \"{{{{ w{i} }}}}\"\n  - activation: relu\n");
                }
                out += "  - output: y\n";
                out += LOSS;
            }
            Kind::Convolution => {
                out += "model:\n  - input: {shape: [8, 8, 3]}\n    name: x\n";
                for _ in 0..layers / 4 {
                    out += "  - convolution: {kernels: 4, size: [3, 3], border: same}\n  - batch_normalization:\n";
                    out += "  - activation: relu\n  - dropout: 0.25\n";
                }
                out += "  - flatten:\n  - dense: 2\n  - output: y\n";
                out += LOSS;
            }
            Kind::Outputs => {
                out += "model:\n  - input: {shape: [16]}\n    name: x\n";
                for i in 0..layers {
                    let _ = write!(out, "  - dense: 2\n    name: y{i}\n    inputs: x\n    sink: yes\n");
                }
                out += "loss:\n";
                for i in 0..layers {
                    let _ = writeln!(out, "  - {{target: y{i}, name: mean_squared_error}}");
                }
            }
            Kind::Activations => {
                out += "model:\n  - input: {shape: [16]}\n    name: x\n  - dense: 4\n";
                for i in 0..layers {
                    let _ = writeln!(out, "  - activation: {}", ["tanh", "relu", "sigmoid"][i % 3]);
                }
                out += "  - output: y\n";
                out += LOSS;
            }
            Kind::Warnings => {
                out += "model:\n  - input: {shape: [16]}\n    name: x\n";
                for _ in 0..pairs {
                    out += "  - dense: {size: 8, size: 16}\n  - activation: relu\n";
                }
                out += "  - output: y\n";
                out += LOSS;
            }
            Kind::Errors => {
                out += "model:\n  - input: {shape: [16]}\n    name: x\n";
                for i in 0..pairs {
                    let _ = write!(out, "  - dense: 16\n    name: d{i}\n  - activation: relu\n    inputs: e{i}\n");
                }
                out += "  - output: y\n";
                out += LOSS;
            }
        }
        out
    }
}
