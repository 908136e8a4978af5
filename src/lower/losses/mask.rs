//! Which steps of an output are real, where samples differ in length: the rest is padding, of which nothing may reach a
//! loss, a metric or a gradient.

use kur_runtime::dim::Dim;

use crate::ir::graph::{Builder, NodeId};
use crate::ir::kernel::ScalarOp;
use crate::ir::op::Op;

/// The real steps of the samples of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mask {
    /// 1 at a real step, else 0: `[n, t]`.
    real: NodeId,
    /// Number of real steps of each sample: `[n]`.
    lengths: NodeId,
}

impl Mask {
    /// The first `lengths` steps of each sample, where there are `steps` with the padding.
    pub(super) fn new(b: &mut Builder<'_>, lengths: NodeId, steps: Dim) -> Mask {
        let positions = b.shaped(Op::Positions, &[], vec![steps]);
        let column = b.reshape(lengths, vec![Dim::batch(), Dim::ONE]);
        let real = b.map(ScalarOp::Lt, &[positions, column]);
        Mask { real, lengths }
    }

    /// `x` of shape `[n, t, …]` at real steps, a constant at the others. A choice and no product: whatever stands in the
    /// padding, 0 · ∞ included, stays there, on the way forward and for the gradient.
    pub(super) fn keep(self, b: &mut Builder<'_>, x: NodeId, otherwise: f64) -> NodeId {
        let mut shape = b.shape(x);
        shape[2..].fill(Dim::ONE);
        let real = b.reshape(self.real, shape);
        let otherwise = b.constant(otherwise);
        b.map(ScalarOp::Select, &[real, x, otherwise])
    }

    /// The mean over samples of the mean over each one's real places; a sample without steps counts as 0. So the value
    /// depends neither on the size of the batch nor on which samples share one.
    pub(super) fn mean(self, b: &mut Builder<'_>, each: NodeId) -> NodeId {
        let shape = b.shape(each);
        let kept = self.keep(b, each, 0.0);
        let axes: Vec<usize> = (1..shape.len()).collect();
        let sums = b.sum(kept, &axes);
        let sums = b.reshape(sums, vec![Dim::batch()]);
        let one = b.constant(1.0);
        let steps = b.map(ScalarOp::Max, &[self.lengths, one]);
        let places = b.size(Dim::product(&shape[2..]));
        let count = b.mul(steps, places);
        let means = b.div(sums, count);
        b.mean_all(means)
    }
}
