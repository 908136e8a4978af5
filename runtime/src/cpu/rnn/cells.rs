//! What recurrent cells do with one row at one step. In: the products of a step. Out: states, gates and gradients.
//! Invariants: elementwise, so the position of a row or lane does not matter; slopes are those of the rules for the same
//! functions in the compiler's gradient table; NaN stays NaN. The code of all activations is
//! long, so it stands in one function that the cells call.

use crate::cpu::simd::{Simd, multiversion};
use crate::cpu::vmath::{exp, log, sigmoid, sigmoid_of, tanh, tanh_of};
use crate::plan::CellActivation;

/// Vectors of a common activation that are computed at once.
const SIDE_BY_SIDE: usize = 4;
const SELU_SCALE: f32 = 1.050_701;
const SELU_ALPHA: f32 = 1.673_263_2;

/// An activation.
///
/// # Safety
/// The level of `S` is available; so for all functions here.
#[inline(always)]
unsafe fn activate<S: Simd>(kind: CellActivation, x: S::V) -> S::V {
    // SAFETY: passed on to the caller. The order of operands of max and min keeps a NaN.
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        match kind {
            CellActivation::Linear => x,
            CellActivation::Relu => S::max(zero, x),
            CellActivation::Tanh => tanh::<S>(x),
            CellActivation::Sigmoid => sigmoid::<S>(x),
            CellActivation::HardSigmoid => hard_sigmoid_of::<S, 1>([x])[0],
            CellActivation::Elu => elu::<S>(x, 1.0, 1.0),
            CellActivation::Selu => elu::<S>(x, SELU_SCALE, SELU_ALPHA),
            CellActivation::Softplus => {
                // log1p(e) = log(1 + e) · e / ((1 + e) − 1), exact where 1 + e rounds (Kahan).
                let e = exp::<S>(S::sub(zero, S::set_bits(x, 0x7fff_ffff, 0)));
                let u = S::add(one, e);
                let d = S::sub(u, one);
                let l = S::select_eq(d, zero, e, S::div(S::mul(log::<S>(u), e), d));
                S::add(S::max(zero, x), l)
            }
            CellActivation::Softsign => S::div(x, S::add(one, S::set_bits(x, 0x7fff_ffff, 0))),
        }
    }
}

/// A fifth of x and a half, within 0 and 1.
#[inline(always)]
unsafe fn hard_sigmoid_of<S: Simd, const N: usize>(mut x: [S::V; N]) -> [S::V; N] {
    // SAFETY: passed on to the caller.
    unsafe {
        for x in &mut x {
            let y = S::add(S::mul(*x, S::splat(0.2)), S::splat(0.5));
            *x = S::min(S::splat(1.0), S::max(S::splat(0.0), y));
        }
        x
    }
}

/// `scale · (x > 0 ? x : alpha · (eˣ − 1))`, with eˣ − 1 = 2h / (1 − h) for h = tanh(x / 2), which loses no digits at 0.
#[inline(always)]
unsafe fn elu<S: Simd>(x: S::V, scale: f32, alpha: f32) -> S::V {
    // SAFETY: passed on to the caller.
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        let h = tanh::<S>(S::mul(S::min(zero, x), S::splat(0.5)));
        let low = S::div(S::add(h, h), S::sub(one, h));
        let y = S::select_lt(zero, x, x, S::mul(low, S::splat(alpha)));
        S::mul(y, S::splat(scale))
    }
}

/// The slope of an activation where its value is `y`.
#[inline(always)]
unsafe fn slope<S: Simd>(kind: CellActivation, y: S::V) -> S::V {
    // SAFETY: passed on to the caller.
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        match kind {
            CellActivation::Linear => one,
            CellActivation::Relu => S::select_lt(zero, y, one, zero),
            CellActivation::Tanh => S::sub(one, S::mul(y, y)),
            CellActivation::Sigmoid => S::mul(y, S::sub(one, y)),
            CellActivation::HardSigmoid => {
                let fifth = S::select_lt(zero, y, S::splat(0.2), zero);
                S::select_lt(y, one, fifth, zero)
            }
            CellActivation::Elu => S::select_lt(zero, y, one, S::add(y, one)),
            CellActivation::Selu => {
                let scale = S::splat(SELU_SCALE);
                S::select_lt(zero, y, scale, S::add(y, S::splat(SELU_SCALE * SELU_ALPHA)))
            }
            // 1 − e⁻ʸ = 2h / (1 + h) for h = tanh(y / 2).
            CellActivation::Softplus => {
                let h = tanh::<S>(S::mul(y, S::splat(0.5)));
                S::div(S::add(h, h), S::add(one, h))
            }
            CellActivation::Softsign => {
                let d = S::sub(one, S::set_bits(y, 0x7fff_ffff, 0));
                S::mul(d, d)
            }
        }
    }
}

/// Lanes `i..` of a row of `len`; those beyond its end are 0.
#[inline(always)]
unsafe fn get<S: Simd>(p: *const f32, i: usize, len: usize) -> S::V {
    // SAFETY: the caller vouches for `len` floats.
    unsafe { if i + S::LANES <= len { S::load(p.add(i)) } else { S::load_masked(p.add(i), S::mask(len - i)) } }
}

/// Stores lanes `i..` of a row of `len`.
#[inline(always)]
unsafe fn put<S: Simd>(p: *mut f32, i: usize, len: usize, v: S::V) {
    // SAFETY: the caller vouches for `len` floats.
    unsafe { if i + S::LANES <= len { S::store(p.add(i), v) } else { S::store_masked(p.add(i), S::mask(len - i), v) } }
}

/// What an activation is applied to: `to = f(x + plus)`.
pub(super) struct Activation {
    pub(super) kind: CellActivation,
    pub(super) x: *const f32,
    pub(super) plus: *const f32,
    pub(super) to: *mut f32,
    pub(super) len: usize,
}

multiversion! {
    /// An activation of many elements. Cells go through it instead of having the code of all activations themselves.
    pub(super) fn activation_for = activation(p: &Activation)
}

#[inline(always)]
unsafe fn activation<S: Simd>(p: &Activation) {
    // SAFETY: passed on to the caller, as in all functions below.
    unsafe {
        let mut i = 0;
        // The common ones have loops of their own over several vectors.
        macro_rules! several {
            ($of:ident) => {
                while i + SIDE_BY_SIDE * S::LANES <= p.len {
                    let mut x = [S::splat(0.0); SIDE_BY_SIDE];
                    for (k, x) in x.iter_mut().enumerate() {
                        let at = i + k * S::LANES;
                        *x = S::add(S::load(p.x.add(at)), S::load(p.plus.add(at)));
                    }
                    for (k, y) in $of::<S, SIDE_BY_SIDE>(x).into_iter().enumerate() {
                        S::store(p.to.add(i + k * S::LANES), y);
                    }
                    i += SIDE_BY_SIDE * S::LANES;
                }
            };
        }
        match p.kind {
            CellActivation::Sigmoid => several!(sigmoid_of),
            CellActivation::Tanh => several!(tanh_of),
            CellActivation::HardSigmoid => several!(hard_sigmoid_of),
            _ => {}
        }
        while i < p.len {
            let sum = S::add(get::<S>(p.x, i, p.len), get::<S>(p.plus, i, p.len));
            put::<S>(p.to, i, p.len, activate::<S>(p.kind, sum));
            i += S::LANES;
        }
    }
}

/// One row at one step, forwards. Rows of several parts have them one behind the other, each `u` wide.
pub(super) struct Forward {
    pub(super) u: usize,
    pub(super) inner: CellActivation,
    pub(super) outer: CellActivation,
    /// [`activation_for`] this level.
    pub(super) activate: unsafe fn(&Activation),
    /// Input products, G parts.
    pub(super) xw: *const f32,
    /// Recurrent products: G parts; 2 parts for the gates of `gru`.
    pub(super) hu: *const f32,
    /// The recurrent product of the candidate of `gru`.
    pub(super) candidate: *const f32,
    /// The state, read and replaced.
    pub(super) h: *mut f32,
    /// The memory of `lstm`, read and replaced.
    pub(super) c: *mut f32,
    /// r∘h of `gru`; for the other cells what is between two activations.
    pub(super) rh: *mut f32,
    /// `u` zeros.
    pub(super) zeros: *const f32,
    /// K parts.
    pub(super) tape: *mut f32,
}

impl Forward {
    /// Applies an activation to the sum of `parts` parts from `x` and `plus` on.
    #[inline(always)]
    unsafe fn activate(&self, kind: CellActivation, parts: usize, x: *const f32, plus: *const f32, to: usize) {
        // SAFETY: as above; `to` and its followers are parts of the tape.
        unsafe {
            let to = self.tape.add(to * self.u);
            (self.activate)(&Activation { kind, x, plus, to, len: parts * self.u });
        }
    }
}

multiversion! {
    /// First half of `gru`: z, r and r∘h.
    pub(super) fn gru_gates_for = gru_gates(p: &Forward)
}

#[inline(always)]
unsafe fn gru_gates<S: Simd>(p: &Forward) {
    // SAFETY: as above.
    unsafe {
        let u = p.u;
        p.activate(p.inner, 2, p.xw, p.hu, 1);
        let mut i = 0;
        while i < u {
            put::<S>(p.rh, i, u, S::mul(get::<S>(p.tape.add(2 * u), i, u), get::<S>(p.h, i, u)));
            i += S::LANES;
        }
    }
}

multiversion! {
    /// Second half of `gru`: candidate and state.
    pub(super) fn gru_state_for = gru_state(p: &Forward)
}

#[inline(always)]
unsafe fn gru_state<S: Simd>(p: &Forward) {
    // SAFETY: as above.
    unsafe {
        p.activate(p.outer, 1, p.xw.add(2 * p.u), p.candidate, 3);
        blend::<S>(p, 1, 3);
    }
}

/// The new state, `z·h + (1 − z)·new`, with two parts of the tape.
#[inline(always)]
unsafe fn blend<S: Simd>(p: &Forward, z: usize, new: usize) {
    // SAFETY: as above.
    unsafe {
        let (u, one) = (p.u, S::splat(1.0));
        let mut i = 0;
        while i < u {
            let (z, new) = (get::<S>(p.tape.add(z * u), i, u), get::<S>(p.tape.add(new * u), i, u));
            let h = S::add(S::mul(z, get::<S>(p.h, i, u)), S::mul(S::sub(one, z), new));
            put::<S>(p.tape, i, u, h);
            put::<S>(p.h, i, u, h);
            i += S::LANES;
        }
    }
}

multiversion! {
    /// A step of `gru` with the reset after the product.
    pub(super) fn gru_after_for = gru_after(p: &Forward)
}

#[inline(always)]
unsafe fn gru_after<S: Simd>(p: &Forward) {
    // SAFETY: as above.
    unsafe {
        let u = p.u;
        p.activate(p.inner, 2, p.xw, p.hu, 1);
        let mut i = 0;
        while i < u {
            let product = get::<S>(p.hu.add(2 * u), i, u);
            put::<S>(p.tape.add(4 * u), i, u, product);
            put::<S>(p.rh, i, u, S::mul(get::<S>(p.tape.add(u), i, u), product));
            i += S::LANES;
        }
        p.activate(p.outer, 1, p.xw.add(2 * u), p.rh, 3);
        blend::<S>(p, 2, 3);
    }
}

multiversion! {
    /// A step of `lstm`.
    pub(super) fn lstm_for = lstm(p: &Forward)
}

#[inline(always)]
unsafe fn lstm<S: Simd>(p: &Forward) {
    // SAFETY: as above.
    unsafe {
        let u = p.u;
        // Input and forget gate, candidate, output gate.
        for (kind, first, parts) in [(p.inner, 0, 2), (p.outer, 2, 1), (p.inner, 3, 1)] {
            p.activate(kind, parts, p.xw.add(first * u), p.hu.add(first * u), 2 + first);
        }
        let part = |k: usize, i: usize| get::<S>(p.tape.add(k * u), i, u);
        let mut i = 0;
        while i < u {
            let c = S::add(S::mul(part(3, i), get::<S>(p.c, i, u)), S::mul(part(2, i), part(4, i)));
            put::<S>(p.tape.add(u), i, u, c);
            put::<S>(p.c, i, u, c);
            i += S::LANES;
        }
        (p.activate)(&Activation { kind: p.outer, x: p.c, plus: p.zeros, to: p.rh, len: u });
        let mut i = 0;
        while i < u {
            let h = S::mul(part(5, i), get::<S>(p.rh, i, u));
            put::<S>(p.tape, i, u, h);
            put::<S>(p.h, i, u, h);
            i += S::LANES;
        }
    }
}

/// One row at one step, backwards.
pub(super) struct Backward {
    pub(super) u: usize,
    pub(super) inner: CellActivation,
    pub(super) outer: CellActivation,
    /// K parts of this step.
    pub(super) tape: *const f32,
    /// The tape of the step before, or zeros.
    pub(super) before: *const f32,
    /// Gradient to the state of this step; null for none.
    pub(super) gh: *const f32,
    /// Gradient to the state from the step after, read and replaced. The product of this step's gradients with the
    /// recurrent kernel is added to it afterwards.
    pub(super) carry: *mut f32,
    /// What the memory of `lstm` gives: the activation of it.
    pub(super) y: *const f32,
    /// Gradient to the memory from the step after, read and replaced (`lstm`).
    pub(super) carry_c: *mut f32,
    /// Gradients to the recurrent products: G parts; 2 parts for the gates of `gru`.
    pub(super) da: *mut f32,
    /// The gradient to the candidate's product of `gru`.
    pub(super) dc: *mut f32,
    /// Gradient to r∘h of `gru`.
    pub(super) drh: *const f32,
    /// G parts.
    pub(super) gxw: *mut f32,
}

/// Calls a function with the kinds of activations. The common ones are constants to it, so that slopes are but two
/// operations without a branch.
macro_rules! with_kinds {
    ($p:ident, $f:expr) => {
        match ($p.inner, $p.outer) {
            (CellActivation::Sigmoid, CellActivation::Tanh) => $f($p, CellActivation::Sigmoid, CellActivation::Tanh),
            (CellActivation::HardSigmoid, CellActivation::Tanh) => {
                $f($p, CellActivation::HardSigmoid, CellActivation::Tanh)
            }
            (inner, outer) => $f($p, inner, outer),
        }
    };
}

impl Backward {
    /// The gradient to the state.
    #[inline(always)]
    unsafe fn state<S: Simd>(&self, i: usize) -> S::V {
        // SAFETY: as above.
        unsafe {
            let g = get::<S>(self.carry, i, self.u);
            if self.gh.is_null() { g } else { S::add(g, get::<S>(self.gh, i, self.u)) }
        }
    }
}

multiversion! {
    /// First half of `gru`: the gradients to z and the candidate.
    pub(super) fn gru_candidate_back_for = gru_candidate_back(p: &Backward)
}

#[inline(always)]
unsafe fn gru_candidate_back<S: Simd>(p: &Backward) {
    // SAFETY: as above.
    unsafe { with_kinds!(p, gru_candidate_back_of::<S>) }
}

#[inline(always)]
unsafe fn gru_candidate_back_of<S: Simd>(p: &Backward, inner: CellActivation, outer: CellActivation) {
    // SAFETY: as above.
    unsafe {
        let u = p.u;
        let one = S::splat(1.0);
        let mut i = 0;
        while i < u {
            let dh = p.state::<S>(i);
            let (z, new) = (get::<S>(p.tape.add(u), i, u), get::<S>(p.tape.add(3 * u), i, u));
            let h = get::<S>(p.before, i, u);
            let dz = S::mul(dh, S::sub(h, new));
            let dn = S::mul(dh, S::sub(one, z));
            let mut slopes = [z, new];
            for (k, v) in slopes.iter_mut().enumerate() {
                *v = slope::<S>(if k == 0 { inner } else { outer }, *v);
            }
            let (az, an) = (S::mul(dz, slopes[0]), S::mul(dn, slopes[1]));
            put::<S>(p.gxw, i, u, az);
            put::<S>(p.da, i, u, az);
            put::<S>(p.gxw.add(2 * u), i, u, an);
            put::<S>(p.dc, i, u, an);
            put::<S>(p.carry, i, u, S::mul(dh, z));
            i += S::LANES;
        }
    }
}

multiversion! {
    /// Second half of `gru`: the gradient to r.
    pub(super) fn gru_reset_back_for = gru_reset_back(p: &Backward)
}

#[inline(always)]
unsafe fn gru_reset_back<S: Simd>(p: &Backward) {
    // SAFETY: as above.
    unsafe { with_kinds!(p, gru_reset_back_of::<S>) }
}

#[inline(always)]
unsafe fn gru_reset_back_of<S: Simd>(p: &Backward, inner: CellActivation, _outer: CellActivation) {
    // SAFETY: as above.
    unsafe {
        let u = p.u;
        let mut i = 0;
        while i < u {
            let (r, drh) = (get::<S>(p.tape.add(2 * u), i, u), get::<S>(p.drh, i, u));
            let dr = S::mul(drh, get::<S>(p.before, i, u));
            let ar = S::mul(dr, slope::<S>(inner, r));
            put::<S>(p.gxw.add(u), i, u, ar);
            put::<S>(p.da.add(u), i, u, ar);
            put::<S>(p.carry, i, u, S::add(get::<S>(p.carry, i, u), S::mul(drh, r)));
            i += S::LANES;
        }
    }
}

multiversion! {
    /// A step of `gru` with the reset after the product.
    pub(super) fn gru_after_back_for = gru_after_back(p: &Backward)
}

#[inline(always)]
unsafe fn gru_after_back<S: Simd>(p: &Backward) {
    // SAFETY: as above.
    unsafe { with_kinds!(p, gru_after_back_of::<S>) }
}

#[inline(always)]
unsafe fn gru_after_back_of<S: Simd>(p: &Backward, inner: CellActivation, outer: CellActivation) {
    // SAFETY: as above.
    unsafe {
        let u = p.u;
        let one = S::splat(1.0);
        let mut i = 0;
        while i < u {
            let part = |k: usize| get::<S>(p.tape.add(k * u), i, u);
            let (r, z, new, product) = (part(1), part(2), part(3), part(4));
            let dh = p.state::<S>(i);
            let dz = S::mul(dh, S::sub(get::<S>(p.before, i, u), new));
            let dn = S::mul(dh, S::sub(one, z));
            let mut slopes = [new, r, z];
            for (k, v) in slopes.iter_mut().enumerate() {
                *v = slope::<S>(if k == 0 { outer } else { inner }, *v);
            }
            let an = S::mul(dn, slopes[0]);
            let dr = S::mul(an, product);
            let ar = S::mul(dr, slopes[1]);
            let az = S::mul(dz, slopes[2]);
            for (k, v) in [ar, az, an].into_iter().enumerate() {
                put::<S>(p.gxw.add(k * u), i, u, v);
            }
            for (k, v) in [ar, az, S::mul(an, r)].into_iter().enumerate() {
                put::<S>(p.da.add(k * u), i, u, v);
            }
            put::<S>(p.carry, i, u, S::mul(dh, z));
            i += S::LANES;
        }
    }
}

multiversion! {
    /// A step of `lstm`.
    pub(super) fn lstm_back_for = lstm_back(p: &Backward)
}

#[inline(always)]
unsafe fn lstm_back<S: Simd>(p: &Backward) {
    // SAFETY: as above.
    unsafe { with_kinds!(p, lstm_back_of::<S>) }
}

#[inline(always)]
unsafe fn lstm_back_of<S: Simd>(p: &Backward, inner: CellActivation, outer: CellActivation) {
    // SAFETY: as above.
    unsafe {
        let u = p.u;
        let mut i = 0;
        while i < u {
            let part = |k: usize| get::<S>(p.tape.add(k * u), i, u);
            let (input, forget, new, output) = (part(2), part(3), part(4), part(5));
            let dh = p.state::<S>(i);
            let y = get::<S>(p.y, i, u);
            let mut slopes = [input, forget, new, output, y];
            for (k, v) in slopes.iter_mut().enumerate() {
                *v = slope::<S>(if k == 2 || k == 4 { outer } else { inner }, *v);
            }
            let through = S::mul(S::mul(dh, output), slopes[4]);
            let dc = S::add(get::<S>(p.carry_c, i, u), through);
            let di = S::mul(dc, new);
            let df = S::mul(dc, get::<S>(p.before.add(u), i, u));
            let dn = S::mul(dc, input);
            let d_o = S::mul(dh, y);
            let a = [S::mul(di, slopes[0]), S::mul(df, slopes[1]), S::mul(dn, slopes[2]), S::mul(d_o, slopes[3])];
            for (k, v) in a.into_iter().enumerate() {
                put::<S>(p.gxw.add(k * u), i, u, v);
                put::<S>(p.da.add(k * u), i, u, v);
            }
            put::<S>(p.carry_c, i, u, S::mul(dc, forget));
            i += S::LANES;
        }
    }
}
