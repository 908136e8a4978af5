//! A Kurfile as data: merged from its files, and evaluated, as `kurc dump` prints it.

use crate::diag::{FileId, Reported, Sink, SourceMap};
use crate::frontend::template::Engine;
use crate::frontend::{Value, World, include};

use super::cx::Cx;
use super::{Loader, Overrides, resolved};

/// A Kurfile without its types.
#[derive(Clone, Debug)]
pub struct Data {
    /// The evaluated sections, each under both of its names; `model` and `templates` as written, because they are
    /// evaluated layer by layer. What Kur's `kur dump` shows.
    pub parsed: Value,
    /// The evaluated sections under their canonical names with the model expanded: no templates, loops unrolled.
    pub resolved: Value,
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
/// As [`super::load`].
pub fn data(
    world: &dyn World,
    path: &str,
    overrides: &[String],
    sources: &mut SourceMap,
    sink: &mut Sink,
) -> Result<Data, Reported> {
    let (file, root) = merged(world, path, overrides, sources, sink)?;
    let engine = Engine::default();
    let cx = Cx::new(world, sources, sink, &engine);
    let mut loader = Loader::new(cx, root, file, path);
    loader.run()?;
    Ok(Data { resolved: resolved::root(&loader.printed), parsed: loader.root })
}
