//! A path -> the value tree of that Kurfile with everything it includes (kur-reference 1.2).
//!
//! `include` takes a path or pattern, a mapping `{source: S | [S…], method: blend | merge | concat}`, or a list of
//! them; null means nothing. Paths are relative to the folder of the including file. Unlike in Kur, a leading `~` and
//! `$VAR` are expanded (there they never matched anything), `method` says how that file is merged into the one that
//! includes it (as documented; Kur used it one level further down), and a source without a match is an error.
//!
//! `include` is gone from the tree that goes out, and every value knows through which `include` it came.

mod glob;
mod report;

use crate::diag::{FileId, Reported, Sink, SourceMap, Span};
use crate::frontend::file;
use crate::frontend::merge::{Strategy, merge};
use crate::frontend::value::{Kind, Value, Via};
use crate::frontend::world::{World, expand_path};

/// Files that one Kurfile may include, all levels together.
const MAX_FILES: usize = 256;

/// How deep includes may nest.
const MAX_DEPTH: usize = 32;

/// Nodes that all included files may have together.
const MAX_NODES: usize = 500_000;

/// Reads a Kurfile and what it includes.
///
/// # Errors
/// Those of [`file::read`], `missing-include`, `bad-include`, `too-many-includes`, `unknown-key`.
/// Warnings: `include-cycle`, `repeated-include`.
pub fn load(
    world: &dyn World,
    path: &str,
    sources: &mut SourceMap,
    sink: &mut Sink,
) -> Result<(FileId, Value), Reported> {
    let (file, root) = file::read(world, path, sources, sink)?;
    let expanded = expand_path(world, path);
    let top = Frame { identity: world.identity(&expanded), name: path.to_owned() };
    let mut includer = Includer {
        world,
        sources,
        sink,
        loaded: vec![Loaded { identity: top.identity.clone(), at: None }],
        stack: vec![top],
        chain: Vec::new(),
        nodes: 0,
        failed: None,
    };
    let root = includer.resolve(root, &expanded);
    match includer.failed {
        Some(reported) => Err(reported),
        None => Ok((file, root)),
    }
}

/// A file that is being read.
struct Frame {
    identity: String,
    /// As messages name it.
    name: String,
}

/// A file that was met before.
struct Loaded {
    identity: String,
    /// The `include` that brought it; none for the Kurfile itself.
    at: Option<Span>,
}

/// One source of an `include`, with the strategy that goes with it.
struct Source<'v> {
    value: &'v Value,
    text: &'v str,
    strategy: Strategy,
}

struct Includer<'a> {
    world: &'a dyn World,
    sources: &'a mut SourceMap,
    sink: &'a mut Sink,
    loaded: Vec<Loaded>,
    stack: Vec<Frame>,
    /// The sources through which the current file was reached, outermost first.
    chain: Vec<Span>,
    nodes: usize,
    failed: Option<Reported>,
}

impl Includer<'_> {
    fn fail(&mut self, d: crate::diag::Diagnostic) {
        self.failed = Some(self.sink.fail(report::through(d, &self.chain)));
    }

    /// Takes `include` out of a file and puts what it names under the rest.
    fn resolve(&mut self, mut root: Value, path: &str) -> Value {
        let Kind::Map(entries) = &mut root.kind else { return root };
        let Some(at) = entries.iter().position(|e| e.key.as_str() == Some("include")) else { return root };
        let include = entries.remove(at).value;
        for source in self.sources_of(&include) {
            for file in self.find(&source, path) {
                if let Some(included) = self.one(&file, &source) {
                    root = merge(included, root, source.strategy);
                }
            }
        }
        root
    }

    /// One included file with its own includes; nothing when it cannot be read, or was read before.
    fn one(&mut self, path: &str, source: &Source<'_>) -> Option<Value> {
        let at = source.value.span;
        let identity = self.world.identity(path);
        // A pattern that also matches what is there already is no mistake.
        let matched = glob::is_pattern(source.text);
        if matched && self.loaded.iter().any(|l| l.identity == identity) {
            return None;
        }
        if self.stack.iter().any(|f| f.identity == identity) {
            let names: Vec<&str> = self.stack.iter().map(|f| f.name.as_str()).collect();
            let first = self.stack.iter().position(|f| f.identity == identity).unwrap_or(0);
            let d = report::cycle(source.value, &names[first..]);
            self.sink.push(report::through(d, &self.chain));
            return None;
        }
        if let Some(before) = self.loaded.iter().find(|l| l.identity == identity) {
            let d = report::repeated(source.value, path, before.at);
            self.sink.push(report::through(d, &self.chain));
            return None;
        }
        if self.loaded.len() > MAX_FILES || self.stack.len() > MAX_DEPTH {
            let d = report::too_many(source.value, &format!("more than {MAX_FILES} files, or {MAX_DEPTH} levels"));
            self.fail(d);
            return None;
        }
        self.loaded.push(Loaded { identity: identity.clone(), at: Some(at) });
        let mut found = Sink::default();
        let read = file::read_as(self.world, path, path, self.sources, &mut found);
        self.chain.push(at);
        for d in found.sorted() {
            self.sink.push(report::through(d, &self.chain));
        }
        let value = match read {
            Ok((_, value)) => self.included(value, path, identity),
            Err(reported) => {
                self.failed = Some(reported);
                None
            }
        };
        self.chain.pop();
        let mut value = value?;
        value.push_origin(Via::Include, at);
        Some(value)
    }

    fn included(&mut self, value: Value, path: &str, identity: String) -> Option<Value> {
        self.nodes += value.size();
        if self.nodes > MAX_NODES {
            let d = report::too_many(&value, &format!("more than {MAX_NODES} values"));
            self.fail(d);
            return None;
        }
        match value.kind {
            Kind::Map(_) => {
                self.stack.push(Frame { identity, name: path.to_owned() });
                let value = self.resolve(value, path);
                self.stack.pop();
                Some(value)
            }
            // An empty file has nothing to add.
            Kind::Null => None,
            _ => {
                let d = report::no_mapping(&value);
                self.fail(d);
                None
            }
        }
    }

    /// The sources of an `include` in any of its forms.
    fn sources_of<'v>(&mut self, include: &'v Value) -> Vec<Source<'v>> {
        let mut out = Vec::new();
        match &include.kind {
            Kind::Null => {}
            Kind::List(items) => items.iter().for_each(|item| self.form(item, &mut out)),
            _ => self.form(include, &mut out),
        }
        out
    }

    fn form<'v>(&mut self, value: &'v Value, out: &mut Vec<Source<'v>>) {
        match &value.kind {
            Kind::Str(..) => self.source(value, Strategy::default(), out),
            Kind::Map(entries) => {
                for e in entries {
                    if !matches!(e.key.as_str(), Some("source" | "method")) {
                        self.fail(report::unknown_key(&e.key));
                    }
                }
                let strategy = self.strategy(value);
                match value.get("source") {
                    None => self.fail(report::no_source(value)),
                    Some(Value { kind: Kind::List(items), .. }) => {
                        items.iter().for_each(|item| self.source(item, strategy, out));
                    }
                    Some(one) => self.source(one, strategy, out),
                }
            }
            _ => self.fail(report::wrong_form(value)),
        }
    }

    fn strategy(&mut self, form: &Value) -> Strategy {
        let Some(method) = form.get("method").filter(|m| !m.is_null()) else { return Strategy::default() };
        method.as_str().and_then(Strategy::from_word).unwrap_or_else(|| {
            self.fail(report::unknown_method(method));
            Strategy::default()
        })
    }

    fn source<'v>(&mut self, value: &'v Value, strategy: Strategy, out: &mut Vec<Source<'v>>) {
        match value.as_str() {
            Some(text) if text.contains("{{") || text.contains("{%") => self.fail(report::template(value)),
            Some(text) if !text.trim().is_empty() => out.push(Source { value, text, strategy }),
            _ => self.fail(report::no_path(value)),
        }
    }

    /// The files of a source. A name with brackets in it may also be meant as it is.
    fn find(&mut self, source: &Source<'_>, includer: &str) -> Vec<String> {
        let dir = includer.rfind('/').map_or("", |n| &includer[..=n]);
        let text = expand_path(self.world, source.text);
        let plain = if text.starts_with('/') { text.clone() } else { format!("{dir}{text}") };
        let found = if glob::is_pattern(&text) { glob::expand(self.world, dir, &text) } else { Ok(Vec::new()) };
        let Ok(mut files) = found else {
            self.fail(report::too_wide(source.value));
            return Vec::new();
        };
        if files.is_empty() {
            if self.world.exists(&plain) {
                files.push(plain);
            } else {
                let d = report::missing(self.world, source.value, &text, &plain, includer);
                self.fail(d);
            }
        }
        files
    }
}
