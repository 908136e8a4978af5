//! JSON text -> value tree, as Python's `json` module reads it: `NaN`, `Infinity` and `-Infinity` are numbers, of
//! duplicate keys the last one counts.
//!
//! A reader of its own rather than the YAML one: YAML refuses tabs in some places, reads surrogate escapes
//! differently and would turn `NaN` into text.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diag::{Diagnostic, FileId, Reported, Sink, Span};
use crate::frontend::value::{AtValue, Entry, Kind, Style, Value};

/// How deep collections may nest.
const MAX_DEPTH: usize = 100;

/// Reads one JSON text.
///
/// # Errors
/// `json-syntax`, `too-deep`. Warning: `duplicate-key`.
pub fn read(text: &str, file: FileId, sink: &mut Sink) -> Result<Value, Reported> {
    let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, at, file, sink };
    let value = reader.value(0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.fail("text after the end of the JSON value", "not expected here"));
    }
    Ok(value)
}

struct Reader<'a, 's> {
    text: &'a str,
    at: usize,
    file: FileId,
    sink: &'s mut Sink,
}

impl Reader<'_, '_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn span(&self, start: usize) -> Span {
        Span::new(self.file, start, self.at)
    }

    fn fail(&mut self, message: &str, label: &str) -> Reported {
        let len = self.rest().chars().next().map_or(0, |c| if c == '\n' { 0 } else { c.len_utf8() });
        let span = Span::new(self.file, self.at, self.at + len);
        self.sink.fail(Diagnostic::error("json-syntax", message).at(span, label))
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, Reported> {
        self.space();
        let start = self.at;
        if depth > MAX_DEPTH {
            let span = Span::new(self.file, start, start + 1);
            let d = Diagnostic::error("too-deep", format!("collections nest deeper than {MAX_DEPTH} levels"));
            return Err(self.sink.fail(d.at(span, "too deep")));
        }
        let kind = match self.rest().as_bytes().first() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => {
                let text: Arc<str> = self.string()?.into();
                let mut v = Value::new(Kind::Str(text.clone(), Style::Quoted), self.span(start));
                v.written = Some(text);
                return Ok(v);
            }
            _ => self.word()?,
        };
        let mut v = Value::new(kind, self.first_line(start));
        if !matches!(v.kind, Kind::List(_) | Kind::Map(_)) {
            v.written = Some(self.text[start..self.at].into());
        }
        Ok(v)
    }

    fn first_line(&self, start: usize) -> Span {
        let end = self.text[start..self.at].find('\n').map_or(self.at, |n| start + n);
        Span::new(self.file, start, start + self.text[start..end].trim_end().len())
    }

    fn word(&mut self) -> Result<Kind, Reported> {
        for (word, kind) in [
            ("null", Kind::Null),
            ("true", Kind::Bool(true)),
            ("false", Kind::Bool(false)),
            ("NaN", Kind::Float(f64::NAN)),
            ("Infinity", Kind::Float(f64::INFINITY)),
            ("-Infinity", Kind::Float(f64::NEG_INFINITY)),
        ] {
            if self.take(word) {
                return Ok(kind);
            }
        }
        let number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
        let len = self.rest().find(|c| !number(c)).unwrap_or(self.rest().len());
        let word = self.rest()[..len].to_owned();
        if word.is_empty() {
            return Err(self.fail("expected a JSON value", "expected a value: text needs double quotes"));
        }
        // serde_json knows which numbers are JSON; the exact digits are read here, so that integers stay exact.
        if serde_json::from_str::<f64>(&word).is_err() {
            return Err(self.fail("not a JSON number", "not a number"));
        }
        let kind = match word.parse::<i128>() {
            Ok(n) => Kind::Int(n),
            Err(_) => Kind::Float(word.parse().unwrap_or(f64::NAN)),
        };
        self.at += len;
        Ok(kind)
    }

    fn array(&mut self, depth: usize) -> Result<Kind, Reported> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.take("]") {
            return Ok(Kind::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take("]") {
                return Ok(Kind::List(items));
            }
            if !self.take(",") {
                return Err(self.fail("a `[` is not closed", "expected `,` or `]` here"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Reported> {
        self.at += 1;
        let mut map: Vec<Entry> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        self.space();
        if self.take("}") {
            return Ok(Kind::Map(map));
        }
        loop {
            self.space();
            if !self.rest().starts_with('"') {
                return Err(self.fail("a key of a JSON object is text in double quotes", "expected a key"));
            }
            let key = self.value(depth + 1)?;
            self.space();
            if !self.take(":") {
                return Err(self.fail("a key without a value", "expected `:` here"));
            }
            let value = self.value(depth + 1)?;
            let name = key.as_str().unwrap_or_default().to_owned();
            match places.get(&name).and_then(|i| map.get_mut(*i)) {
                Some(old) => {
                    let message = format!("the key `{name}` stands twice in one mapping; the last one counts");
                    let d = Diagnostic::warning("duplicate-key", message).at_value(&key, "this one counts");
                    self.sink.push(d.also(old.key.span, "ignored"));
                    *old = Entry { key, value }.over(old);
                }
                None => {
                    places.insert(name, map.len());
                    map.push(Entry { key, value });
                }
            }
            self.space();
            if self.take("}") {
                return Ok(Kind::Map(map));
            }
            if !self.take(",") {
                return Err(self.fail("a `{` is not closed", "expected `,` or `}` here"));
            }
        }
    }

    fn string(&mut self) -> Result<String, Reported> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => {
                    return Err(self.fail("a quote is never closed", "this text has no end on its line"));
                }
                Some(_) => end += 1,
            }
        }
        match serde_json::from_str::<String>(&self.text[start..=end]) {
            Ok(text) => {
                self.at = end + 1;
                Ok(text)
            }
            Err(_) => Err(self.fail("not a valid JSON text", "a control character or an unknown escape is inside")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::SourceMap;
    use crate::frontend::python::repr;

    fn run(text: &str) -> Result<String, String> {
        let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
        let file = sources.add("k.json", text);
        match read(text, file, &mut sink) {
            Ok(v) => Ok(repr(&v)),
            Err(_) => Err(sink.sorted()[0].message.clone()),
        }
    }

    #[test]
    fn reads_what_python_reads() {
        let text = "\u{feff}{\"a\": [1, -2.5e3, NaN, Infinity, -Infinity],\n\t\"b\\u00e9\\ud83d\\ude00\": {\"c\": null, \"d\": true}, \"a/\": \"\\/\"}";
        assert_eq!(
            run(text).expect("valid"),
            "{'a': [1, -2500.0, nan, inf, -inf], 'bé😀': {'c': None, 'd': True}, 'a/': '/'}"
        );
    }

    #[test]
    fn refuses_what_is_no_json() {
        for text in [
            "",
            "{",
            "[1,",
            "[1 2]",
            "{\"a\" 1}",
            "{a: 1}",
            "\"abc",
            "\"a\\",
            "01x",
            "1 2",
            "tru",
            "--1",
            "[1,]",
            "\"\\q\"",
        ] {
            assert!(run(text).is_err(), "{text}");
        }
        assert!(run(&"[".repeat(100_000)).is_err());
    }
}
