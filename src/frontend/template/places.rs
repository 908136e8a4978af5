//! Where a name stands in a template, and where a part of a template stands in the file.
//!
//! Names are looked for among the tokens of the tags: a word in a comment, in quotes or between the tags is not one.

use std::ops::Range;

use super::rewrite::token;

/// The tokens inside `{{ … }}` and `{% … %}`, without the marks at both ends of a tag.
pub(super) fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find('{') {
        at += found + 1;
        let end = match text.as_bytes().get(at) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => {
                at = text[at..].find("#}").map_or(text.len(), |n| at + n + 2);
                continue;
            }
            _ => continue,
        };
        at += 1;
        let first = out.len();
        // Brackets that are open: `{{ {'a': {}}}}` ends with the last two.
        let mut open = 0usize;
        while let Some(c) = text[at..].chars().next() {
            if open == 0 && text[at..].starts_with(end) {
                at += end.len();
                break;
            }
            if c.is_whitespace() {
                at += c.len_utf8();
                continue;
            }
            // A quote that is never closed: the rest is no template.
            let Some(len) = token(&text[at..]) else { return out };
            match c {
                '(' | '[' | '{' => open += 1,
                ')' | ']' | '}' => open = open.saturating_sub(1),
                _ => {}
            }
            out.push(at..at + len);
            at += len;
        }
        let words = |i: usize| out.get(first + i).map(|r: &Range<usize>| text[r.clone()].trim_matches(['-', '+']));
        if end == "%}" && words(usize::from(words(0) == Some(""))) == Some("raw") {
            at = text[at..].find("endraw").map_or(text.len(), |n| at + n);
        }
    }
    out
}

/// What a word is in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A name: neither a key behind a dot, nor a filter, nor a test, nor the name of an argument.
    Name,
    /// Behind `|`.
    Filter,
    /// Behind `is` or `is not`.
    Test,
}

/// All places at which a word stands in a role.
pub(super) fn places<'t>(text: &'t str, word: &'t str, role: Role) -> impl Iterator<Item = Range<usize>> + 't {
    let all = tokens(text);
    let piece = move |r: Option<&Range<usize>>| r.map_or("", |r| &text[r.clone()]);
    let mut found = Vec::new();
    for (i, r) in all.iter().enumerate() {
        if piece(Some(r)) != word {
            continue;
        }
        let before = |n: usize| piece(i.checked_sub(n).and_then(|i| all.get(i)));
        let is = match before(1) {
            // `{% filter upper %}` is the other place of a filter.
            "|" | "filter" => Some(Role::Filter),
            "is" => Some(Role::Test),
            "not" if before(2) == "is" => Some(Role::Test),
            "." => None,
            "(" | "," if piece(all.get(i + 1)) == "=" => None,
            _ => Some(Role::Name),
        };
        if is == Some(role) {
            found.push(r.clone());
        }
    }
    found.into_iter()
}

/// The part of `written` that a range of `text` was read from, when `written` differs from it in white space only, as
/// a scalar of several lines does, or in quotes around it.
pub(super) fn align(text: &str, written: &str, range: &Range<usize>) -> Option<Range<usize>> {
    let mut source = written.char_indices().filter(|(_, c)| !c.is_whitespace()).peekable();
    if let Some((_, quote @ ('"' | '\''))) = source.peek().copied()
        && !text.trim_start().starts_with(quote)
    {
        source.next();
    }
    let (mut start, mut end) = (None, None);
    for (at, c) in text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
        let (there, same) = source.next()?;
        if c != same {
            return None;
        }
        if range.contains(&at) {
            start.get_or_insert(there);
            end = Some(there + c.len_utf8());
        }
        if at >= range.end {
            break;
        }
    }
    Some(start?..end?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, word: &str, role: Role) -> Vec<usize> {
        places(text, word, role).map(|r| r.start).collect()
    }

    #[test]
    fn words_are_told_apart_by_their_role() {
        let text = "f {# f #}{{ f | f('f', f=f) }}{% if f is f and f.f is not f %}{{ 'f' }}{% endif %}";
        assert_eq!(at(text, "f", Role::Filter), [16]);
        assert_eq!(at(text, "f", Role::Name), [12, 25, 36, 47]);
        assert_eq!(at(text, "f", Role::Test), [41, 58]);
        assert_eq!(at("{% filter up %}a{% endfilter %}", "up", Role::Filter), [10]);
        assert_eq!(at("{% raw %}{{ a }}{% endraw %}{{ a }}", "a", Role::Name), [31]);
        assert_eq!(at("{%- raw -%}{{ a }}{% endraw %}{{ a }}", "a", Role::Name), [33]);
        assert_eq!(at("{{ {'k': {'k': a}} }}{{ a", "a", Role::Name), [15, 24]);
        assert_eq!(at("{{ 'open }} {{ a }}", "a", Role::Name), [0usize; 0]);
    }

    #[test]
    fn places_in_scalars_of_several_lines() {
        let text = "{{ 3\n   | no }}\n";
        let place = text.find("no").map(|n| n..n + 2).expect("is there");
        for written in ["{{ 3\r\n         | no }}", "\"{{ 3\n\n | no }}\"", "{{ 3 | no }}", "'{{ 3 | no }}'"] {
            let found = align(text, written, &place).expect("aligned");
            assert_eq!(found.start, written.find("no").expect("is there"), "{written}");
            assert_eq!(found.len(), 2);
        }
        assert_eq!(align("{{ \"no\" | no }}", "\"{{ \\\"no\\\" | no }}\"", &(10..12)), None, "an escape");
        assert_eq!(align("{{ a }}", "*alias", &(3..4)), None);
    }
}
