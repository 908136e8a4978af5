//! Synthetic data for every kind of input: numbers, classes, indices of a table, labels and lengths. In: a plan and the
//! values of its symbols. Out: one batch, as [`crate::exec::Executor::run`] takes it. Invariants: every kernel accepts the
//! values, all samples have their full length, and the same plan and sizes give the same numbers.

use crate::abi::rng;
use crate::error::{Error, Exit, Result};
use crate::plan::{Call, CtcGeometry, InputRole, InputSlot, LibCall, Place, Plan, Program};

/// Operation number of the draws behind synthetic data.
const DATA_OP: u32 = 0x6000_0000;

/// What an input is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    /// Uniform with variance 1, like the normal numbers that other frameworks are measured with.
    Numbers,
    /// Rows with a single 1.
    OneHot,
    /// 0 or 1.
    Bits,
    /// Whole numbers below this.
    Below(u64),
    /// Labels of a sample below this, no two equal ones side by side where there are several.
    Labels(u64),
    /// The same number everywhere.
    Same(f32),
}

/// Values of all inputs but the control words, in the order of the plan.
///
/// # Errors
/// Memory is short.
pub(super) fn synthetic(program: &Program, plan: &Plan, values: &[u64]) -> Result<Vec<Vec<f32>>> {
    let fills = fills(program, plan, values);
    let inputs = plan.inputs.iter().zip(fills).enumerate();
    inputs.filter(|(_, (slot, _))| slot.role != InputRole::Control).map(|(i, (s, f))| fill(i, s, f, values)).collect()
}

/// What each input slot is filled with.
fn fills(program: &Program, plan: &Plan, values: &[u64]) -> Vec<Fill> {
    let mut fills: Vec<Fill> = plan.inputs.iter().map(|slot| by_role(program, plan, slot, values)).collect();
    let mut set = |place: Option<&Place>, fill: Fill| {
        if let Some(Place::Input { index }) = place
            && let Some(old) = fills.get_mut(*index as usize)
        {
            *old = fill;
        }
    };
    for launch in &plan.launches {
        match &launch.call {
            Call::Lib(LibCall::Gather { rows, .. }) => set(launch.bufs.get(1), Fill::Below(*rows)),
            Call::Lib(LibCall::GatherGrad { rows, .. }) => set(launch.bufs.first(), Fill::Below(*rows)),
            _ => {}
        }
    }
    for (at, g, bufs) in ctc_calls(plan) {
        let steps = g.steps.eval(values);
        let kinds = g.classes.eval(values).saturating_sub(1).max(1);
        // A blank has to stand between equal labels, and there are no others where there is one kind only.
        let room = if kinds == 1 { steps.div_ceil(2) } else { steps };
        set(bufs.get(1), Fill::Labels(kinds));
        set(bufs.get(3), Fill::Same(g.labels.eval(values).min(room) as f32));
        let frames = bufs.get(2);
        let counted = plan.launches[..at].iter().rev().find(|l| l.bufs.last() == frames);
        match counted.map(|l| (&l.call, l.bufs.first())) {
            Some((Call::Lib(LibCall::Lengths { windows, .. }), source)) => {
                // So many frames before the windows as leave the full length behind them.
                let back = |y: u64, w: &(u32, u32)| y.saturating_sub(1) * u64::from(w.1) + u64::from(w.0);
                set(source, Fill::Same(windows.iter().rev().fold(steps, back) as f32));
            }
            _ => set(frames, Fill::Same(steps as f32)),
        }
    }
    fills
}

fn by_role(program: &Program, plan: &Plan, slot: &InputSlot, values: &[u64]) -> Fill {
    match slot.role {
        InputRole::Control => Fill::Same(0.0),
        InputRole::Data if program.run.rate.source.as_ref() == Some(&slot.name) => Fill::Same(1.0),
        InputRole::Data => Fill::Numbers,
        InputRole::Lengths => {
            let target = plan.inputs.iter().find(|s| s.role == InputRole::Target && s.name == slot.name);
            Fill::Same(target.and_then(|s| s.shape.first()).map_or(1, |d| d.eval(values)) as f32)
        }
        InputRole::Target => {
            let Some(output) = program.run.outputs.iter().find(|o| o.name == slot.name) else { return Fill::Numbers };
            let width = slot.shape.last().map_or(1, |d| d.eval(values));
            let classes = output.shape.last().copied().unwrap_or(1);
            match output.loss.as_deref() {
                _ if output.softmax && width == 1 && classes > 1 => Fill::Below(classes),
                _ if output.softmax => Fill::OneHot,
                // These are unbounded where the truth is no share.
                Some("binary_crossentropy" | "categorical_crossentropy") => Fill::Bits,
                _ => Fill::Numbers,
            }
        }
    }
}

/// The launches of the CTC loss: index, geometry, buffers.
fn ctc_calls(plan: &Plan) -> impl Iterator<Item = (usize, &CtcGeometry, &[Place])> {
    plan.launches.iter().enumerate().filter_map(|(i, l)| match &l.call {
        Call::Lib(LibCall::Ctc(g) | LibCall::CtcGrad(g)) => Some((i, g, l.bufs.as_slice())),
        _ => None,
    })
}

/// The values of input `index`.
fn fill(index: usize, slot: &InputSlot, fill: Fill, values: &[u64]) -> Result<Vec<f32>> {
    let stream = rng::stream(1, DATA_OP + u32::try_from(index).unwrap_or(0), 0);
    let shape: Vec<usize> = slot.shape.iter().map(|d| usize::try_from(d.eval(values)).unwrap_or(0)).collect();
    let width = shape.last().copied().unwrap_or(1).max(1);
    let samples = usize::try_from(values[0]).unwrap_or(usize::MAX);
    let len = shape.iter().try_fold(samples, |n, d| n.checked_mul(*d)).unwrap_or(usize::MAX);
    let mut out: Vec<f32> = Vec::new();
    if out.try_reserve_exact(len).is_err() {
        let message = format!("there is no memory for {samples} samples of `{}`", slot.name);
        return Err(Error::new(Exit::Run, "no-memory", message).help("a smaller `--batch-size` takes less"));
    }
    let number = |k: usize| u32::try_from(k).unwrap_or(u32::MAX);
    let below = |k: usize, n: u64| u64::from(rng::bits(stream, number(k))) % n.max(1);
    if let Fill::Labels(kinds) = fill {
        let mut last = 0;
        let next = |k: usize| {
            last = if k.is_multiple_of(width) || kinds == 1 {
                below(k, kinds)
            } else {
                (last + 1 + below(k, kinds - 1)) % kinds
            };
            last as f32
        };
        out.extend((0..len).map(next));
        return Ok(out);
    }
    let value = |k: usize| match fill {
        Fill::Numbers => (rng::uniform(stream, number(k)) - 0.5) * 3.464_101_6,
        Fill::OneHot => f32::from(u8::from(k % width == below(k / width, width as u64) as usize)),
        Fill::Bits => below(k, 2) as f32,
        Fill::Below(n) | Fill::Labels(n) => below(k, n) as f32,
        Fill::Same(x) => x,
    };
    out.extend((0..len).map(value));
    Ok(out)
}
