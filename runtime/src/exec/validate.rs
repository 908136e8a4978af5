//! Validation of a program before anything is bound. In: a [`Program`] and the number of code entries. Out: the first
//! contradiction as text. Invariant: after it, every index of the plan is in range, every state tensor has its own place, and
//! every size expression uses known symbols only. What depends on concrete sizes is checked when a step is bound.

use crate::dim::{Dim, MAX_SYMS, Sym, SymbolTable};
use crate::plan::{ALIGN, Call, ConvGeometry, InputRole, LibCall, Place, Plan, PoolGeometry, Program};

/// No state block is larger; keeps all byte arithmetic far from overflow.
const MAX_BYTES: u64 = 1 << 46;

/// Checks a whole program.
pub(super) fn program(p: &Program, entries: usize) -> Result<(), String> {
    if p.kernels.len() != entries {
        return Err(format!("{} kernels are named, but code has {entries}", p.kernels.len()));
    }
    symbols(&p.symbols)?;
    for k in &p.kernels {
        let lens: Vec<Dim> = k.bufs.iter().map(|b| b.len).collect();
        dims(&p.symbols, k.flops.terms())
            .and_then(|()| dims(&p.symbols, &lens))
            .map_err(|e| format!("kernel `{}`: {e}", k.name))?;
    }
    state(p)?;
    let steps = [("train", p.train.as_ref()), ("test", p.test.as_ref()), ("infer", Some(&p.infer))];
    for (name, step) in steps {
        if let Some(step) = step {
            plan(p, step).map_err(|e| format!("{name} step: {e}"))?;
        }
    }
    Ok(())
}

fn symbols(table: &SymbolTable) -> Result<(), String> {
    if table.is_empty() || table.len() > MAX_SYMS {
        return Err(format!("{} symbols, expected 1 to {MAX_SYMS}", table.len()));
    }
    for i in 0..table.len() {
        if let Some(def) = table.def(Sym(i as u8)) {
            let later = (i..MAX_SYMS).any(|j| def.base.power(Sym(j as u8)) != 0);
            if later || def.div == 0 {
                return Err(format!("symbol `{}` is defined by itself or a later one", table.name(Sym(i as u8))));
            }
        }
    }
    Ok(())
}

fn dims(table: &SymbolTable, list: &[Dim]) -> Result<(), String> {
    let unknown = |d: &Dim| (table.len()..MAX_SYMS).any(|s| d.power(Sym(s as u8)) != 0);
    if list.iter().any(unknown) { Err("a size uses an unknown symbol".to_owned()) } else { Ok(()) }
}

fn state(p: &Program) -> Result<(), String> {
    if p.state_bytes > MAX_BYTES {
        return Err(format!("{} bytes of state are more than any memory", p.state_bytes));
    }
    let mut ranges = Vec::with_capacity(p.state.len());
    for s in &p.state {
        let len = s.shape.iter().try_fold(4_u64, |a, d| a.checked_mul(*d)).filter(|b| *b <= p.state_bytes);
        let end = len.and_then(|l| l.checked_add(s.offset)).filter(|e| *e <= p.state_bytes);
        match end {
            Some(end) if s.offset.is_multiple_of(ALIGN) => ranges.push((s.offset, end, &s.name)),
            _ => return Err(format!("state `{}` does not lie in the state block", s.name)),
        }
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if pair[0].1 > pair[1].0 {
            return Err(format!("state `{}` overlaps `{}`", pair[0].2, pair[1].2));
        }
    }
    Ok(())
}

fn plan(p: &Program, plan: &Plan) -> Result<(), String> {
    for slot in &plan.inputs {
        dims(&p.symbols, &slot.shape).map_err(|e| format!("input `{}`: {e}", slot.name))?;
        let words = 2 + p.symbols.len() as u64;
        if slot.role == InputRole::Control && Dim::product(&slot.shape).as_const().is_none_or(|n| n > words) {
            return Err(format!("control input `{}` must have at most {words} elements", slot.name));
        }
    }
    for (i, class) in plan.arena.iter().enumerate() {
        dims(&p.symbols, &[class.class])?;
        if class.class.coef() != 1 || !class.unit_bytes.is_multiple_of(ALIGN) {
            return Err(format!("arena class {i} is malformed"));
        }
    }
    for slot in &plan.results {
        let what = |e: String| format!("result `{}`: {e}", slot.name);
        dims(&p.symbols, &slot.shape).map_err(what)?;
        place(p, plan, slot.place).map_err(what)?;
        if matches!(slot.place, Place::Input { .. }) {
            return Err(what("lies in an input".to_owned()));
        }
    }
    for (i, launch) in plan.launches.iter().enumerate() {
        let what = |e: String| format!("launch {i}: {e}");
        if launch.layer.is_some_and(|l| l as usize >= p.layers.len()) {
            return Err(what("unknown layer".to_owned()));
        }
        for b in &launch.bufs {
            place(p, plan, *b).map_err(what)?;
        }
        match &launch.call {
            Call::Kernel { kernel, extent, grain, cost } => {
                if *kernel as usize >= p.kernels.len() {
                    return Err(what(format!("unknown kernel {kernel}")));
                }
                if *grain == 0 {
                    return Err(what("grain is 0".to_owned()));
                }
                dims(&p.symbols, &[*extent, *cost]).map_err(what)?;
            }
            Call::Lib(lib) => dims(&p.symbols, &lib_dims(lib)).map_err(what)?,
        }
    }
    Ok(())
}

fn place(p: &Program, plan: &Plan, place: Place) -> Result<(), String> {
    let good = match place {
        Place::Arena { class, unit_offset } => plan
            .arena
            .get(class as usize)
            .is_some_and(|c| unit_offset.is_multiple_of(ALIGN) && unit_offset <= c.unit_bytes),
        Place::State { offset } => offset.is_multiple_of(ALIGN) && offset <= p.state_bytes,
        Place::Input { index } => (index as usize) < plan.inputs.len(),
    };
    if good { Ok(()) } else { Err(format!("{place:?} does not exist")) }
}

fn lib_dims(call: &LibCall) -> Vec<Dim> {
    match call {
        LibCall::MatMul { batch, m, n, k, .. } => vec![*batch, *m, *n, *k],
        LibCall::Biased { call, .. } => lib_dims(call),
        LibCall::ConvForward(ConvGeometry { batch, input, output, .. })
        | LibCall::ConvGradInput(ConvGeometry { batch, input, output, .. })
        | LibCall::ConvGradWeight(ConvGeometry { batch, input, output, .. })
        | LibCall::MaxPool(PoolGeometry { batch, input, output, .. })
        | LibCall::MaxPoolGrad(PoolGeometry { batch, input, output, .. })
        | LibCall::AvgPool(PoolGeometry { batch, input, output, .. })
        | LibCall::AvgPoolGrad(PoolGeometry { batch, input, output, .. }) => {
            input.iter().chain(output).copied().chain([*batch]).collect()
        }
        LibCall::Softmax { rows, cols, .. } | LibCall::ArgMax { rows, cols } => vec![*rows, *cols],
        LibCall::Positions { len } => vec![*len],
        LibCall::Rnn(g) | LibCall::RnnGrad(g, _) | LibCall::RnnGradWeight(g) | LibCall::RnnGradBias(g) => {
            vec![g.batch, g.steps]
        }
        LibCall::Part(g, _) | LibCall::PartGrad(g, _) | LibCall::Scan(g, _) | LibCall::Shift(g, _) => {
            vec![g.batch, g.steps, g.size]
        }
        LibCall::Ctc(g) | LibCall::CtcGrad(g) => vec![g.batch, g.steps, g.classes, g.labels],
        LibCall::Lengths { len, .. } => vec![*len],
        LibCall::Concat { outer, inner, parts } => parts.iter().copied().chain([*outer, *inner]).collect(),
        LibCall::Slice { outer, inner, size, start, len } | LibCall::Pad { outer, inner, size, start, len } => {
            start.iter().copied().chain([*outer, *inner, *size, *len]).collect()
        }
        LibCall::Gather { count, .. } | LibCall::GatherGrad { count, .. } => vec![*count],
    }
}
