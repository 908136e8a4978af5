//! The names a template sees (kur-reference 1.4): frames in which inner names hide equal outer ones.
//!
//! Besides plain values a scope holds *live* ones, which change while the Kurfile is read, and *poisoned* paths: values
//! that could not be evaluated. What was wrong with them is reported already, so templates that use them fail silently.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use minijinja::Value as Jinja;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::bridge::to_jinja;
use crate::diag::Reported;
use crate::frontend::python;
use crate::frontend::value::{Kind, Value};

/// Names and values. Cloning is cheap; a clone with more names is a nested scope.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    top: Arc<Frame>,
    poison: Arc<BTreeMap<String, Reported>>,
}

#[derive(Debug, Default)]
struct Frame {
    vars: BTreeMap<String, Jinja>,
    outer: Option<Arc<Frame>>,
}

impl Scope {
    /// Adds a name that hides all equal ones.
    pub fn push(&mut self, name: &str, value: &Value) {
        self.push_jinja(name, to_jinja(value));
    }

    /// Adds a text.
    pub fn push_text(&mut self, name: &str, text: Option<&str>) {
        self.push_jinja(name, text.map_or(Jinja::from(()), Jinja::from));
    }

    /// Adds a list that grows while the model is read.
    pub fn push_list(&mut self, name: &str, list: &LiveList) {
        self.push_jinja(name, Jinja::from_object(list.clone()));
    }

    /// Adds a mapping that grows while the model is read.
    pub fn push_map(&mut self, name: &str, map: &LiveMap) {
        self.push_jinja(name, Jinja::from_object(map.clone()));
    }

    /// Adds a mapping whose values are replaced by evaluated ones.
    pub fn push_tree(&mut self, name: &str, tree: &LiveTree) {
        self.push_jinja(name, Jinja::from_object(tree.clone()));
    }

    fn push_jinja(&mut self, name: &str, value: Jinja) {
        match Arc::get_mut(&mut self.top) {
            Some(frame) => {
                frame.vars.insert(name.to_owned(), value);
            }
            None => {
                let vars = BTreeMap::from([(name.to_owned(), value)]);
                self.top = Arc::new(Frame { vars, outer: Some(self.top.clone()) });
            }
        }
    }

    /// Marks a path, such as `settings.size` or `size`, as one whose value could not be evaluated.
    pub fn poison(&mut self, path: &str, reported: Reported) {
        Arc::make_mut(&mut self.poison).insert(path.to_owned(), reported);
    }

    /// Whether any path is poisoned.
    pub(super) fn has_poison(&self) -> bool {
        !self.poison.is_empty()
    }

    /// The report of a poisoned value that the path leads to or through.
    pub(super) fn poisoned(&self, path: &str) -> Option<Reported> {
        let mut ends = path.match_indices('.').map(|(i, _)| i).chain([path.len()]);
        ends.find_map(|end| self.poison.get(&path[..end]).copied())
    }

    /// The report of a poisoned value somewhere inside the value the path leads to.
    pub(super) fn poisoned_inside(&self, path: &str) -> Option<Reported> {
        let below = format!("{path}.");
        self.poison.range(below.clone()..).next().filter(|(p, _)| p.starts_with(&below)).map(|(_, r)| *r)
    }

    /// Looks a name up.
    pub(super) fn find(&self, name: &str) -> Option<&Jinja> {
        self.frames().find_map(|f| f.vars.get(name))
    }

    fn frames(&self) -> impl Iterator<Item = &Frame> {
        std::iter::successors(Some(&*self.top), |f| f.outer.as_deref())
    }

    /// All names, sorted, each once.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.frames().flat_map(|f| f.vars.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn context(&self) -> Jinja {
        Jinja::from_object(Context(self.clone()))
    }
}

#[derive(Debug)]
struct Context(Scope);

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.0.find(key.as_str()?).cloned()
    }
}

/// A list of names that grows while the model is read: `layers`.
#[derive(Clone, Debug, Default)]
pub struct LiveList(Arc<RwLock<Vec<String>>>);

impl LiveList {
    /// Appends a name.
    pub fn add(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }
}

impl Object for LiveList {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let list = self.0.read().unwrap_or_else(PoisonError::into_inner);
        list.get(key.as_usize()?).map(Jinja::from)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.read().unwrap_or_else(PoisonError::into_inner).len())
    }
}

/// A mapping of names that grows while the model is read: `tags`, `oldest`.
#[derive(Clone, Debug, Default)]
pub struct LiveMap(Arc<RwLock<Names>>);

#[derive(Debug, Default)]
struct Names {
    pairs: Vec<(String, String)>,
    /// Where a key is in `pairs`; never iterated.
    places: BTreeMap<String, usize>,
}

impl LiveMap {
    /// Sets a key; with `keep`, the first value stays.
    pub fn set(&self, key: &str, value: &str, keep: bool) {
        let mut guard = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Names { pairs, places } = &mut *guard;
        match places.get(key) {
            Some(_) if keep => {}
            Some(place) => value.clone_into(&mut pairs[*place].1),
            None => {
                places.insert(key.to_owned(), pairs.len());
                pairs.push((key.to_owned(), value.to_owned()));
            }
        }
    }
}

impl Object for LiveMap {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.places.get(key.as_str()?).map(|place| Jinja::from(map.pairs[*place].1.as_str()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Enumerator::Values(map.pairs.iter().map(|(k, _)| Jinja::from(k.as_str())).collect())
    }
}

/// A mapping, with the mappings in it, whose values can be replaced: a section while it is evaluated, and `parsed`.
#[derive(Clone, Debug, Default)]
pub struct LiveTree(Arc<RwLock<Branch>>);

#[derive(Debug, Default)]
struct Branch {
    pairs: Vec<(Jinja, Twig)>,
    /// Where each key stands, by its printed form.
    places: BTreeMap<String, usize>,
}

#[derive(Debug)]
enum Twig {
    Value(Jinja),
    Tree(LiveTree),
}

impl LiveTree {
    /// A tree of a mapping; of anything else an empty one.
    #[must_use]
    pub fn new(value: &Value) -> LiveTree {
        let mut branch = Branch::default();
        for e in value.as_map().unwrap_or_default() {
            branch.places.insert(python::repr(&e.key), branch.pairs.len());
            branch.pairs.push((to_jinja(&e.key), Twig::new(&e.value)));
        }
        LiveTree(Arc::new(RwLock::new(branch)))
    }

    /// Replaces or adds the value of a key.
    pub fn set(&self, key: &Value, value: &Value) {
        let mut branch = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let text = python::repr(key);
        match branch.places.get(&text).copied() {
            Some(i) => branch.pairs[i].1 = Twig::new(value),
            None => {
                let place = branch.pairs.len();
                branch.places.insert(text, place);
                branch.pairs.push((to_jinja(key), Twig::new(value)));
            }
        }
    }

    /// The mapping under a key.
    #[must_use]
    pub fn inner(&self, key: &Value) -> Option<LiveTree> {
        let branch = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &branch.pairs[*branch.places.get(&python::repr(key))?].1 {
            Twig::Tree(tree) => Some(tree.clone()),
            Twig::Value(_) => None,
        }
    }
}

impl Twig {
    fn new(value: &Value) -> Twig {
        match &value.kind {
            Kind::Map(_) => Twig::Tree(LiveTree::new(value)),
            _ => Twig::Value(to_jinja(value)),
        }
    }
}

impl Object for LiveTree {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let branch = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let text = python::repr(&super::bridge::from_jinja(key));
        match &branch.pairs.get(*branch.places.get(&text)?)?.1 {
            Twig::Value(v) => Some(v.clone()),
            Twig::Tree(tree) => Some(Jinja::from_object(tree.clone())),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let branch = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Enumerator::Values(branch.pairs.iter().map(|(k, _)| k.clone()).collect())
    }
}
