//! How many bytes a library call has to move. In: a call and the values of its symbols. Out: bytes read and written.
//! Invariant: what the call needs of each buffer counts once, however often a kernel goes over it.

use super::{CallError, buffer_lens};
use crate::dim::Dim;
use crate::plan::{LibCall, RnnCell, RnnGeometry};

/// Bytes read and bytes written.
///
/// # Errors
/// As [`buffer_lens`].
pub fn traffic(call: &LibCall, syms: &[u64]) -> Result<(f64, f64), CallError> {
    let lens: Vec<f64> = buffer_lens(call, syms)?.into_iter().map(|l| l as f64).collect();
    let Some((written, operands)) = lens.split_last() else { return Ok((0.0, 0.0)) };
    // One part of the tape of a recurrent layer.
    let part = |g: &RnnGeometry| Dim::product(&[g.batch, g.steps, Dim::constant(g.units)]).eval(syms) as f64;
    let read = match call {
        // The rows that are asked for, of a table that may be far larger.
        LibCall::Gather { .. } => lens[1] + lens[2],
        LibCall::Slice { .. } | LibCall::Part(..) => *written,
        // The states, and for a GRU the gate that resets them.
        LibCall::RnnGradWeight(g) => part(g) * if g.cell == RnnCell::Lstm { 1.0 } else { 2.0 } + lens[1],
        LibCall::RnnGradBias(g) => part(g) + lens[1],
        _ => operands.iter().sum(),
    };
    Ok((4.0 * read, 4.0 * written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{CellActivation, PartOf, StepGeometry, StepPick};

    #[test]
    fn what_is_not_needed_does_not_count() {
        let [n, t, w] = [4, 5, 6].map(Dim::constant);
        let product = LibCall::MatMul { batch: Dim::ONE, m: n, n: t, k: w, ta: true, tb: false };
        assert_eq!(traffic(&product, &[1]), Ok((4.0 * 54.0, 4.0 * 20.0)));
        let rows = LibCall::Gather { count: n, rows: 1000, width: 6 };
        assert_eq!(traffic(&rows, &[1]), Ok((4.0 * 28.0, 4.0 * 24.0)));
        let part = LibCall::Part(
            StepGeometry { batch: n, steps: t, size: w },
            PartOf { part: 0, parts: 3, steps: StepPick::Last },
        );
        assert_eq!(traffic(&part, &[1]), Ok((4.0 * 24.0, 4.0 * 24.0)));
        let geometry = |cell| RnnGeometry {
            cell,
            inner: CellActivation::Sigmoid,
            outer: CellActivation::Tanh,
            reverse: false,
            batch: n,
            steps: t,
            units: 6,
        };
        let lstm = LibCall::RnnGradWeight(geometry(RnnCell::Lstm));
        assert_eq!(traffic(&lstm, &[1]), Ok((4.0 * (120.0 + 480.0), 4.0 * 144.0)));
        let gru = LibCall::RnnGradWeight(geometry(RnnCell::Gru));
        assert_eq!(traffic(&gru, &[1]), Ok((4.0 * (240.0 + 360.0), 4.0 * 108.0)));
    }
}
