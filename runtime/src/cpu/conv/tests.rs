//! Convolutions against direct sums in double precision, over geometries, instruction sets and thread counts.

use super::*;
use crate::cpu::check::{Guarded, assert_same_bits, backwards, packed, values};
use proptest::prelude::*;

/// Calls `f(x index, w index, y index)` for every product of the convolution.
fn products(d: &Conv, mut f: impl FnMut(usize, usize, usize)) {
    let inside = |o: usize, a: usize, t: usize| {
        (o * d.stride[a] + t * d.dilation[a]).checked_sub(d.pad[a]).filter(|&i| i < d.input[a])
    };
    let cells =
        |s: [usize; 3]| (0..s[0]).flat_map(move |i| (0..s[1]).flat_map(move |j| (0..s[2]).map(move |k| [i, j, k])));
    let flat = |s: [usize; 3], i: [usize; 3]| (i[0] * s[1] + i[1]) * s[2] + i[2];
    for n in 0..d.batch {
        for o in cells(d.output) {
            for t in cells(d.kernel) {
                let (Some(i), Some(j), Some(k)) = (inside(o[0], 0, t[0]), inside(o[1], 1, t[1]), inside(o[2], 2, t[2]))
                else {
                    continue;
                };
                let x = (n * d.input.iter().product::<usize>() + flat(d.input, [i, j, k])) * d.cin;
                let y = (n * d.output.iter().product::<usize>() + flat(d.output, o)) * d.cout;
                let w = flat(d.kernel, t) * d.cin * d.cout;
                for ci in 0..d.cin {
                    for co in 0..d.cout {
                        f(x + ci, w + ci * d.cout + co, y + co);
                    }
                }
            }
        }
    }
}

fn compare(what: &str, level: Level, d: &Conv, got: &[f32], want: &[(f64, f64)]) {
    for (i, (got, (want, size))) in got.iter().zip(want).enumerate() {
        let bound = 1e-6 * size + 1e-9;
        assert!((f64::from(*got) - want).abs() <= bound, "{what} {level} {d:?} element {i}: {got} against {want}");
    }
}

fn check(d: &Conv) {
    let x_len = d.batch * d.input.iter().product::<usize>() * d.cin;
    let y_len = d.batch * d.output.iter().product::<usize>() * d.cout;
    let w_len = d.kernel.iter().product::<usize>() * d.cin * d.cout;
    let (x, w, gy, bias) = (values(x_len, 1), values(w_len, 2), values(y_len, 3), values(d.cout, 4));
    let (mut y, mut gx, mut gw) = (vec![(0f64, 0f64); y_len], vec![(0f64, 0f64); x_len], vec![(0f64, 0f64); w_len]);
    let add = |sum: &mut (f64, f64), a: f32, b: f32| {
        let p = f64::from(a) * f64::from(b);
        *sum = (sum.0 + p, sum.1 + p.abs());
    };
    products(d, |i, j, k| {
        add(&mut y[k], x[i], w[j]);
        add(&mut gx[i], gy[k], w[j]);
        add(&mut gw[j], gy[k], x[i]);
    });
    let fused: Vec<(f64, f64)> =
        y.iter().enumerate().map(|(i, (v, s))| ((v + f64::from(bias[i % d.cout])).max(0.0), s + 1.0)).collect();
    for level in Level::available() {
        let mut first: Option<[Vec<f32>; 4]> = None;
        for threads in [1, 2, 4] {
            let bs = Guarded::of(&bias);
            let call = |kernel: &Convolution, epilogue: Epilogue, a: &[f32], b: &[f32], len: usize| {
                let (a, mut b, mut out) = (Guarded::of(a), Guarded::of(b), Guarded::new(len));
                let Scratch { shared, local } = kernel.scratch();
                let work = Guarded::new((shared + threads * local) / 4);
                let bufs = [a.ptr(), b.ptr(), out.ptr()];
                let par = backwards(threads);
                let io = Io { bufs: &bufs, scratch: work.ptr(), threads, packed: std::ptr::null() };
                // SAFETY: all buffers have the sizes of the geometry.
                unsafe { kernel.run_fused(&par, &epilogue, &io) };
                out.check();
                work.check();
                let result = out.slice().to_vec();
                if let Some(packed) = packed(kernel, &par, &io, &mut [&mut Guarded::new(0), &mut b]) {
                    out.slice().fill(f32::NAN);
                    // SAFETY: as above.
                    unsafe { kernel.run_fused(&par, &epilogue, &Io { packed: packed.ptr(), ..io }) };
                    out.check();
                    work.check();
                    assert_same_bits(&result, out.slice(), "packed before");
                }
                result
            };
            let forward = Convolution::forward(d, level);
            let epilogue = Epilogue { bias: Some(bs.ptr()), relu: true };
            let results = [
                call(&forward, Epilogue::default(), &x, &w, y_len),
                call(&Convolution::grad_input(d, level), Epilogue::default(), &gy, &w, x_len),
                call(&Convolution::grad_weight(d, level), Epilogue::default(), &x, &gy, w_len),
                call(&forward, epilogue, &x, &w, y_len),
            ];
            match &first {
                None => {
                    for (what, got, want) in [
                        ("y", &results[0], &y),
                        ("gx", &results[1], &gx),
                        ("gw", &results[2], &gw),
                        ("fused", &results[3], &fused),
                    ] {
                        // Fewer products err by the largest sum of a tile, not by that of each element.
                        let largest = want.iter().map(|(_, size)| *size).fold(0f64, f64::max);
                        let tiles = has_fewer_products(d)[if what == "gw" { 2 } else { usize::from(what == "gx") }];
                        let bounds = |(value, size): &(f64, f64)| (*value, if tiles { largest } else { *size });
                        let want: Vec<(f64, f64)> = want.iter().map(bounds).collect();
                        compare(what, level, d, got, &want);
                    }
                    first = Some(results);
                }
                Some(first) => {
                    let same =
                        first.iter().flatten().zip(results.iter().flatten()).all(|(x, y)| x.to_bits() == y.to_bits());
                    assert!(same, "{level} {d:?}: {threads} threads give other bits");
                }
            }
        }
    }
}

/// The output size is what fits, less `cropped`, plus what trailing zeros (`after`) add.
#[expect(clippy::too_many_arguments, reason = "one per property of a convolution")]
fn dims(
    batch: usize,
    input: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    pad: [usize; 3],
    after: [usize; 3],
    dilation: [usize; 3],
    channels: (usize, usize),
) -> Option<Conv> {
    let mut output = [0; 3];
    for a in 0..3 {
        let room = (input[a] + pad[a] + after[a]).checked_sub((kernel[a] - 1) * dilation[a] + 1)?;
        output[a] = room / stride[a] + 1;
    }
    Some(Conv { batch, input, output, kernel, stride, pad, dilation, cin: channels.0, cout: channels.1 })
}

fn plane(batch: usize, size: usize, k: usize, pad: usize, cin: usize, cout: usize) -> Conv {
    dims(batch, [1, size, size], [1, k, k], [1; 3], [0, pad, pad], [0, pad, pad], [1; 3], (cin, cout)).expect("valid")
}

#[test]
fn layers_of_reference_nets() {
    check(&plane(3, 28, 3, 1, 1, 64));
    check(&plane(2, 32, 3, 1, 3, 64));
    check(&plane(2, 16, 3, 1, 32, 64));
    check(&plane(3, 8, 3, 1, 64, 32));
    check(&plane(2, 14, 5, 2, 6, 16));
}

/// Whether the three results of a convolution come from fewer products.
fn has_fewer_products(d: &Conv) -> [bool; 3] {
    let level = Level::available()[0];
    [
        matches!(Convolution::forward(d, level), Convolution::Winograd(_)),
        matches!(Convolution::grad_input(d, level), Convolution::Winograd(_)),
        matches!(Convolution::grad_weight(d, level), Convolution::WinogradWeights(_)),
    ]
}

#[test]
fn fewer_products() {
    // Grids that tiles cover exactly and beyond, channels with and without a rest, several blocks of channels.
    for (batch, size, pad, cin, cout) in [
        (13, 3, 1, 16, 17),
        (70, 3, 1, 17, 16),
        (16, 7, 1, 33, 16),
        (3, 17, 1, 17, 33),
        (1, 33, 1, 16, 40),
        (3, 12, 0, 24, 16),
        (1, 16, 2, 32, 200),
        (2, 24, 1, 64, 32),
        (1, 16, 1, 100, 64),
        (4, 16, 1, 20, 130),
    ] {
        let d = plane(batch, size, 3, pad, cin, cout);
        let tiles = batch * d.output[1].div_ceil(4) * d.output[2].div_ceil(4);
        assert_eq!(has_fewer_products(&d), [true, true, tiles >= 64], "{d:?}");
        check(&d);
    }
    // Planes of a space, other padding on each side.
    let d = dims(4, [3, 7, 9], [1, 3, 3], [1; 3], [0, 2, 0], [0, 0, 2], [1; 3], (18, 20)).expect("valid");
    assert_eq!(has_fewer_products(&d), [true; 3]);
    check(&d);
    for d in [
        plane(4, 16, 3, 1, 3, 64),
        plane(1, 4, 3, 1, 64, 64),
        plane(4, 16, 5, 2, 32, 32),
        dims(4, [1, 16, 16], [1, 3, 3], [1, 1, 2], [0, 1, 1], [0, 1, 1], [1; 3], (32, 32)).expect("valid"),
        dims(4, [1, 16, 16], [1, 3, 3], [1; 3], [0, 2, 2], [0, 2, 2], [1, 2, 2], (32, 32)).expect("valid"),
        dims(4, [3, 16, 16], [3, 3, 3], [1; 3], [1; 3], [1; 3], [1; 3], (16, 16)).expect("valid"),
    ] {
        assert_eq!(has_fewer_products(&d), [false; 3], "{d:?}");
    }
}

/// Errors of the transforms against those of direct sums, root mean square and worst, in units of the largest result.
#[test]
fn fewer_products_are_as_precise_as_many() {
    for (cin, cout) in [(16, 16), (64, 32), (256, 16)] {
        let d = plane(8, 12, 3, 1, cin, cout);
        let len = |s: [usize; 3], c: usize| d.batch * s.iter().product::<usize>() * c;
        let (x, w, gy) = (values(len(d.input, cin), 1), values(9 * cin * cout, 2), values(len(d.output, cout), 3));
        let mut exact = [vec![0f64; gy.len()], vec![0f64; x.len()], vec![0f64; w.len()]];
        products(&d, |i, j, k| {
            exact[0][k] += f64::from(x[i]) * f64::from(w[j]);
            exact[1][i] += f64::from(gy[k]) * f64::from(w[j]);
            exact[2][j] += f64::from(gy[k]) * f64::from(x[i]);
        });
        for level in Level::available() {
            let fewer = [Convolution::forward, Convolution::grad_input, Convolution::grad_weight];
            let direct = [
                Convolution::Passes(Passes::new(level, vec![Pass::forward(&d)])),
                Convolution::Passes(Passes::new(level, Pass::grad_input(&d))),
                Convolution::Weights(Box::new(Weights::new(kernels(level), &d))),
            ];
            for (i, (a, b)) in [(&x, &w), (&gy, &w), (&x, &gy)].into_iter().enumerate() {
                let error = |kernel: &Convolution| {
                    let (a, b, mut out) = (Guarded::of(a), Guarded::of(b), Guarded::new(exact[i].len()));
                    let Scratch { shared, local } = kernel.scratch();
                    let work = Guarded::new((shared + local) / 4);
                    let bufs = [a.ptr(), b.ptr(), out.ptr()];
                    // SAFETY: all buffers have the sizes of the geometry.
                    unsafe {
                        kernel.run(
                            &backwards(1),
                            &Io { bufs: &bufs, scratch: work.ptr(), threads: 1, packed: std::ptr::null() },
                        )
                    };
                    let errors = out.slice().iter().zip(&exact[i]).map(|(g, e)| (f64::from(*g) - e).abs());
                    let (sum, worst) = errors.fold((0f64, 0f64), |(sum, worst), e| (sum + e * e, worst.max(e)));
                    let largest = exact[i].iter().fold(0f64, |m, e| m.max(e.abs()));
                    ((sum / exact[i].len() as f64).sqrt() / largest, worst / largest)
                };
                let ((fewer, worst), (direct, _)) = (error(&fewer[i](&d, level)), error(&direct[i]));
                println!("{level} {cin}→{cout} result {i}: {fewer:.1e} and {worst:.1e}, direct {direct:.1e}");
                // With the usual points it would be seven times.
                assert!(fewer < 3.5 * direct, "{level} {cin}→{cout} result {i}: {fewer:e} against {direct:e}");
                // A fifth of what whole steps may differ from the interpreter.
                assert!(worst < 6e-6, "{level} {cin}→{cout} result {i}: {worst:e}");
            }
        }
    }
}

#[test]
fn few_products() {
    for (size, kernel, cin) in [(1, 3, 1), (3, 3, 1), (7, 3, 3), (17, 5, 1), (33, 3, 2)] {
        for cout in [1, 3, 8, 17, 33, 64] {
            check(&plane(2, size, kernel, kernel / 2, cin, cout));
        }
    }
    check(&plane(1, 12, 3, 0, 1, 40));
    check(&dims(2, [3, 9, 9], [2, 2, 2], [1, 2, 2], [0, 1, 1], [1; 3], [1, 1, 2], (2, 19)).expect("valid"));
}

#[test]
fn one_axis() {
    check(&dims(2, [1, 1, 120], [1, 1, 11], [1, 1, 2], [0; 3], [0; 3], [1; 3], (80, 48)).expect("valid"));
    check(&dims(1, [1, 1, 500], [1, 1, 11], [1, 1, 2], [0, 0, 5], [0, 0, 5], [1; 3], (40, 100)).expect("valid"));
    check(&dims(3, [1, 1, 33], [1, 1, 4], [1, 1, 3], [0, 0, 3], [0; 3], [1, 1, 2], (3, 5)).expect("valid"));
}

#[test]
fn three_axes() {
    check(&dims(2, [5, 6, 7], [3, 2, 3], [1; 3], [1, 0, 1], [1, 1, 1], [1; 3], (3, 17)).expect("valid"));
    check(&dims(2, [7, 9, 8], [3, 3, 2], [2, 1, 3], [1, 2, 0], [0, 0, 1], [1, 2, 1], (2, 5)).expect("valid"));
}

#[test]
fn plain_products() {
    check(&plane(3, 9, 1, 0, 20, 33));
    check(&plane(5, 4, 4, 0, 6, 10));
}

#[test]
fn strides_beyond_the_kernel() {
    check(&dims(2, [1, 10, 11], [1, 1, 2], [1, 3, 4], [0; 3], [0; 3], [1; 3], (4, 6)).expect("valid"));
    check(&dims(2, [1, 10, 11], [1, 2, 2], [1, 3, 4], [0, 1, 3], [0, 2, 3], [1, 3, 2], (4, 6)).expect("valid"));
}

#[test]
fn padding_beyond_the_kernel() {
    check(&plane(1, 5, 3, 4, 2, 3));
    check(&plane(1, 4, 1, 2, 2, 3));
}

#[test]
fn empty_sizes() {
    check(&plane(0, 5, 3, 1, 2, 3));
    check(&plane(2, 5, 3, 1, 0, 3));
    check(&plane(2, 5, 3, 1, 2, 0));
    check(&plane(2, 0, 3, 2, 2, 3));
    check(&Conv { output: [1, 0, 3], ..plane(2, 5, 3, 1, 2, 3) });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn random_geometries(
        batch in 1usize..4,
        input in [1usize..4, 1usize..12, 1usize..40],
        kernel in [1usize..3, 1usize..4, 1usize..6],
        stride in [1usize..3, 1usize..4, 1usize..4],
        pad in [0usize..2, 0usize..3, 0usize..5],
        after in [0usize..2, 0usize..3, 0usize..5],
        dilation in [1usize..3, 1usize..3, 1usize..4],
        channels in (1usize..40, 1usize..70),
    ) {
        if let Some(d) = dims(batch, input, kernel, stride, pad, after, dilation, channels) {
            check(&d);
        }
    }
}
