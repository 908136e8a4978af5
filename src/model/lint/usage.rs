//! Settings and templates that nothing uses.
//!
//! Usage is looked for in the texts of all templates, evaluated or not: a branch that is not taken today still uses its
//! settings. Any word of such a text that could be the name of a setting counts, so that a use is never overlooked.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{FileId, Span, did_you_mean};
use crate::frontend::Value;
use crate::frontend::value::{Entry, Kind, Via};
use crate::model::cx::Cx;
use crate::model::report::lint::{unused_setting, unused_template};
use crate::model::sections::settings::KEYS;

/// Warns of settings and templates of the Kurfile itself. Included files may serve other Kurfiles as well.
pub(super) fn check(cx: &mut Cx<'_>, root: &Value) {
    let settings = root.get("settings").filter(|s| s.as_map().is_some());
    let templates = root.get("templates").and_then(Value::as_map).unwrap_or_default();
    if settings.is_none() && templates.is_empty() {
        return;
    }
    let mut uses = Uses::default();
    uses.look(root, None);
    if let Some(settings) = settings {
        let used = uses.of(settings, root);
        let mut walk = Walk { cx, aliased: &uses.aliased, path: Vec::new() };
        walk.settings(settings.as_map().unwrap_or_default(), &used);
    }
    let words: BTreeSet<&str> = uses.chains.iter().flatten().copied().collect();
    for e in templates {
        let name = e.key.as_str().unwrap_or_default();
        if e.key.origin.is_none() && !uses.is_placed(name) && !words.contains(name) {
            cx.push(unused_template(&e.key, name));
        }
    }
}

/// What the file uses: words in templates, aliases, keys and texts that may be templates of layers.
#[derive(Default)]
struct Uses<'v> {
    /// Names with what follows them: `cnn.sizes` is `[cnn, sizes]`.
    chains: BTreeSet<Vec<&'v str>>,
    /// Starts of all values that are used through an alias or merge key, too.
    aliased: BTreeSet<(FileId, u32)>,
    /// Keys and texts, each with the template of layers it stands in. `None`: outside of all, or in several.
    placed: BTreeMap<&'v str, Option<&'v str>>,
}

impl<'v> Uses<'v> {
    fn look(&mut self, value: &'v Value, inside: Option<&'v str>) {
        if value.steps().any(|s| matches!(s.via, Via::Alias | Via::Merge)) {
            self.aliased.insert((value.span.file, value.span.start));
        }
        match &value.kind {
            Kind::Str(text, _) => {
                self.place(text, inside);
                if text.contains("{{") || text.contains("{%") {
                    chains(text, &mut self.chains);
                }
            }
            Kind::List(items) | Kind::Tuple(items) | Kind::Set(items) => {
                items.iter().for_each(|v| self.look(v, inside));
            }
            Kind::Map(entries) => {
                for e in entries {
                    if e.key.as_str() == Some("templates") && inside.is_none() {
                        self.templates(&e.value);
                        continue;
                    }
                    if let Some(key) = e.key.as_str() {
                        self.place(key, inside);
                    }
                    self.look(&e.value, inside);
                }
            }
            _ => {}
        }
    }

    /// The bodies of templates. A name in its own body is no use.
    fn templates(&mut self, section: &'v Value) {
        match section.as_map() {
            Some(entries) => entries.iter().for_each(|e| self.look(&e.value, e.key.as_str())),
            None => self.look(section, None),
        }
    }

    fn place(&mut self, word: &'v str, inside: Option<&'v str>) {
        self.placed.entry(word).and_modify(|at| *at = at.filter(|at| Some(*at) == inside)).or_insert(inside);
    }

    /// Whether a word stands anywhere but in the template of that name.
    fn is_placed(&self, name: &str) -> bool {
        self.placed.get(name).is_some_and(|inside| *inside != Some(name))
    }

    /// The settings that are used, as far down as the templates tell.
    fn of(&self, settings: &'v Value, root: &'v Value) -> Used<'v> {
        let mut used = Used::default();
        for chain in &self.chains {
            match chain.as_slice() {
                ["settings", rest @ ..] | ["raw" | "parsed", "settings", rest @ ..] => used.mark(settings, rest),
                ["raw" | "parsed", section, ..] if root.get(section).is_some() => {}
                ["raw" | "parsed", ..] => used.whole = true,
                rest @ [name, ..] if settings.get(name).is_some() => used.mark(settings, rest),
                _ => {}
            }
        }
        used
    }
}

/// The parts of `settings` that are used, as a tree.
#[derive(Default)]
struct Used<'v> {
    /// Everything from here down.
    whole: bool,
    parts: BTreeMap<&'v str, Used<'v>>,
}

impl<'v> Used<'v> {
    /// Marks the part that a chain leads to. What is no key, such as a method, uses the value before it as a whole.
    fn mark(&mut self, settings: &'v Value, chain: &[&'v str]) {
        let (mut at, mut value) = (self, settings);
        for word in chain {
            let Some(inner) = value.get(word) else { break };
            at = at.parts.entry(word).or_default();
            value = inner;
        }
        at.whole = true;
    }
}

struct Walk<'w, 'c, 'v> {
    cx: &'w mut Cx<'c>,
    aliased: &'w BTreeSet<(FileId, u32)>,
    path: Vec<&'v str>,
}

impl<'v> Walk<'_, '_, 'v> {
    fn settings(&mut self, entries: &'v [Entry], used: &Used<'v>) {
        if used.whole {
            return;
        }
        for e in entries {
            let Some(name) = e.key.as_str() else { continue };
            let reserved = self.path.is_empty() && KEYS.iter().any(|k| k.name == name);
            if reserved || e.key.origin.is_some() || self.aliased(e) {
                continue;
            }
            self.path.push(name);
            match used.parts.get(name) {
                Some(inner) => self.settings(e.value.as_map().unwrap_or_default(), inner),
                None => {
                    let near = did_you_mean(name, KEYS.iter().map(|k| k.name)).filter(|_| self.path.len() == 1);
                    self.cx.push(unused_setting(&e.key, &self.path.join("."), near));
                }
            }
            self.path.pop();
        }
    }

    /// Whether a part of the value is used through an alias. An aliased copy has the place of its original.
    fn aliased(&self, e: &Entry) -> bool {
        let key = e.key.span;
        let end = extent(&e.value, key);
        self.aliased.range((key.file, key.start)..=(key.file, end)).next().is_some()
    }
}

/// Where a value ends, what came from elsewhere left out.
fn extent(value: &Value, key: Span) -> u32 {
    if value.origin.is_some() || value.span.file != key.file {
        return key.end;
    }
    let inner = match &value.kind {
        Kind::List(items) => items.iter().map(|v| extent(v, key)).max(),
        Kind::Map(entries) => entries.iter().map(|e| extent(&e.value, key).max(extent(&e.key, key))).max(),
        _ => None,
    };
    value.span.end.max(inner.unwrap_or(0))
}

/// All names in a text with the keys that follow them: `{{ a.b['c'][0] }}` gives `[a, b, c]`.
fn chains<'t>(text: &'t str, out: &mut BTreeSet<Vec<&'t str>>) {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        let (first, mut after) = word(&rest[start..]);
        let mut chain = vec![first];
        while let Some((next, behind)) = step(after) {
            chain.push(next);
            after = behind;
        }
        out.insert(chain);
        rest = after;
    }
}

/// `.key`, `['key']` or `["key"]` at the start of a text, and what follows.
fn step(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if let Some(dotted) = text.strip_prefix('.') {
        let dotted = dotted.trim_start();
        return dotted.starts_with(|c: char| c.is_alphabetic() || c == '_').then(|| word(dotted));
    }
    let inner = text.strip_prefix('[')?.trim_start();
    let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (key, behind) = inner[1..].split_once(quote)?;
    behind.trim_start().strip_prefix(']').map(|behind| (key, behind))
}

/// The word at the start of a text, and what follows.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut out = BTreeSet::new();
        chains(text, &mut out);
        out.iter().map(|c| c.join("/")).collect()
    }

    #[test]
    fn names_are_found_with_their_keys() {
        assert_eq!(found("{{ a }}"), ["a"]);
        assert_eq!(found("{{ a.b['c'] [\"d\"].e[0].f + g }}"), ["a/b/c/d/e", "f", "g"]);
        assert_eq!(found("{{ a[b.c] }}{% if d is e %}x{% endif %}"), ["a", "b/c", "d", "e", "endif", "if", "is", "x"]);
        assert_eq!(found("{{ a['b' }} größe.x2"), ["a", "b", "größe/x2"]);
        assert_eq!(found("{{ '{{ a.b }}' }}. "), ["a/b"]);
    }
}
