//! Binding: a validated plan and concrete sizes become pointers, lengths and work splits. In: a step and the values of the
//! free symbols. Out: a [`Bound`]. Invariant: every buffer of a library call lies inside its region for its whole length,
//! so that a damaged plan is an error here and never a stray access.

use std::ops::Range;

use super::{CONTROL_WORDS, ExecError, Executor, KEPT, KEPT_BYTES, PACKED_BYTES, Packed, StepKind, map, plan_of};
use crate::abi::KernelFn;
use crate::cpu::{self, CallError, KernelFault, LibKernel, Packing};
use crate::dim::{Dim, MAX_SYMS, Sym, SymbolTable};
use crate::plan::{ALIGN, Call, InputRole, Launch, LibCall, Place, Plan};

/// Elementwise operations that a chunk of a generated kernel should have: about 30 µs at the 4 a nanosecond that
/// fused loops reach in cache (design: CPU code).
const OPS_PER_CHUNK: u64 = 120_000;

/// What a [`Bound`] was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) step: StepKind,
    /// Values of free symbols; others are 0.
    free: [u64; MAX_SYMS],
}

impl Key {
    pub(super) fn new(step: StepKind, sizes: &[(Sym, u64)]) -> Key {
        let mut free = [0; MAX_SYMS];
        for (s, v) in sizes {
            if let Some(place) = free.get_mut(s.0 as usize) {
                *place = *v;
            }
        }
        Key { step, free }
    }
}

/// A step bound to memory.
pub(super) struct Bound {
    pub(super) key: Key,
    /// Values of all symbols, what [`crate::abi::KernelArgs::syms`] points to.
    pub(super) syms: Vec<u64>,
    /// Buffers of all launches, one after the other.
    pub(super) ptrs: Vec<*mut f32>,
    /// Which of them follow the inputs of each run.
    pub(super) patches: Vec<Patch>,
    /// Elements of each input of a run.
    pub(super) input_lens: Vec<usize>,
    pub(super) launches: Vec<BoundLaunch>,
    pub(super) results: Vec<BoundResult>,
    /// Whether it changes the state.
    pub(super) updates: bool,
    /// When it was last used.
    pub(super) used: u64,
}

// SAFETY: the pointers are into regions and kernels owned by the same executor, or are replaced before each run.
unsafe impl Send for Bound {}
// SAFETY: as above; a shared `Bound` is only read.
unsafe impl Sync for Bound {}

pub(super) struct Patch {
    pub(super) slot: usize,
    pub(super) input: usize,
}

pub(super) struct BoundLaunch {
    pub(super) bufs: Range<usize>,
    /// Layer it came from, for faults.
    pub(super) layer: Option<u32>,
    pub(super) call: BoundCall,
}

pub(super) enum BoundCall {
    Kernel {
        entry: KernelFn,
        extent: u64,
        chunk: u64,
    },
    Lib {
        kernel: Box<dyn LibKernel>,
        /// Index into [`Executor::packed`].
        packed: Option<usize>,
    },
}

pub(super) struct BoundResult {
    pub(super) in_state: bool,
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// Where the class regions of an arena lie.
pub(super) struct ArenaLayout {
    /// Per class: first byte, length in bytes, value of the class.
    regions: Vec<(u64, u64, u64)>,
    /// Bytes of all.
    pub(super) bytes: u64,
}

impl ArenaLayout {
    /// First byte of a class region.
    pub(super) fn start(&self, class: u32) -> Option<u64> {
        self.regions.get(class as usize).map(|r| r.0)
    }
}

/// Lays the class regions of a plan out one after the other; `None` when they exceed any address space.
pub(super) fn arena_layout(plan: &Plan, values: &[u64]) -> Option<ArenaLayout> {
    let mut bytes = 0_u64;
    let mut regions = Vec::with_capacity(plan.arena.len());
    for class in &plan.arena {
        let value = class.class.eval(values);
        let len = class.unit_bytes.checked_mul(value)?.checked_next_multiple_of(ALIGN)?;
        regions.push((bytes, len, value));
        bytes = bytes.checked_add(len).filter(|b| *b < 1 << 47)?;
    }
    Some(ArenaLayout { regions, bytes })
}

/// Iterations per chunk of a generated kernel: a multiple of the grain that depends on sizes only.
fn chunk_of(extent: u64, grain: u64, cost: u64) -> u64 {
    let per_chunk = (OPS_PER_CHUNK / cost.max(1)).max(1);
    let chunk = per_chunk.div_ceil(grain).saturating_mul(grain);
    // Less than two full chunks are not worth waking another thread.
    if extent < chunk.saturating_mul(2) { extent } else { chunk.max(extent.div_ceil(u64::from(u32::MAX))) }
}

/// A place resolved to a region.
struct Span {
    owner: Owner,
    offset: u64,
    /// Bytes from `offset` to the end of the region.
    room: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    State,
    Arena,
    Control,
    Input(usize),
}

impl Executor {
    /// Whether a launch stores to the state.
    fn writes_state(&self, launch: &Launch) -> bool {
        let stores = |i: usize| match &launch.call {
            Call::Kernel { kernel, .. } => self.program.kernels[*kernel as usize].bufs.get(i).is_none_or(|b| b.writes),
            Call::Lib(_) => i + 1 == launch.bufs.len(),
        };
        launch.bufs.iter().enumerate().any(|(i, place)| matches!(place, Place::State { .. }) && stores(i))
    }

    /// Binds a step; the index into `bounds`.
    pub(super) fn bind(&mut self, key: Key, sizes: &[(Sym, u64)]) -> Result<usize, ExecError> {
        let plan = plan_of(&self.program, key.step).ok_or(ExecError::NoStep(key.step))?;
        let symbols = &self.program.symbols;
        for s in 0..symbols.len() {
            let s = Sym(s as u8);
            if symbols.def(s).is_none() && !sizes.iter().any(|(t, _)| *t == s) {
                return Err(ExecError::Inputs(format!("no size is given for `{}`", symbols.name(s))));
            }
        }
        let syms = symbols.values(sizes);
        long_enough(symbols, &syms)?;
        let damaged = |what: String| ExecError::Plan(format!("{} step: {what}", key.step));
        let layout = arena_layout(plan, &syms).ok_or(ExecError::TooLarge(key.step))?;

        let mut bound = Bound {
            key,
            ptrs: Vec::new(),
            patches: Vec::new(),
            input_lens: Vec::new(),
            launches: Vec::with_capacity(plan.launches.len()),
            results: Vec::with_capacity(plan.results.len()),
            updates: false,
            used: 0,
            syms,
        };
        // Number of each input slot among the inputs of a run.
        let mut numbers = Vec::with_capacity(plan.inputs.len());
        for slot in &plan.inputs {
            if slot.role == InputRole::Control {
                numbers.push(None);
                continue;
            }
            let len = Dim::batch().times(Dim::product(&slot.shape)).eval(&bound.syms);
            numbers.push(Some(bound.input_lens.len()));
            bound.input_lens.push(usize::try_from(len).map_err(|_| damaged("an input is too large".to_owned()))?);
        }
        let span = |place: Place, lens: &[usize]| match place {
            Place::Arena { class, unit_offset } => {
                let (start, len, value) = layout.regions[class as usize];
                let at = unit_offset.saturating_mul(value);
                Span { owner: Owner::Arena, offset: start.saturating_add(at), room: len.saturating_sub(at) }
            }
            Place::State { offset } => {
                Span { owner: Owner::State, offset, room: self.program.state_bytes.saturating_sub(offset) }
            }
            Place::Input { index } => match numbers[index as usize] {
                None => Span { owner: Owner::Control, offset: 0, room: CONTROL_WORDS as u64 * 4 },
                Some(n) => Span { owner: Owner::Input(n), offset: 0, room: lens[n] as u64 * 4 },
            },
        };

        if layout.bytes > self.arena.len() as u64 {
            // The old arena's pointers die with it.
            let arena = map(layout.bytes)?;
            self.bounds.clear();
            self.last = None;
            self.arena = arena;
        }
        let (mut shared, mut local) = (self.scratch.shared, self.scratch.local);
        bound.updates = plan.launches.iter().any(|launch| self.writes_state(launch));
        for (i, launch) in plan.launches.iter().enumerate() {
            let first = bound.ptrs.len();
            let mut spans = Vec::with_capacity(launch.bufs.len());
            for place in &launch.bufs {
                let s = span(*place, &bound.input_lens);
                if let Owner::Input(input) = s.owner {
                    bound.patches.push(Patch { slot: bound.ptrs.len(), input });
                }
                let base = match s.owner {
                    Owner::State => self.state.ptr(),
                    Owner::Arena => self.arena.ptr(),
                    Owner::Control => self.control.ptr(),
                    Owner::Input(_) => std::ptr::null_mut(),
                };
                bound.ptrs.push(base.wrapping_add(s.offset as usize).cast());
                spans.push(s);
            }
            let call = match &launch.call {
                Call::Kernel { kernel, extent, grain, cost } => {
                    let extent = extent.eval(&bound.syms);
                    let chunk = chunk_of(extent, *grain, cost.eval(&bound.syms));
                    let entry = self.code.entries[*kernel as usize];
                    BoundCall::Kernel { entry, extent, chunk }
                }
                Call::Lib(lib) => {
                    let what = |e: String| damaged(format!("launch {i} ({}): {e}", cpu::name(lib)));
                    let refused = |e: CallError| ExecError::of_call(key.step, e, what);
                    let lens = cpu::buffer_lens(lib, &bound.syms).map_err(refused)?;
                    check_buffers(lib, &spans, &lens).map_err(what)?;
                    let kernel = cpu::prepare(lib, &bound.syms, self.level).map_err(refused)?;
                    let need = kernel.scratch();
                    shared = shared.max(need.shared.next_multiple_of(128));
                    local = local.max(need.local.next_multiple_of(128));
                    let packed = match kernel.packing().filter(|_| !bound.updates) {
                        Some(p) if spans[p.operand].owner == Owner::State => {
                            packed_place(&mut self.packed, spans[p.operand].offset, p)
                        }
                        _ => None,
                    };
                    BoundCall::Lib { kernel, packed }
                }
            };
            let (bufs, layer) = (first..bound.ptrs.len(), launch.layer);
            bound.launches.push(BoundLaunch { bufs, layer, call });
        }
        for slot in &plan.results {
            let s = span(slot.place, &bound.input_lens);
            let len = Dim::product(&slot.shape).eval(&bound.syms);
            if len.saturating_mul(4) > s.room {
                return Err(damaged(format!("result `{}` reaches beyond its region", slot.name)));
            }
            let in_state = s.owner == Owner::State;
            bound.results.push(BoundResult { in_state, offset: s.offset as usize, len: len as usize });
        }
        if shared > self.scratch.shared || local > self.scratch.local {
            let bytes = local.checked_mul(self.pool.threads()).and_then(|b| b.checked_add(shared));
            self.scratch.region = map(bytes.map_or(u64::MAX, |b| b as u64))?;
            (self.scratch.shared, self.scratch.local) = (shared, local);
        }
        // Places move.
        self.last = None;
        let mut bytes = self.bounds.iter().map(Bound::bytes).sum::<usize>() + bound.bytes();
        while self.bounds.len() >= KEPT
            && bytes > KEPT_BYTES
            && let Some(oldest) = (0..self.bounds.len()).min_by_key(|b| self.bounds[*b].used)
        {
            bytes -= self.bounds.remove(oldest).bytes();
        }
        let place = self.bounds.partition_point(|b| b.key < bound.key);
        self.bounds.insert(place, bound);
        Ok(place)
    }
}

/// The place of an operand's packed form, made if there is none yet; absent if there is no room for more of them, without
/// which steps are only slower.
fn packed_place(packed: &mut Vec<Packed>, offset: u64, packing: Packing) -> Option<usize> {
    if let Some(i) = packed.iter().position(|p| p.offset == offset && p.packing == packing) {
        return Some(i);
    }
    let (bytes, taken) = (packing.floats * 4, packed.iter().map(|p| p.region.len()).sum::<usize>());
    if bytes.saturating_add(taken) > PACKED_BYTES {
        return None;
    }
    packed.push(Packed { offset, packing, region: map(bytes as u64).ok()?, asked: 0, version: 0 });
    Some(packed.len() - 1)
}

/// Bytes that a prepared library kernel takes, about.
const LIB_BYTES: usize = 512;

impl Bound {
    /// Bytes that it takes, about.
    fn bytes(&self) -> usize {
        let lib = |l: &&BoundLaunch| matches!(l.call, BoundCall::Lib { .. });
        size_of::<Bound>()
            + size_of_val(self.syms.as_slice())
            + size_of_val(self.ptrs.as_slice())
            + size_of_val(self.patches.as_slice())
            + size_of_val(self.input_lens.as_slice())
            + size_of_val(self.launches.as_slice())
            + size_of_val(self.results.as_slice())
            + self.launches.iter().filter(lib).count() * LIB_BYTES
    }
}

/// A size that follows from another and comes out as 0 though the other is not: the samples are shorter than a window.
fn long_enough(symbols: &SymbolTable, values: &[u64]) -> Result<(), ExecError> {
    for s in 0..symbols.len() {
        let Some(def) = symbols.def(Sym(s as u8)) else { continue };
        let base = def.base.eval(values);
        if values[s] == 0 && base != 0 {
            let need = i128::from(def.div) - i128::from(def.add);
            let message = format!("a sequence of length {base} is too short for a layer that needs {need}");
            return Err(ExecError::Fault { layer: None, fault: KernelFault { sample: 0, message } });
        }
    }
    Ok(())
}

/// Checks number, lengths and overlaps of a library call's buffers.
fn check_buffers(call: &LibCall, spans: &[Span], lens: &[usize]) -> Result<(), String> {
    if lens.len() != spans.len() {
        return Err(format!("{} buffers given, {} expected", spans.len(), lens.len()));
    }
    for (b, (span, len)) in spans.iter().zip(lens).enumerate() {
        if (*len as u64).saturating_mul(4) > span.room {
            return Err(format!("buffer {b} reaches beyond its region"));
        }
    }
    let last = lens.len() - 1;
    let out = &spans[last];
    if matches!(out.owner, Owner::Input(_) | Owner::Control) {
        return Err("the output lies in an input".to_owned());
    }
    for b in 0..last {
        let other = &spans[b];
        let apart = out.owner != other.owner
            || out.offset + lens[last] as u64 * 4 <= other.offset
            || other.offset + lens[b] as u64 * 4 <= out.offset;
        let in_place = matches!(call, LibCall::Softmax { .. }) && out.offset == other.offset;
        if !apart && !in_place {
            return Err(format!("the output overlaps buffer {b}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_multiples_of_the_grain_and_small_work_stays_whole() {
        assert_eq!(chunk_of(1000, 16, 1), 1000);
        assert_eq!(chunk_of(0, 1, 1), 0);
        let chunk = chunk_of(1_000_000, 96, 12);
        assert!(chunk.is_multiple_of(96) && (10_000..10_100).contains(&chunk));
        assert_eq!(chunk_of(10, 1, 1_000_000), 1);
        assert_eq!(chunk_of(u64::MAX, 1, 0), OPS_PER_CHUNK.max(u64::MAX.div_ceil(u64::from(u32::MAX))));
    }
}
