//! Embeds the pages of `kurc explain`. Comes in: `docs/explain/ID.md`. Goes out: a table of id and text, sorted by id,
//! that `src/diag/pages.rs` includes. A page that is added or removed needs no other edit.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("docs/explain");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut pages = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".md")) else { continue };
        // README.md tells how to write a page; it is none itself.
        if id != "README" {
            pages.push((id.to_owned(), path.display().to_string()));
        }
    }
    pages.sort();
    let mut table = String::from("&[\n");
    for (id, path) in &pages {
        writeln!(table, "    Page {{ id: {id:?}, text: include_str!({path:?}) }},")?;
    }
    table.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("pages.rs"), table)?;
    Ok(())
}
