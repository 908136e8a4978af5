//! The resolved Kurfile as far as the running program needs it: data, providers, weights, epochs. Plain data; paths
//! are as written (relative ones are relative to the working directory of the process, kur-reference 6.1).

use serde::{Deserialize, Serialize};

/// Everything about a run that is not tensor arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Stem of the Kurfile's name.
    pub name: String,
    /// `settings.seed`, or 0.
    pub seed: u64,
    /// Model inputs in model order.
    pub inputs: Vec<InputSpec>,
    /// Model outputs in model order.
    pub outputs: Vec<OutputSpec>,
    /// The `train` section.
    pub train: Option<SectionSpec>,
    /// The `validate` section.
    pub validate: Option<SectionSpec>,
    /// The `test` section.
    pub test: Option<SectionSpec>,
    /// The `evaluate` section.
    pub evaluate: Option<SectionSpec>,
    /// What the Kurfile asks for beside the computation and this program does not do: "`log` of `train`".
    pub unbuilt: Vec<String>,
    /// Epochs to train, from `epochs` or `stop_when.epochs`; `None` trains until interrupted.
    pub epochs: Option<u64>,
    /// `train.weights`.
    pub train_weights: TrainWeights,
    /// `validate.weights`: best by validation loss.
    pub validate_best: Option<String>,
    /// `test.weights`.
    pub test_weights: Option<String>,
    /// `evaluate.weights`.
    pub evaluate_weights: Option<String>,
    /// `evaluate.destination`.
    pub destination: Option<String>,
    /// What the learning rate needs of the runtime.
    pub rate: RateSpec,
}

/// What the learning rate needs of the runtime beside the number of updates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RateSpec {
    /// `scale_rate`: a column that the train step reads beside inputs and targets.
    pub source: Option<String>,
    /// `schedule: plateau`.
    pub plateau: Option<PlateauSpec>,
    /// `accumulate`, where several batches make one update.
    pub accumulate: Option<AccumulateSpec>,
}

/// Several batches make one update, whose gradient is the mean of theirs; at the end of an epoch fewer will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccumulateSpec {
    /// The scalar state that counts batches since the last update.
    pub batches: String,
    /// The scalar state that is not 0 when this batch makes an update in any case.
    pub last: String,
}

/// The learning rate drops when the loss does not: multiplied by `factor` after `patience` epochs without a new lowest
/// validation loss (training loss without validation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlateauSpec {
    /// What a drop multiplies by.
    pub factor: f64,
    /// Epochs.
    pub patience: u32,
    /// The scalar state that holds the rate's factor.
    pub state: String,
    /// The state that holds the lowest loss and the epochs since it was reached; negative epochs before the first.
    pub seen: String,
}

/// A model input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Name in the model.
    pub name: String,
    /// Shape without the batch; 0 where a size varies.
    pub shape: Vec<u64>,
}

/// A model output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Primary name.
    pub name: String,
    /// Every other name of the same value.
    pub aliases: Vec<String>,
    /// Shape without the batch; 0 where a size varies.
    pub shape: Vec<u64>,
    /// Whether the output is a softmax over its last axis, so that its targets are classes.
    pub softmax: bool,
    /// Losses that train it, by Kur name.
    pub loss: Option<String>,
    /// Data that the loss reads instead of a target named like the output.
    pub loss_reads: Vec<String>,
    /// What tests and validation measure beside the loss.
    pub metrics: Vec<MetricSpec>,
    /// Whether the blank of its `ctc` loss is class 0, with label 0 behind it; otherwise it is the last class.
    pub blank_first: bool,
}

impl OutputSpec {
    /// Name of the result of the test step that tells, where labels are measured, how many frames of each sample are
    /// real.
    #[must_use]
    pub fn frames(name: &str) -> String {
        format!("{name}:frames")
    }
}

/// A measure of a whole data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricSpec {
    /// Share of the truth's class among the k likeliest.
    TopK(u64),
    /// True positives among all that were found positive; the mean over the classes when there are more than two.
    Precision,
    /// Positives that were found; the mean over the classes when there are more than two.
    Recall,
    /// Harmonic mean of precision and recall; the mean over the classes when there are more than two.
    F1,
    /// Area under the receiver operating characteristic; the mean of each class against the rest.
    Auroc,
    /// Share of rows whose likeliest class is the truth.
    Accuracy,
    /// Mean of |prediction − truth|, in units of the data.
    Mae,
    /// Coefficient of determination: 1 − Σ(prediction − truth)² / Σ(truth − mean truth)².
    R2,
    /// Labels that must be inserted, removed and replaced to make the truth of the prediction, per label of the truth.
    Cer,
    /// The same of words: what stands between labels of this number, or single labels.
    Wer(Option<u64>),
}

/// What a metric looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Classes.
    Classes,
    /// Numbers that are to be met.
    Numbers,
    /// Sequences of labels without known places.
    Labels,
}

impl MetricSpec {
    /// Name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            MetricSpec::TopK(k) => format!("top_{k}"),
            MetricSpec::Precision => "precision".to_owned(),
            MetricSpec::Recall => "recall".to_owned(),
            MetricSpec::F1 => "f1".to_owned(),
            MetricSpec::Auroc => "auroc".to_owned(),
            MetricSpec::Accuracy => "accuracy".to_owned(),
            MetricSpec::Mae => "mae".to_owned(),
            MetricSpec::R2 => "r2".to_owned(),
            MetricSpec::Cer => "cer".to_owned(),
            MetricSpec::Wer(_) => "wer".to_owned(),
        }
    }

    /// What it looks at.
    #[must_use]
    pub fn measures(self) -> Measured {
        match self {
            MetricSpec::Mae | MetricSpec::R2 => Measured::Numbers,
            MetricSpec::Cer | MetricSpec::Wer(_) => Measured::Labels,
            _ => Measured::Classes,
        }
    }
}

/// Data and provider of one section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SectionSpec {
    /// Suppliers, in order. Empty: data must come from the command line.
    pub data: Vec<SupplierSpec>,
    /// How batches are made.
    pub provider: ProviderSpec,
}

/// Where data comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SupplierSpec {
    /// A CSV file.
    Csv(CsvSpec),
    /// The two IDX files of MNIST.
    Mnist {
        /// Path of the images file, plain or gzip.
        images: FileSpec,
        /// Path of the labels file, plain or gzip.
        labels: FileSpec,
    },
    /// A file of named arrays.
    Arrays {
        /// What kind of file.
        format: ArrayFormat,
        /// The file.
        file: FileSpec,
    },
    /// Data that cannot be read yet. Only a run that needs it fails.
    Unbuilt {
        /// How errors name it: "the supplier `cifar`".
        what: String,
    },
}

/// A kind of file that holds named arrays (kur-reference 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArrayFormat {
    /// A Python pickle of a dictionary of arrays.
    Pickle,
    /// A `.npy` file of a dictionary of arrays.
    NumpyDict,
    /// An archive of `.npy` arrays.
    Npz,
    /// One JSON object a line.
    JsonLines,
}

impl ArrayFormat {
    /// The Kurfile word of its supplier.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ArrayFormat::Pickle => "pickle",
            ArrayFormat::NumpyDict => "numpy_dict",
            ArrayFormat::Npz => "npz",
            ArrayFormat::JsonLines => "jsonl",
        }
    }
}

/// A local file, optionally with its checksum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// The path; `~` and `$VAR` are expanded when it is opened.
    pub path: String,
    /// SHA-256 in hex, compared without regard to case.
    pub checksum: Option<String>,
}

/// A CSV file and how its columns become tensors (design: "CSV and shapes").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CsvSpec {
    /// The file.
    pub file: FileSpec,
    /// Field separator; `None` sniffs it among `, ; TAB |`.
    pub delimiter: Option<u8>,
    /// Quote character; `None` is `"`.
    pub quote: Option<u8>,
    /// Whether the first row names the columns (`column_0…` otherwise).
    pub header: bool,
    /// Named groups; empty applies the default rule.
    pub columns: Vec<ColumnGroup>,
    /// `normalize` of the supplier itself: applies to the default input group.
    pub normalize: Normalize,
    /// `missing` of the supplier itself.
    pub missing: Missing,
}

/// One named tensor made of columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnGroup {
    /// Name of the model input or output.
    pub name: String,
    /// Header names and globs, in order.
    pub from: Vec<String>,
    /// Scaling learned on training data; `None` is that of the supplier, for inputs.
    pub normalize: Option<Normalize>,
    /// What to do with empty cells; `None` is what the supplier says.
    pub missing: Option<Missing>,
    /// Force (`Some(true)`) or forbid (`Some(false)`) one-hot encoding; `None` decides by type and loss.
    pub one_hot: Option<bool>,
}

/// Scaling of numeric columns, learned on training data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Normalize {
    /// As they are.
    #[default]
    None,
    /// Subtract the mean, divide by the standard deviation (a constant column is only centred).
    Standard,
    /// Map the range to [0, 1].
    MinMax,
}

/// What an empty cell means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// An error with row and column.
    #[default]
    Error,
    /// The column's training mean.
    Mean,
    /// Zero.
    Zero,
    /// The row is left out.
    Drop,
}

/// The `provider` of a section (kur-reference 6.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSpec {
    /// Samples per batch.
    pub batch_size: u64,
    /// Stop an epoch after so many batches.
    pub num_batches: Option<u64>,
    /// Shuffle at the start of each epoch.
    pub randomize: bool,
    /// Drop a short last batch.
    pub force_batch_size: bool,
}

impl Default for ProviderSpec {
    fn default() -> Self {
        ProviderSpec { batch_size: 32, num_batches: None, randomize: true, force_batch_size: false }
    }
}

/// `train.weights` (kur-reference 7.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainWeights {
    /// Loaded before training when it exists.
    pub initial: Option<String>,
    /// Missing initial weights are an error.
    pub must_exist: bool,
    /// Saved when the training loss is the lowest so far.
    pub best: Option<String>,
    /// Saved when training ends for whatever reason.
    pub last: Option<String>,
}
