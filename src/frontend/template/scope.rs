//! The names a template sees (kur-reference 1.4): a list in which later entries hide earlier ones.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use minijinja::Value as Jinja;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::bridge::to_jinja;
use crate::frontend::value::{Entry, Value};

/// Names and values, innermost last. Cloning is cheap; a clone with more names is a nested scope.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    innermost: Arc<Frame>,
}

/// The names that were added to one scope, on top of those of the scopes around it.
#[derive(Clone, Debug, Default)]
struct Frame {
    vars: Vec<(String, Jinja)>,
    /// The last place of each name in `vars`; never iterated.
    places: HashMap<String, usize>,
    outer: Option<Arc<Frame>>,
}

impl Frame {
    fn push(&mut self, name: &str, value: Jinja) {
        self.places.insert(name.to_owned(), self.vars.len());
        self.vars.push((name.to_owned(), value));
    }
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

    /// Adds a section that is being evaluated.
    pub fn push_section(&mut self, name: &str, section: &LiveSection) {
        self.push_jinja(name, Jinja::from_object(section.clone()));
    }

    fn push_jinja(&mut self, name: &str, value: Jinja) {
        match Arc::get_mut(&mut self.innermost) {
            Some(frame) => frame.push(name, value),
            None => {
                let mut frame = Frame { outer: Some(self.innermost.clone()), ..Frame::default() };
                frame.push(name, value);
                self.innermost = Arc::new(frame);
            }
        }
    }

    /// Replaces the innermost entry of a name where it stands, if it was added since the scope was last cloned.
    pub fn replace(&mut self, name: &str, value: &Value) {
        if let Some(&place) = self.innermost.places.get(name) {
            Arc::make_mut(&mut self.innermost).vars[place].1 = to_jinja(value);
        }
    }

    /// Replaces the outermost entry of a name where it stands; without one, adds it as the outermost.
    pub fn replace_outermost(&mut self, name: &str, value: &Value) {
        let value = to_jinja(value);
        let mut frames: Vec<&Frame> = self.frames().collect();
        frames.reverse();
        let all = || frames.iter().flat_map(|f| &f.vars);
        let place = all().position(|(n, _)| n == name);
        let mut flat = Frame::default();
        if place.is_none() {
            flat.push(name, value.clone());
        }
        for (i, (n, v)) in all().enumerate() {
            flat.push(n, if place == Some(i) { value.clone() } else { v.clone() });
        }
        self.innermost = Arc::new(flat);
    }

    /// The frames, innermost first.
    fn frames(&self) -> impl Iterator<Item = &Frame> {
        std::iter::successors(Some(&*self.innermost), |f| f.outer.as_deref())
    }

    /// Looks a name up.
    pub(super) fn find(&self, name: &str) -> Option<&Jinja> {
        self.frames().find_map(|f| Some(&f.vars[*f.places.get(name)?].1))
    }

    /// All names, sorted, each once.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.frames().flat_map(|f| &f.vars).map(|(n, _)| n.as_str()).collect();
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
    places: HashMap<String, usize>,
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

/// A section while its keys are evaluated one after the other: each sees those before it evaluated.
#[derive(Clone, Debug)]
pub struct LiveSection(Arc<Section>);

#[derive(Debug)]
struct Section {
    keys: Vec<Jinja>,
    /// Where a text key is in `keys`; never iterated.
    places: HashMap<String, usize>,
    values: RwLock<Vec<Jinja>>,
}

impl LiveSection {
    /// The section as it is written.
    #[must_use]
    pub fn new(entries: &[Entry]) -> LiveSection {
        let texts = entries.iter().enumerate().filter_map(|(i, e)| Some((e.key.as_str()?.to_owned(), i)));
        LiveSection(Arc::new(Section {
            keys: entries.iter().map(|e| to_jinja(&e.key)).collect(),
            places: texts.collect(),
            values: RwLock::new(entries.iter().map(|e| to_jinja(&e.value)).collect()),
        }))
    }

    /// Replaces the value of an entry, by its place.
    pub fn set(&self, place: usize, value: &Value) {
        let mut values = self.0.values.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = values.get_mut(place) {
            *old = to_jinja(value);
        }
    }
}

impl Object for LiveSection {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let place = match key.as_str() {
            Some(text) => *self.0.places.get(text)?,
            None => self.0.keys.iter().position(|k| k == key)?,
        };
        self.0.values.read().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys.clone())
    }
}
