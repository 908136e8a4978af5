//! The common form of a forward convolution and of a gradient to the input.
//!
//! In: [`Conv`]. Out: passes over a grid of result cells, each of which sees the source at `cell * step + origin +
//! tap * tap_step` per axis; and the cutting of a grid into pieces with their part of the source, padded where needed.
//!
//! The gradient to the input of a convolution with stride s is s passes per axis, one for each remainder of the input
//! coordinate by s: the cells of one remainder are reached by the same taps only, so each pass is a convolution of gy
//! with a part of the kernel, reversed, and nothing is ever scattered.

use crate::cpu::Conv;
use crate::cpu::gemm::Ahead;
use std::ops::Range;

/// A correlation of a source with taps over a grid of result cells.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) batch: usize,
    /// Source cells per axis, and channels.
    pub(super) source: [usize; 3],
    pub(super) channels: usize,
    /// Result cells per axis, and channels.
    pub(super) grid: [usize; 3],
    pub(super) out_channels: usize,
    /// Floats from the start of the result to the first cell of the grid.
    pub(super) out_origin: usize,
    /// Floats from cell to cell per axis, and from sample to sample.
    pub(super) out_stride: [usize; 3],
    pub(super) out_sample: usize,
    /// Source coordinate: `cell * step + origin + tap * tap_step`.
    pub(super) step: [usize; 3],
    pub(super) origin: [isize; 3],
    pub(super) tap_step: [usize; 3],
    /// Number of taps per axis.
    pub(super) taps: [usize; 3],
    /// Tap `t` of an axis is tap `kernel_first + t * kernel_step` of the kernel.
    pub(super) kernel_first: [usize; 3],
    pub(super) kernel_step: [isize; 3],
    /// Taps per axis of the whole kernel.
    pub(super) kernel: [usize; 3],
    /// The kernel is used with its channels exchanged.
    pub(super) exchange: bool,
}

impl Pass {
    /// y from x.
    pub(super) fn forward(d: &Conv) -> Pass {
        let [od, oh, ow] = d.output;
        Pass {
            batch: d.batch,
            source: d.input,
            channels: d.cin,
            grid: d.output,
            out_channels: d.cout,
            out_origin: 0,
            out_stride: [oh * ow * d.cout, ow * d.cout, d.cout],
            out_sample: od * oh * ow * d.cout,
            step: d.stride,
            origin: d.pad.map(|p| -(p as isize)),
            tap_step: d.dilation,
            taps: d.kernel,
            kernel_first: [0; 3],
            kernel_step: [1; 3],
            kernel: d.kernel,
            exchange: false,
        }
    }

    /// gx from gy, one pass for each combination of remainders.
    pub(super) fn grad_input(d: &Conv) -> Vec<Pass> {
        let [id, ih, iw] = d.input;
        let stride = [ih * iw * d.cin, iw * d.cin, d.cin];
        let mut passes = Vec::new();
        for rd in 0..d.stride[0].min(id) {
            for rh in 0..d.stride[1].min(ih) {
                for rw in 0..d.stride[2].min(iw) {
                    let rest = [rd, rh, rw];
                    let axes = [0, 1, 2].map(|a| Axis::new(d, a, rest[a]));
                    passes.push(Pass {
                        batch: d.batch,
                        source: d.output,
                        channels: d.cout,
                        grid: [0, 1, 2].map(|a| (d.input[a] - rest[a]).div_ceil(d.stride[a])),
                        out_channels: d.cin,
                        out_origin: (0..3).map(|a| rest[a] * stride[a]).sum(),
                        out_stride: [0, 1, 2].map(|a| stride[a] * d.stride[a]),
                        out_sample: id * ih * iw * d.cin,
                        step: [1; 3],
                        origin: axes.map(|a| a.origin),
                        tap_step: axes.map(|a| a.tap_step),
                        taps: axes.map(|a| a.taps),
                        kernel_first: axes.map(|a| a.first),
                        kernel_step: axes.map(|a| -(a.kernel_step as isize)),
                        kernel: d.kernel,
                        exchange: true,
                    });
                }
            }
        }
        passes
    }

    /// Number of products per result.
    pub(super) fn depth(&self) -> usize {
        self.taps.iter().product::<usize>() * self.channels
    }

    /// Whether some cell sees the outside of the source.
    pub(super) fn padded(&self) -> bool {
        (0..3).any(|a| {
            let last = (self.grid[a] - 1) * self.step[a] + self.taps[a].saturating_sub(1) * self.tap_step[a];
            self.taps[a] > 0 && (self.origin[a] < 0 || self.origin[a] + last as isize >= self.source[a] as isize)
        })
    }

    /// The taps of an axis with which `cell` sees the inside of the source.
    pub(super) fn taps_inside(&self, axis: usize, cell: usize) -> Range<usize> {
        let first = (cell * self.step[axis]) as isize + self.origin[axis];
        let inside = |t: usize| (0..self.source[axis] as isize).contains(&(first + (t * self.tap_step[axis]) as isize));
        let start = (0..self.taps[axis]).find(|&t| inside(t)).unwrap_or(0);
        let len = (start..self.taps[axis]).take_while(|&t| inside(t)).count();
        start..start + len
    }

    /// Position of a tap of this pass in the kernel, counted in taps.
    pub(super) fn kernel_tap(&self, tap: [usize; 3]) -> usize {
        let at = |a: usize| self.kernel_first[a].wrapping_add_signed(tap[a] as isize * self.kernel_step[a]);
        (at(0) * self.kernel[1] + at(1)) * self.kernel[2] + at(2)
    }
}

/// The taps of one axis that reach the input cells of one remainder by the stride.
#[derive(Clone, Copy)]
struct Axis {
    origin: isize,
    tap_step: usize,
    taps: usize,
    /// The last kernel tap, which comes first, and the distance to the one before.
    first: usize,
    kernel_step: usize,
}

impl Axis {
    fn new(d: &Conv, axis: usize, rest: usize) -> Axis {
        let (s, dil, pad) = (d.stride[axis], d.dilation[axis], d.pad[axis]);
        let divisor = gcd(s, dil);
        let (kernel_step, tap_step) = (s / divisor, dil / divisor);
        // Tap t reaches output cell (rest + pad - t * dil) / s + cell, where that is whole.
        let distance = |t: usize| (rest + pad) as isize - (t * dil) as isize;
        let hits = (0..d.kernel[axis]).filter(|&t| distance(t).rem_euclid(s as isize) == 0);
        let (taps, first) = hits.fold((0, 0), |(n, _), t| (n + 1, t));
        Axis { origin: if taps == 0 { 0 } else { distance(first) / s as isize }, tap_step, taps, first, kernel_step }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// How the grid of a pass is cut into pieces: whole rows, or parts of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Rows and columns of a piece.
    pub(super) rows: usize,
    pub(super) cols: usize,
    row_pieces: usize,
    col_pieces: usize,
    /// Number of pieces of all samples.
    pub(super) pieces: usize,
}

/// One piece of a grid.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) sample: usize,
    pub(super) plane: usize,
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
}

impl Cut {
    /// Pieces of `rows` by `cols` cells.
    pub(super) fn new(pass: &Pass, rows: usize, cols: usize) -> Cut {
        let (row_pieces, col_pieces) = (pass.grid[1].div_ceil(rows), pass.grid[2].div_ceil(cols));
        Cut { rows, cols, row_pieces, col_pieces, pieces: pass.batch * pass.grid[0] * row_pieces * col_pieces }
    }

    /// Piece number `i`, in row-major order.
    pub(super) fn piece(&self, pass: &Pass, i: usize) -> Piece {
        let (col, i) = (i % self.col_pieces, i / self.col_pieces);
        let (row, i) = (i % self.row_pieces, i / self.row_pieces);
        let range = |i: usize, step: usize, len: usize| i * step..len.min((i + 1) * step);
        Piece {
            sample: i / pass.grid[0],
            plane: i % pass.grid[0],
            rows: range(row, self.rows, pass.grid[1]),
            cols: range(col, self.cols, pass.grid[2]),
        }
    }
}

/// How the source of a piece is laid out: in place, or as a slab with the padding filled in. The slab has one plane
/// for each tap of the first axis, and just the rows and columns that the piece sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) padded: bool,
    slab_rows: usize,
    slab_cols: usize,
    /// Floats from source row to source row.
    pub(super) pitch: usize,
    /// Floats from the plane of one tap to that of the next.
    pub(super) plane: usize,
}

impl Layout {
    pub(super) fn new(pass: &Pass, cut: &Cut) -> Layout {
        let padded = pass.padded();
        let extent =
            |a: usize, cells: usize| (cells - 1) * pass.step[a] + pass.taps[a].saturating_sub(1) * pass.tap_step[a] + 1;
        let (slab_rows, slab_cols) = (extent(1, cut.rows), extent(2, cut.cols));
        let pitch = if padded { slab_cols } else { pass.source[2] } * pass.channels;
        let plane = if padded { slab_rows } else { pass.tap_step[0] * pass.source[1] } * pitch;
        Layout { padded, slab_rows, slab_cols, pitch, plane }
    }

    /// Floats of a slab.
    pub(super) fn slab_len(&self, pass: &Pass) -> usize {
        if self.padded { pass.taps[0] * self.plane } else { 0 }
    }

    /// The source of a piece, as it lies in memory (of the first plane of taps).
    pub(super) fn source_run(&self, pass: &Pass, piece: &Piece, source: *const f32) -> Ahead {
        let at = |a: usize, cell: usize| (cell * pass.step[a]) as isize + pass.origin[a];
        let clamp = |x: isize, a: usize| usize::try_from(x).unwrap_or(0).min(pass.source[a]);
        let d = clamp(at(0, piece.plane), 0).min(pass.source[0] - 1);
        let last = at(1, piece.rows.end - 1) + (pass.taps[1].saturating_sub(1) * pass.tap_step[1]) as isize + 1;
        let (first, last) = (clamp(at(1, piece.rows.start), 1), clamp(last, 1));
        let row = pass.source[2] * pass.channels;
        let start = ((piece.sample * pass.source[0] + d) * pass.source[1] + first) * row;
        Ahead::new(source.wrapping_add(start), (last - first.min(last)) * row)
    }

    /// Where the first cell of the piece finds its first tap; fills the slab if there is one.
    ///
    /// # Safety
    /// `source` must be the whole source of the pass, `slab` must have [`Layout::slab_len`] floats.
    pub(super) unsafe fn view(&self, pass: &Pass, piece: &Piece, source: *const f32, slab: *mut f32) -> *const f32 {
        let at = |a: usize, cell: usize| (cell * pass.step[a]) as isize + pass.origin[a];
        let (d, h, w) = (at(0, piece.plane), at(1, piece.rows.start), at(2, piece.cols.start));
        let [sd, sh, sw] = pass.source;
        let c = pass.channels;
        let floats = |d: usize, h: usize, w: usize| (((piece.sample * sd + d) * sh + h) * sw + w) * c;
        if !self.padded {
            // Without taps nothing is read, and then the origin need not lie in the source.
            return source.wrapping_add(floats(d as usize, h as usize, w as usize));
        }
        // The rows and columns of this piece, which may be the last and smaller one.
        let extent = |a: usize, cells: usize, most: usize| most - (most_cells(self, pass, a) - cells) * pass.step[a];
        let rows = extent(1, piece.rows.len(), self.slab_rows);
        let cols = extent(2, piece.cols.len(), self.slab_cols);
        // Columns [lead, lead + inner) of the slab come from the source.
        let lead = usize::try_from(-w).unwrap_or(0).min(cols);
        let first = usize::try_from(w).unwrap_or(0);
        let inner = (cols - lead).min(sw.saturating_sub(first));
        for t in 0..pass.taps[0] {
            let d = usize::try_from(d + (t * pass.tap_step[0]) as isize).ok().filter(|&d| d < sd);
            for r in 0..rows {
                let h = usize::try_from(h + r as isize).ok().filter(|&h| h < sh);
                // SAFETY: `t`, `r` and the columns are inside the slab, and the source coordinates were checked.
                unsafe {
                    let row = slab.add(t * self.plane + r * self.pitch);
                    match (d, h) {
                        (Some(d), Some(h)) if inner > 0 => {
                            row.write_bytes(0, lead * c);
                            row.add(lead * c).copy_from_nonoverlapping(source.add(floats(d, h, first)), inner * c);
                            row.add((lead + inner) * c).write_bytes(0, (cols - lead - inner) * c);
                        }
                        _ => row.write_bytes(0, cols * c),
                    }
                }
            }
        }
        slab
    }
}

/// Cells of a full piece along an axis, found back from the size of its slab.
fn most_cells(layout: &Layout, pass: &Pass, axis: usize) -> usize {
    let extent = if axis == 1 { layout.slab_rows } else { layout.slab_cols };
    (extent - 1 - pass.taps[axis].saturating_sub(1) * pass.tap_step[axis]) / pass.step[axis] + 1
}
