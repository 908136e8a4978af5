//! The roofline: how fast this machine could do a launch at most. In: an executor with its threads. Out: [`Peaks`], measured
//! now. Invariant: each figure is the best of several tries, because a neighbour's load only ever takes away.

use std::fmt;
use std::time::Instant;

use super::{ExecError, Executor, Work, map};
use crate::cpu::{Level, probe};

/// Tries of each figure.
const TRIES: usize = 12;
/// Rounds of multiply-adds in a try, about a millisecond.
const ROUNDS: usize = 200_000;
/// Sizes where the system does not tell them.
const L2: u64 = 512 << 10;
/// As [`L2`].
const L3: u64 = 16 << 20;
/// Bytes streamed through in the main memory at most, however large the caches are.
const MOST: u64 = 512 << 20;

/// A level of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Memory {
    /// The cache that each core has to itself.
    L2,
    /// The last cache, which cores share.
    L3,
    /// Main memory.
    Dram,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Memory::L2 => "L2",
            Memory::L3 => "L3",
            Memory::Dram => "DRAM",
        })
    }
}

/// What limits a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Multiply-adds.
    Arithmetic,
    /// The level of memory that holds what the step touches.
    Traffic(Memory),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Arithmetic => f.write_str("flops"),
            Limit::Traffic(memory) => memory.fmt(f),
        }
    }
}

/// What all threads together reach at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Multiply-adds of the level's vectors, counted as two operations each, a second.
    pub flops: f64,
    /// Bytes read and written a second, in each [`Memory`].
    pub bytes: [f64; 3],
    /// Bytes that L2 (of all threads) and L3 hold.
    pub caches: [u64; 2],
}

impl Peaks {
    /// The smallest memory that holds so many bytes.
    #[must_use]
    pub fn memory(&self, working_set: u64) -> Memory {
        match self.caches {
            [l2, _] if working_set <= l2 => Memory::L2,
            [_, l3] if working_set <= l3 => Memory::L3,
            _ => Memory::Dram,
        }
    }

    /// Bytes a second of a memory.
    #[must_use]
    pub fn speed(&self, memory: Memory) -> f64 {
        self.bytes[memory as usize]
    }

    /// Seconds that some work takes at least in a step whose memory lies in `memory`, and what limits it.
    #[must_use]
    pub fn least(&self, work: Work, memory: Memory) -> (f64, Limit) {
        let (arithmetic, traffic) = (work.flops / self.flops, work.bytes() / self.speed(memory));
        if arithmetic >= traffic { (arithmetic, Limit::Arithmetic) } else { (traffic, Limit::Traffic(memory)) }
    }
}

impl Executor {
    /// Measures the peaks with all threads of this executor; takes about half a second.
    ///
    /// # Errors
    /// No memory for the streams.
    pub fn peaks(&mut self) -> Result<Peaks, ExecError> {
        let threads = self.pool.threads();
        let caches = [cache_bytes(2).unwrap_or(L2) * threads as u64, cache_bytes(3).unwrap_or(L3)];
        // A cache also holds other things, and is not full to the brim.
        let l2 = self.stream_speed(caches[0] / 2, 64)?;
        let l3 = self.stream_speed((caches[1] / 4).max(caches[0] * 2).min(caches[1] / 2), 4)?;
        let dram = self.stream_speed((caches[1] * 4).min(MOST), 1)?;
        Ok(Peaks { flops: self.arithmetic_speed(), bytes: [l2, l3, dram], caches })
    }

    fn arithmetic_speed(&mut self) -> f64 {
        let (threads, chains) = (self.pool.threads(), probe::chains(self.level));
        let lanes = match self.level {
            Level::Baseline => 4,
            Level::Avx2 => 8,
            Level::Avx512 => 16,
        };
        let flops = (probe::flops_of_round(lanes) * ROUNDS * threads) as f64;
        let mut least = f64::INFINITY;
        for _ in 0..TRIES {
            let start = Instant::now();
            self.pool.parallel_for(threads, &|_, _| {
                let mut end = [0.0; 16];
                // SAFETY: an executor has a level that the processor has; there are 16 floats.
                unsafe { chains(end.as_mut_ptr(), ROUNDS) };
            });
            least = least.min(start.elapsed().as_secs_f64());
        }
        flops / least
    }

    /// Bytes a second through a buffer of so many bytes, a part of it for each thread, so many times over in each try.
    fn stream_speed(&mut self, bytes: u64, times: usize) -> Result<f64, ExecError> {
        let threads = self.pool.threads();
        let region = map(bytes)?;
        let len = region.len() / 4 / threads;
        let start = region.ptr() as usize;
        let stream = probe::stream(self.level);
        let mut least = f64::INFINITY;
        // The first try also makes the pages.
        for _ in 0..=TRIES {
            let begin = Instant::now();
            self.pool.parallel_for(threads, &|part, _| {
                let x = (start as *mut f32).wrapping_add(part * len);
                for _ in 0..times {
                    // SAFETY: the level as above; parts lie in the region one behind the other.
                    unsafe { stream(x, len) };
                }
            });
            least = least.min(begin.elapsed().as_secs_f64());
        }
        Ok((8 * len * threads * times) as f64 / least)
    }
}

/// Size of the data cache of a level, of the first core.
fn cache_bytes(level: u32) -> Option<u64> {
    (0..8).find_map(|i| {
        let read = |what: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{what}");
            std::fs::read_to_string(path).ok().map(|t| t.trim().to_owned())
        };
        if read("level")?.parse() != Ok(level) || read("type")? == "Instruction" {
            return None;
        }
        let size = read("size")?;
        let (number, unit) = size.split_at(size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len()));
        let scale = match unit {
            "" => 1,
            "K" => 1 << 10,
            "M" => 1 << 20,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(scale).filter(|n| *n > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_arithmetic_and_traffic_limits() {
        let peaks = Peaks { flops: 100.0, bytes: [40.0, 20.0, 10.0], caches: [1000, 5000] };
        assert_eq!(peaks.memory(1000), Memory::L2);
        assert_eq!(peaks.memory(1001), Memory::L3);
        assert_eq!(peaks.memory(5001), Memory::Dram);
        let work = Work { flops: 200.0, read: 30.0, written: 20.0 };
        assert_eq!(peaks.least(work, Memory::L2), (2.0, Limit::Arithmetic));
        assert_eq!(peaks.least(work, Memory::Dram), (5.0, Limit::Traffic(Memory::Dram)));
    }

    #[test]
    fn caches_have_sizes() {
        // Some virtual machines do not tell; what is told makes sense.
        for level in [2, 3] {
            assert!(cache_bytes(level).is_none_or(|n| (1 << 14..1 << 34).contains(&n)));
        }
        assert_eq!(cache_bytes(9), None);
    }
}
