//! Templates and coercion, seen through small scopes.

use super::*;
use crate::diag::Span;
use crate::frontend::python::repr;
use crate::frontend::yaml;

/// Evaluates YAML text deeply with the given scope (YAML as well); a Python repr, or the first error.
fn eval(scope_text: &str, text: &str) -> Result<String, String> {
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let f = sources.add("scope", scope_text);
    let names = yaml::read(scope_text, f, &mut sink).expect("scope is YAML");
    let mut scope = Scope::default();
    for e in names.as_map().unwrap_or_default() {
        scope.push(e.key.as_str().expect("text key"), &e.value);
    }
    let f = sources.add("text", text);
    let value = yaml::read(text, f, &mut sink).expect("text is YAML");
    match Engine::default().eval_deep(&value, &scope, &sources, &mut sink) {
        Ok(v) => Ok(repr(&v)),
        Err(_) => Err(sink.sorted().iter().map(|d| format!("{}: {}", d.id, d.message)).collect::<Vec<_>>().join("; ")),
    }
}

#[test]
fn values_keep_their_kind_through_text() {
    let scope = "{n: 3, x: 2.0e-4, l: [1, 2], s: '12', b: yes, z: null, m: {k: [a, it's]}, t: 'p{{ n }}', e: ''}";
    let table = [
        ("'{{ n }}'", "3"),
        ("'{{ n * 2 }}'", "6"),
        ("'{{ n / 2 }}'", "1.5"),
        ("'{{ 4 / 2 }}'", "2.0"),
        ("'{{ n // 2 }}'", "1"),
        ("'{{ x }}'", "0.0002"),
        ("'{{ l }}'", "[1, 2]"),
        ("'a{{ l }}'", "'a[1, 2]'"),
        ("'{{ s }}'", "12"),
        ("'{{ b }}'", "True"),
        ("'{{ z }}'", "None"),
        ("'{{ m }}'", "{'k': ['a', \"it's\"]}"),
        ("'{{ m.k[1] }}'", "\"it's\""),
        ("'{{ t }}'", "'p3'"),
        ("'{{ e }}'", "''"),
        ("'{{ l | length }}'", "2"),
        ("'{{ \"a,b\".split(\",\") }}'", "['a', 'b']"),
        ("'{{ 0.1 + 0.2 }}'", "0.30000000000000004"),
        ("'{{ 1 / 100000 }}'", "1e-05"),
        ("2e-4", "0.0002"),
        ("[yes, 'yes', None, '7']", "[True, 'yes', None, 7]"),
        ("\"'quoted'\"", "'quoted'"),
        ("|\n  a\n\n", "'a'"),
        ("'{{ missing | default(5) }}'", "5"),
        ("'{{ n is defined }}'", "True"),
        ("'{% for i in l %}{{ i }},{% endfor %}'", "(1, 2)"),
        ("'{{ \"a/b.tar.gz\" | basename }}'", "'b.tar.gz'"),
        ("'{{ \"a/b/c\" | dirname }}'", "'a/b'"),
        ("'{{ \"a/.b.gz\" | splitext }}'", "('a/.b', '.gz')"),
        ("'{{ {\"a\": 1} | combine({\"b\": 2}) }}'", "{'a': 1, 'b': 2}"),
        ("'{{ n | as_dict(\"k\") }}'", "{'k': 3}"),
        ("'{{ b | ternary(1, 2) }}'", "1"),
        ("{'{{ n }}': 1}", "{'{{ n }}': 1}"),
    ];
    for (text, expected) in table {
        assert_eq!(eval(scope, text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    let scope = "{count: 3, cnn: {kernels: [1], size: 2}, text: abc}";
    let table = [
        ("'{{ cuont }}'", "undefined-name: the template uses `cuont`, which is not defined"),
        ("'{{ cuont | length }}'", "undefined-name: the template uses `cuont`, which is not defined"),
        ("'{{ cuont.x.y }}'", "undefined-name: the template uses `cuont`, which is not defined"),
        ("'{{ cnn.sise }}'", "undefined-key: `cnn` has no key `sise`"),
        ("'{{ cnn.sise * 2 }}'", "undefined-key: `cnn` has no key `sise`"),
        ("'{{ count | lenght }}'", "unknown-filter: templates have no filter `lenght`"),
        ("'{{ text + 1 }}'", "template-error"),
        ("'{{ (nope | default(1)) + text }}'", "template-error"),
        ("'{{ nope + 1 }}'", "undefined-name: the template uses `nope`, which is not defined"),
        ("'{% for i in nope %}{% endfor %}'", "undefined-name: the template uses `nope`, which is not defined"),
        ("'{{ count '", "template-syntax"),
        ("'{{ gpu_count() }}'", "not-yet-supported: the template function `gpu_count` is not supported yet"),
        ("'{{ nope() }}'", "undefined-name: the template uses `nope`, which is not defined"),
        ("'{% for i in range(9999) %}{% for i in range(9999) %}x{% endfor %}{% endfor %}'", "template-too-long"),
        ("'{{ \"x\" * 100000000 }}'", "template-too-long"),
    ];
    for (text, expected) in table {
        let got = eval(scope, text).expect_err(text);
        assert!(got.starts_with(expected), "{text}: {got}");
    }
}

#[test]
fn circles_end() {
    assert!(eval("{a: '{{ b }}', b: '{{ a }}'}", "'{{ a }}'").expect_err("circle").starts_with("template-cycle"));
    assert!(eval("{a: \"['{{ a }}']\"}", "'{{ a }}'").expect_err("circle").starts_with("template-cycle"));
    assert!(eval("{a: \"['{{ a }}', '{{ a }}']\"}", "'{{ a }}'").expect_err("circle").starts_with("template-cycle"));
    let doubled = eval("{a: '{{ a }}{{ a }}'}", "'{{ a }}'").expect_err("circle");
    assert!(doubled.starts_with("template-"), "{doubled}");
}

#[test]
fn all_mistakes_of_a_tree_are_reported() {
    let got = eval("{}", "{a: '{{ x }}', b: ['{{ y }}', {c: '{{ z }}'}]}").expect_err("three mistakes");
    assert_eq!(got.matches("undefined-name").count(), 3, "{got}");
}

#[test]
fn scopes_nest_and_hide() {
    let at = Span::new(crate::diag::FileId(0), 0, 0);
    let mut scope = Scope::default();
    scope.push("i", &Value::int(1, at));
    let mut inner = scope.clone();
    inner.push("i", &Value::int(2, at));
    inner.replace_outermost("i", &Value::int(7, at));
    let engine = Engine::default();
    let (sources, mut sink) = (SourceMap::default(), Sink::default());
    let mut show =
        |s: &Scope| repr(&engine.eval(&Value::text("{{ i }}", at), s, &sources, &mut sink).expect("defined"));
    assert_eq!((show(&scope), show(&inner)), ("1".to_owned(), "2".to_owned()));
}
