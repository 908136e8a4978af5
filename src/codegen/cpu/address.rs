//! Element addresses, loads and stores. An address is a pointer plus a constant displacement; its loop-invariant part
//! is computed before the loop, the rest is an addressing mode or an offset that the loop increments.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use kur_runtime::dim::Dim;

use crate::codegen::CodegenError;
use crate::codegen::cpu::emit::{CachedAddress, Emitter};
use crate::codegen::cpu::loops::Counter;
use crate::codegen::cpu::ops::Reg;
use crate::ir::kernel::{BufId, IdxId, Index};

/// Bytes of an element.
const ELEM: i64 = 4;
/// Lanes of a register.
pub(super) const LANES: usize = 4;
/// Displacements up to this fit into an instruction together with any lane's offset.
const MAX_DISP: i64 = 1 << 30;

/// A pointer and a displacement in bytes (or elements where no buffer is involved).
#[derive(Clone, Copy)]
struct Address {
    base: Option<Value>,
    disp: i64,
}

/// Buffers are not aligned to a vector at every index, and never overlap the stack.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// The stride when a loop keeps its own offset for it; others are scaled addressing modes of the counter.
pub(super) fn needs_offset(stride: Dim) -> bool {
    !matches!(stride.as_const(), Some(1 | 2))
}

impl Emitter<'_, '_> {
    pub(super) fn is_open(&self, idx: IdxId) -> bool {
        self.loops.iter().any(|l| l.idx == idx)
    }

    fn sum(&mut self, a: Option<Value>, b: Option<Value>) -> Option<Value> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.v.b.ins().iadd(a, b)),
            (a, b) => a.or(b),
        }
    }

    /// `index · stride`, in bytes for a buffer, else in elements.
    fn term(&mut self, idx: IdxId, stride: Dim, bytes: bool) -> Result<Address, CodegenError> {
        let unit = if bytes { ELEM } else { 1 };
        let open = self.loops.iter().find(|l| l.idx == idx);
        let open = open.ok_or_else(|| CodegenError::new(format!("loop {} is not open", idx.0)))?;
        let offset = open.offsets.iter().find(|(d, _)| *d == stride).map(|(_, v)| *v);
        match (open.counter, stride.as_const()) {
            (Counter::Const(i), Some(s)) => {
                let disp = i.wrapping_mul(s.cast_signed()).wrapping_mul(unit);
                Ok(Address { base: None, disp })
            }
            (Counter::Const(0), None) => Ok(Address { base: None, disp: 0 }),
            (Counter::Const(i), None) => {
                let d = self.dim(stride)?;
                Ok(Address { base: Some(self.v.b.ins().imul_imm_s(d, i.wrapping_mul(unit))), disp: 0 })
            }
            (Counter::Dyn(_), _) if bytes && offset.is_some() => Ok(Address { base: offset, disp: 0 }),
            (Counter::Dyn(i), Some(s)) => {
                let factor = s.cast_signed().wrapping_mul(unit);
                let base = match factor {
                    1 => i,
                    2 | 4 | 8 => self.v.b.ins().ishl_imm_u(i, i64::from(factor.trailing_zeros())),
                    _ => self.v.b.ins().imul_imm_s(i, factor),
                };
                Ok(Address { base: Some(base), disp: 0 })
            }
            (Counter::Dyn(i), None) => {
                let d = self.dim(stride)?;
                let p = self.v.b.ins().imul(i, d);
                let p = if bytes { self.v.b.ins().ishl_imm_u(p, 2) } else { p };
                Ok(Address { base: Some(p), disp: 0 })
            }
        }
    }

    /// The buffer's pointer plus terms, from the cache where a prefix of them is known.
    fn partial(&mut self, buf: Option<BufId>, terms: &[(IdxId, Dim)]) -> Result<Address, CodegenError> {
        let Some((&(idx, stride), rest)) = terms.split_last() else {
            let base = match buf {
                None => None,
                Some(b) => {
                    Some(self.bufs.get(b.0 as usize).copied().ok_or_else(|| CodegenError::new("no such buffer"))?)
                }
            };
            return Ok(Address { base, disp: 0 });
        };
        if let Some(a) = self.addresses.iter().find(|a| a.buf == buf && a.terms == terms) {
            return Ok(Address { base: a.base, disp: a.disp });
        }
        let outer = self.partial(buf, rest)?;
        let term = self.term(idx, stride, buf.is_some())?;
        let base = self.sum(outer.base, term.base);
        let disp = outer.disp.wrapping_add(term.disp);
        self.addresses.push(CachedAddress { buf, terms: terms.to_vec(), base, disp });
        Ok(Address { base, disp })
    }

    /// Computes the part of an address that the open loops determine, for the loop about to be entered.
    pub(super) fn prepare(&mut self, buf: Option<BufId>, index: &Index) -> Result<(), CodegenError> {
        let known = index.terms.iter().take_while(|(i, _)| self.is_open(*i)).count();
        self.partial(buf, &index.terms[..known]).map(|_| ())
    }

    /// Pointer and displacement of lane 0 of unit 0; room is left for the other lanes' displacements.
    fn address(&mut self, buf: BufId, index: &Index) -> Result<(Value, i64), CodegenError> {
        let a = self.partial(Some(buf), &index.terms)?;
        let base = a.base.ok_or_else(|| CodegenError::new("an address without a pointer"))?;
        let disp = a.disp.wrapping_add(index.base.cast_signed().wrapping_mul(ELEM));
        if disp.abs() <= MAX_DISP {
            return Ok((base, disp));
        }
        Ok((self.v.b.ins().iadd_imm_s(base, disp), 0))
    }

    fn displacement(disp: i64) -> Result<i32, CodegenError> {
        i32::try_from(disp).map_err(|_| CodegenError::new("a displacement does not fit"))
    }

    /// The stride between lanes; `None` when all lanes use one element.
    fn lane_stride(&self, index: &Index) -> Option<Dim> {
        self.width.lane.and_then(|idx| index.stride(idx))
    }

    /// Addresses of all lanes of all units, in order.
    fn lane_addresses(&mut self, base: Value, disp: i64, stride: Dim) -> Result<Vec<(Value, i32)>, CodegenError> {
        let lanes = self.width.units * LANES;
        let count = i64::try_from(lanes).map_err(|_| CodegenError::new("too many lanes"))?;
        match stride.as_const() {
            Some(s) if s.saturating_mul(lanes as u64) < MAX_DISP.unsigned_abs() / 4 => {
                let step = s.cast_signed() * ELEM;
                (0..count).map(|l| Ok((base, Self::displacement(disp + l * step)?))).collect()
            }
            _ => {
                let step = self.dim(stride)?;
                let step = self.v.b.ins().ishl_imm_u(step, 2);
                let disp = Self::displacement(disp)?;
                let mut p = base;
                let mut out = vec![(p, disp)];
                for _ in 1..lanes {
                    p = self.v.b.ins().iadd(p, step);
                    out.push((p, disp));
                }
                Ok(out)
            }
        }
    }

    pub(super) fn load(&mut self, buf: BufId, index: &Index) -> Result<Reg, CodegenError> {
        let (scalar, vector) = self.scalar_type(buf)?;
        let (base, disp) = self.address(buf, index)?;
        let Some(stride) = self.lane_stride(index) else {
            let x = self.v.b.ins().load(scalar, flags(), base, Self::displacement(disp)?);
            return Ok(Reg::one(self.v.b.ins().splat(vector, x)));
        };
        let mut units = Vec::with_capacity(self.width.units);
        if stride == Dim::ONE {
            for u in 0..self.width.units {
                let at = Self::displacement(disp + 16 * i64::try_from(u).unwrap_or(0))?;
                units.push(self.load_unit(vector, base, at));
            }
        } else {
            for lanes in self.lane_addresses(base, disp, stride)?.chunks(LANES) {
                let mut x: Option<Value> = None;
                for (l, (p, at)) in lanes.iter().enumerate() {
                    let s = self.v.b.ins().load(scalar, flags(), *p, *at);
                    x = Some(match x {
                        None => self.v.b.ins().scalar_to_vector(vector, s),
                        Some(x) => self.v.b.ins().insertlane(x, s, u8::try_from(l).unwrap_or(0)),
                    });
                }
                units.extend(x);
            }
        }
        Reg::many(&units).ok_or_else(|| CodegenError::new("a load without lanes"))
    }

    pub(super) fn store(&mut self, buf: BufId, index: &Index, value: Reg) -> Result<(), CodegenError> {
        let (base, disp) = self.address(buf, index)?;
        match (self.width.lane, self.lane_stride(index)) {
            (None, _) => {
                let x = self.v.b.ins().extractlane(value.unit(0), 0u8);
                self.v.b.ins().store(flags(), x, base, Self::displacement(disp)?);
            }
            (Some(_), None) => return Err(CodegenError::new("all lanes store to one element")),
            (Some(_), Some(stride)) if stride == Dim::ONE => {
                for u in 0..self.width.units {
                    let at = Self::displacement(disp + 16 * i64::try_from(u).unwrap_or(0))?;
                    self.v.b.ins().store(flags(), value.unit(u), base, at);
                }
            }
            (Some(_), Some(stride)) => {
                for (i, (p, at)) in self.lane_addresses(base, disp, stride)?.into_iter().enumerate() {
                    let lane = u8::try_from(i % LANES).unwrap_or(0);
                    let x = self.v.b.ins().extractlane(value.unit(i / LANES), lane);
                    self.v.b.ins().store(flags(), x, p, at);
                }
            }
        }
        Ok(())
    }

    /// One register from a place that need not be aligned.
    ///
    /// Without AVX an instruction that reads memory itself wants it aligned, and cranelift forgets that where it folds a
    /// load into a comparison of floats. A load of integers is not folded into one.
    fn load_unit(&mut self, vector: Type, base: Value, at: i32) -> Value {
        if self.v.has_fma || vector != types::F32X4 {
            return self.v.b.ins().load(vector, flags(), base, at);
        }
        let bits = self.v.b.ins().load(types::I32X4, flags(), base, at);
        self.v.b.ins().bitcast(vector, MemFlagsData::new(), bits)
    }

    /// The numbers of the draws at an index modulo 2³².
    pub(super) fn draws(&mut self, index: &Index) -> Result<Reg, CodegenError> {
        let a = self.partial(None, &index.terms)?;
        let disp = a.disp.wrapping_add(index.base.cast_signed());
        let at = match a.base {
            Some(base) if disp == 0 => base,
            Some(base) => self.v.b.ins().iadd_imm_s(base, disp),
            None => self.v.b.ins().iconst(types::I64, disp),
        };
        let at = self.v.b.ins().ireduce(types::I32, at);
        let first = Reg::one(self.v.b.ins().splat(types::I32X4, at));
        let Some(stride) = self.lane_stride(index) else {
            return Ok(first);
        };
        let (ramp, step) = match stride.as_const() {
            Some(s) => {
                #[expect(clippy::cast_possible_truncation, reason = "draws are numbered modulo 2^32")]
                let s = s as u32;
                (self.v.ramp(s), self.v.i(s.wrapping_mul(4)))
            }
            None => {
                let d = self.dim(stride)?;
                let d = self.v.b.ins().ireduce(types::I32, d);
                let d = Reg::one(self.v.b.ins().splat(types::I32X4, d));
                let ramp = self.v.ramp(1);
                (self.v.imul(ramp, d), self.v.shl(d, 2))
            }
        };
        let mut x = self.v.iadd(first, ramp);
        let mut units = vec![x.unit(0)];
        for _ in 1..self.width.units {
            x = self.v.iadd(x, step);
            units.push(x.unit(0));
        }
        Reg::many(&units).ok_or_else(|| CodegenError::new("draws without lanes"))
    }
}
