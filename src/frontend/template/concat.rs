//! `a ~ b` joins texts as Python prints them.
//!
//! The engine joins values by its own printing, which writes `1e-05` as `0.00001` and differs inside collections. It has
//! no hook for that, so the operands of every `~` are put through the filter `string`: `x ~ lr` becomes
//! `(x)|string~(lr)|string`. Text is only ever inserted, so places in the result are easily traced back.

/// What stands in front of an operand and behind it.
const OPEN: &str = "(";
const CLOSE: &str = ")|string";

/// Words that end an operand.
const WORDS: &[&str] = &[
    "and",
    "or",
    "not",
    "if",
    "else",
    "elif",
    "in",
    "for",
    "set",
    "call",
    "with",
    "macro",
    "filter",
    "do",
    "import",
    "include",
    "recursive",
    "print",
];

/// Template text with what was inserted into it.
#[derive(Debug, PartialEq)]
pub(super) struct Rewritten {
    /// The new text.
    pub(super) text: String,
    /// Offset in the old text and length of each insertion, in order.
    inserted: Vec<(usize, usize)>,
}

impl Rewritten {
    /// The offset in the old text.
    pub(super) fn original(&self, offset: usize) -> usize {
        let mut before = 0;
        for (at, len) in &self.inserted {
            if at + before >= offset {
                break;
            }
            before += len;
        }
        offset.saturating_sub(before)
    }
}

/// The text with every `~` made to join as Python does; `None` when there is none, or when the text is no template that
/// this scanner understands.
pub(super) fn rewrite(text: &str) -> Option<Rewritten> {
    if !text.contains('~') {
        return None;
    }
    let mut insertions = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find('{') {
        at += found;
        let (end, code) = match text.as_bytes().get(at + 1) {
            Some(b'{') => ("}}", true),
            Some(b'%') => ("%}", true),
            Some(b'#') => ("#}", false),
            _ => {
                at += 1;
                continue;
            }
        };
        at += 2;
        if code {
            let start = at;
            at = Scanner { text, at, frames: Vec::new(), last_end: None, insertions: &mut insertions }.run(end)?;
            // Text between these tags is no template.
            let inner = text[start..at - 2].trim_matches(['-', '+', ' ', '\t', '\n']);
            if end == "%}" && inner == "raw" {
                at += text[at..].find("endraw")?;
            }
        } else {
            at += text[at..].find(end)? + end.len();
        }
    }
    if insertions.is_empty() {
        return None;
    }
    insertions.sort_by_key(|(at, _)| *at);
    let mut out = String::new();
    let mut done = 0;
    for (at, piece) in &insertions {
        out.push_str(&text[done..*at]);
        out.push_str(piece);
        done = *at;
    }
    out.push_str(&text[done..]);
    Some(Rewritten { text: out, inserted: insertions.iter().map(|(at, piece)| (*at, piece.len())).collect() })
}

/// The operand that is being read at one depth of brackets.
struct Frame {
    start: Option<usize>,
    /// Whether a `~` stands before it.
    joined: bool,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    frames: Vec<Frame>,
    /// Where the last token ended, when an operand can end there.
    last_end: Option<usize>,
    insertions: &'a mut Vec<(usize, &'static str)>,
}

impl Scanner<'_> {
    /// Scans one tag and gives the offset behind it.
    fn run(mut self, end: &str) -> Option<usize> {
        self.frames.push(Frame { start: None, joined: false });
        if self.text[self.at..].starts_with(['-', '+']) {
            self.at += 1;
        }
        let mut after_is = false;
        loop {
            let rest = &self.text[self.at..];
            let c = rest.chars().next()?;
            if c.is_whitespace() {
                self.at += c.len_utf8();
                continue;
            }
            let closing = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if self.frames.len() == 1 && (rest.starts_with(end) || closing.starts_with(end)) {
                self.boundary()?;
                return Some(self.at + (rest.len() - closing.len()) * usize::from(!rest.starts_with(end)) + end.len());
            }
            let len = token(rest)?;
            let word = &rest[..len];
            let operand = self.last_end.is_some();
            match word {
                "~" => self.tilde()?,
                "(" | "[" | "{" => {
                    self.begin();
                    self.frames.push(Frame { start: None, joined: false });
                    self.last_end = None;
                }
                ")" | "]" | "}" => {
                    self.boundary()?;
                    self.frames.pop();
                    self.frames.last()?;
                    self.last_end = Some(self.at + len);
                }
                "," | ":" | "=" | "==" | "!=" | "<" | ">" | "<=" | ">=" => self.boundary()?,
                "+" | "-" if operand => self.boundary()?,
                "not" if after_is => {}
                w if WORDS.contains(&w) => self.boundary()?,
                _ => {
                    self.begin();
                    // After a dot or a bar, and after an operator, more must follow.
                    let open = ["|", ".", "*", "/", "//", "%", "**", "-", "+", "is"].contains(&word);
                    self.last_end = if open { None } else { Some(self.at + len) };
                }
            }
            after_is = word == "is";
            self.at += len;
        }
    }

    /// An operand starts here, unless it has started already.
    fn begin(&mut self) {
        let at = self.at;
        if let Some(frame) = self.frames.last_mut() {
            frame.start.get_or_insert(at);
        }
    }

    fn wrap(&mut self, start: usize) -> Option<()> {
        let end = self.last_end?;
        self.insertions.push((start, OPEN));
        self.insertions.push((end, CLOSE));
        Some(())
    }

    fn tilde(&mut self) -> Option<()> {
        let start = self.frames.last_mut().and_then(|f| f.start.take())?;
        self.wrap(start)?;
        self.frames.last_mut()?.joined = true;
        self.last_end = None;
        Some(())
    }

    /// The operand, if there is one, is over.
    fn boundary(&mut self) -> Option<()> {
        let frame = self.frames.last_mut()?;
        let (start, joined) = (frame.start.take(), std::mem::take(&mut frame.joined));
        if joined {
            self.wrap(start?)?;
        }
        self.last_end = None;
        Some(())
    }
}

/// The length of the token at the start of a text.
fn token(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first == '\'' || first == '"' {
        let mut escaped = false;
        for (i, c) in text.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == first => return Some(i + 1),
                _ => {}
            }
        }
        return None;
    }
    if first.is_ascii_digit() {
        // `1.5` and `1e-5` are one token; `1.x` is not met in practice.
        let number = |(i, c): (usize, char)| {
            let sign = matches!(c, '+' | '-') && text[..i].ends_with(['e', 'E']);
            !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || sign)
        };
        return Some(text.char_indices().find(|p| number(*p)).map_or(text.len(), |(i, _)| i));
    }
    if first.is_alphabetic() || first == '_' {
        return Some(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()));
    }
    if ["==", "!=", "<=", ">=", "//", "**"].iter().any(|op| text.starts_with(op)) {
        return Some(2);
    }
    Some(first.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_wrapped() {
        let table = [
            ("{{ a ~ b }}", "{{ (a)|string ~ (b)|string }}"),
            ("{{- a.x[1]|f(2) ~ 'x~y' -}}", "{{- (a.x[1]|f(2))|string ~ ('x~y')|string -}}"),
            ("{{ 1 + a ~ b * 2 ~ c == d }}", "{{ 1 + (a)|string ~ (b * 2)|string ~ (c)|string == d }}"),
            ("{{ f(a ~ b, c) ~ -d }}", "{{ (f((a)|string ~ (b)|string, c))|string ~ (-d)|string }}"),
            (
                "{% if a ~ b is not none and c %}x~{% endif %}",
                "{% if (a)|string ~ (b is not none)|string and c %}x~{% endif %}",
            ),
            ("{% set x = 1e-5 ~ 'é' %}", "{% set x = (1e-5)|string ~ ('é')|string %}"),
            ("{{ {'k': a ~ b}['k'] }}", "{{ {'k': (a)|string ~ (b)|string}['k'] }}"),
            ("~ {{ a }} {# ~ #} {{ b ~ c }}", "~ {{ a }} {# ~ #} {{ (b)|string ~ (c)|string }}"),
        ];
        for (text, expected) in table {
            assert_eq!(rewrite(text).map(|r| r.text).as_deref(), Some(expected));
        }
        for text in [
            "a ~ b",
            "{{ a }} ~",
            "{{ ~ a }}",
            "{{ a ~ }}",
            "{{ a ~ 'b }}",
            "{{ (a ~ b }}",
            "{% raw %}{{ a ~ b }}{% endraw %}",
        ] {
            assert_eq!(rewrite(text), None, "{text}");
        }
    }

    #[test]
    fn places_are_traced_back() {
        let text = "{{ a ~ bb }} {{ c }}";
        let new = rewrite(text).expect("has a tilde");
        for word in ["a ", "bb", "c }}"] {
            let word = word.trim_end();
            let there = new.text.find(&format!("({word})")).map(|n| n + 1).or_else(|| new.text.find(word));
            assert_eq!(there.map(|n| new.original(n)), text.find(word), "{word}");
        }
    }
}
