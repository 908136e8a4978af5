//! Updates of several batches (`accumulate` of the optimizer). The train step counts batches and sums gradients in states
//! of the optimizer; the runtime tells it which batch is the last of an epoch, whose update takes what there is.

use super::engine::Engine;
use crate::plan::Program;

/// Places of the counter of batches and of the mark of the last one; `None` where every batch makes an update.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accumulation(Option<(usize, usize)>);

impl Accumulation {
    pub(super) fn of(program: &Program) -> Accumulation {
        let find = |name: &str| program.state.iter().position(|s| s.name == name);
        let spec = program.run.rate.accumulate.as_ref();
        Accumulation(spec.and_then(|s| Some((find(&s.batches)?, find(&s.last)?))))
    }

    /// Says before a step whether its batch is the last of the epoch.
    pub(super) fn mark<E: Engine>(self, engine: &mut E, last: bool) {
        if let Some((_, mark)) = self.0
            && let [value] = engine.state_mut(mark)
        {
            *value = f32::from(u8::from(last));
        }
    }

    /// Whether the step just run made an update; takes the mark away again, so that it never is in a file.
    pub(super) fn updated<E: Engine>(self, engine: &mut E) -> bool {
        self.mark(engine, false);
        self.0.is_none_or(|(batches, _)| matches!(engine.state(batches), [0.0]))
    }
}
