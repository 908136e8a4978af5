//! PyYAML 3's rules for plain scalars: YAML 1.1, not 1.2 (kur-reference 1.1).
//!
//! Comes in: the text of a scalar without quotes and without a tag. Goes out: its kind. `yes` and `off` are booleans,
//! `010` is 8, `1:30` is 90, a float needs a dot, and its exponent a sign. `2e-4` is text here; the literal coercion of
//! the template engine turns it into a number later.

use crate::frontend::value::{Kind, Style};

/// Reads a plain scalar. Dates stay text, as does a number that does not fit into 128 bits.
#[must_use]
pub fn resolve(text: &str) -> Kind {
    null(text)
        .or_else(|| boolean(text).map(Kind::Bool))
        .or_else(|| integer(text).map(Kind::Int))
        .or_else(|| float(text).map(Kind::Float))
        .unwrap_or_else(|| Kind::Str(text.into(), Style::Plain))
}

fn null(text: &str) -> Option<Kind> {
    matches!(text, "" | "~" | "null" | "Null" | "NULL").then_some(Kind::Null)
}

/// YAML 1.1 booleans in their three spellings.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// YAML 1.1 integers: binary, octal with a leading 0, decimal, hexadecimal, sexagesimal; `_` is ignored.
#[must_use]
pub fn integer(text: &str) -> Option<i128> {
    let (negative, body) = sign(text);
    let digits: String = body.chars().filter(|c| *c != '_').collect();
    let all = |s: &str, ok: fn(char) -> bool| !s.is_empty() && s.chars().all(|c| c == '_' || ok(c));
    let value = if let Some(b) = body.strip_prefix("0b") {
        all(b, |c| matches!(c, '0' | '1')).then(|| i128::from_str_radix(&digits[2..], 2).ok())??
    } else if let Some(h) = body.strip_prefix("0x") {
        all(h, |c| c.is_ascii_hexdigit()).then(|| i128::from_str_radix(&digits[2..], 16).ok())??
    } else if body.len() > 1 && body.starts_with('0') {
        all(body, |c| matches!(c, '0'..='7')).then(|| i128::from_str_radix(&digits, 8).ok())??
    } else if body.contains(':') {
        sexagesimal(body, starts_1_to_9(body))?
    } else {
        (body == "0" || starts_1_to_9(body)).then_some(())?;
        all(body, |c| c.is_ascii_digit()).then(|| digits.parse().ok())??
    };
    Some(if negative { -value } else { value })
}

/// `[0-9][0-9_]*(:[0-5]?[0-9])+`, most significant part first.
fn sexagesimal(body: &str, first_ok: bool) -> Option<i128> {
    let mut parts = body.split(':');
    let first = parts.next()?;
    if !first_ok || !first.chars().all(|c| c.is_ascii_digit() || c == '_') {
        return None;
    }
    let mut value: i128 = first.replace('_', "").parse().ok()?;
    for part in parts {
        let two = matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
        if !two {
            return None;
        }
        value = value.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    Some(value)
}

/// YAML 1.1 floats as PyYAML 3 reads them: a dot is needed, and an exponent needs a sign.
#[must_use]
pub fn float(text: &str) -> Option<f64> {
    let (negative, body) = sign(text);
    let signed = |x: f64| if negative { -x } else { x };
    match body {
        ".inf" | ".Inf" | ".INF" => return Some(signed(f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if body.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit() || c == '_');
    if !digits(fraction) {
        return None;
    }
    if whole.contains(':') && exponent.is_none() {
        let minutes = sexagesimal(whole, whole.starts_with(|c: char| c.is_ascii_digit()))?;
        let fraction: f64 = format!("0.{}", fraction.replace('_', "")).parse().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "a float is asked for")]
        return Some(signed(minutes as f64 + fraction));
    }
    if !digits(whole) || whole.starts_with('_') {
        return None;
    }
    // Without a whole part PyYAML wants a fraction and no sign.
    if whole.is_empty() && (fraction.is_empty() || body.len() != text.len()) {
        return None;
    }
    if let Some(e) = exponent {
        let number = e.strip_prefix(['+', '-'])?;
        if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
    }
    let plain = format!("0{}.{}0e{}", whole, fraction, exponent.unwrap_or("0")).replace('_', "");
    plain.parse().ok().map(signed)
}

fn sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn starts_1_to_9(text: &str) -> bool {
    text.starts_with(|c: char| matches!(c, '1'..='9'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match resolve(text) {
            Kind::Null => "null".into(),
            Kind::Bool(b) => format!("bool {b}"),
            Kind::Int(n) => format!("int {n}"),
            Kind::Float(x) => format!("float {x}"),
            Kind::Str(..) => "text".into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn pyyaml_scalar_table() {
        let table = [
            ("", "null"),
            ("~", "null"),
            ("null", "null"),
            ("NULL", "null"),
            ("None", "text"),
            ("nULL", "text"),
            ("yes", "bool true"),
            ("Yes", "bool true"),
            ("YES", "bool true"),
            ("yES", "text"),
            ("y", "text"),
            ("n", "text"),
            ("on", "bool true"),
            ("off", "bool false"),
            ("No", "bool false"),
            ("TRUE", "bool true"),
            ("false", "bool false"),
            ("0", "int 0"),
            ("-0", "int 0"),
            ("3", "int 3"),
            ("+3", "int 3"),
            ("-3", "int -3"),
            ("1_000", "int 1000"),
            ("010", "int 8"),
            ("-010", "int -8"),
            ("08", "text"),
            ("0o17", "text"),
            ("0x10", "int 16"),
            ("0b1", "int 1"),
            ("0b2", "text"),
            ("1:30", "int 90"),
            ("-1:30", "int -90"),
            ("1:30:00", "int 5400"),
            ("1:60", "text"),
            ("0:30", "text"),
            ("_1", "text"),
            ("1.0", "float 1"),
            ("1.", "float 1"),
            (".5", "float 0.5"),
            ("-.5", "text"),
            (".", "text"),
            ("-1.5", "float -1.5"),
            ("1.0e3", "text"),
            ("1.0e+3", "float 1000"),
            ("1.5E-3", "float 0.0015"),
            ("2e-4", "text"),
            ("1e3", "text"),
            ("1.e+3", "float 1000"),
            ("1:30.5", "float 90.5"),
            ("1_0.2_5", "float 10.25"),
            (".inf", "float inf"),
            ("-.INF", "float -inf"),
            (".nan", "float NaN"),
            ("-.nan", "text"),
            ("inf", "text"),
            ("nan", "text"),
            ("2017-01-01", "text"),
            ("=", "text"),
            ("1.2.3", "text"),
            ("10-20", "text"),
            ("99999999999999999999999999999999999999999", "text"),
            ("0x", "text"),
            ("0b", "text"),
            ("-", "text"),
            ("+", "text"),
            ("1:", "text"),
        ];
        for (text, expected) in table {
            assert_eq!(show(text), expected, "{text:?}");
        }
    }
}
