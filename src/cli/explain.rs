//! `kurc explain`: what an id in a diagnostic means, with a wrong and a corrected Kurfile.

use std::io::{self, IsTerminal as _};

use serde_json::json;

use super::args::{FormatArg, GlobalArgs};
use super::{USAGE, colors_wanted, out};
use crate::diag::did_you_mean;
use crate::diag::pages::{PAGES, Page, find, plain_id};

/// Prints the page of an id, or the list of all ids when none is given.
pub(super) fn explain(id: Option<&str>, global: &GlobalArgs) -> u8 {
    let Some(id) = id else { return out(&list(PAGES, global.format)) };
    let Some(page) = find(id) else {
        say!("error: nothing is known by the id `{}`", plain_id(id));
        match did_you_mean(&plain_id(id), PAGES.iter().map(|p| p.id)) {
            Some(near) => say!("  = help: did you mean `{near}`?"),
            None => say!("  = help: `kurc explain` lists all ids"),
        }
        return USAGE;
    };
    out(&match global.format {
        FormatArg::Full => text(page.text, colors_wanted() && io::stdout().is_terminal()),
        FormatArg::Short | FormatArg::Json => list(&[*page], global.format),
    })
}

/// One line for each page.
fn list(pages: &[Page], format: FormatArg) -> String {
    let width = pages.iter().map(|p| p.id.len()).max().unwrap_or(0);
    let line = |p: &Page| match format {
        FormatArg::Full => format!("{:<width$}  {}\n", p.id, p.summary()),
        FormatArg::Short => format!("{}: {}\n", p.id, p.summary()),
        FormatArg::Json => json!({ "id": p.id, "summary": p.summary(), "text": p.text }).to_string() + "\n",
    };
    pages.iter().map(line).collect()
}

/// Markdown as text for a terminal: code is indented instead of fenced, comments are left out.
pub(super) fn text(markdown: &str, color: bool) -> String {
    let style = |on: &str, words: &str| if color { format!("\x1b[{on}m{words}\x1b[0m") } else { words.to_owned() };
    let mut out = String::new();
    let (mut in_code, mut in_comment) = (false, false);
    for line in markdown.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if in_code && line.is_empty() {
            out.push('\n');
        } else if in_code {
            out.push_str(&format!("    {}\n", style("36", line)));
        } else if in_comment || line.starts_with("<!--") {
            in_comment = !line.contains("-->");
        } else if let Some(title) = line.strip_prefix("# ") {
            out.push_str(&format!("{}\n", style("1", title)));
        } else if color {
            out.push_str(&format!("{}\n", code_words(line, &style)));
        } else {
            out.push_str(&format!("{line}\n"));
        }
    }
    // A comment leaves the empty lines around it behind.
    while out.contains("\n\n\n") {
        out = out.replace("\n\n\n", "\n\n");
    }
    out.trim_end().to_owned() + "\n"
}

/// Colours what stands in backquotes.
fn code_words(line: &str, style: &impl Fn(&str, &str) -> String) -> String {
    let parts = line.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 1 { style("36", part) } else { part.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# an-id\n\nIt `means` this.\n\n<!-- hidden\nfor tests -->\n\nWrong:\n\n```yaml wrong\nmodel:\n\n  - x\n```\n";

    #[test]
    fn code_is_indented_and_comments_are_hidden() {
        assert_eq!(text(PAGE, false), "an-id\n\nIt `means` this.\n\nWrong:\n\n    model:\n\n      - x\n");
    }

    #[test]
    fn colours_take_the_place_of_marks() {
        let page = text(PAGE, true);
        assert!(page.starts_with("\x1b[1man-id\x1b[0m\n"), "{page:?}");
        assert!(page.contains("It \x1b[36mmeans\x1b[0m this.") && !page.contains('`'), "{page:?}");
    }
}
