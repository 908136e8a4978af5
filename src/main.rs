//! The kurc program.
fn main() {}
