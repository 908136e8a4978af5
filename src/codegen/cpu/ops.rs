//! Scalar operations of the kernel IR on registers of four lanes: the vocabulary in which `math` and `emit` speak to
//! cranelift.
//!
//! A [`Reg`] stands for one register, or for several that the same operation is applied to in turn. Going through a
//! long sequence in step loads each constant once and leaves independent chains side by side.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::ir::kernel::ScalarOp;

/// Most registers that a [`Reg`] stands for.
pub(super) const MAX_UNITS: usize = 4;

/// A value in each unit of the current body, or a single one that all units share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reg {
    units: [Value; MAX_UNITS],
    len: usize,
}

impl Reg {
    /// The same register in all units.
    pub(super) fn one(value: Value) -> Reg {
        Reg { units: [value; MAX_UNITS], len: 1 }
    }

    /// One register per unit; beyond [`MAX_UNITS`] they are dropped.
    pub(super) fn many(values: &[Value]) -> Option<Reg> {
        let first = *values.first()?;
        let mut units = [first; MAX_UNITS];
        units.iter_mut().zip(values).for_each(|(u, v)| *u = *v);
        Some(Reg { units, len: values.len().min(MAX_UNITS) })
    }

    /// The register of a unit.
    pub(super) fn unit(&self, u: usize) -> Value {
        if self.len == 1 { self.units[0] } else { self.units[u.min(MAX_UNITS - 1)] }
    }
}

/// An operand with what is known about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arg {
    /// F32X4 (or I32X4 for a u32).
    pub(super) reg: Reg,
    /// The literal it came from.
    pub(super) lit: Option<f32>,
    /// For the result of a comparison, the lanes' masks.
    pub(super) mask: Option<Reg>,
}

impl Arg {
    /// An operand of which nothing is known.
    pub(super) fn plain(reg: Reg) -> Arg {
        Arg { reg, lit: None, mask: None }
    }
}

/// Emits vector instructions into a function.
pub(super) struct Vector<'f> {
    pub(super) b: FunctionBuilder<'f>,
    /// Whether fused multiply-add is one instruction.
    pub(super) has_fma: bool,
}

impl Vector<'_> {
    /// Applies an instruction to every unit.
    fn map1(&mut self, a: Reg, mut f: impl FnMut(&mut Self, Value) -> Value) -> Reg {
        let mut out = a;
        for u in 0..a.len {
            out.units[u] = f(self, a.units[u]);
        }
        if a.len == 1 { Reg::one(out.units[0]) } else { out }
    }

    fn map2(&mut self, a: Reg, b: Reg, mut f: impl FnMut(&mut Self, Value, Value) -> Value) -> Reg {
        let len = a.len.max(b.len);
        let mut out = Reg { len, ..a };
        for u in 0..len {
            out.units[u] = f(self, a.unit(u), b.unit(u));
        }
        if len == 1 { Reg::one(out.units[0]) } else { out }
    }

    fn map3(&mut self, a: Reg, b: Reg, c: Reg, mut f: impl FnMut(&mut Self, Value, Value, Value) -> Value) -> Reg {
        let len = a.len.max(b.len).max(c.len);
        let mut out = Reg { len, ..a };
        for u in 0..len {
            out.units[u] = f(self, a.unit(u), b.unit(u), c.unit(u));
        }
        if len == 1 { Reg::one(out.units[0]) } else { out }
    }

    fn constant(&mut self, ty: Type, lane: &[u8]) -> Reg {
        let bytes = lane.repeat(16 / lane.len());
        let handle = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        Reg::one(self.b.ins().vconst(ty, handle))
    }

    /// Four equal floats.
    pub(super) fn f(&mut self, x: f32) -> Reg {
        self.constant(types::F32X4, &x.to_bits().to_le_bytes())
    }

    /// Two equal doubles.
    pub(super) fn d(&mut self, x: f64) -> Reg {
        self.constant(types::F64X2, &x.to_le_bytes())
    }

    /// Four equal integers.
    pub(super) fn i(&mut self, x: u32) -> Reg {
        self.constant(types::I32X4, &x.to_le_bytes())
    }

    /// The integers 0, step, 2·step, 3·step modulo 2³².
    pub(super) fn ramp(&mut self, step: u32) -> Reg {
        let bytes: Vec<u8> = (0..4u32).flat_map(|l| l.wrapping_mul(step).to_le_bytes()).collect();
        self.constant(types::I32X4, &bytes)
    }

    fn cast_value(&mut self, ty: Type, x: Value) -> Value {
        if self.b.func.dfg.value_type(x) == ty {
            return x;
        }
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), x)
    }

    fn cast(&mut self, ty: Type, x: Reg) -> Reg {
        self.map1(x, |v, x| v.cast_value(ty, x))
    }

    /// The bits of floats.
    pub(super) fn bits(&mut self, x: Reg) -> Reg {
        self.cast(types::I32X4, x)
    }

    /// The floats with these bits.
    pub(super) fn float(&mut self, x: Reg) -> Reg {
        self.cast(types::F32X4, x)
    }

    pub(super) fn add(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().fadd(a, b))
    }

    pub(super) fn sub(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().fsub(a, b))
    }

    pub(super) fn mul(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().fmul(a, b))
    }

    pub(super) fn div(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().fdiv(a, b))
    }

    pub(super) fn neg(&mut self, a: Reg) -> Reg {
        self.map1(a, |v, a| v.b.ins().fneg(a))
    }

    pub(super) fn abs(&mut self, a: Reg) -> Reg {
        self.map1(a, |v, a| v.b.ins().fabs(a))
    }

    pub(super) fn iadd(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().iadd(a, b))
    }

    pub(super) fn isub(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().isub(a, b))
    }

    pub(super) fn imul(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().imul(a, b))
    }

    fn xor(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().bxor(a, b))
    }

    /// Signed integers as floats.
    pub(super) fn float_of_int(&mut self, a: Reg) -> Reg {
        self.map1(a, |v, a| v.b.ins().fcvt_from_sint(types::F32X4, a))
    }

    /// Floats with integer values as integers.
    pub(super) fn int_of_float(&mut self, a: Reg) -> Reg {
        self.map1(a, |v, a| v.b.ins().x86_cvtt2dq(types::I32X4, a))
    }

    /// Lanes 0 and 1 as doubles.
    pub(super) fn widen(&mut self, a: Reg) -> Reg {
        self.map1(a, |v, a| v.b.ins().fvpromote_low(a))
    }

    /// Doubles as floats in lanes 0 and 1.
    pub(super) fn narrow(&mut self, a: Reg) -> Reg {
        self.map1(a, |v, a| v.b.ins().fvdemote(a))
    }

    /// a · b + c, rounded once where the level has it. Only `math` may use it: kernels are never contracted.
    pub(super) fn fma(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        if self.has_fma {
            return self.map3(a, b, c, |v, a, b, c| v.b.ins().fma(a, b, c));
        }
        let p = self.mul(a, b);
        self.add(p, c)
    }

    pub(super) fn shl(&mut self, x: Reg, by: i64) -> Reg {
        let by = self.b.ins().iconst(types::I32, by);
        let x = self.bits(x);
        self.map1(x, |v, x| v.b.ins().ishl(x, by))
    }

    pub(super) fn shr(&mut self, x: Reg, by: i64) -> Reg {
        let by = self.b.ins().iconst(types::I32, by);
        self.map1(x, |v, x| v.b.ins().ushr(x, by))
    }

    pub(super) fn sar(&mut self, x: Reg, by: i64) -> Reg {
        let by = self.b.ins().iconst(types::I32, by);
        let x = self.bits(x);
        self.map1(x, |v, x| v.b.ins().sshr(x, by))
    }

    /// A comparison as lane masks of floats.
    pub(super) fn cmp(&mut self, cc: FloatCC, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| {
            let ty = v.b.func.dfg.value_type(a);
            let m = v.b.ins().fcmp(cc, a, b);
            v.cast_value(ty, m)
        })
    }

    pub(super) fn and(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().band(a, b))
    }

    pub(super) fn or(&mut self, a: Reg, b: Reg) -> Reg {
        self.map2(a, b, |v, a, b| v.b.ins().bor(a, b))
    }

    /// Lane-wise `mask ? a : b`.
    pub(super) fn select(&mut self, mask: Reg, a: Reg, b: Reg) -> Reg {
        self.map3(mask, a, b, |v, m, a, b| v.b.ins().bitselect(m, a, b))
    }

    /// a > b ? a : b as one `maxps`: b where either is NaN.
    pub(super) fn pmax(&mut self, a: Reg, b: Reg) -> Reg {
        let m = self.cmp(FloatCC::LessThan, b, a);
        self.select(m, a, b)
    }

    /// a < b ? a : b as one `minps`: b where either is NaN.
    pub(super) fn pmin(&mut self, a: Reg, b: Reg) -> Reg {
        let m = self.cmp(FloatCC::LessThan, a, b);
        self.select(m, a, b)
    }

    fn extremum(&mut self, a: Arg, b: Arg, max: bool) -> Reg {
        let (a, b) = if b.lit.is_some() { (b, a) } else { (a, b) };
        // With a number as first operand a NaN in the second one survives on its own.
        let first = if a.lit.is_some_and(|x| !x.is_nan()) { a.reg } else { b.reg };
        let second = if first == a.reg { b.reg } else { a.reg };
        let y = if max { self.pmax(first, second) } else { self.pmin(first, second) };
        if a.lit.is_some_and(|x| !x.is_nan()) {
            return y;
        }
        let nan = self.cmp(FloatCC::Unordered, first, first);
        self.or(y, nan)
    }

    /// |x| with the sign of `sign`; x must not be negative.
    pub(super) fn copysign(&mut self, x: Reg, sign: Reg) -> Reg {
        let mask = self.f(-0.0);
        let s = self.and(sign, mask);
        self.or(x, s)
    }

    /// Lanes 2 and 3 in the place of lanes 0 and 1.
    pub(super) fn upper(&mut self, x: Reg) -> Reg {
        self.shuffle(x, x, [2, 3, 2, 3])
    }

    /// Lanes 0 and 1 of `lo`, then lanes 0 and 1 of `hi`.
    pub(super) fn join(&mut self, lo: Reg, hi: Reg) -> Reg {
        self.shuffle(lo, hi, [0, 1, 4, 5])
    }

    fn shuffle(&mut self, a: Reg, b: Reg, lanes: [u8; 4]) -> Reg {
        let bytes: Vec<u8> = lanes.iter().flat_map(|l| (0..4).map(move |k| 4 * l + k)).collect();
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(bytes));
        let (a, b) = (self.cast(types::I8X16, a), self.cast(types::I8X16, b));
        let r = self.map2(a, b, |v, a, b| v.b.ins().shuffle(a, b, mask));
        self.cast(types::F32X4, r)
    }

    /// Combines the four lanes as (l0 ∘ l2) ∘ (l1 ∘ l3) into all lanes.
    pub(super) fn fold_lanes(&mut self, op: ScalarOp, x: Reg) -> Reg {
        let swapped = self.shuffle(x, x, [2, 3, 0, 1]);
        let x = self.combine(op, x, swapped);
        let swapped = self.shuffle(x, x, [1, 0, 3, 2]);
        self.combine(op, x, swapped)
    }

    /// One step of a reduction; `acc` is the operand on the critical path.
    pub(super) fn combine(&mut self, op: ScalarOp, acc: Reg, x: Reg) -> Reg {
        match op {
            ScalarOp::Max => self.extremum(Arg::plain(acc), Arg::plain(x), true),
            ScalarOp::Min => self.extremum(Arg::plain(acc), Arg::plain(x), false),
            _ => self.add(acc, x),
        }
    }

    /// Emits one operation; the second result is the mask of a comparison.
    pub(super) fn op(&mut self, op: ScalarOp, args: &[Arg]) -> (Reg, Option<Reg>) {
        let a = args[0];
        let b = args.get(1).copied().unwrap_or(a);
        let compare = match op {
            ScalarOp::Lt => Some(FloatCC::LessThan),
            ScalarOp::Le => Some(FloatCC::LessThanOrEqual),
            ScalarOp::Eq => Some(FloatCC::Equal),
            _ => None,
        };
        if let Some(cc) = compare {
            let mask = self.cmp(cc, a.reg, b.reg);
            let one = self.f(1.0);
            return (self.and(mask, one), Some(mask));
        }
        let value = match op {
            ScalarOp::Add => self.add(a.reg, b.reg),
            ScalarOp::Sub => self.sub(a.reg, b.reg),
            ScalarOp::Mul => self.mul(a.reg, b.reg),
            ScalarOp::Div => self.div(a.reg, b.reg),
            ScalarOp::Max => self.extremum(a, b, true),
            ScalarOp::Min => self.extremum(a, b, false),
            ScalarOp::Pow => self.pow(a.reg, b.reg),
            ScalarOp::Select => {
                let c = args.get(2).copied().unwrap_or(b);
                match a.mask {
                    Some(mask) => self.select(mask, b.reg, c.reg),
                    None => {
                        let zero = self.f(0.0);
                        let mask = self.cmp(FloatCC::Equal, a.reg, zero);
                        self.select(mask, c.reg, b.reg)
                    }
                }
            }
            ScalarOp::Neg => self.neg(a.reg),
            ScalarOp::Abs => self.abs(a.reg),
            ScalarOp::Sign => {
                let (zero, one) = (self.f(0.0), self.f(1.0));
                let unit = self.copysign(one, a.reg);
                let nonzero = self.cmp(FloatCC::NotEqual, a.reg, zero);
                let y = self.and(unit, nonzero);
                let nan = self.cmp(FloatCC::Unordered, a.reg, a.reg);
                self.or(y, nan)
            }
            ScalarOp::Sqrt => self.map1(a.reg, |v, a| v.b.ins().sqrt(a)),
            ScalarOp::Exp => self.exp(a.reg),
            ScalarOp::Log => self.log(a.reg),
            ScalarOp::Log1p => self.log1p(a.reg),
            ScalarOp::Expm1 => self.expm1(a.reg),
            ScalarOp::Tanh => self.tanh(a.reg),
            ScalarOp::Sigmoid => self.sigmoid(a.reg),
            ScalarOp::FromU32 => self.map1(a.reg, |v, a| v.b.ins().fcvt_from_uint(types::F32X4, a)),
            ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq => unreachable!("comparisons are handled above"),
        };
        (value, None)
    }

    /// `rng::mix` of `kur_runtime::abi`.
    fn mix(&mut self, x: Reg) -> Reg {
        let mut x = x;
        for (shift, factor) in [(16, Some(0x7feb_352d)), (15, Some(0x846c_a68b)), (16, None)] {
            let s = self.shr(x, shift);
            x = self.xor(x, s);
            if let Some(factor) = factor {
                let factor = self.i(factor);
                x = self.imul(x, factor);
            }
        }
        x
    }

    /// `rng::stream(seed, key, step)` of `kur_runtime::abi`.
    pub(super) fn stream(&mut self, seed: Reg, key: u32, step: Reg) -> Reg {
        let (salt, key) = (self.i(0x6b75_7263), self.i(key));
        let x = self.xor(seed, salt);
        let x = self.mix(x);
        let x = self.iadd(x, key);
        let x = self.mix(x);
        let x = self.iadd(x, step);
        self.mix(x)
    }

    /// `rng::uniform(stream, index)` of `kur_runtime::abi`.
    pub(super) fn uniform(&mut self, stream: Reg, index: Reg) -> Reg {
        let weyl = self.i(0x9e37_79b9);
        let x = self.imul(index, weyl);
        let x = self.xor(x, stream);
        let x = self.mix(x);
        let x = self.iadd(x, stream);
        let x = self.mix(x);
        let x = self.shr(x, 8);
        let x = self.float_of_int(x);
        let unit = self.f(1.0 / 16_777_216.0);
        self.mul(x, unit)
    }
}
