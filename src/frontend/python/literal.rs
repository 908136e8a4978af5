//! Text -> value by Python's `ast.literal_eval`, with `grammar/literal.pest`.
//!
//! Comes in: rendered text. Goes out: a value at the same place, or `None` when the text is no literal and stays text.
//! The kinds are Python's: `1,2` is a tuple, `{1}` a set. `10-20` stays text, as on Python 3.7 and later.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use pest::Parser;
use pest::iterators::Pair;

use crate::diag::Span;
use crate::frontend::value::{Entry, Kind, Style, Value};

use super::text::repr;

mod grammar {
    /// The generated parser.
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/literal.pest"]
    pub(super) struct Literal;
}
use grammar::{Literal, Rule};

/// Deeper nesting stays text (Python itself gives up at a similar depth); it also bounds the parser's stack.
const MAX_DEPTH: usize = 90;

/// Reads a Python literal. Every node gets the given span.
#[must_use]
pub fn parse_literal(text: &str, span: Span) -> Option<Value> {
    if !could_be_literal(text) {
        return None;
    }
    let bare = Literal::parse(Rule::literal, text).ok()?.next()?.into_inner().next()?;
    let mut tuple = false;
    let mut items = Vec::new();
    for pair in bare.into_inner() {
        if pair.as_rule() == Rule::comma {
            tuple = true;
        } else {
            items.push(value(pair, span)?);
        }
    }
    if tuple { Some(Value::new(Kind::Tuple(items), span)) } else { items.pop() }
}

/// A cheap look that spares the parser most texts, and all that nest too deeply.
fn could_be_literal(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || "+-.([{'\"TFNrRbBuU".contains(c));
    let mut depth = 0usize;
    starts
        && text.bytes().all(|b| {
            match b {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth <= MAX_DEPTH
        })
}

fn value(pair: Pair<'_, Rule>, span: Span) -> Option<Value> {
    let kind = match pair.as_rule() {
        Rule::keyword => match pair.as_str() {
            "True" => Kind::Bool(true),
            "False" => Kind::Bool(false),
            _ => Kind::Null,
        },
        Rule::strings => strings(pair)?,
        Rule::complex => complex(pair)?,
        Rule::list => Kind::List(pair.into_inner().map(|p| value(p, span)).collect::<Option<_>>()?),
        Rule::paren => return paren(pair, span),
        Rule::brace => brace(pair, span)?,
        _ => return None,
    };
    Some(Value::new(kind, span))
}

fn paren(pair: Pair<'_, Rule>, span: Span) -> Option<Value> {
    let (mut items, mut comma) = (Vec::new(), false);
    for p in pair.into_inner() {
        if p.as_rule() == Rule::comma {
            comma = true;
        } else {
            items.push(value(p, span)?);
        }
    }
    if items.len() == 1 && !comma { items.pop() } else { Some(Value::new(Kind::Tuple(items), span)) }
}

fn brace(pair: Pair<'_, Rule>, span: Span) -> Option<Kind> {
    let mut map: Vec<Entry> = Vec::new();
    let mut set: Vec<Value> = Vec::new();
    // What is in them, for large ones; the printed form tells values of different kinds apart.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut members: BTreeSet<String> = BTreeSet::new();
    for item in pair.into_inner() {
        let mut parts = item.into_inner();
        let first = value(parts.next()?, span)?;
        if !hashable(&first) {
            return None;
        }
        match parts.next() {
            Some(p) => {
                let v = value(p, span)?;
                match places.entry(repr(&first)) {
                    btree_map::Entry::Occupied(at) => map[*at.get()].value = v,
                    btree_map::Entry::Vacant(at) => {
                        at.insert(map.len());
                        map.push(Entry { key: first, value: v });
                    }
                }
            }
            None if !members.insert(repr(&first)) => {}
            None => set.push(first),
        }
    }
    match (map.is_empty(), set.is_empty()) {
        (_, true) => Some(Kind::Map(map)),
        (true, false) => Some(Kind::Set(set)),
        (false, false) => None,
    }
}

fn hashable(value: &Value) -> bool {
    match &value.kind {
        Kind::List(_) | Kind::Set(_) | Kind::Map(_) => false,
        Kind::Tuple(v) => v.iter().all(hashable),
        _ => true,
    }
}

fn complex(pair: Pair<'_, Rule>) -> Option<Kind> {
    let mut numbers: Vec<Kind> = Vec::new();
    let mut negative = false;
    for p in pair.into_inner() {
        if p.as_rule() == Rule::sign {
            negative = p.as_str() == "-";
        } else {
            numbers.push(number(p.into_inner().next()?, negative)?);
            negative = false;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "the real part of a complex number is a float")]
    let real = |k: &Kind| match k {
        Kind::Int(n) => Some(*n as f64),
        Kind::Float(x) => Some(*x),
        _ => None,
    };
    match numbers.as_slice() {
        [one] => Some(one.clone()),
        [a, Kind::Complex(_, im)] => Some(Kind::Complex(real(a)?, *im)),
        _ => None,
    }
}

fn number(pair: Pair<'_, Rule>, negative: bool) -> Option<Kind> {
    let digits = pair.as_str().replace('_', "");
    let radix = |base: u32| i128::from_str_radix(&digits[2..], base).ok();
    let sign = if negative { -1.0 } else { 1.0 };
    let int = |n: i128| Kind::Int(if negative { -n } else { n });
    Some(match pair.as_rule() {
        Rule::imaginary => Kind::Complex(0.0, sign * digits[..digits.len() - 1].parse::<f64>().ok()?),
        Rule::float => Kind::Float(sign * digits.parse::<f64>().ok()?),
        Rule::hex => int(radix(16)?),
        Rule::octal => int(radix(8)?),
        Rule::binary => int(radix(2)?),
        _ => int(digits.parse().ok()?),
    })
}

fn strings(pair: Pair<'_, Rule>) -> Option<Kind> {
    let mut text = String::new();
    let mut bytes: Vec<u8> = Vec::new();
    let mut kinds = (false, false);
    for string in pair.into_inner() {
        let mut parts = string.into_inner();
        let prefix = parts.next()?.as_str().to_ascii_lowercase();
        let quoted = parts.next()?;
        let body = quoted.into_inner().next()?.as_str();
        let raw = prefix.contains('r');
        if prefix.contains('b') {
            kinds.1 = true;
            bytes.extend(unescape(body, raw, true)?.chars().map(|c| c as u32 as u8));
        } else {
            kinds.0 = true;
            text.push_str(&unescape(body, raw, false)?);
        }
    }
    match kinds {
        (true, true) => None,
        (_, true) => Some(Kind::Bytes(bytes.into())),
        _ => {
            let text: Arc<str> = text.into();
            Some(Kind::Str(text, Style::Computed))
        }
    }
}

/// Python's escapes. For bytes each character of the result stands for one byte; non-ASCII text is refused.
fn unescape(body: &str, raw: bool, bytes: bool) -> Option<String> {
    if bytes && !body.is_ascii() {
        return None;
    }
    if raw {
        return Some(body.to_owned());
    }
    let mut out = String::new();
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let escape = chars.next()?;
        let mut hex = |n: usize| -> Option<char> {
            let digits: String = chars.by_ref().take(n).collect();
            let all = digits.len() == n && digits.chars().all(|d| d.is_ascii_hexdigit());
            all.then(|| u32::from_str_radix(&digits, 16).ok()).flatten().and_then(char::from_u32)
        };
        match escape {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(escape),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            'x' => out.push(hex(2)?),
            'u' if !bytes => out.push(hex(4)?),
            'U' if !bytes => out.push(hex(8)?),
            // Named characters need a table of all names.
            'N' if !bytes => return None,
            '0'..='7' => {
                let mut n = escape.to_digit(8)?;
                for _ in 0..2 {
                    if let Some(d) = chars.peek().and_then(|c| c.to_digit(8)) {
                        n = n * 8 + d;
                        chars.next();
                    }
                }
                out.push(char::from_u32(if bytes { n & 0xff } else { n })?);
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::FileId;
    use crate::frontend::python::repr;

    fn show(text: &str) -> String {
        parse_literal(text, Span::new(FileId(0), 0, 0)).map_or_else(|| "text".to_owned(), |v| repr(&v))
    }

    /// The table of kur-reference 1.6, and its neighbourhood.
    #[test]
    fn literal_coercion_table() {
        let table = [
            ("3", "3"),
            ("-3", "-3"),
            ("+3", "3"),
            ("3 ", "3"),
            (" 3", "text"),
            ("- 3", "-3"),
            ("--3", "text"),
            ("1e-3", "0.001"),
            ("2e-4", "0.0002"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("1_0.5e1_0", "105000000000.0"),
            ("007", "text"),
            ("017", "text"),
            ("00", "0"),
            ("0", "0"),
            ("0x10", "16"),
            ("0o17", "15"),
            ("0b1", "1"),
            ("1_000", "1000"),
            ("1__0", "text"),
            ("1_", "text"),
            ("0x_f", "15"),
            ("3abc", "text"),
            ("1e999", "inf"),
            ("[1, 'q']", "[1, 'q']"),
            ("{'a': 1}", "{'a': 1}"),
            ("(1,2)", "(1, 2)"),
            ("{1,2}", "{1, 2}"),
            ("()", "()"),
            ("(1)", "1"),
            ("(1,)", "(1,)"),
            ("[]", "[]"),
            ("{}", "{}"),
            ("[1,]", "[1]"),
            ("[,]", "text"),
            ("{[1]: 2}", "text"),
            ("{1: 2, 3}", "text"),
            ("{'a': 1, 'a': 2}", "{'a': 2}"),
            ("[1,\n 2]", "[1, 2]"),
            ("[1 # c\n]", "[1]"),
            ("3 # c", "3"),
            ("3\n", "3"),
            ("1+2j", "(1+2j)"),
            ("-1-2j", "(-1-2j)"),
            ("2j", "2j"),
            ("1j+2", "text"),
            ("10-20", "text"),
            ("1+1", "text"),
            ("2*3", "text"),
            ("a-b", "text"),
            ("10%", "text"),
            ("10-", "text"),
            ("10-20%", "text"),
            ("yes", "text"),
            ("true", "text"),
            ("null", "text"),
            ("nan", "text"),
            ("inf", "text"),
            ("", "text"),
            ("True", "True"),
            ("False", "False"),
            ("None", "None"),
            ("Nonexx", "text"),
            ("None ", "None"),
            ("'quoted'", "'quoted'"),
            ("\"a\" \"b\"", "'ab'"),
            ("'a' b'b'", "text"),
            ("b\"x\"", "b'x'"),
            ("r'\\n'", "'\\\\n'"),
            ("'\\x41\\u00e9\\n\\q\\101'", "'Aé\\n\\\\qA'"),
            ("'''a\nb'''", "'a\\nb'"),
            ("'a\nb'", "text"),
            ("'it''s'", "'its'"),
            ("\"it's\"", "\"it's\""),
            ("1,2", "(1, 2)"),
            ("0,1,2,", "(0, 1, 2)"),
            ("0,", "(0,)"),
            ("a,b", "text"),
            ("'a','b'", "('a', 'b')"),
            ("images.gz", "text"),
            ("Trueish", "text"),
            ("[a]", "text"),
            ("f'x'", "text"),
            ("é", "text"),
            ("3é", "text"),
        ];
        for (text, expected) in table {
            assert_eq!(show(text), expected, "{text:?}");
        }
    }

    #[test]
    fn deep_nesting_stays_text() {
        assert_eq!(show(&("[".repeat(100_000) + &"]".repeat(100_000))), "text");
        assert_eq!(show(&("(".repeat(80) + "1" + &")".repeat(80))), "1");
        assert_eq!(show(&"[".repeat(80)), "text");
    }
}
