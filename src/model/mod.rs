//! From evaluated values to the typed Kurfile.

pub mod types;
