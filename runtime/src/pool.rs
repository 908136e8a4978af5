//! The thread pool. In: a number of chunks and a function of the chunk. Out: every chunk done exactly once, by whichever
//! thread claims it first. Invariants: what a chunk computes never depends on who runs it, so results do not depend on the
//! number of threads; [`Pool::parallel_for`] returns only when no thread touches its function any more; it allocates nothing.
//!
//! Claiming is one compare-and-swap on a word that holds both the next chunk and their number, so a late worker can never
//! claim a chunk of a finished region. Workers spin briefly between the regions of a step and then park: spinning for
//! long would take the core away from others on a shared machine.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker spins for the next region before it parks. Parking and waking again costs about as much, so
/// longer gains little, and it bounds what is taken from other processes.
const WORKER_SPIN: Duration = Duration::from_micros(25);
/// How long the caller spins for the last chunks of others before it parks.
const CALLER_SPIN: Duration = Duration::from_micros(50);
/// Spins between two looks at the clock.
const SPINS_PER_LOOK: u32 = 16;

/// A region's function: chunk number, and number of the thread that runs it (below [`Pool::threads`]).
pub type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A pool of `threads` threads, the caller being one of them (number 0).
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads - 1` workers (at least none).
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let extra = threads.max(1) - 1;
        let nothing: &'static Body<'static> = &|_, _| ();
        let shared = Arc::new(Shared {
            ticket: Line(AtomicU64::new(0)),
            done: Line(AtomicU32::new(0)),
            body: UnsafeCell::new(nothing),
            sleepers: (0..extra).map(|_| Line(Sleeper::default())).collect(),
            caller: Mutex::new(None),
            caller_waits: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        // Made before the workers, so that those already started are stopped when a later one is refused.
        let mut pool = Pool { shared, workers: Vec::with_capacity(extra) };
        for i in 0..extra {
            let shared = Arc::clone(&pool.shared);
            pool.workers.push(thread::Builder::new().name(format!("kur-{}", i + 1)).spawn(move || shared.work(i))?);
        }
        // A starting thread allocates; none may do that in the middle of a step.
        for sleeper in &pool.shared.sleepers {
            sleeper.0.thread.wait();
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `f(chunk, thread)` for every chunk below `chunks` and returns when all are done. With one thread or one
    /// chunk everything runs here, in order.
    ///
    /// # Panics
    /// When a chunk panics, with its payload, after the others are done; or with more than `u32::MAX` chunks.
    pub fn parallel_for(&mut self, chunks: usize, f: &Body<'_>) {
        if self.workers.is_empty() || chunks <= 1 {
            for chunk in 0..chunks {
                f(chunk, 0);
            }
            return;
        }
        let count = u32::try_from(chunks).expect("a region has at most u32::MAX chunks");
        self.shared.region(count, f);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for w in &self.workers {
            w.thread().unpark();
        }
        for w in self.workers.drain(..) {
            // Workers catch the panics of chunks, so there is nothing to report here.
            let _ = w.join();
        }
    }
}

/// Puts a value on cache lines of its own (two, as the prefetcher fetches pairs).
#[repr(align(128))]
struct Line<T>(T);

#[derive(Default)]
struct Sleeper {
    parked: AtomicBool,
    thread: OnceLock<Thread>,
}

struct Shared {
    /// Number of chunks in the upper half, next one to claim in the lower.
    ticket: Line<AtomicU64>,
    /// Chunks finished.
    done: Line<AtomicU32>,
    /// The function of the present region.
    body: UnsafeCell<*const Body<'static>>,
    sleepers: Vec<Line<Sleeper>>,
    /// The caller of the present region, if it parks for `done`.
    caller: Mutex<Option<Thread>>,
    /// Set while `caller` may be taken.
    caller_waits: AtomicBool,
    stop: AtomicBool,
    /// The first panic of the present region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `body` is written only by `region` (which `Pool` calls with `&mut self`) while no chunk is
// claimable or unfinished, and read by workers only between claiming a chunk and reporting it done.
unsafe impl Sync for Shared {}
// SAFETY: as above; `body` points to a `Sync` function.
unsafe impl Send for Shared {}

impl Shared {
    fn region(&self, count: u32, f: &Body<'_>) {
        // SAFETY: only the lifetime changes, and this function returns after the last use of `body`.
        let f = unsafe { std::mem::transmute::<*const Body<'_>, *const Body<'static>>(f) };
        // SAFETY: the previous region is complete, so no worker looks at this cell.
        unsafe { *self.body.get() = f };
        self.done.0.store(0, Ordering::Relaxed);
        // SeqCst here and around `parked`: either the worker sees the ticket before it parks, or we see it parked.
        self.ticket.0.store(u64::from(count) << 32, Ordering::SeqCst);
        let mut wanted = count - 1;
        for sleeper in &self.sleepers {
            if wanted == 0 {
                break;
            }
            wanted -= 1;
            if sleeper.0.parked.load(Ordering::SeqCst)
                && sleeper.0.parked.swap(false, Ordering::SeqCst)
                && let Some(thread) = sleeper.0.thread.get()
            {
                thread.unpark();
            }
        }
        self.claim_all(0);
        self.wait(count);
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Claims and runs chunks until none is left.
    fn claim_all(&self, thread: usize) {
        let mut ticket = self.ticket.0.load(Ordering::Acquire);
        loop {
            let (count, next) = ((ticket >> 32) as u32, ticket as u32);
            if next >= count {
                return;
            }
            match self.ticket.0.compare_exchange_weak(ticket, ticket + 1, Ordering::AcqRel, Ordering::Acquire) {
                Err(now) => ticket = now,
                Ok(_) => {
                    self.run_chunk(next as usize, thread, count);
                    ticket = self.ticket.0.load(Ordering::Acquire);
                }
            }
        }
    }

    fn run_chunk(&self, chunk: usize, thread: usize, count: u32) {
        // SAFETY: the chunk is claimed and not yet reported done, so `body` is that of its region and alive. Should
        // this be a chunk of a later region than the ticket was first read for, it is that region's function.
        let body = unsafe { &**self.body.get() };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(chunk, thread))) {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        }
        let finished = self.done.0.fetch_add(1, Ordering::SeqCst) + 1;
        // The region may be over now, and a later one may have begun: only fields that outlive a region are touched. The
        // handle stays where it is: a late worker that took it would leave the later region's last one nobody to wake.
        // A wake-up too many is harmless, since the caller looks again before it returns.
        if finished == count && self.caller_waits.load(Ordering::SeqCst) {
            #[cfg(test)]
            tests::delay_between_done_and_wake();
            if let Some(caller) = &*self.caller.lock().unwrap_or_else(PoisonError::into_inner) {
                caller.unpark();
            }
        }
    }

    /// Waits until all chunks are reported done.
    fn wait(&self, count: u32) {
        let is_done = || self.done.0.load(Ordering::SeqCst) == count;
        if spin(CALLER_SPIN, is_done) {
            return;
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        self.caller_waits.store(true, Ordering::SeqCst);
        while !is_done() {
            thread::park();
        }
        self.caller_waits.store(false, Ordering::SeqCst);
    }

    /// Whether a chunk is waiting to be claimed, or the pool is going down.
    fn has_work(&self) -> bool {
        let ticket = self.ticket.0.load(Ordering::SeqCst);
        (ticket as u32) < (ticket >> 32) as u32 || self.stop.load(Ordering::SeqCst)
    }

    /// The life of worker number `index`.
    fn work(&self, index: usize) {
        let me = &self.sleepers[index].0;
        me.thread.get_or_init(thread::current);
        while !self.stop.load(Ordering::SeqCst) {
            self.claim_all(index + 1);
            if spin(WORKER_SPIN, || self.has_work()) {
                continue;
            }
            me.parked.store(true, Ordering::SeqCst);
            while me.parked.load(Ordering::SeqCst) && !self.has_work() {
                thread::park();
            }
            me.parked.store(false, Ordering::SeqCst);
        }
    }
}

/// Spins until `ready` or the time is up; whether it is ready.
fn spin(limit: Duration, ready: impl Fn() -> bool) -> bool {
    if ready() {
        return true;
    }
    let start = Instant::now();
    loop {
        for _ in 0..SPINS_PER_LOOK {
            std::hint::spin_loop();
            if ready() {
                return true;
            }
        }
        if start.elapsed() > limit {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Set while a test wants late wakers.
    static LATE: AtomicBool = AtomicBool::new(false);

    /// Gives the caller time to begin another region before a worker of the old one wakes it.
    pub(super) fn delay_between_done_and_wake() {
        if LATE.load(Ordering::Relaxed) {
            thread::sleep(std::time::Duration::from_micros(300));
        }
    }

    #[test]
    fn a_late_worker_does_not_take_the_wake_up_of_the_next_region() {
        LATE.store(true, Ordering::Relaxed);
        let mut pool = Pool::new(4).expect("threads");
        for _ in 0..1500 {
            let sum = AtomicUsize::new(0);
            pool.parallel_for(6, &|chunk, _| {
                let mut x = chunk;
                for i in 0..20_000 {
                    x = std::hint::black_box(x ^ i);
                }
                sum.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 6);
        }
        LATE.store(false, Ordering::Relaxed);
    }

    #[test]
    fn every_chunk_runs_exactly_once() {
        for threads in [1, 2, 4] {
            let mut pool = Pool::new(threads).expect("threads");
            assert_eq!(pool.threads(), threads);
            for round in 0..2000 {
                let chunks = round % 37;
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                pool.parallel_for(chunks, &|chunk, thread| {
                    assert!(thread < threads);
                    counts[chunk].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn parked_workers_wake_and_slow_chunks_are_awaited() {
        let mut pool = Pool::new(3).expect("threads");
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(2));
            let sum = AtomicUsize::new(0);
            pool.parallel_for(6, &|chunk, _| {
                thread::sleep(Duration::from_micros(300));
                sum.fetch_add(chunk, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 15);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        for threads in [1, 2, 4] {
            let mut pool = Pool::new(threads).expect("threads");
            for _ in 0..50 {
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    pool.parallel_for(16, &|chunk, _| {
                        if chunk % 5 == 3 {
                            std::panic::panic_any(chunk);
                        }
                    });
                }));
                let payload = caught.expect_err("a chunk panicked");
                assert_eq!(payload.downcast_ref::<usize>().map(|c| c % 5), Some(3));
                let sum = AtomicUsize::new(0);
                pool.parallel_for(8, &|chunk, _| {
                    sum.fetch_add(chunk, Ordering::Relaxed);
                });
                assert_eq!(sum.into_inner(), 28);
            }
        }
    }

    #[test]
    fn callers_may_come_from_different_threads() {
        let mut pool = Pool::new(2).expect("threads");
        for _ in 0..20 {
            thread::scope(|s| {
                s.spawn(|| pool.parallel_for(4, &|_, _| thread::sleep(Duration::from_micros(100))));
            });
        }
    }
}
