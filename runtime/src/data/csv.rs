//! Opening a CSV file: bytes go in, column names and a stream of checked records come out.
//!
//! The separator and the quote are sniffed from the head of the file unless the Kurfile gives them (kur-reference
//! 6.2). A byte order mark is skipped, CRLF is a line end, blank lines are no rows. Every record handed out has as
//! many cells as there are column names.

use std::cell::Cell;
use std::io::{self, Cursor, Read};
use std::rc::Rc;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};

use super::errors;
use super::file;
use super::learned::Learned;
use crate::error::{Error, Place, Result};
use crate::spec::CsvSpec;

/// Bytes looked at when sniffing.
const HEAD: usize = 1 << 16;
/// Lines looked at when sniffing.
const SNIFF_LINES: usize = 20;
/// Separators that are recognised, in order of preference.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// An open CSV file.
pub struct CsvFile {
    path: String,
    reader: Reader<Box<dyn Read>>,
    delimiter: u8,
    names: Vec<String>,
    record: StringRecord,
    /// A first record that was read to count the columns of a file without header.
    pending: bool,
    row: u64,
    line: u64,
    /// Line breaks inside the cells of the current record.
    breaks: u64,
    /// Where the current record begins if its last cell has a quote that is never closed, as a line break at its end
    /// says.
    dangling: Option<u64>,
    /// Whether the file has an odd number of quotes, as far as it has been read.
    odd: Rc<Cell<bool>>,
    crlf: bool,
    notes: Vec<String>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Field separator.
    pub delimiter: u8,
    /// Quote character.
    pub quote: u8,
}

impl CsvFile {
    /// Opens a file and reads its header. In a file without header that lacks the target columns of training, the
    /// names are those of the other training columns, so that prediction works without labels.
    ///
    /// # Errors
    /// `data-file`, `checksum`, `csv-empty`, `csv-not-utf8`, `csv-duplicate-column`.
    pub fn open(spec: &CsvSpec, learned: Option<&Learned>) -> Result<CsvFile> {
        let path = spec.file.path.clone();
        let mut input = file::open(&spec.file)?;
        let mut head = Vec::new();
        input.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(|e| file::read_error(&path, &e))?;
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return Err(errors::not_utf8(&path, Some(1), true));
        }
        if head.starts_with(&[0xef, 0xbb, 0xbf]) {
            head.drain(..3);
        }
        let sniffed = sniff(&head, spec.delimiter);
        let delimiter = spec.delimiter.unwrap_or(sniffed.delimiter);
        let crlf = head.iter().position(|b| *b == b'\n').is_some_and(|i| i > 0 && head[i - 1] == b'\r');
        let quote = spec.quote.unwrap_or(sniffed.quote);
        let odd = Rc::new(Cell::new(false));
        let watched = Watched { inner: Cursor::new(head).chain(input), quote, odd: Rc::clone(&odd) };
        // A line end after the last line, so that counting lines is the same there.
        let whole: Box<dyn Read> = Box::new(watched.chain(&b"\n"[..]));
        let reader =
            ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).quote(quote).from_reader(whole);
        let mut file = CsvFile {
            path,
            reader,
            delimiter,
            names: Vec::new(),
            record: StringRecord::new(),
            pending: false,
            row: 0,
            line: 0,
            breaks: 0,
            dangling: None,
            odd,
            crlf,
            notes: Vec::new(),
        };
        if !file.read()? {
            return Err(errors::empty_file(&file.path));
        }
        if spec.header {
            file.names = header(&file.record);
            if file.names.iter().all(|n| n.parse::<f64>().is_ok()) {
                file.notes.push(format!(
                    "the first line of `{}` looks like data and was taken for column names; `header: no` reads it as a row",
                    file.path
                ));
            }
        } else {
            file.names = numbered(file.record.len(), learned);
            file.pending = true;
        }
        for (i, name) in file.names.iter().enumerate() {
            if let Some(first) = file.names[..i].iter().position(|n| n == name) {
                return Err(errors::duplicate_column(&file.path, name, first, i));
            }
        }
        Ok(file)
    }

    /// Path as the user wrote it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Column names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Remarks for the user, once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Position of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// Goes to the next data row; false at the end of the file.
    ///
    /// # Errors
    /// `csv-ragged` (for a quote that is never closed too), `csv-not-utf8`, `data-file`.
    pub fn next_row(&mut self) -> Result<bool> {
        if self.pending {
            self.pending = false;
        } else {
            let dangling = self.dangling;
            if !self.read()? {
                // A closed cell may end with a line break too, but closed quotes come in pairs.
                if let Some(line) = dangling.filter(|_| self.odd.get()) {
                    let place = errors::cell_place(&self.path, line, self.row, None);
                    // The header is no row.
                    let row = place.row.filter(|r| *r > 0);
                    return Err(errors::open_quote(Place { row, ..place }));
                }
                return if self.row == 0 { Err(errors::header_only(&self.path)) } else { Ok(false) };
            }
        }
        self.row += 1;
        if self.record.len() != self.names.len() {
            let place = errors::cell_place(&self.path, self.line, self.row, None);
            let (found, expected) = (self.record.len(), self.names.len());
            return Err(errors::ragged(place, found, expected, self.breaks + 1, char::from(self.delimiter)));
        }
        Ok(true)
    }

    /// A cell of the current row without surrounding blanks.
    #[must_use]
    pub fn cell(&self, column: usize) -> &str {
        self.record.get(column).map_or("", str::trim)
    }

    /// Number of the current data row, from 1.
    #[must_use]
    pub fn row(&self) -> u64 {
        self.row
    }

    /// First line of the current row, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Field separator in use.
    #[must_use]
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    fn read(&mut self) -> Result<bool> {
        let read = self.reader.read_record(&mut self.record);
        let more = read.map_err(|e| self.reader_error(e))?;
        // The start of a record counts blank lines before it, its end does not. A record ends after LF, but between CR
        // and LF.
        if more {
            self.breaks = self.record.iter().map(|c| c.bytes().filter(|b| *b == b'\n').count() as u64).sum();
            // A quote that is never closed runs to the end of the file, where no line end follows the record.
            let ragged = !self.names.is_empty() && self.record.len() != self.names.len();
            let end = self.reader.position().line();
            let begin = |end: u64| end.saturating_sub(self.breaks).max(1);
            let broken = self.record.iter().next_back().is_some_and(|c| c.ends_with('\n'));
            self.dangling = broken.then(|| begin(end));
            let open_quote = ragged && broken;
            let after_end = u64::from(!self.crlf && !open_quote);
            self.line = begin(end.saturating_sub(after_end));
        }
        Ok(more)
    }

    fn reader_error(&self, e: csv::Error) -> Error {
        match e.into_kind() {
            ErrorKind::Utf8 { pos, .. } => errors::not_utf8(&self.path, pos.map(|p| p.line()), false),
            ErrorKind::Io(cause) => file::read_error(&self.path, &cause),
            other => Error::data("data-file", format!("cannot read `{}`: {other:?}", self.path)),
        }
    }
}

/// A reader that tells whether it has read an odd number of quotes.
struct Watched<R> {
    inner: R,
    quote: u8,
    odd: Rc<Cell<bool>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        let quotes = buf[..len].iter().filter(|b| **b == self.quote).count();
        self.odd.set(self.odd.get() != (quotes % 2 == 1));
        Ok(len)
    }
}

fn header(record: &StringRecord) -> Vec<String> {
    record
        .iter()
        .enumerate()
        .map(|(i, name)| if name.trim().is_empty() { format!("column_{i}") } else { name.trim().to_owned() })
        .collect()
}

fn numbered(columns: usize, learned: Option<&Learned>) -> Vec<String> {
    if let Some(learned) = learned.filter(|l| l.header.len() > columns) {
        let is_target = |name: &String| {
            learned.sources.iter().any(|s| s.target && s.columns_of_csv && s.columns.iter().any(|c| &c.name == name))
        };
        let inputs: Vec<String> = learned.header.iter().filter(|n| !is_target(n)).cloned().collect();
        if inputs.len() == columns {
            return inputs;
        }
    }
    (0..columns).map(|i| format!("column_{i}")).collect()
}

/// Guesses the dialect: the separator that cuts the first lines into equally many cells, most of them; a single quote
/// only where every cell of the first line stands in single quotes.
#[must_use]
pub fn sniff(head: &[u8], delimiter: Option<u8>) -> Dialect {
    let lines: Vec<&[u8]> = head
        .split(|b| *b == b'\n')
        .map(|l| l.strip_suffix(b"\r").unwrap_or(l))
        .filter(|l| !l.is_empty())
        .take(SNIFF_LINES)
        .collect();
    let lines = if head.len() >= HEAD && lines.len() > 1 && lines.len() < SNIFF_LINES {
        &lines[..lines.len() - 1]
    } else {
        &lines[..]
    };
    let count = |line: &[u8], d: u8| {
        let mut inside = false;
        line.iter()
            .filter(|b| {
                inside ^= **b == b'"';
                **b == d && !inside
            })
            .count()
    };
    let score = |d: u8| {
        let first = lines.first().map_or(0, |l| count(l, d));
        let agreeing = lines.iter().filter(|l| count(l, d) == first).count();
        if first == 0 { (0, 0) } else { (agreeing, first) }
    };
    let best = delimiter.unwrap_or_else(|| {
        DELIMITERS.into_iter().rev().max_by_key(|d| score(*d)).filter(|d| score(*d).0 > 0).unwrap_or(b',')
    });
    let single = |cell: &[u8]| cell.len() > 1 && cell.starts_with(b"'") && cell.ends_with(b"'");
    let quoted = lines.first().is_some_and(|l| l.split(|b| *b == best).all(|c| single(c.trim_ascii())));
    Dialect { delimiter: best, quote: if quoted { b'\'' } else { b'"' } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_are_sniffed() {
        for (text, delimiter, quote) in [
            ("a,b,c\n1,2,3\n", b',', b'"'),
            ("a;b\n1,5;2,5\n", b';', b'"'),
            ("a\tb\tc\n1\t2\t3\n", b'\t', b'"'),
            ("a|b\r\n1|2\r\n", b'|', b'"'),
            ("'a','b'\n'x, y','z'\n", b',', b'\''),
            ("\"a;b;c\",d\n\"1;2;3\",4\n", b',', b'"'),
            ("single\n1\n2\n", b',', b'"'),
            ("", b',', b'"'),
        ] {
            assert_eq!(sniff(text.as_bytes(), None), Dialect { delimiter, quote }, "{text:?}");
        }
    }
}
