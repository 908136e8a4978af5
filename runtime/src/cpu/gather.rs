//! Rows of a table by index (an embedding) and the gradient of the table. In: indices as floats, whose fraction is cut
//! off. Out: rows, or for every row of the table the sum of the gradients of its uses in the order of the indices.
//! Invariant: both calls refuse an index outside the table before anything is read through it.

use super::par::{Par, Shared, run_tasks};
use super::{Io, KernelFault, LibKernel};

/// Rows of a table at most: floats tell all whole numbers up to here apart.
pub(super) const MOST_ROWS: u64 = 1 << 24;

/// Elements of a chunk: about 30 µs.
const CHUNK: usize = 32 << 10;

/// The row that an index means.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against the rows first")]
fn row(index: f32, rows: usize) -> Option<usize> {
    let whole = index.trunc();
    (whole >= 0.0 && whole < rows as f32).then_some(whole as usize)
}

/// The first of `count` indices that is outside a table of `rows` rows.
///
/// # Safety
/// `indices` points to `count` floats.
unsafe fn outside(indices: *const f32, count: usize, rows: usize, batch: u64) -> Result<(), KernelFault> {
    for i in 0..count {
        // SAFETY: passed on to the caller.
        let index = unsafe { *indices.add(i) };
        if row(index, rows).is_none() {
            let per_sample = (count as u64 / batch.max(1)).max(1);
            let message = format!(
                "the index {index} is outside a table of {rows} rows, which are 0 to {}",
                rows.saturating_sub(1)
            );
            return Err(KernelFault { sample: i as u64 / per_sample, message });
        }
    }
    Ok(())
}

/// Rows of a table: buffers table, indices, y.
pub(super) struct Gather {
    count: usize,
    rows: usize,
    width: usize,
    batch: u64,
}

impl Gather {
    /// `syms` holds the values of the symbols, the batch first.
    pub(super) fn new(count: usize, rows: usize, width: usize, syms: &[u64]) -> Gather {
        Gather { count, rows, width, batch: syms.first().copied().unwrap_or(1) }
    }
}

impl LibKernel for Gather {
    unsafe fn check(&self, io: &Io<'_>) -> Result<(), KernelFault> {
        // SAFETY: the buffer has `count` elements.
        unsafe { outside(io.bufs[1], self.count, self.rows, self.batch) }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let chunk = (CHUNK / self.width.max(1)).max(1);
        let pointers = Shared((io.bufs[0], io.bufs[1], io.bufs[2]));
        run_tasks(par, self.count.div_ceil(chunk), &|task, _| {
            let (table, indices, y) = pointers.get();
            for i in task * chunk..((task + 1) * chunk).min(self.count) {
                // SAFETY: the index was checked; tasks write different rows of y.
                unsafe {
                    let Some(row) = row(*indices.add(i), self.rows) else { continue };
                    std::ptr::copy_nonoverlapping(table.add(row * self.width), y.add(i * self.width), self.width);
                }
            }
        });
    }
}

/// The gradient of the table: buffers indices, gy, gtable.
pub(super) struct GatherGrad {
    count: usize,
    rows: usize,
    width: usize,
    batch: u64,
}

impl GatherGrad {
    /// As [`Gather::new`].
    pub(super) fn new(count: usize, rows: usize, width: usize, syms: &[u64]) -> GatherGrad {
        GatherGrad { count, rows, width, batch: syms.first().copied().unwrap_or(1) }
    }
}

impl LibKernel for GatherGrad {
    unsafe fn check(&self, io: &Io<'_>) -> Result<(), KernelFault> {
        // SAFETY: the buffer has `count` elements.
        unsafe { outside(io.bufs[0], self.count, self.rows, self.batch) }
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        // Each task owns rows of the table and looks at all indices, so the order of a row's sum is that of the indices.
        // Few tasks: each pays for reading all the indices.
        let chunk = (CHUNK / self.width.max(1)).max(self.rows.div_ceil(16)).max(1);
        let pointers = Shared((io.bufs[0], io.bufs[1], io.bufs[2]));
        run_tasks(par, self.rows.div_ceil(chunk), &|task, _| {
            let (indices, gy, table) = pointers.get();
            let (first, last) = (task * chunk, ((task + 1) * chunk).min(self.rows));
            // SAFETY: rows `first..last` of the table belong to this task alone; all lie within the buffers.
            unsafe {
                std::slice::from_raw_parts_mut(table.add(first * self.width), (last - first) * self.width).fill(0.0);
                for i in 0..self.count {
                    let Some(row) = row(*indices.add(i), self.rows).filter(|r| (first..last).contains(r)) else {
                        continue;
                    };
                    let from = std::slice::from_raw_parts(gy.add(i * self.width), self.width);
                    let to = std::slice::from_raw_parts_mut(table.add(row * self.width), self.width);
                    for (t, f) in to.iter_mut().zip(from) {
                        *t += f;
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, values};
    use super::super::{Io, Level, prepare};
    use crate::dim::Dim;
    use crate::plan::LibCall;

    #[test]
    fn rows_are_looked_up_and_their_gradients_summed() {
        for (count, rows, width) in [(1, 1, 1), (7, 3, 5), (33, 17, 1), (64, 5000, 33), (700, 3, 600)] {
            let indices: Vec<f32> =
                (0..count).map(|i| (i * 7 % rows) as f32 + if i % 2 == 0 { 0.5 } else { 0.0 }).collect();
            let (table, gy) = (values(rows * width, 1), values(count * width, 2));
            let dim = Dim::constant(count as u64);
            let (r, w) = (rows as u64, width as u64);
            let want: Vec<f64> =
                indices.iter().flat_map(|i| &table[*i as usize * width..][..width]).map(|x| f64::from(*x)).collect();
            let scale = vec![0.0; want.len()];
            check(&LibCall::Gather { count: dim, rows: r, width: w }, &[1], &[&table, &indices], &want, &scale, 0.0);
            let mut want = vec![0.0; rows * width];
            for (i, index) in indices.iter().enumerate() {
                for c in 0..width {
                    want[*index as usize * width + c] += f64::from(gy[i * width + c]);
                }
            }
            let scale = vec![count as f64; want.len()];
            let call = LibCall::GatherGrad { count: dim, rows: r, width: w };
            check(&call, &[1], &[&indices, &gy], &want, &scale, 1e-6);
        }
    }

    #[test]
    fn an_index_outside_the_table_is_a_fault_of_its_sample() {
        let n = Dim::batch();
        let call = LibCall::Gather { count: n.times(Dim::constant(3)), rows: 4, width: 2 };
        for level in Level::available() {
            let kernel = prepare(&call, &[2], level).expect("valid");
            for bad in [4.0, -1.0, f32::NAN, f32::INFINITY] {
                let mut table = [0.0; 8];
                let mut indices = [0.0, 3.9, 1.0, -0.5, bad, 9.0];
                let mut y = [7.0; 12];
                let bufs = [table.as_mut_ptr(), indices.as_mut_ptr(), y.as_mut_ptr()];
                // SAFETY: the buffers are as long as the call says.
                let fault = unsafe {
                    kernel.check(&Io {
                        bufs: &bufs,
                        scratch: std::ptr::null_mut(),
                        threads: 1,
                        packed: std::ptr::null(),
                    })
                };
                let fault = fault.expect_err("outside");
                assert_eq!(fault.sample, 1);
                assert_eq!(fault.message, format!("the index {bad} is outside a table of 4 rows, which are 0 to 3"));
            }
        }
        assert!(prepare(&LibCall::Gather { count: n, rows: 1 << 25, width: 1 }, &[2], Level::Baseline).is_err());
    }
}
