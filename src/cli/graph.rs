//! `kurc graph`: a drawing of the model, as DOT on stdout or as a file.

use std::io::Read as _;
use std::path::Path;

use super::args::{CompileArgs, GlobalArgs};
use super::{USAGE, WORLD, out, show, show_extras, stopped};
use crate::diag::count;
use crate::driver::Session;
use crate::link;
use crate::shapes::draw::{MARK, dot, svg};

/// Draws the model of a Kurfile; without `output` as DOT on stdout.
pub(super) fn graph(path: &str, output: Option<&str>, args: &CompileArgs, global: &GlobalArgs) -> u8 {
    let draw = match output.map(|o| Path::new(o).extension().and_then(|e| e.to_str()).unwrap_or_default()) {
        None | Some("dot") => dot,
        Some("svg") => svg,
        Some(_) => {
            let output = output.unwrap_or_default();
            say!("error[unknown-picture]: `{output}` ends in neither .svg nor .dot");
            say!("  = help: write `-o model.svg` for a picture, or `-o model.dot` for Graphviz");
            return USAGE;
        }
    };
    let mut session = Session::new(&WORLD);
    let result = session.check(path, &args.options());
    show(&session, global);
    show_extras(&session, args);
    let checked = match result {
        Ok(c) => c,
        Err(stop) => return stopped(&stop, global),
    };
    let text = draw(&checked.kurfile, &checked.shapes);
    let Some(output) = output else { return out(&text) };
    if let Err(e) = refuse_to_destroy(Path::new(output)) {
        say!("error[write-failed]: {e}");
        say!("  = help: choose another place with `-o`, or remove that file");
        return 1;
    }
    match link::write_atomically(Path::new(output), text.as_bytes(), false) {
        Ok(()) => {
            say!("wrote {output} ({})", count(checked.kurfile.layers.len(), "layer"));
            0
        }
        Err(e) => {
            say!("error[write-failed]: {e}");
            1
        }
    }
}

/// A file that is there already is replaced only if it is a drawing of kurc: a Kurfile or data file named by mistake
/// stays, also behind a link.
fn refuse_to_destroy(path: &Path) -> Result<(), String> {
    let Ok(about) = std::fs::metadata(path) else { return Ok(()) };
    let mut head = Vec::new();
    if about.is_file() && std::fs::File::open(path).and_then(|f| f.take(200).read_to_end(&mut head)).is_ok() {
        let ours = head.windows(MARK.len()).any(|w| w == MARK.as_bytes());
        if ours || head.is_empty() {
            return Ok(());
        }
    }
    Err(format!("`{}` exists and is no drawing of kurc; it will not be overwritten", path.display()))
}
