//! A pattern of `include` -> the files it matches, as Python's `glob` with `recursive=True` finds them, but sorted.
//!
//! `*`, `?` and `[…]` match inside one name, `**` any number of folders. Names that start with a dot are matched only by
//! patterns that do so too. Folders are looked through in a budget, and `**` follows no loop of links.

use crate::frontend::world::World;

/// Names that one pattern may look at.
const BUDGET: usize = 50_000;

/// Folders that `**` goes down.
const MAX_DEPTH: usize = 24;

/// More names than the budget were met.
#[derive(Debug)]
pub(super) struct TooMany;

/// Whether a text is a pattern and not only a name.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The files that match, sorted. `dir` is the folder of the including file, with a `/` at its end when not empty.
pub(super) fn expand(world: &dyn World, dir: &str, pattern: &str) -> Result<Vec<String>, TooMany> {
    let (start, pattern) = match pattern.strip_prefix('/') {
        Some(rest) => ("/", rest),
        None => (dir, pattern),
    };
    let mut search = Search { world, seen: 0 };
    // Folders with their final `/`, reached so far.
    let mut bases = vec![start.to_owned()];
    let parts: Vec<&str> = pattern.split('/').filter(|p| !p.is_empty()).collect();
    let Some((last, folders)) = parts.split_last() else { return Ok(Vec::new()) };
    for part in folders {
        let mut next = Vec::new();
        for base in &bases {
            if *part == "**" {
                next.push(base.clone());
                search.below(base, 0, &mut Vec::new(), &mut next)?;
            } else if is_pattern(part) {
                let names = search.names(base, part)?;
                next.extend(names.iter().map(|n| format!("{base}{n}/")).filter(|p| world.is_dir(p)));
            } else {
                next.push(format!("{base}{part}/"));
            }
        }
        bases = next;
    }
    let mut files = Vec::new();
    for base in &bases {
        if *last == "**" {
            let mut all = vec![base.clone()];
            search.below(base, 0, &mut Vec::new(), &mut all)?;
            for folder in all {
                let names = search.names(&folder, "*")?;
                files.extend(names.iter().map(|n| format!("{folder}{n}")));
            }
        } else {
            let names = if is_pattern(last) { search.names(base, last)? } else { vec![(*last).to_owned()] };
            files.extend(names.iter().map(|n| format!("{base}{n}")));
        }
    }
    files.retain(|p| world.exists(p) && !world.is_dir(p));
    files.sort();
    files.dedup();
    Ok(files)
}

struct Search<'w> {
    world: &'w dyn World,
    seen: usize,
}

impl Search<'_> {
    /// Names in a folder that match.
    fn names(&mut self, folder: &str, pattern: &str) -> Result<Vec<String>, TooMany> {
        let path = if folder.len() > 1 { folder.trim_end_matches('/') } else { folder };
        let mut names = self.world.list_dir(path);
        self.seen += names.len() + 1;
        if self.seen > BUDGET {
            return Err(TooMany);
        }
        names.retain(|n| (pattern.starts_with('.') || !n.starts_with('.')) && matches(pattern, n));
        Ok(names)
    }

    /// All folders below one, hidden ones left out.
    fn below(
        &mut self,
        folder: &str,
        depth: usize,
        above: &mut Vec<String>,
        out: &mut Vec<String>,
    ) -> Result<(), TooMany> {
        let identity = self.world.identity(folder);
        if depth >= MAX_DEPTH || above.contains(&identity) {
            return Ok(());
        }
        above.push(identity);
        for name in self.names(folder, "*")? {
            let path = format!("{folder}{name}/");
            if self.world.is_dir(&path) {
                out.push(path.clone());
                self.below(&path, depth + 1, above, out)?;
            }
        }
        above.pop();
        Ok(())
    }
}

/// One step of a pattern.
enum Token {
    Any,
    One,
    Is(char),
    /// Ranges, and whether they are what must not match.
    Set(Vec<(char, char)>, bool),
}

fn tokens(pattern: &str) -> Vec<Token> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = Vec::new();
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        i += 1;
        match c {
            // Runs of stars mean what one means.
            '*' if matches!(out.last(), Some(Token::Any)) => {}
            '*' => out.push(Token::Any),
            '?' => out.push(Token::One),
            '[' => {
                let negated = chars.get(i) == Some(&'!');
                let first = i + usize::from(negated);
                // A `]` right after the bracket belongs to the set.
                match chars.iter().skip(first + 1).position(|c| *c == ']') {
                    Some(n) => {
                        let end = first + 1 + n;
                        out.push(Token::Set(ranges(&chars[first..end]), negated));
                        i = end + 1;
                    }
                    None => out.push(Token::Is('[')),
                }
            }
            c => out.push(Token::Is(c)),
        }
    }
    out
}

fn ranges(set: &[char]) -> Vec<(char, char)> {
    let mut out = Vec::new();
    let mut i = 0;
    while let Some(&c) = set.get(i) {
        match (set.get(i + 1), set.get(i + 2)) {
            (Some('-'), Some(&to)) => {
                out.push((c, to));
                i += 3;
            }
            _ => {
                out.push((c, c));
                i += 1;
            }
        }
    }
    out
}

/// Whether a name matches a pattern of one path step. Linear but for the last star met.
fn matches(pattern: &str, name: &str) -> bool {
    let (tokens, chars) = (tokens(pattern), name.chars().collect::<Vec<_>>());
    let (mut t, mut c) = (0, 0);
    // After the last star: where to go on in the pattern, and how far the star reaches in the name.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let fits = match (tokens.get(t), chars.get(c)) {
            (None, None) => return true,
            (Some(Token::Any), _) => {
                t += 1;
                star = Some((t, c));
                continue;
            }
            (Some(Token::One), Some(_)) => true,
            (Some(Token::Is(p)), Some(x)) => p == x,
            (Some(Token::Set(ranges, negated)), Some(x)) => {
                ranges.iter().any(|(a, b)| (*a..=*b).contains(x)) != *negated
            }
            _ => false,
        };
        if fits {
            (t, c) = (t + 1, c + 1);
            continue;
        }
        match star {
            Some((after, reach)) if reach < chars.len() => {
                star = Some((after, reach + 1));
                (t, c) = (after, reach + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::MemoryWorld;

    #[test]
    fn names_match_as_in_python() {
        let table = [
            ("*", "a.yml", true),
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[ab]*", "bx", true),
            ("[!ab]*", "bx", false),
            ("[!ab]*", "cx", true),
            ("[a-c]1", "b1", true),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("ä*", "äb", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn folders_are_searched() {
        let mut world = MemoryWorld::default();
        for path in ["n/b.yml", "n/a.yml", "n/.h.yml", "n/s/c.yml", "n/s/t/d.yml", "n/.g/e.yml", "o.yml", "n/x.json"] {
            world.files.insert(path.to_owned(), Vec::new());
        }
        let find = |dir: &str, pattern: &str| expand(&world, dir, pattern).expect("few").join(" ");
        assert_eq!(find("n/", "*.yml"), "n/a.yml n/b.yml");
        assert_eq!(find("n/", "**/*.yml"), "n/a.yml n/b.yml n/s/c.yml n/s/t/d.yml");
        assert_eq!(find("", "n/*/c.yml"), "n/s/c.yml");
        assert_eq!(find("n/", ".*.yml"), "n/.h.yml");
        assert_eq!(find("n/s/", "../a.yml"), "n/s/../a.yml");
        assert_eq!(find("n/s/", "**"), "n/s/c.yml n/s/t/d.yml");
        assert_eq!(find("n/", "[!a].yml"), "n/b.yml");
        assert_eq!(find("n/", "s"), "");
        assert_eq!(find("", "*"), "o.yml");
    }
}
