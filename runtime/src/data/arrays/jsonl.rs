//! JSON lines: one object a line, its values numbers or nested lists of numbers. The first line names the sources.
//! Whether lengths differ shows in the last line only, so all of them are read even where shapes alone are asked for.

use serde_json::{Map, Value};

use super::column::{Builder, Column, Nest};
use super::{MAX_NAMES, Trouble};

/// Reads the wanted sources.
pub(super) fn read(
    bytes: &[u8],
    wants: &dyn Fn(&str) -> bool,
    names: &mut Vec<String>,
    found: &mut Vec<(String, Result<Column, Trouble>)>,
) -> Result<(), Trouble> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Trouble::format("is no UTF-8 text").at(e.valid_up_to()).help("JSON lines are written as UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builders: Vec<(String, Builder)> = Vec::new();
    let mut values = Vec::new();
    let mut first: Option<u64> = None;
    for (number, line) in (1u64..).zip(text.lines()).filter(|(_, l)| !l.trim().is_empty()) {
        let object = object(line).map_err(|t| t.line(number))?;
        if let Some(first) = first {
            let new = object.keys().find(|k| wants(k) && !builders.iter().any(|(name, _)| name == *k));
            if let Some(key) = new {
                return Err(Trouble::format(format!("lacks the key `{key}`, which line {number} has"))
                    .line(first)
                    .help("the first line names the sources; every line needs all of them"));
            }
        } else {
            first = Some(number);
            names.extend(object.keys().take(MAX_NAMES).cloned());
            builders.extend(names.iter().filter(|n| wants(n)).map(|n| (n.clone(), Builder::default())));
        }
        for (name, builder) in &mut builders {
            let value = object
                .get(name.as_str())
                .ok_or_else(|| Trouble::format(format!("lacks the key `{name}` of its first line")).line(number))?;
            let mut nest = Nest::default();
            values.clear();
            let taken = sample(value, 0, &mut nest, &mut values)
                .and_then(|()| nest.finish(values.len()))
                .and_then(|shape| builder.push(&shape, &values));
            taken.map_err(|t| {
                let text = format!("{} (key `{name}`)", t.text);
                Trouble { text, ..t }.line(number)
            })?;
        }
    }
    if first.is_none() {
        return Err(Trouble::format("has no line").help("each line is an object: {\"name\": [1, 2, 3]}"));
    }
    found.extend(builders.into_iter().map(|(name, builder)| (name, Ok(builder.finish()))));
    Ok(())
}

fn object(line: &str) -> Result<Map<String, Value>, Trouble> {
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => {
            Err(Trouble::format("has a line that is no object").help("each line is an object: {\"name\": [1, 2, 3]}"))
        }
        Err(e) => {
            let text = e.to_string();
            let cause = text.rsplit_once(" at line").map_or(text.as_str(), |(c, _)| c);
            Err(Trouble::format(format!("has a line that is no JSON: {cause}, column {}", e.column())))
        }
    }
}

/// Appends the numbers of a nested list; see the same for Python's lists.
fn sample(value: &Value, depth: usize, nest: &mut Nest, out: &mut Vec<f32>) -> Result<(), Trouble> {
    #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
    let number = match value {
        Value::Number(n) => Some(n.as_f64().unwrap_or(f64::NAN) as f32),
        Value::Bool(b) => Some(f32::from(u8::from(*b))),
        _ => None,
    };
    if let Some(x) = number {
        out.push(x);
        return nest.number(depth);
    }
    let Value::Array(items) = value else {
        let text: String = value.to_string().chars().take(40).collect();
        return Err(Trouble::values(format!("has {text} where a number is needed")));
    };
    nest.list(depth, items.len() as u64)?;
    items.iter().try_for_each(|item| sample(item, depth + 1, nest, out))
}
