//! The order of rows: one permutation per epoch on top of the order before it (kur-reference 6.6).
//!
//! Invariant: the order in epoch `e` is a function of the number of rows, the seed and `e` alone, so an interrupted
//! training finds its place again and threads do not matter.

use crate::abi::rng;

/// Key of the shuffling streams, apart from the small numbers of drawing operations ("shuf").
const SHUFFLE: u32 = 0x7368_7566;

/// The order of the rows of one data set.
#[derive(Clone, Debug)]
pub struct Order {
    rows: Vec<u32>,
    shuffled: bool,
    seed: u32,
    salt: u32,
    /// Number of permutations applied so far.
    epochs: u64,
}

impl Order {
    /// File order, for good.
    #[must_use]
    pub fn file(rows: usize) -> Order {
        Order { rows: identity(rows), shuffled: false, seed: 0, salt: 0, epochs: 0 }
    }

    /// A new permutation for each epoch. `salt` tells data sets of one run apart.
    #[must_use]
    pub fn shuffled(rows: usize, seed: u64, salt: u32) -> Order {
        Order { rows: identity(rows), shuffled: true, seed: fold_seed(seed), salt, epochs: 0 }
    }

    /// The order of epoch `epoch`, counted from 0.
    pub fn epoch(&mut self, epoch: u64) -> &[u32] {
        if self.shuffled {
            if self.epochs > epoch + 1 {
                self.rows = identity(self.rows.len());
                self.epochs = 0;
            }
            while self.epochs <= epoch {
                let step = u32::try_from(self.epochs & u64::from(u32::MAX)).unwrap_or(u32::MAX);
                shuffle(&mut self.rows, rng::stream(self.seed, SHUFFLE.wrapping_add(self.salt), step));
                self.epochs += 1;
            }
        }
        &self.rows
    }
}

/// The 32-bit key of a 64-bit seed; small seeds stay themselves.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "folding the halves is the purpose")]
pub const fn fold_seed(seed: u64) -> u32 {
    (seed ^ (seed >> 32)) as u32
}

fn identity(rows: usize) -> Vec<u32> {
    (0..u32::try_from(rows).unwrap_or(u32::MAX)).collect()
}

/// Fisher and Yates from the end. Positions come from 64 random bits by multiplication (Lemire 2019), whose bias is
/// below rows/2⁶⁴.
#[expect(clippy::cast_possible_truncation, reason = "the product's upper half is at most i")]
fn shuffle(rows: &mut [u32], stream: u32) {
    for i in (1..rows.len()).rev() {
        let draw = (i as u32).wrapping_mul(2);
        let bits = u64::from(rng::bits(stream, draw)) << 32 | u64::from(rng::bits(stream, draw.wrapping_add(1)));
        let j = (u128::from(bits) * (i as u128 + 1)) >> 64;
        rows.swap(i, j as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_a_new_permutation_and_can_be_found_again() {
        for rows in [1, 2, 20, 1001] {
            let mut order = Order::shuffled(rows, 7, 0);
            let first = order.epoch(0).to_vec();
            let third = order.epoch(2).to_vec();
            let mut sorted = third.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, identity(rows));
            if rows > 10 {
                assert_ne!(first, third);
            }
            assert_eq!(Order::shuffled(rows, 7, 0).epoch(2), third);
            assert_eq!(order.epoch(0), first, "going back starts over");
            if rows > 10 {
                assert_ne!(Order::shuffled(rows, 8, 0).epoch(0), first);
                assert_ne!(Order::shuffled(rows, 7, 1).epoch(0), first);
            }
        }
    }

    #[test]
    fn permutations_accumulate() {
        let mut step = identity(50);
        let mut order = Order::shuffled(50, 3, 0);
        for epoch in 0..4 {
            let mut p = identity(50);
            shuffle(&mut p, rng::stream(3, SHUFFLE, epoch));
            step = p.iter().map(|&i| step[i as usize]).collect();
            assert_eq!(order.epoch(u64::from(epoch)), step);
        }
    }

    #[test]
    fn positions_are_uniform() {
        let mut counts = [[0u32; 5]; 5];
        for epoch in 0..20_000 {
            let mut p = identity(5);
            shuffle(&mut p, rng::stream(1, SHUFFLE, epoch));
            for (i, x) in p.iter().enumerate() {
                counts[i][*x as usize] += 1;
            }
        }
        assert!(counts.iter().flatten().all(|c| (3750..4250).contains(c)), "{counts:?}");
    }

    #[test]
    fn file_order_stays() {
        assert_eq!(Order::file(4).epoch(9), [0, 1, 2, 3]);
    }
}
