//! One axis of a convolution. In: sizes, stride, padding, dilation. Out: [`Axis`] lists: which source cells a target cell
//! meets through which taps. Invariant: source cell = `target number · step + offset of the tap`, for both directions.

use super::super::Conv;

/// Target cells of one axis that use the same taps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// Kernel index and source offset of each tap, ascending in offset.
    pub(super) taps: Vec<(usize, isize)>,
    /// Source cells from one target cell to the next.
    pub(super) step: usize,
    /// Number of target cells.
    pub(super) count: usize,
    /// The first target cell, and from one to the next.
    pub(super) first: usize,
    pub(super) stride: usize,
}

impl Axis {
    /// The forward direction: targets are outputs, sources are inputs.
    pub(super) fn forward(c: &Conv, axis: usize) -> Axis {
        let offset = |k: usize| (k * c.dilation[axis]) as isize - c.pad[axis] as isize;
        Axis {
            taps: (0..c.kernel[axis]).map(|k| (k, offset(k))).collect(),
            step: c.stride[axis],
            count: c.output[axis],
            first: 0,
            stride: 1,
        }
    }

    /// The backward direction: targets are inputs, sources are outputs. Under a stride s, input cells fall into s classes
    /// (some of them empty), each tap belonging to one of them.
    pub(super) fn backward(c: &Conv, axis: usize) -> Vec<Axis> {
        let s = c.stride[axis];
        let classes = (0..s.min(c.input[axis])).map(|r| {
            // Input i = r + s·j meets output (i + pad − k·dilation) / s where that is whole.
            let reach = |k: usize| (r + c.pad[axis]) as isize - (k * c.dilation[axis]) as isize;
            let taps = (0..c.kernel[axis]).rev().filter(|k| reach(*k).rem_euclid(s as isize) == 0);
            Axis {
                taps: taps.map(|k| (k, reach(k).div_euclid(s as isize))).collect(),
                step: 1,
                count: (c.input[axis] - r).div_ceil(s),
                first: r,
                stride: s,
            }
        });
        classes.collect()
    }

    /// Source cells that targets `from..to` reach: first (maybe negative), and how many.
    pub(super) fn reach(&self, from: usize, to: usize) -> (isize, usize) {
        match (self.taps.first(), self.taps.last()) {
            (Some((_, low)), Some((_, high))) if to > from => {
                ((from * self.step) as isize + low, (to - 1 - from) * self.step + (high - low) as usize + 1)
            }
            _ => (0, 0),
        }
    }

    /// Source offset of a tap from the first.
    pub(super) fn relative(&self, tap: usize) -> usize {
        (self.taps[tap].1 - self.taps[0].1) as usize
    }

    /// Whether the taps lie side by side.
    pub(super) fn is_dense(&self) -> bool {
        self.taps.windows(2).all(|t| t[1].1 == t[0].1 + 1)
    }
}
