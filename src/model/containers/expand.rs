//! Entries of `model` -> a flat list of nodes: types resolved, templates evaluated, loops unrolled, names given
//! (kur-reference 2.3 and 2.4.1).
//!
//! A broken entry still becomes a node with its names, so that one mistake does not make every later layer wrong.

use std::collections::BTreeMap;

use crate::diag::Span;
use crate::frontend::Value;
use crate::frontend::template::{LiveList, LiveMap};
use crate::frontend::value::{Entry, Kind};
use crate::model::cx::Cx;
use crate::model::report::graph::{model_too_large, two_names};
use crate::model::report::values::wrong_type;
use crate::model::types::{LayerKind, Spanned};

use super::common::{self, Common};
use super::{Form, Parsed, bare, for_loop, resolve};

/// How many containers a model may have.
const MAX_CONTAINERS: usize = 20_000;

/// A name and where it is given.
pub(crate) type Name = Spanned<String>;

/// A layer before its inputs are resolved.
#[derive(Debug)]
pub(crate) struct Node {
    /// The container's own name.
    pub(crate) name: Name,
    /// All names, the primary one first; never empty here.
    pub(crate) names: Vec<Name>,
    /// Type key and argument.
    pub(crate) span: Span,
    /// The Kurfile word.
    pub(crate) word: &'static str,
    /// Its argument, evaluated.
    pub(crate) argument: Value,
    /// What it does.
    pub(crate) kind: NodeKind,
    /// Explicit inputs.
    pub(crate) inputs: Option<Spanned<Vec<Name>>>,
    /// Declared an output.
    pub(crate) sink: bool,
    /// Weights frozen.
    pub(crate) freeze: bool,
}

/// What a node does.
#[derive(Debug)]
pub(crate) enum NodeKind {
    /// Computes something.
    Layer(LayerKind),
    /// Hands its input on: `output`, and layers switched off with `when`.
    Pass,
    /// Has an error that was reported.
    Broken,
}

/// Walks the model.
#[derive(Debug, Default)]
pub(crate) struct Expander {
    /// The nodes so far, in file order.
    pub(crate) nodes: Vec<Node>,
    counters: BTreeMap<&'static str, u64>,
    layers: LiveList,
    tags: LiveMap,
    oldest: LiveMap,
    containers: usize,
    full: bool,
}

impl Expander {
    /// Makes `layers`, `tags` and `oldest` visible to templates; to be called before anything else enters the scope.
    pub(crate) fn declare(&self, cx: &mut Cx<'_>) {
        cx.scope.push_map("tags", &self.tags);
        cx.scope.push_map("oldest", &self.oldest);
        cx.scope.push_list("layers", &self.layers);
    }

    /// Expands a list of entries.
    pub(crate) fn entries(&mut self, cx: &mut Cx<'_>, entries: &[Value], freeze: bool) {
        for entry in entries {
            self.entry(cx, entry, freeze);
        }
    }

    fn entry(&mut self, cx: &mut Cx<'_>, entry: &Value, freeze: bool) {
        self.containers += 1;
        if self.containers > MAX_CONTAINERS {
            if !self.full {
                cx.push(model_too_large(entry.span, MAX_CONTAINERS));
            }
            self.full = true;
            return;
        }
        let Ok(entry) = cx.eval(entry) else { return self.broken(cx, entry) };
        let entry = match &entry.kind {
            Kind::Str(..) => bare(&entry),
            Kind::Map(_) => entry,
            _ => {
                cx.push(wrong_type(&entry, "a model entry", "a layer, such as `dense: 10`"));
                return;
            }
        };
        match resolve(cx, &entry) {
            Ok(Form::Layer(layer, arg)) => {
                let common = common::read(cx, &entry);
                let value = cx.deep(&arg.value);
                let parsed = value.as_ref().map_err(|r| *r).and_then(|v| (layer.parse)(cx, v));
                let evaluated = value.unwrap_or_else(|_| arg.value.clone());
                self.layer(cx, layer.word, arg, evaluated, parsed.ok(), common, freeze);
            }
            Ok(Form::For(arg)) => self.operator(cx, &entry, arg, freeze),
            Err(_) => self.broken(cx, &entry),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one entry, each used once")]
    fn layer(
        &mut self,
        cx: &mut Cx<'_>,
        word: &'static str,
        arg: &Entry,
        evaluated: Value,
        parsed: Option<Parsed>,
        common: Common,
        freeze: bool,
    ) {
        let short = parsed.as_ref().and_then(|p| p.name.clone());
        if let (Some(name), Some(short)) = (&common.name, &short) {
            cx.push(two_names(name, short.span));
        }
        let span = cx.pair_span(&arg.key, &arg.value);
        let name = self.name(word, common.name.as_ref().or(short.as_ref()), span);
        self.register(&common, &name.value);
        let kind = match parsed {
            None => NodeKind::Broken,
            // Without data there is nothing to hand on: an input that is switched off is not there.
            Some(Parsed { kind: LayerKind::Input { .. }, .. }) if !common.when => return,
            Some(_) if !common.when => NodeKind::Pass,
            Some(Parsed { kind: LayerKind::Output, .. }) => NodeKind::Pass,
            Some(Parsed { kind, .. }) => NodeKind::Layer(kind),
        };
        self.nodes.push(Node {
            names: vec![name.clone()],
            name,
            span,
            word,
            argument: evaluated,
            kind,
            inputs: common.inputs,
            sink: common.sink || (word == "output" && common.when),
            freeze: common.freeze.unwrap_or(freeze),
        });
    }

    fn operator(&mut self, cx: &mut Cx<'_>, entry: &Value, arg: &Entry, freeze: bool) {
        let common = common::read(cx, entry);
        if !common.when {
            return;
        }
        let span = cx.pair_span(&arg.key, &arg.value);
        let name = self.name("for", common.name.as_ref(), span);
        let Ok(value) = cx.eval(&arg.value) else { return self.broken(cx, entry) };
        let Ok(body) = for_loop::read(cx, &value) else { return self.broken(cx, entry) };
        let first = self.nodes.len();
        let outer = cx.scope.clone();
        for i in 0..body.range {
            cx.scope = outer.clone();
            cx.scope.push(&body.index, &Value::int(i, arg.key.span));
            self.entries(cx, body.body, common.freeze.unwrap_or(freeze));
            if self.full {
                break;
            }
        }
        cx.scope = outer;
        self.register(&common, &name.value);
        // An operator without nodes loses its names, inputs and sink (kur-reference 2.4.1).
        if let Some(node) = self.nodes.get_mut(first)
            && common.inputs.is_some()
        {
            node.inputs = common.inputs;
        }
        if self.nodes.len() > first
            && let Some(last) = self.nodes.last_mut()
        {
            let place = if common.name.is_some() { 0 } else { last.names.len() };
            last.names.insert(place, name);
            last.sink |= common.sink;
        }
    }

    /// Keeps the place and the name of an entry that could not be read.
    fn broken(&mut self, cx: &mut Cx<'_>, entry: &Value) {
        let common = entry.as_map().map(|_| common::read(cx, entry));
        let name = common.as_ref().and_then(|c| c.name.as_ref());
        let name = self.name("broken", name, entry.span);
        self.layers.add(&name.value);
        self.nodes.push(Node {
            names: vec![name.clone()],
            name,
            span: entry.span,
            word: "layer",
            argument: Value::new(Kind::Null, entry.span),
            kind: NodeKind::Broken,
            inputs: common.and_then(|c| c.inputs),
            sink: false,
            freeze: false,
        });
    }

    fn name(&mut self, word: &'static str, explicit: Option<&Value>, span: Span) -> Name {
        if let Some(v) = explicit
            && let Some(text) = v.as_str()
        {
            return Spanned { value: text.to_owned(), span: v.span };
        }
        let counter = self.counters.entry(word).or_default();
        let name = format!("..{word}.{counter}");
        *counter += 1;
        Spanned { value: name, span }
    }

    fn register(&self, common: &Common, name: &str) {
        self.layers.add(name);
        common.tags.iter().for_each(|tag| self.tags.set(tag, name, false));
        common.oldest.iter().for_each(|tag| self.oldest.set(tag, name, true));
    }
}
