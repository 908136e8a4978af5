//! `kurc check`: findings on stderr and, when asked for, the layers on stdout.

use super::args::{CompileArgs, FormatArg, GlobalArgs};
use super::{WORLD, out, show, show_extras, stopped};
use crate::diag::count;
use crate::driver::{Checked, Session};
use crate::shapes::{parameters, table, table_json};

/// How layers are printed.
#[derive(Clone, Copy)]
pub(super) enum Layers {
    /// A table.
    Text,
    /// One JSON object a line.
    Json,
}

/// Looks through a Kurfile; `layers` asks for the layer table and the messages of `debug`.
pub(super) fn check(path: &str, layers: Option<Layers>, args: &CompileArgs, global: &GlobalArgs) -> u8 {
    let mut session = Session::new(&WORLD);
    let result = session.check(path, &args.options());
    show(&session, global);
    show_extras(&session, args);
    let checked = match result {
        Ok(c) => c,
        Err(stop) => return stopped(&stop, global),
    };
    let status = layers.map_or(0, |form| out(&text(&checked, form, &session)));
    // A line of text among the objects would break what reads them; the exit status says the same.
    if !matches!(global.format, FormatArg::Json) {
        let layers = count(checked.kurfile.layers.len(), "layer");
        say!("{path}: no errors ({layers}, {})", parameters(checked.shapes.params()));
    }
    status
}

fn text(checked: &Checked, form: Layers, session: &Session<'_>) -> String {
    let Checked { kurfile, shapes } = checked;
    let messages = kurfile.messages.iter().map(|m| (session.sources.line(m.span), &m.value));
    match form {
        Layers::Text => {
            let messages: String = messages.map(|(line, m)| format!("debug (line {line}): {m}\n")).collect();
            messages + &table(kurfile, shapes)
        }
        Layers::Json => {
            let line = |(line, m): (_, &String)| format!("{}\n", serde_json::json!({ "debug": m, "line": line }));
            let messages: String = messages.map(line).collect();
            messages + &table_json(kurfile, shapes, &session.sources)
        }
    }
}
