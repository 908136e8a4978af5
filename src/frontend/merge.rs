//! Two trees -> one: how an included file is put under the file that includes it (kur-reference 1.2).
//!
//! The including file wins every conflict, and its explicit null is a value like any other. Values that lose stay known
//! as what the winner hides, so that `kurc dump --explain` can tell of them.

use std::collections::BTreeMap;

use crate::frontend::python;
use crate::frontend::value::{Entry, Kind, Value};

/// What happens where both files have a list; mappings are joined key by key in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Item by item; the longer list keeps its end.
    #[default]
    Blend,
    /// The including file's list.
    Merge,
    /// The included list, then the including file's.
    Concat,
}

impl Strategy {
    /// The words of `method`.
    pub const WORDS: &'static [&'static str] = &["blend", "merge", "concat"];

    /// The strategy of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Strategy> {
        match word {
            "blend" => Some(Strategy::Blend),
            "merge" => Some(Strategy::Merge),
            "concat" => Some(Strategy::Concat),
            _ => None,
        }
    }
}

/// Puts `included` under `own`. Keys of the included mapping come first.
///
/// **Source**: Kur's `deep_merge`, except that `merge` of a mapping with something else does not crash: `own` wins.
#[must_use]
pub fn merge(included: Value, own: Value, strategy: Strategy) -> Value {
    match (&included.kind, &own.kind, strategy) {
        (Kind::Map(_), Kind::Map(_), _) | (Kind::List(_), Kind::List(_), Strategy::Blend | Strategy::Concat) => {}
        _ => return own.hiding(included),
    }
    // What the two collections replaced as wholes stays known.
    let mut out = own.with_kind(Kind::Null);
    for lost in included.hidden() {
        out = out.hiding(lost.clone());
    }
    out.kind = match (included.kind, own.kind) {
        (Kind::Map(under), Kind::Map(over)) => Kind::Map(maps(under, over, strategy)),
        (Kind::List(under), Kind::List(over)) => Kind::List(match strategy {
            Strategy::Concat => under.into_iter().chain(over).collect(),
            _ => blend(under, over),
        }),
        (_, own) => own,
    };
    out
}

fn maps(under: Vec<Entry>, over: Vec<Entry>, strategy: Strategy) -> Vec<Entry> {
    // The printed form tells keys of different kinds apart.
    let places: BTreeMap<String, usize> = under.iter().enumerate().map(|(i, e)| (python::repr(&e.key), i)).collect();
    let mut out: Vec<Option<Entry>> = under.into_iter().map(Some).collect();
    for e in over {
        let place = places.get(&python::repr(&e.key)).copied();
        match place.and_then(|i| out[i].take().map(|lower| (i, lower))) {
            Some((i, lower)) => out[i] = Some(Entry { value: merge(lower.value, e.value, strategy), key: e.key }),
            None => out.push(Some(e)),
        }
    }
    out.into_iter().flatten().collect()
}

fn blend(under: Vec<Value>, over: Vec<Value>) -> Vec<Value> {
    let mut out = Vec::with_capacity(under.len().max(over.len()));
    let (mut under, mut over) = (under.into_iter(), over.into_iter());
    loop {
        match (under.next(), over.next()) {
            (Some(a), Some(b)) => out.push(merge(a, b, Strategy::Blend)),
            (Some(one), None) | (None, Some(one)) => out.push(one),
            (None, None) => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Sink, SourceMap};
    use crate::frontend::yaml;

    fn run(included: &str, own: &str, strategy: Strategy) -> Value {
        let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
        let mut read = |text: &str| {
            let file = sources.add("f", text);
            yaml::read(text, file, &mut sink).expect("valid")
        };
        merge(read(included), read(own), strategy)
    }

    #[test]
    fn the_including_file_wins() {
        let (a, b) =
            ("{a: 1, l: [1, {k: 2}, 3], c: [1], n: {x: 1}}", "{l: [{p: 9}, {k: 8, j: 7}], c: {m: 1}, n: , z: 0}");
        let blend = "{'a': 1, 'l': [{'p': 9}, {'k': 8, 'j': 7}, 3], 'c': {'m': 1}, 'n': None, 'z': 0}";
        let merge = "{'a': 1, 'l': [{'p': 9}, {'k': 8, 'j': 7}], 'c': {'m': 1}, 'n': None, 'z': 0}";
        let concat = "{'a': 1, 'l': [1, {'k': 2}, 3, {'p': 9}, {'k': 8, 'j': 7}], 'c': {'m': 1}, 'n': None, 'z': 0}";
        assert_eq!(python::repr(&run(a, b, Strategy::Blend)), blend);
        assert_eq!(python::repr(&run(a, b, Strategy::Merge)), merge);
        assert_eq!(python::repr(&run(a, b, Strategy::Concat)), concat);
    }

    #[test]
    fn losers_are_remembered() {
        let v = run("{a: 1, l: [1, 2], m: {x: 1}}", "{a: 2, l: [3], m: }", Strategy::Blend);
        let lost = |v: Option<&Value>| v.map(|v| v.hidden().iter().map(python::repr).collect::<Vec<_>>());
        assert_eq!(lost(v.get("a")), Some(vec!["1".to_owned()]));
        assert_eq!(lost(v.get("l").and_then(|l| l.as_list()?.first())), Some(vec!["1".to_owned()]));
        assert_eq!(lost(v.get("m")), Some(vec!["{'x': 1}".to_owned()]));
    }
}
