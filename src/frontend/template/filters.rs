//! Kur's own filters (kur-reference 1.5): `basename`, `dirname`, `splitext`, `combine`, `as_dict`, `ternary`.

use std::collections::BTreeMap;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// Adds them to an environment.
pub(super) fn add(env: &mut Environment<'static>) {
    env.add_filter("basename", |path: &str| split_path(path).1.to_owned());
    env.add_filter("dirname", |path: &str| {
        let head = split_path(path).0;
        let cut = head.trim_end_matches('/');
        if cut.is_empty() { head.to_owned() } else { cut.to_owned() }
    });
    env.add_filter("splitext", |path: &str| {
        let (stem, extension) = split_extension(path);
        Value::from(Tuple::new(vec![Value::from(stem), Value::from(extension)]))
    });
    env.add_filter("combine", combine);
    env.add_filter("as_dict", |value: Value, key: Value| Value::from_pairs([(key, value)]));
    env.add_filter("ternary", |value: Value, yes: Value, no: Value| if value.is_true() { yes } else { no });
    env.add_filter("_list", list);
    env.add_global("joiner", Value::from_function(minijinja_contrib::globals::joiner));
}

/// A list that is only promised, made and paid for: `rewrite.rs` puts this before subscripts.
fn list(state: &State, value: Value) -> Result<Value, Error> {
    match value.len() {
        Some(len) if value.kind() == ValueKind::Iterable => {
            state.consume_fuel(len as u64)?;
            Ok(Value::from(value.try_iter()?.collect::<Vec<_>>()))
        }
        _ => Ok(value),
    }
}

/// Python's `os.path.split` without the trimming: everything up to the last `/`, and the rest.
fn split_path(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |n| n + 1))
}

/// Python's `os.path.splitext`: leading dots of the last component do not start an extension.
fn split_extension(path: &str) -> (&str, &str) {
    let (head, name) = split_path(path);
    let dots = name.len() - name.trim_start_matches('.').len();
    match name[dots..].rfind('.') {
        Some(n) => path.split_at(head.len() + dots + n),
        None => (path, ""),
    }
}

/// A copy of a mapping with the pairs of another one set in it.
fn combine(state: &State, old: &Value, new: Option<Value>) -> Result<Value, Error> {
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    let mut places: BTreeMap<Value, usize> = BTreeMap::new();
    for map in [Some(old.clone()), new].into_iter().flatten() {
        if map.kind() != ValueKind::Map {
            return Err(Error::new(ErrorKind::InvalidOperation, "`combine` joins two mappings"));
        }
        for key in map.try_iter()? {
            state.consume_fuel(1)?;
            let value = map.get_item(&key)?;
            match places.get(&key) {
                Some(&i) => pairs[i].1 = value,
                None => {
                    places.insert(key.clone(), pairs.len());
                    pairs.push((key, value));
                }
            }
        }
    }
    Ok(Value::from_pairs(pairs))
}
