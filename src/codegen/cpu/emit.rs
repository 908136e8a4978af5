//! Emits one kernel: entry, scopes and straight-line statements. Loops are in `loops`, memory in `address`.
//!
//! Invariant: everything cached (values, addresses, streams) lives in a scope that ends with the block structure it
//! was emitted in, so that a cached value always dominates its use.

use cranelift_codegen::ir::{Function, InstBuilder, MemFlagsData, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use kur_runtime::dim::Dim;
use kur_runtime::payload::CpuLevel;

use crate::codegen::CodegenError;
use crate::codegen::cpu::loops::{Counter, Range};
use crate::codegen::cpu::ops::{Arg, Reg, Vector};
use crate::ir::kernel::{BufId, IdxId, Kernel, Operand, Scalar, Stmt, ValId};

/// What one emission of a body covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    /// Registers per value.
    pub(super) units: usize,
    /// The loop whose iterations are lanes; `None` where all lanes are the same iteration.
    pub(super) lane: Option<IdxId>,
}

/// State of an open loop.
pub(super) struct OpenLoop {
    pub(super) idx: IdxId,
    pub(super) counter: Counter,
    /// Byte offsets `4 · index · stride` kept by increments.
    pub(super) offsets: Vec<(Dim, Value)>,
}

/// A cached address: the buffer's pointer (or element 0 when there is no buffer) plus the given terms.
pub(super) struct CachedAddress {
    pub(super) buf: Option<BufId>,
    pub(super) terms: Vec<(IdxId, Dim)>,
    pub(super) base: Option<Value>,
    pub(super) disp: i64,
}

/// A point to return to when a body has been emitted.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    log: usize,
    addresses: usize,
    streams: usize,
    loops: usize,
}

pub(super) struct Emitter<'a, 'f> {
    pub(super) kernel: &'a Kernel,
    pub(super) v: Vector<'f>,
    pub(super) bufs: Vec<Value>,
    pub(super) dims: Vec<(Dim, Value)>,
    pub(super) loops: Vec<OpenLoop>,
    pub(super) addresses: Vec<CachedAddress>,
    pub(super) width: Width,
    streams: Vec<((ValId, u32, ValId), Reg)>,
    literals: Vec<(u32, Reg)>,
    vals: Vec<Option<Arg>>,
    log: Vec<ValId>,
}

/// Literals up to this many are loaded once, before all loops; more would only be spilled.
const MAX_RESIDENT_LITERALS: usize = 4;

/// Fills `func` with the code of a verified kernel.
pub(super) fn emit(
    kernel: &Kernel,
    level: CpuLevel,
    config: TargetFrontendConfig,
    func: &mut Function,
    frontend: &mut FunctionBuilderContext,
) -> Result<(), CodegenError> {
    let mut b = FunctionBuilder::new(func, frontend);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let [args, lo, hi] = b.block_params(entry)[..] else {
        return Err(CodegenError::new("the signature is not that of a kernel"));
    };
    let mut e = Emitter {
        kernel,
        v: Vector { b, has_fma: level >= CpuLevel::V3 },
        bufs: Vec::new(),
        dims: Vec::new(),
        loops: Vec::new(),
        addresses: Vec::new(),
        width: Width { units: 1, lane: None },
        streams: Vec::new(),
        literals: Vec::new(),
        vals: Vec::new(),
        log: Vec::new(),
    };
    e.entry(args);
    let Stmt::For { idx, mode, body, .. } = &kernel.body else {
        return Err(CodegenError::new("the body is no loop"));
    };
    let range = Range { start: Counter::Dyn(lo), end: Counter::Dyn(hi) };
    e.for_loop(*idx, range, mode.is_vector(), body)?;
    e.v.b.ins().return_(&[]);
    e.v.b.seal_all_blocks();
    e.v.b.finalize(config);
    Ok(())
}

impl Emitter<'_, '_> {
    /// Loads buffer pointers, and computes every size that depends on symbols once.
    fn entry(&mut self, args: Value) {
        let trusted = MemFlagsData::trusted();
        let pointers = self.v.b.ins().load(types::I64, trusted, args, 0);
        for i in 0..self.kernel.bufs.len() {
            let at = i32::try_from(8 * i).unwrap_or(i32::MAX);
            let p = self.v.b.ins().load(types::I64, trusted, pointers, at);
            self.bufs.push(p);
        }
        let mut dims = Vec::new();
        let mut lits = Vec::new();
        collect(std::slice::from_ref(&self.kernel.body), true, &mut dims, &mut lits);
        if !dims.is_empty() {
            let syms = self.v.b.ins().load(types::I64, trusted, args, 8);
            for d in dims {
                let value = self.symbolic(d, syms);
                self.dims.push((d, value));
            }
        }
        if lits.len() <= MAX_RESIDENT_LITERALS {
            for bits in lits {
                let value = self.v.f(f32::from_bits(bits));
                self.literals.push((bits, value));
            }
        }
    }

    fn symbolic(&mut self, d: Dim, syms: Value) -> Value {
        let mut acc: Option<Value> = None;
        for i in 0..self.kernel.symbols.len() {
            let Ok(sym) = u8::try_from(i) else { break };
            for _ in 0..d.power(kur_runtime::dim::Sym(sym)) {
                let x = self.v.b.ins().load(types::I64, MemFlagsData::trusted(), syms, 8 * i32::from(sym));
                acc = Some(acc.map_or(x, |a| self.v.b.ins().imul(a, x)));
            }
        }
        let coef = d.coef().cast_signed();
        match acc {
            Some(a) if coef == 1 => a,
            Some(a) => self.v.b.ins().imul_imm_s(a, coef),
            None => self.v.b.ins().iconst(types::I64, coef),
        }
    }

    /// The value of a size in elements.
    pub(super) fn dim(&mut self, d: Dim) -> Result<Value, CodegenError> {
        if let Some(n) = d.as_const() {
            return Ok(self.v.b.ins().iconst(types::I64, n.cast_signed()));
        }
        let known = self.dims.iter().find(|(x, _)| *x == d).map(|(_, v)| *v);
        known.ok_or_else(|| CodegenError::new("a size was not computed at entry"))
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            log: self.log.len(),
            addresses: self.addresses.len(),
            streams: self.streams.len(),
            loops: self.loops.len(),
        }
    }

    /// Forgets everything since the mark.
    pub(super) fn reset(&mut self, mark: Mark) {
        for val in self.log.drain(mark.log..) {
            self.vals[val.0 as usize] = None;
        }
        self.addresses.truncate(mark.addresses);
        self.streams.truncate(mark.streams);
        self.loops.truncate(mark.loops);
    }

    pub(super) fn define(&mut self, id: ValId, val: Arg) {
        let i = id.0 as usize;
        if self.vals.len() <= i {
            self.vals.resize(i + 1, None);
        }
        self.vals[i] = Some(val);
        self.log.push(id);
    }

    fn known(&self, id: ValId) -> Option<Arg> {
        self.vals.get(id.0 as usize).copied().flatten()
    }

    fn val(&self, id: ValId) -> Result<Reg, CodegenError> {
        let known = self.known(id).map(|a| a.reg);
        known.ok_or_else(|| CodegenError::new(format!("%{} is not defined", id.0)))
    }

    /// Emits literals and looks values up.
    pub(super) fn operand(&mut self, o: Operand) -> Result<Arg, CodegenError> {
        match o {
            Operand::Val(id) => {
                let known = self.known(id);
                known.ok_or_else(|| CodegenError::new(format!("%{} is not defined", id.0)))
            }
            Operand::Lit(x) => {
                #[expect(clippy::cast_possible_truncation, reason = "literals are f32 in generated code")]
                let x = x as f32;
                let resident = self.literals.iter().find(|(bits, _)| *bits == x.to_bits()).map(|(_, v)| *v);
                let reg = resident.unwrap_or_else(|| self.v.f(x));
                Ok(Arg { reg, lit: Some(x), mask: None })
            }
        }
    }

    pub(super) fn block(&mut self, body: &[Stmt]) -> Result<(), CodegenError> {
        body.iter().try_for_each(|s| self.stmt(s))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), CodegenError> {
        // A value that is known already was emitted before the loop.
        match stmt {
            Stmt::Let { val, .. } | Stmt::Load { val, .. } | Stmt::Random { val, .. } if self.known(*val).is_some() => {
                Ok(())
            }
            Stmt::Let { val, op, args } => {
                let args = args.iter().map(|a| self.operand(*a)).collect::<Result<Vec<_>, _>>()?;
                let (reg, mask) = self.v.op(*op, &args);
                self.define(*val, Arg { reg, lit: None, mask });
                Ok(())
            }
            Stmt::Load { val, buf, index } => {
                let loaded = self.load(*buf, index)?;
                self.define(*val, Arg::plain(loaded));
                Ok(())
            }
            Stmt::Random { val, key, seed, step, index } => {
                let stream = self.stream(*key, *seed, *step)?;
                let draws = self.draws(index)?;
                let reg = self.v.uniform(stream, draws);
                self.define(*val, Arg::plain(reg));
                Ok(())
            }
            Stmt::Store { buf, index, value } => {
                let value = self.operand(*value)?.reg;
                self.store(*buf, index, value)
            }
            Stmt::For { idx, extent, mode, body } => {
                let range = Range { start: Counter::Const(0), end: self.extent(*extent)? };
                self.for_loop(*idx, range, mode.is_vector(), body)
            }
            Stmt::Reduce { idx, extent, vector, accs, body, yields } => {
                let range = Range { start: Counter::Const(0), end: self.extent(*extent)? };
                let results = self.reduce_loop(*idx, range, *vector, accs, body, yields)?;
                for ((_, val), result) in accs.iter().zip(results) {
                    self.define(*val, Arg::plain(result));
                }
                Ok(())
            }
        }
    }

    fn extent(&mut self, extent: Dim) -> Result<Counter, CodegenError> {
        match extent.as_const() {
            Some(n) => Ok(Counter::Const(n.cast_signed())),
            None => self.dim(extent).map(Counter::Dyn),
        }
    }

    fn stream(&mut self, key: u32, seed: ValId, step: ValId) -> Result<Reg, CodegenError> {
        if let Some((_, s)) = self.streams.iter().find(|(k, _)| *k == (seed, key, step)) {
            return Ok(*s);
        }
        let (seeds, steps) = (self.val(seed)?, self.val(step)?);
        let stream = self.v.stream(seeds, key, steps);
        self.streams.push(((seed, key, step), stream));
        Ok(stream)
    }

    /// Emits before a loop what its body computes anew in each iteration: loads from `In` buffers and operations
    /// whose operands are known here, streams of random numbers, and the invariant part of addresses.
    pub(super) fn hoist(&mut self, body: &[Stmt]) -> Result<(), CodegenError> {
        for stmt in body {
            match stmt {
                Stmt::Let { args, .. } => {
                    let ready = args.iter().all(|a| match a {
                        Operand::Val(v) => self.known(*v).is_some(),
                        Operand::Lit(_) => true,
                    });
                    if ready {
                        self.stmt(stmt)?;
                    }
                }
                Stmt::Load { buf, index, .. } => {
                    let invariant = index.terms.iter().all(|(i, _)| self.is_open(*i));
                    if invariant && !self.buffer(*buf)?.access.stores() {
                        self.stmt(stmt)?;
                    } else {
                        self.prepare(Some(*buf), index)?;
                    }
                }
                Stmt::Random { key, seed, step, index, .. } => {
                    if self.known(*seed).is_some() && self.known(*step).is_some() {
                        self.stream(*key, *seed, *step)?;
                    }
                    self.prepare(None, index)?;
                }
                Stmt::Store { buf, index, .. } => self.prepare(Some(*buf), index)?,
                Stmt::For { extent, body, .. } | Stmt::Reduce { extent, body, .. } => {
                    // An inner loop that may be empty must not have its loads executed.
                    if extent.as_const().is_some_and(|e| e > 0) {
                        self.hoist(body)?;
                    } else {
                        self.prepare_all(body)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn prepare_all(&mut self, body: &[Stmt]) -> Result<(), CodegenError> {
        for stmt in body {
            match stmt {
                Stmt::Load { buf, index, .. } | Stmt::Store { buf, index, .. } => self.prepare(Some(*buf), index)?,
                Stmt::For { body, .. } | Stmt::Reduce { body, .. } => self.prepare_all(body)?,
                Stmt::Let { .. } | Stmt::Random { .. } => {}
            }
        }
        Ok(())
    }

    pub(super) fn buffer(&self, buf: BufId) -> Result<&crate::ir::kernel::BufDecl, CodegenError> {
        let decl = self.kernel.bufs.get(buf.0 as usize);
        decl.ok_or_else(|| CodegenError::new(format!("buffer {} does not exist", buf.0)))
    }

    pub(super) fn scalar_type(
        &self,
        buf: BufId,
    ) -> Result<(cranelift_codegen::ir::Type, cranelift_codegen::ir::Type), CodegenError> {
        Ok(match self.buffer(buf)?.ty {
            Scalar::F32 => (types::F32, types::F32X4),
            Scalar::U32 => (types::I32, types::I32X4),
        })
    }
}

/// Symbolic sizes and literals of a body, each once, in the order of the text.
fn collect(body: &[Stmt], outermost: bool, dims: &mut Vec<Dim>, lits: &mut Vec<u32>) {
    let mut dim = |d: Dim| {
        if !d.is_const() && !dims.contains(&d) {
            dims.push(d);
        }
    };
    let mut lit = |o: &Operand| {
        if let Operand::Lit(x) = o {
            #[expect(clippy::cast_possible_truncation, reason = "literals are f32 in generated code")]
            let bits = (*x as f32).to_bits();
            if !lits.contains(&bits) {
                lits.push(bits);
            }
        }
    };
    for stmt in body {
        match stmt {
            Stmt::Let { args, .. } => args.iter().for_each(&mut lit),
            Stmt::Load { index, .. } | Stmt::Random { index, .. } => index.terms.iter().for_each(|(_, d)| dim(*d)),
            Stmt::Store { index, value, .. } => {
                index.terms.iter().for_each(|(_, d)| dim(*d));
                lit(value);
            }
            Stmt::For { extent, .. } if !outermost => dim(*extent),
            Stmt::Reduce { extent, yields, .. } => {
                dim(*extent);
                yields.iter().for_each(&mut lit);
            }
            Stmt::For { .. } => {}
        }
    }
    for stmt in body {
        if let Stmt::For { body, .. } | Stmt::Reduce { body, .. } = stmt {
            collect(body, false, dims, lits);
        }
    }
}
