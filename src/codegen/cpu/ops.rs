//! Scalar operations of the kernel IR on F32X4: the vocabulary in which `math` and `emit` speak to cranelift.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::immediates::Ieee32;
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::ir::kernel::ScalarOp;

/// An operand with what is known about it.
#[derive(Clone, Copy)]
pub(super) struct Arg {
    /// F32X4 (or I32X4 for a u32).
    pub(super) value: Value,
    /// The literal it came from.
    pub(super) lit: Option<f32>,
    /// For the result of a comparison, the lanes' masks.
    pub(super) mask: Option<Value>,
}

/// Emits vector instructions into a function.
pub(super) struct Vector<'f> {
    pub(super) b: FunctionBuilder<'f>,
    /// Whether fused multiply-add is one instruction.
    pub(super) has_fma: bool,
}

impl Vector<'_> {
    fn constant(&mut self, ty: Type, lane: &[u8]) -> Value {
        let bytes = lane.repeat(16 / lane.len());
        let handle = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        self.b.ins().vconst(ty, handle)
    }

    /// Four equal floats.
    pub(super) fn f(&mut self, x: f32) -> Value {
        self.constant(types::F32X4, &Ieee32::with_float(x).bits().to_le_bytes())
    }

    /// Two equal doubles.
    pub(super) fn d(&mut self, x: f64) -> Value {
        self.constant(types::F64X2, &x.to_le_bytes())
    }

    /// Four equal integers.
    pub(super) fn i(&mut self, x: u32) -> Value {
        self.constant(types::I32X4, &x.to_le_bytes())
    }

    /// The integers 0, step, 2·step, 3·step modulo 2³².
    pub(super) fn ramp(&mut self, step: u32) -> Value {
        let bytes: Vec<u8> = (0..4u32).flat_map(|l| l.wrapping_mul(step).to_le_bytes()).collect();
        self.constant(types::I32X4, &bytes)
    }

    fn cast(&mut self, ty: Type, x: Value) -> Value {
        if self.b.func.dfg.value_type(x) == ty {
            return x;
        }
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), x)
    }

    /// The bits of floats.
    pub(super) fn bits(&mut self, x: Value) -> Value {
        self.cast(types::I32X4, x)
    }

    /// The floats with these bits.
    pub(super) fn float(&mut self, x: Value) -> Value {
        self.cast(types::F32X4, x)
    }

    pub(super) fn add(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fadd(a, b)
    }

    pub(super) fn sub(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fsub(a, b)
    }

    pub(super) fn mul(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fmul(a, b)
    }

    /// a · b + c, rounded once where the level has it. Only `math` may use it: kernels are never contracted.
    pub(super) fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.has_fma {
            return self.b.ins().fma(a, b, c);
        }
        let p = self.b.ins().fmul(a, b);
        self.b.ins().fadd(p, c)
    }

    pub(super) fn shl(&mut self, x: Value, by: i64) -> Value {
        let by = self.b.ins().iconst(types::I32, by);
        let x = self.bits(x);
        self.b.ins().ishl(x, by)
    }

    pub(super) fn shr(&mut self, x: Value, by: i64) -> Value {
        let by = self.b.ins().iconst(types::I32, by);
        self.b.ins().ushr(x, by)
    }

    pub(super) fn sar(&mut self, x: Value, by: i64) -> Value {
        let by = self.b.ins().iconst(types::I32, by);
        self.b.ins().sshr(x, by)
    }

    /// A comparison as lane masks of floats.
    pub(super) fn cmp(&mut self, cc: FloatCC, a: Value, b: Value) -> Value {
        let ty = self.b.func.dfg.value_type(a);
        let m = self.b.ins().fcmp(cc, a, b);
        self.cast(ty, m)
    }

    pub(super) fn and(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().band(a, b)
    }

    pub(super) fn or(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().bor(a, b)
    }

    /// Lane-wise `mask ? a : b`.
    pub(super) fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        self.b.ins().bitselect(mask, a, b)
    }

    /// a > b ? a : b as one `maxps`: b where either is NaN.
    pub(super) fn pmax(&mut self, a: Value, b: Value) -> Value {
        let m = self.cmp(FloatCC::LessThan, b, a);
        self.select(m, a, b)
    }

    /// a < b ? a : b as one `minps`: b where either is NaN.
    pub(super) fn pmin(&mut self, a: Value, b: Value) -> Value {
        let m = self.cmp(FloatCC::LessThan, a, b);
        self.select(m, a, b)
    }

    fn extremum(&mut self, a: Arg, b: Arg, max: bool) -> Value {
        let (a, b) = if b.lit.is_some() { (b, a) } else { (a, b) };
        // With a number as first operand a NaN in the second one survives on its own.
        let first = if a.lit.is_some_and(|x| !x.is_nan()) { a.value } else { b.value };
        let second = if first == a.value { b.value } else { a.value };
        let y = if max { self.pmax(first, second) } else { self.pmin(first, second) };
        if a.lit.is_some_and(|x| !x.is_nan()) {
            return y;
        }
        let nan = self.cmp(FloatCC::Unordered, first, first);
        self.or(y, nan)
    }

    /// |x| with the sign of `sign`; x must not be negative.
    pub(super) fn copysign(&mut self, x: Value, sign: Value) -> Value {
        let mask = self.f(-0.0);
        let s = self.and(sign, mask);
        self.or(x, s)
    }

    /// Lanes 2 and 3 in the place of lanes 0 and 1.
    pub(super) fn upper(&mut self, x: Value) -> Value {
        self.shuffle(x, x, [2, 3, 2, 3])
    }

    /// Lanes 0 and 1 of `lo`, then lanes 0 and 1 of `hi`.
    pub(super) fn join(&mut self, lo: Value, hi: Value) -> Value {
        self.shuffle(lo, hi, [0, 1, 4, 5])
    }

    fn shuffle(&mut self, a: Value, b: Value, lanes: [u8; 4]) -> Value {
        let bytes: Vec<u8> = lanes.iter().flat_map(|l| (0..4).map(move |k| 4 * l + k)).collect();
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(bytes));
        let (a, b) = (self.cast(types::I8X16, a), self.cast(types::I8X16, b));
        let r = self.b.ins().shuffle(a, b, mask);
        self.cast(types::F32X4, r)
    }

    /// Combines the four lanes as (l0 ∘ l2) ∘ (l1 ∘ l3) into all lanes.
    pub(super) fn fold_lanes(&mut self, op: ScalarOp, x: Value) -> Value {
        let swapped = self.shuffle(x, x, [2, 3, 0, 1]);
        let x = self.combine(op, x, swapped);
        let swapped = self.shuffle(x, x, [1, 0, 3, 2]);
        self.combine(op, x, swapped)
    }

    /// One step of a reduction; `acc` is the operand on the critical path.
    pub(super) fn combine(&mut self, op: ScalarOp, acc: Value, x: Value) -> Value {
        let arg = |value| Arg { value, lit: None, mask: None };
        match op {
            ScalarOp::Max => self.extremum(arg(acc), arg(x), true),
            ScalarOp::Min => self.extremum(arg(acc), arg(x), false),
            _ => self.add(acc, x),
        }
    }

    /// Emits one operation; the second result is the mask of a comparison.
    pub(super) fn op(&mut self, op: ScalarOp, args: &[Arg]) -> (Value, Option<Value>) {
        let a = args[0];
        let b = args.get(1).copied().unwrap_or(a);
        let compare = match op {
            ScalarOp::Lt => Some(FloatCC::LessThan),
            ScalarOp::Le => Some(FloatCC::LessThanOrEqual),
            ScalarOp::Eq => Some(FloatCC::Equal),
            _ => None,
        };
        if let Some(cc) = compare {
            let mask = self.cmp(cc, a.value, b.value);
            let one = self.f(1.0);
            return (self.and(mask, one), Some(mask));
        }
        let value = match op {
            ScalarOp::Add => self.add(a.value, b.value),
            ScalarOp::Sub => self.sub(a.value, b.value),
            ScalarOp::Mul => self.mul(a.value, b.value),
            ScalarOp::Div => self.b.ins().fdiv(a.value, b.value),
            ScalarOp::Max => self.extremum(a, b, true),
            ScalarOp::Min => self.extremum(a, b, false),
            ScalarOp::Pow => self.pow(a.value, b.value),
            ScalarOp::Select => {
                let c = args.get(2).copied().unwrap_or(b);
                match a.mask {
                    Some(mask) => self.select(mask, b.value, c.value),
                    None => {
                        let zero = self.f(0.0);
                        let mask = self.cmp(FloatCC::Equal, a.value, zero);
                        self.select(mask, c.value, b.value)
                    }
                }
            }
            ScalarOp::Neg => self.b.ins().fneg(a.value),
            ScalarOp::Abs => self.b.ins().fabs(a.value),
            ScalarOp::Sign => {
                let (zero, one) = (self.f(0.0), self.f(1.0));
                let unit = self.copysign(one, a.value);
                let nonzero = self.cmp(FloatCC::NotEqual, a.value, zero);
                let y = self.and(unit, nonzero);
                let nan = self.cmp(FloatCC::Unordered, a.value, a.value);
                self.or(y, nan)
            }
            ScalarOp::Sqrt => self.b.ins().sqrt(a.value),
            ScalarOp::Exp => self.exp(a.value),
            ScalarOp::Log => self.log(a.value),
            ScalarOp::Log1p => self.log1p(a.value),
            ScalarOp::Expm1 => self.expm1(a.value),
            ScalarOp::Tanh => self.tanh(a.value),
            ScalarOp::Sigmoid => self.sigmoid(a.value),
            ScalarOp::FromU32 => self.b.ins().fcvt_from_uint(types::F32X4, a.value),
            ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq => unreachable!("comparisons are handled above"),
        };
        (value, None)
    }

    /// `rng::mix` of `kur_runtime::abi`.
    fn mix(&mut self, x: Value) -> Value {
        let mut x = x;
        for (shift, factor) in [(16, Some(0x7feb_352d)), (15, Some(0x846c_a68b)), (16, None)] {
            let s = self.shr(x, shift);
            x = self.b.ins().bxor(x, s);
            if let Some(factor) = factor {
                let factor = self.i(factor);
                x = self.b.ins().imul(x, factor);
            }
        }
        x
    }

    /// `rng::stream(seed, key, step)` of `kur_runtime::abi`.
    pub(super) fn stream(&mut self, seed: Value, key: u32, step: Value) -> Value {
        let (salt, key) = (self.i(0x6b75_7263), self.i(key));
        let x = self.b.ins().bxor(seed, salt);
        let x = self.mix(x);
        let x = self.b.ins().iadd(x, key);
        let x = self.mix(x);
        let x = self.b.ins().iadd(x, step);
        self.mix(x)
    }

    /// `rng::uniform(stream, index)` of `kur_runtime::abi`.
    pub(super) fn uniform(&mut self, stream: Value, index: Value) -> Value {
        let weyl = self.i(0x9e37_79b9);
        let x = self.b.ins().imul(index, weyl);
        let x = self.b.ins().bxor(x, stream);
        let x = self.mix(x);
        let x = self.b.ins().iadd(x, stream);
        let x = self.mix(x);
        let x = self.shr(x, 8);
        let x = self.b.ins().fcvt_from_sint(types::F32X4, x);
        let unit = self.f(1.0 / 16_777_216.0);
        self.mul(x, unit)
    }
}
