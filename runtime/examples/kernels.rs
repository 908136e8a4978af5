//! Speed of the library kernels. In: optionally `--threads N`, `--seconds S` and a filter on names. Out: one line per
//! kernel and shape: microseconds, FLOP per cycle and GB/s (each buffer counted once). A cycle is what a chain of fused
//! multiply-adds measured in this run says it is, so the figures hold on a machine whose clock varies. With one thread,
//! time is that of the thread: what others take of its core does not count.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Instant;

use kur_runtime::cpu::{self, Io, Level, Task};
use kur_runtime::dim::Dim;
use kur_runtime::plan::{CellActivation, ConvGeometry, LibCall, PoolGeometry, RnnCell, RnnGeometry, RnnGradOf};
use kur_runtime::pool::Pool;

struct Options {
    threads: usize,
    seconds: f64,
    filter: String,
    level: Level,
}

fn main() {
    let mut options = Options {
        threads: 1,
        seconds: 0.2,
        filter: String::new(),
        level: Level::current().expect("KUR_CPU must be possible"),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--threads" => options.threads = args.next().and_then(|n| n.parse().ok()).expect("a number"),
            "--seconds" => options.seconds = args.next().and_then(|n| n.parse().ok()).expect("a number"),
            "--bench" => {}
            other => options.filter = other.to_owned(),
        }
    }
    let mut pool = Pool::new(options.threads).expect("threads");
    let region = |pool: &mut Pool| {
        let start = Instant::now();
        for _ in 0..10_000 {
            pool.parallel_for(2, &|chunk, _| {
                black_box(chunk);
            });
        }
        start.elapsed().as_secs_f64() / 10_000.0
    };
    let mut times: Vec<f64> = (0..21).map(|_| region(&mut pool) * 1e6).collect();
    times.sort_by(f64::total_cmp);
    println!("an empty region of two chunks: {:.3} µs (median), {:.3} to {:.3}", times[10], times[0], times[20]);
    drop(pool);
    let mut bench = Bench { pool: Pool::new(options.threads).expect("threads"), options };
    println!("level {}, {} thread(s), {}", bench.options.level, bench.options.threads, cpu::processor_name());
    println!("{:<34}{:>12}{:>12}{:>8}", "kernel", "µs", "FLOP/cycle", "GB/s");
    for s in [64, 128, 256, 512, 1024] {
        bench.matmul(&format!("square {s}"), s, s, s, false, false);
    }
    bench.matmul("square 512 ta", 512, 512, 512, true, false);
    bench.matmul("square 512 tb", 512, 512, 512, false, true);
    let dense = [
        ("mlp", 256, vec![28, 256, 256, 256, 2]),
        ("mlp-wide", 128, vec![784, 512, 256, 10]),
        ("mnist-cnn", 32, vec![50176, 10]),
        ("cifar-cnn", 32, vec![32768, 10]),
    ];
    for (name, batch, widths) in dense {
        for w in widths.windows(2) {
            let label = |what: &str| format!("{name} {}→{} {what}", w[0], w[1]);
            bench.matmul(&label("forward"), batch, w[1], w[0], false, false);
            bench.matmul(&label("grad w"), w[0], w[1], batch, true, false);
            bench.matmul(&label("grad x"), batch, w[0], w[1], false, true);
        }
    }
    for (k, n) in [(28, 256), (256, 256), (256, 2), (784, 512), (512, 256), (256, 10), (50176, 10)] {
        bench.matmul(&format!("predict 1×{k}→{n}"), 1, n, k, false, false);
    }
    // Workload, batch, side, channels, side of the kernel, stride; first layers have no gradient to the input.
    for (name, batch, side, cin, cout, kernel, stride) in [
        ("mnist", 32, 28, 1, 64, 3, 1),
        ("cifar", 32, 32, 3, 64, 3, 1),
        ("cifar", 32, 32, 64, 32, 3, 1),
        ("vgg", 64, 32, 3, 32, 3, 1),
        ("vgg", 64, 32, 32, 32, 3, 1),
        ("vgg", 64, 16, 32, 64, 3, 1),
        ("vgg", 64, 16, 64, 64, 3, 1),
        ("one image", 1, 32, 64, 32, 3, 1),
        ("deep", 8, 14, 256, 256, 3, 1),
        ("stride 2", 16, 32, 64, 64, 3, 2),
        ("5×5", 16, 32, 32, 32, 5, 1),
    ] {
        let output = (side - 1) / stride + 1;
        let pad = (kernel - 1) / 2;
        let g = ConvGeometry {
            batch: Dim::constant(batch),
            input: [1, side, side].map(Dim::constant),
            output: [1, output, output].map(Dim::constant),
            kernel: [1, kernel, kernel],
            stride: [1, stride as u32, stride as u32],
            pad: [0, pad, pad],
            dilation: [1; 3],
            cin,
            cout,
            groups: 1,
        };
        bench.convolution(&format!("{name} conv {side}² {cin}→{cout}"), g, cin > 3);
    }
    let speech = ConvGeometry {
        batch: Dim::constant(8),
        input: [1, 1, 400].map(Dim::constant),
        output: [1, 1, 200].map(Dim::constant),
        kernel: [1, 1, 11],
        stride: [1, 1, 2],
        pad: [0, 0, 5],
        dilation: [1; 3],
        cin: 80,
        cout: 256,
        groups: 1,
    };
    bench.convolution("speech conv 400 80→256", speech, false);
    for (side, channels) in [(32, 32), (16, 64)] {
        let g = PoolGeometry {
            batch: Dim::constant(64),
            input: [1, side, side].map(Dim::constant),
            output: [1, side / 2, side / 2].map(Dim::constant),
            window: [1, 2, 2],
            stride: [1, 2, 2],
            pad: [0; 3],
            channels,
        };
        bench.call(&format!("vgg max pool {side}²×{channels}"), &LibCall::MaxPool(g));
        bench.call(&format!("vgg max pool {side}²×{channels} grad"), &LibCall::MaxPoolGrad(g));
    }
    for (name, cell, batch, steps, units) in [
        ("char-gru", RnnCell::Gru, 32, 30, 128),
        ("char-gru-after", RnnCell::GruAfter, 32, 30, 128),
        ("char-lstm", RnnCell::Lstm, 32, 30, 128),
        ("speech gru", RnnCell::Gru, 16, 195, 256),
        ("one row gru", RnnCell::Gru, 1, 30, 128),
        ("one row lstm", RnnCell::Lstm, 1, 30, 128),
        ("one row speech gru", RnnCell::Gru, 1, 195, 256),
    ] {
        // The gates of Kur's cells have a hard sigmoid, those of `cell: torch` a sigmoid.
        let after = cell == RnnCell::GruAfter;
        let g = RnnGeometry {
            cell,
            inner: if after { CellActivation::Sigmoid } else { CellActivation::HardSigmoid },
            outer: CellActivation::Tanh,
            reverse: false,
            batch: Dim::constant(batch),
            steps: Dim::constant(steps),
            units,
        };
        let label = |what: &str| format!("rnn {name} {what}");
        let (cells, wide) = ((batch * steps) as usize, (cell.gates() * units) as usize);
        bench.call(&label("forward"), &LibCall::Rnn(g));
        if batch > 1 {
            bench.call(&label("grad"), &LibCall::RnnGrad(g, RnnGradOf::States));
            bench.call(&label("grad w"), &LibCall::RnnGradWeight(g));
            // What a plain product of as many multiply-adds takes.
            bench.matmul(&label("plain forward"), cells, wide, units as usize, false, false);
            bench.matmul(&label("plain grad"), cells, units as usize, wide, false, true);
            bench.matmul(&label("plain grad w"), units as usize, wide, cells, true, false);
        }
        if cell == RnnCell::GruAfter {
            bench.call(&label("grad bias"), &LibCall::RnnGradBias(g));
        }
    }
    for (rows, cols) in [(256, 2), (32, 10), (128, 10), (960, 30), (128, 1000)] {
        let rows = Dim::constant(rows);
        let cols = Dim::constant(cols);
        let label = format!("softmax {}x{}", rows.coef(), cols.coef());
        bench.call(&label, &LibCall::Softmax { rows, cols, log: false });
    }
}

struct Bench {
    pool: Pool,
    options: Options,
}

impl Bench {
    fn convolution(&mut self, name: &str, g: ConvGeometry, input: bool) {
        self.call(&format!("{name} forward"), &LibCall::ConvForward(g));
        if input {
            self.call(&format!("{name} grad x"), &LibCall::ConvGradInput(g));
        }
        self.call(&format!("{name} grad w"), &LibCall::ConvGradWeight(g));
    }

    fn matmul(&mut self, name: &str, m: usize, n: usize, k: usize, ta: bool, tb: bool) {
        let call = LibCall::MatMul { batch: Dim::ONE, m: m.into(), n: n.into(), k: k.into(), ta, tb };
        self.call(name, &call);
    }

    /// Times a call and the peak in turns, and prints the best of each.
    fn call(&mut self, name: &str, call: &LibCall) {
        if !name.contains(&self.options.filter) {
            return;
        }
        let kernel = cpu::prepare(call, &[1], self.options.level).expect("valid sizes");
        let lens = cpu::buffer_lens(call, &[1]).expect("valid sizes");
        let (flops, bytes) = cpu::work(call, &[1]).expect("valid sizes");
        let mut bufs: Vec<Aligned> = lens.iter().map(|l| Aligned::new(*l)).collect();
        let scratch = kernel.scratch();
        let mut work = Aligned::new((scratch.shared + self.options.threads * scratch.local) / 4);
        let ptrs: Vec<*mut f32> = bufs.iter_mut().map(Aligned::ptr).collect();
        let threads = self.options.threads;
        let io = Io { bufs: &ptrs, scratch: work.ptr(), threads, packed: std::ptr::null() };
        let pool = RefCell::new(&mut self.pool);
        let par = |tasks: usize, task: &Task<'_>| pool.borrow_mut().parallel_for(tasks, task);
        // SAFETY: buffers and scratch are as long as the kernel asked for.
        let mut ours = || unsafe { kernel.run(&par, &io) };
        let (mut best, mut best_peak) = (f64::MAX, f64::MAX);
        let clock = if self.options.threads == 1 { own } else { wall };
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < self.options.seconds {
            best = best.min(time(clock, &mut ours));
            best_peak = best_peak.min(time(clock, &mut || {
                black_box(chain());
            }));
        }
        // A chain of dependent multiply-adds takes 4 cycles each on every core since Zen 3 and Skylake.
        let cycle = best_peak / (CHAIN as f64 * 4.0);
        let per_cycle = |seconds: f64| flops / (seconds / cycle);
        println!("{name:<34}{:>12.1}{:>12.2}{:>8.1}", best * 1e6, per_cycle(best), bytes / best / 1e9);
    }
}

const CHAIN: usize = 5000;

/// A chain of dependent multiply-adds.
fn chain() -> f32 {
    #[target_feature(enable = "fma")]
    unsafe fn fused() -> f32 {
        let (mut x, a, b) = (black_box(1.0_f32), black_box(0.999_f32), black_box(0.001_f32));
        for _ in 0..CHAIN {
            x = x.mul_add(a, b);
        }
        x
    }
    // SAFETY: the benchmark is for machines that have it; the level check below would have refused others.
    unsafe { fused() }
}

/// Seconds per call, over enough calls to see.
fn time(clock: fn() -> f64, f: &mut dyn FnMut()) -> f64 {
    let start = clock();
    f();
    let once = clock() - start;
    let count = ((100e-6 / once.max(1e-9)) as usize).clamp(1, 1000);
    let start = clock();
    for _ in 0..count {
        f();
    }
    (clock() - start) / count as f64
}

/// Seconds of a clock of the system.
fn seconds_of(clock: libc::clockid_t) -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Time on the wall, which is what counts with several threads.
fn wall() -> f64 {
    seconds_of(libc::CLOCK_MONOTONIC)
}

/// Time of this thread on a core: what other processes take of it does not count.
fn own() -> f64 {
    seconds_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Floats that start at a cache line.
struct Aligned(Vec<[f32; 16]>);

impl Aligned {
    fn new(len: usize) -> Aligned {
        let lines = len.div_ceil(16) + 4;
        Aligned((0..lines).map(|i| [(i % 7) as f32 * 0.125 - 0.3; 16]).collect())
    }

    fn ptr(&mut self) -> *mut f32 {
        let p = self.0.as_mut_ptr().cast::<f32>();
        p.wrapping_add(p.align_offset(64))
    }
}
