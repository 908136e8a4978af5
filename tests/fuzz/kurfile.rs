//! Whole Kurfiles from the grammar of layers and sections, arguments of `--set`, and files that include each other.

use crate::harness::run;
use crate::property::{Files, compiles, holds};
use crate::tape::Tape;

const NAMES: &[&str] = &["a", "b", "c", "x", "y", "z", "\"n{{ i }}\"", "\"{{ s }}\"", "..dense.0", "nowhere"];

const SIZES: &[&str] = &[
    "4",
    "1",
    "3",
    "16",
    "0",
    "-1",
    "65536",
    "281474976710655",
    "\"{{ n }}\"",
    "\"{{ n * 2 }}\"",
    "\"{{ i + 1 }}\"",
    "2.0",
    "2.5",
    "'3'",
    "null",
    "[2, 3]",
    "[3]",
    "many",
];

const SHAPES: &[&str] = &[
    "[4]",
    "[8, 8, 3]",
    "[6, 2]",
    "[]",
    "[4, 4, 4, 1]",
    "[null, 3]",
    "[1]",
    "[\"{{ n }}\"]",
    "4",
    "[1000000, 1000000]",
    "x",
];

fn size(tape: &mut Tape<'_>) -> &'static str {
    tape.word(SIZES)
}

fn layer(tape: &mut Tape<'_>, depth: usize) -> String {
    let body = |t: &mut Tape<'_>| format!("[{}]", t.join(4, ", ", |t| entry(t, depth.saturating_sub(1))));
    match tape.below(if depth == 0 { 18 } else { 25 }) {
        0 | 1 => format!("dense: {}", size(tape)),
        2 => format!(
            "activation: {}",
            tape.word(&["relu", "tanh", "softmax", "sigmoid", "none", "leakyrelu", "elu", "nope", "\"{{ k }}\""])
        ),
        3 => format!(
            "dropout: {}",
            tape.word(&["0.5", "0", "1", "0.999", "-1", "x", "{fraction: 0.5, independent: no}"])
        ),
        4 => "flatten:".to_owned(),
        5 => format!("expand: {}", tape.word(&["-1", "0", "1", "2", "9", "-9"])),
        6 => format!("squeeze: {}", tape.word(&["-1", "0", "1", "2", "9"])),
        7 => {
            let window = tape.word(&["[3, 3]", "3", "[2, 1]", "[1, 1, 1]", "[0, 2]", "[99, 99]", "[]", "[1, 2, 3, 4]"]);
            let strides = tape.word(&["1", "2", "[1, 2]", "0", "65536"]);
            format!(
                "convolution: {{kernels: {}, size: {window}, strides: {strides}, border: {}{}}}",
                size(tape),
                tape.word(&["same", "valid", "x"]),
                tape.word(&["", "", ", separable: yes", ", highway: yes", ", dilation: 2", ", dilation: [1, 9]"])
            )
        }
        8 => format!(
            "pool: {{size: {}, strides: {}, type: {}}}",
            tape.word(&["[2, 2]", "2", "[9, 9]", "[0]"]),
            tape.word(&["1", "[2, 2]", "7"]),
            tape.word(&["max", "average", "x"])
        ),
        9 => format!(
            "batch_normalization: {}",
            tape.word(&["", "{axis: 1}", "{axis: -1, momentum: 0.5}", "{axis: 0}", "{axis: 7}"])
        ),
        10 => format!("input: {{shape: {}}}", tape.word(SHAPES)),
        11 => format!("input: {}", tape.word(NAMES)),
        12 => format!("output: {}", tape.word(NAMES)),
        13 => {
            format!("merge: {}", tape.word(&["concat", "add", "{mode: concat, axis: 1}", "multiply", "average", "x"]))
        }
        14 => format!("reuse: {}", tape.word(NAMES)),
        15 => format!(
            "{}: {}",
            tape.word(&["recurrent", "embedding", "transpose", "repeat"]),
            tape.word(&["4", "{size: 4, sequence: no, type: gru}", "[1, 0]", "{vocab_size: 9, size: 3}", "[2, 1]"])
        ),
        16 => format!(
            "{}: {}",
            tape.word(&[
                "upsample",
                "pad",
                "global_pool",
                "layer_normalization",
                "position_embedding",
                "attention",
                "activation",
            ]),
            tape.word(&[
                "",
                "2",
                "[1, 2]",
                "max",
                "{heads: 2, causal: yes}",
                "{before: 1}",
                "prelu",
                "gelu",
                "{epsilon: 0.1}",
            ])
        ),
        17 => format!("t{}: {}", tape.below(3), tape.word(&["", "{n: 3}", "{i: \"{{ n }}\"}", "[1]"])),
        18 | 19 => format!(
            "for: {{range: {}, with_index: i, iterate: {}}}",
            tape.word(&["2", "0", "3", "100000000", "\"{{ n }}\"", "\"{{ i }}\""]),
            body(tape)
        ),
        20 => format!(
            "for_each: {{items: {}, loop_var: i, iterate: {}}}",
            tape.word(&["[1, 2]", "\"{{ range(9) | list }}\"", "{p: 1, q: 2}", "\"{{ layers }}\"", "[]"]),
            body(tape)
        ),
        21 => format!("parallel: {{apply: {}}}", body(tape)),
        22 => format!("debug: \"{{{{ {} }}}}\"", tape.word(&["i", "layers", "n", "settings", "parsed"])),
        23 => format!("assert: \"{{{{ {} }}}}\"", tape.word(&["n == 4", "False", "layers", "1 +"])),
        _ => format!("{}:", tape.word(&["dens", "relu", "Dense", "\"{{ k }}\""])),
    }
}

fn entry(tape: &mut Tape<'_>, depth: usize) -> String {
    if tape.rarely(12) {
        return (tape.word(&["flatten", "t0", "3", "null", "[dense: 3]", "\"{{ e }}\"", "{}", "{name: a}"])).to_owned();
    }
    let mut out = layer(tape, depth);
    for (key, values) in [
        ("name", NAMES),
        ("inputs", &["a", "[a, b]", "x", "[]", "y", "\"{{ layers[-1] }}\"", "[x, x, x]"][..]),
        ("sink", &["yes", "no", "\"{{ i }}\""]),
        ("when", &["no", "\"{{ i > 0 }}\"", "yes"]),
        ("freeze", &["yes", "no", "null"]),
        ("tag", &["p", "[p, q]"]),
        ("oldest", &["p"]),
    ] {
        if tape.rarely(6) {
            out += &format!(", {key}: {}", tape.word(values));
        }
    }
    format!("{{{out}}}")
}

fn text(tape: &mut Tape<'_>) -> String {
    let mut out = "settings: {n: 4, k: relu, s: 'b', e: {dense: 3}".to_owned();
    out += tape.word(&[
        "",
        ", seed: 3",
        ", compat: kur",
        ", backend: {name: keras}",
        ", i: \"{{ n + 1 }}\"",
        ", zz: \"{{ zz }}\"",
    ]);
    out += "}\n";
    if tape.rarely(2) {
        for i in 0..3 {
            let body = tape.join(3, ", ", |t| entry(t, 1));
            let head = if i == 0 { "templates:\n" } else { "" };
            out += &format!("{head}  t{i}: [{body}]\n");
        }
    }
    let shape = tape.word(&["[4]", "[8, 8, 3]", "[6, 2]", "[1]"]);
    out += &format!("model:\n  - {{input: {{shape: {shape}}}, name: x}}\n");
    let count = 1 + tape.below(12);
    for _ in 0..count {
        out += &format!("  - {}\n", entry(tape, 3));
    }
    if tape.rarely(2) {
        out += "  - {output: y}\n";
    }
    if tape.rarely(2) {
        let losses = ["mean_squared_error", "categorical_crossentropy", "ctc", "{name: ctc}", "x", "null"];
        let one = |t: &mut Tape<'_>| {
            format!(
                "{{target: {}, name: {}, weight: {}}}",
                t.word(&["y", "a", "b", "x"]),
                t.word(&losses),
                t.word(&["1", "0.5", "-1", "x"])
            )
        };
        out += &format!("loss: [{}]\n", tape.join(3, ", ", one));
    }
    if tape.rarely(2) {
        let optimizers = [
            "adam",
            "sgd",
            "{name: sgd, momentum: 0.9, nesterov: yes}",
            "{name: adam, clip: {norm: 1}}",
            "{name: adam, clip: {abs: 0.1}}",
            "x",
            "null",
        ];
        out += &format!("train: {{epochs: {}, optimizer: {}}}\n", size(tape), tape.word(&optimizers));
    }
    out
}

fn whole(tape: &mut Tape<'_>) -> Files {
    Files::one("Kurfile.yml", text(tape))
}

fn override_text(tape: &mut Tape<'_>) -> String {
    let part = |t: &mut Tape<'_>| {
        let parts = [
            "model",
            "0",
            "1",
            "train",
            "training",
            "epochs",
            "settings",
            "n",
            "\"a.b\"",
            "\"",
            "",
            "99999999999999999999",
            "é",
            " ",
            "dense",
            "optimizer",
        ];
        t.word(&parts).to_owned()
    };
    let path = tape.join(4, ".", part);
    let values = [
        "3",
        "",
        "[1, 2]",
        "{a: 1}",
        "{",
        "\"{{ n }}\"",
        "*a",
        "&a 1",
        "null",
        "=",
        "x: y",
        "\n- a",
        "!!int x",
        "'",
        "relu",
        "\u{feff}",
    ];
    format!("{path}{}{}", tape.word(&["=", "==", "", " = "]), tape.word(&values))
}

fn with_overrides(tape: &mut Tape<'_>) -> Files {
    let set = (0..=tape.below(3)).map(|_| override_text(tape)).collect();
    Files { set, ..whole(tape) }
}

/// Up to six files that include each other, also in circles, by patterns, with all strategies and in both formats.
fn including(tape: &mut Tape<'_>) -> Files {
    const PATHS: &[&str] = &["Kurfile.yml", "a.yml", "b.json", "d/c.yml", "d/e.yaml", "f.yml"];
    const SOURCES: &[&str] = &[
        "a.yml",
        "b.json",
        "d/c.yml",
        "d/*.yml",
        "*",
        "**",
        "d/e.yaml",
        "../a.yml",
        "./a.yml",
        "Kurfile.yml",
        "nowhere.yml",
        "*.nothing",
        "",
        "[",
        "$HOME/x.yml",
        "~",
        "d/../a.yml",
        "???.yml",
        "{a,b}.yml",
        "\"{{ s }}.yml\"",
        "3",
        "null",
    ];
    let mut files = Vec::new();
    for (i, path) in PATHS.iter().enumerate() {
        if i > 0 && tape.rarely(4) {
            continue;
        }
        let json = path.ends_with(".json");
        let source = |t: &mut Tape<'_>| {
            let source = t.word(SOURCES);
            let quoted = if source.starts_with('"') { source.to_owned() } else { format!("\"{source}\"") };
            match t.below(4) {
                0 | 1 => quoted,
                2 => format!(
                    "{{\"source\": {quoted}, \"method\": \"{}\"}}",
                    t.word(&["blend", "merge", "concat", "x", ""])
                ),
                _ => format!("{{\"source\": [{quoted}, \"a.yml\"]}}"),
            }
        };
        let include = match tape.below(3) {
            0 => source(tape),
            1 => format!("[{}]", tape.join(3, ", ", source)),
            _ => "null".to_owned(),
        };
        let model = tape.join(2, ", ", |t| entry(t, 1));
        let settings = tape.word(&["{\"n\": 3}", "{\"n\": {\"k\": [1]}}", "[1]", "null", "{\"s\": \"a\", \"n\": 4}"]);
        let text = if json {
            format!("{{\"include\": {include}, \"settings\": {settings}}}")
        } else {
            format!("include: {include}\nsettings: {settings}\nmodel: [{{input: {{shape: [4]}}, name: x}}, {model}]\n")
        };
        files.push(((*path).to_owned(), text.into_bytes()));
    }
    Files { files, set: Vec::new() }
}

#[test]
fn kurfiles() {
    run("kurfiles", 1_000, whole, compiles);
}

#[test]
fn overrides() {
    run("overrides", 1_500, with_overrides, holds);
}

#[test]
fn includes() {
    run("includes", 2_500, including, holds);
}
