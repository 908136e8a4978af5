//! The stub without a payload, as a process: help, usage errors, and the plain word that it carries no model.

use std::process::{Command, Output};

fn stub(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kur-stub")).args(args).env_clear().output().expect("the stub runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn help_and_version_need_no_model() {
    let help = stub(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let out = text(&help.stdout);
    for command in ["train", "test", "evaluate", "predict", "info"] {
        assert!(out.contains(&format!("\n  {command}")), "{out}");
    }
    assert_eq!(help.stderr, b"");
    let version = stub(&["--version"]);
    assert_eq!(text(&version.stdout), format!("model compiled by kurc {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["train", "test", "evaluate", "predict", "info"] {
        assert_eq!(stub(&[command, "--help"]).status.code(), Some(0), "{command}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [&[][..], &["dance"], &["train", "--threads", "none"], &["train", "a.csv", "b.csv"]] {
        let out = stub(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert_eq!(out.stdout, b"", "{args:?}");
        assert_ne!(out.stderr, b"", "{args:?}");
    }
}

#[test]
fn a_stub_without_payload_says_so() {
    let out = stub(&["train"]);
    assert_eq!(out.status.code(), Some(5));
    assert_eq!(
        text(&out.stderr),
        "error[payload]: this executable carries no model: it is the bare runtime that `kurc build` packs\n  \
         = help: make one with `kurc build Kurfile.yml -o model.bin`\n"
    );
    let out = stub(&["info", "--json"]);
    assert_eq!(out.status.code(), Some(5));
    assert!(text(&out.stderr).starts_with("{\"event\":\"error\",\"id\":\"payload\","));
}

#[test]
fn an_impossible_cpu_level_is_a_usage_error() {
    let out = Command::new(env!("CARGO_BIN_EXE_kur-stub")).arg("info").env("KUR_CPU", "z80").output().expect("runs");
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("KUR_CPU"));
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let stub = env!("CARGO_BIN_EXE_kur-stub");
    let out = Command::new("sh").args(["-c", &format!("{stub} --help | true")]).output().expect("sh runs");
    assert_eq!(text(&out.stderr), "");
}
