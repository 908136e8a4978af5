//! Mappings with known keys: unknown ones are reported at once, with a suggestion.

use crate::diag::{Reported, did_you_mean};
use crate::frontend::Value;

use super::cx::Cx;
use super::report::keys::{missing_key, unknown_pair};
use super::report::meant;
use super::report::values::wrong_type;
use super::table::{self, Key};

/// Keys of any section. A merge key (`<<: *train` in `test`) may bring them where they mean nothing; that is no mistake.
pub(super) const SECTION_KEYS: &[&str] = &[
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
    /// Keys that were meant by misspelled ones.
    meant: Vec<(&'static str, Reported)>,
}

impl<'v> Fields<'v> {
    /// Checks the keys of a mapping against its table. Those that are not built yet are checked and noted.
    ///
    /// # Errors
    /// `wrong-type` when it is no mapping. Bad keys are reported without failing.
    pub(super) fn open(
        cx: &mut Cx<'_>,
        map: &'v Value,
        what: impl Into<String>,
        keys: &'static [Key],
    ) -> Result<Fields<'v>, Reported> {
        Fields::with_foreign(cx, map, what.into(), keys, &[])
    }

    /// As [`Fields::open`], for a section of data: what it takes over from another section (`<<: *train`) may have
    /// keys that only that one knows.
    pub(super) fn open_section(
        cx: &mut Cx<'_>,
        map: &'v Value,
        what: impl Into<String>,
        keys: &'static [Key],
    ) -> Result<Fields<'v>, Reported> {
        Fields::with_foreign(cx, map, what.into(), keys, SECTION_KEYS)
    }

    fn with_foreign(
        cx: &mut Cx<'_>,
        map: &'v Value,
        what: String,
        keys: &'static [Key],
        foreign: &[&str],
    ) -> Result<Fields<'v>, Reported> {
        let mut misspelled = Vec::new();
        let Some(entries) = map.as_map() else {
            let d = wrong_type(map, &what, "a mapping (`key: value` lines)");
            return Err(cx.fail(meant::with_example(d, &what, map)));
        };
        for e in entries {
            let name = e.key.as_str().unwrap_or_default();
            let foreign = e.key.is_reused() && foreign.contains(&name);
            match keys.iter().find(|k| k.name == name) {
                Some(key) => {
                    // `log: null` switches a thing off that is off anyway.
                    if let Some(need) = key.unbuilt
                        && !e.value.is_null()
                        && table::check(cx, &e.value, &key.ty, &format!("`{name}` of {what}")).is_ok()
                    {
                        cx.unbuilt(need, &e.key, &format!("`{name}` of {what}"));
                    }
                }
                None if foreign => {}
                None => {
                    let known: Vec<&'static str> = keys.iter().map(|k| k.name).collect();
                    let reported = cx.fail(unknown_pair(&e.key, Some(&e.value), &what, &known));
                    let near = meant::key(name, &known).or_else(|| did_you_mean(name, known.iter().copied()));
                    if let Some(near) = near {
                        let key = known.iter().copied().find(|k| *k == near);
                        misspelled.extend(key.map(|k| (k, reported)));
                    }
                }
            }
        }
        Ok(Fields { map, what, meant: misspelled })
    }

    /// What the mapping is, as errors name it.
    pub(super) fn name(&self) -> &str {
        &self.what
    }

    /// The subject of errors about a key.
    pub(super) fn what(&self, key: &str) -> String {
        format!("`{key}` of {}", self.what)
    }

    /// The value of a key; null counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// The value of a key, or an error with an example of what to add; none when the key is there but misspelled.
    pub(super) fn need(&self, cx: &mut Cx<'_>, key: &str, example: &str) -> Result<&'v Value, Reported> {
        match (self.get(key), self.meant.iter().find(|(k, _)| *k == key)) {
            (Some(value), _) => Ok(value),
            (None, Some((_, reported))) => Err(*reported),
            (None, None) => Err(cx.fail(missing_key(self.map, &self.what, key, example))),
        }
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
