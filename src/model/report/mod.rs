//! The errors and warnings of the typed Kurfile: what is wrong, where, and what to write instead. One file per topic,
//! one function per finding.

pub(super) mod evaluate;
pub(super) mod graph;
pub(super) mod keys;
pub(super) mod lint;
pub(super) mod meant;
pub(super) mod values;
