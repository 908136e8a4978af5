//! Instructions on registers → bytes. Vector registers are given; general ones are handed out here: one for each
//! buffer, for each offset that loops keep, and for the count of iterations left at each depth.

use kur_runtime::dim::Sym;

use super::encode::{Alu, Assembler, Blob, Cond, Gpr, Label, Mem, Operand, RAX, RDI, RDX, RSI, RSP, Ymm};
use super::inst::{Code, Inst, Place, Size, Src, V};
use crate::ir::kernel::Kernel;

/// Registers for offsets and inner counts, then for buffers; those from [`SAVED`] on belong to the caller.
const GENERAL: [Gpr; 11] =
    [Gpr(1), Gpr(8), Gpr(9), Gpr(10), Gpr(11), Gpr(3), Gpr(5), Gpr(12), Gpr(13), Gpr(14), Gpr(15)];
const SAVED: usize = 5;
/// Bytes of a slot of the stack frame.
const SLOT: i32 = 8;

struct Emit<'c> {
    kernel: &'c Kernel,
    code: &'c Code,
    vectors: &'c [Ymm],
    asm: Assembler,
    bufs: Vec<Gpr>,
    streams: Vec<Gpr>,
    /// By depth.
    counts: Vec<Gpr>,
    /// First slot of the frame that keeps an offset over a loop, by loop.
    kept: Vec<usize>,
    /// Where a loop goes when it has no iterations.
    leaves: Vec<Option<Label>>,
    /// Head and exit of the open pieces.
    pieces: Vec<(Label, Label)>,
}

/// The machine code, or `None` when general registers or displacements do not suffice.
pub(super) fn emit(kernel: &Kernel, code: &Code, vectors: &[Ymm]) -> Option<Blob> {
    let mut general = GENERAL.iter().copied();
    let streams = general.by_ref().take(code.streams.len()).collect::<Vec<_>>();
    let depths = code.loops.iter().map(|l| l.depth + 1).max()?;
    let mut counts = vec![RDX];
    counts.extend(general.by_ref().take(depths - 1));
    let bufs: Vec<Gpr> = [RSI, RDI].into_iter().chain(general).take(kernel.bufs.len()).collect();
    if streams.len() < code.streams.len() || counts.len() < depths || bufs.len() < kernel.bufs.len() {
        return None;
    }
    let mut slots = code.slots.len();
    let kept = code.loops.iter().map(|l| {
        let first = slots;
        slots += if l.extent.is_some() { l.steps.len() } else { 0 };
        first
    });
    let kept = kept.collect();
    let leaves = vec![None; code.loops.len()];
    let mut e = Emit {
        kernel,
        code,
        vectors,
        asm: Assembler::default(),
        bufs,
        streams,
        counts,
        kept,
        leaves,
        pieces: Vec::new(),
    };
    let used = |r: &Gpr| e.bufs.contains(r) || e.streams.contains(r) || e.counts.contains(r);
    let saved: Vec<Gpr> = GENERAL[SAVED..].iter().copied().filter(used).collect();
    let frame = i32::try_from(slots).ok()?.checked_mul(SLOT)?;
    saved.iter().for_each(|r| e.asm.push(*r));
    if frame > 0 {
        e.asm.alu_imm(Alu::Sub, RSP, frame);
    }
    e.entry()?;
    code.insts.iter().try_for_each(|i| e.inst(i))?;
    e.asm.zero_upper();
    if frame > 0 {
        e.asm.alu_imm(Alu::Add, RSP, frame);
    }
    saved.iter().rev().for_each(|r| e.asm.pop(*r));
    e.asm.ret();
    e.asm.finish()
}

fn slot(index: usize) -> Option<i32> {
    i32::try_from(index).ok()?.checked_mul(SLOT)
}

impl Emit<'_> {
    /// Sizes, offsets of the first iteration, pointers. Comes in with rdi: arguments, rsi: first iteration, rdx: end.
    fn entry(&mut self) -> Option<()> {
        let scratch = GENERAL[0];
        if !self.code.slots.is_empty() {
            self.asm.mov_load(RAX, RDI, 8);
        }
        for (i, (dim, factor)) in self.code.slots.iter().enumerate() {
            let coef = i64::try_from(dim.coef()).ok()?.checked_mul(i64::from(*factor))?;
            self.asm.mov_imm(scratch, coef);
            for s in 0..self.kernel.symbols.len() {
                let sym = u8::try_from(s).ok()?;
                for _ in 0..dim.power(Sym(sym)) {
                    self.asm.imul_mem(scratch, RAX, 8 * i32::from(sym));
                }
            }
            self.asm.mov_store(RSP, slot(i)?, scratch);
        }
        let outermost = self.code.loops.first()?;
        for (s, register) in self.streams.clone().into_iter().enumerate() {
            match outermost.steps.iter().find(|(stream, _)| *stream == s) {
                None => self.asm.mov_imm(register, 0),
                Some((_, Size::Const(bytes))) => self.asm.imul_imm(register, RSI, *bytes),
                Some((_, Size::Slot(i))) => {
                    self.asm.mov(register, RSI);
                    self.asm.imul_mem(register, RSP, slot(*i)?);
                }
            }
        }
        self.asm.alu_reg(Alu::Sub, RDX, RSI);
        self.asm.mov_load(RAX, RDI, 0);
        for (b, register) in self.bufs.clone().into_iter().enumerate() {
            self.asm.mov_load(register, RAX, slot(b)?);
        }
        Some(())
    }

    fn mem(&self, at: Place) -> Mem {
        Mem::At { base: self.bufs[at.buf], index: at.stream.map(|s| self.streams[s]), disp: at.disp }
    }

    fn v(&self, v: V) -> Ymm {
        self.vectors[v.0 as usize]
    }

    fn operand(&mut self, src: Src) -> Operand {
        match src {
            Src::V(v) => Operand::Reg(self.v(v)),
            Src::Bits(bits) => Operand::Mem(Mem::Pool(self.asm.constant(bits))),
        }
    }

    fn inst(&mut self, inst: &Inst) -> Option<()> {
        match inst {
            Inst::Load { dst, at, packed: true } => self.asm.load(self.v(*dst), self.mem(*at)),
            Inst::Load { dst, at, packed: false } => self.asm.broadcast(self.v(*dst), self.mem(*at)),
            Inst::Store { at, src, packed: true } => self.asm.store(self.mem(*at), self.v(*src)),
            Inst::Store { at, src, packed: false } => self.asm.store_one(self.mem(*at), self.v(*src)),
            Inst::Packed { op, dst, a, b } => {
                let b = self.operand(*b);
                self.asm.packed(*op, self.v(*dst), self.v(*a), b);
            }
            Inst::Compare { predicate, dst, a, b } => {
                let b = self.operand(*b);
                self.asm.compare(*predicate, self.v(*dst), self.v(*a), b);
            }
            Inst::Blend { dst, a, b, mask } => {
                let b = self.operand(*b);
                self.asm.blend(self.v(*dst), self.v(*a), b, self.v(*mask));
            }
            Inst::Sqrt { dst, a } => self.asm.sqrt(self.v(*dst), self.v(*a)),
            Inst::Const { dst, bits } => {
                let bits = self.operand(Src::Bits(*bits));
                self.asm.copy(self.v(*dst), bits);
            }
            Inst::Prefetch { at } => self.asm.prefetch(self.mem(*at)),
            Inst::Enter(id) => self.enter(*id)?,
            Inst::Begin { id, step } => {
                let count = self.counts[self.code.loops[*id].depth];
                let (head, exit) = (self.asm.label(), self.asm.label());
                self.asm.alu_imm(Alu::Cmp, count, *step);
                self.asm.jump_if(Cond::Less, exit);
                self.asm.bind(head);
                self.pieces.push((head, exit));
            }
            Inst::End { id, step } => {
                let this = &self.code.loops[*id];
                let count = self.counts[this.depth];
                for (stream, bytes) in &this.steps {
                    let register = self.streams[*stream];
                    match bytes {
                        Size::Const(n) => self.asm.alu_imm(Alu::Add, register, n.checked_mul(*step)?),
                        // A vector loop's elements lie side by side, or it has no stride at all.
                        Size::Slot(_) if *step != 1 => return None,
                        Size::Slot(i) => self.asm.alu_mem(Alu::Add, register, RSP, slot(*i)?),
                    }
                }
                self.asm.alu_imm(Alu::Sub, count, *step);
                let (head, exit) = self.pieces.pop()?;
                if *step == 1 {
                    self.asm.jump_if(Cond::NonZero, head);
                } else {
                    self.asm.alu_imm(Alu::Cmp, count, *step);
                    self.asm.jump_if(Cond::NotLess, head);
                }
                self.asm.bind(exit);
            }
            Inst::Leave(id) => self.leave(*id)?,
        }
        Some(())
    }

    fn enter(&mut self, id: usize) -> Option<()> {
        let this = &self.code.loops[id];
        let count = self.counts[this.depth];
        let leave = self.asm.label();
        self.leaves[id] = Some(leave);
        if let Some(extent) = this.extent {
            for (k, (stream, _)) in this.steps.iter().enumerate() {
                self.asm.mov_store(RSP, slot(self.kept[id] + k)?, self.streams[*stream]);
            }
            match extent {
                Size::Const(n) => self.asm.mov_imm(count, i64::from(n)),
                Size::Slot(i) => self.asm.mov_load(count, RSP, slot(i)?),
            }
        }
        self.asm.alu_imm(Alu::Cmp, count, 0);
        self.asm.jump_if(Cond::NotGreater, leave);
        Some(())
    }

    fn leave(&mut self, id: usize) -> Option<()> {
        let this = &self.code.loops[id];
        self.asm.bind(self.leaves[id]?);
        if this.extent.is_some() {
            for (k, (stream, _)) in this.steps.iter().enumerate() {
                self.asm.mov_load(self.streams[*stream], RSP, slot(self.kept[id] + k)?);
            }
        }
        Some(())
    }
}
