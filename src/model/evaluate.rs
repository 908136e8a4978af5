//! One section, raw -> evaluated (kur-reference 1.3 and 1.4).
//!
//! The section's own values are in scope under its name, those of `settings` also by their bare names. Kur shows them
//! raw, so that `{{ b + 1 }}` fails where `b` is a template itself; here each value is evaluated after those it uses,
//! wherever they stand. Values that use each other in a circle are found on the way and told with their places.
//!
//! Units are the values below the section's mappings: scalars, and lists as wholes.

use std::collections::BTreeMap;

use crate::diag::{Reported, Sink};
use crate::frontend::Value;
use crate::frontend::template::LiveTree;
use crate::frontend::value::{Entry, Kind};

use super::cx::Cx;
use super::report::evaluate::circle;

/// Evaluates a section; with `spread` its keys are in scope by themselves.
///
/// A key that cannot be evaluated, wholly or in part, is reported and left out, and poisoned in the scope so that
/// templates that use it do not fail once more; the flag says whether that happened.
pub(super) fn section(cx: &mut Cx<'_>, section: &Entry, spread: bool) -> (Value, Result<(), Reported>) {
    let name = section.key.as_str().unwrap_or_default();
    let Kind::Map(entries) = &section.value.kind else {
        let outer = cx.scope.clone();
        cx.scope.push(name, &section.value);
        let value = cx.deep(&section.value);
        cx.scope = outer;
        return match value {
            Ok(value) => (value, Ok(())),
            Err(reported) => (section.value.with_kind(Kind::Null), Err(reported)),
        };
    };
    let outer = cx.scope.clone();
    let tree = LiveTree::new(&section.value);
    if spread {
        for e in entries {
            if let Some(key) = e.key.as_str() {
                match tree.inner(&e.key) {
                    Some(inner) => cx.scope.push_tree(key, &inner),
                    None => cx.scope.push(key, &e.value),
                }
            }
        }
    }
    cx.scope.push_tree(name, &tree);
    let mut units = Vec::new();
    collect(entries, &tree, &mut Vec::new(), &mut units);
    let places = units.iter().enumerate().map(|(i, u)| (u.path.clone(), i)).collect();
    let mut order = Order { cx, name, spread, units, places };
    order.run();
    let mut done: Vec<Option<Result<Value, Reported>>> = order.units.into_iter().map(|u| u.result).collect();
    cx.scope = outer;
    let mut state = Ok(());
    let mut next = 0;
    let mut out = Vec::new();
    for e in entries {
        match rebuild(&e.value, &mut done, &mut next) {
            Ok(value) => out.push(Entry { key: e.key.clone(), value }),
            Err(reported) => {
                state = Err(reported);
                if let Some(key) = e.key.as_str() {
                    cx.scope.poison(&format!("{name}.{key}"), reported);
                    if spread {
                        cx.scope.poison(key, reported);
                    }
                }
            }
        }
    }
    (section.value.with_kind(Kind::Map(out)), state)
}

/// A value that is evaluated at once.
struct Unit<'v> {
    key: &'v Value,
    value: &'v Value,
    /// Its keys from the section down; those that are no text cannot be told apart in templates.
    path: Vec<String>,
    /// The mapping it stands in, as templates see it.
    parent: LiveTree,
    state: State,
    result: Option<Result<Value, Reported>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// Waits for what it uses.
    Open,
    Done,
}

fn collect<'v>(entries: &'v [Entry], tree: &LiveTree, path: &mut Vec<String>, out: &mut Vec<Unit<'v>>) {
    for e in entries {
        path.push(e.key.as_str().unwrap_or_default().to_owned());
        match (&e.value.kind, tree.inner(&e.key)) {
            (Kind::Map(inner), Some(branch)) => collect(inner, &branch, path, out),
            _ => out.push(Unit {
                key: &e.key,
                value: &e.value,
                path: path.clone(),
                parent: tree.clone(),
                state: State::New,
                result: None,
            }),
        }
        path.pop();
    }
}

/// The value with all units replaced by their results, which come in the same order.
fn rebuild(value: &Value, done: &mut [Option<Result<Value, Reported>>], next: &mut usize) -> Result<Value, Reported> {
    let Kind::Map(entries) = &value.kind else {
        let result = done[*next].take();
        *next += 1;
        return result.unwrap_or_else(|| Ok(value.clone()));
    };
    let mut state = Ok(());
    let mut out = Vec::new();
    for e in entries {
        match rebuild(&e.value, done, next) {
            Ok(value) => out.push(Entry { key: e.key.clone(), value }),
            Err(reported) => state = Err(reported),
        }
    }
    state.map(|()| value.with_kind(Kind::Map(out)))
}

/// Evaluation in the order of use.
struct Order<'c, 'a, 'v> {
    cx: &'c mut Cx<'a>,
    name: &'v str,
    spread: bool,
    units: Vec<Unit<'v>>,
    /// Units by path; of equal paths, which only keys that are no text have, the last.
    places: BTreeMap<Vec<String>, usize>,
}

/// A unit that waits, and what it waits for.
struct Open {
    unit: usize,
    /// Units, and whether one that waits itself makes a circle.
    uses: Vec<(usize, bool)>,
    next: usize,
    /// The units of a circle that leads back to a unit that waits, this one last.
    circle: Vec<usize>,
}

impl Order<'_, '_, '_> {
    fn run(&mut self) {
        for start in 0..self.units.len() {
            if self.units[start].state != State::New {
                continue;
            }
            // A stack of its own: chains of values may be longer than the program's stack is deep.
            let mut stack = vec![self.open(start)];
            while let Some(top) = stack.last_mut() {
                let Some(&(unit, strict)) = top.uses.get(top.next) else {
                    let Some(top) = stack.pop() else { break };
                    self.evaluate(top.unit, &top.circle);
                    continue;
                };
                top.next += 1;
                match self.units[unit].state {
                    State::Done => {}
                    State::New => {
                        let open = self.open(unit);
                        stack.push(open);
                    }
                    State::Open if !strict => {}
                    State::Open => {
                        let first = stack.iter().position(|o| o.unit == unit).unwrap_or(0);
                        let circle = stack[first..].iter().map(|o| o.unit).collect();
                        if let Some(top) = stack.last_mut() {
                            top.circle = circle;
                        }
                    }
                }
            }
        }
    }

    fn open(&mut self, unit: usize) -> Open {
        self.units[unit].state = State::Open;
        let mut uses = Vec::new();
        for path in self.cx.engine.uses(self.units[unit].value) {
            self.used(unit, &path, &mut uses);
        }
        Open { unit, uses, next: 0, circle: Vec::new() }
    }

    /// The units of this section that a path in a template of `unit` leads to, or through.
    fn used(&self, unit: usize, path: &str, out: &mut Vec<(usize, bool)>) {
        let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
        let inside = match steps.split_first() {
            Some((first, rest)) if first == self.name => rest,
            _ if self.spread => &steps[..],
            _ => return,
        };
        // Of a mapping around the unit itself any value may be meant (`settings[kind]`): all are evaluated first, but
        // for those that wait for this one.
        let around = self.units[unit].path.len() > inside.len() && self.units[unit].path.starts_with(inside);
        let through = (1..inside.len()).filter_map(|n| self.places.get(&inside[..n])).copied();
        let below = self.places.range(inside.to_vec()..).take_while(|(p, _)| p.starts_with(inside)).map(|(_, i)| *i);
        out.extend(through.chain(below).filter(|i| !around || *i != unit).map(|i| (i, !around)));
    }

    fn evaluate(&mut self, unit: usize, circled: &[usize]) {
        let Unit { key, value, .. } = self.units[unit];
        let mut found = Sink::default();
        let result = self.cx.engine.eval_deep(value, &self.cx.scope, self.cx.sources, &mut found);
        // A template that gives itself settles at once, and is a circle all the same.
        let same = |v: &Value| matches!(v.kind, Kind::Str(..)) && v.same(value) && circled == [unit];
        let result = match result {
            Err(_) if !circled.is_empty() => {
                let units: Vec<(&str, &Value)> =
                    circled.iter().map(|i| (self.label(*i), self.units[*i].value)).collect();
                Err(self.cx.sink.fail(circle(self.name, &units)))
            }
            Ok(v) if same(&v) => Err(self.cx.sink.fail(circle(self.name, &[(self.label(unit), value)]))),
            other => {
                for d in found.sorted() {
                    self.cx.sink.push(d);
                }
                other
            }
        };
        let path = self.units[unit].path.join(".");
        match &result {
            Ok(value) => {
                self.units[unit].parent.set(key, value);
                if self.spread && self.units[unit].path.len() == 1 {
                    self.cx.scope.push(&path, value);
                }
            }
            Err(reported) => {
                self.cx.scope.poison(&format!("{}.{path}", self.name), *reported);
                if self.spread {
                    self.cx.scope.poison(&path, *reported);
                }
            }
        }
        self.units[unit].state = State::Done;
        self.units[unit].result = Some(result);
    }

    /// The key that messages name a unit by.
    fn label(&self, unit: usize) -> &str {
        self.units[unit].path.last().map_or("", String::as_str)
    }
}
