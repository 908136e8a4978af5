//! Pooling and its gradients. In: a geometry. Out: a [`LibKernel`]. Invariants: padding never wins a maximum and does not
//! count in an average; the first maximum in row-major window order takes the gradient (a NaN is a maximum); overlapping
//! windows add in the order of the outputs, within one sample and thread.
//!
//! Maxima of 2 × 2 cells, the usual windows, read and write every cell once.

use super::par::{Par, Shared, run_tasks};
use super::simd::{Simd, multiversion};
use super::{Conv, Io, Level, LibKernel};

/// Window cells times channels of a chunk: about 30 µs.
const CHUNK: usize = 128 << 10;

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolOp {
    Max,
    MaxGrad,
    Avg,
    AvgGrad,
}

/// A pooling kernel.
pub(crate) struct Pooling {
    conv: Conv,
    op: PoolOp,
    /// Windows of 2 × 2 cells that do not overlap.
    pairs: bool,
    /// Forward, and where windows do not overlap: output rows of a chunk. Otherwise: samples of a chunk.
    chunk: usize,
    units: usize,
    chunks: usize,
    kernel: unsafe fn(&Part<'_>),
}

/// Some output rows, or some samples.
struct Part<'a> {
    conv: &'a Conv,
    op: PoolOp,
    pairs: bool,
    from: usize,
    to: usize,
    bufs: &'a [*mut f32],
}

impl Pooling {
    pub(crate) fn new(conv: Conv, op: PoolOp, level: Level) -> Pooling {
        let [d, h, w] = conv.output;
        let forward = matches!(op, PoolOp::Max | PoolOp::Avg);
        let pairs = matches!(op, PoolOp::Max | PoolOp::MaxGrad) && are_pairs(&conv);
        let row = w * conv.kernel.iter().product::<usize>() * conv.cin;
        let (units, work) = if forward || pairs { (conv.batch * d * h, row) } else { (conv.batch, row * d * h) };
        let chunk = (CHUNK / work.max(1)).max(1);
        // A backward pass over no windows still clears its output.
        let chunks = if (forward || pairs) && row == 0 { 0 } else { units.div_ceil(chunk) };
        Pooling { conv, op, pairs, chunk, units, chunks, kernel: part_for(level) }
    }
}

impl LibKernel for Pooling {
    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let bufs = Shared(io.bufs);
        run_tasks(par, self.chunks, &|chunk, _| {
            let from = chunk * self.chunk;
            let to = (from + self.chunk).min(self.units);
            // SAFETY: passed on to the caller; chunks write different rows or samples.
            unsafe {
                (self.kernel)(&Part { conv: &self.conv, op: self.op, pairs: self.pairs, from, to, bufs: bufs.get() })
            };
        });
    }
}

/// Whether windows are 2 × 2 cells side by side, all inside the input.
fn are_pairs(c: &Conv) -> bool {
    let [d, h, w] = c.output;
    let windows = c.kernel == [1, 2, 2] && c.stride == [1, 2, 2] && c.pad == [0; 3];
    // A backward pass without windows clears its output; that is left to the general case.
    windows && c.input[0] == d && d * h * w > 0 && 2 * h <= c.input[1] && 2 * w <= c.input[2]
}

multiversion! {
    fn part_for = part(p: &Part<'_>)
}

#[inline(always)]
unsafe fn part<S: Simd>(p: &Part<'_>) {
    let [d, h, _] = p.conv.output;
    // SAFETY: passed on to the caller; rows and samples lie within the buffers.
    unsafe {
        match p.op {
            PoolOp::Max if p.pairs => {
                for row in p.from..p.to {
                    pair_row::<S, false>(p, row / h, row % h);
                }
            }
            PoolOp::MaxGrad if p.pairs => {
                for row in p.from..p.to {
                    pair_row::<S, true>(p, row / h, row % h);
                }
            }
            PoolOp::Max | PoolOp::Avg => {
                for row in p.from..p.to {
                    output_row::<S>(p, row / (d * h), row / h % d, row % h);
                }
            }
            PoolOp::MaxGrad | PoolOp::AvgGrad => {
                let len = p.conv.input.iter().product::<usize>() * p.conv.cin;
                let gx = p.bufs[p.bufs.len() - 1];
                for sample in p.from..p.to {
                    std::ptr::write_bytes(gx.add(sample * len), 0, len);
                    for row in 0..d * h {
                        output_row::<S>(p, sample, row / h, row % h);
                    }
                }
            }
        }
    }
}

/// One row of windows of 2 × 2 cells: their maxima, or the gradient to both rows of the input.
#[inline(always)]
unsafe fn pair_row<S: Simd, const GRAD: bool>(p: &Part<'_>, plane: usize, oh: usize) {
    let c = p.conv;
    let [_, height, width] = c.input;
    let [_, oh_all, ow] = c.output;
    let n = c.cin;
    let (x, y) = (((plane * height) + 2 * oh) * width * n, (plane * oh_all + oh) * ow * n);
    // SAFETY: windows lie inside the input; the last vector of channels is masked.
    unsafe {
        for w in 0..ow {
            let (x, y) = (x + 2 * w * n, y + w * n);
            let whole = n - n % S::LANES;
            for i in (0..whole).step_by(S::LANES) {
                pair::<S, GRAD, false>(p, x + i, y + i, S::LANES);
            }
            if whole < n {
                pair::<S, GRAD, true>(p, x + whole, y + whole, n - whole);
            }
        }
        if GRAD {
            // Cells that no window covers: the rest of both rows, and below the last windows all other rows.
            let gx = p.bufs[3];
            let rest = (width - 2 * ow) * n;
            for row in 0..2 {
                gx.add(x + (row * width + 2 * ow) * n).write_bytes(0, rest);
            }
            if oh + 1 == oh_all {
                gx.add(x + 2 * width * n).write_bytes(0, (height - 2 * oh_all) * width * n);
            }
        }
    }
}

/// One vector of channels of a window of 2 × 2 cells.
#[inline(always)]
unsafe fn pair<S: Simd, const GRAD: bool, const MASKED: bool>(p: &Part<'_>, x: usize, y: usize, lanes: usize) {
    let n = p.conv.cin;
    let row = p.conv.input[2] * n;
    let cells = [0, n, row, row + n];
    // SAFETY: passed on to the caller.
    unsafe {
        let mask = S::mask(lanes);
        let load = |at: *mut f32| if MASKED { S::load_masked(at, mask) } else { S::load(at) };
        let store = |at: *mut f32, v: S::V| {
            if MASKED {
                S::store_masked(at, mask, v);
            } else {
                S::store(at, v);
            }
        };
        let x = [p.bufs[0].add(x), p.bufs[p.bufs.len() - 1].add(x)];
        if GRAD {
            let zero = S::splat(0.0);
            let (best, mut rest) = (load(p.bufs[1].add(y)), load(p.bufs[2].add(y)));
            for cell in cells {
                let v = load(x[0].add(cell));
                // Not equal and no NaN: what is left goes on to the next cell.
                let miss = S::select_eq(v, best, zero, S::splat(1.0));
                let miss = S::select_eq(v, v, miss, zero);
                store(x[1].add(cell), S::select_eq(miss, zero, rest, zero));
                rest = S::select_eq(miss, zero, zero, rest);
            }
        } else {
            let mut top = load(x[0]);
            for cell in &cells[1..] {
                let v = load(x[0].add(*cell));
                top = S::keep_nan(v, S::max(v, top));
            }
            store(p.bufs[1].add(y), top);
        }
    }
}

/// Input cells of a window that are no padding, along one axis.
#[inline(always)]
fn cells(c: &Conv, axis: usize, o: usize) -> (usize, usize) {
    let start = o * c.stride[axis];
    let from = start.saturating_sub(c.pad[axis]);
    let to = (start + c.kernel[axis]).saturating_sub(c.pad[axis]).min(c.input[axis]);
    (from.min(to), to)
}

/// One row of output cells.
#[inline(always)]
unsafe fn output_row<S: Simd>(p: &Part<'_>, sample: usize, od: usize, oh: usize) {
    let c = p.conv;
    let (ds, hs) = (cells(c, 0, od), cells(c, 1, oh));
    for ow in 0..c.output[2] {
        let y = ((sample * c.output[0] + od) * c.output[1] + oh) * c.output[2] + ow;
        let window = Window { sample, ranges: [ds, hs, cells(c, 2, ow)], y: y * c.cin };
        let mut channel = 0;
        // SAFETY: windows are clipped to the input; the last vector of channels is masked.
        unsafe {
            while channel < c.cin {
                if channel + S::LANES <= c.cin {
                    window_cells::<S, false>(p, &window, channel);
                } else {
                    window_cells::<S, true>(p, &window, channel);
                }
                channel += S::LANES;
            }
        }
    }
}

struct Window {
    sample: usize,
    /// Input cells from and to on each axis.
    ranges: [(usize, usize); 3],
    /// Element of the output cell's first channel.
    y: usize,
}

/// One vector of channels of one window.
#[inline(always)]
unsafe fn window_cells<S: Simd, const MASKED: bool>(p: &Part<'_>, window: &Window, channel: usize) {
    let c = p.conv;
    let [(d0, d1), (h0, h1), (w0, w1)] = window.ranges;
    // SAFETY: passed on to the caller.
    unsafe {
        let mask = S::mask(S::LANES.min(c.cin - channel));
        let load = |at: *mut f32| if MASKED { S::load_masked(at, mask) } else { S::load(at) };
        let store = |at: *mut f32, v: S::V| {
            if MASKED {
                S::store_masked(at, mask, v);
            } else {
                S::store(at, v);
            }
        };
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        let count = ((d1 - d0) * (h1 - h0) * (w1 - w0)).max(1);
        let share = S::splat(1.0 / count as f32);
        let out = window.y + channel;
        // Forward: what is gathered. Backward: what is still to be given.
        let (mut acc, best) = match p.op {
            PoolOp::Max => (S::splat(f32::NEG_INFINITY), zero),
            PoolOp::Avg => (zero, zero),
            PoolOp::MaxGrad => (load(p.bufs[2].add(out)), load(p.bufs[1].add(out))),
            PoolOp::AvgGrad => (S::mul(load(p.bufs[0].add(out)), share), zero),
        };
        for d in d0..d1 {
            for h in h0..h1 {
                let row = ((window.sample * c.input[0] + d) * c.input[1] + h) * c.input[2];
                for w in w0..w1 {
                    let at = (row + w) * c.cin + channel;
                    match p.op {
                        PoolOp::Max => {
                            let x = load(p.bufs[0].add(at));
                            acc = S::keep_nan(x, S::max(x, acc));
                        }
                        PoolOp::Avg => acc = S::add(acc, load(p.bufs[0].add(at))),
                        PoolOp::MaxGrad => {
                            let (x, gx) = (load(p.bufs[0].add(at)), p.bufs[3].add(at));
                            let hit = S::keep_nan(x, S::select_eq(x, best, one, zero));
                            let given = S::select_eq(hit, zero, zero, acc);
                            acc = S::select_eq(hit, zero, acc, zero);
                            store(gx, S::add(load(gx), given));
                        }
                        PoolOp::AvgGrad => {
                            let gx = p.bufs[1].add(at);
                            store(gx, S::add(load(gx), acc));
                        }
                    }
                }
            }
        }
        match p.op {
            PoolOp::Max => store(p.bufs[1].add(out), acc),
            PoolOp::Avg => store(p.bufs[1].add(out), S::mul(acc, share)),
            PoolOp::MaxGrad | PoolOp::AvgGrad => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Conv;
    use super::super::check::{check, run, values};
    use crate::cpu::Level;
    use crate::dim::Dim;
    use crate::plan::{LibCall, PoolGeometry};
    use crate::pool::Pool;

    fn geometry(input: [usize; 3], window: [u32; 3], stride: [u32; 3], pad: [u32; 3], channels: u64) -> PoolGeometry {
        let output =
            [0, 1, 2].map(|a| ((input[a] as u32 + 2 * pad[a]).saturating_sub(window[a]) / stride[a] + 1) as usize);
        let (input, output) = (input.map(Dim::from), output.map(Dim::from));
        PoolGeometry { batch: Dim::batch(), input, output, window, stride, pad, channels }
    }

    /// For each output cell and channel, the input elements of its window in order.
    fn windows(c: &Conv) -> Vec<Vec<usize>> {
        let mut all = Vec::new();
        for n in 0..c.batch {
            for o in 0..c.output.iter().product::<usize>() {
                let at = [o / (c.output[1] * c.output[2]), o / c.output[2] % c.output[1], o % c.output[2]];
                for i in 0..c.cin {
                    let mut list = Vec::new();
                    for k in 0..c.kernel.iter().product::<usize>() {
                        let cell = [k / (c.kernel[1] * c.kernel[2]), k / c.kernel[2] % c.kernel[1], k % c.kernel[2]];
                        if let [Some(d), Some(h), Some(w)] = [0, 1, 2].map(|a| c.position(a, at[a], cell[a])) {
                            let x = ((n * c.input[0] + d) * c.input[1] + h) * c.input[2] + w;
                            list.push(x * c.cin + i);
                        }
                    }
                    all.push(list);
                }
            }
        }
        all
    }

    fn try_case(batch: usize, g: PoolGeometry) {
        let syms = [batch as u64];
        let c = Conv::pooling(&g, &syms);
        let windows = windows(&c);
        // Few different values, so that ties happen.
        let len = batch * c.input.iter().product::<usize>() * c.cin;
        let x: Vec<f32> = values(len, 1).iter().map(|v| (v * 5.0).round()).collect();
        let gy = values(windows.len(), 2);
        let (mut max, mut avg) = (Vec::new(), Vec::new());
        let (mut gmax, mut gavg) = (vec![0.0; len], vec![0.0; len]);
        for (list, g) in windows.iter().zip(&gy) {
            let top = list.iter().map(|i| x[*i]).fold(f32::NEG_INFINITY, f32::max);
            max.push(f64::from(top));
            let count = list.len().max(1) as f64;
            avg.push(list.iter().map(|i| f64::from(x[*i])).sum::<f64>() / count);
            if let Some(first) = list.iter().find(|i| x[**i] == top) {
                gmax[*first] += f64::from(*g);
            }
            for i in list {
                gavg[*i] += f64::from(*g) / count;
            }
        }
        let y: Vec<f32> = max.iter().map(|v| *v as f32).collect();
        let ones = vec![5.0; len.max(windows.len())];
        check(&LibCall::MaxPool(g), &syms, &[&x], &max, &ones, 0.0);
        check(&LibCall::AvgPool(g), &syms, &[&x], &avg, &ones, 1e-6);
        check(&LibCall::MaxPoolGrad(g), &syms, &[&x, &y, &gy], &gmax, &ones, 1e-6);
        check(&LibCall::AvgPoolGrad(g), &syms, &[&gy], &gavg, &ones, 1e-6);
    }

    #[test]
    fn planes_lines_and_spaces() {
        for channels in [1, 3, 16, 17, 33, 100] {
            try_case(2, geometry([1, 8, 8], [1, 2, 2], [1, 2, 2], [0; 3], channels));
            try_case(3, geometry([1, 7, 17], [1, 3, 3], [1, 2, 2], [0, 1, 1], channels));
            try_case(1, geometry([1, 5, 5], [1, 3, 2], [1, 1, 1], [0; 3], channels));
        }
        for (height, width, channels) in [(2, 2, 7), (3, 3, 16), (7, 17, 33), (33, 5, 3), (2, 9, 64), (9, 2, 1)] {
            try_case(3, geometry([2, height, width], [1, 2, 2], [1, 2, 2], [0; 3], channels));
        }
        try_case(3, geometry([1, 1, 33], [1, 1, 4], [1, 1, 3], [0, 0, 2], 7));
        try_case(2, geometry([5, 4, 6], [2, 2, 3], [2, 1, 2], [1, 0, 1], 5));
        try_case(0, geometry([1, 4, 4], [1, 2, 2], [1, 2, 2], [0; 3], 5));
        try_case(40, geometry([1, 28, 28], [1, 2, 2], [1, 2, 2], [0; 3], 20));
    }

    #[test]
    fn a_nan_wins_and_takes_the_gradient() {
        let mut pool = Pool::new(1).expect("threads");
        let g = geometry([1, 1, 4], [1, 1, 4], [1, 1, 4], [0; 3], 1);
        let x = [1.0, f32::NAN, 9.0, f32::NAN];
        for level in Level::available() {
            let y = run(&LibCall::MaxPool(g), &[1], level, &mut pool, &[&x]);
            assert!(y[0].is_nan());
            let gx = run(&LibCall::MaxPoolGrad(g), &[1], level, &mut pool, &[&x, &y, &[3.0]]);
            assert_eq!(gx, [0.0, 3.0, 0.0, 0.0]);
        }
        let g = geometry([1, 2, 2], [1, 2, 2], [1, 2, 2], [0; 3], 1);
        for level in Level::available() {
            let y = run(&LibCall::MaxPool(g), &[1], level, &mut pool, &[&x]);
            assert!(y[0].is_nan());
            let gx = run(&LibCall::MaxPoolGrad(g), &[1], level, &mut pool, &[&x, &y, &[3.0]]);
            assert_eq!(gx, [0.0, 3.0, 0.0, 0.0]);
        }
    }
}
