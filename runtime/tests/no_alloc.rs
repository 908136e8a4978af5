//! A steady-state step allocates nothing: counted by the global allocator of this test program.

mod exec_common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use exec_common::{INS, OUTS, code, program, values};
use kur_runtime::dim::Dim;
use kur_runtime::exec::{Executor, StepKind};
use kur_runtime::plan::{ArenaClass, Call, ConvGeometry, Launch, LibCall, Place, Program};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // The harness waits for the test on the process's first thread, and allocates there at a time of its own; the
        // executor runs on the test's thread and its workers.
        // SAFETY: neither call has arguments.
        if unsafe { libc::gettid() != libc::getpid() } {
            ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Side and channels of the images of [`conv_program`].
const SIDE: usize = 16;
const CHANNELS: [usize; 2] = [3, 20];

/// A program whose inference runs all three directions of convolutions (stride 1 with few channels, stride 2 with many,
/// 1 x 1) and a product, on whatever the arena holds.
fn conv_program() -> Program {
    let mut program = program();
    let per_image = |unit_offset| Place::Arena { class: 1, unit_offset };
    let weights = |unit_offset| Place::Arena { class: 0, unit_offset };
    let most = (SIDE * SIDE * CHANNELS[1] * 4) as u64;
    program.infer.arena = vec![
        ArenaClass { class: Dim::ONE, unit_bytes: 1 << 17 },
        ArenaClass { class: Dim::batch(), unit_bytes: 4 * most },
    ];
    let geometry = |kernel: u32, stride: u32, cin: usize| ConvGeometry {
        batch: Dim::batch(),
        input: [1, SIDE, SIDE].map(Dim::from),
        output: [1, SIDE / stride as usize, SIDE / stride as usize].map(Dim::from),
        kernel: [1, kernel, kernel],
        stride: [1, stride, stride],
        pad: [0, kernel / 2, kernel / 2],
        dilation: [1; 3],
        cin: cin as u64,
        cout: 20,
        groups: 1,
    };
    program.infer.inputs[0].shape = vec![Dim::from(SIDE * SIDE * CHANNELS[0])];
    program.infer.results.clear();
    program.infer.launches.clear();
    let mut launch = |call, bufs: [Place; 3]| {
        program.infer.launches.push(Launch { call: Call::Lib(call), bufs: bufs.to_vec(), layer: None });
    };
    for (kernel, stride, cin) in [(3, 1, CHANNELS[0]), (3, 2, CHANNELS[1]), (1, 1, CHANNELS[1])] {
        let g = geometry(kernel, stride, cin);
        let x = if cin == CHANNELS[0] { Place::Input { index: 0 } } else { per_image(0) };
        let (y, gx, w, gw) = (per_image(most), per_image(2 * most), weights(0), weights(1 << 16));
        launch(LibCall::ConvForward(g), [x, w, y]);
        launch(LibCall::ConvGradInput(g), [y, w, gx]);
        launch(LibCall::ConvGradWeight(g), [x, y, gw]);
    }
    // Cut into chunks of the inner index, and a batch of small products.
    let (n, ten, k) = (Dim::batch(), Dim::from(10_usize), Dim::from(800_usize));
    let bufs = [per_image(0), weights(0), per_image(2 * most)];
    launch(LibCall::MatMul { batch: Dim::ONE, m: n, n: ten, k, ta: false, tb: false }, bufs);
    let bufs = [per_image(0), per_image(most), per_image(2 * most)];
    launch(LibCall::MatMul { batch: n, m: ten, n: ten, k: ten, ta: false, tb: true }, bufs);
    program
}

// One test only: the counter sees every thread but the first.
#[test]
fn a_warm_step_allocates_nothing() {
    for threads in [1, 3] {
        let mut e = Executor::new(program(), code(), threads).expect("valid");
        e.init_state(1);
        let (x, t) = (values(512 * INS, 1), values(512 * OUTS, 2));
        let mut run = |n: usize, updates: u32| {
            e.run(StepKind::Train, n as u64, &[&x[..n * INS], &t[..n * OUTS]], 0, updates).expect("runs");
            e.run(StepKind::Infer, n as u64, &[&x[..n * INS]], 0, updates).expect("runs");
        };
        run(512, 0);
        run(100, 1);
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for i in 2..50 {
            run(if i % 5 == 0 { 100 } else { 512 }, i);
        }
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0);
        // Samples of different lengths make batches of many sizes.
        (1..=60).for_each(|n| run(n, 50));
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        (1..=60).rev().for_each(|n| run(n, 51));
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0);

        let mut e = Executor::new(conv_program(), code(), threads).expect("valid");
        let image = SIDE * SIDE * CHANNELS[0];
        let images = values(64 * image, 3);
        let mut run = |n: usize| {
            e.run(StepKind::Infer, n as u64, &[&images[..n * image]], 0, 0).expect("runs");
        };
        run(64);
        run(5);
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for i in 0..10 {
            run(if i % 3 == 0 { 5 } else { 64 });
        }
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0);
    }
}
