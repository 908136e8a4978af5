//! Products against f64 sums over random odd shapes.

use super::super::check::{check, values};
use crate::dim::Dim;
use crate::plan::LibCall;

fn try_shape(batch: usize, m: usize, n: usize, k: usize, ta: bool, tb: bool) {
    let (a, b) = (values(batch * m * k, 1), values(batch * k * n, 2));
    let (mut want, mut scale) = (vec![0.0; batch * m * n], vec![0.0; batch * m * n]);
    for g in 0..batch {
        for i in 0..m {
            for j in 0..n {
                for l in 0..k {
                    let x = a[g * m * k + if ta { l * m + i } else { i * k + l }];
                    let y = b[g * k * n + if tb { j * k + l } else { l * n + j }];
                    want[(g * m + i) * n + j] += f64::from(x) * f64::from(y);
                    scale[(g * m + i) * n + j] += f64::from((x * y).abs());
                }
            }
        }
    }
    let call = LibCall::MatMul { batch: batch.into(), m: Dim::batch(), n: n.into(), k: k.into(), ta, tb };
    // Error of a chain of k roundings, in the worst case k ulps; in practice far less.
    check(&call, &[m as u64], &[&a, &b], &want, &scale, 2e-6);
}

fn all_transposes(batch: usize, m: usize, n: usize, k: usize) {
    for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
        try_shape(batch, m, n, k, ta, tb);
    }
}

#[test]
fn odd_shapes() {
    let sizes = [1, 3, 7, 17, 33, 100];
    for m in sizes {
        for n in sizes {
            for k in sizes {
                all_transposes(1, m, n, k);
            }
        }
    }
}

#[test]
fn skinny_shapes() {
    for (m, n, k) in [
        (256, 2, 256),
        (28, 256, 256),
        (256, 2, 28),
        (2, 256, 256),
        (1, 512, 784),
        (1, 10, 5000),
        (32, 10, 5017),
        (5017, 10, 32),
        (32, 5017, 10),
        (100, 15, 40),
        (64, 15, 700),
        (3, 1, 1000),
        (500, 1, 1),
        (13, 64, 1),
    ] {
        all_transposes(1, m, n, k);
    }
}

#[test]
fn blocked_shapes() {
    for (m, n, k) in [(130, 200, 800), (64, 700, 400), (200, 33, 1500), (15, 1100, 20)] {
        all_transposes(1, m, n, k);
    }
}

#[test]
fn batches_and_empty_shapes() {
    for (batch, m, n, k) in [(3, 17, 33, 7), (5, 1, 1, 100), (2, 40, 3, 20), (2, 100, 100, 1030), (0, 3, 3, 3)] {
        all_transposes(batch, m, n, k);
    }
    for (m, n, k) in [(0, 5, 5), (5, 0, 5), (5, 40, 0), (40, 3, 0), (0, 0, 0)] {
        all_transposes(1, m, n, k);
    }
}
