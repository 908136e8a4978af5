//! Gradient to the kernel: patches of x, transposed, times gy.
//!
//! In: x, gy. Out: gw `[taps, cin, cout]`. The rows of a tile are neighbouring (tap, channel) pairs, which lie next to
//! each other in x; the inner index runs over output pixels. With enough channels for a tile, x is read in place and
//! pixels whose tap falls into the padding are left out; with few, taps of a kernel row share a tile, and x is copied
//! with its padding. Pixels are cut into a fixed number of chunks with a
//! partial result each, and the partial results are added in order.

use super::apply::TASK;
use super::pass::{Cut, Layout, Pass, Piece};
use crate::cpu::Conv;
use crate::cpu::gemm::{Ahead, Kernels, SLACK, Tile, add_parts, align, even};
use crate::cpu::par::{Par, Shared, run_tasks};
use std::ops::Range;

/// Most partial results, and most floats in all of them.
const MAX_CHUNKS: usize = 16;
const MAX_PARTIAL: usize = 1 << 20;
/// Tasks beyond this number serve nobody.
const MAX_TASKS: usize = 32;
/// Least output pixels per partial result.
const MIN_PIXELS: usize = 2048;
/// Output pixels per piece: what they see of x and their part of gy then stay in the second-level cache.
const PIXELS: usize = 320;
/// Least tiles of rows per task, so that fetching gy is paid by many.
const MIN_TILES: usize = 8;

/// Neighbouring rows of gw.
struct Run {
    /// First row.
    row: usize,
    /// Offset from a cell to what its first row sees, in the layout of the plan.
    offset: usize,
    /// The tap, if the source is read in place.
    tap: [usize; 3],
}

/// The gradient, with how its work is cut; made once, run often.
pub(crate) struct Weights {
    ker: &'static Kernels,
    dims: Conv,
    pass: Pass,
    cut: Cut,
    layout: Layout,
    /// x is read where it lies, tap by tap.
    in_place: bool,
    /// Runs of rows, all of the same length.
    runs: Vec<Run>,
    run_len: usize,
    /// Rows of a tile, and tiles of a run.
    tile: usize,
    run_tiles: usize,
    /// Pieces per chunk, number of chunks; tiles per block of rows, number of blocks.
    per_chunk: usize,
    chunks: usize,
    per_block: usize,
    blocks: usize,
    /// Offsets of the rows of a piece from its first one in x or its slab.
    segments: Vec<usize>,
}

impl Weights {
    /// Prepares the gradient for sizes that are not 0.
    pub(super) fn new(ker: &'static Kernels, d: &Conv) -> Weights {
        let pass = Pass::forward(d);
        let cut = Cut::new(&pass, even(d.output[1], (PIXELS / d.output[2]).max(1)), even(d.output[2], PIXELS));
        let layout = Layout::new(&pass, &cut);
        let in_place = d.cin >= ker.mr;
        let joined = !in_place && d.dilation[2] == 1;
        let run_len = if joined { d.kernel[2] * d.cin } else { d.cin };
        let mut runs = Vec::new();
        for kd in 0..d.kernel[0] {
            for kh in 0..d.kernel[1] {
                for kw in 0..if joined { 1 } else { d.kernel[2] } {
                    let offset = kd * layout.plane + kh * d.dilation[1] * layout.pitch + kw * d.dilation[2] * d.cin;
                    runs.push(Run { row: runs.len() * run_len, offset, tap: [kd, kh, kw] });
                }
            }
        }
        let tile = even(run_len, ker.mr);
        let run_tiles = run_len.div_ceil(tile);
        let tiles = runs.len() * run_tiles;
        let result = pass.depth() * d.cout;
        let pixels = d.batch * d.output.iter().product::<usize>();
        let wanted = (result.saturating_mul(pixels) / (2 * TASK)).clamp(1, MAX_TASKS);
        let chunks = wanted.min(cut.pieces).min(pixels / MIN_PIXELS).min(MAX_CHUNKS).min(MAX_PARTIAL / result).max(1);
        let per_chunk = cut.pieces.div_ceil(chunks);
        let chunks = cut.pieces.div_ceil(per_chunk);
        let per_block = tiles.div_ceil(wanted.div_ceil(chunks).min(tiles.div_ceil(MIN_TILES)).max(1));
        let blocks = tiles.div_ceil(per_block);
        let pitch = if in_place { pass.source[2] * pass.channels } else { layout.pitch };
        let segments = (0..cut.rows).map(|r| r * pass.step[1] * pitch).collect();
        Weights {
            ker,
            dims: *d,
            pass,
            cut,
            layout,
            in_place,
            runs,
            run_len,
            tile,
            run_tiles,
            per_chunk,
            chunks,
            per_block,
            blocks,
            segments,
        }
    }

    /// The cells of an axis, out of `cells`, whose tap `t` falls into the input.
    fn inside(&self, axis: usize, t: usize, cells: &Range<usize>) -> Range<usize> {
        let d = &self.dims;
        let (pad, stride, tap) = (d.pad[axis], d.stride[axis], t * d.dilation[axis]);
        let first = pad.saturating_sub(tap).div_ceil(stride).max(cells.start);
        let end = (d.input[axis] + pad).saturating_sub(tap).div_ceil(stride).min(cells.end);
        first..end.max(first)
    }

    /// What a run sees of x and which pixels of the piece count, if x is read in place.
    fn part_in_place(&self, run: &Run, piece: &Piece) -> Part {
        let d = &self.dims;
        let planes = self.inside(0, run.tap[0], &(piece.plane..piece.plane + 1));
        let (rows, cols) = (self.inside(1, run.tap[1], &piece.rows), self.inside(2, run.tap[2], &piece.cols));
        if planes.is_empty() || rows.is_empty() || cols.is_empty() {
            return Part { a: 0, pixel: 0, rows: 0, cols: 0 };
        }
        let at = |axis: usize, cell: usize| cell * d.stride[axis] + run.tap[axis] * d.dilation[axis] - d.pad[axis];
        let (plane, row, col) = (at(0, piece.plane), at(1, rows.start), at(2, cols.start));
        Part {
            a: (((piece.sample * d.input[0] + plane) * d.input[1] + row) * d.input[2] + col) * d.cin,
            pixel: (rows.start - piece.rows.start) * piece.cols.len() + cols.start - piece.cols.start,
            rows: rows.len(),
            cols: cols.len(),
        }
    }

    fn partial_len(&self) -> usize {
        if self.chunks > 1 { self.chunks * self.pass.depth() * self.pass.out_channels } else { 0 }.next_multiple_of(16)
    }

    fn slab_len(&self) -> usize {
        if self.in_place { 0 } else { self.layout.slab_len(&self.pass).next_multiple_of(16) }
    }

    /// Floats of scratch memory that all workers share, and floats for each.
    pub(super) fn workspace(&self) -> (usize, usize) {
        (SLACK + self.partial_len(), self.slab_len())
    }

    /// gw from x and gy.
    ///
    /// # Safety
    /// As [`crate::cpu::LibKernel::run`].
    pub(super) unsafe fn run(&self, par: &Par<'_>, x: *const f32, gy: *const f32, gw: *mut f32, workspace: *mut f32) {
        let len = self.pass.depth() * self.pass.out_channels;
        let partial = align(workspace);
        let private = partial.wrapping_add(self.partial_len());
        let slab_len = self.slab_len();
        let pointers = Shared((x, gy, gw, partial, private));
        run_tasks(par, self.chunks * self.blocks, &|task, worker| {
            let (x, gy, gw, partial, private) = pointers.get();
            let (block, chunk) = (task % self.blocks, task / self.blocks);
            let out = if self.chunks > 1 { partial.wrapping_add(chunk * len) } else { gw };
            // SAFETY: blocks of a chunk write disjoint rows, chunks have their own results, workers their own slab.
            unsafe { chunk_block(self.ker, self, chunk, block, x, gy, out, private.add(worker * slab_len)) };
        });
        if self.chunks > 1 {
            let piece = (1 << 16) / self.chunks;
            run_tasks(par, len.div_ceil(piece), &|task, _| {
                let (_, _, gw, partial, _) = pointers.get();
                let start = task * piece;
                let mut parts = [std::ptr::null::<f32>(); MAX_CHUNKS];
                for (i, part) in parts.iter_mut().enumerate().take(self.chunks) {
                    *part = partial.wrapping_add(i * len + start);
                }
                // SAFETY: tasks have disjoint pieces of the result.
                unsafe { add_parts(gw.add(start), &parts[..self.chunks], piece.min(len - start)) };
            });
        }
    }
}

/// The pixels of a piece that a run adds up: a rectangle.
struct Part {
    /// Where the first one sees the source.
    a: usize,
    /// Its number within the piece.
    pixel: usize,
    rows: usize,
    cols: usize,
}

/// Adds up one chunk of pixels for one block of rows.
#[expect(clippy::too_many_arguments, reason = "one call site")]
unsafe fn chunk_block(
    ker: &Kernels,
    plan: &Weights,
    chunk: usize,
    block: usize,
    x: *const f32,
    gy: *const f32,
    out: *mut f32,
    slab: *mut f32,
) {
    let pass = &plan.pass;
    let (n, nr) = (pass.out_channels, ker.nr());
    let pieces = chunk * plan.per_chunk..plan.cut.pieces.min((chunk + 1) * plan.per_chunk);
    let tiles = block * plan.per_block..(plan.runs.len() * plan.run_tiles).min((block + 1) * plan.per_block);
    for (nth, index) in pieces.clone().enumerate() {
        let piece = plan.cut.piece(pass, index);
        let next = (index + 1 < pieces.end).then(|| plan.cut.piece(pass, index + 1));
        let mut ahead = next.as_ref().map_or(Ahead::new(x, 0), |next| plan.layout.source_run(pass, next, x));
        let mut ahead_gy = next.map_or(Ahead::new(gy, 0), |next| {
            Ahead::new(gy.wrapping_add(start(pass, &next)), next.rows.len() * next.cols.len() * n)
        });
        let (rows, cols) = (piece.rows.len(), piece.cols.len());
        // SAFETY: a piece is whole rows or part of one row, so its pixels lie next to each other in gy; the view
        // covers what they see of x.
        unsafe {
            let view = if plan.in_place { x } else { plan.layout.view(pass, &piece, x, slab) };
            let gy = gy.add(start(pass, &piece));
            for j in (0..n).step_by(nr) {
                let width = nr.min(n - j);
                let nv = width.div_ceil(ker.w);
                for t in tiles.clone() {
                    let run = &plan.runs[t / plan.run_tiles];
                    let i = t % plan.run_tiles * plan.tile;
                    let part = if plan.in_place {
                        plan.part_in_place(run, &piece)
                    } else {
                        Part { a: run.offset, pixel: 0, rows, cols }
                    };
                    ker.tile(plan.tile.min(plan.run_len - i), nv, false)(&Tile {
                        a: view.wrapping_add(part.a + i),
                        segs: plan.segments.as_ptr(),
                        nseg: part.rows,
                        seg_len: part.cols,
                        a_step: pass.step[2] * pass.channels,
                        b: gy.add(part.pixel * n + j),
                        b_step: n,
                        b_skip: (cols - part.cols) * n,
                        c: out.add((run.row + i) * n + j),
                        c_step: n,
                        tail: width - (nv - 1) * ker.w,
                        accumulate: nth > 0,
                        bias: std::ptr::null(),
                        relu: false,
                        ahead: ahead.take(rows, cols).or_else(|| ahead_gy.take(rows, cols)).unwrap_or(view),
                    });
                }
            }
        }
    }
}

/// Floats before the first output cell of a piece.
fn start(pass: &Pass, piece: &Piece) -> usize {
    piece.sample * pass.out_sample
        + piece.plane * pass.out_stride[0]
        + piece.rows.start * pass.out_stride[1]
        + piece.cols.start * pass.out_channels
}
