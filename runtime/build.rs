//! Links `kur-stub` without the tables that unwinding needs. A panic there ends the process from its hook with code 5
//! (`cli::run`), so nothing is ever unwound, and the tables are an eighth of every executable that kurc makes. The
//! library keeps them: tests and kurc catch panics. A debug build keeps them too, for backtraces.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=no_unwind.ld");
    println!("cargo::rerun-if-changed=build.rs");
    let optimised = env::var("OPT_LEVEL").is_ok_and(|level| level != "0");
    let gnu = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if let (true, true, Ok(folder)) = (optimised, gnu, env::var("CARGO_MANIFEST_DIR")) {
        let script = Path::new(&folder).join("no_unwind.ld");
        println!("cargo::rustc-link-arg-bin=kur-stub=-Wl,--no-eh-frame-hdr,-T,{}", script.display());
    }
}
