//! Runs kernels one statement at a time: the judge of every back end. Slow and obvious, in f64, or with each result
//! rounded to f32. What comes in is a verified kernel; every index is checked all the same.

use std::fmt;

use kur_runtime::abi::rng;

use crate::ir::kernel::{BufId, Index, Kernel, Operand, Scalar, ScalarOp, Stmt, ValId};

/// Contents of a buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Elements of an f32 buffer, in the precision of the interpreter.
    F32(Vec<f64>),
    /// Elements of a u32 buffer.
    U32(Vec<u32>),
}

impl Data {
    /// The elements of an f32 buffer; empty for a u32 one.
    #[must_use]
    pub fn floats(&self) -> &[f64] {
        match self {
            Data::F32(v) => v,
            Data::U32(_) => &[],
        }
    }
}

/// Arithmetic of the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f64 throughout.
    F64,
    /// Every result is rounded to f32 (transcendental functions are rounded once, from their f64 value).
    F32,
}

/// Why a kernel could not be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterpError(String);

impl fmt::Display for InterpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InterpError {}

/// Runs the whole range of the outermost loop. `values` are those of the symbols in table order; `bufs` are in
/// parameter order and are changed in place.
///
/// # Errors
/// [`InterpError`] when a buffer is missing, has the wrong type, or an element outside of it is used.
pub fn run(kernel: &Kernel, values: &[u64], bufs: &mut [Data], precision: Precision) -> Result<(), InterpError> {
    for (i, decl) in kernel.bufs.iter().enumerate() {
        let fits = match (decl.ty, bufs.get(i)) {
            (Scalar::F32, Some(Data::F32(_))) | (Scalar::U32, Some(Data::U32(_))) => true,
            (_, Some(_) | None) => false,
        };
        if !fits {
            return Err(InterpError(format!("buffer %{} is missing or not {}", decl.name, decl.ty.name())));
        }
    }
    let mut m = Machine { kernel, values, bufs, precision, vals: Vec::new(), idxs: Vec::new() };
    m.stmt(&kernel.body)
}

#[derive(Clone, Copy)]
enum Value {
    Float(f64),
    Int(u32),
}

struct Machine<'a> {
    kernel: &'a Kernel,
    values: &'a [u64],
    bufs: &'a mut [Data],
    precision: Precision,
    vals: Vec<Option<Value>>,
    idxs: Vec<u64>,
}

impl Machine<'_> {
    fn round(&self, x: f64) -> f64 {
        match self.precision {
            Precision::F64 => x,
            Precision::F32 => narrow(x),
        }
    }

    fn set(&mut self, val: ValId, value: Value) {
        let i = val.0 as usize;
        if self.vals.len() <= i {
            self.vals.resize(i + 1, None);
        }
        self.vals[i] = Some(value);
    }

    fn float(&self, o: Operand) -> Result<f64, InterpError> {
        match o {
            Operand::Lit(x) => Ok(self.round(x)),
            Operand::Val(v) => match self.vals.get(v.0 as usize) {
                Some(Some(Value::Float(x))) => Ok(*x),
                _ => Err(InterpError(format!("%{} is no float", v.0))),
            },
        }
    }

    fn int(&self, o: Operand) -> Result<u32, InterpError> {
        match o {
            Operand::Val(v) => match self.vals.get(v.0 as usize) {
                Some(Some(Value::Int(x))) => Ok(*x),
                _ => Err(InterpError(format!("%{} is no u32", v.0))),
            },
            Operand::Lit(_) => Err(InterpError("a literal is no u32".to_owned())),
        }
    }

    fn at(&self, index: &Index) -> u64 {
        index.terms.iter().fold(index.base, |sum, (idx, stride)| {
            let i = self.idxs.get(idx.0 as usize).copied().unwrap_or(0);
            sum.wrapping_add(i.wrapping_mul(stride.eval(self.values)))
        })
    }

    fn bounds(&self, buf: BufId, at: u64, len: usize) -> Result<usize, InterpError> {
        usize::try_from(at).ok().filter(|i| *i < len).ok_or_else(|| {
            let name = self.kernel.bufs.get(buf.0 as usize).map_or("?", |b| &b.name);
            InterpError(format!("element {at} of %{name}, which has {len}"))
        })
    }

    fn block(&mut self, body: &[Stmt]) -> Result<(), InterpError> {
        body.iter().try_for_each(|s| self.stmt(s))
    }

    fn enter(&mut self, idx: usize, i: u64) {
        if self.idxs.len() <= idx {
            self.idxs.resize(idx + 1, 0);
        }
        self.idxs[idx] = i;
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), InterpError> {
        match stmt {
            Stmt::Let { val, op: ScalarOp::FromU32, args } => {
                let x = self.int(args[0])?;
                self.set(*val, Value::Float(self.round(f64::from(x))));
            }
            Stmt::Let { val, op, args } => {
                let args = args.iter().map(|a| self.float(*a)).collect::<Result<Vec<_>, _>>()?;
                let x = self.round(apply(*op, &args));
                self.set(*val, Value::Float(x));
            }
            Stmt::Load { val, buf, index } => {
                let at = self.at(index);
                let value = match self.bufs.get(buf.0 as usize) {
                    Some(Data::F32(d)) => Value::Float(self.round(d[self.bounds(*buf, at, d.len())?])),
                    Some(Data::U32(d)) => Value::Int(d[self.bounds(*buf, at, d.len())?]),
                    None => return Err(InterpError(format!("buffer {} does not exist", buf.0))),
                };
                self.set(*val, value);
            }
            Stmt::Random { val, key, seed, step, index } => {
                let stream = rng::stream(self.int(Operand::Val(*seed))?, *key, self.int(Operand::Val(*step))?);
                #[expect(clippy::cast_possible_truncation, reason = "draws are numbered modulo 2^32")]
                let draw = self.at(index) as u32;
                self.set(*val, Value::Float(f64::from(rng::uniform(stream, draw))));
            }
            Stmt::Store { buf, index, value } => {
                let at = self.at(index);
                let x = self.float(*value)?;
                let len = self.bufs.get(buf.0 as usize).map_or(0, |d| d.floats().len());
                let at = self.bounds(*buf, at, len)?;
                if let Some(Data::F32(d)) = self.bufs.get_mut(buf.0 as usize) {
                    d[at] = x;
                }
            }
            Stmt::For { idx, extent, body, .. } => {
                for i in 0..extent.eval(self.values) {
                    self.enter(idx.0 as usize, i);
                    self.block(body)?;
                }
            }
            Stmt::Reduce { idx, extent, accs, body, yields, .. } => {
                let mut sums: Vec<f64> = accs.iter().map(|(op, _)| op.neutral()).collect();
                for i in 0..extent.eval(self.values) {
                    self.enter(idx.0 as usize, i);
                    self.block(body)?;
                    for (sum, ((op, _), y)) in sums.iter_mut().zip(accs.iter().zip(yields)) {
                        *sum = self.round(apply(op.combine(), &[*sum, self.float(*y)?]));
                    }
                }
                for ((_, val), sum) in accs.iter().zip(sums) {
                    self.set(*val, Value::Float(sum));
                }
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is asked for")]
fn narrow(x: f64) -> f64 {
    f64::from(x as f32)
}

fn truth(b: bool) -> f64 {
    if b { 1.0 } else { 0.0 }
}

/// One scalar operation in f64, with the special values that [`ScalarOp`] promises. `FromU32` is the identity.
///
/// # Panics
/// When fewer operands are given than [`ScalarOp::arity`] asks for.
#[must_use]
pub fn apply(op: ScalarOp, x: &[f64]) -> f64 {
    let a = x[0];
    match op {
        ScalarOp::Add => a + x[1],
        ScalarOp::Sub => a - x[1],
        ScalarOp::Mul => a * x[1],
        ScalarOp::Div => a / x[1],
        ScalarOp::Max | ScalarOp::Min if a.is_nan() || x[1].is_nan() => f64::NAN,
        ScalarOp::Max => a.max(x[1]),
        ScalarOp::Min => a.min(x[1]),
        ScalarOp::Pow => pow(a, x[1]),
        ScalarOp::Lt => truth(a < x[1]),
        ScalarOp::Le => truth(a <= x[1]),
        #[expect(clippy::float_cmp, reason = "exact comparison is the operation")]
        ScalarOp::Eq => truth(a == x[1]),
        ScalarOp::Select => {
            if a == 0.0 {
                x[2]
            } else {
                x[1]
            }
        }
        ScalarOp::Neg => -a,
        ScalarOp::Abs => a.abs(),
        ScalarOp::Sign if a == 0.0 || a.is_nan() => a,
        ScalarOp::Sign => a.signum(),
        ScalarOp::Sqrt => a.sqrt(),
        ScalarOp::Exp => a.exp(),
        ScalarOp::Log => a.ln(),
        ScalarOp::Log1p => a.ln_1p(),
        ScalarOp::Expm1 => a.exp_m1(),
        ScalarOp::Tanh => a.tanh(),
        ScalarOp::Sigmoid if a < 0.0 => a.exp() / (1.0 + a.exp()),
        ScalarOp::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        ScalarOp::FromU32 => a,
    }
}

/// aᵇ as exp(b · ln a): NaN for a negative base or any NaN, 1 for b = 0.
fn pow(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() || (a < 0.0 && b != 0.0) {
        f64::NAN
    } else if b == 0.0 {
        1.0
    } else {
        a.abs().powf(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::text::kernel_parse::parse_kernel;

    #[test]
    fn bias_relu_and_row_sums() {
        let text = "kernel @k symbols(n) (in %x: f32[3*n], in %b: f32[3], out %y: f32[3*n], out %s: f32[n]) {
            for i in n parallel {
              for j in 3 vector {
                %0 = load %x[3*i + j] %1 = load %b[j] %2 = add %0, %1 %3 = max %2, 0.0 store %y[3*i + j], %3
              }
              %5, %6 = reduce add, max k in 3 vector { %4 = load %x[3*i + k] yield %4, %4 }
              %7 = add %5, %6
              store %s[i], %7
            } }";
        let kernel = parse_kernel(text).expect("parses");
        let zeros = |n| Data::F32(vec![0.0; n]);
        let x = Data::F32(vec![1.0, -2.0, 3.0, -4.0, 5.0, -6.0]);
        let mut bufs = [x, Data::F32(vec![0.5, 0.5, -3.0]), zeros(6), zeros(2)];
        run(&kernel, &[2], &mut bufs, Precision::F64).expect("runs");
        assert_eq!(bufs[2].floats(), [1.5, 0.0, 0.0, 0.0, 5.5, 0.0]);
        assert_eq!(bufs[3].floats(), [5.0, 0.0]);
    }

    #[test]
    fn out_of_bounds_is_an_error() {
        let kernel =
            parse_kernel("kernel @k (out %y: f32[4]) { for i in 5 parallel { store %y[i], 1.0 } }").expect("parses");
        let mut bufs = [Data::F32(vec![0.0; 4])];
        let e = run(&kernel, &[1], &mut bufs, Precision::F32).expect_err("fails");
        assert_eq!(e.to_string(), "element 4 of %y, which has 4");
    }

    #[test]
    fn nan_is_never_hidden() {
        assert!(apply(ScalarOp::Max, &[f64::NAN, 0.0]).is_nan());
        assert!(apply(ScalarOp::Min, &[0.0, f64::NAN]).is_nan());
        assert!(apply(ScalarOp::Sign, &[f64::NAN]).is_nan());
    }
}
