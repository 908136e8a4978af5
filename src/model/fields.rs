//! Mappings with known keys: unknown ones are reported at once, with a suggestion.

use crate::diag::Reported;
use crate::frontend::Value;

use super::cx::Cx;
use super::report::keys::{missing_key, not_yet_supported, unknown_key};
use super::report::values::wrong_type;

/// Keys of any section. A merge key (`<<: *train` in `test`) may bring them where they mean nothing; that is no mistake.
const SECTION_KEYS: &[&str] = &[
    "data",
    "provider",
    "weights",
    "hooks",
    "destination",
    "epochs",
    "stop_when",
    "optimizer",
    "log",
    "checkpoint",
    "best",
    "initial",
    "last",
    "must_exist",
];

/// An open mapping.
#[derive(Debug)]
pub(super) struct Fields<'v> {
    map: &'v Value,
    what: String,
}

impl<'v> Fields<'v> {
    /// Checks the keys of a mapping: those in `known` may be asked for, those in `later` are constructs that are not
    /// supported yet, all others are reported.
    ///
    /// # Errors
    /// `wrong-type` when it is no mapping. Bad keys are reported without failing.
    pub(super) fn open(
        cx: &mut Cx<'_>,
        map: &'v Value,
        what: impl Into<String>,
        known: &[&str],
        later: &[&str],
    ) -> Result<Fields<'v>, Reported> {
        let what = what.into();
        let Some(entries) = map.as_map() else {
            return Err(cx.fail(wrong_type(map, &what, "a mapping (`key: value` lines)")));
        };
        for e in entries {
            let name = e.key.as_str().unwrap_or_default();
            let foreign = e.key.origin.is_some() && SECTION_KEYS.contains(&name);
            if later.contains(&name) {
                // `log: null` switches a thing off that is off anyway.
                if !e.value.is_null() {
                    cx.push(not_yet_supported(&e.key, &format!("`{name}` of {what}")));
                }
            } else if !known.contains(&name) && !foreign {
                cx.push(unknown_key(&e.key, &what, known));
            }
        }
        Ok(Fields { map, what })
    }

    /// The subject of errors about a key.
    pub(super) fn what(&self, key: &str) -> String {
        format!("`{key}` of {}", self.what)
    }

    /// The value of a key; null counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// The value of a key, or an error with an example of what to add.
    pub(super) fn need(&self, cx: &mut Cx<'_>, key: &str, example: &str) -> Result<&'v Value, Reported> {
        self.get(key).ok_or_else(|| cx.fail(missing_key(self.map, &self.what, key, example)))
    }

    /// Converts the value of a key when it is there.
    pub(super) fn read<T>(
        &self,
        cx: &mut Cx<'_>,
        key: &str,
        convert: impl FnOnce(&mut Cx<'_>, &Value, &str) -> Result<T, Reported>,
    ) -> Result<Option<T>, Reported> {
        match self.get(key) {
            Some(v) => convert(cx, v, &self.what(key)).map(Some),
            None => Ok(None),
        }
    }
}
