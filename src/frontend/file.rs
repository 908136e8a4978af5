//! A path -> the value tree of that file: expansion, existence, extension, encoding (kur-reference 1.1).

use std::io::ErrorKind;

use crate::diag::{Diagnostic, FileId, Reported, Sink, SourceMap, Span, did_you_mean};
use crate::frontend::world::{World, expand_path};
use crate::frontend::{Value, json, yaml};

/// Reads a Kurfile; the reader is chosen by the extension.
///
/// # Errors
/// `missing-file`, `unreadable-file`, `unknown-extension`, `not-utf8`, and those of the readers.
pub fn read(
    world: &dyn World,
    path: &str,
    sources: &mut SourceMap,
    sink: &mut Sink,
) -> Result<(FileId, Value), Reported> {
    let expanded = expand_path(world, path);
    read_as(world, path, &expanded, sources, sink)
}

/// Reads a file at a path that needs no expansion and is shown as `path`.
pub(super) fn read_as(
    world: &dyn World,
    path: &str,
    expanded: &str,
    sources: &mut SourceMap,
    sink: &mut Sink,
) -> Result<(FileId, Value), Reported> {
    let bytes = match world.read_file(expanded) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(sink.fail(missing_file(world, path, expanded))),
        Err(e) => return Err(sink.fail(unreadable_file(path, &e))),
    };
    let extension = match expanded.rsplit('/').next().and_then(|name| name.rsplit_once('.')) {
        Some((_, extension)) => extension.to_ascii_lowercase(),
        None => String::new(),
    };
    if !matches!(extension.as_str(), "yml" | "yaml" | "json") {
        return Err(sink.fail(unknown_extension(path, &extension)));
    }
    let (file, text) = match String::from_utf8(bytes) {
        Ok(text) => (sources.add(path, text.as_str()), text),
        Err(e) => return Err(sink.fail(not_utf8(path, &e, sources))),
    };
    let value = if extension == "json" { json::read(&text, file, sink)? } else { yaml::read(&text, file, sink)? };
    Ok((file, value))
}

fn missing_file(world: &dyn World, path: &str, expanded: &str) -> Diagnostic {
    let d = Diagnostic::error("missing-file", format!("there is no file `{path}`"));
    let (dir, name) = expanded.rsplit_once('/').unwrap_or((".", expanded));
    let names = world.list_dir(dir);
    let kurfiles =
        || names.iter().map(String::as_str).filter(|n| [".yml", ".yaml", ".json"].iter().any(|e| n.ends_with(e)));
    let show = |n: &str| if expanded.contains('/') { format!("{dir}/{n}") } else { n.to_owned() };
    if let Some(near) = did_you_mean(name, kurfiles()) {
        return d.help(format!("did you mean `{}`?", show(near)));
    }
    match kurfiles().next() {
        Some(first) => d.help(format!("that folder holds `{}`", show(first))),
        None => d.help("give the path of a Kurfile: a `.yml`, `.yaml` or `.json` file"),
    }
}

fn unreadable_file(path: &str, e: &std::io::Error) -> Diagnostic {
    let d = Diagnostic::error("unreadable-file", format!("cannot read `{path}`: {e}"));
    if e.kind() == ErrorKind::IsADirectory {
        return d.help("give the path of the Kurfile inside this folder");
    }
    d
}

fn unknown_extension(path: &str, extension: &str) -> Diagnostic {
    let what = if extension.is_empty() { "no extension".to_owned() } else { format!("the extension `.{extension}`") };
    Diagnostic::error("unknown-extension", format!("`{path}` has {what}, so its format is unknown"))
        .help("name a Kurfile `.yml` or `.yaml` (YAML), or `.json`")
}

fn not_utf8(path: &str, e: &std::string::FromUtf8Error, sources: &mut SourceMap) -> Diagnostic {
    let bad = e.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(e.as_bytes()).into_owned();
    let file = sources.add(path, text);
    Diagnostic::error("not-utf8", format!("`{path}` is not UTF-8 text"))
        .at(Span::new(file, bad, bad + '\u{fffd}'.len_utf8()), "the first byte that is not UTF-8")
        .help("save the file with the encoding UTF-8")
}
