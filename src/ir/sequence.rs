//! Types of the operations on sequences `[n, t, c]`: recurrent layers, parts and steps, CTC.

use kur_runtime::dim::Dim;
use kur_runtime::plan::{PartOf, RnnCell, RnnGradOf, StepPick};

use super::op::RnnAttrs;
use super::types::Type;

/// Samples, steps and values of a step.
fn sequence(x: &Type) -> Result<[Dim; 3], String> {
    x.shape.as_slice().try_into().map_err(|_| "a sequence has the axes samples, steps and values".to_owned())
}

/// The type of a sequence itself.
pub(super) fn steps(x: &Type) -> Result<Type, String> {
    sequence(x).map(|_| x.clone())
}

fn expect(found: &Type, want: &[Dim], what: &str) -> Result<(), String> {
    if found.shape == want { Ok(()) } else { Err(format!("{what} does not have the shape of this cell")) }
}

/// Units, G·u and K·u of a recurrent kernel.
fn units(cell: RnnCell, kernel: &Type) -> Result<[Dim; 3], String> {
    match kernel.shape.as_slice() {
        [u, packed] if u.is_const() && *packed == u.times(Dim::constant(cell.gates())) => {
            Ok([*u, *packed, u.times(Dim::constant(cell.parts()))])
        }
        _ => Err(format!("the recurrent kernel must be [u, {}*u] for constant u", cell.gates())),
    }
}

pub(super) fn rnn(a: &RnnAttrs, args: &[&Type]) -> Result<Type, String> {
    let [_, packed, tape] = units(a.cell, args[1])?;
    let [n, t, own] = sequence(args[0])?;
    if own != packed {
        return Err("the products with the input kernel are as wide as the recurrent kernel".to_owned());
    }
    if let Some(bias) = args.get(2) {
        expect(bias, &[packed], "the bias")?;
    }
    Ok(Type::f32(vec![n, t, tape]))
}

pub(super) fn rnn_grad(a: &RnnAttrs, of: RnnGradOf, args: &[&Type]) -> Result<Type, String> {
    let [u, packed, tape] = units(a.cell, args[1])?;
    let [n, t, _] = sequence(args[0])?;
    expect(args[0], &[n, t, tape], "the tape")?;
    match of {
        RnnGradOf::States => expect(args[2], &[n, t, u], "the gradient")?,
        RnnGradOf::Final => expect(args[2], &[n, u], "the gradient")?,
    }
    Ok(Type::f32(vec![n, t, packed]))
}

/// Units and G·u from a tape and the gradient to xw.
fn of_tape(a: &RnnAttrs, args: &[&Type]) -> Result<(Dim, Dim), String> {
    let [n, t, tape] = sequence(args[0])?;
    let u = tape.exact_div(Dim::constant(a.cell.parts())).filter(|u| u.is_const());
    let u = u.ok_or_else(|| format!("the tape must be {} times as wide as the cell", a.cell.parts()))?;
    let packed = u.times(Dim::constant(a.cell.gates()));
    expect(args[1], &[n, t, packed], "gxw")?;
    Ok((u, packed))
}

pub(super) fn rnn_grad_weight(a: &RnnAttrs, args: &[&Type]) -> Result<Type, String> {
    let (u, packed) = of_tape(a, args)?;
    Ok(Type::f32(vec![u, packed]))
}

pub(super) fn rnn_grad_bias(a: &RnnAttrs, args: &[&Type]) -> Result<Type, String> {
    Ok(Type::f32(vec![of_tape(a, args)?.1]))
}

pub(super) fn part(p: &PartOf, x: &Type) -> Result<Type, String> {
    let [n, t, c] = sequence(x)?;
    let size = c.exact_div(Dim::constant(u64::from(p.parts))).filter(|_| p.part < p.parts);
    let size = size.ok_or_else(|| format!("there is no part {} of {}", p.part, p.parts))?;
    Ok(Type::f32(if p.steps == StepPick::All { vec![n, t, size] } else { vec![n, size] }))
}

pub(super) fn ctc(args: &[&Type]) -> Result<Type, String> {
    let [n, _, _] = sequence(args[0])?;
    if args[1].rank() != 2 || args[1].shape[0] != n {
        return Err("labels must be [samples, labels]".to_owned());
    }
    for lengths in &args[2..4] {
        if lengths.shape != [n] {
            return Err("there is one length for each sample".to_owned());
        }
    }
    Ok(Type::f32(vec![n]))
}
