//! Runs a property on generated inputs within a budget, and measures what each call costs.
//!
//! An input is made from a tape of numbers (`tape`), so that shortening the tape and lowering its numbers makes a
//! failing input smaller. `KURC_FUZZ_SECONDS` is how long each property runs (without it: a fixed number of inputs, the
//! same in every run), `KURC_FUZZ_SEED` where the random numbers start, `KURC_FUZZ_TRACE` a folder to which each
//! input is written before it is tried: what an overflow of the stack leaves behind.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::tape::Tape;

/// The most CPU time of one call. What a template may do before it is stopped takes 1.2 s on a slow, busy core.
const TIME: Duration = Duration::from_secs(2);

/// The most memory that one call may hold at a time, in bytes.
const MEMORY: i64 = 256 << 20;

/// Beyond this an allocation fails, so that a bomb ends the test instead of the machine.
const STOP: i64 = 4 << 30;

/// How long a failing input is made smaller.
const SHRINK: Duration = Duration::from_secs(20);

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread holds.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts a change; `false` when the thread holds too much.
fn count(change: i64) -> bool {
    // A thread that ends may free memory when its counters are gone already.
    let held = HELD.try_with(|held| {
        held.set(held.get() + change);
        held.get()
    });
    let held = held.unwrap_or(0);
    let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held)));
    change <= 0 || held < STOP
}

fn size(layout: usize) -> i64 {
    i64::try_from(layout).unwrap_or(i64::MAX / 2)
}

// SAFETY: all work is the system allocator's; counting touches nothing but two cells of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !count(size(layout.size())) {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-size(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        if !count(size(new) - size(layout.size())) {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.realloc(ptr, layout, new) }
    }
}

/// Nanoseconds this thread has been running: other work on the machine must not count as a hang.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Calls `work` and panics when it takes more time or memory than any call may.
pub(crate) fn bounded<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let held = HELD.with(Cell::get);
    PEAK.with(|peak| peak.set(held));
    let (wall, start) = (Instant::now(), cpu_time());
    let out = work();
    let memory = PEAK.with(Cell::get) - held;
    assert!(memory < MEMORY, "{what} holds {} MiB of memory", memory >> 20);
    if wall.elapsed() > TIME {
        let time = cpu_time().saturating_sub(start);
        assert!(time < TIME, "{what} takes {time:?}");
    }
    out
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Tries `property` on inputs made by `make`: `cases` of them, or as many as `KURC_FUZZ_SECONDS` allows.
pub(crate) fn run<T>(name: &str, cases: usize, make: fn(&mut Tape<'_>) -> T, property: fn(&T))
where
    T: std::fmt::Display,
{
    let seconds = variable("KURC_FUZZ_SECONDS").and_then(|s| s.parse().ok()).map(Duration::from_secs);
    let seed: u64 = variable("KURC_FUZZ_SEED").and_then(|s| s.parse().ok()).unwrap_or(1);
    let trace = variable("KURC_FUZZ_TRACE").map(|dir| PathBuf::from(dir).join(name));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tapes = proptest::collection::vec(proptest::num::u16::ANY, 0..600);
    let attempt = |numbers: &[u16]| {
        let input = make(&mut Tape::new(numbers));
        if let Some(path) = &trace {
            let _ = std::fs::write(path, input.to_string());
        }
        catch_unwind(AssertUnwindSafe(|| property(&input))).map_err(|panic| (panic, input))
    };
    let start = Instant::now();
    let mut done = 0;
    while seconds.map_or(done < cases, |limit| start.elapsed() < limit) {
        done += 1;
        let mut tree = tapes.new_tree(&mut runner).unwrap_or_else(|e| panic!("no input: {e}"));
        let Err(mut failure) = attempt(&tree.current()) else { continue };
        eprintln!("{name}: input {done} of seed {seed} fails:\n{}(end of the input)", failure.1);
        // Smaller inputs that fail as well; the messages of their panics are of no use.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let since = Instant::now();
        let mut more = tree.simplify();
        while more && since.elapsed() < SHRINK {
            match attempt(&tree.current()) {
                Err(smaller) => {
                    failure = smaller;
                    more = tree.simplify();
                }
                Ok(()) => more = tree.complicate(),
            }
        }
        std::panic::set_hook(hook);
        let (panic, input) = failure;
        eprintln!("{name}: made smaller it is\n{input}(end of the input)");
        // The smallest input's own message.
        let _ = catch_unwind(AssertUnwindSafe(|| property(&input)));
        resume_unwind(panic);
    }
    println!("{name}: {done} inputs of seed {seed} in {:.1?}", start.elapsed());
}
