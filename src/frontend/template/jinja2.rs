//! Filters and tests of Jinja2 2.9 that the engine does not have, or has with other text than Python's.
//!
//! `random` and `lipsum` give something else each time they are used, and a Kurfile must mean the same each time it is
//! compiled; they are errors that say so. `urlize` makes HTML links, for which a Kurfile has no use.

use std::collections::BTreeMap;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::bridge::{checked_str, from_jinja, str_of};
use crate::frontend::{print, python};

/// Bytes that one filter may make.
const MAX_BYTES: usize = 1 << 20;

/// Names that Jinja2 has and templates of a Kurfile cannot use, with the reason.
const UNUSABLE: &[(&str, &str)] = &[
    ("random", "it gives another result each time, and a Kurfile must mean the same each time"),
    ("lipsum", "it gives another result each time, and a Kurfile must mean the same each time"),
    ("urlize", "it makes HTML links"),
];

/// Adds them to an environment.
pub(super) fn add(env: &mut Environment<'static>) {
    env.add_filter("string", |state: &State, value: &Value| defined(state, value).and_then(|()| text(state, value)));
    env.add_filter("join", join);
    env.add_filter("pprint", |state: &State, value: &Value| paid(state, python::repr(&from_jinja(value))));
    env.add_filter("tojson", tojson);
    env.add_filter("center", |state: &State, value: &Value, width: Option<usize>| {
        center(&text(state, value)?, width.unwrap_or(80), ' ').and_then(|t| paid(state, t))
    });
    env.add_filter("forceescape", |state: &State, value: &Value| text(state, value).map(|t| escape(&t)));
    env.add_filter("striptags", |state: &State, value: &Value| text(state, value).map(|t| striptags(&t)));
    env.add_filter("truncate", truncate);
    env.add_filter("urlencode", urlencode);
    env.add_filter("wordcount", |state: &State, value: &Value| text(state, value).map(|t| wordcount(&t)));
    env.add_filter("wordwrap", wordwrap);
    env.add_filter("xmlattr", xmlattr);
    env.add_filter("filesizeformat", filesizeformat);
    env.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    env.add_function("dict", dict);
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain && value.as_object().is_some());
    for (name, why) in UNUSABLE {
        let fail = move || Error::new(ErrorKind::InvalidOperation, format!("`{name}` cannot be used here: {why}"));
        let filter = move |_value: &Value, _rest: Rest<Value>, _more: Kwargs| -> Result<Value, Error> { Err(fail()) };
        env.add_filter(*name, filter);
    }
    env.add_function("lipsum", |_rest: Rest<Value>, _more: Kwargs| -> Result<Value, Error> {
        let (name, why) = UNUSABLE[1];
        Err(Error::new(ErrorKind::InvalidOperation, format!("`{name}` cannot be used here: {why}")))
    });
}

/// Python's `dict`: of a mapping or of pairs, with more pairs by name.
fn dict(state: &State, value: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    let wrong = || Error::new(ErrorKind::InvalidOperation, "`dict` takes a mapping or a list of pairs");
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    if let Some(value) = value {
        defined(state, &value)?;
        let map = value.kind() == ValueKind::Map;
        for item in value.try_iter().map_err(|_| wrong())? {
            state.consume_fuel(1)?;
            if map {
                let inner = value.get_item(&item)?;
                pairs.push((item, inner));
            } else if item.kind() == ValueKind::Seq && item.len() == Some(2) {
                pairs.push((item.get_item(&Value::from(0))?, item.get_item(&Value::from(1))?));
            } else {
                return Err(wrong());
            }
        }
    }
    for name in more.args() {
        pairs.push((Value::from(name), more.get::<Value>(name)?));
    }
    // A later pair replaces the value of an earlier one, which keeps its place.
    let mut places: BTreeMap<Value, usize> = BTreeMap::new();
    let mut out: Vec<(Value, Value)> = Vec::new();
    for (key, value) in pairs {
        match places.get(&key) {
            Some(&i) => out[i].1 = value,
            None => {
                places.insert(key.clone(), out.len());
                out.push((key, value));
            }
        }
    }
    Ok(Value::from_pairs(out))
}

fn defined(state: &State, value: &Value) -> Result<(), Error> {
    use minijinja::UndefinedBehavior::{SemiStrict, Strict};
    let strict = matches!(state.undefined_behavior(), Strict | SemiStrict);
    if strict && value.is_undefined() { Err(ErrorKind::UndefinedError.into()) } else { Ok(()) }
}

/// Takes from the budget of the render what a text costs.
fn paid(state: &State, text: String) -> Result<String, Error> {
    state.consume_fuel(1 + text.len() as u64 / 64)?;
    Ok(text)
}

/// Python's `str()`, paid for.
fn text(state: &State, value: &Value) -> Result<String, Error> {
    paid(state, checked_str(state, value)?)
}

fn too_long() -> Error {
    Error::new(ErrorKind::OutOfFuel, "the text is too long")
}

fn join(
    state: &State,
    value: &Value,
    separator: Option<&str>,
    attribute: Option<Value>,
    more: Kwargs,
) -> Result<String, Error> {
    let separator = match separator {
        Some(s) => s.to_owned(),
        None => more.get::<Option<String>>("d")?.unwrap_or_default(),
    };
    let attribute = match attribute {
        Some(a) => Some(a),
        None => more.get::<Option<Value>>("attribute")?,
    };
    more.assert_all_used()?;
    defined(state, value)?;
    let mut out = String::new();
    if value.is_undefined() {
        return Ok(out);
    }
    for (i, item) in value.try_iter()?.enumerate() {
        let item = match &attribute {
            Some(path) => follow(&item, path)?,
            None => item,
        };
        defined(state, &item)?;
        out.push_str(if i == 0 { "" } else { &separator });
        out.push_str(&str_of(&item));
        if out.len() > MAX_BYTES {
            return Err(too_long());
        }
        state.consume_fuel(1)?;
    }
    paid(state, out)
}

/// `attribute` of a filter: `name`, `a.b`, or a position.
fn follow(value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(text) = path.as_str() else { return value.get_item(path) };
    text.split('.').try_fold(value.clone(), |v, step| match step.parse::<usize>() {
        Ok(n) => v.get_item(&Value::from(n)),
        Err(_) => v.get_attr(step),
    })
}

/// JSON with the characters escaped that mean something in HTML, as Jinja2 does.
fn tojson(state: &State, value: &Value, indent: Option<usize>) -> Result<String, Error> {
    let value = from_jinja(value);
    let text = if indent.is_some() { print::json(&value) } else { print::json_line(&value) };
    let html = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\'', "\\u0027")];
    paid(state, html.into_iter().fold(text.trim_end().to_owned(), |t, (c, escape)| t.replace(c, escape)))
}

/// Python's `str.center`: of an odd gap the larger half stands left when the width is odd.
pub(super) fn center(text: &str, width: usize, fill: char) -> Result<String, Error> {
    let len = text.chars().count();
    let gap = width.saturating_sub(len);
    if gap > MAX_BYTES {
        return Err(too_long());
    }
    let left = gap / 2 + (gap & width & 1);
    let pad = |n: usize| fill.to_string().repeat(n);
    Ok(pad(left) + text + &pad(gap - left))
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('\'', "&#39;").replace('"', "&#34;")
}

/// Without tags and comments, white space runs made one blank.
fn striptags(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (end, len) = if rest[at..].starts_with("<!--") { ("-->", 3) } else { (">", 1) };
        let Some(close) = rest[at..].find(end) else { break };
        out.push_str(&rest[..at]);
        rest = &rest[at + close + len..];
    }
    out.push_str(rest);
    let words: Vec<&str> = out.split_whitespace().collect();
    let plain = words.join(" ");
    plain.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").replace("&#34;", "\"").replace("&amp;", "&")
}

fn wordcount(text: &str) -> usize {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).count()
}

/// `truncate(length=255, killwords=False, end='...', leeway=5)`.
fn truncate(
    state: &State,
    value: &Value,
    length: Option<usize>,
    killwords: Option<bool>,
    more: Kwargs,
) -> Result<String, Error> {
    let length = length.or(more.get("length")?).unwrap_or(255);
    let killwords = killwords.or(more.get("killwords")?).unwrap_or(false);
    let end = more.get::<Option<String>>("end")?.unwrap_or_else(|| "...".to_owned());
    let leeway = more.get::<Option<usize>>("leeway")?.unwrap_or(5);
    more.assert_all_used()?;
    let text: Vec<char> = text(state, value)?.chars().collect();
    if text.len() <= length.saturating_add(leeway) {
        return Ok(text.into_iter().collect());
    }
    let Some(keep) = length.checked_sub(end.chars().count()) else {
        return Err(Error::new(ErrorKind::InvalidOperation, "`truncate` needs a length of at least that of its `end`"));
    };
    let cut: String = text[..keep].iter().collect();
    let kept = if killwords { cut.as_str() } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(head, _)| head) };
    Ok(kept.to_owned() + &end)
}

/// Text, or pairs as a query.
fn urlencode(state: &State, value: &Value) -> Result<String, Error> {
    let quote = |text: &str, safe: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-~".contains(&b) || safe.as_bytes().contains(&b);
        text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect::<String>()
    };
    let pairs: Vec<(Value, Value)> = match value.kind() {
        ValueKind::Map => value.try_iter()?.map(|k| value.get_item(&k).map(|v| (k, v))).collect::<Result<_, _>>()?,
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()?
            .map(|p| Ok((p.get_item(&Value::from(0))?, p.get_item(&Value::from(1))?)))
            .collect::<Result<_, Error>>()?,
        _ => return Ok(quote(&text(state, value)?, "/")),
    };
    let one = |(k, v): &(Value, Value)| format!("{}={}", quote(&str_of(k), ""), quote(&str_of(v), ""));
    paid(state, pairs.iter().map(one).collect::<Vec<_>>().join("&"))
}

/// `wordwrap(width=79, break_long_words=True, wrapstring='\n')`.
fn wordwrap(
    state: &State,
    value: &Value,
    width: Option<usize>,
    break_long_words: Option<bool>,
    more: Kwargs,
) -> Result<String, Error> {
    let width = width.or(more.get("width")?).unwrap_or(79).max(1);
    let breaks = break_long_words.or(more.get("break_long_words")?).unwrap_or(true);
    let wrapstring = more.get::<Option<String>>("wrapstring")?.unwrap_or_else(|| "\n".to_owned());
    more.assert_all_used()?;
    let text = text(state, value)?;
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let used = line.chars().count();
        if used > 0 && used + 1 + word.len() <= width {
            line.push(' ');
        } else if used > 0 {
            lines.push(std::mem::take(&mut line));
        }
        while breaks && word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        line.extend(word);
    }
    lines.push(line);
    paid(state, lines.join(&wrapstring))
}

/// `{'a': 1}` as ` a="1"`; undefined and none values are left out.
fn xmlattr(state: &State, value: &Value, autospace: Option<bool>) -> Result<String, Error> {
    let mut out = Vec::new();
    for key in value.try_iter()? {
        let v = value.get_item(&key)?;
        if !v.is_none() && !v.is_undefined() {
            out.push(format!("{}=\"{}\"", escape(&str_of(&key)), escape(&str_of(&v))));
        }
    }
    let lead = if autospace.unwrap_or(true) && !out.is_empty() { " " } else { "" };
    paid(state, lead.to_owned() + &out.join(" "))
}

fn filesizeformat(value: f64, binary: Option<bool>) -> String {
    let binary = binary.unwrap_or(false);
    let base = if binary { 1024.0 } else { 1000.0 };
    const DECIMAL: &[&str] = &["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    const BINARY: &[&str] = &["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];
    if value == 1.0 {
        return "1 Byte".to_owned();
    }
    if value < base {
        return format!("{value:.0} Bytes");
    }
    let units = if binary { BINARY } else { DECIMAL };
    let mut scaled = value / base;
    let mut unit = 0;
    while scaled >= base && unit + 1 < units.len() {
        scaled /= base;
        unit += 1;
    }
    format!("{scaled:.1} {}", units[unit])
}
