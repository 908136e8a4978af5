//! Templates: random Jinja over a few settings, with loops in loops, huge arguments and values that lead to each other.

use crate::harness::run;
use crate::property::{Files, holds};
use crate::tape::Tape;

const ATOMS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "v",
    "w",
    "settings",
    "settings.v",
    "parsed",
    "raw",
    "layers",
    "tags",
    "x",
    "i",
    "loop.index",
    "true",
    "none",
    "0",
    "1",
    "-1",
    "3",
    "100000",
    "1000000000",
    "999999999999999999999999999999999999",
    "0.5",
    "1e300",
    "'a'",
    "'é{{'",
    "''",
    "[]",
    "[1, 'x', [2]]",
    "(1,)",
    "{}",
    "{'k': 1, 2: b}",
    "range(3)",
    "range(100000)",
    "range(1, 10**9)",
    "'a' * 10**9",
    "[0] * 10**7",
    "'{{ v }}'",
    "'[' * 200",
    "'{{ ' ~ 'w' ~ ' }}'",
    "namespace(n=1)",
    "dict(a=1)",
    "cycler(1, 2)",
];

const OPERATORS: &[&str] =
    &["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "not in", "and", "or", "is", "if"];

const FILTERS: &[&str] = &[
    "abs",
    "as_dict('k')",
    "basename",
    "batch(3)",
    "batch(1000000000, 0)",
    "bool",
    "capitalize",
    "combine({'q': 1})",
    "default(1)",
    "dictsort",
    "dirname",
    "first",
    "float",
    "format(1, 2)",
    "groupby('k')",
    "indent(2)",
    "indent(1000000000)",
    "int",
    "int(base=36)",
    "items",
    "join",
    "join(',')",
    "last",
    "length",
    "list",
    "lower",
    "map('upper')",
    "map(attribute='k')",
    "max",
    "min",
    "pprint",
    "reject",
    "replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')",
    "reverse",
    "round",
    "round(1000)",
    "round(-5)",
    "select",
    "select('odd')",
    "slice(3)",
    "slice(1000000000)",
    "sort",
    "split",
    "splitext",
    "string",
    "sum",
    "ternary(1, 2)",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "urlencode",
    "zip([1])",
    "nonsense",
    "attr('x')",
    "chain([1])",
    "center(1000000000)",
];

const METHODS: &[&str] = &[
    ".upper()",
    ".split()",
    ".replace('a', 'bbbbbbbb')",
    ".items()",
    ".keys()",
    ".get('k', 2)",
    ".join(['a', 'b'])",
    ".count('a')",
    ".format(1, k=2)",
    ".append(1)",
    ".x.y",
    "[0]",
    "[-1]",
    "['k']",
    "[1:2]",
    "[::-1]",
    "[::1000000000]",
    ".nope()",
    ".strip()",
    ".format(*range(9))",
    ".zfill(1000000000)",
    ".splitlines()",
];

const FORMATS: &[&str] = &[
    "'%1000000000d'",
    "'%s%s'",
    "'{:>1000000000}'",
    "'{0}{0[0]}'",
    "'%.1000000000f'",
    "'{:.999999999f}'",
    "'%c'",
    "'{'",
];

fn expression(tape: &mut Tape<'_>, depth: usize) -> String {
    if depth == 0 {
        return tape.word(ATOMS).to_owned();
    }
    match tape.below(10) {
        0 | 1 => tape.word(ATOMS).to_owned(),
        2..=4 => format!("{} | {}", expression(tape, depth - 1), tape.word(FILTERS)),
        5 => format!("({}){}", expression(tape, depth - 1), tape.word(METHODS)),
        6 => format!("{} {} {}", expression(tape, depth - 1), tape.word(OPERATORS), expression(tape, depth - 1)),
        7 => format!("{}{}", tape.word(FORMATS), tape.word(&[" | format(1)", ".format(1)", ".format([1, 2])", " % 1"])),
        8 => format!("[{}]", tape.join(3, ", ", |t| expression(t, depth - 1))),
        _ => format!("({} if {} else {})", expression(tape, depth - 1), tape.word(ATOMS), expression(tape, depth - 1)),
    }
}

fn template(tape: &mut Tape<'_>, depth: usize) -> String {
    let body = |tape: &mut Tape<'_>| if depth == 0 { "x".to_owned() } else { template(tape, depth - 1) };
    match tape.below(12) {
        0..=3 => format!("{{{{ {} }}}}", expression(tape, 3)),
        4 => format!("{{% for i in {} %}}{}{{% endfor %}}", expression(tape, 1), body(tape)),
        5 => format!("{{% if {} %}}{}{{% else %}}{}{{% endif %}}", expression(tape, 2), body(tape), body(tape)),
        6 => format!("{{% set x = {} %}}{}", expression(tape, 2), body(tape)),
        7 => format!(
            "{{% macro m(x) %}}{}{{{{ m(x) }}}}{{% endmacro %}}{{{{ m({}) }}}}",
            body(tape),
            expression(tape, 1)
        ),
        8 => format!("{{% for i in range(100000) recursive %}}{}{{{{ loop(range(9)) }}}}{{% endfor %}}", body(tape)),
        9 => format!("{}{}", body(tape), body(tape)),
        10 => (tape.word(&[
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            "{{ v }",
            "[1, ",
            "{1: ",
            "(((",
            "'",
            "\n",
            "{% raw %}",
            "{% endfor %}",
        ]))
        .to_owned(),
        _ => format!("{{% filter {} %}}{}{{% endfilter %}}", tape.word(FILTERS), body(tape)),
    }
}

/// Settings that are templates over each other, and a layer that uses one.
fn settings(tape: &mut Tape<'_>) -> Files {
    let text = |tape: &mut Tape<'_>| {
        let parts = template(tape, 3);
        serde_json::Value::from(parts).to_string()
    };
    let (v, w, size) = (text(tape), text(tape), text(tape));
    let file = format!(
        "settings:\n  a: {{k: 1, l: [1, 2]}}\n  b: [1, 'x', 2.5]\n  c: text\n  d: 7\n  v: {v}\n  w: {w}\nmodel:\n  - input: \
         {{shape: [4]}}\n  - for: {{range: 3, with_index: i, iterate: [{{dense: {size}, name: {w}}}]}}\n"
    );
    Files::one("Kurfile.yml", file)
}

#[test]
fn templates() {
    run("templates", 4_000, settings, holds);
}
