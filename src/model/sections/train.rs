//! `train` (kur-reference 7.1): data, provider, epochs, weights, optimizer.

use kur_runtime::spec::{CsvSpec, TrainWeights};

use crate::diag::{Reported, Span};
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::{endless_training, wrong_type};
use crate::model::table::{Key, Ty};
use crate::model::types::{Need, Optimizer, TrainSection};

use super::{data, evaluation, hooks, optimizer, provider, weights};

/// Keys of `train`.
pub(crate) const KEYS: &[Key] = &[
    Key::new("data", evaluation::DATA, "suppliers"),
    Key::new("provider", Ty::Map(provider::KEYS), "how batches are made"),
    Key::new("epochs", Ty::AnyOf(&[COUNT, Ty::Word(INFINITE), Ty::Null, Ty::Map(EPOCHS)]), "rounds over the data"),
    Key::new("stop_when", Ty::AnyOf(&[Ty::Null, Ty::Map(STOP)]), "when training ends"),
    Key::new("weights", weights::TRAIN_FORM, "weights to start from and to save"),
    Key::new("optimizer", optimizer::FORM, "how weights are updated"),
    Key::new("log", hooks::LOG, "folder for statistics").unbuilt(Need::Run),
    Key::new("checkpoint", hooks::CHECKPOINT, "weights saved on the way").unbuilt(Need::Run),
    Key::new("hooks", hooks::TRAINING_HOOKS, "what is done after an epoch").unbuilt(Need::Run),
];

const COUNT: Ty = Ty::Whole(0);
const MODES: &[&str] = &["additional", "total"];
const LIMIT: Ty = Ty::AnyOf(&[COUNT, Ty::Word(INFINITE), Ty::Null]);

const EPOCHS: &[Key] =
    &[Key::new("number", LIMIT, "rounds over the data"), Key::new("mode", Ty::Word(MODES), "what the number counts")];

const STOP: &[Key] = &[
    Key::new("epochs", LIMIT, "rounds over the data"),
    Key::new("elapsed", hooks::ELAPSED, "time, in minutes or as a mapping").unbuilt(Need::Build),
    Key::new("mode", Ty::Word(MODES), "`additional` (default) counts from now, `total` with earlier runs"),
];

/// Words that mean "no limit".
const INFINITE: &[&str] = &["inf", "all", "infinite", "infinity"];

/// Reads the evaluated section. `validate_saves` says whether `validate.weights` exists: then a plain `train.weights`
/// is not the best-by-training-loss path.
pub(crate) fn read(cx: &mut Cx<'_>, span: Span, value: &Value, validate_saves: bool) -> Result<TrainSection, Reported> {
    if value.is_null() {
        return Ok(TrainSection {
            span,
            section: kur_runtime::spec::SectionSpec::default(),
            epochs: None,
            weights: TrainWeights::default(),
            optimizer: Optimizer::default(),
        });
    }
    let fields = Fields::open_section(cx, value, "`train`", KEYS)?;
    let data = data::read(cx, &fields, &CsvSpec { header: true, ..CsvSpec::default() });
    let provider = provider::read(cx, &fields);
    let epochs = epochs(cx, &fields);
    let weights = match fields.get("weights") {
        Some(v) => weights::train(cx, v, validate_saves),
        None => Ok(TrainWeights::default()),
    };
    let optimizer = match fields.get("optimizer") {
        Some(v) => optimizer::read(cx, v),
        None => Ok(Optimizer::default()),
    };
    let section = kur_runtime::spec::SectionSpec { data: data?, provider: provider? };
    Ok(TrainSection { span, section, epochs: epochs?, weights: weights?, optimizer: optimizer? })
}

/// `stop_when.epochs`, else `epochs`.
fn epochs(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Result<Option<u64>, Reported> {
    let mut stop_after = None;
    if let Some(stop) = fields.get("stop_when") {
        let inner = Fields::open(cx, stop, "`stop_when`", STOP)?;
        mode(cx, &inner)?;
        stop_after = inner.get("epochs").map(|v| limit(cx, v, &inner.what("epochs")));
    }
    let plain = plain_epochs(cx, fields);
    match stop_after {
        Some(epochs) => plain.and(epochs),
        None => plain,
    }
}

/// `epochs`, a number or a mapping.
fn plain_epochs(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Result<Option<u64>, Reported> {
    let Some(value) = fields.get("epochs") else { return Ok(None) };
    let (count, what) = match value.kind {
        Kind::Map(_) => {
            let inner = Fields::open(cx, value, "`epochs`", EPOCHS)?;
            mode(cx, &inner)?;
            let Some(v) = inner.get("number") else { return Ok(None) };
            (v, inner.what("number"))
        }
        _ => (value, fields.what("epochs")),
    };
    let epochs = limit(cx, count, &what)?;
    if epochs == Some(0) && fields.get("stop_when").is_none() {
        // Kur ignores a zero here (but not in `stop_when`).
        cx.push(endless_training(count));
        return Ok(None);
    }
    Ok(epochs)
}

fn limit(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Option<u64>, Reported> {
    match (&value.kind, value.as_str()) {
        (Kind::Float(x), _) if x.is_infinite() && *x > 0.0 => Ok(None),
        (_, Some(word)) if INFINITE.contains(&word.to_lowercase().as_str()) => Ok(None),
        (_, Some(_)) => Err(cx.fail(wrong_type(value, what, "a whole number or `infinite`"))),
        _ => convert::whole(cx, value, what, 0).map(Some),
    }
}

/// `mode: additional` is what happens anyway; `total` needs a log to count from.
fn mode(cx: &mut Cx<'_>, fields: &Fields<'_>) -> Result<(), Reported> {
    let Some(v) = fields.get("mode") else { return Ok(()) };
    if convert::word(cx, v, &fields.what("mode"), MODES)? == 1 {
        cx.unbuilt(Need::Build, v, "`mode: total`, which counts the epochs of earlier runs,");
    }
    Ok(())
}
