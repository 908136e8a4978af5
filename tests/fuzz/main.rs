//! Random inputs: no panic, no call over a second, none over 256 MiB; a result is missing exactly when an error was
//! reported; every finding can be shown in all formats; reading twice gives the same.
//!
//! Every property takes a fixed number of inputs by default, so that a run tells the same each time. `harness` names
//! the environment variables for longer runs; one property alone: `cargo test --release --test fuzz NAME`.

mod bombs;
mod harness;
mod ir;
mod kurfile;
mod property;
#[path = "../support/mod.rs"]
mod support;
mod tape;
mod template;
mod yaml;
