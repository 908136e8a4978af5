//! Keys without a value that erase what an included file says.

use crate::frontend::Value;
use crate::frontend::value::{Entry, Kind};
use crate::model::cx::Cx;
use crate::model::report::lint::erased_include;

/// Warns of every bare key, anywhere in the tree, that hides a list or mapping of another file. A written `null` is
/// meant. This runs before anything is evaluated, since it may explain an error.
///
/// Warnings: `erased-include`.
pub(in crate::model) fn check(cx: &mut Cx<'_>, value: &Value) {
    match &value.kind {
        Kind::List(items) => items.iter().for_each(|v| check(cx, v)),
        Kind::Map(entries) => {
            for e in entries {
                if let Some(lost) = erased(e) {
                    let name = cx.sources.name(lost.span.file).to_owned();
                    cx.push(erased_include(&e.key, lost.span, &name));
                }
                check(cx, &e.value);
            }
        }
        _ => {}
    }
}

fn erased(e: &Entry) -> Option<&Value> {
    let bare = e.value.is_null() && e.value.written.as_deref().is_some_and(str::is_empty);
    e.value.hidden().iter().find(|lost| {
        let content = match &lost.kind {
            Kind::List(v) => !v.is_empty(),
            Kind::Map(m) => !m.is_empty(),
            _ => false,
        };
        bare && content && lost.span.file != e.value.span.file
    })
}
