//! Findings of the evaluation of sections.

use crate::diag::Diagnostic;
use crate::frontend::Value;
use crate::frontend::value::AtValue;

/// Values that use each other in a circle, each with its key; each uses the next, the last one the first.
pub(crate) fn circle(section: &str, units: &[(&str, &Value)]) -> Diagnostic {
    let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    let next = |i: usize| names[(i + 1) % names.len()];
    let message = match names.as_slice() {
        [one] => format!("`{one}` of `{section}` is computed from itself"),
        [one, other] => format!("`{one}` and `{other}` of `{section}` are computed from each other"),
        [one, ..] => format!("`{one}` of `{section}` is computed from itself through {} others", names.len() - 1),
        [] => format!("a value of `{section}` is computed from itself"),
    };
    let mut d = Diagnostic::error("template-cycle", message);
    for (i, (_, value)) in units.iter().enumerate() {
        let label = format!("needs `{}`", next(i));
        d = if i == 0 { d.at_value(value, label) } else { d.also(value.span, label) };
    }
    if names.len() > 2 {
        let circle: Vec<&str> = names.iter().copied().chain(names.first().copied()).collect();
        d = d.note(format!("the circle is {}", circle.join(" → ")));
    }
    d.help(if names.len() == 1 { "let it be a plain value" } else { "let one of them be a plain value" })
}
