//! The typed Kurfile: what the front end hands to `lower`. Every value that an error may speak of keeps its [`Span`].
//! No tensors here.

mod layers;
mod optimizer;
mod sections;

pub use layers::{Activation, Border, Cell, Highway, Layer, LayerKind, MergeMode, PoolKind, Recurrent, Regularizer};
pub use optimizer::{
    BATCHES, Clip, Curve, LAST_BATCH, Optimizer, OptimizerKind, PLATEAU, PLATEAU_SEEN, ScaleRate, Schedule,
};
pub use sections::{CtcLoss, Loss, LossKind, TrainSection};

use kur_runtime::spec::SectionSpec;

use crate::diag::{Diagnostic, Severity, Span};

/// A value with its place in the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// Index of a layer in [`Kurfile::layers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub u32);

/// A whole evaluated Kurfile (kur-reference 1–7).
#[derive(Clone, Debug, PartialEq)]
pub struct Kurfile {
    /// Stem of the file name.
    pub name: String,
    /// `settings.seed`.
    pub seed: Option<u64>,
    /// `settings.compat: kur`.
    pub compat_kur: bool,
    /// Layers in topological order; every input of a layer precedes it.
    pub layers: Vec<Layer>,
    /// Outputs in model order (kur-reference 2.4.4).
    pub outputs: Vec<ModelOutput>,
    /// The `loss` section; empty when absent.
    pub losses: Vec<Loss>,
    /// Span of the `loss` key, when there is one.
    pub loss_span: Option<Span>,
    /// `train`, with its optimizer.
    pub train: Option<TrainSection>,
    /// `validate`.
    pub validate: Option<Spanned<SectionSpec>>,
    /// `validate.weights` (best).
    pub validate_best: Option<String>,
    /// `test`.
    pub test: Option<Spanned<SectionSpec>>,
    /// `test.weights`.
    pub test_weights: Option<String>,
    /// `evaluate`.
    pub evaluate: Option<Spanned<SectionSpec>>,
    /// `evaluate.weights`.
    pub evaluate_weights: Option<String>,
    /// `evaluate.destination`.
    pub destination: Option<String>,
    /// Constructs of the language that the compiler cannot build yet, in the order they were met.
    pub unbuilt: Vec<Unbuilt>,
    /// Messages of `debug` entries.
    pub messages: Vec<Spanned<String>>,
    /// The evaluated sections as YAML text, for the payload and `--emit=value`.
    pub resolved: String,
}

impl Kurfile {
    /// The column of `scale_rate`, where the train step reads it beside the model's inputs and targets.
    #[must_use]
    pub fn rate_source(&self) -> Option<&str> {
        let source = self.train.as_ref()?.optimizer.scale_rate.as_ref()?.source.as_str();
        let input = self.layers.iter().any(|l| matches!(l.kind, LayerKind::Input { .. }) && l.name == source);
        let target = self.losses.iter().any(|l| self.outputs.get(l.output).is_some_and(|o| o.name == source));
        (!input && !target).then_some(source)
    }
}

/// When the lack of a construct matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The program would compute something else: nothing can be built.
    Build,
    /// Something beside the computation is missing (a log, a hook): the program does its work without it and says so.
    Run,
    /// Data cannot be read: only a run that needs it fails.
    Data,
}

/// A construct that is part of the language, was checked, and is not built yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbuilt {
    /// When that matters.
    pub need: Need,
    /// The construct, as messages name it: "the supplier `cifar`".
    pub what: String,
    /// How many more places use it.
    pub more: usize,
    finding: Diagnostic,
}

impl Unbuilt {
    /// A construct at the place that the finding shows.
    pub(super) fn new(need: Need, what: &str, finding: Diagnostic) -> Unbuilt {
        Unbuilt { need, what: what.to_owned(), more: 0, finding }
    }

    /// As an error, for commands that need it, or as a warning.
    #[must_use]
    pub fn finding(&self, severity: Severity) -> Diagnostic {
        let d = Diagnostic { severity, ..self.finding.clone() };
        match self.more {
            0 => d,
            1 => d.note("it is used in one more place"),
            n => d.note(format!("it is used in {n} more places")),
        }
    }
}

/// A model output.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOutput {
    /// Primary name.
    pub name: String,
    /// Every other name of the value.
    pub aliases: Vec<String>,
    /// The layer that computes it (never a `LayerKind::Output`: those are resolved away).
    pub layer: LayerId,
    /// Where the output is declared.
    pub span: Span,
}

/// A shape given to an input by the data, for [`crate::lower`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataShape {
    /// Name of the model input or target.
    pub name: String,
    /// Shape without the batch; 0 for a first axis whose length differs from sample to sample.
    pub shape: Vec<u64>,
    /// Where it was learned from, for messages: `iris-train.csv`.
    pub source: String,
    /// Whether only the number of elements counts, since columns have no shape of their own.
    pub reshapes: bool,
}

/// Data sections only, for the look at the data before the model is lowered.
#[must_use]
pub fn data_sections(k: &Kurfile) -> Vec<(&'static str, &SectionSpec)> {
    let mut v = Vec::new();
    if let Some(t) = &k.train {
        v.push(("train", &t.section));
    }
    for (name, s) in [("validate", &k.validate), ("test", &k.test), ("evaluate", &k.evaluate)] {
        if let Some(s) = s {
            v.push((name, &s.value));
        }
    }
    v
}
