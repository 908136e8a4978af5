//! Value tree -> YAML or JSON text that our own readers read back to the same tree.
//!
//! Tuples and sets become lists; complex numbers and bytes, which only templates make, become their Python text. Not a
//! number and infinity are `.nan` and `.inf` in YAML, and `NaN` and `Infinity` in JSON as Python writes them.

use serde_yaml::{Mapping, Number, Value as Yaml};

use crate::frontend::python;
use crate::frontend::value::{Kind, Value};
use crate::frontend::yaml::scalar;

/// Block-style YAML with a final newline.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut printer = Printer { exact: Vec::new() };
    // Only values that are no YAML can fail to print, and there are none here.
    let text = serde_yaml::to_string(&printer.yaml(value)).unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    for (i, original) in printer.exact.iter().enumerate() {
        let mark = placeholder(i);
        let Some((before, after)) = rest.split_once(&mark) else { continue };
        out.push_str(before);
        out.push_str(original);
        rest = after;
    }
    out + rest
}

/// Prints YAML 1.2, in which `yes` and `010` are text and `1e20` is a number. What our YAML 1.1 reader would take for
/// something else is printed as a placeholder first, which is then replaced by the exact text.
struct Printer {
    exact: Vec<String>,
}

/// How a placeholder starts.
const MARK: &str = "\u{ab}kurc-exact-";

fn placeholder(i: usize) -> String {
    format!("{MARK}{i}\u{bb}")
}

impl Printer {
    fn yaml(&mut self, value: &Value) -> Yaml {
        match &value.kind {
            Kind::Null => Yaml::Null,
            Kind::Bool(b) => Yaml::Bool(*b),
            Kind::Int(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => Yaml::Number(Number::from(n)),
                (_, Ok(n)) => Yaml::Number(Number::from(n)),
                _ => self.text(&n.to_string()),
            },
            Kind::Float(x) => self.float(*x),
            Kind::Str(s, _) => self.text(s),
            Kind::Complex(..) | Kind::Bytes(_) => self.text(&python::repr(value)),
            Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => Yaml::Sequence(v.iter().map(|v| self.yaml(v)).collect()),
            Kind::Map(m) => {
                let mut map = Mapping::new();
                for e in m {
                    // Keys that are no scalars come from Python literals only.
                    let key = match &e.key.kind {
                        Kind::List(_) | Kind::Tuple(_) | Kind::Set(_) | Kind::Map(_) => {
                            self.text(&python::repr(&e.key))
                        }
                        _ => self.yaml(&e.key),
                    };
                    let value = self.yaml(&e.value);
                    map.insert(key, value);
                }
                Yaml::Mapping(map)
            }
        }
    }

    fn text(&mut self, text: &str) -> Yaml {
        if matches!(scalar::resolve(text), Kind::Str(..)) && text != "<<" {
            // Text that looks like a placeholder must not be replaced.
            return if text.contains(MARK) {
                self.exact(serde_json::Value::from(text).to_string())
            } else {
                text.into()
            };
        }
        self.exact(format!("'{}'", text.replace('\'', "''")))
    }

    /// YAML 1.1 wants a dot before an exponent.
    fn float(&mut self, x: f64) -> Yaml {
        match python::float_repr(x).split_once('e') {
            Some((mantissa, exponent)) => {
                let dot = if mantissa.contains('.') { "" } else { ".0" };
                self.exact(format!("{mantissa}{dot}e{exponent}"))
            }
            None => Yaml::Number(Number::from(x)),
        }
    }

    fn exact(&mut self, text: String) -> Yaml {
        self.exact.push(text);
        Yaml::from(placeholder(self.exact.len() - 1))
    }
}

/// JSON on several lines, with a final newline.
#[must_use]
pub fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, Some(0), &mut out);
    out + "\n"
}

/// JSON on one line, without a newline.
#[must_use]
pub fn json_line(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, None, &mut out);
    out
}

fn write_json(value: &Value, depth: Option<usize>, out: &mut String) {
    match &value.kind {
        Kind::Null => out.push_str("null"),
        Kind::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Kind::Int(n) => out.push_str(&n.to_string()),
        Kind::Float(x) if x.is_nan() => out.push_str("NaN"),
        Kind::Float(x) if x.is_infinite() => out.push_str(if *x > 0.0 { "Infinity" } else { "-Infinity" }),
        Kind::Float(x) => out.push_str(&python::float_repr(*x)),
        Kind::Str(s, _) => quote(s, out),
        Kind::Complex(..) | Kind::Bytes(_) => quote(&python::repr(value), out),
        Kind::List(v) | Kind::Tuple(v) | Kind::Set(v) => {
            items(v, ('[', ']'), depth, out, write_json);
        }
        Kind::Map(m) => items(m, ('{', '}'), depth, out, |e, depth, out| {
            quote(&key_text(&e.key), out);
            out.push_str(": ");
            write_json(&e.value, depth, out);
        }),
    }
}

/// A key as Python's `json` writes it.
fn key_text(key: &Value) -> String {
    match &key.kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(b) => b.to_string(),
        _ => python::str_of(key),
    }
}

fn items<T>(
    all: &[T],
    (open, close): (char, char),
    depth: Option<usize>,
    out: &mut String,
    one: impl Fn(&T, Option<usize>, &mut String),
) {
    let inner = depth.map(|d| d + 1);
    let line = |depth: Option<usize>, out: &mut String| {
        if let Some(d) = depth {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", d));
        }
    };
    out.push(open);
    for (i, item) in all.iter().enumerate() {
        out.push_str(match (i, depth) {
            (0, _) => "",
            (_, Some(_)) => ",",
            (_, None) => ", ",
        });
        line(inner, out);
        one(item, inner, out);
    }
    if !all.is_empty() {
        line(depth, out);
    }
    out.push(close);
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Sink, SourceMap};
    use crate::frontend::{json as json_reader, yaml as yaml_reader};

    #[test]
    fn what_is_printed_reads_back() {
        let text = "{a: 'yes', b: yes, c: '010', d: 8, e: ~, f: .nan, g: -.inf, h: [1.5, 1.0e+20, ''], i: '<<', 2: two, \
                    yes: 3, 'it''s': \"line\\nend\\t\", empty: [{}, []], k: '«kurc-exact-0»', l: '12:30'}";
        let (mut sources, mut sink) = (SourceMap::default(), Sink::default());
        let file = sources.add("a.yml", text);
        let value = yaml_reader::read(text, file, &mut sink).expect("valid");
        let again = yaml(&value);
        let reread = yaml_reader::read(&again, file, &mut sink).expect("valid");
        assert_eq!(python::repr(&reread), python::repr(&value), "{again}");
        for text in [json(&value), json_line(&value)] {
            let reread = json_reader::read(&text, file, &mut sink).expect("valid");
            let same = python::repr(&value).replace("2: 'two'", "'2': 'two'").replace("True: 3", "'true': 3");
            assert_eq!(python::repr(&reread), same, "{text}");
        }
    }
}
