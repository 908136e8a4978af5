//! The product against a double-precision reference, over shapes, instruction sets and thread counts.

use super::*;
use crate::cpu::check::{Guarded, assert_same_bits, backwards, packed, values};
use proptest::prelude::*;

/// Runs the product with guard cells around all buffers; `threads` workers take the tasks in an order of their own.
fn product(
    level: Level,
    threads: usize,
    p: Problem,
    a: &[f32],
    b: &[f32],
    bias: Option<&[f32]>,
    relu: bool,
) -> Vec<f32> {
    let kernel = Product::new(p, level);
    let mut bufs = [Guarded::of(a), Guarded::of(b), Guarded::new(p.batch * p.m * p.n)];
    let Scratch { shared, local } = kernel.scratch();
    let work = Guarded::new((shared + threads * local) / 4);
    let bias = bias.map(Guarded::of);
    let epilogue = Epilogue { bias: bias.as_ref().map(|b| b.ptr().cast_const()), relu };
    let ptrs = bufs.each_ref().map(Guarded::ptr);
    let par = backwards(threads);
    let io = Io { bufs: &ptrs, scratch: work.ptr(), threads, packed: std::ptr::null() };
    // SAFETY: the buffers have the sizes of the problem.
    unsafe { kernel.run_fused(&par, &epilogue, &io) };
    work.check();
    bufs.iter().for_each(Guarded::check);
    let c = bufs[2].slice().to_vec();
    if let Some(packed) = packed(&kernel, &par, &io, &mut bufs.each_mut()) {
        bufs[2].slice().fill(f32::NAN);
        // SAFETY: as above.
        unsafe { kernel.run_fused(&par, &epilogue, &Io { packed: packed.ptr(), ..io }) };
        work.check();
        bufs.iter().for_each(Guarded::check);
        assert_same_bits(&c, bufs[2].slice(), "packed before");
    }
    c
}

fn reference(p: Problem, a: &[f32], b: &[f32], bias: Option<&[f32]>, relu: bool) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for q in 0..p.batch {
        let (a, b) = (&a[q * p.m * p.k..], &b[q * p.k * p.n..]);
        for i in 0..p.m {
            for j in 0..p.n {
                let (mut sum, mut size) = (0f64, 0f64);
                for l in 0..p.k {
                    let x = f64::from(a[if p.ta { l * p.m + i } else { i * p.k + l }]);
                    let y = f64::from(b[if p.tb { j * p.k + l } else { l * p.n + j }]);
                    sum += x * y;
                    size += (x * y).abs();
                }
                let y = sum + bias.map_or(0.0, |b| f64::from(b[j]));
                out.push((if relu { y.max(0.0) } else { y }, size));
            }
        }
    }
    out
}

fn check(p: Problem, with_bias: bool, relu: bool) {
    let (a, b) = (values(p.batch * p.m * p.k, 1), values(p.batch * p.k * p.n, 2));
    let bias = values(p.n, 3);
    let bias = with_bias.then_some(&bias[..]);
    let want = reference(p, &a, &b, bias, relu);
    for level in Level::available() {
        let got = product(level, 1, p, &a, &b, bias, relu);
        for (i, (got, (want, size))) in got.iter().zip(&want).enumerate() {
            let bound = 1e-6 * (size + want.abs()) + 1e-9;
            assert!((f64::from(*got) - want).abs() <= bound, "{level} {p:?} element {i}: {got} against {want}");
        }
        for threads in [2, 4] {
            let again = product(level, threads, p, &a, &b, bias, relu);
            let same = got.iter().zip(&again).all(|(x, y)| x.to_bits() == y.to_bits());
            assert!(same, "{level} {p:?}: {threads} threads give other bits");
        }
    }
}

fn all_orders(batch: usize, m: usize, n: usize, k: usize) {
    for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
        check(Problem { batch, m, n, k, ta, tb }, false, false);
    }
}

#[test]
fn odd_sizes() {
    let sizes = [1, 3, 7, 17, 33, 100];
    for m in sizes {
        for n in sizes {
            for k in sizes {
                all_orders(1, m, n, k);
            }
        }
    }
}

#[test]
fn shapes_of_training_steps() {
    for (m, n, k) in [(256, 256, 28), (28, 256, 256), (256, 28, 256), (256, 2, 256), (256, 256, 2), (128, 512, 784)] {
        all_orders(1, m, n, k);
    }
}

#[test]
fn one_long_side() {
    for (m, n, k) in
        [(5011, 10, 32), (32, 5011, 10), (32, 10, 5011), (1, 3000, 700), (3000, 1, 700), (2, 2, 9000), (1, 10, 9000)]
    {
        all_orders(1, m, n, k);
    }
}

#[test]
fn one_row_in_pieces_whose_last_is_narrow() {
    for (n, k) in [(264, 8192), (257, 8192), (1025, 2048), (516, 4096), (68, 30_000)] {
        for ta in [false, true] {
            check(Problem { batch: 1, m: 1, n, k, ta, tb: false }, true, false);
        }
    }
}

#[test]
fn several_blocks_and_chunks() {
    for (m, n, k) in [(300, 1100, 350), (60, 60, 3000), (400, 70, 1500), (30, 70, 1024), (1024, 800, 20)] {
        all_orders(1, m, n, k);
    }
}

#[test]
fn packed_rows_that_serve_several_blocks() {
    // One run and several; kept and too many to keep; in chunks; a last block of few columns or rows.
    for (m, n, k) in
        [(130, 257, 256), (66, 400, 960), (31, 390, 961), (17, 1041, 300), (200, 130, 1100), (40, 150, 2100)]
    {
        for tb in [false, true] {
            check(Problem { batch: 1, m, n, k, ta: true, tb }, tb, !tb);
        }
    }
}

#[test]
fn few_columns_in_long_runs() {
    // Groups of columns of equal and of different numbers, several runs of inner indices, rows that fill no group.
    for n in 5..=12 {
        for (m, k) in [(37, 1300), (130, 1024), (3, 2100)] {
            check(Problem { batch: 1, m, n, k, ta: false, tb: n % 2 == 0 }, true, n % 3 == 0);
            check(Problem { batch: 1, m: n, n: m, k, ta: n % 2 == 0, tb: true }, n % 3 == 0, true);
        }
    }
}

#[test]
fn few_columns_of_a_far_matrix() {
    for (m, n, k) in [(8200, 10, 32), (9001, 5, 31), (2100, 11, 128), (16500, 1, 17), (4113, 12, 70)] {
        for tb in [false, true] {
            check(Problem { batch: 1, m, n, k, ta: true, tb }, true, tb);
        }
    }
}

#[test]
fn shallow_products_in_strips() {
    for (m, n, k) in [(1, 64, 1), (2, 70, 2), (7, 333, 10), (64, 1200, 16), (50, 129, 48), (400, 65, 30), (8, 20, 20)] {
        all_orders(1, m, n, k);
        check(Problem { batch: 3, m, n, k, ta: false, tb: true }, true, true);
    }
}

#[test]
fn batches() {
    for (batch, m, n, k) in [(5, 7, 9, 4), (3, 64, 64, 32), (2, 257, 200, 200), (70, 3, 1, 20), (300, 20, 20, 20)] {
        all_orders(batch, m, n, k);
    }
}

#[test]
fn empty_sizes() {
    for (batch, m, n, k) in [(0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4), (2, 3, 4, 0)] {
        all_orders(batch, m, n, k);
        check(Problem { batch, m, n, k, ta: false, tb: false }, true, true);
    }
}

#[test]
fn epilogue_of_every_kind_of_plan() {
    for (m, n, k) in
        [(40, 50, 60), (3, 90, 40), (90, 3, 40), (90, 1, 40), (1, 90, 40), (60, 60, 3000), (8, 40, 9000), (40, 8, 9000)]
    {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            for (bias, relu) in [(true, false), (false, true), (true, true)] {
                check(Problem { batch: 1, m, n, k, ta, tb }, bias, relu);
            }
        }
    }
}

#[test]
fn relu_keeps_nan() {
    for level in Level::available() {
        for (m, n, k) in [(20, 20, 20), (1, 1, 20), (20, 5, 20)] {
            let p = Problem { batch: 1, m, n, k, ta: true, tb: false };
            let (a, mut b) = (values(m * k, 1), values(k * n, 2));
            b[0] = f32::NAN;
            let c = product(level, 1, p, &a, &b, None, true);
            assert!(c[0].is_nan(), "{level} {p:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn random_shapes(
        batch in 1usize..4, m in 1usize..150, n in 1usize..150, k in 1usize..400,
        ta: bool, tb: bool, bias: bool, relu: bool,
    ) {
        check(Problem { batch, m, n, k, ta, tb }, bias, relu);
    }
}
