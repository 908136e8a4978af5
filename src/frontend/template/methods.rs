//! Python methods in templates: those of the engine's own collection, and a few that it lacks.
//!
//! Methods that would change a value (`append`, `update`, …) are errors: in a Kurfile values do not change.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::bridge::str_of;
use super::jinja2::center;

/// Methods that change their value.
const CHANGING: &[&str] = &[
    "append",
    "extend",
    "insert",
    "remove",
    "pop",
    "popitem",
    "clear",
    "sort",
    "reverse",
    "update",
    "setdefault",
    "add",
];

/// Calls a method of a value.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if method == "format" {
        widths(value.as_str().unwrap_or_default())?;
    }
    let known = minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args);
    match known {
        Err(e) if e.kind() == ErrorKind::UnknownMethod => {}
        done => return done,
    }
    state.consume_fuel(1 + (value.len().unwrap_or(0) + value.as_str().map_or(0, str::len) / 64) as u64)?;
    let found = match value.kind() {
        ValueKind::String => of_text(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map if method == "copy" => Some(Ok(value.clone())),
        ValueKind::Seq if method == "copy" => Some(Ok(value.clone())),
        ValueKind::Seq if method == "index" => args.first().map(|wanted| {
            let place = value.try_iter()?.position(|v| v == *wanted);
            place.map(Value::from).ok_or_else(|| fail(format!("{} is not in the list", str_of(wanted))))
        }),
        ValueKind::Number if method == "is_integer" => {
            Some(Ok(Value::from(f64::try_from(value.clone()).is_ok_and(|x| x.fract() == 0.0))))
        }
        _ => None,
    };
    match found {
        Some(result) => result,
        None if CHANGING.contains(&method) => {
            Err(fail(format!("`{method}` would change a value, which a template cannot do")))
        }
        None => Err(Error::new(ErrorKind::UnknownMethod, format!("{} has no method named {method}", value.kind()))),
    }
}

/// Refuses a `format` with a huge width or precision in a field, before the engine makes the text.
fn widths(format: &str) -> Result<(), Error> {
    let fields = format.split('{').skip(1).filter_map(|part| part.split('}').next()?.split_once(':'));
    let mut numbers = fields.flat_map(|(_, spec)| spec.split(|c: char| !c.is_ascii_digit()));
    match numbers.find(|n| n.trim_start_matches('0').len() > 5) {
        Some(n) => Err(fail(format!("the width or precision {n} is too large"))),
        None => Ok(()),
    }
}

fn fail(text: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, text)
}

fn of_text(text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let word = |i: usize| args.get(i).and_then(|v| v.as_str().map(str::to_owned));
    let tuple = |parts: [&str; 3]| Value::from(minijinja::value::Tuple::new(parts.map(Value::from).to_vec()));
    Some(Ok(match method {
        "center" | "ljust" | "rjust" | "zfill" => {
            let width = args.first()?.as_usize()?;
            let fill = if method == "zfill" { '0' } else { word(1).and_then(|w| w.chars().next()).unwrap_or(' ') };
            let padded = pad(text, method, width, fill);
            return Some(padded.map(Value::from));
        }
        "partition" => {
            let separator = word(0)?;
            match text.split_once(&separator) {
                Some((before, after)) => tuple([before, &separator, after]),
                None => tuple([text, "", ""]),
            }
        }
        "rpartition" => {
            let separator = word(0)?;
            match text.rsplit_once(&separator) {
                Some((before, after)) => tuple([before, &separator, after]),
                None => tuple(["", "", text]),
            }
        }
        "rsplit" => {
            let limit = args.get(1).and_then(Value::as_usize).unwrap_or(usize::MAX - 1);
            let mut parts: Vec<&str> = match word(0) {
                Some(separator) if separator.is_empty() => return Some(Err(fail("empty separator".to_owned()))),
                Some(separator) => text.rsplitn(limit + 1, &separator).collect(),
                None if limit >= text.len() => text.split_whitespace().rev().collect(),
                None => text.trim_end().rsplitn(limit + 1, char::is_whitespace).collect(),
            };
            parts.reverse();
            parts.into_iter().map(Value::from).collect()
        }
        "swapcase" => Value::from(
            text.chars()
                .flat_map(|c| {
                    let swapped: Vec<char> =
                        if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() };
                    swapped
                })
                .collect::<String>(),
        ),
        "casefold" => Value::from(text.to_lowercase()),
        "index" => match text.find(&word(0)?) {
            Some(at) => Value::from(text[..at].chars().count()),
            None => return Some(Err(fail("substring not found".to_owned()))),
        },
        _ => return None,
    }))
}

fn pad(text: &str, method: &str, width: usize, fill: char) -> Result<String, Error> {
    // The check of `center` bounds the width for all of them.
    let centered = center(text, width, fill)?;
    let gap = fill.to_string().repeat(width.saturating_sub(text.chars().count()));
    Ok(match method {
        "ljust" => text.to_owned() + &gap,
        "rjust" => gap + text,
        "zfill" => match text.strip_prefix(['-', '+']) {
            Some(digits) => text[..1].to_owned() + &gap + digits,
            None => gap + text,
        },
        _ => centered,
    })
}
