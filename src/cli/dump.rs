//! `kurc dump`: a Kurfile as data, and where its values come from.

use super::args::{DumpArgs, GlobalArgs};
use super::{KURFILE, WORLD, out, show};
use crate::driver::Session;
use crate::frontend::print;
use crate::model;

pub(super) fn dump(args: &DumpArgs, global: &GlobalArgs) -> u8 {
    let mut session = Session::new(&WORLD);
    let (path, set) = (args.kurfile.as_str(), args.set.as_slice());
    let (sources, sink) = (&mut session.sources, &mut session.sink);
    let text = |value: &crate::frontend::Value| if args.json { print::json(value) } else { print::yaml(value) };
    let result = match &args.explain {
        Some(key) => model::explain(&WORLD, path, set, key, sources, sink),
        None if args.pre_parse => model::merged(&WORLD, path, set, sources, sink).map(|(_, root)| text(&root)),
        None => model::data(&WORLD, path, set, sources, sink).map(|data| text(&data.resolved)),
    };
    show(&session, global);
    match result {
        Ok(text) => out(&text),
        Err(_) => KURFILE,
    }
}
