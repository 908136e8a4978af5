//! The names a template sees (kur-reference 1.4): a list in which later entries hide earlier ones.

use std::sync::{Arc, PoisonError, RwLock};

use minijinja::Value as Jinja;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::bridge::to_jinja;
use crate::frontend::value::Value;

/// Names and values, innermost last. Cloning is cheap; a clone with more names is a nested scope.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    vars: Arc<Vec<(String, Jinja)>>,
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

    fn push_jinja(&mut self, name: &str, value: Jinja) {
        Arc::make_mut(&mut self.vars).push((name.to_owned(), value));
    }

    /// Replaces the outermost entry of a name where it stands; without one, adds it as the outermost.
    pub fn replace_outermost(&mut self, name: &str, value: &Value) {
        let vars = Arc::make_mut(&mut self.vars);
        match vars.iter_mut().find(|(n, _)| n == name) {
            Some((_, v)) => *v = to_jinja(value),
            None => vars.insert(0, (name.to_owned(), to_jinja(value))),
        }
    }

    /// Looks a name up.
    pub(super) fn find(&self, name: &str) -> Option<&Jinja> {
        self.vars.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// All names, sorted, each once.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.vars.iter().map(|(n, _)| n.as_str()).collect();
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
pub struct LiveMap(Arc<RwLock<Vec<(String, String)>>>);

impl LiveMap {
    /// Sets a key; with `keep`, the first value stays.
    pub fn set(&self, key: &str, value: &str, keep: bool) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match map.iter_mut().find(|(k, _)| k == key) {
            Some(_) if keep => {}
            Some((_, v)) => value.clone_into(v),
            None => map.push((key.to_owned(), value.to_owned())),
        }
    }
}

impl Object for LiveMap {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.iter().find(|(k, _)| Some(k.as_str()) == key.as_str()).map(|(_, v)| Jinja::from(v.as_str()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Enumerator::Values(map.iter().map(|(k, _)| Jinja::from(k.as_str())).collect())
    }
}
