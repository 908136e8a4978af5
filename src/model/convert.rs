//! Evaluated value -> Rust value, with an error that names the found value and the expected one.
//!
//! `what` in these functions is the subject of the error: "`size` of `dense`".

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;

use super::cx::Cx;
use super::report::values::{out_of_range, unknown_word, wrong_type};
use super::table::Range;

/// A path. Numbers are taken as written.
pub(super) fn path(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<String, Reported> {
    written(value).ok_or_else(|| cx.fail(wrong_type(value, what, "a path")))
}

/// Text. Numbers and booleans give the text they were written as, so that a column named `2017` needs no quotes.
pub(super) fn text(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<String, Reported> {
    written(value).ok_or_else(|| cx.fail(wrong_type(value, what, "text")))
}

/// A text; a number or a flag as it is written, since names may look like one.
pub(super) fn written(value: &Value) -> Option<String> {
    match (&value.kind, &value.written) {
        (Kind::Str(s, _), _) => Some(s.to_string()).filter(|s| !s.is_empty()),
        (Kind::Int(_) | Kind::Float(_) | Kind::Bool(_), Some(written)) => Some(written.to_string()),
        _ => None,
    }
}

/// A whole number of at least `min`. A float without a fraction is taken, as Python's `int()` would.
pub(super) fn whole(cx: &mut Cx<'_>, value: &Value, what: &str, min: u64) -> Result<u64, Reported> {
    let expected = if min == 0 { "a whole number".to_owned() } else { format!("a whole number of at least {min}") };
    let Some(n) = integral(value) else { return Err(cx.fail(wrong_type(value, what, &expected))) };
    // Such numbers only come from mistakes, and products of them would overflow.
    if n >= 1 << 48 {
        return Err(cx.fail(out_of_range(value, what, "a whole number below 2⁴⁸")));
    }
    match u64::try_from(n) {
        Ok(n) if n >= min => Ok(n),
        _ => Err(cx.fail(out_of_range(value, what, &format!("a whole number of at least {min}")))),
    }
}

/// A whole number of either sign.
pub(super) fn integer(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<i64, Reported> {
    let n = integral(value).and_then(|n| i64::try_from(n).ok());
    n.ok_or_else(|| cx.fail(wrong_type(value, what, "a whole number")))
}

/// A whole number; a float without a fraction is one.
pub(super) fn integral(value: &Value) -> Option<i128> {
    match value.kind {
        Kind::Int(n) => Some(n),
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked in the guard")]
        Kind::Float(x) if x.fract() == 0.0 && x.abs() < 1e15 => Some(x as i128),
        _ => None,
    }
}

/// A finite number.
pub(super) fn number(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<f64, Reported> {
    match value.kind {
        #[expect(clippy::cast_precision_loss, reason = "a float is asked for")]
        Kind::Int(n) => Ok(n as f64),
        Kind::Float(x) if x.is_finite() => Ok(x),
        Kind::Float(_) => Err(cx.fail(out_of_range(value, what, "a finite number"))),
        _ => Err(cx.fail(wrong_type(value, what, "a number"))),
    }
}

/// A finite number in a range.
pub(super) fn number_in(cx: &mut Cx<'_>, value: &Value, what: &str, range: Range) -> Result<f64, Reported> {
    let x = number(cx, value, what)?;
    if range.contains(x) { Ok(x) } else { Err(cx.fail(out_of_range(value, what, &range.describe()))) }
}

/// A boolean.
pub(super) fn boolean(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<bool, Reported> {
    match value.kind {
        Kind::Bool(b) => Ok(b),
        _ => Err(cx.fail(wrong_type(value, what, "yes or no"))),
    }
}

/// The items of a list.
pub(super) fn list<'v>(cx: &mut Cx<'_>, value: &'v Value, what: &str, of: &str) -> Result<&'v [Value], Reported> {
    value.as_list().ok_or_else(|| cx.fail(wrong_type(value, what, of)))
}

/// Words as a choice: "`a`, `b` or `c`".
pub(super) fn either(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// One of the given words, without regard to case: its index.
pub(super) fn word(cx: &mut Cx<'_>, value: &Value, what: &str, known: &[&str]) -> Result<usize, Reported> {
    let Some(text) = value.as_str() else {
        let expected = if known.len() <= 6 { either(known) } else { "a name".to_owned() };
        return Err(cx.fail(wrong_type(value, what, &expected)));
    };
    let found = known.iter().position(|k| k.eq_ignore_ascii_case(text));
    found.ok_or_else(|| cx.fail(unknown_word(value, what, known)))
}

/// One or several whole numbers of at least 1: `3`, `[3, 3]`; at most `max` of them.
pub(super) fn sizes(cx: &mut Cx<'_>, value: &Value, what: &str, max: usize) -> Result<Vec<u64>, Reported> {
    let expected = format!("a whole number or a list of one to {max} of them");
    match value.as_list() {
        None if integral(value).is_some() => Ok(vec![whole(cx, value, what, 1)?]),
        None => Err(cx.fail(wrong_type(value, what, &expected))),
        Some(items) if items.is_empty() || items.len() > max => Err(cx.fail(out_of_range(value, what, &expected))),
        Some(items) => {
            let all: Vec<_> = items.iter().map(|v| whole(cx, v, what, 1)).collect();
            all.into_iter().collect()
        }
    }
}
