//! A Kurfile as data: merged from its files, and evaluated, as `kurc dump` prints it.

use crate::diag::{FileId, Reported, Sink, SourceMap};
use crate::frontend::{Value, World, include};

use super::cx::Cx;
use super::{Loader, Overrides, blame, engine, resolved};

/// A Kurfile without its types.
#[derive(Clone, Debug)]
pub struct Data {
    /// The evaluated sections, each under both of its names; `model` and `templates` as written, because they are
    /// evaluated layer by layer. What Kur's `kur dump` shows.
    pub parsed: Value,
    /// The evaluated sections under their canonical names with the model expanded: no templates, loops unrolled.
    pub resolved: Value,
    /// Whether the Kurfile has errors. Values that cannot be evaluated are missing, everything else is there.
    pub state: Result<(), Reported>,
}

/// The Kurfile with everything it includes and with all overrides, before anything is evaluated.
///
/// # Errors
/// Those of [`include::load`] and [`Overrides`].
pub fn merged(
    world: &dyn World,
    path: &str,
    overrides: &[String],
    sources: &mut SourceMap,
    sink: &mut Sink,
) -> Result<(FileId, Value), Reported> {
    let (file, mut root) = include::load(world, path, sources, sink)?;
    let variable = world.env_var(super::overrides::VARIABLE);
    Overrides::parse(variable.as_deref(), overrides, sources, sink)?.apply(&mut root, sink)?;
    Ok((file, root))
}

/// The evaluated Kurfile. It is checked as in [`super::load`], with the same findings.
///
/// # Errors
/// Those of [`merged`]; whether there are others is in [`Data::state`].
pub fn data(
    world: &dyn World,
    path: &str,
    overrides: &[String],
    sources: &mut SourceMap,
    sink: &mut Sink,
) -> Result<Data, Reported> {
    let (file, root) = merged(world, path, overrides, sources, sink)?;
    let engine = engine(world, path, &root);
    let cx = Cx::new(world, sources, sink, &engine);
    let mut loader = Loader::new(cx, root.clone(), file, path);
    let state = loader.run().map(|_| ());
    let data = Data { resolved: resolved::root(&loader.printed), parsed: loader.root, state };
    blame::note(&engine, &root, sources, sink);
    Ok(data)
}
