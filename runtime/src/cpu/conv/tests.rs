//! Convolutions against f64 sums over the definition.

use super::super::Conv;
use super::super::check::{check, values};
use crate::abi::rng;
use crate::dim::Dim;
use crate::plan::{ConvGeometry, LibCall};

struct Case {
    input: [usize; 3],
    kernel: [u32; 3],
    stride: [u32; 3],
    pad: [u32; 3],
    dilation: [u32; 3],
}

/// Runs all three directions; the output size is as large as the padding on the far side (equal to the near one) allows.
fn try_case(batch: usize, cin: usize, cout: usize, case: &Case) {
    let output = [0, 1, 2].map(|a| {
        let span = (case.kernel[a] - 1) * case.dilation[a] + 1;
        let room = case.input[a] as u32 + 2 * case.pad[a];
        if room < span { 0 } else { ((room - span) / case.stride[a] + 1) as usize }
    });
    let g = ConvGeometry {
        batch: Dim::batch(),
        input: case.input.map(Dim::from),
        output: output.map(Dim::from),
        kernel: case.kernel,
        stride: case.stride,
        pad: case.pad,
        dilation: case.dilation,
        cin: cin as u64,
        cout: cout as u64,
    };
    let c = Conv::new(&g, &[batch as u64]);
    let (cells_in, cells_out) = (c.input.iter().product::<usize>(), c.output.iter().product::<usize>());
    let taps = c.kernel.iter().product::<usize>();
    let (x, w) = (values(batch * cells_in * cin, 1), values(taps * cin * cout, 2));
    let gy = values(batch * cells_out * cout, 3);
    let zeros = |len: usize| (vec![0.0_f64; len], vec![0.0_f64; len]);
    let (mut y, mut gx, mut gw) = (zeros(gy.len()), zeros(x.len()), zeros(w.len()));
    let mut meet = |xi: usize, yi: usize, wi: usize| {
        for i in 0..cin {
            for o in 0..cout {
                let (xa, ya, wa) = (xi * cin + i, yi * cout + o, (wi * cin + i) * cout + o);
                let add = |to: &mut (Vec<f64>, Vec<f64>), at: usize, p: f32, q: f32| {
                    to.0[at] += f64::from(p) * f64::from(q);
                    to.1[at] += f64::from((p * q).abs());
                };
                add(&mut y, ya, x[xa], w[wa]);
                add(&mut gx, xa, gy[ya], w[wa]);
                add(&mut gw, wa, x[xa], gy[ya]);
            }
        }
    };
    for n in 0..batch {
        for yo in 0..cells_out {
            let o = [yo / (output[1] * output[2]), yo / output[2] % output[1], yo % output[2]];
            for wi in 0..taps {
                let k = [wi / (c.kernel[1] * c.kernel[2]), wi / c.kernel[2] % c.kernel[1], wi % c.kernel[2]];
                let at = [0, 1, 2].map(|a| c.position(a, o[a], k[a]));
                if let [Some(d), Some(h), Some(i)] = at {
                    let cell = (d * c.input[1] + h) * c.input[2] + i;
                    meet(n * cells_in + cell, n * cells_out + yo, wi);
                }
            }
        }
    }
    let syms = [batch as u64];
    check(&LibCall::ConvForward(g), &syms, &[&x, &w], &y.0, &y.1, 2e-6);
    check(&LibCall::ConvGradInput(g), &syms, &[&gy, &w], &gx.0, &gx.1, 2e-6);
    check(&LibCall::ConvGradWeight(g), &syms, &[&x, &gy], &gw.0, &gw.1, 2e-6);
}

#[test]
fn the_usual_planes() {
    let same = |h, w| Case { input: [1, h, w], kernel: [1, 3, 3], stride: [1; 3], pad: [0, 1, 1], dilation: [1; 3] };
    try_case(2, 1, 64, &same(28, 28));
    try_case(3, 3, 17, &same(9, 33));
    try_case(2, 33, 7, &same(17, 7));
    try_case(1, 17, 100, &same(7, 3));
    try_case(1, 64, 32, &same(16, 16));
    try_case(17, 8, 8, &same(1, 1));
    try_case(1, 1, 1, &same(3, 100));
}

#[test]
fn lines_and_spaces() {
    let line = |w, k, s, p, d| Case {
        input: [1, 1, w],
        kernel: [1, 1, k],
        stride: [1, 1, s],
        pad: [0, 0, p],
        dilation: [1, 1, d],
    };
    try_case(2, 20, 33, &line(100, 11, 2, 0, 1));
    try_case(3, 7, 5, &line(33, 3, 1, 2, 2));
    try_case(2, 80, 40, &line(50, 5, 3, 1, 1));
    try_case(2, 3, 3, &line(4, 7, 1, 1, 1));
    try_case(2, 3, 3, &line(4, 2, 5, 0, 1));
    let space = Case { input: [5, 7, 6], kernel: [3, 2, 3], stride: [1, 2, 1], pad: [1, 0, 2], dilation: [1, 1, 2] };
    try_case(2, 3, 18, &space);
}

#[test]
fn products_in_disguise_and_empty_ones() {
    let point = |h, w| Case { input: [1, h, w], kernel: [1; 3], stride: [1; 3], pad: [0; 3], dilation: [1; 3] };
    try_case(3, 17, 33, &point(7, 5));
    try_case(0, 3, 3, &point(4, 4));
    let none = Case { input: [1, 2, 2], kernel: [1, 3, 3], stride: [1; 3], pad: [0; 3], dilation: [1; 3] };
    try_case(2, 3, 4, &none);
    let same = Case { input: [1, 4, 4], kernel: [1, 3, 3], stride: [1; 3], pad: [0, 1, 1], dilation: [1; 3] };
    try_case(0, 3, 4, &same);
}

#[test]
fn random_geometries() {
    let stream = rng::stream(11, 0, 0);
    for case in 0..60 {
        let mut draw = 0;
        let mut pick = |list: &[u32]| {
            draw += 1;
            list[rng::bits(stream, case * 100 + draw) as usize % list.len()]
        };
        let depth = pick(&[1, 1, 3]);
        let input = [depth, pick(&[1, 3, 7, 17]), pick(&[1, 3, 7, 17, 33])].map(|d| d as usize);
        let kernel = [pick(&[1, 2]).min(depth), pick(&[1, 2, 3]), pick(&[1, 2, 3, 5])];
        let stride = [1, pick(&[1, 2, 3]), pick(&[1, 1, 2, 3])];
        let pad = [0, pick(&[0, 1, 2]), pick(&[0, 1, 3])];
        let dilation = [1, pick(&[1, 2]), pick(&[1, 1, 2])];
        let (cin, cout) = (pick(&[1, 3, 7, 17]) as usize, pick(&[1, 3, 7, 17, 33]) as usize);
        try_case(1 + case as usize % 3, cin, cout, &Case { input, kernel, stride, pad, dilation });
    }
}
