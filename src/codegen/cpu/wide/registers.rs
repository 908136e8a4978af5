//! Registers for values: a linear scan over live ranges (Poletto and Sarkar, "Linear Scan Register Allocation", 1999),
//! without spilling. A body that needs more than there are is not for this emitter.

use super::encode::Ymm;
use super::inst::{Code, Inst, Src, V};

/// First and last place at which a virtual register must keep its value.
#[derive(Clone, Copy)]
struct Range {
    first: usize,
    last: usize,
}

/// The register of every virtual register, or `None` when sixteen are too few.
pub(super) fn assign(code: &Code) -> Option<Vec<Ymm>> {
    let ranges = live_ranges(code);
    let mut order: Vec<usize> = (0..ranges.len()).filter(|v| ranges[*v].is_some()).collect();
    order.sort_by_key(|v| ranges[*v].map_or(0, |r| r.first));
    let mut free: Vec<u8> = (0..16).rev().collect();
    let mut live: Vec<(usize, u8)> = Vec::new();
    let mut out = vec![Ymm(0); ranges.len()];
    for v in order {
        let Some(range) = ranges[v] else { continue };
        // A result may lie where an operand ends.
        live.retain(|(last, register)| {
            if *last <= range.first {
                free.push(*register);
            }
            *last > range.first
        });
        let register = free.pop()?;
        live.push((range.last, register));
        out[v] = Ymm(register);
    }
    Some(out)
}

/// The ranges, by virtual register; `None` for those that never occur.
fn live_ranges(code: &Code) -> Vec<Option<Range>> {
    let mut ends = vec![0; code.insts.len()];
    let mut begun = Vec::new();
    for (at, inst) in code.insts.iter().enumerate() {
        match inst {
            Inst::Begin { .. } => begun.push(at),
            Inst::End { .. } => {
                if let Some(begin) = begun.pop() {
                    ends[begin] = at;
                }
            }
            _ => {}
        }
    }
    let mut ranges: Vec<Option<Range>> = vec![None; code.registers as usize];
    let mut around: Vec<usize> = Vec::new();
    for (at, inst) in code.insts.iter().enumerate() {
        match inst {
            Inst::Begin { .. } => around.push(at),
            Inst::End { .. } => {
                around.pop();
            }
            _ => touched(inst, |v| {
                let range = ranges[v.0 as usize].get_or_insert(Range { first: at, last: at });
                // What comes from before a loop is needed in all of its iterations.
                let outermost = around.iter().find(|begin| **begin > range.first);
                range.last = range.last.max(outermost.map_or(at, |begin| ends[*begin]));
            }),
        }
    }
    ranges
}

/// All virtual registers of an instruction.
fn touched(inst: &Inst, mut f: impl FnMut(V)) {
    let src = |s: &Src, f: &mut dyn FnMut(V)| {
        if let Src::V(v) = s {
            f(*v);
        }
    };
    match inst {
        Inst::Load { dst, .. } | Inst::Const { dst, .. } => f(*dst),
        Inst::Store { src, .. } => f(*src),
        Inst::Packed { dst, a, b, .. } | Inst::Compare { dst, a, b, .. } => {
            f(*a);
            src(b, &mut f);
            f(*dst);
        }
        Inst::Blend { dst, a, b, mask } => {
            f(*a);
            src(b, &mut f);
            f(*mask);
            f(*dst);
        }
        Inst::Sqrt { dst, a } => {
            f(*a);
            f(*dst);
        }
        Inst::Prefetch { .. } | Inst::Enter(_) | Inst::Begin { .. } | Inst::End { .. } | Inst::Leave(_) => {}
    }
}
