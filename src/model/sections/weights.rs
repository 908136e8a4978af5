//! `weights` of all sections (kur-reference 7.1).

use kur_runtime::spec::TrainWeights;

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::table::{Key, Ty};
use crate::model::types::Need;

const TRAIN: &[Key] = &[
    Key::new("initial", Ty::Path, "weights to start from, when they exist"),
    Key::new("best", Ty::Path, "weights of the lowest training loss"),
    Key::new("last", Ty::Path, "weights when training ends"),
    Key::new("must_exist", Ty::Bool, "missing initial weights are an error"),
    Key::new("checkpoint", Ty::Path, "old form of `train.checkpoint`").unbuilt(Need::Run),
];

const VALIDATE: &[Key] = &[Key::new("best", Ty::Path, "weights of the lowest validation loss")];

const OTHER: &[Key] = &[
    Key::new("initial", Ty::Path, "weights to load"),
    Key::new("best", Ty::Path, "the same, by the name that `validate` saves them under"),
];

/// `train.weights`.
pub(super) const TRAIN_FORM: Ty = Ty::AnyOf(&[Ty::Path, Ty::Map(TRAIN)]);

/// `validate.weights`.
pub(super) const VALIDATE_FORM: Ty = Ty::AnyOf(&[Ty::Path, Ty::Map(VALIDATE)]);

/// `test.weights` and `evaluate.weights`.
pub(super) const OTHER_FORM: Ty = Ty::AnyOf(&[Ty::Path, Ty::Map(OTHER)]);

/// `train.weights`: a path, or `{initial, best, last, must_exist}`. A path is loaded when it exists and saved at the
/// best training loss, unless `validate.weights` already saves the best by validation.
pub(super) fn train(cx: &mut Cx<'_>, value: &Value, validate_saves: bool) -> Result<TrainWeights, Reported> {
    if !matches!(value.kind, Kind::Map(_)) {
        let path = convert::path(cx, value, "`weights` of `train`")?;
        let best = (!validate_saves).then(|| path.clone());
        return Ok(TrainWeights { initial: Some(path), must_exist: false, best, last: None });
    }
    let fields = Fields::open(cx, value, "`weights` of `train`", TRAIN)?;
    let initial = fields.read(cx, "initial", convert::path);
    let best = fields.read(cx, "best", convert::path);
    let last = fields.read(cx, "last", convert::path);
    let must_exist = fields.read(cx, "must_exist", convert::boolean);
    Ok(TrainWeights { initial: initial?, best: best?, last: last?, must_exist: must_exist?.unwrap_or(false) })
}

/// `weights` of another section: a path, or a mapping with `key`.
pub(super) fn one(cx: &mut Cx<'_>, value: &Value, what: &str, key: &'static str) -> Result<Option<String>, Reported> {
    if !matches!(value.kind, Kind::Map(_)) {
        return convert::path(cx, value, what).map(Some);
    }
    if key == "best" {
        return Fields::open(cx, value, what, VALIDATE)?.read(cx, key, convert::path);
    }
    // `test: *validate` brings a `best`; the best weights are then what is to be tested.
    let fields = Fields::open(cx, value, what, OTHER)?;
    let key = if fields.get("initial").is_some() { "initial" } else { "best" };
    fields.read(cx, key, convert::path)
}
