//! Operators that the engine has no hook for, made to go through filters. Text is only ever inserted, so places in the
//! result are easily traced back.
//!
//! * `a ~ b` joins texts as Python prints them. The engine joins values by its own printing, which writes `1e-05` as
//!   `0.00001` and differs inside collections, so `x ~ lr` becomes `(x)|string~(lr)|string`.
//! * `a[i]` walks through a list that is only promised (`range(100000)`, `[0] * 10000000`) without taking it from the
//!   budget, so `a[i]` becomes `((a)|_list)[i]` where such lists can occur.
//! * `a * b` and `a + b` of lists are such promises, and can be longer than memory, so `x + a * b` becomes
//!   `(x)|_list + (a * b)|_list`.

/// What stands in front of an operand of `~` and behind it.
const OPEN: &str = "(";
const CLOSE: &str = ")|string";

/// The same for what stands before a subscript; the filter is in `filters.rs`.
const OPEN_LIST: &str = "((";
const CLOSE_LIST: &str = ")|_list)";

/// The same for a factor or summand.
const CLOSE_TERM: &str = ")|_list";

/// Operators that are words. Elsewhere than between operands they are names: `conv.if`, `x | in`.
const OPERATORS: &[&str] = &["and", "or", "not", "if", "else", "in"];

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

/// The text with both operators replaced; `None` when there is none, or when the text is no template that this scanner
/// understands.
pub(super) fn rewrite(text: &str) -> Option<Rewritten> {
    // Lists that are only promised are made by operators, filters and calls.
    let promises = text.contains('[') && text.contains(['*', '+', '|', '(']);
    if !text.contains(['~', '*', '+']) && !promises {
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
            at = Scanner { text, at, promises, frames: Vec::new(), last_end: None, insertions: &mut insertions }
                .run(end)?;
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
#[derive(Default)]
struct Frame {
    start: Option<usize>,
    /// Whether a `~` stands before it.
    joined: bool,
    /// Where the name or literal starts that a subscript would apply to; none after a filter.
    primary: Option<usize>,
    /// Whether it is a product, or a `+` stands before it.
    term: bool,
    /// Whether it is what a test is asked with (`x is divisibleby y`), which takes nothing in brackets.
    tested: bool,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Whether subscripts are replaced.
    promises: bool,
    frames: Vec<Frame>,
    /// Where the last token ended, when an operand can end there.
    last_end: Option<usize>,
    insertions: &'a mut Vec<(usize, &'static str)>,
}

impl Scanner<'_> {
    /// Scans one tag and gives the offset behind it.
    fn run(mut self, end: &str) -> Option<usize> {
        self.frames.push(Frame::default());
        if self.text[self.at..].starts_with(['-', '+']) {
            self.at += 1;
        }
        let mut previous = "";
        // The word that says what kind of tag it is.
        let mut keyword = end == "%}";
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
            let is_word = word.starts_with(|c: char| c.is_alphabetic() || c == '_');
            // Part of the operand before: an attribute, a filter, a test.
            let part = matches!(previous, "." | "|" | "is");
            match word {
                _ if std::mem::take(&mut keyword) => {}
                "not" if previous == "is" => {
                    self.at += len;
                    continue;
                }
                w if is_word && !part && (OPERATORS.contains(&w) || operand && w != "is") => {
                    let tested = operand && self.frames.last().is_some_and(|f| f.tested) && !OPERATORS.contains(&w);
                    if tested {
                        self.last_end = Some(self.at + len);
                    } else {
                        self.boundary()?;
                        if !OPERATORS.contains(&w) {
                            // The word stands for itself: `recursive`, or a name after a word that is none.
                            self.begin();
                            self.last_end = Some(self.at + len);
                        }
                    }
                }
                "~" => self.tilde()?,
                "(" | "[" | "{" => {
                    if !operand {
                        self.primary(Some(self.at));
                    } else if word == "[" {
                        self.subscript();
                    }
                    self.begin();
                    self.frames.push(Frame::default());
                    self.last_end = None;
                }
                ")" | "]" | "}" => {
                    self.boundary()?;
                    self.frames.pop();
                    self.frames.last()?;
                    self.last_end = Some(self.at + len);
                }
                "," | ":" | "=" | "==" | "!=" | "<" | ">" | "<=" | ">=" => self.boundary()?,
                "+" if operand => self.plus()?,
                "-" if operand => self.boundary()?,
                // Arguments that are a list: `f(*x)`.
                "*" | "**" if !operand => {}
                _ => {
                    self.begin();
                    // After a dot or a bar, and after an operator, more must follow.
                    let open = ["|", ".", "*", "/", "//", "%", "**", "-", "+", "is"].contains(&word);
                    if word == "*" && operand {
                        self.term();
                    }
                    if word == "|" || word == "is" {
                        self.primary(None);
                    } else if !open && !operand && !part {
                        self.primary(Some(self.at));
                    }
                    if previous == "is"
                        && let Some(frame) = self.frames.last_mut()
                    {
                        frame.tested = true;
                    }
                    self.last_end = if open { None } else { Some(self.at + len) };
                }
            }
            previous = word;
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

    /// A name or literal starts here, or what is read takes no subscript.
    fn primary(&mut self, at: Option<usize>) {
        if let Some(frame) = self.frames.last_mut() {
            frame.primary = at;
        }
    }

    /// A `[` follows an operand.
    fn subscript(&mut self) {
        let start = self.frames.last().and_then(|f| f.primary);
        if let (true, Some(start), Some(end)) = (self.promises, start, self.last_end) {
            self.insertions.push((start, OPEN_LIST));
            self.insertions.push((end, CLOSE_LIST));
        }
    }

    /// The operand being read is a product or a summand.
    fn term(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.term = true;
        }
    }

    fn wrap(&mut self, start: usize, close: &'static str) -> Option<()> {
        let end = self.last_end?;
        self.insertions.push((start, OPEN));
        self.insertions.push((end, close));
        Some(())
    }

    fn tilde(&mut self) -> Option<()> {
        let frame = self.frames.last_mut()?;
        let (start, term) = (frame.start.take()?, std::mem::take(&mut frame.term));
        if term {
            self.wrap(start, CLOSE_TERM)?;
        }
        self.wrap(start, CLOSE)?;
        self.frames.last_mut()?.joined = true;
        self.last_end = None;
        Some(())
    }

    fn plus(&mut self) -> Option<()> {
        self.term();
        self.boundary()?;
        self.term();
        Some(())
    }

    /// The operand, if there is one, is over.
    fn boundary(&mut self) -> Option<()> {
        let frame = self.frames.last_mut()?;
        let (start, joined) = (frame.start.take(), std::mem::take(&mut frame.joined));
        frame.tested = false;
        frame.primary = None;
        if std::mem::take(&mut frame.term) {
            self.wrap(start?, CLOSE_TERM)?;
        }
        if joined {
            self.wrap(start?, CLOSE)?;
        }
        self.last_end = None;
        Some(())
    }
}

/// The length of the token at the start of a text; none for a quote that is never closed.
pub(super) fn token(text: &str) -> Option<usize> {
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
            ("{{- a.x|f(2) ~ 'x~y' -}}", "{{- (a.x|f(2))|string ~ ('x~y')|string -}}"),
            (
                "{{ 1 + a ~ b * 2 ~ c == d }}",
                "{{ (1)|_list + ((a)|_list)|string ~ ((b * 2)|_list)|string ~ (c)|string == d }}",
            ),
            ("{{ f(a ~ b, c) ~ -d }}", "{{ (f((a)|string ~ (b)|string, c))|string ~ (-d)|string }}"),
            (
                "{% if a ~ b is not none and c %}x~{% endif %}",
                "{% if (a)|string ~ (b is not none)|string and c %}x~{% endif %}",
            ),
            ("{% set x = 1e-5 ~ 'é' %}", "{% set x = (1e-5)|string ~ ('é')|string %}"),
            ("{{ {'k': a ~ b}['k'] }}", "{{ {'k': (a)|string ~ (b)|string}['k'] }}"),
            ("{{ range(3)[1] - a.b[i + 1] }}", "{{ ((range(3))|_list)[1] - ((a.b)|_list)[(i)|_list + (1)|_list] }}"),
            ("{{ f(x)[y[0]][1:] }}", "{{ ((((f(x))|_list)[((y)|_list)[0]])|_list)[1:] }}"),
            ("{{ a | f('(')[0] }}{{ -f(x)[0] }}", "{{ a | f('(')[0] }}{{ -((f(x))|_list)[0] }}"),
            ("{{ f(*x) + -[1] * 2 if +a }}", "{{ (f(*x))|_list + (-[1] * 2)|_list if +a }}"),
            ("{{ a.filter[0] * 2 + set }}", "{{ (((a.filter)|_list)[0] * 2)|_list + (set)|_list }}"),
            ("{{ x is divisibleby y[0] and z[0] * 1 }}", "{{ x is divisibleby y[0] and (((z)|_list)[0] * 1)|_list }}"),
            ("{{ x is divisibleby y ~ z }}", "{{ (x is divisibleby y)|string ~ (z)|string }}"),
            ("{{ f(*a + [7]) }}", "{{ f(*(a)|_list + ([7])|_list) }}"),
            ("{{ include ~ 'x' }}", "{{ (include)|string ~ ('x')|string }}"),
            ("{% for i in a[1:] + b recursive %}", "{% for i in (((a)|_list)[1:])|_list + (b)|_list recursive %}"),
            ("{% set if_ = m.if ~ n.else %}", "{% set if_ = (m.if)|string ~ (n.else)|string %}"),
            ("{% filter f(a * 2) %}", "{% filter f((a * 2)|_list) %}"),
            (
                "{{ x is not in(a + b) or not y ~ 1 }}",
                "{{ x is not in((a)|_list + (b)|_list) or not (y)|string ~ (1)|string }}",
            ),
            ("{{ a[0] ~ b }}{{ f() }}", "{{ (((a)|_list)[0])|string ~ (b)|string }}{{ f() }}"),
            ("~ {{ a }} {# ~ #} {{ b ~ c }}", "~ {{ a }} {# ~ #} {{ (b)|string ~ (c)|string }}"),
        ];
        for (text, expected) in table {
            assert_eq!(rewrite(text).map(|r| r.text).as_deref(), Some(expected));
        }
        for text in [
            "a ~ b",
            "{{ a }} ~",
            "{{ a[0] }}",
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
