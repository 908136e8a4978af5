//! Checks library kernels against f64 references. In: a call, symbol values, inputs, and the expected output. Out: a
//! panic that says what differs. Invariants: every level of this processor runs, with 1, 2 and 4 threads, which must agree
//! in every bit; every buffer ends at an unmapped page, so that a stray access past the end crashes the test.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::par::Par;
use super::{Io, Level, LibKernel, Task, buffer_lens, prepare};
use crate::abi::rng;
use crate::plan::LibCall;
use crate::pool::Pool;

/// Values in ±1 that depend on the index and the seed only.
pub(crate) fn values(len: usize, seed: u32) -> Vec<f32> {
    let stream = rng::stream(seed, 1, 2);
    (0..len).map(|i| 2.0 * rng::uniform(stream, i as u32) - 1.0).collect()
}

/// Floats before a [`Guarded`] buffer that must keep their value, and that value.
const GUARD: usize = 64;
const CANARY: u32 = 0x7fc0_dead;

/// Memory whose last byte is followed by an unmapped page, with guard cells before it. It starts as NaN, so that using
/// what was not written shows.
pub(crate) struct Guarded {
    map: *mut libc::c_void,
    bytes: usize,
    start: *mut f32,
    len: usize,
}

impl Guarded {
    pub(crate) fn new(len: usize) -> Guarded {
        let bytes = ((len + GUARD) * 4).next_multiple_of(4096) + 4096;
        // SAFETY: a fresh mapping; its last page is closed.
        unsafe {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(std::ptr::null_mut(), bytes, prot, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            let last = map.cast::<u8>().add(bytes - 4096);
            assert_eq!(libc::mprotect(last.cast(), 4096, libc::PROT_NONE), 0);
            let start = last.cast::<f32>().sub(len);
            std::slice::from_raw_parts_mut(start.sub(GUARD), len + GUARD).fill(f32::from_bits(CANARY));
            Guarded { map, bytes, start, len }
        }
    }

    /// Holds a copy of `data`.
    pub(crate) fn of(data: &[f32]) -> Guarded {
        let mut new = Guarded::new(data.len());
        new.slice().copy_from_slice(data);
        new
    }

    /// Panics if a guard cell was written.
    pub(crate) fn check(&self) {
        // SAFETY: the guard cells lie in the mapping.
        let cells = unsafe { std::slice::from_raw_parts(self.start.sub(GUARD), GUARD) };
        assert!(cells.iter().all(|x| x.to_bits() == CANARY), "a buffer was written before its start");
    }

    pub(crate) fn slice(&mut self) -> &mut [f32] {
        // SAFETY: `len` floats before the closed page, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    pub(crate) fn ptr(&self) -> *mut f32 {
        self.start
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { libc::munmap(self.map, self.bytes) };
    }
}

/// Runs tasks last to first on `threads` threads, each taking the next when it is free.
pub(crate) fn backwards(threads: usize) -> impl Fn(usize, &Task<'_>) {
    move |tasks, task| {
        let next = AtomicUsize::new(0);
        let work = |worker| {
            loop {
                let t = next.fetch_add(1, Ordering::Relaxed);
                if t >= tasks {
                    break;
                }
                task(tasks - 1 - t, worker);
            }
        };
        if threads == 1 {
            work(0);
            return;
        }
        std::thread::scope(|s| {
            for w in 0..threads {
                let work = &work;
                s.spawn(move || work(w));
            }
        });
    }
}

/// Packs the operand that the kernel would keep, if there is one, and spoils the operand itself, which must not be read then.
pub(crate) fn packed(kernel: &dyn LibKernel, par: &Par<'_>, io: &Io<'_>, bufs: &mut [&mut Guarded]) -> Option<Guarded> {
    let packing = kernel.packing()?;
    let to = Guarded::new(packing.floats);
    // SAFETY: there is as much room as the kernel asks for.
    unsafe { kernel.pack(par, io, to.ptr()) };
    to.check();
    bufs[packing.operand].slice().fill(f32::NAN);
    Some(to)
}

/// Asserts that two results have the same bits.
pub(crate) fn assert_same_bits(a: &[f32], b: &[f32], what: &str) {
    let differs = a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits());
    assert!(differs.is_none() && a.len() == b.len(), "{what}: element {differs:?}");
}

/// Runs a call on the pool, with exactly the scratch memory that it asks for.
pub(crate) fn run(call: &LibCall, syms: &[u64], level: Level, pool: &mut Pool, inputs: &[&[f32]]) -> Vec<f32> {
    let kernel = prepare(call, syms, level).expect("valid sizes");
    let lens = buffer_lens(call, syms).expect("valid sizes");
    assert_eq!(inputs.len() + 1, lens.len());
    let mut bufs: Vec<Guarded> = lens.iter().map(|l| Guarded::new(*l)).collect();
    for (b, x) in bufs.iter_mut().zip(inputs) {
        b.slice().copy_from_slice(x);
    }
    let last = lens.len() - 1;
    bufs[last].slice().fill(f32::NAN);
    let scratch = kernel.scratch();
    let mut work = Guarded::new((scratch.shared + pool.threads() * scratch.local) / 4);
    work.slice().fill(f32::NAN);
    let ptrs: Vec<*mut f32> = bufs.iter().map(Guarded::ptr).collect();
    let threads = pool.threads();
    let pool = RefCell::new(pool);
    let par = |tasks: usize, task: &Task<'_>| pool.borrow_mut().parallel_for(tasks, task);
    let io = Io { bufs: &ptrs, scratch: work.ptr(), threads, packed: std::ptr::null() };
    // SAFETY: buffers and scratch have the lengths asked for.
    unsafe { kernel.run(&par, &io) };
    work.check();
    bufs.iter().for_each(Guarded::check);
    let result = bufs[last].slice().to_vec();
    if let Some(packed) = packed(&*kernel, &par, &io, &mut bufs.iter_mut().collect::<Vec<_>>()) {
        bufs[last].slice().fill(f32::NAN);
        // SAFETY: as above.
        unsafe { kernel.run(&par, &Io { packed: packed.ptr(), ..io }) };
        work.check();
        bufs.iter().for_each(Guarded::check);
        assert_same_bits(&result, bufs[last].slice(), "an operand packed before");
    }
    result
}

/// Compares a call with a reference within `tolerance` times `scale[i]` (the sum of absolute terms of each element).
pub(crate) fn check(call: &LibCall, syms: &[u64], inputs: &[&[f32]], want: &[f64], scale: &[f64], tolerance: f64) {
    let mut pools: Vec<Pool> = [1, 2, 4].into_iter().map(|t| Pool::new(t).expect("threads")).collect();
    for level in Level::available() {
        let got: Vec<Vec<f32>> = pools.iter_mut().map(|p| run(call, syms, level, p, inputs)).collect();
        for (i, g) in got[0].iter().enumerate() {
            let (g, w) = (f64::from(*g), want[i]);
            let close = (g - w).abs() <= tolerance * scale[i] + 1e-30 || (g.is_nan() && w.is_nan()) || g == w;
            assert!(close, "{level}: element {i} is {g}, expected {w} ({call:?}, {syms:?})");
        }
        for more in &got[1..] {
            let same = got[0].iter().zip(more).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{level}: threads change the result of {call:?}");
        }
    }
}
