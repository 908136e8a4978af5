//! `load_json(FILE)`, `load_yaml(FILE)` and `gpu_count()` in templates (kur-reference 1.5).
//!
//! Functions of the template engine cannot reach the outside. So a file that was not read yet makes the render fail with
//! a wish; the engine grants it and renders again. Paths are expanded and relative to the folder of the Kurfile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::{Environment, Error, ErrorKind, Value as Jinja};

use super::bridge::to_jinja;
use crate::diag::{Sink, SourceMap};
use crate::frontend::world::{World, expand_path};
use crate::frontend::{json, yaml};

/// Files that the templates of one Kurfile may read. A template starts anew for each file it reads first.
const MAX_FILES: usize = 64;

/// Bytes that such a file may have.
const MAX_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    Json,
    Yaml,
}

/// Files read so far, and the one that is wanted.
#[derive(Debug, Default)]
struct Shelf {
    read: BTreeMap<(Format, String), Result<Jinja, String>>,
    wanted: Option<(Format, String)>,
}

/// The files that templates read.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(Arc<Mutex<Shelf>>);

impl Files {
    /// Adds the functions to an environment.
    pub(super) fn add(&self, env: &mut Environment<'static>, gpus: u64) {
        for (name, format) in [("load_json", Format::Json), ("load_yaml", Format::Yaml)] {
            let files = self.clone();
            // Every file is read once, whatever `use_cache` says: it cannot change during a compilation.
            env.add_function(name, move |path: &str, _use_cache: Option<Jinja>| files.get(name, format, path));
        }
        env.add_function("gpu_count", move || gpus);
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &str, format: Format, path: &str) -> Result<Jinja, Error> {
        let fail = |text: String| Error::new(ErrorKind::InvalidOperation, text);
        let mut shelf = self.shelf();
        match shelf.read.get(&(format, path.to_owned())) {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(text)) => Err(fail(format!("`{name}`: {text}"))),
            None if shelf.read.len() >= MAX_FILES => Err(fail(format!("templates read more than {MAX_FILES} files"))),
            None => {
                shelf.wanted = Some((format, path.to_owned()));
                Err(fail(format!("`{name}` waits for `{path}`")))
            }
        }
    }

    /// Reads the file that the last render wanted; false when it wanted none.
    pub(super) fn grant(&self, world: &dyn World, dir: &str) -> bool {
        let Some((format, path)) = self.shelf().wanted.take() else { return false };
        let expanded = expand_path(world, &path);
        let full = if expanded.starts_with('/') { expanded } else { format!("{dir}{expanded}") };
        let value = load(world, format, &full);
        self.shelf().read.insert((format, path), value);
        true
    }
}

fn load(world: &dyn World, format: Format, path: &str) -> Result<Jinja, String> {
    let bytes = world.read_file(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => format!("there is no file `{path}`"),
        _ => format!("cannot read `{path}`: {e}"),
    })?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("`{path}` has more than {} MB", MAX_BYTES >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("`{path}` is not UTF-8 text"))?;
    let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
    let file = sources.add(path, text.as_str());
    let value = match format {
        Format::Json => json::read(&text, file, &mut sink),
        Format::Yaml => yaml::read(&text, file, &mut sink),
    };
    value.map(|v| to_jinja(&v)).map_err(|_| {
        let first = sink.sorted().into_iter().find(|d| d.severity == crate::diag::Severity::Error);
        let Some(d) = first else { return format!("cannot read `{path}`") };
        let place = d.primary.map(|(span, _)| sources.line_col(span));
        place.map_or(d.message.clone(), |(line, column)| format!("{path}:{line}:{column}: {}", d.message))
    })
}
