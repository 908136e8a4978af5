//! `train.optimizer.schedule`: the learning rate as a function of the updates done.

use crate::diag::{Diagnostic, Reported};
use crate::frontend::Value;
use crate::frontend::value::AtValue;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::out_of_range;
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{Curve, Schedule};

/// Updates are counted in f32 inside a step, which is exact up to here.
const MOST_UPDATES: u64 = 1 << 24;

/// More places cost a comparison each in every step.
const MOST_PLACES: usize = 64;

const WORDS: &[&str] = &["warmup", "step", "exponential", "cosine", "linear", "plateau"];

const FACTOR: Range = Range { min: Some((0.0, false)), max: Some((1.0, true)) };
const FINAL: Range = Range { min: Some((0.0, true)), max: Some((1.0, true)) };

/// Keys of a schedule.
pub(crate) const KEYS: &[Key] = &[
    Key::new("name", Ty::Word(WORDS), "the curve").required(),
    Key::new("warmup", Ty::Whole(0), "updates over which the rate rises to its full size before the curve begins"),
    Key::new("every", Ty::Whole(1), "`step`: updates between two drops; `exponential`: updates for one factor"),
    Key::new("at", Ty::List(&Ty::Whole(1)), "`step`: updates after which the rate drops"),
    Key::new(
        "factor",
        Ty::Number(FACTOR),
        "`step`, `exponential`, `plateau`: what a drop multiplies by, 0.1 by default",
    ),
    Key::new("steps", Ty::Whole(1), "`cosine`, `linear`: updates until the rate is at its lowest"),
    Key::new(
        "final",
        Ty::Number(FINAL),
        "`cosine`, `linear`: the lowest rate as a share of the full one, 0 by default",
    ),
    Key::new("patience", Ty::Whole(1), "`plateau`: epochs without a lower validation loss before a drop, 5 by default"),
];

/// Keys that only some curves have.
const OWN: &[(&str, &[&str])] = &[
    ("every", &["step", "exponential"]),
    ("at", &["step"]),
    ("factor", &["step", "exponential", "plateau"]),
    ("steps", &["cosine", "linear"]),
    ("final", &["cosine", "linear"]),
    ("patience", &["plateau"]),
];

/// `schedule`.
pub(super) const FORM: Ty = Ty::Map(KEYS);

/// Reads `schedule: {name: …, …}`.
pub(super) fn read(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Schedule, Reported> {
    let fields = Fields::open(cx, value, what, KEYS)?;
    let name = fields.need(cx, "name", "name: cosine")?;
    let word = WORDS[convert::word(cx, name, &fields.what("name"), WORDS)?];
    let before = cx.sink.error_count();
    for (key, owners) in OWN {
        if let Some(e) = value.entry(key)
            && !owners.contains(&word)
        {
            cx.push(foreign_key(&e.key, word, key, owners));
        }
    }
    cx.sink.check_since(before)?;
    let warmup = fields.read(cx, "warmup", |cx, v, what| updates(cx, v, what, 0))?.unwrap_or(0);
    let every = fields.read(cx, "every", |cx, v, what| updates(cx, v, what, 1))?;
    let factor = fields.read(cx, "factor", |cx, v, what| convert::number_in(cx, v, what, FACTOR))?.unwrap_or(0.1);
    let last = fields.read(cx, "final", |cx, v, what| convert::number_in(cx, v, what, FINAL))?.unwrap_or(0.0);
    let need = |cx: &mut Cx<'_>, key: &'static str| -> Result<u32, Reported> {
        let v = fields.need(cx, key, &format!("{key}: 1000"))?;
        updates(cx, v, &fields.what(key), 1)
    };
    let curve = match word {
        "step" => match (fields.get("at"), every) {
            (Some(at), None) => Curve::At { at: places(cx, at, &fields.what("at"))?, factor },
            (Some(at), Some(_)) => {
                let d = Diagnostic::error("invalid-value", "a `step` schedule has either `every` or `at`");
                return Err(cx.fail(d.at_value(at, "`every` is given too").help("leave out one of them")));
            }
            (None, _) => Curve::Every { every: need(cx, "every")?, factor },
        },
        "exponential" => Curve::Exponential { every: need(cx, "every")?, factor },
        "cosine" => Curve::Cosine { steps: need(cx, "steps")?, last },
        "linear" => Curve::Linear { steps: need(cx, "steps")?, last },
        "plateau" => {
            let patience = fields.read(cx, "patience", |cx, v, what| updates(cx, v, what, 1))?.unwrap_or(5);
            Curve::Plateau { factor, patience }
        }
        _ => {
            let v = fields.need(cx, "warmup", "warmup: 1000")?;
            updates(cx, v, &fields.what("warmup"), 1)?;
            Curve::Constant
        }
    };
    Ok(Schedule { warmup, curve })
}

fn updates(cx: &mut Cx<'_>, value: &Value, what: &str, min: u64) -> Result<u32, Reported> {
    let n = convert::whole(cx, value, what, min)?;
    match u32::try_from(n) {
        Ok(small) if n <= MOST_UPDATES => Ok(small),
        _ => Err(cx.fail(out_of_range(value, what, &format!("a whole number of at most {MOST_UPDATES}")))),
    }
}

fn places(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Vec<u32>, Reported> {
    let items = convert::list(cx, value, what, "a list of whole numbers")?;
    let all: Vec<_> = items.iter().map(|v| updates(cx, v, &format!("an item of {what}"), 1)).collect();
    let at = all.into_iter().collect::<Result<Vec<u32>, Reported>>()?;
    if at.is_empty() || at.len() > MOST_PLACES || at.windows(2).any(|w| w[0] >= w[1]) {
        let expected = format!("one to {MOST_PLACES} ascending whole numbers");
        return Err(cx.fail(out_of_range(value, what, &expected)));
    }
    Ok(at)
}

fn foreign_key(key: &Value, word: &str, name: &str, owners: &[&str]) -> Diagnostic {
    let first = owners.first().copied().unwrap_or_default();
    Diagnostic::error("unknown-key", format!("the schedule `{word}` has no key `{name}`"))
        .at_value(key, "unknown key")
        .help(format!("`{name}` belongs to the schedule {}: write `name: {first}`", convert::either(owners)))
}
