//! The tree as PyYAML builds it, and byte-exact places.

use super::*;
use crate::diag::SourceMap;
use crate::frontend::python::repr;

fn parse(text: &str) -> (Result<Value, Reported>, Sink) {
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let file = sources.add("k.yml", text);
    let value = read(text, file, &mut sink);
    (value, sink)
}

fn show(text: &str) -> String {
    let (value, sink) = parse(text);
    match value {
        Ok(v) => repr(&v),
        Err(_) => sink.sorted()[0].id.to_owned(),
    }
}

#[test]
fn trees_are_pyyamls() {
    let table = [
        ("", "None"),
        ("---\n...\n", "None"),
        ("--- 3\n", "3"),
        (
            "a: 1\nb: [x, 'y', \"z\\n\"]\nc: {d: , e: ~}\n",
            "{'a': 1, 'b': ['x', 'y', 'z\\n'], 'c': {'d': None, 'e': None}}",
        ),
        ("- a\n- - b\n  - c\n-\n", "['a', ['b', 'c'], None]"),
        ("a: |\n  x\n   y\n\nb: >-\n  p\n  q\n", "{'a': 'x\\n y\\n', 'b': 'p q'}"),
        ("a: &x {k: 1}\nb: *x\n", "{'a': {'k': 1}, 'b': {'k': 1}}"),
        // Own pairs beat merged ones, and of several merged mappings the first one wins.
        ("b: &b {k: 1, l: 2}\nc: {<<: *b, k: 3}\n", "{'b': {'k': 1, 'l': 2}, 'c': {'k': 3, 'l': 2}}"),
        ("- &a {k: 1}\n- &b {k: 2, l: 3}\n- <<: [*a, *b]\n", "[{'k': 1}, {'k': 2, 'l': 3}, {'k': 1, 'l': 3}]"),
        ("- &a {k: 1}\n- k: 0\n  <<: *a\n  m: 4\n", "[{'k': 1}, {'k': 0, 'm': 4}]"),
        ("'<<': 3\n", "{'<<': 3}"),
        ("yes: 1\n010: 2\n", "{True: 1, 8: 2}"),
        ("a: !!str 3\nb: !!float 3\nc: !!int '0x10'\nd: ! 4\n", "{'a': '3', 'b': 3.0, 'c': 16, 'd': '4'}"),
        ("a: 1\r\nb:\r\n  - 2\r\n", "{'a': 1, 'b': [2]}"),
        ("\u{feff}a: 1\n", "{'a': 1}"),
        ("a: # comment\n  b: 'it''s' # more\n", "{'a': {'b': \"it's\"}}"),
    ];
    for (text, expected) in table {
        assert_eq!(show(text), expected, "{text:?}");
    }
}

#[test]
fn duplicate_keys_warn_and_the_last_one_counts() {
    let (value, sink) = parse("a: 1\nb: 2\na: 3\n");
    assert_eq!(repr(&value.expect("legal")), "{'a': 3, 'b': 2}");
    assert_eq!(sink.sorted().len(), 1);
    assert_eq!(sink.sorted()[0].id, "duplicate-key");
}

#[test]
fn limits_hold() {
    assert_eq!(show(&"[".repeat(5_000)), "too-deep");
    assert_eq!(show(&"- ".repeat(5_000)), "too-deep");
    assert_eq!(show(&("a:\n".to_owned() + &(1..300).map(|n| " ".repeat(n) + "a:\n").collect::<String>())), "too-deep");
}

/// Every plain scalar's place is exactly its text, whatever stands before it.
#[test]
fn places_are_bytes() {
    let text = "\u{feff}größe: ünï\r\n\"😀 名前\": [é, 'q', {ключ: значение}]\r\nlist:\r\n  - 日本\r\n  - end\r\n";
    let (value, _) = parse(text);
    let mut seen = 0;
    walk(&value.expect("legal"), &mut |v| {
        if let Kind::Str(s, Style::Plain) = &v.kind {
            assert_eq!(&text[v.span.start as usize..v.span.end as usize], &**s);
            seen += 1;
        }
    });
    assert_eq!(seen, 8);
}

fn walk(value: &Value, f: &mut impl FnMut(&Value)) {
    f(value);
    match &value.kind {
        Kind::List(v) => v.iter().for_each(|v| walk(v, f)),
        Kind::Map(m) => m.iter().for_each(|e| {
            walk(&e.key, f);
            walk(&e.value, f);
        }),
        _ => {}
    }
}
