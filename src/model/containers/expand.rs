//! Entries of `model` -> a list of nodes: types resolved, templates used, loops unrolled, names given (kur-reference
//! 2.3 and 2.4.1). Only `parallel` keeps nodes inside a node.
//!
//! A broken entry still becomes a node with its names, so that one mistake does not make every later layer wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diag::Span;
use crate::frontend::Value;
use crate::frontend::template::{LiveList, LiveMap};
use crate::frontend::value::{Entry, Kind, Origin, Via};
use crate::model::cx::Cx;
use crate::model::report::graph::{
    endless_template, input_in_parallel, inputs_in_parallel, model_too_large, two_names,
};
use crate::model::report::values::wrong_type;
use crate::model::types::{LayerKind, Regularizer, Spanned};

use super::children::{self, Items, Loop};
use super::common::{self, Common};
use super::templates::{MAX_DEPTH, Templates};
use super::{ContainerType, Form, How, Parsed, bare, operators, resolve, reuse};

/// How many containers a model may have.
const MAX_CONTAINERS: usize = 20_000;

/// A name and where it is given.
pub(crate) type Name = Spanned<String>;

/// Number of a node in the order in which they were made.
pub(crate) type NodeId = u32;

/// A layer before its inputs are resolved.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its number.
    pub(crate) id: NodeId,
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
    /// The nodes inside a `parallel`.
    pub(crate) children: Vec<Node>,
    /// Explicit inputs.
    pub(crate) inputs: Option<Spanned<Vec<Name>>>,
    /// Declared an output.
    pub(crate) sink: bool,
    /// Weights frozen.
    pub(crate) freeze: bool,
    /// Penalty on weights.
    pub(crate) regularizer: Option<Regularizer>,
    /// Through what it came here.
    pub(crate) via: Option<Arc<Origin>>,
}

/// What a node does.
#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    /// Computes something.
    Layer(LayerKind),
    /// What the container of that name does.
    Reuse(Name),
    /// Hands its input on: `output`, and layers switched off with `when`.
    Pass,
    /// Has an error that was reported.
    Broken,
}

/// Walks the model.
#[derive(Debug, Default)]
pub(crate) struct Expander {
    /// The nodes so far, in file order; inside a `parallel`, those of its chain.
    pub(crate) nodes: Vec<Node>,
    /// The nodes of each container, by its name.
    pub(crate) members: BTreeMap<String, Vec<NodeId>>,
    /// Templates that were used.
    pub(crate) used_templates: Vec<String>,
    templates: Arc<Templates>,
    counters: BTreeMap<&'static str, u64>,
    layers: LiveList,
    tags: LiveMap,
    oldest: LiveMap,
    next: NodeId,
    containers: usize,
    /// Nesting of templates and of `parallel`.
    depth: usize,
    full: bool,
}

/// Where an entry stands.
#[derive(Clone, Copy)]
struct Inside {
    /// `freeze` of the containers around it.
    freeze: bool,
    /// `regularizer` of the containers around it.
    regularizer: Option<Regularizer>,
    /// The `parallel` around it.
    parallel: Option<Span>,
}

impl Inside {
    /// Inside a container of these fields.
    fn within(self, common: &Common) -> Inside {
        Inside {
            freeze: common.freeze.unwrap_or(self.freeze),
            regularizer: common.regularizer.or(self.regularizer),
            ..self
        }
    }
}

impl Expander {
    /// Sets the templates.
    pub(crate) fn with_templates(self, templates: Arc<Templates>) -> Expander {
        Expander { templates, ..self }
    }

    /// Makes `layers`, `tags` and `oldest` visible to templates; to be called before anything else enters the scope.
    pub(crate) fn declare(&self, cx: &mut Cx<'_>) {
        cx.scope.push_map("tags", &self.tags);
        cx.scope.push_map("oldest", &self.oldest);
        cx.scope.push_list("layers", &self.layers);
    }

    /// Expands the entries of `model`.
    pub(crate) fn model(&mut self, cx: &mut Cx<'_>, entries: &[Value]) {
        self.entries(cx, entries, Inside { freeze: false, regularizer: None, parallel: None });
    }

    fn entries(&mut self, cx: &mut Cx<'_>, entries: &[Value], inside: Inside) {
        for entry in entries {
            self.entry(cx, entry, inside);
        }
    }

    fn entry(&mut self, cx: &mut Cx<'_>, entry: &Value, inside: Inside) {
        if self.full {
            return;
        }
        self.containers += 1;
        if self.containers > MAX_CONTAINERS {
            cx.push(model_too_large(entry.span, MAX_CONTAINERS));
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
        let templates = self.templates.clone();
        let (container, arg) = match resolve(cx, &entry, &templates) {
            Ok(Form::Builtin(container, arg)) => (container, arg),
            Ok(Form::Template(arg)) => return self.template(cx, &entry, arg, inside),
            Err(_) => return self.broken(cx, &entry),
        };
        match container.how {
            How::Layer(parse) => {
                let common = common::read(cx, &entry);
                let value = cx.deep(&arg.value);
                let parsed = value.as_ref().map_err(|r| *r).and_then(|v| parse(cx, v));
                let argument = value.unwrap_or_else(|_| arg.value.clone());
                let short = parsed.as_ref().ok().and_then(|p| p.name.clone());
                if let (Some(name), Some(short)) = (&common.name, &short) {
                    cx.push(two_names(name, short.span));
                }
                let kind = parsed.ok().map(|Parsed { kind, .. }| NodeKind::Layer(kind));
                self.layer(
                    cx,
                    (container, arg),
                    common,
                    short.as_ref(),
                    Body { kind, argument, children: Vec::new() },
                    inside,
                );
            }
            How::Reuse => {
                let common = common::read(cx, &entry);
                let value = cx.deep(&arg.value);
                let target = value.as_ref().map_err(|r| *r).and_then(|v| reuse::target(cx, v));
                let argument = value.unwrap_or_else(|_| arg.value.clone());
                let kind = target.ok().map(NodeKind::Reuse);
                self.layer(cx, (container, arg), common, None, Body { kind, argument, children: Vec::new() }, inside);
            }
            How::Parallel => self.parallel(cx, &entry, container, arg, inside),
            How::For => self.operator(cx, &entry, container.word, arg, inside, children::for_loop),
            How::ForEach => self.operator(cx, &entry, container.word, arg, inside, children::for_each),
            How::Debug | How::Assert => {
                let common = common::read(cx, &entry);
                let name = self.name(container.word, common.name.as_ref(), arg.key.span);
                if common.when {
                    if matches!(container.how, How::Debug) {
                        operators::debug(cx, arg)
                    } else {
                        operators::assert(cx, arg)
                    }
                }
                self.register(&common, &name.value, Vec::new());
            }
        }
    }

    fn layer(
        &mut self,
        cx: &mut Cx<'_>,
        (container, arg): (&'static ContainerType, &Entry),
        common: Common,
        short: Option<&Value>,
        body: Body,
        inside: Inside,
    ) {
        let span = cx.pair_span(&arg.key, &arg.value);
        let name = self.name(container.word, common.name.as_ref().or(short), span);
        let is_input = matches!(body.kind, Some(NodeKind::Layer(LayerKind::Input { .. })));
        if let Some(parallel) = inside.parallel {
            if is_input && common.when {
                cx.push(input_in_parallel(span, parallel));
            }
            if let Some(inputs) = &common.inputs {
                cx.push(inputs_in_parallel(inputs.span, parallel));
            }
        }
        let kind = match body.kind {
            None => NodeKind::Broken,
            // Without data there is nothing to hand on: an input that is switched off is not there.
            Some(_) if !common.when && is_input => return self.register(&common, &name.value, Vec::new()),
            Some(_) if !common.when => NodeKind::Pass,
            Some(NodeKind::Layer(LayerKind::Output)) => NodeKind::Pass,
            Some(kind) => kind,
        };
        let id = self.id();
        self.register(&common, &name.value, vec![id]);
        self.nodes.push(Node {
            id,
            names: vec![name.clone()],
            name,
            span,
            word: container.word,
            argument: body.argument,
            kind,
            children: body.children,
            inputs: common.inputs,
            sink: common.sink || (container.word == "output" && common.when),
            freeze: common.freeze.unwrap_or(inside.freeze),
            regularizer: common.regularizer.or(inside.regularizer),
            via: arg.key.origin.clone(),
        });
    }

    fn parallel(
        &mut self,
        cx: &mut Cx<'_>,
        entry: &Value,
        container: &'static ContainerType,
        arg: &Entry,
        inside: Inside,
    ) {
        let common = common::read(cx, entry);
        let Ok(value) = cx.eval(&arg.value) else { return self.broken(cx, entry) };
        let Ok(apply) = children::parallel(cx, &value) else { return self.broken(cx, entry) };
        let span = cx.pair_span(&arg.key, &arg.value);
        let outer = std::mem::take(&mut self.nodes);
        let freeze = common.freeze.unwrap_or(inside.freeze);
        let regularizer = common.regularizer.or(inside.regularizer);
        self.entries(cx, apply, Inside { freeze, regularizer, parallel: Some(span) });
        let children = std::mem::replace(&mut self.nodes, outer);
        let kind = Some(NodeKind::Layer(LayerKind::Parallel { apply: Vec::new() }));
        let argument = Value::new(Kind::Null, arg.value.span);
        self.layer(cx, (container, arg), common, None, Body { kind, argument, children }, inside);
    }

    fn operator(
        &mut self,
        cx: &mut Cx<'_>,
        entry: &Value,
        word: &'static str,
        arg: &Entry,
        inside: Inside,
        read: for<'v> fn(&mut Cx<'_>, &'v Value) -> Result<Loop<'v>, crate::diag::Reported>,
    ) {
        let common = common::read(cx, entry);
        if !common.when {
            return;
        }
        let span = cx.pair_span(&arg.key, &arg.value);
        let name = self.name(word, common.name.as_ref(), span);
        let Ok(value) = cx.eval(&arg.value) else { return self.broken(cx, entry) };
        let Ok(body) = read(cx, &value) else { return self.broken(cx, entry) };
        let first = self.nodes.len();
        let outer = cx.scope.clone();
        let inner = inside.within(&common);
        let rounds = match &body.items {
            // Nothing happens in an empty body, however often.
            _ if body.body.is_empty() => 0,
            Items::Range(n) => *n,
            Items::List(items) => items.len() as u64,
        };
        for i in 0..rounds {
            cx.scope = outer.clone();
            match &body.items {
                Items::Range(_) => cx.scope.push(&body.variable, &Value::int(i, arg.key.span)),
                Items::List(items) => {
                    usize::try_from(i)
                        .ok()
                        .and_then(|i| items.get(i))
                        .into_iter()
                        .for_each(|v| cx.scope.push(&body.variable, v));
                }
            }
            self.entries(cx, body.body, inner);
            if self.full {
                break;
            }
        }
        cx.scope = outer;
        self.close(common, name, first);
    }

    /// The use of a template: its body with the arguments in scope (kur-reference 4.1).
    fn template(&mut self, cx: &mut Cx<'_>, entry: &Value, arg: &Entry, inside: Inside) {
        let common = common::read(cx, entry);
        if !common.when {
            return;
        }
        let word = arg.key.as_str().unwrap_or_default();
        let span = cx.pair_span(&arg.key, &arg.value);
        if self.depth >= MAX_DEPTH {
            cx.push(endless_template(&arg.key, word, MAX_DEPTH));
            self.full = true;
            return;
        }
        let name = self.name("meta", common.name.as_ref(), span);
        let Ok(value) = cx.eval(&arg.value) else { return self.broken(cx, entry) };
        let arguments = match &value.kind {
            Kind::Null => Vec::new(),
            Kind::Map(entries) => entries.clone(),
            _ => {
                let example = "a mapping of arguments, or nothing";
                cx.push(wrong_type(&value, &format!("the argument of the template `{word}`"), example));
                return self.broken(cx, entry);
            }
        };
        let mut evaluated = Vec::new();
        let mut failed = false;
        for e in arguments {
            match cx.eval(&e.value) {
                Ok(value) => evaluated.push(Entry { key: e.key, value }),
                Err(_) => failed = true,
            }
        }
        if failed {
            return self.broken(cx, entry);
        }
        let outer = cx.scope.clone();
        let inputs = match (&common.inputs, self.nodes.last()) {
            (Some(inputs), _) => inputs.value.iter().map(|n| Value::text(&n.value, n.span)).collect(),
            (None, Some(node)) => node.names.first().map(|n| Value::text(&n.value, n.span)).into_iter().collect(),
            (None, None) => Vec::new(),
        };
        cx.scope.push("inputs", &Value::new(Kind::List(inputs), span));
        for e in &evaluated {
            if let Some(name) = e.key.as_str() {
                cx.scope.push(name, &e.value);
            }
        }
        cx.scope.push("args", &Value::new(Kind::Map(evaluated), arg.value.span));
        self.used_templates.push(word.to_owned());
        let templates = self.templates.clone();
        let body: Vec<Value> = templates
            .body(word)
            .iter()
            .map(|v| arg.key.steps().fold(v.clone(), |v, o| v.through(o.via, o.span)).through(Via::Template, span))
            .collect();
        let first = self.nodes.len();
        self.depth += 1;
        self.entries(cx, &body, inside.within(&common));
        self.depth -= 1;
        cx.scope = outer;
        self.close(common, name, first);
    }

    /// Ends an operator: its name, inputs and sink go to its first and last node. One without nodes loses them
    /// (kur-reference 2.4.1).
    fn close(&mut self, common: Common, name: Name, first: usize) {
        let members = self.nodes.get(first..).unwrap_or_default().iter().map(|n| n.id).collect();
        self.register(&common, &name.value, members);
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
        let id = self.id();
        self.members.insert(name.value.clone(), vec![id]);
        self.nodes.push(Node {
            id,
            names: vec![name.clone()],
            name,
            span: entry.span,
            word: "layer",
            argument: Value::new(Kind::Null, entry.span),
            kind: NodeKind::Broken,
            children: Vec::new(),
            inputs: common.and_then(|c| c.inputs),
            sink: false,
            freeze: false,
            regularizer: None,
            via: entry.origin.clone(),
        });
    }

    fn id(&mut self) -> NodeId {
        self.next += 1;
        self.next
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

    fn register(&mut self, common: &Common, name: &str, members: Vec<NodeId>) {
        self.layers.add(name);
        self.members.insert(name.to_owned(), members);
        common.tags.iter().for_each(|tag| self.tags.set(tag, name, false));
        common.oldest.iter().for_each(|tag| self.oldest.set(tag, name, true));
    }
}

/// The parts of a layer that its type gives.
struct Body {
    /// `None` when the argument is wrong.
    kind: Option<NodeKind>,
    argument: Value,
    children: Vec<Node>,
}
