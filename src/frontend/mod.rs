//! Kurfile text -> value tree, and the evaluation of its scalars.
//!
//! `yaml` and `json` read files into one kind of tree (`value`); `include` joins the trees of several files; `template` evaluates scalars with the names of a
//! scope; `python` holds what of Python shows through; `world` is the only way to the outside. What the values mean is
//! decided in [`crate::model`].

pub mod file;
pub mod include;
pub mod json;
pub mod merge;
pub mod print;
pub mod python;
pub mod template;
pub mod value;
pub mod world;
pub mod yaml;

pub use value::Value;
pub use world::{MemoryWorld, OsWorld, World};
