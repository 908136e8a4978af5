//! Joining, cutting and padding along one axis. In: tensors seen as `[outer, axis, inner]`. Out: a tensor of which each
//! outer row is made of whole runs of the inputs' rows, and zeros. Invariant: runs lie within the rows of both sides.

use super::par::{Par, Shared, run_tasks};
use super::{CallError, Io, LibKernel};

/// Elements of a chunk: about 30 µs.
const CHUNK: usize = 128 << 10;

/// A run of elements that each outer row of the result takes from one input.
struct Strip {
    /// Elements of a row of the input.
    row: usize,
    /// First element in it.
    from: usize,
    /// First element in the row of the result.
    to: usize,
    /// Elements.
    len: usize,
}

/// Copies strips; buffers: one input per strip, then the result.
pub(super) struct Copies {
    outer: usize,
    /// Elements of a row of the result.
    row: usize,
    strips: Vec<Strip>,
    /// Whether the strips leave cells of the result free, which become 0.
    gaps: bool,
}

impl Copies {
    /// The parts one behind the other; each is `[outer, part, inner]`.
    pub(super) fn concat(outer: usize, inner: usize, parts: &[usize]) -> Copies {
        let mut strips = Vec::with_capacity(parts.len());
        let mut to = 0;
        for part in parts {
            let len = part * inner;
            strips.push(Strip { row: len, from: 0, to, len });
            to += len;
        }
        Copies { outer, row: to, strips, gaps: false }
    }

    /// `[outer, size, inner]` to `[outer, len, inner]`, from `start` on.
    ///
    /// # Errors
    /// The part reaches beyond the axis.
    pub(super) fn slice(
        outer: usize,
        inner: usize,
        size: usize,
        start: usize,
        len: usize,
    ) -> Result<Copies, CallError> {
        within(size, start, len)?;
        let strip = Strip { row: size * inner, from: start * inner, to: 0, len: len * inner };
        Ok(Copies { outer, row: len * inner, strips: vec![strip], gaps: false })
    }

    /// `[outer, len, inner]` into zeros of `[outer, size, inner]`, at `start`.
    ///
    /// # Errors
    /// As [`Copies::slice`].
    pub(super) fn pad(outer: usize, inner: usize, size: usize, start: usize, len: usize) -> Result<Copies, CallError> {
        within(size, start, len)?;
        let strip = Strip { row: len * inner, from: 0, to: start * inner, len: len * inner };
        Ok(Copies { outer, row: size * inner, strips: vec![strip], gaps: true })
    }
}

fn within(size: usize, start: usize, len: usize) -> Result<(), CallError> {
    match start.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(CallError::Senseless(format!("{len} cells from {start} on do not lie in an axis of {size}"))),
    }
}

impl LibKernel for Copies {
    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let per_task = (CHUNK / self.row.max(1)).max(1);
        let bufs = Shared(io.bufs.as_ptr());
        run_tasks(par, self.outer.div_ceil(per_task), &|task, _| {
            let bufs = bufs.get();
            // SAFETY: there is a buffer per strip and one for the result, as long as their rows say; tasks have
            // different rows of the result.
            unsafe {
                let out = *bufs.add(self.strips.len());
                for o in task * per_task..((task + 1) * per_task).min(self.outer) {
                    let row = out.add(o * self.row);
                    if self.gaps {
                        std::slice::from_raw_parts_mut(row, self.row).fill(0.0);
                    }
                    for (b, s) in self.strips.iter().enumerate() {
                        let from = (*bufs.add(b)).add(o * s.row + s.from);
                        std::ptr::copy_nonoverlapping(from, row.add(s.to), s.len);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, values};
    use crate::dim::Dim;
    use crate::plan::LibCall;

    const SIZES: [usize; 5] = [1, 3, 7, 17, 33];

    #[test]
    fn parts_are_joined_and_cut_again() {
        for outer in [1, 7, 1000] {
            for inner in [1, 33] {
                let inputs: Vec<Vec<f32>> =
                    SIZES.iter().map(|s| values(outer * s * inner, u32::try_from(*s).expect("small"))).collect();
                let mut want = Vec::new();
                for o in 0..outer {
                    for (x, s) in inputs.iter().zip(SIZES) {
                        want.extend(x[o * s * inner..][..s * inner].iter().map(|v| f64::from(*v)));
                    }
                }
                let (o, i) = (Dim::batch(), Dim::from(inner));
                let call = LibCall::Concat { outer: o, inner: i, parts: SIZES.map(Dim::from).to_vec() };
                let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                let exact = vec![0.0; want.len()];
                check(&call, &[outer as u64], &slices, &want, &exact, 0.0);

                let whole: Vec<f32> = want.iter().map(|v| *v as f32).collect();
                let size: usize = SIZES.iter().sum();
                let mut start = Vec::new();
                for (x, s) in inputs.iter().zip(SIZES) {
                    let part: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
                    let (size, len) = (Dim::from(size), Dim::from(s));
                    let call = LibCall::Slice { outer: o, inner: i, size, start: start.clone(), len };
                    check(&call, &[outer as u64], &[&whole], &part, &vec![0.0; part.len()], 0.0);
                    let call = LibCall::Pad { outer: o, inner: i, size, start: start.clone(), len };
                    let begin: u64 = start.iter().map(|d: &Dim| d.eval(&[])).sum();
                    let total = size.eval(&[]);
                    let kept = |k: usize| (begin..begin + s as u64).contains(&((k / inner) as u64 % total));
                    let padded: Vec<f64> = (0..want.len()).map(|k| if kept(k) { want[k] } else { 0.0 }).collect();
                    check(&call, &[outer as u64], &[x], &padded, &exact, 0.0);
                    start.push(len);
                }
            }
        }
    }

    #[test]
    fn a_part_beyond_the_axis_is_refused() {
        let dims = |size: u64, start: u64, len: u64| (Dim::from(size), vec![Dim::from(start)], Dim::from(len));
        for (size, start, len) in [dims(5, 3, 3), dims(5, u64::MAX >> 8, 1), dims(0, 0, 1)] {
            let (outer, inner) = (Dim::ONE, Dim::ONE);
            let call = LibCall::Slice { outer, inner, size, start, len };
            assert!(super::super::prepare(&call, &[1], super::super::Level::Baseline).is_err());
        }
    }
}
