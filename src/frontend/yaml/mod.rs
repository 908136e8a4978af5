//! YAML text -> value tree.
//!
//! Comes in: the text of one file, already in the source map. Goes out: a tree with aliases expanded and merge keys
//! applied, each node with its byte range; or at least one error in the sink. The tree is as PyYAML's default loader
//! would build it (kur-reference 1.1), except that duplicate keys are warned of and `!!python/…` tags are refused.
//! The scanner counts characters; this module turns its marks into bytes.

mod report;
pub mod scalar;

use std::collections::{BTreeMap, btree_map};

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use crate::diag::{FileId, Reported, Sink, Span};
use crate::frontend::python;
use crate::frontend::value::{Entry, Kind, Style, Value, Via};

/// Nodes that aliases may add to one file, so that a few lines cannot become gigabytes.
const ALIAS_BUDGET: usize = 100_000;

/// How deep collections may nest.
const MAX_DEPTH: usize = 100;

/// Reads one YAML document.
///
/// # Errors
/// `yaml-syntax`, `tab-indentation`, `multiple-documents`, `unsupported-tag`, `unknown-anchor`, `recursive-alias`,
/// `alias-expansion`, `merge-key`, `bad-key`, `unquoted-template`, `too-deep`. Warning: `duplicate-key`.
pub fn read(text: &str, file: FileId, sink: &mut Sink) -> Result<Value, Reported> {
    if let Some((at, c)) = text.char_indices().find(|(_, c)| c.is_control() && !"\t\n\r\u{85}".contains(*c)) {
        return Err(sink.fail(report::control_character(file, at, c)));
    }
    let offsets = Offsets::new(text);
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { text, offsets, file, parser: Parser::new_from_str(body), anchors: BTreeMap::new(), expanded: 0, sink };
    reader.document()
}

/// Turns the scanner's character counts into byte offsets.
struct Offsets {
    /// Bytes in front of the scanned text: a byte order mark.
    skipped: usize,
    /// Byte offset of each character; empty when all are one byte long.
    bytes: Vec<usize>,
    len: usize,
}

impl Offsets {
    fn new(text: &str) -> Offsets {
        let skipped = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let body = &text[skipped..];
        let bytes = if body.is_ascii() { Vec::new() } else { body.char_indices().map(|(i, _)| i).collect() };
        Offsets { skipped, bytes, len: body.len() }
    }

    fn byte(&self, chars: usize) -> usize {
        let at = if self.bytes.is_empty() { chars.min(self.len) } else { *self.bytes.get(chars).unwrap_or(&self.len) };
        self.skipped + at
    }
}

/// An anchored node.
enum Anchor {
    /// Still being read: an alias to it here would be endless.
    Open,
    /// Ready for use.
    Done(Value),
}

struct Reader<'a, 's> {
    text: &'a str,
    offsets: Offsets,
    file: FileId,
    parser: Parser<'a, StrInput<'a>>,
    anchors: BTreeMap<usize, Anchor>,
    expanded: usize,
    sink: &'s mut Sink,
}

impl<'a> Reader<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Reported> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let span =
                    Span::new(self.file, self.offsets.byte(span.start.index()), self.offsets.byte(span.end.index()));
                Ok((event, span))
            }
            Some(Err(e)) => {
                let at = self.offsets.byte(e.marker().index());
                Err(self.sink.fail(report::syntax(self.text, self.file, at, e.info())))
            }
            None => Ok((Event::StreamEnd, Span::new(self.file, self.text.len(), self.text.len()))),
        }
    }

    fn document(&mut self) -> Result<Value, Reported> {
        let mut root: Option<Value> = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.sink.fail(report::multiple_documents(self.first_line(span))));
                }
                Event::DocumentStart(_) => {
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 0)?);
                }
                _ => {}
            }
        }
        Ok(root.unwrap_or_else(|| Value::new(Kind::Null, Span::new(self.file, 0, 0))))
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Value, Reported> {
        if depth > MAX_DEPTH {
            return Err(self.sink.fail(report::too_deep(self.first_line(span), MAX_DEPTH)));
        }
        match event {
            Event::Alias(id) => self.alias(id, span),
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), span)?;
                self.keep(anchor, &value);
                Ok(value)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", span)?;
                self.open(anchor);
                let value = self.sequence(span, depth)?;
                self.keep(anchor, &value);
                Ok(value)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", span)?;
                self.open(anchor);
                let value = self.mapping(span, depth)?;
                self.keep(anchor, &value);
                Ok(value)
            }
            // The parser never yields other events in place of a node.
            _ => Ok(Value::new(Kind::Null, span)),
        }
    }

    fn open(&mut self, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Open);
        }
    }

    fn keep(&mut self, anchor: usize, value: &Value) {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Done(value.clone()));
        }
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Value, Reported> {
        match self.anchors.get(&id) {
            Some(Anchor::Done(value)) => {
                self.expanded += value.size();
                if self.expanded > ALIAS_BUDGET {
                    return Err(self.sink.fail(report::alias_expansion(span, ALIAS_BUDGET)));
                }
                Ok(value.through(Via::Alias, span))
            }
            Some(Anchor::Open) | None => Err(self.sink.fail(report::recursive_alias(span))),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Value, Reported> {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        let as_text = || Kind::Str(text.into(), style);
        let kind = match tag {
            None if style == Style::Plain => scalar::resolve(text),
            None => as_text(),
            Some(t) if !(t.is_yaml_core_schema() || is_non_specific(t)) => {
                return Err(self.sink.fail(report::unsupported_tag(&t.to_string(), span)));
            }
            Some(t) => {
                let read = match t.suffix.as_str() {
                    "" | "!" | "str" => Some(as_text()),
                    "null" => Some(Kind::Null),
                    "bool" => scalar::boolean(text).map(Kind::Bool),
                    "int" => scalar::integer(text).map(Kind::Int),
                    "float" => tagged_float(text).map(Kind::Float),
                    _ => return Err(self.sink.fail(report::unsupported_tag(&format!("!!{}", t.suffix), span))),
                };
                match read {
                    Some(kind) => kind,
                    None => return Err(self.sink.fail(report::tag_mismatch(&t.suffix, text, span))),
                }
            }
        };
        let mut value = Value::new(kind, self.trim(span));
        value.written = Some(text.into());
        Ok(value)
    }

    fn check_tag(&mut self, tag: Option<&Tag>, own: &str, span: Span) -> Result<(), Reported> {
        match tag {
            None => Ok(()),
            Some(t) if t.is_yaml_core_schema() && t.suffix == own => Ok(()),
            Some(t) => {
                let shown = if t.is_yaml_core_schema() { format!("!!{}", t.suffix) } else { t.to_string() };
                let span = self.first_line(span);
                Err(self.sink.fail(report::unsupported_tag(&shown, span)))
            }
        }
    }

    fn sequence(&mut self, start: Span, depth: usize) -> Result<Value, Reported> {
        let mut items = Vec::new();
        let end = loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break span;
            }
            items.push(self.node(event, span, depth + 1)?);
        };
        let first = items.first().map(|v: &Value| v.span);
        Ok(Value::new(Kind::List(items), self.collection_span(start, end, first)))
    }

    fn mapping(&mut self, start: Span, depth: usize) -> Result<Value, Reported> {
        let mut own: Vec<Entry> = Vec::new();
        // Where each key stands in `own`; the printed form tells keys of different kinds apart.
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut merges: Vec<(Span, Value)> = Vec::new();
        let end = loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break span;
            }
            let is_merge = matches!(&event, Event::Scalar(t, ScalarStyle::Plain, _, None) if t == "<<");
            let key = self.key(event, span, start, depth)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if is_merge {
                merges.push((key.span, value));
                continue;
            }
            match seen.entry(python::repr(&key)) {
                btree_map::Entry::Occupied(at) => {
                    let old = &mut own[*at.get()];
                    self.sink.push(report::duplicate_key(&key, old.key.span));
                    *old = Entry { key, value }.over(old);
                }
                btree_map::Entry::Vacant(at) => {
                    at.insert(own.len());
                    own.push(Entry { key, value });
                }
            }
        };
        let first = own.first().map(|e| e.key.span).or(merges.first().map(|m| m.0));
        let span = self.collection_span(start, end, first);
        let map = if merges.is_empty() { own } else { self.merge(merges, own)? };
        Ok(Value::new(Kind::Map(map), span))
    }

    fn key(&mut self, event: Event<'a>, span: Span, outer: Span, depth: usize) -> Result<Value, Reported> {
        let nested = matches!(event, Event::MappingStart(..) | Event::SequenceStart(..));
        if nested && self.text[outer.start as usize..].starts_with("{{") {
            return Err(self.sink.fail(report::unquoted_template(self.text, outer)));
        }
        let key = self.node(event, span, depth + 1)?;
        match key.kind {
            Kind::List(_) | Kind::Map(_) => Err(self.sink.fail(report::bad_key(&key))),
            _ => Ok(key),
        }
    }

    /// Applies `<<`: merged pairs come first, an earlier merged mapping beats a later one, own pairs beat all.
    fn merge(&mut self, merges: Vec<(Span, Value)>, own: Vec<Entry>) -> Result<Vec<Entry>, Reported> {
        let mut out: Vec<Entry> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (at, value) in merges {
            let sources = match &value.kind {
                Kind::Map(_) => std::slice::from_ref(&value),
                Kind::List(items) => items.as_slice(),
                _ => return Err(self.sink.fail(report::merge_key(&value))),
            };
            for source in sources {
                let Some(entries) = source.as_map() else {
                    return Err(self.sink.fail(report::merge_key(source)));
                };
                for e in entries {
                    if let btree_map::Entry::Vacant(place) = places.entry(python::repr(&e.key)) {
                        place.insert(out.len());
                        out.push(Entry { key: e.key.through(Via::Merge, at), value: e.value.through(Via::Merge, at) });
                    }
                }
            }
        }
        for e in own {
            match places.get(&python::repr(&e.key)) {
                Some(&place) => out[place] = e.over(&out[place]),
                None => out.push(e),
            }
        }
        Ok(out)
    }

    /// The whole of a one-line flow collection, the first line of a longer one, the first child of a block collection.
    fn collection_span(&self, start: Span, end: Span, first: Option<Span>) -> Span {
        let flow = matches!(self.text.as_bytes().get(start.start as usize), Some(b'{' | b'['));
        match first {
            Some(first) if !flow => first,
            _ => self.first_line(Span { end: end.end.max(start.end), ..start }),
        }
    }

    fn first_line(&self, span: Span) -> Span {
        let (start, end) = (span.start as usize, span.end as usize);
        let line = self.text[start..end.max(start)].find('\n').map_or(end, |n| start + n);
        self.trim(Span::new(self.file, start, line))
    }

    /// Without white space at the end.
    fn trim(&self, span: Span) -> Span {
        let (start, end) = (span.start as usize, (span.end as usize).max(span.start as usize));
        Span::new(self.file, start, start + self.text[start..end].trim_end().len())
    }
}

/// A lone `!`, which makes any scalar text.
fn is_non_specific(tag: &Tag) -> bool {
    matches!((tag.handle.as_str(), tag.suffix.as_str()), ("!", "") | ("", "!"))
}

/// `!!float` also takes integers.
#[expect(clippy::cast_precision_loss, reason = "the tag asks for a float")]
fn tagged_float(text: &str) -> Option<f64> {
    scalar::float(text).or_else(|| scalar::integer(text).map(|n| n as f64)).or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests;
