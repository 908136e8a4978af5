//! The table of suppliers (kur-reference 6.2 to 6.4): which there are and what they take.

use crate::model::table::{Key, Range, Ty};

use super::mnist::PACKAGE;
use super::{csv, mnist};

/// A supplier.
pub(crate) struct Supplier {
    /// The Kurfile word.
    pub(crate) word: &'static str,
    /// Its argument.
    pub(crate) form: Ty,
    /// What it reads.
    pub(crate) doc: &'static str,
}

/// Keys of the suppliers of named arrays.
pub(super) const SOURCE: &[Key] = &[Key::new("source", Ty::Path, "the file").required()];

/// One file, alone, in a list, or under `source`.
const SOURCE_FORM: Ty = Ty::AnyOf(&[Ty::Path, Ty::List(&Ty::Path), Ty::Map(SOURCE)]);

const CIFAR_PART: Ty = Ty::AnyOf(&[Ty::Whole(1), Ty::Word(&["test"])]);

const CIFAR: &[Key] = &[
    Key::new("path", Ty::Path, "the archive"),
    Key::new("url", Ty::Text, "where it can be fetched from"),
    Key::new("checksum", Ty::Text, "SHA-256 of the archive"),
    Key::new(
        "parts",
        Ty::AnyOf(&[Ty::Whole(1), Ty::Word(&["test"]), Ty::List(&CIFAR_PART)]),
        "1 to 5, `test`, or a list",
    ),
];

const TEXT: &[Key] = &[
    Key::new("path", Ty::Path, "a JSONL file").required(),
    Key::new("seq_len", Ty::AnyOf(&[Ty::Whole(1), Ty::Dict(&Ty::Whole(1))]), "symbols per sequence").required(),
    Key::new("vocabs", Ty::Dict(&Ty::List(&Ty::Any)), "symbols of each key").required(),
    Key::new("padding", Ty::Dict(&Ty::Word(&["left", "right"])), "side that is filled up"),
    Key::new("pad_with", Ty::Dict(&Ty::Any), "symbol that fills up, or null"),
];

const NORMALIZATION: &[Key] = &[
    Key::new("path", Ty::Path, "file of the learned values"),
    Key::new("center", Ty::Bool, "subtract the mean"),
    Key::new("scale", Ty::Bool, "divide by the standard deviation"),
    Key::new("rotate", Ty::AnyOf(&[Ty::Bool, Ty::Word(&["zca", "pca"])]), "decorrelate"),
    Key::new("depth", Ty::Whole(1), "utterances to learn from"),
];

const SPEECH: &[Key] = &[
    Key::new("path", Ty::Path, "archive, folder or manifest"),
    Key::new("url", Ty::Text, "where it can be fetched from"),
    Key::new("checksum", Ty::Text, "SHA-256 of the archive"),
    Key::new("unpack", Ty::Bool, "unpack the archive"),
    Key::new("type", Ty::Word(&["spec", "mfcc", "raw"]), "features"),
    Key::new("normalization", Ty::AnyOf(&[Ty::Path, Ty::Map(NORMALIZATION)]), "scaling of the features"),
    Key::new("min_duration", Ty::Number(Range::NOT_NEGATIVE), "shortest utterance in seconds"),
    Key::new("max_duration", Ty::Number(Range::NOT_NEGATIVE), "longest utterance in seconds"),
    Key::new("max_frequency", Ty::Number(Range::POSITIVE), "highest frequency in Hz"),
    Key::new("vocab", Ty::AnyOf(&[Ty::Path, Ty::List(&Ty::Any), Ty::Dict(&Ty::Any)]), "symbols of the transcripts"),
    Key::new("samples", Ty::AnyOf(&[Ty::Whole(1), Ty::Text]), "which part of the data: `100`, `10-20`, `10%`"),
    Key::new("fill", Ty::Word(&["zero", "loop"]), "how short utterances are filled up"),
    Key::new("key", Ty::AnyOf(&[Ty::Text, Ty::List(&Ty::Text)]), "keys of the transcripts"),
    Key::new("bucket", Ty::Number(Range::POSITIVE), "round lengths up to this many seconds"),
    Key::new("data_cpus", Ty::Whole(0), "threads"),
    Key::new("unknown", Ty::Any, "symbol for what the vocabulary lacks"),
];

/// All suppliers.
pub(crate) static SUPPLIERS: &[Supplier] = &[
    Supplier { word: "csv", form: csv::FORM, doc: "a CSV file" },
    Supplier { word: "mnist", form: mnist::FORM, doc: "MNIST's IDX files" },
    Supplier { word: "cifar", form: package(CIFAR), doc: "CIFAR-10 pictures" },
    Supplier { word: "jsonl", form: SOURCE_FORM, doc: "a file of JSON lines" },
    Supplier { word: "pickle", form: SOURCE_FORM, doc: "a Python pickle of arrays" },
    Supplier { word: "numpy_dict", form: SOURCE_FORM, doc: "a numpy file with a dictionary" },
    Supplier { word: "npz", form: SOURCE_FORM, doc: "a numpy archive of arrays" },
    Supplier { word: "text", form: package(TEXT), doc: "sequences of symbols" },
    Supplier { word: "speech_recognition", form: package(SPEECH), doc: "utterances with transcripts" },
    Supplier { word: "mind", form: package(PACKAGE), doc: "EEG pictures" },
];

/// A mapping, its first values in a list, or the first alone.
const fn package(keys: &'static [Key]) -> Ty {
    Ty::Map(keys)
}

impl Supplier {
    /// The words of all suppliers.
    pub(crate) fn words() -> Vec<&'static str> {
        SUPPLIERS.iter().map(|s| s.word).collect()
    }

    /// A supplier by its word.
    pub(crate) fn find(word: &str) -> Option<&'static Supplier> {
        SUPPLIERS.iter().find(|s| s.word == word)
    }
}
