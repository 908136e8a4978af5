//! The files of one compilation and the way from byte offsets to lines.

use std::ops::Range;

use super::Span;

/// Index of a file in a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// Every file read so far, with its text.
#[derive(Debug, Default)]
pub struct SourceMap {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    name: String,
    text: String,
    /// Byte offset of the start of each line, so that a place is found without reading the text up to it.
    lines: Vec<usize>,
}

impl File {
    /// Bytes of a byte order mark at the start.
    fn mark(&self) -> usize {
        if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
    }

    /// 0-based line of an offset.
    fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }
}

impl SourceMap {
    /// Adds a file under the name it is shown by.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        self.files.push(File { name: name.into(), text, lines });
        FileId(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }

    /// The name of a file.
    #[must_use]
    pub fn name(&self, id: FileId) -> &str {
        self.files.get(id.0 as usize).map_or("?", |f| &f.name)
    }

    /// The text of a file.
    #[must_use]
    pub fn text(&self, id: FileId) -> &str {
        self.files.get(id.0 as usize).map_or("", |f| &f.text)
    }

    /// 1-based line and column (in characters) of the start of a span.
    #[must_use]
    pub fn line_col(&self, span: Span) -> (u32, u32) {
        let Some(file) = self.files.get(span.file.0 as usize) else { return (1, 1) };
        let at = floor_boundary(&file.text, span.start as usize);
        let line = file.line_of(at);
        // A byte order mark is no character that an editor counts.
        let start = (file.lines[line] + if line == 0 { file.mark() } else { 0 }).min(at);
        let col = file.text[start..at].chars().count();
        let one_based = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
        (one_based(line), one_based(col))
    }

    /// 1-based line of the start of a span; cheaper than [`SourceMap::line_col`] where lines are long.
    #[must_use]
    pub fn line(&self, span: Span) -> u32 {
        let line = self.files.get(span.file.0 as usize).map_or(0, |f| f.line_of(span.start as usize));
        u32::try_from(line + 1).unwrap_or(u32::MAX)
    }

    /// The bytes of the lines that a range touches, with two lines before and behind, and the 1-based number of the
    /// first of them.
    pub(super) fn surroundings(&self, id: FileId, range: &Range<usize>) -> (usize, Range<usize>) {
        const MARGIN: usize = 2;
        let Some(file) = self.files.get(id.0 as usize) else { return (1, 0..0) };
        let first = file.line_of(range.start).saturating_sub(MARGIN);
        let behind = file.line_of(range.end) + MARGIN + 1;
        let start = if first == 0 { file.mark() } else { file.lines[first] };
        (first + 1, start..file.lines.get(behind).copied().unwrap_or(file.text.len()))
    }
}

/// The last character boundary that is not behind `offset`.
pub(super) fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
