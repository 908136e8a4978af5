//! A steady-state step allocates nothing: counted by the global allocator of this test program.

mod exec_common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use exec_common::{INS, OUTS, code, program, values};
use kur_runtime::exec::{Executor, StepKind};

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
    }
}
