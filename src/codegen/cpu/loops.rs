//! Loops. A vector loop becomes three pieces that run one after the other: several registers per value, one register,
//! and one element (a register with four equal lanes). All loops are rotated: the condition stands at the end, and a
//! test before the loop guards what was hoisted out of it.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Type, Value, types};
use kur_runtime::dim::Dim;

use crate::codegen::CodegenError;
use crate::codegen::cpu::address::{LANES, needs_offset};
use crate::codegen::cpu::emit::{Emitter, OpenLoop, Width};
use crate::codegen::cpu::ops::{MAX_UNITS, Reg};
use crate::ir::kernel::{IdxId, Operand, ReduceOp, ScalarOp, Stmt, ValId};

/// A loop index or bound.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    /// Known now.
    Const(i64),
    /// Known at run time.
    Dyn(Value),
}

/// Iterations from `start` up to but not including `end`.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) start: Counter,
    pub(super) end: Counter,
}

/// Registers per value in the main piece of a vector loop.
const WIDE_UNITS: usize = MAX_UNITS;
/// The same for bodies whose intermediate values would not all stay in the 16 registers.
const NARROW_UNITS: usize = 3;
/// Weight of a body from which on it is narrow; see [`weight`].
const NARROW_WEIGHT: usize = 12;

/// What all pieces of one loop share.
struct Spec<'k> {
    idx: IdxId,
    body: &'k [Stmt],
    strides: Vec<Dim>,
    accs: &'k [(ReduceOp, ValId)],
    yields: &'k [Operand],
}

/// Where a piece begins: the counter, and the byte offset of every stride.
#[derive(Clone)]
struct Position {
    counter: Counter,
    offsets: Vec<Value>,
}

impl Emitter<'_, '_> {
    /// A loop without results. In a body whose iterations are lanes already, it runs one iteration after the other.
    pub(super) fn for_loop(
        &mut self,
        idx: IdxId,
        range: Range,
        vector: bool,
        body: &[Stmt],
    ) -> Result<(), CodegenError> {
        let spec = Spec { idx, body, strides: strides(idx, body), accs: &[], yields: &[] };
        self.guarded(&spec, range, Vec::new(), |e, at| {
            if vector && e.width.lane.is_none() {
                let units = if weight(body) >= NARROW_WEIGHT { NARROW_UNITS } else { WIDE_UNITS };
                let at = e.vector_pieces(&spec, at, range.end, units, |_, _, _| Ok(()))?;
                e.piece(&spec, at, range.end, 1, e.width, Vec::new())?;
            } else {
                e.piece(&spec, at, range.end, 1, e.width, Vec::new())?;
            }
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// A reduction; gives one value per accumulator.
    pub(super) fn reduce_loop(
        &mut self,
        idx: IdxId,
        range: Range,
        vector: bool,
        accs: &[(ReduceOp, ValId)],
        body: &[Stmt],
        yields: &[Operand],
    ) -> Result<Vec<Reg>, CodegenError> {
        let spec = Spec { idx, body, strides: strides(idx, body), accs, yields };
        let units = self.width.units;
        let neutral = self.neutral(accs, units);
        let results = self.guarded(&spec, range, neutral.clone(), |e, at| {
            if !vector || e.width.lane.is_some() {
                return Ok(e.piece(&spec, at, range.end, 1, e.width, neutral)?.1);
            }
            let mut total: Option<Vec<Value>> = None;
            let at = e.vector_pieces(&spec, at, range.end, WIDE_UNITS, |e, units, partial| {
                let folded: Vec<Value> =
                    accs.iter().zip(partial.chunks(units)).map(|((op, _), p)| e.fold_units(op.combine(), p)).collect();
                total = Some(match total.take() {
                    None => folded,
                    Some(t) => e.combine_all(accs, &t, &folded),
                });
                Ok(())
            })?;
            let folded = match total {
                Some(t) => {
                    accs.iter().zip(t).map(|((op, _), x)| e.v.fold_lanes(op.combine(), Reg::one(x)).unit(0)).collect()
                }
                None => neutral,
            };
            Ok(e.piece(&spec, at, range.end, 1, e.width, folded)?.1)
        })?;
        Ok(results.chunks(units).filter_map(Reg::many).collect())
    }

    fn neutral(&mut self, accs: &[(ReduceOp, ValId)], units: usize) -> Vec<Value> {
        let mut out = Vec::new();
        for (op, _) in accs {
            #[expect(clippy::cast_possible_truncation, reason = "0 and infinities are exact")]
            let x = self.v.f(op.neutral() as f32).unit(0);
            out.extend(std::iter::repeat_n(x, units));
        }
        out
    }

    fn combine_all(&mut self, accs: &[(ReduceOp, ValId)], a: &[Value], b: &[Value]) -> Vec<Value> {
        accs.iter().zip(a.iter().zip(b)).map(|((op, _), (a, b))| self.combine(op.combine(), *a, *b)).collect()
    }

    fn combine(&mut self, op: ScalarOp, a: Value, b: Value) -> Value {
        self.v.combine(op, Reg::one(a), Reg::one(b)).unit(0)
    }

    /// Combines the units of one accumulator pairwise: (u0 ∘ u1) ∘ (u2 ∘ u3).
    fn fold_units(&mut self, op: ScalarOp, units: &[Value]) -> Value {
        match units {
            [one] => *one,
            _ => {
                let (a, b) = units.split_at(units.len().div_ceil(2));
                let (a, b) = (self.fold_units(op, a), self.fold_units(op, b));
                self.combine(op, a, b)
            }
        }
    }

    /// Runs `emit` in the place before the loop, with invariants hoisted there; skipped at run time when the range is
    /// empty, in which case `empty` are the results.
    fn guarded(
        &mut self,
        spec: &Spec<'_>,
        range: Range,
        empty: Vec<Value>,
        emit: impl FnOnce(&mut Self, Position) -> Result<Vec<Value>, CodegenError>,
    ) -> Result<Vec<Value>, CodegenError> {
        if let (Counter::Const(a), Counter::Const(b)) = (range.start, range.end) {
            if a >= b {
                return Ok(empty);
            }
            let mark = self.mark();
            self.hoist(spec.body)?;
            let at = self.position(spec, range.start)?;
            let results = emit(self, at)?;
            self.reset(mark);
            return Ok(results);
        }
        let (inside, done) = (self.v.b.create_block(), self.v.b.create_block());
        let results = self.params(done, &empty);
        let (start, end) = (self.counter(range.start), self.counter(range.end));
        let some = self.v.b.ins().icmp(IntCC::SignedLessThan, start, end);
        self.v.b.ins().brif(some, inside, &[], done, &block_args(&empty));
        self.v.b.switch_to_block(inside);
        let mark = self.mark();
        self.hoist(spec.body)?;
        let at = self.position(spec, range.start)?;
        let values = emit(self, at)?;
        self.reset(mark);
        self.v.b.ins().jump(done, &block_args(&values));
        self.v.b.switch_to_block(done);
        Ok(results)
    }

    fn params(&mut self, block: cranelift_codegen::ir::Block, like: &[Value]) -> Vec<Value> {
        let tys: Vec<Type> = like.iter().map(|v| self.v.b.func.dfg.value_type(*v)).collect();
        tys.into_iter().map(|ty| self.v.b.append_block_param(block, ty)).collect()
    }

    fn counter(&mut self, c: Counter) -> Value {
        match c {
            Counter::Const(n) => self.v.b.ins().iconst(types::I64, n),
            Counter::Dyn(v) => v,
        }
    }

    fn position(&mut self, spec: &Spec<'_>, counter: Counter) -> Result<Position, CodegenError> {
        let mut offsets = Vec::with_capacity(spec.strides.len());
        for stride in &spec.strides {
            offsets.push(self.scaled(*stride, counter)?);
        }
        Ok(Position { counter, offsets })
    }

    /// `4 · stride · counter`.
    fn scaled(&mut self, stride: Dim, counter: Counter) -> Result<Value, CodegenError> {
        match (stride.as_const(), counter) {
            (Some(s), Counter::Const(n)) => {
                let bytes = s.cast_signed().wrapping_mul(n).wrapping_mul(4);
                Ok(self.v.b.ins().iconst(types::I64, bytes))
            }
            (_, Counter::Const(0)) => Ok(self.v.b.ins().iconst(types::I64, 0)),
            (Some(s), Counter::Dyn(i)) => Ok(self.v.b.ins().imul_imm_s(i, s.cast_signed().wrapping_mul(4))),
            (None, Counter::Const(n)) => {
                let d = self.dim(stride)?;
                Ok(self.v.b.ins().imul_imm_s(d, n.wrapping_mul(4)))
            }
            (None, Counter::Dyn(i)) => {
                let d = self.dim(stride)?;
                let p = self.v.b.ins().imul(d, i);
                Ok(self.v.b.ins().ishl_imm_u(p, 2))
            }
        }
    }

    /// The pieces that work on whole registers; `done` gets the accumulators of each (all units of the first one,
    /// then of the second, and so on). Gives the position of the first remaining element.
    fn vector_pieces(
        &mut self,
        spec: &Spec<'_>,
        mut at: Position,
        end: Counter,
        wide: usize,
        mut done: impl FnMut(&mut Self, usize, &[Value]) -> Result<(), CodegenError>,
    ) -> Result<Position, CodegenError> {
        let pieces = match (at.counter, end) {
            // With a known count the rest of the wide piece is one straight body.
            (Counter::Const(a), Counter::Const(b)) => {
                let left = usize::try_from(b - a).unwrap_or(0) % (LANES * wide);
                [wide, left / LANES]
            }
            _ => [wide, 1],
        };
        for units in pieces {
            let step = i64::try_from(LANES * units).unwrap_or(i64::MAX);
            let none = match (at.counter, end) {
                (Counter::Const(a), Counter::Const(b)) => b - a < step,
                _ => false,
            };
            if units == 0 || none {
                continue;
            }
            let width = Width { units, lane: Some(spec.idx) };
            let accs = self.neutral(spec.accs, units);
            let (next, accs) = self.piece(spec, at, end, step, width, accs)?;
            done(self, units, &accs)?;
            at = next;
        }
        Ok(at)
    }

    /// One loop with a fixed step, or a straight body when it runs at most once. Gives the position after it and the
    /// accumulators.
    fn piece(
        &mut self,
        spec: &Spec<'_>,
        at: Position,
        end: Counter,
        step: i64,
        width: Width,
        accs: Vec<Value>,
    ) -> Result<(Position, Vec<Value>), CodegenError> {
        let mut always = false;
        if let (Counter::Const(a), Counter::Const(b)) = (at.counter, end) {
            match (b - a) / step {
                0 => return Ok((at, accs)),
                1 => {
                    let accs = self.body(spec, at.counter, &at.offsets, width, &accs)?;
                    return Ok((self.position(spec, Counter::Const(a + step))?, accs));
                }
                _ => always = true,
            }
        }
        let mut steps = Vec::with_capacity(spec.strides.len());
        for stride in &spec.strides {
            steps.push(match stride.as_const() {
                Some(_) => None,
                None => Some(self.scaled(*stride, Counter::Const(step))?),
            });
        }
        let limit = match end {
            Counter::Const(n) => Counter::Const(n - (step - 1)),
            Counter::Dyn(v) if step == 1 => Counter::Dyn(v),
            Counter::Dyn(v) => Counter::Dyn(self.v.b.ins().iadd_imm_s(v, 1 - step)),
        };
        let (header, exit) = (self.v.b.create_block(), self.v.b.create_block());
        let mut carried = vec![self.counter(at.counter)];
        carried.extend(&at.offsets);
        carried.extend(&accs);
        let inside = self.params(header, &carried);
        let after = self.params(exit, &carried);
        if always {
            self.v.b.ins().jump(header, &block_args(&carried));
        } else {
            self.branch(carried[0], limit, header, exit, &carried);
        }
        self.v.b.switch_to_block(header);
        let n = spec.strides.len();
        let accs = self.body(spec, Counter::Dyn(inside[0]), &inside[1..=n], width, &inside[1 + n..])?;
        let next = self.v.b.ins().iadd_imm_s(inside[0], step);
        let mut carried = vec![next];
        for (k, offset) in inside[1..=n].iter().enumerate() {
            carried.push(match (steps[k], spec.strides[k].as_const()) {
                (Some(s), _) => self.v.b.ins().iadd(*offset, s),
                (None, s) => {
                    let bytes = s.unwrap_or(0).cast_signed().wrapping_mul(4).wrapping_mul(step);
                    self.v.b.ins().iadd_imm_s(*offset, bytes)
                }
            });
        }
        carried.extend(accs);
        self.branch(next, limit, header, exit, &carried);
        self.v.b.switch_to_block(exit);
        // A known end is kept, so that later pieces know their count.
        let counter = match (at.counter, end) {
            (Counter::Const(a), Counter::Const(b)) => Counter::Const(a + (b - a) / step * step),
            _ => Counter::Dyn(after[0]),
        };
        Ok((Position { counter, offsets: after[1..=n].to_vec() }, after[1 + n..].to_vec()))
    }

    fn branch(
        &mut self,
        i: Value,
        limit: Counter,
        header: cranelift_codegen::ir::Block,
        exit: cranelift_codegen::ir::Block,
        args: &[Value],
    ) {
        let more = match limit {
            Counter::Const(n) => self.v.b.ins().icmp_imm_s(IntCC::SignedLessThan, i, n),
            Counter::Dyn(v) => self.v.b.ins().icmp(IntCC::SignedLessThan, i, v),
        };
        let args = block_args(args);
        self.v.b.ins().brif(more, header, &args, exit, &args);
    }

    /// Emits the body once and gives the accumulators after it.
    fn body(
        &mut self,
        spec: &Spec<'_>,
        counter: Counter,
        offsets: &[Value],
        width: Width,
        accs: &[Value],
    ) -> Result<Vec<Value>, CodegenError> {
        let mark = self.mark();
        let outer = std::mem::replace(&mut self.width, width);
        let offsets = spec.strides.iter().copied().zip(offsets.iter().copied()).collect();
        self.loops.push(OpenLoop { idx: spec.idx, counter, offsets });
        self.block(spec.body)?;
        let mut out = Vec::with_capacity(accs.len());
        for (k, ((op, _), y)) in spec.accs.iter().zip(spec.yields).enumerate() {
            let y = self.operand(*y)?.reg;
            for u in 0..width.units {
                out.push(self.combine(op.combine(), accs[k * width.units + u], y.unit(u)));
            }
        }
        self.width = outer;
        self.reset(mark);
        Ok(out)
    }
}

fn block_args(values: &[Value]) -> Vec<BlockArg> {
    values.iter().map(|v| BlockArg::Value(*v)).collect()
}

/// The strides for which a loop keeps a byte offset, each once.
fn strides(idx: IdxId, body: &[Stmt]) -> Vec<Dim> {
    fn visit(idx: IdxId, body: &[Stmt], out: &mut Vec<Dim>) {
        for stmt in body {
            match stmt {
                Stmt::Load { index, .. } | Stmt::Store { index, .. } => {
                    if let Some(s) = index.stride(idx).filter(|s| needs_offset(*s) && !out.contains(s)) {
                        out.push(s);
                    }
                }
                Stmt::For { body, .. } | Stmt::Reduce { body, .. } => visit(idx, body, out),
                Stmt::Let { .. } | Stmt::Random { .. } => {}
            }
        }
    }
    let mut out = Vec::new();
    visit(idx, body, &mut out);
    out
}

/// Roughly how many registers a body wants: its loads and operations, transcendental ones several times. Measured with
/// `examples/kernel_bench`: exp alone runs best in four units, the longer functions in three.
fn weight(body: &[Stmt]) -> usize {
    body.iter()
        .map(|s| match s {
            Stmt::Let { op, .. } => match op {
                ScalarOp::Exp => 8,
                ScalarOp::Log
                | ScalarOp::Log1p
                | ScalarOp::Expm1
                | ScalarOp::Tanh
                | ScalarOp::Sigmoid
                | ScalarOp::Pow => NARROW_WEIGHT,
                _ => 1,
            },
            Stmt::Random { .. } => NARROW_WEIGHT,
            Stmt::Load { .. } | Stmt::Store { .. } => 1,
            Stmt::For { body, .. } | Stmt::Reduce { body, .. } => weight(body),
        })
        .sum()
}
