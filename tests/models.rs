//! Whole models of the kinds that people build: they learn a task that needs all of their parts until the loss has
//! fallen to a tenth, and to the same weights with one thread as with two.
//!
//! The Kurfiles are in `fixtures/models`. Their data is made here: each task is a rule that a model without attention,
//! without a look to both sides, or without alignment, cannot learn.

use std::fs;
use std::path::Path;
use std::process::Command;

use kur_runtime::abi::rng;
use serde_json::{Value, json};

/// Random numbers, the same in every run.
struct Random(u32);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 += 1;
        f64::from(rng::uniform(7, self.0))
    }

    /// A whole number below `n`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
    fn below(&mut self, n: u32) -> u32 {
        (self.unit() * f64::from(n)) as u32
    }

    fn noise(&mut self, size: f64) -> f64 {
        (self.unit() * 2.0 - 1.0) * size
    }
}

fn one_hot(class: u32, classes: u32) -> Vec<f64> {
    (0..classes).map(|k| f64::from(u8::from(k == class))).collect()
}

/// Nine kinds of tokens; the answer is the one behind the only 0.
fn tokens(r: &mut Random) -> Value {
    let mut tokens: Vec<u32> = (0..12).map(|_| 1 + r.below(8)).collect();
    let marker = r.below(11) as usize;
    tokens[marker] = 0;
    json!({ "tokens": tokens, "answer": one_hot(tokens[marker + 1], 9) })
}

/// Stripes in one of three directions.
fn picture(r: &mut Random) -> Value {
    let (kind, phase) = (r.below(3), r.below(4));
    let mut cell = |x: u32, y: u32| {
        let at = [x, y, x + y][kind as usize] + phase;
        [f64::from(u8::from(at % 4 < 2)) + r.noise(0.3)]
    };
    let rows: Vec<Vec<[f64; 1]>> = (0..8).map(|y| (0..8).map(|x| cell(x, y)).collect()).collect();
    json!({ "picture": rows, "kind": one_hot(kind, 3) })
}

/// A word's tag is the sum of its neighbours, modulo 3.
fn words(r: &mut Random) -> Value {
    let words: Vec<u32> = (0..6 + r.below(5)).map(|_| r.below(5)).collect();
    let at = |i: usize| words.get(i).copied().unwrap_or(0);
    let tags: Vec<Vec<f64>> = (0..words.len()).map(|i| one_hot((at(i.wrapping_sub(1)) + at(i + 1)) % 3, 3)).collect();
    json!({ "words": words, "tags": tags })
}

/// Two to four sounds of six to nine noisy frames, with silence behind each.
fn utterance(r: &mut Random) -> Value {
    let labels: Vec<u32> = (0..2 + r.below(3)).map(|_| r.below(4)).collect();
    let mut frames: Vec<Vec<f64>> = Vec::new();
    for label in &labels {
        for _ in 0..6 + r.below(4) {
            frames.push(one_hot(*label, 6).into_iter().map(|x| x + r.noise(0.2)).collect());
        }
        for _ in 0..2 {
            frames.push((0..6).map(|_| r.noise(0.2)).collect());
        }
    }
    json!({ "utterance": frames, "frames": frames.len(), "transcript": labels, "letters": labels.len() })
}

/// Trains with one and with two threads; gives the loss of every epoch.
fn losses(model: &str, data: &str, samples: usize, sample: fn(&mut Random) -> Value) -> Vec<f64> {
    let dir = tempfile::tempdir().expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(format!("{model}.yml"));
    fs::copy(source, dir.path().join("Kurfile.yml")).expect("copies");
    let mut r = Random(0);
    let lines: String = (0..samples).map(|_| format!("{}\n", sample(&mut r))).collect();
    fs::write(dir.path().join(data), lines).expect("writes");
    let run = |threads: &str| {
        let args = ["train", "Kurfile.yml", "--json", "--fresh", "--threads", threads];
        let mut c = Command::new(env!("CARGO_BIN_EXE_kurc"));
        let o = c.args(args).current_dir(dir.path()).env_clear().output().expect("kurc runs");
        assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
        let text = String::from_utf8_lossy(&o.stdout).into_owned();
        let events = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
        events.filter(|e| e["event"] == "epoch").map(|e| e["loss"].as_f64().expect("a loss")).collect::<Vec<f64>>()
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one, two, "{model}: the number of threads changes the losses");
    one
}

#[track_caller]
fn learns(model: &str, data: &str, samples: usize, sample: fn(&mut Random) -> Value) {
    let losses = losses(model, data, samples, sample);
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    println!("{model}: {first:.4} in the first epoch, {last:.6} in the last");
    assert!(last < first / 10.0, "{model}: {losses:?}");
}

#[test]
fn a_transformer_finds_what_stands_behind_a_marker() {
    learns("transformer", "tokens.jsonl", 1_500, tokens);
}

#[test]
fn residual_blocks_tell_stripes_apart() {
    learns("resnet", "pictures.jsonl", 400, picture);
}

#[test]
fn a_tagger_looks_to_both_sides() {
    learns("tagger", "words.jsonl", 600, words);
}

#[test]
fn a_speech_model_aligns_what_it_hears() {
    learns("speech", "speech.jsonl", 200, utterance);
}
