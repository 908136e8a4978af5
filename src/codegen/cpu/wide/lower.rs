//! Kernel IR → instructions on virtual registers. The semantics of every operation are those of `cpu/ops.rs`, operand
//! order included.

use kur_runtime::dim::Dim;

use super::LANES;
use super::encode::Packed;
use super::inst::{BYTES, Code, Inst, Loop, Place, Size, Src, V};
use crate::ir::kernel::{BufId, IdxId, Index, Kernel, Operand, ReduceOp, Scalar, ScalarOp, Stmt, ValId};

/// A value: one register per unit, or one for all.
#[derive(Clone, Debug)]
struct Val {
    units: Vec<V>,
    shared: bool,
    /// Lanes are masks of a comparison; the value itself is 1 or 0.
    mask: bool,
}

struct Lowering<'k> {
    kernel: &'k Kernel,
    code: Code,
    vals: Vec<Option<Val>>,
    /// Values in the order of their definition, to forget those of a block at its end.
    log: Vec<ValId>,
    open: Vec<IdxId>,
    /// The loop whose iterations are lanes, and registers per value in its body.
    lane: Option<IdxId>,
    units: usize,
    most_units: usize,
    hoist: bool,
}

/// Predicates of `vcmpps`.
const EQ: u8 = 0x00;
const LT: u8 = 0x01;
const LE: u8 = 0x02;
const UNORDERED: u8 = 0x03;
const GE: u8 = 0x0d;
const GT: u8 = 0x0e;

const SIGN: u32 = 0x8000_0000;
/// How many bytes ahead the loads of a flat loop ask for what comes. The processor's own prefetching stops at the end
/// of each page; an update by Adam of 1.6 MB a buffer takes 0.8 of the time with it (`benches/README.md`).
const AHEAD: i32 = 2048;
/// Registers to a cache line.
const LINE: usize = 2;

/// Translates a verified kernel, with up to `units` registers per value of a vector loop; `hoist` moves what does not
/// change out of loops. `None` where something cannot be expressed.
pub(super) fn lower(kernel: &Kernel, units: usize, hoist: bool) -> Option<Code> {
    let Stmt::For { idx, mode, body, .. } = &kernel.body else { return None };
    let mut l = Lowering {
        kernel,
        code: Code::default(),
        vals: Vec::new(),
        log: Vec::new(),
        open: Vec::new(),
        lane: None,
        units: 1,
        most_units: units,
        hoist,
    };
    l.for_loop(*idx, None, mode.is_vector(), body)?;
    Some(l.code)
}

impl Lowering<'_> {
    fn fresh(&mut self) -> V {
        self.code.registers += 1;
        V(self.code.registers - 1)
    }

    fn push(&mut self, inst: Inst) {
        self.code.insts.push(inst);
    }

    fn size(&mut self, d: Dim, factor: i32) -> Option<Size> {
        if let Some(n) = d.as_const() {
            return i32::try_from(n).ok()?.checked_mul(factor).map(Size::Const);
        }
        let known = self.code.slots.iter().position(|s| *s == (d, factor));
        Some(Size::Slot(known.unwrap_or_else(|| {
            self.code.slots.push((d, factor));
            self.code.slots.len() - 1
        })))
    }

    fn place(&mut self, buf: BufId, index: &Index) -> Option<Place> {
        if self.kernel.bufs.get(buf.0 as usize)?.ty != Scalar::F32 {
            return None;
        }
        let disp = i32::try_from(index.base).ok()?.checked_mul(BYTES)?;
        let stream = match index.terms.as_slice() {
            [] => None,
            terms => {
                let streams = &mut self.code.streams;
                Some(streams.iter().position(|s| s == terms).unwrap_or_else(|| {
                    streams.push(terms.to_vec());
                    streams.len() - 1
                }))
            }
        };
        Some(Place { buf: buf.0 as usize, stream, disp })
    }

    /// Whether the lanes of an access are elements side by side; `None` where they are further apart.
    fn is_packed(&self, index: &Index) -> Option<bool> {
        match self.lane.and_then(|lane| index.stride(lane)) {
            None => Some(false),
            Some(Dim::ONE) => Some(true),
            Some(_) => None,
        }
    }

    fn define(&mut self, id: ValId, val: Val) {
        let i = id.0 as usize;
        if self.vals.len() <= i {
            self.vals.resize(i + 1, None);
        }
        self.vals[i] = Some(val);
        self.log.push(id);
    }

    fn known(&self, id: ValId) -> Option<&Val> {
        self.vals.get(id.0 as usize)?.as_ref()
    }

    fn forget(&mut self, mark: usize) {
        for id in self.log.drain(mark..) {
            self.vals[id.0 as usize] = None;
        }
    }

    /// An operand in a unit. The numbers of a comparison are made from its mask at each use.
    fn src(&mut self, o: Operand, unit: usize) -> Option<Src> {
        match o {
            #[expect(clippy::cast_possible_truncation, reason = "literals are f32 in generated code")]
            Operand::Lit(x) => Some(Src::Bits((x as f32).to_bits())),
            Operand::Val(id) => {
                let val = self.known(id)?;
                let (v, mask) = (val.unit(unit), val.mask);
                if !mask {
                    return Some(Src::V(v));
                }
                Some(Src::V(self.packed(Packed::And, v, Src::Bits(1f32.to_bits()))))
            }
        }
    }

    fn register(&mut self, src: Src) -> V {
        match src {
            Src::V(v) => v,
            Src::Bits(bits) => {
                let dst = self.fresh();
                self.push(Inst::Const { dst, bits });
                dst
            }
        }
    }

    fn packed(&mut self, op: Packed, a: V, b: Src) -> V {
        let dst = self.fresh();
        self.push(Inst::Packed { op, dst, a, b });
        dst
    }

    fn compare(&mut self, predicate: u8, a: V, b: Src) -> V {
        let dst = self.fresh();
        self.push(Inst::Compare { predicate, dst, a, b });
        dst
    }

    /// Maximum or minimum that a NaN in either operand survives; see `Vector::extremum` in `cpu/ops.rs`.
    fn extremum(&mut self, op: Packed, a: Src, b: Src) -> V {
        let number = |s: Src| matches!(s, Src::Bits(bits) if !f32::from_bits(bits).is_nan());
        let (a, b) = if matches!(b, Src::Bits(_)) { (b, a) } else { (a, b) };
        if number(a) {
            let a = self.register(a);
            return self.packed(op, a, b);
        }
        let b = self.register(b);
        let y = self.packed(op, b, a);
        let nan = self.compare(UNORDERED, b, Src::V(b));
        self.packed(Packed::Or, y, Src::V(nan))
    }

    /// A comparison as a mask.
    fn mask(&mut self, op: ScalarOp, a: Src, b: Src) -> V {
        let (straight, swapped) = match op {
            ScalarOp::Lt => (LT, GT),
            ScalarOp::Le => (LE, GE),
            _ => (EQ, EQ),
        };
        match (a, b) {
            (Src::Bits(_), Src::V(b)) => self.compare(swapped, b, a),
            _ => {
                let a = self.register(a);
                self.compare(straight, a, b)
            }
        }
    }

    /// `mask ? a : b`.
    fn select(&mut self, mask: V, a: Src, b: Src) -> V {
        // Masks are all ones or all zeros, so choosing between a value and 0 is an `and`.
        if b == Src::Bits(0) {
            return self.packed(Packed::And, mask, a);
        }
        if a == Src::Bits(0) {
            return self.packed(Packed::AndNot, mask, b);
        }
        let b = self.register(b);
        let dst = self.fresh();
        self.push(Inst::Blend { dst, a: b, b: a, mask });
        dst
    }

    fn op(&mut self, op: ScalarOp, args: &[Operand], unit: usize) -> Option<V> {
        if op == ScalarOp::Select {
            let (a, b) = (self.src(args[1], unit)?, self.src(args[2], unit)?);
            return Some(match args[0] {
                Operand::Val(id) if self.known(id)?.mask => {
                    let mask = self.known(id)?.unit(unit);
                    self.select(mask, a, b)
                }
                c => {
                    let c = self.src(c, unit)?;
                    let c = self.register(c);
                    let zero = self.compare(EQ, c, Src::Bits(0));
                    self.select(zero, b, a)
                }
            });
        }
        let a = self.src(args[0], unit)?;
        let b = match args.get(1) {
            Some(b) => self.src(*b, unit)?,
            None => a,
        };
        let plain = match op {
            ScalarOp::Add => Packed::Add,
            ScalarOp::Sub => Packed::Sub,
            ScalarOp::Mul => Packed::Mul,
            ScalarOp::Div => Packed::Div,
            ScalarOp::Max => return Some(self.extremum(Packed::Max, a, b)),
            ScalarOp::Min => return Some(self.extremum(Packed::Min, a, b)),
            ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq => return Some(self.mask(op, a, b)),
            ScalarOp::Neg | ScalarOp::Abs => {
                let a = self.register(a);
                let (op, bits) = if op == ScalarOp::Neg { (Packed::Xor, SIGN) } else { (Packed::And, !SIGN) };
                return Some(self.packed(op, a, Src::Bits(bits)));
            }
            ScalarOp::Sqrt => {
                let a = self.register(a);
                let dst = self.fresh();
                self.push(Inst::Sqrt { dst, a });
                return Some(dst);
            }
            _ => return None,
        };
        let a = self.register(a);
        Some(self.packed(plain, a, b))
    }

    /// Whether an operand is the same in all units.
    fn is_shared(&self, a: &Operand) -> bool {
        match a {
            Operand::Lit(_) => true,
            Operand::Val(id) => self.known(*id).is_none_or(|v| v.shared),
        }
    }

    /// Runs of straight-line statements, and loops between them.
    fn block(&mut self, body: &[Stmt]) -> Option<()> {
        body.chunk_by(|a, b| !is_loop(a) && !is_loop(b)).try_for_each(|run| match run {
            [Stmt::For { idx, extent, mode, body }] => {
                let extent = self.size(*extent, 1)?;
                self.for_loop(*idx, Some(extent), mode.is_vector(), body)
            }
            [Stmt::Reduce { idx, extent, vector, accs, body, yields }] => {
                if *vector && self.lane.is_none() {
                    return None;
                }
                let extent = self.size(*extent, 1)?;
                self.reduce(*idx, extent, accs, body, yields)
            }
            run => self.straight(run, |_, _| Some(())),
        })
    }

    /// Straight-line statements, one unit after the other, which needs the fewest registers; `then` ends each.
    fn straight(&mut self, run: &[Stmt], mut then: impl FnMut(&mut Self, usize) -> Option<()>) -> Option<()> {
        // What is known already was emitted before the loop.
        let missing: Vec<&Stmt> = run.iter().filter(|s| !s.defs().any(|v| self.known(v).is_some())).collect();
        for unit in 0..self.units {
            missing.iter().try_for_each(|s| self.stmt(s, unit))?;
            then(self, unit)?;
        }
        Some(())
    }

    fn define_unit(&mut self, id: ValId, unit: usize, v: V, shared: bool, mask: bool) {
        match self.vals.get_mut(id.0 as usize) {
            Some(Some(val)) if unit > 0 => val.units.push(v),
            _ => self.define(id, Val { units: vec![v], shared, mask }),
        }
    }

    /// One unit of a statement; the first one does what all share.
    fn stmt(&mut self, stmt: &Stmt, unit: usize) -> Option<()> {
        match stmt {
            Stmt::Let { val, op, args } => {
                let shared = args.iter().all(|a| self.is_shared(a));
                if unit == 0 || !shared {
                    let v = self.op(*op, args, unit)?;
                    let mask = matches!(op, ScalarOp::Lt | ScalarOp::Le | ScalarOp::Eq);
                    self.define_unit(*val, unit, v, shared, mask);
                }
            }
            Stmt::Load { val, buf, index } => {
                let (at, packed) = (self.place(*buf, index)?, self.is_packed(index)?);
                if unit == 0 || packed {
                    let dst = self.fresh();
                    // An iteration takes a line of each buffer; see `AHEAD`.
                    if packed && unit == 0 && self.open.len() == 1 && self.units == LINE {
                        self.push(Inst::Prefetch { at: at.further(AHEAD)? });
                    }
                    self.push(Inst::Load { dst, at: at.unit(unit)?, packed });
                    self.define_unit(*val, unit, dst, !packed, false);
                }
            }
            Stmt::Store { buf, index, value } => {
                let (at, packed) = (self.place(*buf, index)?, self.is_packed(index)?);
                if unit == 0 || packed {
                    let src = self.src(*value, unit)?;
                    let src = self.register(src);
                    self.push(Inst::Store { at: at.unit(unit)?, src, packed });
                }
            }
            Stmt::Random { .. } | Stmt::For { .. } | Stmt::Reduce { .. } => return None,
        }
        Some(())
    }

    /// Opens a loop and computes what its body computes anew in each iteration. Gives the mark to forget that by.
    fn enter(&mut self, idx: IdxId, extent: Option<Size>, body: &[Stmt]) -> Option<(usize, usize)> {
        let id = self.code.loops.len();
        self.code.loops.push(Loop { depth: self.open.len(), extent, steps: Vec::new() });
        let mark = self.log.len();
        self.push(Inst::Enter(id));
        if self.hoist {
            self.hoisted(body)?;
        }
        self.open.push(idx);
        Some((id, mark))
    }

    fn leave(&mut self, idx: IdxId, id: usize, mark: usize) -> Option<()> {
        self.open.pop();
        self.push(Inst::Leave(id));
        self.forget(mark);
        for s in 0..self.code.streams.len() {
            let stride = self.code.streams[s].iter().find(|(i, _)| *i == idx).map(|(_, d)| *d);
            if let Some(stride) = stride {
                let step = self.size(stride, BYTES)?;
                self.code.loops[id].steps.push((s, step));
            }
        }
        Some(())
    }

    fn hoisted(&mut self, body: &[Stmt]) -> Option<()> {
        for stmt in body {
            match stmt {
                Stmt::Let { args, .. } => {
                    let ready = |a: &Operand| matches!(a, Operand::Val(v) if self.known(*v).is_some());
                    // Literals alone need no register of their own for long.
                    if args.iter().any(ready) && args.iter().all(|a| ready(a) || matches!(a, Operand::Lit(_))) {
                        self.straight(std::slice::from_ref(stmt), |_, _| Some(()))?;
                    }
                }
                Stmt::Load { buf, index, .. } => {
                    let invariant = index.terms.iter().all(|(i, _)| self.open.contains(i));
                    if invariant && !self.kernel.bufs.get(buf.0 as usize)?.access.stores() {
                        self.straight(std::slice::from_ref(stmt), |_, _| Some(()))?;
                    }
                }
                // An inner loop that may be empty must not have its loads executed.
                Stmt::For { extent, body, .. } | Stmt::Reduce { extent, body, .. }
                    if extent.as_const().is_some_and(|e| e > 0) =>
                {
                    self.hoisted(body)?;
                }
                Stmt::For { .. } | Stmt::Reduce { .. } | Stmt::Random { .. } | Stmt::Store { .. } => {}
            }
        }
        Some(())
    }

    fn for_loop(&mut self, idx: IdxId, extent: Option<Size>, vector: bool, body: &[Stmt]) -> Option<()> {
        // Cranelift has registers of four lanes for a short row.
        if vector && matches!(extent, Some(Size::Const(n)) if usize::try_from(n).is_ok_and(|n| n < LANES)) {
            return None;
        }
        let (id, mark) = self.enter(idx, extent, body)?;
        if vector && self.lane.is_none() {
            let most = self.most_units;
            for units in [8, 2, 1].into_iter().filter(|u| *u <= most) {
                let step = i32::try_from(LANES * units).ok()?;
                if matches!(extent, Some(Size::Const(n)) if n < step) {
                    continue;
                }
                (self.lane, self.units) = (Some(idx), units);
                self.piece(id, step, body)?;
                (self.lane, self.units) = (None, 1);
            }
        }
        self.piece(id, 1, body)?;
        self.leave(idx, id, mark)
    }

    fn piece(&mut self, id: usize, step: i32, body: &[Stmt]) -> Option<()> {
        let mark = self.log.len();
        self.push(Inst::Begin { id, step });
        self.block(body)?;
        self.push(Inst::End { id, step });
        self.forget(mark);
        Some(())
    }

    fn reduce(
        &mut self,
        idx: IdxId,
        extent: Size,
        accs: &[(ReduceOp, ValId)],
        body: &[Stmt],
        yields: &[Operand],
    ) -> Option<()> {
        // In front of the loop, since an empty one has results too.
        let mut totals = Vec::new();
        for (op, _) in accs {
            #[expect(clippy::cast_possible_truncation, reason = "0 and infinities are exact")]
            let bits = (op.neutral() as f32).to_bits();
            totals.push((0..self.units).map(|_| self.register(Src::Bits(bits))).collect::<Vec<_>>());
        }
        let (id, mark) = self.enter(idx, Some(extent), body)?;
        let inner = self.log.len();
        self.push(Inst::Begin { id, step: 1 });
        let combine = |l: &mut Self, unit: usize| {
            for (((op, _), total), value) in accs.iter().zip(&totals).zip(yields) {
                let x = l.src(*value, unit)?;
                l.accumulate(*op, total[unit], x);
            }
            Some(())
        };
        if body.iter().any(is_loop) {
            self.block(body)?;
            (0..self.units).try_for_each(|unit| combine(self, unit))?;
        } else {
            self.straight(body, combine)?;
        }
        self.push(Inst::End { id, step: 1 });
        self.forget(inner);
        self.leave(idx, id, mark)?;
        for ((_, val), units) in accs.iter().zip(totals) {
            self.define(*val, Val { units, shared: self.units == 1, mask: false });
        }
        Some(())
    }

    /// One step of a reduction, as `Vector::combine` in `cpu/ops.rs` does it.
    fn accumulate(&mut self, op: ReduceOp, acc: V, x: Src) {
        let op = match op {
            ReduceOp::Add => {
                self.push(Inst::Packed { op: Packed::Add, dst: acc, a: acc, b: x });
                return;
            }
            ReduceOp::Max => Packed::Max,
            ReduceOp::Min => Packed::Min,
        };
        let x = self.register(x);
        let y = self.packed(op, x, Src::V(acc));
        let nan = self.compare(UNORDERED, x, Src::V(x));
        self.push(Inst::Packed { op: Packed::Or, dst: acc, a: y, b: Src::V(nan) });
    }
}

fn is_loop(stmt: &Stmt) -> bool {
    matches!(stmt, Stmt::For { .. } | Stmt::Reduce { .. })
}

impl Val {
    fn unit(&self, u: usize) -> V {
        self.units[if self.shared { 0 } else { u }]
    }
}
