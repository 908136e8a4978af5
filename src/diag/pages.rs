//! The pages of `kurc explain`: one for every id that a diagnostic or an error can have.
//!
//! They lie in `docs/explain/` as Markdown and are embedded when kurc is built. `tests/explain.rs` holds that no id is
//! without a page and no page without an id, and that every example does what its page says.

/// The explanation of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The id, e.g. `shape-mismatch`.
    pub id: &'static str,
    /// Markdown: a heading that is the id, a one-line summary, then the rest.
    pub text: &'static str,
}

/// All pages, sorted by id.
pub const PAGES: &[Page] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

impl Page {
    /// What the id means, in one sentence.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        self.text.lines().skip(1).find(|l| !l.trim().is_empty()).unwrap_or_default()
    }
}

/// The page of an id, which may be written as a diagnostic shows it: `error[shape-mismatch]`.
#[must_use]
pub fn find(written: &str) -> Option<&'static Page> {
    let id = plain_id(written);
    PAGES.binary_search_by(|p| p.id.cmp(&id)).ok().and_then(|i| PAGES.get(i))
}

/// The id in what a user typed or copied: without `error[…]`, in lower case, its words joined by hyphens.
#[must_use]
pub fn plain_id(written: &str) -> String {
    let inner = written.split_once('[').map_or(written, |(_, rest)| rest.split(']').next().unwrap_or(rest));
    inner.trim().trim_end_matches(':').to_lowercase().replace(['_', ' '], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_sorted_so_that_they_are_found() {
        assert!(PAGES.is_sorted_by(|a, b| a.id < b.id));
        assert!(PAGES.iter().all(|p| find(p.id) == Some(p)));
    }

    #[test]
    fn ids_are_found_as_they_are_shown() {
        for written in ["shape-mismatch", "error[shape-mismatch]", "Shape_Mismatch", "warning[shape-mismatch]: a pool"]
        {
            assert_eq!(find(written).map(|p| p.id), Some("shape-mismatch"), "{written}");
        }
        assert_eq!(find("no-such-id"), None);
    }
}
