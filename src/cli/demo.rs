//! `kurc demo`: a Kurfile with its data, built, trained, tested and used, each command printed as one would type it.

use std::path::Path;
use std::process::Command;

use crate::link::write_atomically;

const KURFILE: &str = include_str!("../../fixtures/iris/Kurfile.yml");
const TRAIN: &str = include_str!("../../fixtures/iris/iris-train.csv");
const TEST: &str = include_str!("../../fixtures/iris/iris-test.csv");

/// How many rows of the test data are predicted without their label.
const NEW_ROWS: usize = 5;

pub(super) fn demo(dir: &str) -> u8 {
    let dir = Path::new(dir);
    if std::fs::read_dir(dir).is_ok_and(|mut d| d.next().is_some()) {
        say!("error[not-empty]: the folder `{}` is not empty", dir.display());
        say!("  = help: name another one: `kurc demo DIR`");
        return 1;
    }
    if let Err(e) = std::fs::create_dir_all(dir) {
        say!("error[write-failed]: cannot make the folder `{}`: {e}", dir.display());
        return 1;
    }
    // New flowers: the measurements alone, as a user of the model has them.
    let unlabelled: String = TEST
        .lines()
        .take(NEW_ROWS + 1)
        .map(|l| l.rsplit_once(',').map_or(l, |(row, _)| row).to_owned() + "\n")
        .collect();
    let files = [
        ("Kurfile.yml", KURFILE),
        ("iris-train.csv", TRAIN),
        ("iris-test.csv", TEST),
        ("new-flowers.csv", unlabelled.as_str()),
    ];
    for (name, text) in files {
        if let Err(e) = write_atomically(&dir.join(name), text.as_bytes(), false) {
            say!("error[write-failed]: {e}");
            return 1;
        }
    }
    println!("wrote {} with a Kurfile and the iris data; now in that folder:", dir.display());
    let kurc = match std::env::current_exe() {
        Ok(p) => p,
        Err(e) => {
            say!("error[io]: cannot find the running program: {e}");
            return 1;
        }
    };
    let steps: [(&Path, &str, &[&str]); 4] = [
        (&kurc, "kurc", &["build", "Kurfile.yml", "-o", "model.bin"]),
        (Path::new("./model.bin"), "./model.bin", &["train"]),
        (Path::new("./model.bin"), "./model.bin", &["test"]),
        (Path::new("./model.bin"), "./model.bin", &["predict", "new-flowers.csv"]),
    ];
    for (program, shown, args) in steps {
        println!("\n$ {shown} {}", args.join(" "));
        let program = if program.is_absolute() { program.to_owned() } else { dir.join(program) };
        // A relative program would be looked up from the folder the child starts in.
        let program = std::fs::canonicalize(&program).unwrap_or(program);
        match Command::new(&program).args(args).current_dir(dir).status() {
            Ok(s) if s.success() => {}
            Ok(s) => return u8::try_from(s.code().unwrap_or(1)).unwrap_or(1),
            Err(e) => {
                say!("error[io]: cannot run `{}`: {e}", program.display());
                return 1;
            }
        }
    }
    println!("\nEdit {}/Kurfile.yml, build again, and train on your own CSV: ./model.bin train FILE", dir.display());
    0
}
