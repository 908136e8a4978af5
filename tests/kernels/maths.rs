//! Accuracy of the transcendental functions over all of f32, and their special values.

use kurc::codegen::cpu::math::MAX_ULP;
use kurc::ir::interp::kernel::apply;
use kurc::ir::kernel::ScalarOp;
use kurc::ir::text::kernel_parse::parse_kernel;

use crate::harness::{Words, call, levels, load};

fn unary(op: ScalarOp) -> String {
    let name = op.name();
    format!(
        "kernel @{name} (in %x: f32[n], out %y: f32[n]) {{ for i in n parallel vector {{ %0 = load %x[i] %1 = {name} %0 store %y[i], %1 }} }}"
    )
}

const POW: &str = "kernel @pow (in %a: f32[n], in %b: f32[n], out %y: f32[n]) {
    for i in n parallel vector { %0 = load %a[i] %1 = load %b[i] %2 = pow %0, %1 store %y[i], %2 } }";

/// Distance from the exact value in units in the last place of f32; infinite when only one of them is NaN.
fn ulps(got: f32, want: f64) -> f64 {
    let rounded = want as f32;
    if got == rounded || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    if got.is_nan() || want.is_nan() || rounded.is_infinite() || got.is_infinite() {
        // One step over the edge of the range is one ulp.
        let near = got.is_infinite() && f64::from(got.signum()) * want > f64::from(f32::MAX) * (1.0 - 1e-7)
            || rounded.is_infinite() && f64::from(got.abs()) > f64::from(f32::MAX) * (1.0 - 1e-6);
        return if near { 1.0 } else { f64::INFINITY };
    }
    let exponent = (want.abs().max(f64::from(f32::MIN_POSITIVE))).log2().floor() as i32;
    (f64::from(got) - want).abs() / 2f64.powi(exponent - 23)
}

/// Every `step`-th bit pattern: all exponents, both signs, subnormals, infinities and NaN.
fn sweep(step: u32) -> Words {
    let mut words: Words = (0..u32::MAX / step).map(|i| i * step).collect();
    for x in
        [0.0, f32::INFINITY, f32::NAN, 1.0, 1.0 + f32::EPSILON, 1.0 - f32::EPSILON, f32::MIN_POSITIVE, f32::MAX, 1e-45]
    {
        words.extend([x.to_bits(), (-x).to_bits()]);
    }
    words
}

fn worst(op: ScalarOp, inputs: &[Words], got: &Words) -> (f64, Vec<f32>, f32) {
    let mut worst = (0.0, Vec::new(), 0.0);
    for (i, g) in got.iter().enumerate() {
        let g = f32::from_bits(*g);
        let args: Vec<f32> = inputs.iter().map(|w| f32::from_bits(w[i])).collect();
        let wide: Vec<f64> = args.iter().map(|x| f64::from(*x)).collect();
        let err = ulps(g, apply(op, &wide));
        if err > worst.0 {
            worst = (err, args, g);
        }
    }
    worst
}

#[test]
fn functions_keep_their_stated_accuracy() {
    for (op, limit) in MAX_ULP {
        let inputs = if op == ScalarOp::Pow { pow_inputs() } else { vec![sweep(1021)] };
        let text = if op == ScalarOp::Pow { POW.to_owned() } else { unary(op) };
        let kernel = parse_kernel(&text).expect("parses");
        let n = inputs[0].len();
        let mut bufs = inputs.clone();
        bufs.push(vec![0; n]);
        for level in levels() {
            let got = call(&load(&kernel, level), &[n as u64], &bufs, &[(0, n as u64)]);
            let (err, args, value) = worst(op, &inputs, &got[inputs.len()]);
            eprintln!("{:8} {level:?}: {err:.3} ulp at {args:?} = {value:e}", op.name());
            assert!(err <= limit, "{} at {level:?}: {err} ulp at {args:?}, got {value}", op.name());
        }
    }
}

/// Bases of all magnitudes with exponents of all magnitudes, and the corner cases of both.
fn pow_inputs() -> Vec<Words> {
    let corners = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-45, 1e30, -3.0];
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for x in corners {
        for y in corners {
            a.push(x);
            b.push(y);
        }
    }
    for i in 0..400_000u32 {
        let bits = kur_runtime::abi::rng::bits(1, i);
        let base = f32::from_bits(bits & 0x7fff_ffff);
        a.extend([base, 0.5 + (bits >> 8) as f32 / 16_777_216.0, base]);
        let unit = kur_runtime::abi::rng::uniform(2, i) - 0.5;
        b.extend([4.0 * unit, 300.0 * unit, 200.0 * unit / base.log2()]);
    }
    vec![a.iter().map(|x| x.to_bits()).collect(), b.iter().map(|x| x.to_bits()).collect()]
}

#[test]
fn special_values_are_exact() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let cases: &[(ScalarOp, &[(f32, f32)])] = &[
        (ScalarOp::Exp, &[(-1000.0, 0.0), (1000.0, inf), (0.0, 1.0), (-inf, 0.0), (inf, inf), (nan, nan)]),
        (ScalarOp::Log, &[(0.0, -inf), (-0.0, -inf), (-1.0, nan), (1.0, 0.0), (inf, inf), (nan, nan), (-inf, nan)]),
        (ScalarOp::Log1p, &[(-1.0, -inf), (-1.5, nan), (0.0, 0.0), (inf, inf), (1e-30, 1e-30), (nan, nan)]),
        (ScalarOp::Expm1, &[(-1000.0, -1.0), (1000.0, inf), (0.0, 0.0), (1e-30, 1e-30), (-inf, -1.0), (nan, nan)]),
        (ScalarOp::Tanh, &[(0.0, 0.0), (1e-30, 1e-30), (-30.0, -1.0), (inf, 1.0), (-inf, -1.0), (nan, nan)]),
        (ScalarOp::Sigmoid, &[(0.0, 0.5), (1000.0, 1.0), (-1000.0, 0.0), (inf, 1.0), (-inf, 0.0), (nan, nan)]),
    ];
    for (op, pairs) in cases {
        let kernel = parse_kernel(&unary(*op)).expect("parses");
        for level in levels() {
            let input: Words = pairs.iter().map(|(x, _)| x.to_bits()).collect();
            let n = input.len();
            let got = call(&load(&kernel, level), &[n as u64], &[input, vec![0; n]], &[(0, n as u64)]);
            for ((x, want), g) in pairs.iter().zip(&got[1]) {
                let g = f32::from_bits(*g);
                assert!(g == *want || (g.is_nan() && want.is_nan()), "{}({x}) = {g} at {level:?}", op.name());
            }
        }
    }
}

#[test]
fn random_draws_are_those_of_the_runtime() {
    let text = "kernel @r (in %c: u32[2], out %y: f32[n]) {
        for i in n parallel vector { %0 = load %c[0] %1 = load %c[1] %2 = random 77, %0, %1 [5*i + 4294967000] store %y[i], %2 } }";
    let kernel = parse_kernel(text).expect("parses");
    for level in levels() {
        let got =
            call(&load(&kernel, level), &[1003], &[vec![123, 4_000_000_000], vec![0; 1003]], &[(0, 500), (500, 1003)]);
        let stream = kur_runtime::abi::rng::stream(123, 77, 4_000_000_000);
        for (i, g) in got[1].iter().enumerate() {
            let want = kur_runtime::abi::rng::uniform(stream, 4_294_967_000u32.wrapping_add(5 * i as u32));
            assert_eq!(*g, want.to_bits(), "draw {i} at {level:?}");
        }
    }
}
