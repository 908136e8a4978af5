//! `kurc check`: everything that can be said of a Kurfile without building it. What is not built, and data that is not
//! there, are warnings; shapes that do not fit, losses and targets that make no sense are errors.

use std::time::Instant;

use kur_runtime::data::Role;
use kur_runtime::error::Error;

use super::{Options, Session, Stop, program};
use crate::diag::{Diagnostic, Severity};
use crate::lower::model::Mode;
use crate::model::types::{DataShape, Kurfile, Need};
use crate::shapes::{Shapes, Unseen, infer};

/// The id of errors about data that is not there.
pub(super) const MISSING_FILE: &str = "data-file";

/// A Kurfile that was looked through.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The typed Kurfile.
    pub kurfile: Kurfile,
    /// Shapes of its layers, as far as they are known.
    pub shapes: Shapes,
}

/// A look at the data, before anything is known of the model's outputs.
pub(super) struct Look {
    /// Shapes of inputs.
    pub(super) inputs: Vec<DataShape>,
    /// Why the data could not be seen.
    pub(super) trouble: Option<Error>,
    /// Whether the Kurfile names data at all.
    pub(super) named: bool,
}

/// Looks at the data. The inputs come first: whether targets are classes depends on the shapes of the outputs.
pub(super) fn look(kurfile: &Kurfile, file: Option<&str>) -> Look {
    let named = program::section(kurfile, file).is_some();
    match program::probe(kurfile, None, file) {
        Ok(found) => {
            let inputs = found.unwrap_or_default().into_iter().filter(|(r, _)| *r == Role::Input);
            Look { inputs: inputs.map(|(_, s)| s).collect(), trouble: None, named }
        }
        Err(e) => Look { inputs: Vec::new(), trouble: Some(e), named },
    }
}

/// The data is not there, but nothing depends on it yet.
pub(super) fn not_seen(e: &Error) -> Diagnostic {
    Diagnostic::warning("data-not-seen", e.message()).note("shapes were taken from the Kurfile alone")
}

impl Session<'_> {
    /// Looks for everything that is wrong with a Kurfile.
    ///
    /// # Errors
    /// Errors of the Kurfile are in the sink; data that is there must be readable. See [`Stop`].
    pub fn check(&mut self, path: &str, options: &Options) -> Result<Checked, Stop> {
        let kurfile = self.load(path, &options.set)?;
        for u in &kurfile.unbuilt {
            self.sink.push(u.finding(Severity::Warning));
        }
        let start = Instant::now();
        let Look { mut inputs, trouble, named } = look(&kurfile, options.data.as_deref());
        let missing = trouble.as_ref().is_some_and(|e| options.data.is_none() && e.id() == MISSING_FILE);
        if let Some(e) = trouble.as_ref().filter(|_| missing) {
            self.sink.push(not_seen(e));
        }
        let seen = trouble.is_none() && !inputs.is_empty();
        if !seen {
            inputs.extend(program::fixed_shapes(&kurfile));
        }
        let unseen = if named { Unseen::Silent } else { Unseen::Warning };
        let shapes = infer(&kurfile, &inputs, unseen, &self.sources, &mut self.sink);
        if let Some(e) = trouble.filter(|_| !missing) {
            return Err(Stop::Data(e));
        }
        self.sink.check()?;
        let built = kurfile.unbuilt.iter().all(|u| u.need != Need::Build);
        if built && shapes.all_known() {
            // Losses and targets are judged where they are lowered.
            let lowered = self.lower_step(&kurfile, Mode::Infer, &shapes, &[])?;
            let data = if seen {
                let found = program::probe(&kurfile, Some(&lowered), options.data.as_deref()).map_err(Stop::Data)?;
                found.unwrap_or_default().into_iter().map(|(_, s)| s).collect()
            } else {
                inputs
            };
            self.lower_steps(&kurfile, &shapes, &lowered, data, start)?;
        }
        Ok(Checked { kurfile, shapes })
    }
}
