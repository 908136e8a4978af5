//! Renders diagnostics: full (rustc style), short (one line each), JSON (one object a line).
//!
//! Comes in: any [`Diagnostic`], with spans that may be empty, at the end of the file or out of range. Goes out: text
//! that ends with a newline. Rendering never panics: spans are clamped to character boundaries of the file first.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::source::floor_boundary;
use super::{Diagnostic, FileId, Severity, SourceMap, Span};

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
pub fn render(d: &Diagnostic, sources: &SourceMap, format: Format) -> String {
    match format {
        Format::Full { color } => full(d, sources, color),
        Format::Short => short(d, sources),
        Format::Json => object(d, sources).to_string() + "\n",
    }
}

fn full(d: &Diagnostic, sources: &SourceMap, color: bool) -> String {
    let level = match d.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(d.message.as_str()).id(d.id));
    for file in files_of(d) {
        group = group.element(excerpt(d, file, sources));
    }
    for note in &d.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    for help in &d.helps {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
    renderer.render(&[group]) + "\n"
}

/// The files a diagnostic speaks of, that of the primary place first, each once.
fn files_of(d: &Diagnostic) -> Vec<FileId> {
    let mut files = Vec::new();
    for (span, _) in d.primary.iter().chain(&d.secondary) {
        if !files.contains(&span.file) {
            files.push(span.file);
        }
    }
    files
}

/// The excerpt of one file. Only the surroundings of the marks are handed to the renderer, which reads all it gets: of
/// thousands of findings in a large file each would cost as much as the file is long.
fn excerpt<'a>(d: &'a Diagnostic, file: FileId, sources: &'a SourceMap) -> Snippet<'a, Annotation<'a>> {
    let text = sources.text(file);
    let primary = d.primary.iter().map(|(s, l)| (AnnotationKind::Primary, s, l));
    let secondary = d.secondary.iter().map(|(s, l)| (AnnotationKind::Context, s, l));
    let marks: Vec<(AnnotationKind, Range<usize>, &str)> = primary
        .chain(secondary)
        .filter(|(_, s, _)| s.file == file)
        .map(|(kind, s, label)| (kind, clamp(text, *s), label.as_str()))
        .collect();
    let start = marks.iter().map(|(_, r, _)| r.start).min().unwrap_or(0);
    let end = marks.iter().map(|(_, r, _)| r.end).max().unwrap_or(0);
    let (line, shown) = sources.surroundings(file, &(start..end));
    let marks = marks.into_iter().map(|(kind, range, label)| {
        // A mark may start before the excerpt by a byte order mark, no more.
        let a = kind.span(range.start.saturating_sub(shown.start)..range.end.saturating_sub(shown.start));
        if label.is_empty() { a } else { a.label(label) }
    });
    Snippet::source(&text[shown.clone()]).line_start(line).path(sources.name(file)).annotations(marks)
}

/// A span inside the text and on character boundaries. An empty span at a line end is kept empty: the renderer draws
/// one mark there.
fn clamp(text: &str, span: Span) -> Range<usize> {
    let start = floor_boundary(text, span.start as usize);
    let end = floor_boundary(text, span.end as usize).max(start);
    start..end
}

fn short(d: &Diagnostic, sources: &SourceMap) -> String {
    let place = d.primary.as_ref().map_or(String::new(), |(s, _)| {
        let (line, column) = sources.line_col(*s);
        format!("{}:{line}:{column}: ", sources.name(s.file))
    });
    format!("{place}{}[{}]: {}\n", d.severity, d.id, d.message)
}

fn object(d: &Diagnostic, sources: &SourceMap) -> Value {
    let mut out = json!({
        "id": d.id,
        "severity": d.severity.to_string(),
        "message": d.message,
    });
    if let Some((span, label)) = &d.primary {
        merge(&mut out, place(*span, sources));
        merge(&mut out, json!({ "label": label }));
    }
    let labels: Vec<Value> = d
        .secondary
        .iter()
        .map(|(span, label)| {
            let mut one = place(*span, sources);
            merge(&mut one, json!({ "label": label }));
            one
        })
        .collect();
    merge(&mut out, json!({ "labels": labels, "notes": d.notes, "helps": d.helps }));
    out
}

fn place(span: Span, sources: &SourceMap) -> Value {
    let (line, column) = sources.line_col(span);
    let (end_line, end_column) = sources.line_col(Span { start: span.end.max(span.start), ..span });
    json!({
        "file": sources.name(span.file),
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(a), Value::Object(b)) = (into, from) {
        a.extend(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Format = Format::Full { color: false };

    fn one(text: &str, start: usize, end: usize) -> (SourceMap, Diagnostic) {
        let mut sources = SourceMap::default();
        let file = sources.add("Kurfile.yml", text);
        let d = Diagnostic::error("unknown-key", "unknown key `sise`").at(Span::new(file, start, end), "here");
        (sources, d)
    }

    #[test]
    fn full_shows_the_place_labels_notes_and_helps() {
        let (sources, d) = one("model:\n  - dense: 3\n", 11, 16);
        let d = d.note("dense knows `size`").help("write `size`");
        let text = render(&d, &sources, PLAIN);
        let expected = "\
error[unknown-key]: unknown key `sise`
 --> Kurfile.yml:2:5
  |
2 |   - dense: 3
  |     ^^^^^ here
  |
  = note: dense knows `size`
  = help: write `size`
";
        assert_eq!(text, expected);
    }

    #[test]
    fn odd_places_never_panic() {
        let long = "x".repeat(100_000);
        let texts = ["", "\n", "a", "a\n", "\tkey: \u{1F600}é\n", "a\r\nb\r\n", long.as_str()];
        for text in texts {
            for (start, end) in [(0, 0), (0, 1), (1, 3), (2, 7), (9, 4), (text.len(), text.len()), (50_000, 90_000)] {
                let (sources, d) = one(text, start, end);
                for format in [PLAIN, Format::Full { color: true }, Format::Short, Format::Json] {
                    let out = render(&d, &sources, format);
                    assert!(out.ends_with('\n') && out.contains("unknown-key"), "{text:?} {start} {end}: {out}");
                    assert!(out.len() < 5_000, "a long line is cut: {} bytes", out.len());
                }
            }
        }
    }

    #[test]
    fn an_excerpt_of_the_surroundings_is_that_of_the_whole_file() {
        let texts =
            ["", "a", "\n", "\n\n\n", "ab: 1\ncd: 2\n", "a\r\nb\r\n\r\nc", "é\n\n\n  x: [1,\n  2]\n\n\n\nend\n"];
        let many = "key: value\n".repeat(12);
        for text in texts.into_iter().chain([many.as_str()]) {
            for start in 0..=text.len() {
                for end in [start, start + 1, start + 4, start + 13, text.len()] {
                    let (sources, d) = one(text, start, end);
                    for other in [None, Some(0), Some(text.len() / 2), Some(text.len())] {
                        let d = match other {
                            Some(at) => d.clone().also(Span::new(FileId(0), at, at + 2), "and here"),
                            None => d.clone(),
                        };
                        let marks = d.primary.iter().map(|(s, l)| (AnnotationKind::Primary, s, l));
                        let marks = marks.chain(d.secondary.iter().map(|(s, l)| (AnnotationKind::Context, s, l)));
                        let whole = Snippet::source(text)
                            .path("Kurfile.yml")
                            .annotations(marks.map(|(k, s, l)| k.span(clamp(text, *s)).label(l.as_str())));
                        let group = Group::with_title(Level::ERROR.primary_title(d.message.as_str()).id(d.id));
                        let expected = Renderer::plain().render(&[group.element(whole)]) + "\n";
                        assert_eq!(render(&d, &sources, PLAIN), expected, "{text:?} {start}..{end} {other:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_column() {
        let (sources, d) = one("\u{feff}modle: 1\n", 3, 8);
        let text = render(&d, &sources, PLAIN);
        assert!(text.contains("--> Kurfile.yml:1:1\n") && text.contains("\n1 | modle: 1\n  | ^^^^^ here"), "{text}");
        assert!(render(&d, &sources, Format::Short).starts_with("Kurfile.yml:1:1: "));
        // A place at the mark itself, as that of a whole file is.
        let (sources, d) = one("\u{feff}modle: 1\n", 0, 0);
        assert!(render(&d, &sources, PLAIN).contains("--> Kurfile.yml:1:1\n"));
    }

    #[test]
    fn json_is_one_object_a_line_with_both_ends() {
        let (sources, d) = one("é: 1\nab: 2\n", 6, 8);
        let text = render(&d, &sources, Format::Json);
        assert_eq!(text.lines().count(), 1);
        let v: Value = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(
            (&v["line"], &v["column"], &v["end_line"], &v["end_column"]),
            (&2.into(), &1.into(), &2.into(), &3.into())
        );
        assert_eq!(v["labels"], json!([]));
    }

    #[test]
    fn short_is_one_line() {
        let (sources, d) = one("ab: 1\n", 0, 2);
        assert_eq!(render(&d, &sources, Format::Short), "Kurfile.yml:1:1: error[unknown-key]: unknown key `sise`\n");
    }

    #[test]
    fn two_files_give_two_excerpts() {
        let (mut sources, d) = one("ab: 1\n", 0, 2);
        let other = sources.add("--set", "ab=3");
        let text = render(&d.also(Span::new(other, 0, 2), "and here"), &sources, PLAIN);
        assert!(text.contains("--> Kurfile.yml:1:1") && text.contains("::: --set:1:1"), "{text}");
    }
}
