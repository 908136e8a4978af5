//! The value tree: what YAML and JSON files become, and what templates are evaluated to.
//!
//! Each node knows its place (`span`), how it got there (`origin`: aliases, merge keys, includes), which values it
//! replaced (`hides`) and, for scalars, the text as written. Mappings keep their order. Numbers are Python's: integers and floats are different kinds.

use std::sync::Arc;

use crate::diag::{Diagnostic, Span};

/// A node.
#[derive(Clone, Debug)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it stands. A block collection has the span of its first child, so that excerpts stay short.
    pub span: Span,
    /// The scalar's text before it was read as a number, boolean or null; `None` for collections.
    pub written: Option<Arc<str>>,
    /// Through which aliases, merge keys and includes it came, the latest step first.
    pub origin: Option<Arc<Origin>>,
    /// Values that stood here as well and lost: of included files, duplicate keys, or replaced by an override. The
    /// strongest first.
    pub hides: Option<Arc<Vec<Value>>>,
}

/// The kinds of values: YAML's and what a Python literal adds.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Null, Python's `None`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A float.
    Float(f64),
    /// A complex number (real, imaginary): only from a Python literal.
    Complex(f64, f64),
    /// Text.
    Str(Arc<str>, Style),
    /// Bytes: only from a Python literal.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Vec<Value>),
    /// A tuple: only from a Python literal.
    Tuple(Vec<Value>),
    /// A set: only from a Python literal.
    Set(Vec<Value>),
    /// A mapping in the order of the file.
    Map(Vec<Entry>),
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// As a `|` or `>` block.
    Block,
    /// Not in a file: a template's result.
    Computed,
}

/// A pair of a mapping.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key; any scalar.
    pub key: Value,
    /// The value.
    pub value: Value,
}

impl Entry {
    /// The pair, remembered to stand where another one of the same key stood.
    #[must_use]
    pub(crate) fn over(self, loser: &Entry) -> Entry {
        Entry { value: self.value.hiding(loser.value.clone()), key: self.key }
    }
}

/// One step on the way from where a node is written to where it is used.
#[derive(Debug, PartialEq)]
pub struct Origin {
    /// What brought it here.
    pub via: Via,
    /// Where that stands.
    pub span: Span,
    /// The step before.
    pub parent: Option<Arc<Origin>>,
}

/// What brings a node to another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// `*name`.
    Alias,
    /// `<<: …`.
    Merge,
    /// The use of a template.
    Template,
    /// `include: …`; the span is that of the included file's name.
    Include,
}

impl Value {
    /// A node without history.
    #[must_use]
    pub fn new(kind: Kind, span: Span) -> Value {
        Value { kind, span, written: None, origin: None, hides: None }
    }

    /// A node with another kind at the same place.
    #[must_use]
    pub fn with_kind(&self, kind: Kind) -> Value {
        Value { kind, ..self.shell() }
    }

    /// The node without what is in it.
    fn shell(&self) -> Value {
        Value {
            kind: Kind::Null,
            span: self.span,
            written: self.written.clone(),
            origin: self.origin.clone(),
            hides: self.hides.clone(),
        }
    }

    /// The node, remembered to stand where another one stood that is weaker than all it hides already.
    #[must_use]
    pub fn hiding(mut self, mut loser: Value) -> Value {
        let deeper = loser.hides.take();
        let all = Arc::make_mut(self.hides.get_or_insert_default());
        all.push(loser);
        all.extend(deeper.map(Arc::unwrap_or_clone).unwrap_or_default());
        self
    }

    /// The values it hides, the strongest first.
    #[must_use]
    pub fn hidden(&self) -> &[Value] {
        self.hides.as_ref().map_or(&[], |v| v.as_slice())
    }

    /// Text at a place.
    #[must_use]
    pub fn text(text: &str, span: Span) -> Value {
        let text: Arc<str> = text.into();
        Value { written: Some(text.clone()), ..Value::new(Kind::Str(text, Style::Computed), span) }
    }

    /// An integer at a place.
    #[must_use]
    pub fn int(n: u64, span: Span) -> Value {
        Value::new(Kind::Int(i128::from(n)), span)
    }

    /// Whether it is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(s, _) => Some(s),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match &self.kind {
            Kind::List(v) | Kind::Tuple(v) => Some(v),
            _ => None,
        }
    }

    /// The pairs of a mapping.
    #[must_use]
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Map(m) => Some(m),
            _ => None,
        }
    }

    /// The value of a string key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|e| &e.value)
    }

    /// The pair of a string key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|e| e.key.as_str() == Some(key))
    }

    /// Python's truth value (kur-reference 2.2, `when`).
    #[must_use]
    pub fn is_true(&self) -> bool {
        match &self.kind {
            Kind::Null => false,
            Kind::Bool(b) => *b,
            Kind::Int(n) => *n != 0,
            Kind::Float(x) => *x != 0.0,
            Kind::Complex(a, b) => *a != 0.0 || *b != 0.0,
            Kind::Str(s, _) => !s.is_empty(),
            Kind::Bytes(b) => !b.is_empty(),
            Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => !v.is_empty(),
            Kind::Map(m) => !m.is_empty(),
        }
    }

    /// Whether two values are equal as Python keys and literals are: by kind and content, not by place.
    #[must_use]
    pub fn same(&self, other: &Value) -> bool {
        let all = |a: &[Value], b: &[Value]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.same(y));
        match (&self.kind, &other.kind) {
            (Kind::Null, Kind::Null) => true,
            (Kind::Bool(a), Kind::Bool(b)) => a == b,
            (Kind::Int(a), Kind::Int(b)) => a == b,
            (Kind::Float(a), Kind::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Kind::Complex(a, b), Kind::Complex(c, d)) => a == c && b == d,
            (Kind::Str(a, _), Kind::Str(b, _)) => a == b,
            (Kind::Bytes(a), Kind::Bytes(b)) => a == b,
            (Kind::List(a), Kind::List(b)) | (Kind::Tuple(a), Kind::Tuple(b)) | (Kind::Set(a), Kind::Set(b)) => {
                all(a, b)
            }
            (Kind::Map(a), Kind::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.key.same(&y.key) && x.value.same(&y.value))
            }
            _ => false,
        }
    }

    /// Number of nodes, this one included.
    #[must_use]
    pub fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => v.iter().map(Value::size).sum(),
            Kind::Map(m) => m.iter().map(|e| e.key.size() + e.value.size()).sum(),
            _ => 0,
        }
    }

    /// The same tree, reached through one more step.
    #[must_use]
    pub fn through(&self, via: Via, span: Span) -> Value {
        let mut out = self.clone();
        out.push_origin(via, span);
        out
    }

    /// Adds a step to the way of the whole tree.
    pub(crate) fn push_origin(&mut self, via: Via, span: Span) {
        self.origin = Some(Arc::new(Origin { via, span, parent: self.origin.take() }));
        if let Some(hides) = &mut self.hides {
            Arc::make_mut(hides).iter_mut().for_each(|x| x.push_origin(via, span));
        }
        match &mut self.kind {
            Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => v.iter_mut().for_each(|x| x.push_origin(via, span)),
            Kind::Map(m) => m.iter_mut().for_each(|e| {
                e.key.push_origin(via, span);
                e.value.push_origin(via, span);
            }),
            _ => {}
        }
    }

    /// Whether an alias or a merge key brought it to the place it stands in.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.steps().any(|s| s.via != Via::Include)
    }

    /// The steps from the place it is written to the place it is used.
    pub fn steps(&self) -> impl Iterator<Item = &Origin> {
        steps(self.origin.as_deref()).into_iter()
    }
}

/// Placing a diagnostic at a node.
pub trait AtValue {
    /// Sets the place, and shows each alias, merge key and include through which the node is used.
    #[must_use]
    fn at_value(self, value: &Value, label: impl Into<String>) -> Diagnostic;
}

impl AtValue for Diagnostic {
    fn at_value(self, value: &Value, label: impl Into<String>) -> Diagnostic {
        also_via(self.at(value.span, label), value.origin.as_deref())
    }
}

/// Shows each alias, merge key and template through which a place is used; `latest` is the last step.
#[must_use]
pub fn also_via(d: Diagnostic, latest: Option<&Origin>) -> Diagnostic {
    steps(latest).into_iter().fold(d, |d, step| {
        let how = match step.via {
            Via::Alias => "used here through an alias",
            Via::Merge => "merged in here",
            Via::Template => "in the template used here",
            Via::Include => "included from here",
        };
        if d.secondary.iter().any(|(s, _)| *s == step.span) { d } else { d.also(step.span, how) }
    })
}

/// The steps that end with the given one, the first of them first.
fn steps(latest: Option<&Origin>) -> Vec<&Origin> {
    let mut chain: Vec<&Origin> = std::iter::successors(latest, |o| o.parent.as_deref()).collect();
    chain.reverse();
    chain
}
