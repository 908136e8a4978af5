//! Which templates the engine can read without running out of stack.
//!
//! The engine's parser is recursive. It bounds the depth of brackets, but not that of operators and blocks: `- - x`,
//! `a + b + c`, `x | f | g` and `x.y.z` go one level deeper with each operator. Comes in: template text. Goes out: the
//! place at which it nests too deeply.

/// Operators that may be open at one place of a tag, those around the brackets it stands in included.
const MAX_OPERATORS: usize = 1_000;

/// Blocks that may be open at one place; an `elif` counts as one more.
const MAX_BLOCKS: usize = 100;

/// Words that are operators.
const OPERATORS: &[&str] = &["not", "and", "or", "in", "is", "if", "else"];

/// Words that open a block.
const BLOCKS: &[&str] = &["for", "if", "macro", "filter", "call", "with", "block", "autoescape"];

/// The offset at which a template becomes too deep.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    // Every level takes two bytes at least, and most templates are shorter than that.
    if text.len() < MAX_OPERATORS {
        return None;
    }
    let mut at = 0;
    // Levels of each open block.
    let mut blocks: Vec<usize> = Vec::new();
    while let Some(found) = text[at..].find('{') {
        let start = at + found;
        at = start + 1;
        match text.as_bytes().get(at) {
            Some(b'#') => at = text[at..].find("#}").map_or(text.len(), |n| at + n),
            Some(b'{') => match Tag::scan(text, at + 1) {
                Ok(end) => at = end,
                Err(deep) => return Some(deep),
            },
            Some(b'%') => {
                let head = text[at + 1..].trim_start_matches(['-', '+']).trim_start();
                let word = &head[..head.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(head.len())];
                let end = match Tag::scan(text, at + 1) {
                    Ok(end) => end,
                    Err(deep) => return Some(deep),
                };
                if word == "raw" {
                    at = text[end..].find("endraw").map_or(text.len(), |n| end + n);
                    continue;
                }
                if word.starts_with("end") {
                    blocks.pop();
                } else if BLOCKS.contains(&word) || word == "set" && !text[at..end].contains('=') {
                    blocks.push(1);
                } else if word == "elif"
                    && let Some(levels) = blocks.last_mut()
                {
                    *levels += 1;
                }
                if blocks.iter().sum::<usize>() > MAX_BLOCKS {
                    return Some(start);
                }
                at = end;
            }
            _ => {}
        }
    }
    None
}

/// One tag while it is scanned.
struct Tag {
    /// Operators since the last comma, for each open bracket; the first is the tag itself.
    open: Vec<usize>,
    /// Their sum.
    total: usize,
}

impl Tag {
    /// The offset behind a tag, or the one at which it becomes too deep.
    fn scan(text: &str, start: usize) -> Result<usize, usize> {
        let bytes = text.as_bytes();
        let mut tag = Tag { open: vec![0], total: 0 };
        let mut at = start;
        while let Some(&b) = bytes.get(at) {
            let next = bytes.get(at + 1);
            match b {
                b'}' | b'%' if next == Some(&b'}') && tag.open.len() == 1 => return Ok(at + 2),
                b'\'' | b'"' => {
                    at += 1;
                    while bytes.get(at).is_some_and(|c| *c != b) {
                        at += if bytes[at] == b'\\' { 2 } else { 1 };
                    }
                }
                b'(' | b'[' | b'{' => {
                    tag.operator();
                    tag.open.push(0);
                }
                b')' | b']' | b'}' => tag.close(),
                b',' => tag.comma(),
                _ if b"+-*/%~|.<>=!".contains(&b) => tag.operator(),
                _ if b.is_ascii_alphabetic() => {
                    let end = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    let end = end.map_or(text.len(), |n| at + n);
                    if OPERATORS.contains(&&text[at..end]) {
                        tag.operator();
                    }
                    at = end;
                    continue;
                }
                _ => {}
            }
            if tag.total > MAX_OPERATORS {
                return Err(at);
            }
            at += 1;
        }
        Ok(text.len())
    }

    fn operator(&mut self) {
        if let Some(own) = self.open.last_mut() {
            *own += 1;
            self.total += 1;
        }
    }

    fn comma(&mut self) {
        if let Some(own) = self.open.last_mut() {
            self.total -= std::mem::take(own);
        }
    }

    fn close(&mut self) {
        if self.open.len() > 1
            && let Some(own) = self.open.pop()
        {
            self.total -= own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::too_deep;

    #[test]
    fn chains_of_operators_are_found() {
        for piece in ["-", "not ", "1 + ", "a ~ ", "a and ", "{}.b", "a[0]", "x | f("] {
            assert_eq!(too_deep(&format!("{{{{ {} }}}}", piece.repeat(100))), None, "{piece}");
            assert!(too_deep(&format!("{{{{ {} }}}}", piece.repeat(5_000))).is_some(), "{piece}");
            assert!(too_deep(&format!("{{% if {} %}}", piece.repeat(5_000))).is_some(), "{piece}");
        }
    }

    #[test]
    fn blocks_are_counted_while_they_are_open() {
        let closed = "{% if a %}{% elif b %}{% endif %}{% set x = 1 %}".repeat(1_000);
        assert_eq!(too_deep(&closed), None);
        assert!(too_deep(&"{% for i in x %}".repeat(200)).is_some());
        assert!(too_deep(&("{% if a %}".to_owned() + &"{% elif b %}".repeat(200))).is_some());
        assert!(too_deep(&"{% set x %}".repeat(200)).is_some());
    }

    #[test]
    fn long_lists_and_texts_are_not_deep() {
        let list = format!("{{{{ [{}] }}}}", "-1.5, {'a': b.c}, ".repeat(5_000));
        assert_eq!(too_deep(&list), None);
        for text in ["'---(((' ", "{# {{ --- #}", "--- ", "{% raw %}{{ - {% endraw %}", "{{ a }}{{ b.c | d }}"] {
            let text = if text.starts_with('\'') {
                format!("{{{{ {} }}}}", text.repeat(2_000).replace("' '", ", "))
            } else {
                text.repeat(2_000)
            };
            assert_eq!(too_deep(&text), None);
        }
    }
}
