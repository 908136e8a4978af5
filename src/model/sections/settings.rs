//! `settings`: the user's own values, and the few keys that mean something to kurc.

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::template::Undefined;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::report::values::{ignored_setting, out_of_range, wrapped_seed, wrong_type};
use crate::model::table::{Key, Ty};

/// Keys of `backend`: Kur chose a library here.
const BACKEND: &[Key] = &[
    Key::new("name", Ty::Text, "library"),
    Key::new("variant", Ty::Any, "variant of the library"),
    Key::new("backend", Ty::Text, "library below the library"),
    Key::new("device", Ty::Any, "devices"),
    Key::new("parallel", Ty::Any, "number of devices"),
    Key::new("gpu_busy_load", Ty::Any, "load above which a device is left alone"),
    Key::new("skip_check", Ty::Any, "no check of devices"),
    Key::new("optimizer", Ty::Any, "optimizer of the library"),
    Key::new("theano_flags", Ty::Any, "flags of the library"),
];

/// Keys of `settings` with a meaning of their own; all others are the user's.
pub(crate) const KEYS: &[Key] = &[
    Key::new("seed", Ty::Integer, "seed of all random numbers"),
    Key::new("compat", Ty::AnyOf(&[Ty::Word(&["kur"]), Ty::Bool, Ty::Null]), "`kur` keeps Kur's oddities"),
    Key::new("backend", Ty::AnyOf(&[Ty::Text, Ty::Null, Ty::Map(BACKEND)]), "no effect: kurc is the back end"),
];

/// What of `settings` is typed.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// `seed`.
    pub(crate) seed: Option<u64>,
    /// `compat: kur`.
    pub(crate) compat_kur: bool,
}

/// Reads the evaluated section. All other keys are the user's own.
pub(crate) fn read(cx: &mut Cx<'_>, value: &Value) -> Result<Settings, Reported> {
    let Some(entries) = value.as_map() else {
        return if value.is_null() {
            Ok(Settings::default())
        } else {
            Err(cx.fail(wrong_type(value, "`settings`", "a mapping (`key: value` lines)")))
        };
    };
    for e in entries {
        match e.key.as_str() {
            Some(name @ ("backend" | "provider")) if !e.value.is_null() && name == "backend" => {
                cx.push(ignored_setting(&e.key, name));
            }
            Some(_) => {}
            None => cx.push(wrong_type(&e.key, "a key of `settings`", "text")),
        }
    }
    let get = |key: &str| value.get(key).filter(|v| !v.is_null());
    let seed = match get("seed") {
        Some(v) => Some(seed(cx, v)?),
        None => None,
    };
    let compat_kur = match get("compat") {
        Some(v) if v.as_str() == Some("kur") && cx.engine.undefined() == Undefined::Error => {
            // It decides how templates are evaluated, so it cannot be one.
            return Err(cx.fail(out_of_range(v, "`settings.compat`", "the plain word `kur`, no template or literal")));
        }
        Some(v) if v.as_str() == Some("kur") => true,
        Some(Value { kind: Kind::Bool(false), .. }) | None => false,
        Some(v) => return Err(cx.fail(out_of_range(v, "`settings.compat`", "`kur` or absent"))),
    };
    Ok(Settings { seed, compat_kur })
}

/// Seeds outside 0..2³² are taken modulo 2³², as in Kur (kur-reference 6.4).
fn seed(cx: &mut Cx<'_>, value: &Value) -> Result<u64, Reported> {
    let Some(n) = convert::integral(value) else {
        return Err(cx.fail(wrong_type(value, "`settings.seed`", "a whole number")));
    };
    let seed = n.rem_euclid(1 << 32);
    let wrapped = seed != n;
    let seed = u64::try_from(seed).unwrap_or(0);
    if wrapped {
        cx.push(wrapped_seed(value, seed));
    }
    Ok(seed)
}
