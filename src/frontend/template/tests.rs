//! Templates and coercion, seen through small scopes.

use super::*;
use crate::diag::Span;
use crate::frontend::MemoryWorld;
use crate::frontend::python::repr;
use crate::frontend::yaml;

fn world() -> MemoryWorld {
    let mut world = MemoryWorld::with_file("n/data.json", "{\"v\": [1, {\"a\": null}], \"t\": true}");
    world.files.insert("n/w.yml".to_owned(), b"w: {q: yes}".to_vec());
    world.files.insert("n/bad.yml".to_owned(), b"w: [".to_vec());
    world.gpus = 2;
    world
}

fn engine(world: &MemoryWorld, undefined: Undefined) -> Engine<'_> {
    Engine::new(world, "n/Kurfile.yml", undefined)
}

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
    match engine(&world(), Undefined::Error).eval_deep(&value, &scope, &sources, &mut sink) {
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
        ("'{{ gpu_count() }}'", "2"),
        ("'{{ load_json(\"data.json\").v }}'", "[1, {'a': None}]"),
        ("'{{ load_json(\"data.json\", False).t }}-{{ load_yaml(\"../n/w.yml\").w.q }}'", "'True-True'"),
        ("'{{ \"lr\" ~ 0.00001 }}'", "'lr1e-05'"),
        ("'{{ \"a\" ~ n ~ b ~ z ~ [1.0, \"q\"] }}'", "\"a3TrueNone[1.0, 'q']\""),
        ("'{{ [1e-7, True, \"x\"] | join(\"-\") }}'", "'1e-07-True-x'"),
        ("'{{ m.k | length + 2 ** 3 }}'", "10"),
        ("'{{ \"ab\" | center(7) | replace(\" \", \".\") }}'", "'...ab..'"),
        ("'{{ 2.5 | round }}|{{ 7 | round }}|{{ \"3.7\" | int }}'", "'2.0|7|3'"),
        ("'{{ \"a b-c\" | wordcount }}'", "3"),
        ("'{{ \"one two three\" | truncate(9, leeway=0) }}'", "'one...'"),
        ("'{{ 1000000 | filesizeformat }}'", "'1.0 MB'"),
        ("'{{ {\"a\": 1, \"b\": none} | tojson }}'", "'{\"a\": 1, \"b\": null}'"),
        ("'{{ {\"b\": 2, \"a\": 1} | dictsort }}'", "[('a', 1), ('b', 2)]"),
        ("'{{ \"a b&c\" | urlencode }}'", "'a%20b%26c'"),
        ("'{{ \"7\".zfill(3) }}x'", "'007x'"),
        ("'{{ \"a.b.c\".rsplit(\".\", 1) }}'", "['a.b', 'c']"),
        ("'{{ \"a=b\".partition(\"=\")[2] }}'", "'b'"),
        ("'{{ \"%s-%d\" | format(\"a\", 3) }}'", "'a-3'"),
        ("'{% set c = cycler(\"a\", \"b\") %}{{ c.next() }}{{ c.next() }}{{ c.next() }}'", "'aba'"),
        ("'{{ dict([(\"q\", 1), (\"r\", 2), (\"q\", 3)]) }}'", "{'q': 3, 'r': 2}"),
        ("'{{ dict(m, k=n, q=2) }} {{ dict() }} {{ dict(a=1).a }}'", "\"{'k': 3, 'q': 2} {} 1\""),
        ("'{{ l | sum }} {{ l | map(\"string\") | list }}'", "\"3 ['1', '2']\""),
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
        ("'{{ cnn[\"sise\"] }}'", "undefined-key: `cnn` has no key `sise`"),
        ("'{{ dict([1]) }}'", "template-error: this template fails: `dict` takes a mapping or a list of pairs"),
        ("'{{ (nope | default(1)) + text }}'", "template-error"),
        ("'{{ nope + 1 }}'", "undefined-name: the template uses `nope`, which is not defined"),
        ("'{% for i in nope %}{% endfor %}'", "undefined-name: the template uses `nope`, which is not defined"),
        ("'{{ count '", "template-syntax"),
        ("'{{ gpu_cuont() }}'", "undefined-name: the template uses `gpu_cuont`, which is not defined"),
        ("'{{ text | random }}'", "template-error: this template fails: `random` cannot be used here"),
        ("'{{ [1].append(2) }}'", "template-error: this template fails: `append` would change a value"),
        (
            "'{{ load_json(\"no.json\") }}'",
            "template-error: this template fails: `load_json`: there is no file `n/no.json`",
        ),
        ("'{{ load_yaml(\"bad.yml\") }}'", "template-error: this template fails: `load_yaml`: n/bad.yml:1:5: "),
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
fn kur_renders_undefined_names_empty() {
    let (sources, mut sink) = (SourceMap::default(), Sink::default());
    let at = Span::new(crate::diag::FileId(0), 0, 0);
    let mut scope = Scope::default();
    scope.push("m", &Value::new(Kind::Map(Vec::new()), at));
    let world = world();
    let engine = engine(&world, Undefined::Empty);
    let mut show = |text: &str| engine.eval(&Value::text(text, at), &scope, &sources, &mut sink).map(|v| repr(&v));
    assert_eq!(show("[{{ no }}]"), Ok("[]".to_owned()));
    assert_eq!(show("a{{ m.no }}{{ 'b' ~ no }}"), Ok("'ab'".to_owned()));
    assert!(show("{{ no.key }}").is_err());
}

#[test]
fn poisoned_values_are_silent() {
    let (sources, mut sink) = (SourceMap::default(), Sink::default());
    let at = Span::new(crate::diag::FileId(0), 0, 0);
    let mut scope = Scope::default();
    scope.push("settings", &Value::new(Kind::Map(Vec::new()), at));
    let reported = sink.fail(crate::diag::Diagnostic::error("x", "x"));
    scope.poison("settings.n", reported);
    scope.poison("n", reported);
    let world = world();
    let engine = engine(&world, Undefined::Error);
    for text in ["{{ n }}", "{{ settings.n.x + 1 }}", "{{ settings['n'] }}"] {
        assert!(engine.eval(&Value::text(text, at), &scope, &sources, &mut sink).is_err(), "{text}");
        assert_eq!(sink.sorted().len(), 1, "{text}");
    }
    assert!(engine.eval(&Value::text("{{ settings | length }}", at), &scope, &sources, &mut sink).is_ok());
    assert!(engine.eval(&Value::text("{{ other }}", at), &scope, &sources, &mut sink).is_err());
    assert_eq!(sink.sorted().len(), 2);
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
    let world = world();
    let engine = engine(&world, Undefined::Error);
    let (sources, mut sink) = (SourceMap::default(), Sink::default());
    let mut show =
        |s: &Scope| repr(&engine.eval(&Value::text("{{ i }}", at), s, &sources, &mut sink).expect("defined"));
    assert_eq!((show(&scope), show(&inner)), ("1".to_owned(), "2".to_owned()));
}
