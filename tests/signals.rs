//! Signals end to end: what is saved, what is removed, what is ignored.

#[path = "support/place.rs"]
mod place;

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use place::{Place, fail, succeed};

/// Reads standard error of a training until it says something.
fn read_until(err: &mut impl BufRead, what: &str, text: &mut String) {
    while !text.contains(what) {
        assert!(err.read_line(text).expect("readable") > 0, "{text}");
    }
}

/// A program that hears signals. Tests that run in the background of a script have interrupts ignored, and what they
/// start would inherit that.
fn hearing(mut c: Command) -> Command {
    let hear = || {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: the default action is no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: `signal` is allowed between fork and exec.
    unsafe { c.pre_exec(hear) };
    c
}

/// Sends a signal by its name: `INT`.
fn send(child: &Child, signal: &str) {
    succeed(&Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).output().expect("kill runs"));
}

#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    let p = Place::of("digits");
    p.build(&["--set", "train.epochs=inf"]);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = hearing(p.command(&p.path("m.bin"), &["train", "--weights", signal]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut err = BufReader::new(child.stderr.take().expect("piped"));
        let mut text = String::new();
        read_until(&mut err, "Epoch 1", &mut text);
        send(&child, signal);
        err.read_to_string(&mut text).expect("readable");
        assert_eq!(child.wait().expect("ends").code(), Some(code), "{text}");
        assert!(text.contains("train"), "no advice how to go on:\n{text}");
        assert!(p.path(signal).is_file() && p.path(&format!("{signal}.optimizer")).is_file());
        succeed(&p.run("m.bin", &["test", "--weights", signal]));
        succeed(&p.run("m.bin", &["train", "--epochs", "1", "--weights", signal]));
    }
}

#[test]
fn a_signal_that_is_ignored_ends_nothing() {
    let p = Place::of("digits");
    p.build(&["--set", "train.epochs=inf"]);
    let program = p.path("m.bin");
    let program = program.to_str().expect("text");
    // What `nohup` does before it starts a program, and what a shell does for its background jobs.
    for (ignored, heard, code) in [("HUP", "INT", 130), ("INT", "TERM", 143)] {
        let script = format!("trap '' {ignored}; exec \"$0\" train --weights w");
        let mut child = hearing(p.command(Path::new("/bin/sh"), &["-c", &script, program]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut err = BufReader::new(child.stderr.take().expect("piped"));
        let mut text = String::new();
        for signal in [ignored, heard] {
            // Some epochs behind what was told so far.
            let epochs = text.matches("Epoch").count();
            while text.matches("Epoch").count() < epochs + 3 {
                assert!(err.read_line(&mut text).expect("readable") > 0, "{text}");
            }
            send(&child, signal);
        }
        err.read_to_string(&mut text).expect("readable");
        assert_eq!(child.wait().expect("ends").code(), Some(code), "{text}");
    }
}

#[test]
fn a_signal_leaves_no_half_written_table() {
    let p = Place::of("iris");
    p.build(&[]);
    succeed(&p.run("m.bin", &["train", "--epochs", "1"]));
    let rows = "5.0,3.3,1.4,0.2\n".repeat(200_000);
    p.write("new.csv", &format!("sepal_length,sepal_width,petal_length,petal_width\n{rows}"));
    p.write("out.jsonl", "before\n");
    let before = p.files();
    let program = p.path("m.bin");
    let in_memory = (Path::new(env!("CARGO_BIN_EXE_kurc")), vec!["predict", "Kurfile.yml"]);
    let built = |word| (program.as_path(), vec![word]);
    for ((program, head), signal, code) in
        [(built("predict"), "INT", 130), (built("evaluate"), "TERM", 143), (in_memory, "HUP", 129)]
    {
        // One row a step, so that it takes its time.
        let args = [&head[..], &["new.csv", "-o", "out.jsonl", "--batch-size", "1", "--threads", "1"]].concat();
        let mut child =
            hearing(p.command(program, &args)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        while p.files() == before {
            assert!(child.try_wait().expect("there").is_none(), "{args:?} ended too early");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        send(&child, signal);
        assert_eq!(child.wait().expect("ends").code(), Some(code), "{args:?}");
        assert_eq!(p.files(), before, "{args:?}");
        assert_eq!(p.bytes("out.jsonl"), b"before\n");
    }
}

/// `ulimit -f` counts in kilobytes, or in half of them.
#[test]
fn a_size_limit_for_files_is_an_error_like_a_full_disk() {
    let p = Place::of("iris");
    p.build(&[]);
    succeed(&p.run("m.bin", &["train", "--epochs", "1"]));
    let rows = "5.0,3.3,1.4,0.2\n".repeat(20_000);
    p.write("new.csv", &format!("sepal_length,sepal_width,petal_length,petal_width\n{rows}"));
    let before = p.files();
    let kurc = env!("CARGO_BIN_EXE_kurc");
    for (command, id) in [
        (
            "./m.bin predict new.csv -o out.csv".to_owned(),
            "error[write-output]: cannot write `out.csv`: file too large",
        ),
        ("./m.bin predict new.csv > /dev/fd/3".to_owned(), "error[write-output]: cannot write to standard output"),
        (format!("{kurc} build Kurfile.yml -o out.bin"), "error[write-failed]: cannot write `out.bin`: "),
    ] {
        let script = format!("exec 3>big; ulimit -f 8; {command}");
        let o = p.command(Path::new("/bin/sh"), &["-c", &script]).output().expect("a shell runs");
        fail(&o, 1, &[id]);
        fs::remove_file(p.path("big")).expect("removes");
        assert_eq!(p.files(), before, "{command}");
    }
}

#[test]
fn an_interrupt_loses_nothing_without_a_last_file() {
    // The string form of `weights` names a file for the best epoch only.
    let p = Place::of("iris");
    p.build(&["--set", "train.epochs=inf"]);
    let mut child = hearing(p.command(&p.path("m.bin"), &["train"]))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut err = BufReader::new(child.stderr.take().expect("piped"));
    let mut text = String::new();
    read_until(&mut err, "Epoch 3", &mut text);
    send(&child, "INT");
    err.read_to_string(&mut text).expect("readable");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{text}");
    assert!(text.contains("train --weights iris.weights.interrupted"), "{text}");
    succeed(&p.run("m.bin", &["train", "--epochs", "1", "--weights", "iris.weights.interrupted"]));
}

/// What was given to change what the program is or does is given again.
#[test]
fn the_way_to_go_on_repeats_options_and_variables() {
    let p = Place::of("iris");
    fs::rename(p.path("iris-train.csv"), p.path("my data.csv")).expect("renames");
    let kurc = Path::new(env!("CARGO_BIN_EXE_kurc"));
    let args = ["train", "Kurfile.yml", "--data", "my data.csv", "my data.csv", "--threads", "1", "--batch-size", "8"];
    let mut child = hearing(p.command(kurc, &args))
        .env("KUR_CPU", "baseline")
        .env("KUR_SET", "train.epochs=inf")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut err = BufReader::new(child.stderr.take().expect("piped"));
    let mut text = String::new();
    read_until(&mut err, "Epoch 2", &mut text);
    send(&child, "INT");
    err.read_to_string(&mut text).expect("readable");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{text}");
    let way = format!(
        "Continue with `KUR_CPU=baseline KUR_SET=train.epochs=inf {} train Kurfile.yml --data 'my data.csv' 'my data.csv' \
         --batch-size 8 --threads 1 --weights iris.weights.interrupted`.",
        kurc.display()
    );
    assert!(text.contains(&way), "{way}\n{text}");
}
