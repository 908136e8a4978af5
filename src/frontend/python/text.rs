//! Values as Python prints them: what a template inserts into text (kur-reference 1.6).

use crate::frontend::value::{Kind, Value};

/// Python's `str()`: strings as they are, everything else as [`repr`].
#[must_use]
pub fn str_of(value: &Value) -> String {
    match &value.kind {
        Kind::Str(s, _) => s.to_string(),
        _ => repr(value),
    }
}

/// Python's `repr()`.
#[must_use]
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match &value.kind {
        Kind::Null => out.push_str("None"),
        Kind::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
        Kind::Int(n) => out.push_str(&n.to_string()),
        Kind::Float(x) => out.push_str(&float_repr(*x)),
        Kind::Complex(re, im) => write_complex(*re, *im, out),
        Kind::Str(s, _) => write_text(s, out),
        Kind::Bytes(b) => write_bytes(b, out),
        Kind::List(v) => write_items(v, "[", "]", out),
        Kind::Tuple(v) => write_items(v, "(", if v.len() == 1 { ",)" } else { ")" }, out),
        Kind::Set(v) if v.is_empty() => out.push_str("set()"),
        Kind::Set(v) => write_items(v, "{", "}", out),
        Kind::Map(m) => {
            out.push('{');
            for (i, e) in m.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write(&e.key, out);
                out.push_str(": ");
                write(&e.value, out);
            }
            out.push('}');
        }
    }
}

fn write_items(items: &[Value], open: &str, close: &str, out: &mut String) {
    out.push_str(open);
    for (i, v) in items.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        write(v, out);
    }
    out.push_str(close);
}

/// Python's `repr(float)`: the shortest digits that read back to the same number; an exponent below 1e-4 and from 1e16.
#[must_use]
pub fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = x.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

fn write_complex(re: f64, im: f64, out: &mut String) {
    // Parts that are whole numbers lose their `.0` in Python's complex repr.
    let part = |x: f64| float_repr(x).trim_end_matches(".0").to_owned();
    if re == 0.0 && re.is_sign_positive() {
        out.push_str(&format!("{}j", part(im)));
    } else {
        let sign = if im.is_sign_negative() { "" } else { "+" };
        out.push_str(&format!("({}{sign}{}j)", part(re), part(im)));
    }
}

fn quote_for(single: bool, double: bool) -> char {
    if single && !double { '"' } else { '\'' }
}

fn write_text(text: &str, out: &mut String) {
    let quote = quote_for(text.contains('\''), text.contains('"'));
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            c if printable(c) => out.push(c),
            c => out.push_str(&match c as u32 {
                n @ ..0x100 => format!("\\x{n:02x}"),
                n @ ..0x1_0000 => format!("\\u{n:04x}"),
                n => format!("\\U{n:08x}"),
            }),
        }
    }
    out.push(quote);
}

/// Whether a character has a picture of its own (Python's `str.isprintable`).
fn printable(c: char) -> bool {
    // Accents are escaped only where they have no letter before them.
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().nth(1) == Some(c)
}

fn write_bytes(bytes: &[u8], out: &mut String) {
    let quote = quote_for(bytes.contains(&b'\''), bytes.contains(&b'"'));
    out.push('b');
    out.push(quote);
    for b in bytes {
        match b {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b if char::from(*b) == quote => {
                out.push('\\');
                out.push(quote);
            }
            0x20..0x7f => out.push(char::from(*b)),
            b => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        let table = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (2.0, "2.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (2.5e-7, "2.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (123_456.789, "123456.789"),
            (f64::INFINITY, "inf"),
        ];
        for (x, expected) in table {
            assert_eq!(float_repr(x), expected);
        }
    }

    #[test]
    fn characters_without_a_picture_are_escaped() {
        let table = [
            ("é", "'é'"),
            ("e\u{301}", "'e\u{301}'"),
            ("\u{a0}\u{200b}", "'\\xa0\\u200b'"),
            ("\u{7}\u{7f}", "'\\x07\\x7f'"),
            ("\u{e0001}", "'\\U000e0001'"),
            ("it's", "\"it's\""),
        ];
        for (text, expected) in table {
            let mut out = String::new();
            write_text(text, &mut out);
            assert_eq!(out, expected);
        }
    }
}
