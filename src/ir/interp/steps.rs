//! Parts and steps of sequences, linear recurrences and sequence lengths by their definitions.

use kur_runtime::plan::{PartOf, StepPick};
use ndarray::{ArrayD, Axis, IxDyn};

/// Calls `f(place in the whole, place in the part)` for every element of a part.
fn visit(p: PartOf, whole: &[usize], part: &[usize], mut f: impl FnMut([usize; 3], &[usize])) {
    let size = part[part.len() - 1];
    for i in 0..whole[0] {
        for t in 0..whole[1] {
            let taken = match p.steps {
                StepPick::All => true,
                StepPick::First => t == 0,
                StepPick::Last => t + 1 == whole[1],
            };
            for c in (0..size).filter(|_| taken) {
                let from = [i, t, p.part as usize * size + c];
                if p.steps == StepPick::All { f(from, &[i, t, c]) } else { f(from, &[i, c]) }
            }
        }
    }
}

pub(super) fn part(p: PartOf, x: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let mut y = ArrayD::zeros(IxDyn(shape));
    visit(p, x.shape(), shape, |from, to| y[to] = x[from]);
    y
}

pub(super) fn part_grad(p: PartOf, gy: &ArrayD<f64>, shape: &[usize]) -> ArrayD<f64> {
    let mut gx = ArrayD::zeros(IxDyn(shape));
    visit(p, shape, gy.shape(), |to, from| gx[to] = gy[from]);
    gx
}

/// The steps in the order in which they run.
fn order(reverse: bool, steps: usize) -> Vec<usize> {
    if reverse { (0..steps).rev().collect() } else { (0..steps).collect() }
}

pub(super) fn scan(reverse: bool, a: &ArrayD<f64>, b: &ArrayD<f64>) -> ArrayD<f64> {
    let mut y = b.clone();
    for pair in order(reverse, a.shape()[1]).windows(2) {
        let before = y.index_axis(Axis(1), pair[0]).to_owned();
        let mut now = y.index_axis_mut(Axis(1), pair[1]);
        now += &(&a.index_axis(Axis(1), pair[1]) * &before);
    }
    y
}

pub(super) fn shift(reverse: bool, x: &ArrayD<f64>) -> ArrayD<f64> {
    let mut y = ArrayD::zeros(x.raw_dim());
    for pair in order(reverse, x.shape()[1]).windows(2) {
        y.index_axis_mut(Axis(1), pair[1]).assign(&x.index_axis(Axis(1), pair[0]));
    }
    y
}

/// The number of steps behind windows, one after the other.
pub(super) fn length(x: f64, window: &[u32], stride: &[u32]) -> f64 {
    window.iter().zip(stride).fold(x, |x, (w, s)| {
        let free = x - f64::from(*w);
        if free < 0.0 { 0.0 } else { (free / f64::from(*s)).floor() + 1.0 }
    })
}
