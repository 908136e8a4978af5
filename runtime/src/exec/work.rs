//! What a step has to do at least: arithmetic and traffic of each launch, and the memory that the step touches. In: a
//! program, a step, values of all symbols. Out: [`StepWork`]. Invariants: every buffer of a launch counts once for reading
//! and once for writing, at its real size; memory that several launches touch counts once in the working set.

use super::bind::arena_layout;
use super::{ExecError, StepKind, plan_of};
use crate::cpu::{self, CallError};
use crate::dim::{BATCH, Dim, MAX_SYMS, Sym};
use crate::plan::{BufInfo, Call, LibCall, Place, Plan, Program};

/// Length of the axes that differ from batch to batch, where nothing says how long they are.
const STEPS: u64 = 128;
/// Labels of a sample, as [`STEPS`]: a short sentence.
const LABELS: u64 = 30;

/// Arithmetic and traffic of one launch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating point operations; a fused multiply-add is two.
    pub flops: f64,
    /// Bytes that it has to read.
    pub read: f64,
    /// Bytes that it has to write.
    pub written: f64,
}

impl Work {
    /// Bytes read and written.
    #[must_use]
    pub fn bytes(self) -> f64 {
        self.read + self.written
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Work) -> Work {
        Work { flops: self.flops + other.flops, read: self.read + other.read, written: self.written + other.written }
    }
}

/// What a step does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepWork {
    /// One for each launch.
    pub launches: Vec<Work>,
    /// Bytes of memory that the launches touch, each counted once.
    pub working_set: u64,
}

impl StepWork {
    /// All launches together.
    #[must_use]
    pub fn total(&self) -> Work {
        self.launches.iter().fold(Work::default(), |sum, w| sum.and(*w))
    }
}

/// Values for all free symbols of a step: the batch, and usual lengths for the sizes that differ from batch to batch.
#[must_use]
pub fn usual_sizes(program: &Program, step: StepKind, batch: u64) -> Vec<(Sym, u64)> {
    let launches = plan_of(program, step).map_or(&[][..], |p| &p.launches);
    let labels = |s: Sym| {
        launches.iter().any(|l| match &l.call {
            Call::Lib(LibCall::Ctc(g)) => g.labels == Dim::symbol(s) && g.steps != g.labels,
            _ => false,
        })
    };
    let symbols = &program.symbols;
    let free = (0..symbols.len().min(MAX_SYMS)).filter_map(|s| u8::try_from(s).ok().map(Sym));
    let free = free.filter(|s| symbols.def(*s).is_none());
    let usual = |s: Sym| match s {
        BATCH => batch,
        s if labels(s) => LABELS,
        _ => STEPS,
    };
    free.map(|s| (s, usual(s))).collect()
}

/// Arithmetic and traffic of a step; `None` for an absent one.
///
/// # Errors
/// [`ExecError::TooLarge`]; [`ExecError::Plan`] for what makes no sense in the plan for these sizes.
pub fn step_work(program: &Program, step: StepKind, values: &[u64]) -> Result<Option<StepWork>, ExecError> {
    let Some(plan) = plan_of(program, step) else { return Ok(None) };
    let damaged = |what: String| ExecError::Plan(format!("{step} step: {what}"));
    let refused = |e: CallError| ExecError::of_call(step, e, damaged);
    let mut places = Vec::new();
    let mut launches = Vec::with_capacity(plan.launches.len());
    for launch in &plan.launches {
        let lens: Vec<u64> = match &launch.call {
            Call::Kernel { kernel, .. } => {
                let info = program
                    .kernels
                    .get(*kernel as usize)
                    .ok_or_else(|| damaged("a launch of an unknown kernel".to_owned()))?;
                let bytes = |of: fn(&BufInfo) -> bool| {
                    info.bufs.iter().filter(|b| of(b)).map(|b| b.len.eval(values) as f64 * 4.0).sum()
                };
                launches.push(Work {
                    flops: info.flops.eval(values) as f64,
                    read: bytes(|b| b.reads),
                    written: bytes(|b| b.writes),
                });
                info.bufs.iter().map(|b| b.len.eval(values)).collect()
            }
            Call::Lib(call) => {
                let (flops, _) = cpu::work(call, values).map_err(refused)?;
                let (read, written) = cpu::traffic(call, values).map_err(refused)?;
                launches.push(Work { flops, read, written });
                cpu::buffer_lens(call, values).map_err(refused)?.into_iter().map(|l| l as u64).collect()
            }
        };
        places.extend(launch.bufs.iter().copied().zip(lens));
    }
    let working_set = touched(plan, places, values).ok_or(ExecError::TooLarge(step))?;
    Ok(Some(StepWork { launches, working_set }))
}

/// Bytes of the union of some buffers, given with their elements.
fn touched(plan: &Plan, places: Vec<(Place, u64)>, values: &[u64]) -> Option<u64> {
    let layout = arena_layout(plan, values)?;
    // The class, then the input, so that ranges of different memory stay apart.
    let mut ranges: Vec<(u32, u64, u64)> = Vec::with_capacity(places.len());
    for (place, len) in places {
        let (owner, start) = match place {
            Place::Arena { class, unit_offset } => {
                let value = plan.arena.get(class as usize)?.class.eval(values);
                (0, layout.start(class)?.checked_add(unit_offset.checked_mul(value)?)?)
            }
            Place::State { offset } => (1, offset),
            Place::Input { index } => (index.checked_add(2)?, 0),
        };
        ranges.push((owner, start, start.checked_add(len.checked_mul(4)?)?));
    }
    ranges.sort_unstable();
    let (mut sum, mut last) = (0_u64, (0, 0));
    for (owner, start, end) in ranges {
        let covered = if owner == last.0 { last.1 } else { 0 };
        sum = sum.checked_add(end.saturating_sub(start.max(covered)))?;
        last = (owner, end.max(covered));
    }
    Some(sum)
}
