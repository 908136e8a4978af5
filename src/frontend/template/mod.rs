//! Templates and literal coercion: how a value of the file becomes the value a section or layer works with.
//!
//! Comes in: a node of the value tree and a [`Scope`]. Goes out: the same node evaluated as kur-reference 1.5 and 1.6
//! say: text is rendered through Jinja, the result is re-read as a Python literal, and text that changed is rendered
//! again until it settles. Mapping keys are never evaluated. Every render has a budget of work and every scalar a
//! budget of rounds, so no Kurfile can hang the compiler.

mod bridge;
mod filters;
mod report;
mod scope;

pub use scope::{LiveList, LiveMap, LiveSection, Scope};

use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior};

use crate::diag::{Reported, Sink, SourceMap};
use crate::frontend::python::parse_literal;
use crate::frontend::value::{Entry, Kind, Style, Value};

/// Work units of one render (about one instruction, or 64 bytes of output, each).
const FUEL: u64 = 200_000;

/// Rounds until a scalar must have settled.
const MAX_ROUNDS: usize = 24;

/// Texts that one evaluation may turn into collections, whose parts are evaluated again, and how deep these may nest.
const MAX_LITERALS: usize = 10_000;
const MAX_LITERAL_DEPTH: usize = 24;

/// Bytes a scalar may grow to.
const MAX_TEXT: usize = 1 << 20;

/// The template engine: Jinja2 as Kur set it up, except that undefined names are errors.
pub struct Engine {
    env: Environment<'static>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Default for Engine {
    fn default() -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_debug(true);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(64);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.set_formatter(|out, _, value| {
            out.write_str(&bridge::str_of(value))?;
            Ok(())
        });
        filters::add(&mut env);
        Engine { env }
    }
}

impl Engine {
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
        for round in 0..MAX_ROUNDS {
            let rendered = if needs_render(&text) {
                match self.render(&text, scope) {
                    Ok(t) => t,
                    Err(e) => {
                        let place = report::Place { value, text: &text, first: round == 0, sources };
                        return Err(sink.fail(report::render_error(&e, &place, scope, &self.env)));
                    }
                }
            } else {
                text.clone()
            };
            if rendered.len() > MAX_TEXT {
                return Err(sink.fail(report::too_long(value)));
            }
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
            text = next;
        }
        Err(sink.fail(report::cycle(value, &text)))
    }

    fn render(&self, text: &str, scope: &Scope) -> Result<String, minijinja::Error> {
        self.env.template_from_str(text)?.render(scope.context())
    }
}

/// One recursive evaluation. Text that evaluates to a collection is evaluated again inside, so a text whose parts lead
/// back to it would never end; the counts stop that.
struct Deep<'a> {
    engine: &'a Engine,
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
                    return Err(self.sink.fail(report::cycle(value, text)));
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

/// Whether Jinja would change the text: it has a tag, or a line end at its end, which Jinja strips.
fn needs_render(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#") || text.ends_with('\n')
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
