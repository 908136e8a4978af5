//! What every part of `model` needs at hand: the outside, the files, the template engine and the names in scope.

use crate::diag::{Diagnostic, Reported, Sink, SourceMap, Span};
use crate::frontend::template::{Engine, Scope};
use crate::frontend::{Value, World};

use super::report::keys::not_yet_supported;
use super::types::{Need, Spanned, Unbuilt};

/// The context parameter of this stage.
pub(super) struct Cx<'a> {
    /// The outside.
    pub(super) world: &'a dyn World,
    /// All files read.
    pub(super) sources: &'a SourceMap,
    /// Findings.
    pub(super) sink: &'a mut Sink,
    /// Templates.
    pub(super) engine: &'a Engine,
    /// Names that templates see at this point.
    pub(super) scope: Scope,
    /// Constructs met so far that are not built yet.
    pub(super) unbuilt: Vec<Unbuilt>,
    /// Messages of `debug`.
    pub(super) messages: Vec<Spanned<String>>,
}

impl<'a> Cx<'a> {
    /// A context in which nothing was read yet.
    pub(super) fn new(world: &'a dyn World, sources: &'a SourceMap, sink: &'a mut Sink, engine: &'a Engine) -> Cx<'a> {
        Cx { world, sources, sink, engine, scope: Scope::default(), unbuilt: Vec::new(), messages: Vec::new() }
    }

    /// Evaluates a node, collections left as they are.
    pub(super) fn eval(&mut self, value: &Value) -> Result<Value, Reported> {
        self.engine.eval(value, &self.scope, self.sources, self.sink)
    }

    /// Evaluates a node and everything in it.
    pub(super) fn deep(&mut self, value: &Value) -> Result<Value, Reported> {
        self.engine.eval_deep(value, &self.scope, self.sources, self.sink)
    }

    /// Reports an error.
    pub(super) fn fail(&mut self, d: Diagnostic) -> Reported {
        self.sink.fail(d)
    }

    /// Reports a finding and goes on.
    pub(super) fn push(&mut self, d: Diagnostic) {
        self.sink.push(d);
    }

    /// Notes a construct that was checked but is not built yet. `place` is shown, `what` names it: "`log` of `train`".
    pub(super) fn unbuilt(&mut self, need: Need, place: &Value, what: &str) {
        match self.unbuilt.iter_mut().find(|u| u.what == what && u.need == need) {
            Some(known) => known.more += 1,
            None => self.unbuilt.push(Unbuilt::new(need, what, not_yet_supported(place, what))),
        }
    }

    /// From a key to the end of its value when both stand on one line, else the key alone.
    pub(super) fn pair_span(&self, key: &Value, value: &Value) -> Span {
        let (k, v) = (key.span, value.span);
        let between = self.sources.text(k.file).get(k.start as usize..v.end as usize);
        match between {
            Some(text) if k.file == v.file && v.end > k.end && !text.contains('\n') => Span { end: v.end, ..k },
            _ => k,
        }
    }
}
