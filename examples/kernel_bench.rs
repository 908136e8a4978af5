//! Throughput of generated kernels beside plain Rust loops, in one run: `cargo run --release --example kernel_bench [NAME]`.
//! With NAME only the cases whose names contain it are run.
//!
//! Figures are elements per clock cycle, so that they hold on machines of other speeds and on noisy ones: the clock is
//! measured beside each case by a chain of dependent multiplications, and the best of many repetitions counts.

use std::hint::black_box;
use std::time::Instant;

use kur_runtime::abi::KernelArgs;
use kur_runtime::exec::CodeTable;
use kur_runtime::payload::CpuLevel;
use kurc::codegen::cpu::compile_variant;
use kurc::codegen::jit;
use kurc::ir::text::kernel_parse::parse_kernel;

type Buffers = Vec<Vec<f32>>;

struct Case {
    name: &'static str,
    text: &'static str,
    /// Value of `n`.
    n: u64,
    /// Iterations of the outermost loop.
    extent: u64,
    /// Elements that count.
    elements: usize,
    lens: &'static [usize],
    plain: fn(&mut Buffers),
}

const RELU: &str = "kernel @relu (in %a: f32[n], in %b: f32[n], in %c: f32[n], out %y: f32[n]) {
  for i in n parallel vector {
    %0 = load %a[i] %1 = load %b[i] %2 = load %c[i] %3 = mul %0, %1 %4 = add %3, %2 %5 = max %4, 0.0 store %y[i], %5
  } }";
const EXP: &str = "kernel @exp (in %x: f32[n], out %y: f32[n]) {
  for i in n parallel vector { %0 = load %x[i] %1 = exp %0 store %y[i], %1 } }";
const TANH: &str = "kernel @tanh (in %x: f32[n], out %y: f32[n]) {
  for i in n parallel vector { %0 = load %x[i] %1 = tanh %0 store %y[i], %1 } }";
const SIGMOID: &str = "kernel @sigmoid (in %x: f32[n], out %y: f32[n]) {
  for i in n parallel vector { %0 = load %x[i] %1 = sigmoid %0 store %y[i], %1 } }";
const LOG: &str = "kernel @log (in %x: f32[n], out %y: f32[n]) {
  for i in n parallel vector { %0 = load %x[i] %1 = log %0 store %y[i], %1 } }";
const ROWS: &str = "kernel @rows (in %x: f32[256*n], out %y: f32[n]) {
  for i in n parallel { %1 = reduce add j in 256 vector { %0 = load %x[256*i + j] yield %0 } store %y[i], %1 } }";
const COLUMNS: &str = "kernel @columns (in %x: f32[256*n], out %y: f32[256]) {
  for j in 256 parallel vector { %1 = reduce add i in n { %0 = load %x[j + 256*i] yield %0 } store %y[j], %1 } }";
const ROW_MAX: &str = "kernel @row_max (in %x: f32[256*n], out %y: f32[n]) {
  for i in n parallel { %1 = reduce max j in 256 vector { %0 = load %x[256*i + j] yield %0 } store %y[i], %1 } }";
const BIAS: &str = "kernel @bias (in %x: f32[256*n], in %b: f32[256], out %y: f32[256*n]) {
  for i in n parallel { for j in 256 vector {
    %0 = load %x[256*i + j] %1 = load %b[j] %2 = add %0, %1 %3 = max %2, 0.0 store %y[256*i + j], %3 } } }";
const ADAM: &str = "kernel @adam (in %g: f32[n], inout %w: f32[n], inout %m: f32[n], inout %v: f32[n]) {
  for i in n parallel vector {
    %0 = load %g[i] %1 = load %m[i] %2 = load %v[i] %3 = load %w[i]
    %5 = mul %1, 0.9 %6 = mul %0, 0.1 %7 = add %5, %6 %8 = mul %0, %0 %9 = mul %8, 0.001
    %11 = mul %2, 0.999 %12 = add %11, %9 %13 = sqrt %12 %14 = add %13, 1e-7 %15 = div %7, %14 %16 = mul %15, 0.001
    %17 = sub %3, %16 store %w[i], %17 store %m[i], %7 store %v[i], %12
  } }";

const CASES: &[Case] = &[
    Case { name: "relu(a*b+c), L1", text: RELU, n: 1024, extent: 1024, elements: 1024, lens: &[1024; 4], plain: relu },
    Case {
        name: "relu(a*b+c), RAM",
        text: RELU,
        n: 1 << 23,
        extent: 1 << 23,
        elements: 1 << 23,
        lens: &[1 << 23; 4],
        plain: relu,
    },
    Case {
        name: "bias + relu rows",
        text: BIAS,
        n: 12,
        extent: 12,
        elements: 3072,
        lens: &[3072, 256, 3072],
        plain: bias,
    },
    Case { name: "exp, L1", text: EXP, n: 2048, extent: 2048, elements: 2048, lens: &[2048; 2], plain: exp },
    Case { name: "tanh, L1", text: TANH, n: 2048, extent: 2048, elements: 2048, lens: &[2048; 2], plain: tanh },
    Case {
        name: "sigmoid, L1",
        text: SIGMOID,
        n: 2048,
        extent: 2048,
        elements: 2048,
        lens: &[2048; 2],
        plain: sigmoid,
    },
    Case { name: "log, L1", text: LOG, n: 2048, extent: 2048, elements: 2048, lens: &[2048; 2], plain: log },
    Case { name: "row sums, L1", text: ROWS, n: 24, extent: 24, elements: 6144, lens: &[6144, 24], plain: rows },
    Case {
        name: "row maxima, L1",
        text: ROW_MAX,
        n: 24,
        extent: 24,
        elements: 6144,
        lens: &[6144, 24],
        plain: row_max,
    },
    Case {
        name: "column sums, L1",
        text: COLUMNS,
        n: 24,
        extent: 256,
        elements: 6144,
        lens: &[6144, 256],
        plain: columns,
    },
    Case { name: "adam, L1", text: ADAM, n: 1024, extent: 1024, elements: 1024, lens: &[1024; 4], plain: adam },
];

fn relu(b: &mut Buffers) {
    let [a, x, c, y] = &mut b[..] else { return };
    for (((y, a), x), c) in y.iter_mut().zip(a.iter()).zip(x.iter()).zip(c.iter()) {
        *y = (a * x + c).max(0.0);
    }
}

fn bias(b: &mut Buffers) {
    let [x, c, y] = &mut b[..] else { return };
    for (y, x) in y.chunks_mut(256).zip(x.chunks(256)) {
        for ((y, x), c) in y.iter_mut().zip(x).zip(c.iter()) {
            *y = (x + c).max(0.0);
        }
    }
}

fn exp(b: &mut Buffers) {
    let [x, y] = &mut b[..] else { return };
    y.iter_mut().zip(x.iter()).for_each(|(y, x)| *y = x.exp());
}

fn tanh(b: &mut Buffers) {
    let [x, y] = &mut b[..] else { return };
    y.iter_mut().zip(x.iter()).for_each(|(y, x)| *y = x.tanh());
}

fn sigmoid(b: &mut Buffers) {
    let [x, y] = &mut b[..] else { return };
    y.iter_mut().zip(x.iter()).for_each(|(y, x)| *y = 1.0 / (1.0 + (-x).exp()));
}

fn log(b: &mut Buffers) {
    let [x, y] = &mut b[..] else { return };
    y.iter_mut().zip(x.iter()).for_each(|(y, x)| *y = x.ln());
}

fn rows(b: &mut Buffers) {
    let [x, y] = &mut b[..] else { return };
    y.iter_mut().zip(x.chunks(256)).for_each(|(y, x)| *y = x.iter().sum());
}

fn row_max(b: &mut Buffers) {
    let [x, y] = &mut b[..] else { return };
    y.iter_mut().zip(x.chunks(256)).for_each(|(y, x)| *y = x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
}

fn columns(b: &mut Buffers) {
    let [x, y] = &mut b[..] else { return };
    y.fill(0.0);
    for x in x.chunks(256) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }
}

fn adam(b: &mut Buffers) {
    let [g, w, m, v] = &mut b[..] else { return };
    for (((g, w), m), v) in g.iter().zip(w).zip(m).zip(v) {
        *m = *m * 0.9 + g * 0.1;
        *v = *v * 0.999 + g * g * 0.001;
        *w -= *m / (v.sqrt() + 1e-7) * 0.001;
    }
}

/// Cycles per second: one multiplication that waits for the last one takes three.
fn clock() -> f64 {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let factor = black_box(0x9e37_79b9_7f4a_7c15_u64);
        let start = Instant::now();
        let mut x = black_box(1u64);
        for _ in 0..100_000 {
            // Several in a row, so that the loop itself does not count.
            x = x.wrapping_mul(factor);
            x = x.wrapping_mul(x | 1);
        }
        black_box(x);
        best = best.min(start.elapsed().as_secs_f64());
    }
    700_000.0 / best
}

fn seconds(mut f: impl FnMut(), elements: usize) -> f64 {
    let calls = (1_000_000 / elements).max(1);
    let repeat = if elements > 1_000_000 { 6 } else { 40 };
    f();
    (0..repeat)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| f());
            start.elapsed().as_secs_f64() / calls as f64
        })
        .fold(f64::MAX, f64::min)
}

fn buffers(case: &Case) -> Buffers {
    case.lens.iter().map(|n| (0..*n).map(|i| ((i * 37) % 101) as f32 * 0.05).collect()).collect()
}

fn compiled(code: &CodeTable, case: &Case) -> f64 {
    let mut bufs = buffers(case);
    let pointers: Vec<*mut u8> = bufs.iter_mut().map(|b| b.as_mut_ptr().cast()).collect();
    let args = KernelArgs { bufs: pointers.as_ptr(), syms: &raw const case.n };
    // SAFETY: the buffers have the lengths that the kernel declares.
    seconds(|| unsafe { code.entries[0](&raw const args, 0, case.extent) }, case.elements)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("elements per cycle (clock {:.2} GHz)", clock() / 1e9);
    println!("{:20} {:>10} {:>10} {:>10} {:>12} {:>10}", "", "baseline", "v3", "plain Rust", "compile ms", "bytes");
    let filter = std::env::args().nth(1).unwrap_or_default();
    for case in CASES.iter().filter(|c| c.name.contains(&filter)) {
        let kernel = parse_kernel(case.text)?;
        let start = Instant::now();
        let variants = [
            compile_variant(std::slice::from_ref(&kernel), CpuLevel::Baseline)?,
            compile_variant(std::slice::from_ref(&kernel), CpuLevel::V3)?,
        ];
        let compile = start.elapsed().as_secs_f64() * 500.0;
        let rate = |s: f64| case.elements as f64 / (s * clock());
        let baseline = rate(compiled(&jit::load(&variants[0])?, case));
        let v3 = if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            rate(compiled(&jit::load(&variants[1])?, case))
        } else {
            f64::NAN
        };
        let mut bufs = buffers(case);
        let plain = rate(seconds(|| (case.plain)(black_box(&mut bufs)), case.elements));
        let bytes = variants[1].code.len();
        println!("{:20} {baseline:>10.2} {v3:>10.2} {plain:>10.2} {compile:>12.2} {bytes:>10}", case.name);
    }
    Ok(())
}
