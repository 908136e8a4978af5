//! The errors of the YAML reader, each with what to write instead.

use crate::diag::{Diagnostic, FileId, Span, did_you_mean};
use crate::frontend::value::{AtValue, Value};

/// What the scanner says, and how a person would say it: needle, message, label, help.
const SYNTAX: &[(&str, &str, &str, &str)] = &[
    (
        "mapping values are not allowed",
        "a second `:` on this line",
        "no key can stand here",
        "put text that contains `: ` in quotes, or write the inner key on its own, deeper indented line",
    ),
    (
        "did not find expected key",
        "this line does not fit its surroundings",
        "expected `key: value` here",
        "give all keys of one mapping the same indentation",
    ),
    (
        "did not find expected '-' indicator",
        "this line does not fit the list it stands in",
        "expected `- …` here",
        "start each list item with `- ` at the same indentation, or indent this line less",
    ),
    (
        "expected ',' or '}'",
        "a `{` is not closed",
        "expected `,` or `}` here",
        "separate the pairs with commas and close the mapping with `}`",
    ),
    (
        "expected ',' or ']'",
        "a `[` is not closed",
        "expected `,` or `]` here",
        "separate the items with commas and close the list with `]`",
    ),
    ("unexpected end of stream", "a quote is never closed", "the file ends inside the text", "add the closing quote"),
    (
        "invalid trailing content",
        "text after a closing quote",
        "not expected here",
        "put the whole text in one pair of quotes; inside them double a `'`, or write `\\\"` for a `\"`",
    ),
    (
        "unknown escape character",
        "an unknown escape in a double-quoted text",
        "not an escape of YAML",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    (
        "must be followed by a valid YAML whitespace",
        "a `:` without a blank behind it",
        "no blank before this",
        "put a blank behind the colon; a tab is none",
    ),
    (
        "simple key expect",
        "a key without `:`",
        "expected `:` after this",
        "write `key: value`; the space after the colon is needed",
    ),
    (
        "block sequence entries are not allowed",
        "a list item where none can stand",
        "this `-` is not expected here",
        "start the list on its own line, below its key",
    ),
    (
        "misplaced bracket",
        "a closing bracket without an opening one",
        "nothing is open here",
        "remove it, or put text that contains brackets in quotes",
    ),
    (
        "invalid indentation",
        "this line is not indented enough",
        "belongs to the bracket or quote opened above",
        "indent it deeper than the key it belongs to, or close the bracket or quote",
    ),
    (
        "unexpected eof",
        "the file ends too early",
        "something is still open here",
        "close the bracket or quote that was opened above",
    ),
];

/// A scanner or parser error at a byte offset.
pub(super) fn syntax(text: &str, file: FileId, at: usize, info: &str) -> Diagnostic {
    if let Some(tab) = tab_indentation(text, file, at) {
        return tab;
    }
    if info.contains("recursion limit") {
        let at = visible(text, at);
        return Diagnostic::error("too-deep", "collections nest too deeply").at(Span::new(file, at, at), "too deep");
    }
    if info.contains("unknown anchor") {
        return unknown_anchor(text, file, at);
    }
    if let Some(d) = open_quote(text, file, at, info).or_else(|| missing_space(text, file, at, info)) {
        return d;
    }
    let at = visible(text, at);
    let span =
        Span::new(file, at, at + text[at..].chars().next().map_or(0, |c| if c == '\n' { 0 } else { c.len_utf8() }));
    let line = line_at(text, at);
    let d = if let Some(c) = info.strip_prefix("unexpected character: `").and_then(|s| s.chars().next()) {
        Diagnostic::error("yaml-syntax", format!("text without quotes cannot start with `{c}`"))
            .at(span, "not allowed here")
            .help("put the text in quotes")
    } else if let Some((_, message, label, help)) = SYNTAX.iter().find(|(needle, ..)| info.contains(needle)) {
        Diagnostic::error("yaml-syntax", *message).at(span, *label).help(*help)
    } else {
        Diagnostic::error("yaml-syntax", format!("not valid YAML: {info}")).at(span, "here")
    };
    let d = match open_bracket(text, file, at).filter(|_| OPEN_BRACKET.iter().any(|needle| info.contains(needle))) {
        Some((bracket, opened)) => Diagnostic::error("yaml-syntax", format!("a `{bracket}` is not closed"))
            .at(span, "still inside the brackets here")
            .also(opened, "opened here")
            .help(format!(
                "close it with `{}`, or put text that contains a bracket in quotes",
                if bracket == '[' { ']' } else { '}' }
            )),
        None => d,
    };
    if line.contains("{{") || line.contains("{%") { d.help("a template must be in quotes: `\"{{ … }}\"`") } else { d }
}

/// What the scanner says inside of a bracket that was never closed.
const OPEN_BRACKET: &[&str] = &[
    "illegal placement of ':'",
    "invalid indentation in flow",
    "expected ',' or '}'",
    "expected ',' or ']'",
    "unexpected eof",
];

/// The innermost bracket that is open at `at`. Quotes and comments are skipped as YAML would, but for escapes.
fn open_bracket(text: &str, file: FileId, at: usize) -> Option<(char, Span)> {
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut quote = None;
    let mut before = '\n';
    let mut comment = false;
    for (i, c) in text[..at].char_indices() {
        comment = (comment && c != '\n') || (quote.is_none() && c == '#' && before.is_whitespace());
        match c {
            _ if comment => {}
            c if quote == Some(c) => quote = None,
            _ if quote.is_some() => {}
            '"' | '\'' if before.is_whitespace() || "[{,:(".contains(before) => quote = Some(c),
            '[' | '{' if before.is_whitespace() || "[{,:".contains(before) => open.push((c, i)),
            ']' | '}' => drop(open.pop()),
            _ => {}
        }
        before = c;
    }
    open.pop().map(|(c, i)| (c, Span::new(file, i, i + 1)))
}

/// A quote that runs into the next lines.
fn open_quote(text: &str, file: FileId, at: usize, info: &str) -> Option<Diagnostic> {
    let needle = ["invalid indentation in quoted", "quoted scalar, found unexpected"];
    if !needle.iter().any(|n| info.contains(n)) {
        return None;
    }
    // The mark is the quote or lies behind it.
    let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    let at = text[..end].rfind(['"', '\''])?;
    Some(
        Diagnostic::error("yaml-syntax", "a quote is never closed")
            .at(Span::new(file, at, at + 1), "opened here")
            .help("add the closing quote at the end of the text"),
    )
}

/// `key:value` in the line above makes YAML read on, until it finds the next colon.
fn missing_space(text: &str, file: FileId, at: usize, info: &str) -> Option<Diagnostic> {
    if !info.contains("mapping values are not allowed") {
        return None;
    }
    let here = text[..at].rfind('\n')?;
    let start = text[..here].rfind('\n').map_or(0, |n| n + 1);
    let above = &text[start..here];
    let content = above.trim_start_matches([' ', '-']);
    let (key, rest) = content.split_once(':')?;
    let simple = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !simple || rest.is_empty() || rest.starts_with(char::is_whitespace) || rest.starts_with("//") {
        return None;
    }
    let key_at = start + above.len() - content.len();
    Some(
        Diagnostic::error("yaml-syntax", "a colon without a space after it")
            .at(Span::new(file, key_at, key_at + key.len() + 1), "YAML does not see a key here")
            .help(format!("write `{key}: {}`", rest.trim_end())),
    )
}

/// A tab in the indentation of the line at `at`, or of the nearest line above it.
fn tab_indentation(text: &str, file: FileId, at: usize) -> Option<Diagnostic> {
    let upto = text[at.min(text.len())..].find('\n').map_or(text.len(), |n| at + n);
    let mut start = upto;
    for line in text[..upto].rsplit('\n').take(2) {
        start -= line.len();
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if let Some(tab) = indent.find('\t') {
            let tabs = indent[tab..].chars().take_while(|c| *c == '\t').count();
            return Some(
                Diagnostic::error("tab-indentation", "a tab cannot indent YAML")
                    .at(Span::new(file, start + tab, start + tab + tabs), "tab here")
                    .help("replace each tab with spaces (two for each level is usual)"),
            );
        }
        start = start.saturating_sub(1);
    }
    None
}

fn unknown_anchor(text: &str, file: FileId, at: usize) -> Diagnostic {
    let at = text[..at.min(text.len())].rfind('*').filter(|s| !text[*s..at].contains('\n')).unwrap_or(at);
    let name_end = |s: &str| s.find(|c: char| c.is_whitespace() || ",[]{}".contains(c)).unwrap_or(s.len());
    let after = &text[(at + 1).min(text.len())..];
    let name = &after[..name_end(after)];
    let anchors: Vec<&str> =
        text[..at].split('&').skip(1).map(|s| &s[..name_end(s)]).filter(|s| !s.is_empty()).collect();
    let d = Diagnostic::error("unknown-anchor", format!("nothing is anchored as `&{name}` above this line"))
        .at(Span::new(file, at, at + 1 + name.len()), "unknown anchor");
    match did_you_mean(name, anchors.iter().copied()) {
        Some(better) => d.help(format!("did you mean `*{better}`?")),
        None => d.help(format!("mark the value to be reused with `&{name}` before its first use")),
    }
}

/// The last place at or before `at` where there is something to see.
fn visible(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    if text[at..].trim().is_empty() {
        at = text.trim_end().len();
    }
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn line_at(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let end = text[at..].find('\n').map_or(text.len(), |n| at + n);
    &text[start..end]
}

/// A character that YAML does not allow anywhere.
pub(super) fn control_character(file: FileId, at: usize, c: char) -> Diagnostic {
    let what =
        if c == '\0' { "a NUL byte".to_owned() } else { format!("the control character U+{:04X}", u32::from(c)) };
    Diagnostic::error("yaml-syntax", format!("{what} cannot stand in YAML"))
        .at(Span::new(file, at, at + c.len_utf8()), "not allowed here")
        .help("remove it; inside double quotes it can be written as an escape, such as `\\x00`")
}

pub(super) fn multiple_documents(span: Span) -> Diagnostic {
    Diagnostic::error("multiple-documents", "a Kurfile is one YAML document, but a second one starts here")
        .at(span, "second document")
        .help("remove the `---` line and what follows it, or put it into a file of its own")
}

pub(super) fn too_deep(span: Span, limit: usize) -> Diagnostic {
    Diagnostic::error("too-deep", format!("collections nest deeper than {limit} levels")).at(span, "too deep")
}

pub(super) fn alias_expansion(span: Span, budget: usize) -> Diagnostic {
    Diagnostic::error("alias-expansion", format!("aliases expand to more than {budget} values"))
        .at(span, "this alias crosses the limit")
        .note("aliases of aliases multiply; a file of this kind would fill the memory")
}

pub(super) fn recursive_alias(span: Span) -> Diagnostic {
    Diagnostic::error("recursive-alias", "an alias inside the very value it stands for")
        .at(span, "refers to a value that contains it")
        .help("move the anchor to an inner value, or remove the alias")
}

pub(super) fn unsupported_tag(tag: &str, span: Span) -> Diagnostic {
    let d = Diagnostic::error("unsupported-tag", format!("the tag `{tag}` is not supported")).at(span, "has this tag");
    if tag.contains("python") {
        d.note("such tags run Python code when a file is read; kurc never does")
    } else {
        d.help("remove the tag; known are `!!str`, `!!int`, `!!float`, `!!bool`, `!!null`, `!!seq` and `!!map`")
    }
}

pub(super) fn tag_mismatch(tag: &str, text: &str, span: Span) -> Diagnostic {
    Diagnostic::error("unsupported-tag", format!("`{text}` cannot be read as `!!{tag}`"))
        .at(span, format!("not a valid {tag}"))
}

pub(super) fn merge_key(value: &Value) -> Diagnostic {
    Diagnostic::error("merge-key", "`<<` takes a mapping or a list of mappings")
        .at_value(value, "not a mapping")
        .help("write `<<: *name`, where `&name` marks a mapping")
}

pub(super) fn bad_key(key: &Value) -> Diagnostic {
    Diagnostic::error("bad-key", "a collection cannot be a key")
        .at_value(key, "expected a simple key")
        .help("write `key: value`")
}

pub(super) fn duplicate_key(key: &Value, old: Span) -> Diagnostic {
    let name = key.written.as_deref().unwrap_or_default();
    Diagnostic::warning("duplicate-key", format!("the key `{name}` stands twice in one mapping; the last one counts"))
        .at_value(key, "this one counts")
        .also(old, "ignored")
}

pub(super) fn unquoted_template(text: &str, outer: Span) -> Diagnostic {
    let start = outer.start as usize;
    let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    let end = text[start..line_end].find("}}").map_or(line_end, |n| start + n + 2);
    Diagnostic::error("unquoted-template", "a template without quotes")
        .at(Span::new(outer.file, start, end), "YAML reads `{` as the start of a mapping")
        .help(format!("write `\"{}\"`", &text[start..end]))
}
