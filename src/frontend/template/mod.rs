//! Templates and literal coercion: how a value of the file becomes the value a section or layer works with.
//!
//! Comes in: a node of the value tree and a [`Scope`]. Goes out: the same node evaluated as kur-reference 1.5 and 1.6
//! say: text is rendered through Jinja, the result is re-read as a Python literal, and text that changed is rendered
//! again until it settles. Mapping keys are never evaluated. Every render has a budget of work and every scalar a
//! budget of rounds, so no Kurfile can hang the compiler.

mod bridge;
mod depth;
mod files;
mod filters;
mod jinja2;
mod methods;
mod places;
mod report;
mod rewrite;
mod scope;

pub use scope::{LiveList, LiveMap, LiveTree, Scope};

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use crate::diag::{Reported, Sink, SourceMap};
use crate::frontend::python::parse_literal;
use crate::frontend::value::{Entry, Kind, Style, Value};
use crate::frontend::world::World;

/// Work units of one render (about one instruction, one value printed, or 64 bytes of output, each).
const FUEL: u64 = 200_000;

/// Work units of all renders of a Kurfile together, texts read as literals included: about half a second.
const TOTAL_FUEL: u64 = 1_500_000;

/// Work units that a render with an error counts for: how many it used is not known.
const FAILED: u64 = 100;

/// Rounds until a scalar must have settled.
const MAX_ROUNDS: usize = 24;

/// Texts that one evaluation may turn into collections, whose parts are evaluated again, and how deep these may nest.
const MAX_LITERALS: usize = 10_000;
const MAX_LITERAL_DEPTH: usize = 24;

/// Bytes a scalar may grow to.
const MAX_TEXT: usize = 1 << 20;

/// Bytes of a scalar that is read as a collection.
const MAX_LITERAL: usize = 1 << 19;

/// What a name that is not defined gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undefined {
    /// An error with a suggestion.
    #[default]
    Error,
    /// Nothing, as in Kur (`settings.compat: kur`). A key of an undefined name is still an error.
    Empty,
}

/// The template engine: Jinja2 as Kur set it up, except that undefined names are errors unless asked for otherwise.
pub struct Engine<'w> {
    env: Environment<'static>,
    files: files::Files,
    world: &'w dyn World,
    dir: String,
    undefined: Undefined,
    /// Work done so far, out of [`TOTAL_FUEL`].
    spent: Cell<u64>,
    /// The report that there was too much work; nothing is rendered any more then.
    stopped: Cell<Option<Reported>>,
}

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl<'w> Engine<'w> {
    /// An engine for the Kurfile at `path`; files that templates read are relative to its folder.
    #[must_use]
    pub fn new(world: &'w dyn World, path: &str, undefined: Undefined) -> Engine<'w> {
        let mut env = Environment::new();
        env.set_undefined_behavior(match undefined {
            Undefined::Error => UndefinedBehavior::Strict,
            Undefined::Empty => UndefinedBehavior::Lenient,
        });
        env.set_debug(true);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(64);
        env.set_unknown_method_callback(methods::call);
        env.set_formatter(|out, state, value| {
            out.write_str(&bridge::checked_str(state, value)?)?;
            Ok(())
        });
        filters::add(&mut env);
        jinja2::add(&mut env);
        let files = files::Files::default();
        files.add(&mut env, world.gpu_count());
        let dir = path.rfind('/').map_or("", |n| &path[..=n]).to_owned();
        Engine { env, files, world, dir, undefined, spent: Cell::new(0), stopped: Cell::new(None) }
    }

    /// What names that are not defined give.
    #[must_use]
    pub fn undefined(&self) -> Undefined {
        self.undefined
    }

    /// Counts work; an error when the templates of this Kurfile have done too much of it.
    fn spend(&self, work: u64, value: &Value, sink: &mut Sink) -> Result<(), Reported> {
        if let Some(reported) = self.stopped.get() {
            return Err(reported);
        }
        self.spent.set(self.spent.get().saturating_add(work));
        if self.spent.get() <= TOTAL_FUEL {
            return Ok(());
        }
        let reported = sink.fail(report::too_much_work(value));
        self.stopped.set(Some(reported));
        Err(reported)
    }

    /// Evaluates a node; collections are left as they are (kur-reference 1.5, `recursive` off).
    ///
    /// # Errors
    /// `undefined-name`, `undefined-key`, `template-syntax`, `template-error`, `unknown-filter`, `template-cycle`,
    /// `template-too-long`, `not-yet-supported`.
    pub fn eval(&self, value: &Value, scope: &Scope, sources: &SourceMap, sink: &mut Sink) -> Result<Value, Reported> {
        match &value.kind {
            Kind::Str(text, style) => self.settle(value, text, *style, scope, sources, sink),
            _ => Ok(value.clone()),
        }
    }

    /// Evaluates a node and everything in it. All errors inside are reported, not only the first.
    ///
    /// # Errors
    /// As [`Engine::eval`].
    pub fn eval_deep(
        &self,
        value: &Value,
        scope: &Scope,
        sources: &SourceMap,
        sink: &mut Sink,
    ) -> Result<Value, Reported> {
        Deep { engine: self, scope, sources, sink, literals: 0 }.eval(value, 0)
    }

    fn settle(
        &self,
        value: &Value,
        original: &Arc<str>,
        style: Style,
        scope: &Scope,
        sources: &SourceMap,
        sink: &mut Sink,
    ) -> Result<Value, Reported> {
        let mut text = original.to_string();
        // The templates met on the way, to tell a circle from a long chain.
        let mut seen: Vec<String> = Vec::new();
        while seen.len() < MAX_ROUNDS {
            let rendered = if needs_render(&text) {
                if let Some(reported) = self.stopped.get() {
                    return Err(reported);
                }
                // What is wrong with a poisoned value was told where it stands.
                if let Some(reported) = self.poisoned(&text, scope, false) {
                    return Err(reported);
                }
                if let Some(at) = depth::too_deep(&text) {
                    let place = report::Place { value, text: &text, first: seen.is_empty(), sources, rewritten: None };
                    return Err(sink.fail(report::too_deep(&place, at)));
                }
                let (result, work) = self.render(&text, scope);
                self.spend(work, value, sink)?;
                match result {
                    Ok(t) => t,
                    Err((e, rewritten)) => {
                        if let Some(reported) = self.poisoned(&text, scope, true) {
                            return Err(reported);
                        }
                        let place = report::Place { value, text: &text, first: seen.is_empty(), sources, rewritten };
                        return Err(sink.fail(report::render_error(&e, &place, scope, &self.env)));
                    }
                }
            } else {
                // What the engine strips is one line end a round.
                text.trim_end_matches('\n').to_owned()
            };
            if rendered.len() > MAX_TEXT {
                return Err(sink.fail(report::too_long(value)));
            }
            // Text that may be a literal is expensive: it is parsed.
            let literal = rendered.starts_with(['[', '(', '{']);
            if literal && rendered.len() > MAX_LITERAL {
                return Err(sink.fail(report::too_long_literal(value)));
            }
            let cost = if literal { rendered.len() } else { rendered.len() / 64 };
            self.spend(cost as u64, value, sink)?;
            let next = match parse_literal(&rendered, value.span) {
                Some(Value { kind: Kind::Str(s, _), .. }) => s.to_string(),
                Some(literal) => {
                    let mut out = adopt(literal, value);
                    out.written = Some(rendered.as_str().into());
                    return Ok(out);
                }
                None => rendered,
            };
            if next == text {
                let style = if *next == **original { style } else { Style::Computed };
                let next: Arc<str> = next.into();
                let mut out = value.with_kind(Kind::Str(next.clone(), style));
                out.written = Some(next);
                return Ok(out);
            }
            seen.push(std::mem::replace(&mut text, next));
            if seen.contains(&text) {
                break;
            }
        }
        Err(sink.fail(report::cycle(value, &seen, &text)))
    }

    /// Renders once, and tells how much work it was; an error comes with the text that was rendered in place of the
    /// given one.
    fn render(
        &self,
        text: &str,
        scope: &Scope,
    ) -> (Result<String, (minijinja::Error, Option<rewrite::Rewritten>)>, u64) {
        let rewritten = rewrite::rewrite(text);
        let source = rewritten.as_ref().map_or(text, |r| r.text.as_str());
        let mut work = source.len() as u64 / 64;
        loop {
            let result = self.env.template_from_str(source).and_then(|t| {
                let done = t.render_captured(scope.context())?;
                let used = done.state().fuel_levels().map_or(0, |(used, _)| used);
                Ok((done.into_output(), used))
            });
            match result {
                Ok((done, used)) => return (Ok(done), work + used),
                Err(e) => {
                    work += if e.kind() == ErrorKind::OutOfFuel { FUEL } else { FAILED };
                    if !self.files.grant(self.world, &self.dir) {
                        return (Err((e, rewritten)), work);
                    }
                }
            }
        }
    }

    /// The report of a value that a template uses and that could not be evaluated; with `inside` also when it uses a
    /// mapping that such a value is missing from.
    fn poisoned(&self, text: &str, scope: &Scope, inside: bool) -> Option<Reported> {
        if !scope.has_poison() {
            return None;
        }
        let mut paths = BTreeSet::new();
        self.paths_of(text, &mut paths);
        paths.iter().find_map(|p| scope.poisoned(p).or_else(|| scope.poisoned_inside(p).filter(|_| inside)))
    }

    fn paths_of(&self, text: &str, out: &mut BTreeSet<String>) {
        if depth::too_deep(text).is_some() {
            return;
        }
        let rewritten = rewrite::rewrite(text);
        if let Ok(template) = self.env.template_from_str(rewritten.as_ref().map_or(text, |r| &r.text)) {
            out.extend(template.undeclared_variables(true));
        }
    }

    /// The names, and the keys of names, that the templates in a value use: `size`, `settings.size`.
    #[must_use]
    pub fn uses(&self, value: &Value) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        self.collect_uses(value, &mut out);
        out
    }

    fn collect_uses(&self, value: &Value, out: &mut BTreeSet<String>) {
        match &value.kind {
            Kind::Str(text, _) if text.contains("{{") || text.contains("{%") => self.paths_of(text, out),
            Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => v.iter().for_each(|x| self.collect_uses(x, out)),
            Kind::Map(m) => m.iter().for_each(|e| self.collect_uses(&e.value, out)),
            _ => {}
        }
    }
}

/// One recursive evaluation. Text that evaluates to a collection is evaluated again inside, so a text whose parts lead
/// back to it would never end; the counts stop that.
struct Deep<'a> {
    engine: &'a Engine<'a>,
    scope: &'a Scope,
    sources: &'a SourceMap,
    sink: &'a mut Sink,
    literals: usize,
}

impl Deep<'_> {
    fn eval(&mut self, value: &Value, depth: usize) -> Result<Value, Reported> {
        let kind = match &value.kind {
            Kind::Str(text, _) => {
                let out = self.engine.eval(value, self.scope, self.sources, self.sink)?;
                if !matches!(out.kind, Kind::List(_) | Kind::Tuple(_) | Kind::Set(_) | Kind::Map(_)) {
                    return Ok(out);
                }
                self.literals += 1;
                if depth >= MAX_LITERAL_DEPTH || self.literals > MAX_LITERALS {
                    return Err(self.sink.fail(report::cycle(value, &[], text)));
                }
                return self.eval(&out, depth + 1);
            }
            Kind::List(v) => Kind::List(self.all(v, depth)?),
            Kind::Tuple(v) => Kind::Tuple(self.all(v, depth)?),
            Kind::Set(v) => Kind::Set(self.all(v, depth)?),
            Kind::Map(m) => {
                let done: Vec<Result<Entry, Reported>> =
                    m.iter().map(|e| Ok(Entry { key: e.key.clone(), value: self.eval(&e.value, depth)? })).collect();
                Kind::Map(done.into_iter().collect::<Result<_, _>>()?)
            }
            _ => return Ok(value.clone()),
        };
        Ok(value.with_kind(kind))
    }

    fn all(&mut self, items: &[Value], depth: usize) -> Result<Vec<Value>, Reported> {
        let done: Vec<_> = items.iter().map(|v| self.eval(v, depth)).collect();
        done.into_iter().collect()
    }
}

/// Whether the text has a tag. Jinja strips the line end of the last line as well; all of them go away in time.
fn needs_render(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// Gives a literal and all its parts the history of the scalar it was read from.
fn adopt(mut literal: Value, from: &Value) -> Value {
    fn walk(v: &mut Value, from: &Value) {
        v.origin.clone_from(&from.origin);
        match &mut v.kind {
            Kind::List(items) | Kind::Tuple(items) | Kind::Set(items) => items.iter_mut().for_each(|x| walk(x, from)),
            Kind::Map(m) => m.iter_mut().for_each(|e| {
                walk(&mut e.key, from);
                walk(&mut e.value, from);
            }),
            _ => {}
        }
    }
    walk(&mut literal, from);
    literal
}

#[cfg(test)]
mod tests;
