//! Recurrent layers through time, parts and steps of sequences, CTC.

use super::*;
use kur_runtime::plan::{CellActivation, PartOf, RnnCell, StepPick};
use kurc::ir::op::RnnAttrs;

fn cell() -> impl Strategy<Value = RnnCell> {
    prop::sample::select(&[RnnCell::Gru, RnnCell::GruAfter, RnnCell::Lstm][..])
}

fn activation() -> impl Strategy<Value = CellActivation> {
    prop::sample::select(&CellActivation::ALL[..])
}

fn steps() -> impl Strategy<Value = StepPick> {
    prop::sample::select(&[StepPick::All, StepPick::First, StepPick::Last][..])
}

/// A recurrent layer on parameters: its tape and the number of its parts.
fn layer(c: &mut Case, a: RnnAttrs, n: usize, t: usize, u: usize) -> (NodeId, u32) {
    let packed = usize::try_from(a.cell.gates()).expect("few") * u;
    // A gate that relu holds at 0 stops every gradient, so relu gets mostly positive sums.
    let relu = [a.inner, a.outer].contains(&CellActivation::Relu);
    let (low, bound) = if relu { (0.5, 0.2) } else { (-1.5, 1.0) };
    let xw = c.param(&[n, t, packed], low, 1.5);
    let w = c.param(&[u, packed], -bound, bound);
    let mut args = vec![xw, w];
    if a.cell == RnnCell::GruAfter {
        args.push(c.param(&[packed], -bound / 2.0, bound / 2.0));
    }
    let tape = Builder::new(&mut c.graph, None).op(Op::Rnn(a), &args);
    (tape, u32::try_from(a.cell.parts()).expect("few"))
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::with_cases(96) })]

    #[test]
    fn recurrent_layers(
        seed: u32, cell in cell(), inner in activation(), outer in activation(), reverse: bool, sequence: bool,
        n in 1usize..4, t in 1usize..6, u in size(),
    ) {
        let mut c = Case::new(seed);
        let (tape, parts) = layer(&mut c, RnnAttrs { cell, inner, outer, reverse }, n, t, u);
        let end = if reverse { StepPick::First } else { StepPick::Last };
        let steps = if sequence { StepPick::All } else { end };
        let y = Builder::new(&mut c.graph, None).op(Op::Part(PartOf { part: 0, parts, steps }), &[tape]);
        c.check(y)?;
    }

    #[test]
    fn recurrent_layers_read_twice(seed: u32, cell in cell(), reverse: bool, t in 1usize..5, u in size()) {
        let mut c = Case::new(seed);
        let a = RnnAttrs { cell, inner: CellActivation::Sigmoid, outer: CellActivation::Tanh, reverse };
        let (tape, parts) = layer(&mut c, a, 2, t, u);
        let end = if reverse { StepPick::First } else { StepPick::Last };
        let mut b = Builder::new(&mut c.graph, None);
        let all = b.op(Op::Part(PartOf { part: 0, parts, steps: StepPick::All }), &[tape]);
        let last = b.op(Op::Part(PartOf { part: 0, parts, steps: end }), &[tape]);
        let last = b.reshape(last, vec![Dim::from(2usize), Dim::ONE, Dim::from(u)]);
        let y = b.mul(all, last);
        c.check(y)?;
    }

    #[test]
    fn parts_and_steps(seed: u32, n in 1usize..4, t in 1usize..6, size in size(), parts in 1u32..5, pick in 0u32..5, steps in steps(), reverse: bool) {
        let p = PartOf { part: pick % parts, parts, steps };
        let mut c = Case::new(seed);
        let x = c.param(&[n, t, parts as usize * size], -1.0, 1.0);
        let mut b = Builder::new(&mut c.graph, None);
        let y = b.op(Op::Part(p), &[x]);
        let y = b.mul(y, y);
        let shape = b.shape(x);
        let y = b.shaped(Op::PartGrad(p), &[y], shape);
        let moved = b.op(Op::Shift { reverse }, &[x]);
        let y = b.add(y, moved);
        let y = b.add(y, x);
        c.check(y)?;
    }

    #[test]
    fn linear_recurrences(seed: u32, n in 1usize..4, t in 1usize..7, size in size(), reverse: bool) {
        let mut c = Case::new(seed);
        let a = c.param(&[n, t, size], -1.0, 1.0);
        let b = c.param(&[n, t, size], -1.0, 1.0);
        let y = Builder::new(&mut c.graph, None).op(Op::Scan { reverse }, &[a, b]);
        c.check(y)?;
    }

    #[test]
    fn ctc_losses(seed: u32, n in 1usize..4, t in 1usize..9, most in 1usize..5, classes in 2usize..5, blank_first: bool, logits: bool) {
        let mut c = Case::new(seed);
        let scores = c.param(&[n, t, classes], -2.0, 2.0);
        let labels = c.draws.tensor(&[n, most], 0.0, 1.0).mapv(|x| (x * (classes - 1) as f64).floor());
        let frames = c.draws.tensor(&[n], 0.0, 1.0).mapv(|x| 1.0 + (x * t as f64).floor());
        // As many labels as the frames allow, repeats counted.
        let lengths = ArrayD::from_shape_fn(IxDyn(&[n]), |i| {
            let row: Vec<f64> = (0..most).map(|l| labels[[i[0], l]]).collect();
            let need = |k: usize| k + row[..k].windows(2).filter(|w| (w[0] - w[1]).abs() < 0.5).count();
            let drawn = (c.draws.unit() * (most + 1) as f64).floor();
            (0..=most).rev().map(|k| k as f64).find(|k| *k <= drawn && need(*k as usize) as f64 <= frames[[i[0]]]).unwrap_or(0.0)
        });
        let args = [labels, frames, lengths].map(|v| c.fixed(v));
        let mut b = Builder::new(&mut c.graph, None);
        let x = if logits { b.op(Op::Softmax { log: true }, &[scores]) } else { scores };
        let y = b.op(Op::Ctc { blank_first }, &[x, args[0], args[1], args[2]]);
        c.check(y)?;
    }
}
