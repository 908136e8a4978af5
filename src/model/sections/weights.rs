//! `weights` of all sections (kur-reference 7.1).

use kur_runtime::spec::TrainWeights;

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;

/// `train.weights`: a path, or `{initial, best, last, must_exist}`. A path is loaded when it exists and saved at the
/// best training loss, unless `validate.weights` already saves the best by validation.
pub(super) fn train(cx: &mut Cx<'_>, value: &Value, validate_saves: bool) -> Result<TrainWeights, Reported> {
    if !matches!(value.kind, Kind::Map(_)) {
        let path = convert::path(cx, value, "`weights` of `train`")?;
        let best = (!validate_saves).then(|| path.clone());
        return Ok(TrainWeights { initial: Some(path), must_exist: false, best, last: None });
    }
    let known = ["initial", "best", "last", "must_exist"];
    let fields = Fields::open(cx, value, "`weights` of `train`", &known, &["checkpoint"])?;
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
    // `test: *validate` brings a `best`; the best weights are then what is to be tested.
    let reused = value.is_reused() && value.get(key).is_none();
    let key =
        if reused { ["initial", "best"].into_iter().find(|k| value.get(k).is_some()).unwrap_or(key) } else { key };
    Fields::open(cx, value, what, &[key], &[])?.read(cx, key, convert::path)
}
