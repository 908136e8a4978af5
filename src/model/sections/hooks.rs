//! Hooks, logs and checkpoints (kur-reference 7.3, 7.7, 7.8): checked, not built yet.

use crate::model::table::{Key, Range, Ty};

/// `output`, which is also the long form of `evaluate.destination`.
pub(crate) const OUTPUT: &[Key] = &[
    Key::new("path", Ty::Path, "the file").required(),
    Key::new("format", Ty::Word(&["pkl", "pickle", "csv"]), "its format"),
];

const TRANSCRIPT: &[Key] = &[
    Key::new("word", Ty::Bool, "join words instead of characters"),
    Key::new("warp", Ty::Bool, "the blank is class 0"),
    Key::new("output", Ty::Text, "the output to show"),
    Key::new("input", Ty::Text, "the data it belongs to"),
    Key::new("passthrough", Ty::Bool, "hand the raw output on"),
];

const SLACK: &[Key] = &[
    Key::new("channel", Ty::Text, "where to write").required(),
    Key::new("url", Ty::Text, "web hook"),
    Key::new("user", Ty::Text, "name of the writer"),
    Key::new("icon", Ty::Text, "picture of the writer"),
    Key::new("title", Ty::Text, "first line"),
    Key::new("token", Ty::Text, "key for files"),
    Key::new("extra_files", Ty::Any, "files to send"),
    Key::new("extra_only", Ty::Bool, "send those files only"),
];

const PLOT: &[Key] = &[
    Key::new("loss_per_batch", Ty::Path, "picture of the loss over batches"),
    Key::new("loss_per_time", Ty::Path, "picture of the loss over time"),
    Key::new("throughput_per_time", Ty::Path, "picture of the speed"),
];

const WHEN: Ty = Ty::Any;

const EVALUATION: &[Key] = &[
    Key::new("output", Ty::AnyOf(&[Ty::Path, Ty::Map(OUTPUT)]), "writes results to a file"),
    Key::new("mnist", Ty::AnyOf(&[Ty::Null, Ty::Map(&[])]), "prints accuracy per digit"),
    Key::new("transcript", Ty::AnyOf(&[Ty::Null, Ty::Map(TRANSCRIPT)]), "prints a transcript"),
    Key::new("slack", Ty::Map(SLACK), "writes to a Slack channel"),
    Key::new("text", Ty::AnyOf(&[Ty::Null, Ty::Map(&[])]), "prints texts"),
    Key::new("when", WHEN, "whether the hook runs"),
];

const TRAINING: &[Key] = &[
    Key::new("slack", Ty::Map(SLACK), "writes to a Slack channel"),
    Key::new("plot", Ty::AnyOf(&[Ty::Path, Ty::Map(PLOT)]), "draws curves"),
    Key::new("when", WHEN, "whether the hook runs"),
];

/// `hooks` of `validate`, `test` and `evaluate`.
pub(super) const EVALUATION_HOOKS: Ty =
    Ty::List(&Ty::AnyOf(&[Ty::Word(&["output", "mnist", "transcript", "slack", "text"]), Ty::Map(EVALUATION)]));

/// `hooks` of `train`.
pub(super) const TRAINING_HOOKS: Ty = Ty::List(&Ty::AnyOf(&[Ty::Word(&["slack", "plot"]), Ty::Map(TRAINING)]));

const LOG_KEYS: &[Key] = &[
    Key::new("name", Ty::Word(&["binary", "memory"]), "kind of log"),
    Key::new("path", Ty::Path, "folder of the log"),
    Key::new("keep_batch", Ty::Bool, "keep a value for each batch"),
    Key::new("rate", Ty::AnyOf(&[Ty::Null, Ty::Whole(0)]), "seconds between writes"),
];

/// `log` of `train`.
pub(super) const LOG: Ty = Ty::AnyOf(&[Ty::Path, Ty::Map(LOG_KEYS)]);

const CHECKPOINT_KEYS: &[Key] = &[
    Key::new("path", Ty::AnyOf(&[Ty::Path, Ty::Null]), "where weights are saved"),
    Key::new("epochs", Ty::Whole(1), "after so many epochs"),
    Key::new("batches", Ty::Whole(1), "after so many batches"),
    Key::new("samples", Ty::Whole(1), "after so many samples"),
    Key::new("minutes", Ty::Whole(1), "after so many minutes"),
    Key::new("validation", Ty::AnyOf(&[Ty::Bool, Ty::Whole(1)]), "validate as well, on so many batches"),
];

/// `checkpoint` of `train`.
pub(super) const CHECKPOINT: Ty = Ty::AnyOf(&[Ty::Path, Ty::Map(CHECKPOINT_KEYS)]);

const CLOCK: &[&str] = &["all", "train", "validate", "batch"];

const ELAPSED_KEYS: &[Key] = &[
    Key::new("days", Ty::Number(Range::NOT_NEGATIVE), "days"),
    Key::new("hours", Ty::Number(Range::NOT_NEGATIVE), "hours"),
    Key::new("minutes", Ty::Number(Range::NOT_NEGATIVE), "minutes"),
    Key::new("clock", Ty::Word(CLOCK), "which time counts, `all` by default"),
];

/// `elapsed` of `stop_when`: minutes, or a mapping.
pub(super) const ELAPSED: Ty =
    Ty::AnyOf(&[Ty::Number(Range::POSITIVE), Ty::Word(&["inf", "all", "infinite", "infinity"]), Ty::Map(ELAPSED_KEYS)]);
