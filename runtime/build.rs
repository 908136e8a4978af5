//! Links `kur-stub` without the tables that unwinding needs, an eighth of every executable that kurc makes. A panic there
//! ends the process with code 5 from its hook (`cli::main`), so they would never be used. The library keeps them: tests
//! catch panics. A debug build keeps them too, for backtraces.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=no_unwind.ld");
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    let holds = |name: &str, value: &str| env::var(name).is_ok_and(|v| v.contains(value));
    // Start files for static programs refer to the tables. Mold and wild do not read linker scripts.
    let linker = ["mold", "wild"].iter().any(|l| holds("CARGO_ENCODED_RUSTFLAGS", l));
    let linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let dynamic = !holds("CARGO_CFG_TARGET_FEATURE", "crt-static");
    if is("OPT_LEVEL", "0") || !linux || !dynamic || linker {
        return;
    }
    if let Ok(folder) = env::var("CARGO_MANIFEST_DIR") {
        let script = Path::new(&folder).join("no_unwind.ld");
        for arg in ["-Wl,--no-eh-frame-hdr", "-T", &script.display().to_string()] {
            println!("cargo::rustc-link-arg-bin=kur-stub={arg}");
        }
    }
}
