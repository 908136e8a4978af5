//! Runs plans: binds a [`Plan`] to memory for one batch size, then launches it.
//!
//! In: a [`Program`], the [`CodeTable`] of its generated kernels, per-batch inputs. Out: updated state and step results.
//! Invariant: no allocation and no look-up by name happens inside a step; pointers, sizes and work splits are resolved once
//! per batch size and kept. What a step computes depends neither on the number of threads nor on what ran before it.

mod bind;
mod error;
mod init;
mod inspect;
mod memory;
mod orthogonal;
mod peaks;
mod validate;
mod work;

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::io;

use bind::{Bound, BoundCall, Key};
pub use error::ExecError;
pub use init::INIT_OP;
pub use inspect::{Diagnosis, LaunchTime, launch_name};
use memory::Region;
pub use peaks::{Limit, Memory, Peaks};
pub use work::{StepWork, Work, step_work, usual_sizes};

use crate::abi::{KernelArgs, KernelFn};
use crate::cpu::{Io, Level, Packing, Task, processor_name};
use crate::dim::{BATCH, MAX_SYMS, Sym};
use crate::plan::{Plan, Program};
use crate::pool::Pool;

/// How many bound (step, sizes) pairs are kept in any case: three steps with a full and a short last batch, and two to
/// spare.
const KEPT: usize = 8;

/// Bytes that more of them may take: where samples differ in length, almost every batch has other sizes.
const KEPT_BYTES: usize = 32 << 20;

/// Bytes of packed operands that are kept, at most: about what a third-level cache holds.
const PACKED_BYTES: usize = 32 << 20;

/// Entry points of the generated kernels, with whatever keeps their memory alive.
pub struct CodeTable {
    /// One per [`crate::plan::KernelInfo`].
    pub entries: Vec<KernelFn>,
    /// Mapping or JIT module that owns the code.
    pub owner: Box<dyn Any + Send + Sync>,
}

/// Which step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// Forward, backward, update.
    Train,
    /// Forward, losses, metrics.
    Test,
    /// Forward.
    Infer,
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepKind::Train => "train",
            StepKind::Test => "test",
            StepKind::Infer => "infer",
        })
    }
}

/// Words of the control buffer: seed, updates, and the value of every symbol.
const CONTROL_WORDS: usize = 2 + MAX_SYMS;

/// A program with its memory and threads.
pub struct Executor {
    program: Program,
    code: CodeTable,
    level: Level,
    pool: Pool,
    state: Region,
    arena: Region,
    scratch: Scratch,
    /// Seed, number of updates, symbol values: what [`crate::plan::InputRole::Control`] inputs read.
    control: Region,
    /// Counts changes of the state, from 1.
    version: u64,
    /// Operands of steps that leave the state as it is, in the order in which library kernels read them.
    packed: Vec<Packed>,
    /// In the order of their keys.
    bounds: Vec<Bound>,
    /// Index into `bounds` of the last step run.
    last: Option<usize>,
    /// Values of the free symbols beside the batch, for [`Executor::run`].
    sizes: Vec<(Sym, u64)>,
    /// Counts runs, to find the least recently used of `bounds`.
    clock: u64,
}

/// A tensor of the state, packed for a library kernel.
struct Packed {
    /// Its byte offset in the state.
    offset: u64,
    packing: Packing,
    region: Region,
    /// The version of the state for which it was last asked for, and that it was packed from; 0 before that. Packing takes
    /// as long as a small batch gains by it, so it is done when it is asked for again.
    asked: u64,
    version: u64,
}

/// Scratch memory of library kernels; its parts are as large as any bound kernel needs, and each kernel divides the whole.
struct Scratch {
    region: Region,
    shared: usize,
    local: usize,
}

impl Executor {
    /// Checks the program and maps its state, all zeros: call [`Executor::init_state`] or fill it from a file.
    ///
    /// # Errors
    /// A plan that contradicts itself, an impossible `KUR_CPU`, no memory, no threads.
    pub fn new(program: Program, code: CodeTable, threads: usize) -> Result<Executor, ExecError> {
        Executor::with_level(program, code, threads, Level::current().map_err(ExecError::Cpu)?)
    }

    /// As [`Executor::new`], with library kernels of a given level.
    ///
    /// # Errors
    /// As [`Executor::new`]; also a level that the processor lacks.
    pub fn with_level(program: Program, code: CodeTable, threads: usize, level: Level) -> Result<Executor, ExecError> {
        let level = Level::choose(Some(level.name()), Level::hardware()).map_err(ExecError::Cpu)?;
        validate::program(&program, code.entries.len()).map_err(ExecError::Plan)?;
        let state = map(program.state_bytes)?;
        Ok(Executor {
            level,
            pool: Pool::new(threads).map_err(ExecError::Threads)?,
            state,
            arena: map(0)?,
            scratch: Scratch { region: map(0)?, shared: 0, local: 0 },
            control: map(0)?,
            version: 1,
            packed: Vec::new(),
            bounds: Vec::with_capacity(KEPT),
            last: None,
            sizes: Vec::with_capacity(MAX_SYMS),
            clock: 0,
            program,
            code,
        })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The level of the library kernels.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Processor and level for summaries: `AMD EPYC 9654 (avx512)`.
    #[must_use]
    pub fn cpu_name(&self) -> String {
        format!("{} ({})", processor_name(), self.level)
    }

    /// Gives every state tensor its initial value (see [`crate::plan::Init`]) for a seed.
    pub fn init_state(&mut self, seed: u64) {
        self.version += 1;
        init::fill(&self.program.state, &mut self.state, seed, self.level);
    }

    /// A state tensor, row-major.
    ///
    /// # Panics
    /// When `i` is not an index into [`Program::state`].
    #[must_use]
    pub fn state(&self, i: usize) -> &[f32] {
        let spec = &self.program.state[i];
        self.state.floats(spec.offset as usize, spec.len() as usize).expect("state places are validated")
    }

    /// A state tensor, to be filled from a file.
    ///
    /// # Panics
    /// When `i` is not an index into [`Program::state`].
    pub fn state_mut(&mut self, i: usize) -> &mut [f32] {
        self.version += 1;
        let spec = &self.program.state[i];
        self.state.floats_mut(spec.offset as usize, spec.len() as usize).expect("state places are validated")
    }

    /// Runs a step on a batch.
    ///
    /// `inputs` are the plan's input slots without the control ones, in order, each row-major with `batch` samples.
    /// `seed` and `updates` (the number of updates done so far) are what the step's random draws and schedules see.
    ///
    /// # Errors
    /// No such step; inputs of wrong number or length; values that a kernel refuses ([`ExecError::Fault`]), after which
    /// the state holds what the launches before it made of it; and, the first time with a batch size, no memory or a plan whose
    /// sizes contradict each other.
    pub fn run(
        &mut self,
        step: StepKind,
        batch: u64,
        inputs: &[&[f32]],
        seed: u32,
        updates: u32,
    ) -> Result<(), ExecError> {
        let (sizes, count) = self.all_sizes(batch);
        self.run_sized(step, &sizes[..count], inputs, seed, updates)
    }

    /// Gives the values of the free symbols beside the batch for the runs that follow.
    pub fn set_sizes(&mut self, sizes: &[(Sym, u64)]) {
        self.sizes.clear();
        self.sizes.extend(sizes.iter().take(MAX_SYMS - 1));
    }

    /// The values of all free symbols, as far as they are known, and how many they are.
    fn all_sizes(&self, batch: u64) -> ([(Sym, u64); MAX_SYMS], usize) {
        let mut all = [(BATCH, batch); MAX_SYMS];
        all[1..=self.sizes.len()].copy_from_slice(&self.sizes);
        (all, self.sizes.len() + 1)
    }

    /// As [`Executor::run`] for a program with several free symbols: gives the value of each.
    ///
    /// # Errors
    /// As [`Executor::run`]; also a free symbol without a value.
    pub fn run_sized(
        &mut self,
        step: StepKind,
        sizes: &[(Sym, u64)],
        inputs: &[&[f32]],
        seed: u32,
        updates: u32,
    ) -> Result<(), ExecError> {
        let b = self.prepare(step, sizes, inputs, seed, updates)?;
        for i in 0..self.bounds[b].launches.len() {
            self.launch(b, i)?;
        }
        Ok(())
    }

    /// Result `i` (an index into the step's [`Plan::results`]) of the last run; empty unless that run was this step.
    /// It stays valid until the next run.
    #[must_use]
    pub fn result(&self, step: StepKind, i: usize) -> &[f32] {
        let Some(bound) = self.last.map(|b| &self.bounds[b]).filter(|b| b.key.step == step) else { return &[] };
        let Some(slot) = bound.results.get(i) else { return &[] };
        let region = if slot.in_state { &self.state } else { &self.arena };
        region.floats(slot.offset, slot.len).unwrap_or(&[])
    }

    /// Bytes of intermediate memory a step needs for a batch size and the sizes last set; 0 for an absent step. The steps share one arena.
    #[must_use]
    pub fn arena_bytes(&self, step: StepKind, batch: u64) -> u64 {
        let (sizes, count) = self.all_sizes(batch);
        let values = self.program.symbols.values(&sizes[..count]);
        plan_of(&self.program, step).map_or(0, |p| bind::arena_layout(p, &values).map_or(u64::MAX, |l| l.bytes))
    }

    /// Bytes of library kernels' scratch memory mapped so far.
    #[must_use]
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch.region.len() as u64
    }

    /// Binds if needed, points the input slots at this batch and fills the control buffer; the index into `bounds`.
    fn prepare(
        &mut self,
        step: StepKind,
        sizes: &[(Sym, u64)],
        inputs: &[&[f32]],
        seed: u32,
        updates: u32,
    ) -> Result<usize, ExecError> {
        let key = Key::new(step, sizes);
        let b = match self.bounds.binary_search_by(|b| b.key.cmp(&key)) {
            Ok(b) => b,
            Err(_) => self.bind(key, sizes)?,
        };
        let bound = &mut self.bounds[b];
        if inputs.len() != bound.input_lens.len() {
            return Err(ExecError::Inputs(format!("{} given, {} expected", inputs.len(), bound.input_lens.len())));
        }
        for (i, (x, len)) in inputs.iter().zip(&bound.input_lens).enumerate() {
            if x.len() != *len {
                return Err(ExecError::Inputs(format!("input {i} has {} elements, expected {len}", x.len())));
            }
        }
        for patch in &bound.patches {
            bound.ptrs[patch.slot] = inputs[patch.input].as_ptr().cast_mut();
        }
        // The u32 words travel as bit patterns; a kernel reads them as u32. Sizes beyond u32 cannot be bound.
        let sizes = bound.syms.iter().map(|s| u32::try_from(*s).unwrap_or(u32::MAX));
        let words = [seed, updates].into_iter().chain(sizes);
        if let Some(control) = self.control.floats_mut(0, CONTROL_WORDS) {
            for (to, word) in control.iter_mut().zip(words) {
                *to = f32::from_bits(word);
            }
        }
        self.version += u64::from(bound.updates);
        self.clock += 1;
        bound.used = self.clock;
        self.last = Some(b);
        Ok(b)
    }

    /// Runs one launch of a prepared step.
    ///
    /// # Errors
    /// Only [`ExecError::Fault`].
    fn launch(&mut self, bound: usize, launch: usize) -> Result<(), ExecError> {
        let bound = &self.bounds[bound];
        let launch = &bound.launches[launch];
        let bufs = &bound.ptrs[launch.bufs.clone()];
        match &launch.call {
            BoundCall::Kernel { entry, extent, chunk } => {
                let args = KernelArgs { bufs: bufs.as_ptr().cast::<*mut u8>(), syms: bound.syms.as_ptr() };
                let range = Kernel { entry: *entry, args };
                if self.pool.threads() == 1 || chunk >= extent {
                    // SAFETY: the entry belongs to the program, whose kernels stay within the buffers that the plan
                    // gives them; these are bound and alive.
                    unsafe { range.run(0, *extent) };
                    return Ok(());
                }
                let chunks = extent.div_ceil(*chunk) as usize;
                self.pool.parallel_for(chunks, &|i, _| {
                    let lo = i as u64 * chunk;
                    // SAFETY: as above; chunks of a kernel's outer loop are independent of each other.
                    unsafe { range.run(lo, (lo + chunk).min(*extent)) };
                });
            }
            BoundCall::Lib { kernel, packed } => {
                // A kernel runs its regions one after the other, from this thread.
                let threads = self.pool.threads();
                let pool = RefCell::new(&mut self.pool);
                let par = |tasks: usize, task: &Task<'_>| pool.borrow_mut().parallel_for(tasks, task);
                let mut io = Io { bufs, scratch: self.scratch.region.ptr().cast(), threads, packed: std::ptr::null() };
                // SAFETY: scratch holds `shared` bytes and `local` bytes for each thread, of the largest kernel; buffers
                // were checked against `buffer_lens` when they were bound, the level when the executor was made; a packed
                // operand has the floats that its kernel asked for, and the state is as it was when it was packed.
                unsafe {
                    kernel.check(&io).map_err(|fault| ExecError::Fault { layer: launch.layer, fault })?;
                    if let Some(packed) = packed.map(|i| &mut self.packed[i]) {
                        let place = packed.region.ptr().cast::<f32>();
                        if packed.version != self.version && packed.asked == self.version {
                            kernel.pack(&par, &io, place);
                            packed.version = self.version;
                        }
                        if packed.version == self.version {
                            io.packed = place;
                        }
                        packed.asked = self.version;
                    }
                    kernel.run(&par, &io);
                }
            }
        }
        Ok(())
    }
}

/// A generated kernel and its arguments, callable from any thread.
struct Kernel {
    entry: KernelFn,
    args: KernelArgs,
}

// SAFETY: the arguments are only read, and what they point to is divided between chunks by the kernel's contract.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// # Safety
    /// The arguments must be those the kernel was compiled for, and alive.
    unsafe fn run(&self, lo: u64, hi: u64) {
        // SAFETY: passed on to the caller.
        unsafe { (self.entry)(&raw const self.args, lo, hi) };
    }
}

/// The plan of a step, if the program has it.
fn plan_of(program: &Program, step: StepKind) -> Option<&Plan> {
    match step {
        StepKind::Train => program.train.as_ref(),
        StepKind::Test => program.test.as_ref(),
        StepKind::Infer => Some(&program.infer),
    }
}

fn map(bytes: u64) -> Result<Region, ExecError> {
    let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
    Region::new(wanted).map_err(|source: io::Error| ExecError::Memory { bytes, source })
}
