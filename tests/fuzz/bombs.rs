//! Small files that ask for large amounts of work, one by one. What was once slow or too large stays here.

use crate::property::{Files, holds};

fn model(text: &str) -> String {
    format!("model:\n  - input: {{shape: [4]}}\n    name: x\n{text}")
}

/// Each layer reuses the two before it, or twice the one before.
fn reuses() -> String {
    let mut text = String::from("  - parallel: {apply: [dense: 4]}\n    name: p0\n");
    for i in 1..60 {
        text += &format!("  - parallel: {{apply: [reuse: p{0}, reuse: p{0}]}}\n    name: p{i}\n", i - 1);
    }
    model(&text)
}

fn reuse_chain(forward: bool) -> String {
    let links = (1..5_000).map(|i| {
        let target = if forward { i + 1 } else { i - 1 };
        format!("  - reuse: r{target}\n    name: r{i}\n")
    });
    let end = if forward { "  - dense: 4\n    name: r5000\n" } else { "" };
    model(&format!("  - dense: 4\n    name: r0\n{}{end}", links.collect::<String>()))
}

fn reused_loops() -> String {
    let mut text = String::from("  - for: {range: 100, iterate: [dense: 4]}\n    name: l0\n");
    for i in 1..20 {
        text += &format!("  - for: {{range: 100, iterate: [reuse: l{}]}}\n    name: l{i}\n", i - 1);
    }
    model(&text)
}

fn templates_of_templates() -> String {
    let mut text = String::from("templates:\n  t0: [dense: 4]\n");
    for i in 1..45 {
        text += &format!("  t{i}: [t{0}:, t{0}:]\n", i - 1);
    }
    text + &model("  - t44:\n")
}

fn aliases() -> String {
    let mut text = String::from("settings:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let alias = format!("*a{}", i - 1);
        text += &format!("  a{i}: &a{i} [{}]\n", vec![alias; 9].join(", "));
    }
    text + &model("  - dense: 4\n")
}

/// A thousand layers, each with a template that takes long.
fn slow_templates() -> String {
    let slow = "{% for i in range(20000) %}{% endfor %}4";
    model(&format!(
        "  - for: {{range: 5000, with_index: k, iterate: [{{dense: \"{slow}\", name: \"d{{{{ k }}}}\"}}]}}\n"
    ))
}

fn setting(template: &str) -> String {
    let template = serde_json::Value::from(template);
    format!("settings:\n  a: x\n  v: {template}\n{}", model("  - dense: 4\n"))
}

fn doubling() -> String {
    let mut text = String::from("settings:\n  s0: ab\n");
    for i in 1..40 {
        text += &format!("  s{i}: \"{{{{ s{0} }}}}{{{{ s{0} }}}}\"\n", i - 1);
    }
    text + &model("  - dense: 4\n")
}

fn many_keys(count: usize) -> String {
    let keys: String = (0..count).map(|i| format!("  k{i}: {i}\n")).collect();
    format!("settings: &s\n{keys}train:\n  <<: [*s, *s]\n{keys}{}", model("  - dense: 4\n"))
}

fn cases() -> Vec<(&'static str, String)> {
    let list = |item: &str, n: usize| format!("[{}]", vec![item; n].join(","));
    let keys: String = (0..60_000).map(|i| format!("{i}:0,")).collect();
    let deep = 95;
    vec![
        ("reuses", reuses()),
        ("a reuse of itself", model("  - parallel: {apply: [reuse: p]}\n    name: p\n")),
        ("reuses of each other", model("  - parallel: {apply: [reuse: q]}\n    name: p\n  - parallel: {apply: [reuse: p]}\n    name: q\n")),
        ("a chain of reuses", reuse_chain(false)),
        ("a chain of later reuses", reuse_chain(true)),
        ("reused loops", reused_loops()),
        ("templates of templates", templates_of_templates()),
        ("an endless template", format!("templates:\n  t: [t:, t:]\n{}", model("  - t:\n"))),
        ("aliases", aliases()),
        ("nested loops", model("  - for: {range: 100000, iterate: [{for: {range: 100000, iterate: [{for: {range: 0, iterate: [flatten]}}]}}]}\n")),
        ("a loop of nothing", model("  - for: {range: 281474976710655, iterate: []}\n")),
        ("a loop of a switched off layer", model("  - for: {range: 281474976710655, iterate: [{dense: 4, when: no}]}\n")),
        ("slow templates", slow_templates()),
        ("a repeated text", setting("{{ 'a' * 10**9 }}")),
        ("a repeated text, often", setting("{% for i in range(1000) %}{{ 'a' * 100000 }}{% endfor %}")),
        ("a repeated list", setting("{{ [0] * 10**9 }}")),
        ("a long range", setting("{{ range(100000) | list | length }}{{ range(10**12) | length }}")),
        ("loops in loops", setting("{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}")),
        ("a wide field", setting("{{ '%1000000000d' % 1 }}{{ '%1000000000d' | format(1) }}")),
        ("a wide format", setting("{{ '{:>1000000000}'.format(1) }}")),
        ("a precise format", setting("{{ '{:.1000000000f}'.format(1.5) }}")),
        ("a deep indent", setting("{{ 'a\\nb' | indent(1000000000) }}")),
        ("large batches", setting("{{ [1] | batch(1000000000, 0) | list }}")),
        ("many slices", setting("{{ [1] | slice(1000000000) | list }}")),
        ("a growing text", setting("{% set s = namespace(t='ab') %}{% for i in range(60) %}{% set s.t = s.t ~ s.t %}{% endfor %}{{ s.t | length }}")),
        ("a list of millions", setting("{{ [0] * 100000000 }}")),
        ("a list of millions, filtered", setting("{{ ([0] * 100000000) | pprint | length }}{{ ([0] * 100000000) | tojson | length }}")),
        ("ends of promised lists", setting("{% set x = [0] * 10**7 %}{% for i in range(30000) %}{{ x[-1] }}{{ range(100000)[-1] }}{{ (x + x)[-1] }}{% endfor %}")),
        ("printed layers", model("  - for: {range: 6000, iterate: [{dense: 4}, {debug: \"{{ layers }}\"}]}\n")),
        ("a doubled list", setting("{% set s = namespace(t=[1, 2]) %}{% for i in range(30) %}{% set s.t = s.t + s.t %}{% endfor %}{{ s.t }}")),
        ("a list that contains itself", setting("{% set s = namespace() %}{% set s.t = s %}{{ s }}")),
        ("a deep list", setting("{% set s = namespace(t=1) %}{% for i in range(30000) %}{% set s.t = [s.t] %}{% endfor %}{{ s.t }}")),
        ("a deep mapping", setting("{% set s = namespace(t=1) %}{% for i in range(30000) %}{% set s.t = {'a': s.t} %}{% endfor %}{{ s.t | length }}")),
        ("a growing replacement", setting("{% set s = namespace(t='a') %}{% for i in range(60) %}{% set s.t = s.t | replace('a', 'aaaaaaaaaa') %}{% endfor %}{{ s.t | length }}")),
        ("a recursive macro", setting("{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}")),
        ("a text that settles late", setting("{{ '{{ ' ~ v ~ ' }}' }}")),
        ("doubling settings", doubling()),
        ("a list as text", setting(&format!("{{{{ 1 }}}}{}", list("1", 400_000)))),
        ("a list of lists as text", setting(&list("[]", 300_000))),
        ("a mapping as text", setting(&format!("{{{keys}}}"))),
        ("a set as text", setting(&format!("{{{}}}", keys.replace(":0", "")))),
        ("a deep list as text", setting(&format!("{}{}", "[".repeat(deep), "]".repeat(deep)))),
        ("a very deep list as text", setting(&"[".repeat(500_000))),
        ("deep parentheses in a template", setting(&format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000)))),
        ("deep signs in a template", setting(&format!("{{{{ {}1 }}}}", "-".repeat(50_000)))),
        ("deep nots in a template", setting(&format!("{{{{ {}1 }}}}", "not ".repeat(50_000)))),
        ("long sums in a template", setting(&format!("{{{{ {}1 }}}}", "1 + ".repeat(50_000)))),
        ("long joins in a template", setting(&format!("{{{{ {}1 }}}}", "a ~ ".repeat(50_000)))),
        ("long filters in a template", setting(&format!("{{{{ a{} }}}}", " | upper".repeat(50_000)))),
        ("long paths in a template", setting(&format!("{{{{ a{} }}}}", ".b".repeat(50_000)))),
        ("many elifs", setting(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(5_000)))),
        ("many branches", setting(&format!("{{{{ {}1 }}}}", "a if a else ".repeat(5_000)))),
        ("deep blocks in a template", setting(&"{% if 1 %}".repeat(5_000))),
        ("long digits", setting(&format!("{{{{ {} }}}}", "9".repeat(100_000)))),
        ("long power", setting("{{ 10 ** 10 ** 10 }}{{ 2 ** 1000000 }}")),
        ("a long number", model(&format!("  - dense: {}\n", "9".repeat(300_000)))),
        ("a long sexagesimal", model(&format!("  - dense: 1{}\n", ":59".repeat(100_000)))),
        ("a long name", model(&format!("  - dense: 4\n    name: {0}\n  - dense: 4\n    inputs: {0}b\n", "n".repeat(100_000)))),
        ("many keys", many_keys(20_000)),
        ("many unknown sections", (0..20_000).map(|i| format!("modell{i}: 1\n")).collect()),
        ("deep flow", "[".repeat(100_000)),
        ("deep flow mapping", "{a: ".repeat(100_000)),
        ("deep block", (0..2_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect()),
        ("deep list in a line", "- ".repeat(50_000)),
        ("many questions", "? ".repeat(50_000)),
        ("many anchors", (0..20_000).map(|i| format!("k{i}: &a{i} 1\n")).collect()),
        ("many documents", "---\n".repeat(50_000)),
        ("many tags", "!a ".repeat(50_000)),
        ("a large window", model("  - expand: -1\n  - convolution: {kernels: 281474976710655, size: [4]}\n")),
        ("large layers", model(&"  - dense: 281474976710655\n".repeat(3))),
        ("a large shape", "model:\n  - input: {shape: [281474976710655, 281474976710655, 281474976710655]}\n  - flatten:\n  - dense: 4\n".to_owned()),
    ]
}

#[test]
fn bombs() {
    let failed = |(name, text): &(&str, String)| {
        eprintln!("{name}");
        let files = Files::one("Kurfile.yml", text.as_str());
        let failed = std::panic::catch_unwind(|| holds(&files)).is_err();
        if failed {
            eprintln!("^ {name}");
        }
        failed
    };
    let failed: Vec<&str> = cases().iter().filter(|c| failed(c)).map(|(name, _)| *name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
