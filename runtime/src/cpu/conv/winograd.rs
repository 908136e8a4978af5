//! Winograd's convolution: kernels of 3 × 3 at stride 1, forward and backward, with a quarter of the products.
//!
//! In: a [`Pass`] or a [`Conv`]. Out: the result, or the gradient to the kernel. A piece of the work is a number of
//! tiles of 4 × 4 pixels whose transforms stay in the second-level cache: windows of the source become 36 planes
//! `[tiles, cin]`, each of which meets its plane of the kernel in an ordinary product, and the planes `[tiles, cout]`
//! that come out become pixels. For the gradient to the kernel, planes of the source meet planes of the gradient to the
//! output, are added up over all tiles and become taps at the end.
//!
//! Errors are about twice those of direct sums from 16 channels on; [`pays`] keeps to those. They are relative to the
//! largest values in a tile's window and not to those in a cell's own, and a value that is not finite reaches all cells of the
//! tiles whose windows hold it.
//!
//! The choice, the cutting and the order of every sum follow from the sizes and the instruction set alone.

use super::apply::TASK;
use super::pass::Pass;
use super::transform::{KERNEL, PLANES, POINTS, Parts, TILE, Target, Transforms, Window};
use crate::cpu::gemm::{Ahead, Epilogue, Kernels, ONE_SEGMENT, SLACK, Source, Tile, align, even, kernels, pack_panel};
use crate::cpu::par::{Par, Shared, run_tasks};
use crate::cpu::{Conv, Level, PackLayout, Packing};
use std::ops::Range;

/// Least channels on both sides: fewer do not pay for their transforms, and errors are larger.
const MIN_CHANNELS: usize = 16;
/// Most floats of a transformed kernel, which has four times the floats of the kernel.
const MAX_KERNEL: usize = 1 << 24;
/// Least tiles for which a kernel is transformed, and for which the planes of a gradient to a kernel are summed up.
const MIN_TILES: usize = 12;
const MIN_SUMMED: usize = 64;
/// Floats of the planes of a piece: they stay in a second-level cache of 512 KB.
const PIECE: usize = 80 << 10;
/// Pieces and blocks of channels that are enough for any number of threads.
const TASKS: usize = 8;
/// Inner indices of a kernel that are transformed at once.
const INNER: usize = 32;
/// Most tiles whose products are added up in one chain: longer chains lose precision.
const MAX_CHAIN: usize = 32;
/// Most floats in all partial gradients to the kernel.
const MAX_PARTIAL: usize = 1 << 21;

/// Tiles up to which a transformed kernel is worth keeping: with more, transforming costs less than 3 %.
const FEW_TILES: usize = 512;

/// Most floats that are asked for ahead.
const MAX_AHEAD: usize = 1 << 16;

/// Whether a pass is one of 3 × 3 taps at stride 1 and large enough to gain.
pub(super) fn pays(p: &Pass) -> bool {
    let fits = p.taps == [1, 3, 3] && p.step == [1; 3] && p.tap_step[1..] == [1, 1];
    let planes = p.source[0] == p.grid[0] && p.origin[0] == 0;
    let tiles = p.grid[1].div_ceil(TILE) * p.grid[2].div_ceil(TILE);
    let kernel = PLANES.saturating_mul(p.channels).saturating_mul(p.out_channels.next_multiple_of(32));
    fits && planes
        && p.channels.min(p.out_channels) >= MIN_CHANNELS
        && kernel <= MAX_KERNEL
        && p.batch * p.grid[0] * tiles >= MIN_TILES
        // Tiles reach beyond the grid; at least two fifths of a tile must count.
        && 32 * tiles <= 5 * p.grid[1] * p.grid[2]
}

/// As [`pays`], for the gradient to the kernel of a forward pass.
pub(super) fn pays_for_weights(p: &Pass) -> bool {
    pays(p) && Tiles::new(p).all >= MIN_SUMMED
}

/// Floats from plane to plane: an odd number of cache lines, lest planes share the sets of a cache.
fn plane(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// Images of `size` pixels out of which windows are taken.
struct Images {
    size: [usize; 2],
    channels: usize,
    /// Pixels of a window along an axis.
    window: usize,
    /// Where the window of the first tile starts.
    origin: [isize; 2],
}

/// The tiles of a result.
struct Tiles {
    /// Tiles of an image per axis, and of all images.
    grid: [usize; 2],
    all: usize,
}

impl Tiles {
    fn new(p: &Pass) -> Tiles {
        let grid = [p.grid[1].div_ceil(TILE), p.grid[2].div_ceil(TILE)];
        Tiles { grid, all: p.batch * p.grid[0] * grid[0] * grid[1] }
    }

    /// Image, first row and first column of a tile.
    fn at(&self, tile: usize) -> (usize, usize, usize) {
        let [rows, cols] = self.grid;
        (tile / (rows * cols), tile / cols % rows * TILE, tile % cols * TILE)
    }
}

impl Images {
    fn source(p: &Pass) -> Images {
        let size = [p.source[1], p.source[2]];
        Images { size, channels: p.channels, window: POINTS, origin: [p.origin[1], p.origin[2]] }
    }

    /// Floats of a row of zeros.
    fn zeros_len(&self) -> usize {
        (self.window * self.channels).next_multiple_of(16)
    }

    /// Floats before the window of a tile; only pixels inside the image may be read from there.
    fn start(&self, (image, y, x): (usize, usize, usize)) -> usize {
        let row = image.wrapping_mul(self.size[0]).wrapping_add(y).wrapping_add_signed(self.origin[0]);
        row.wrapping_mul(self.size[1]).wrapping_add(x).wrapping_add_signed(self.origin[1]).wrapping_mul(self.channels)
    }

    /// The window of a tile, given as many zeros as [`Images::zeros_len`] says.
    fn window(&self, images: *const f32, tile: (usize, usize, usize), zeros: *const f32) -> Window {
        let inside = |at: isize, len: usize| {
            let clip = |v: isize| usize::try_from(v).unwrap_or(0).min(self.window);
            let first = clip(-at);
            first..clip(len as isize - at).max(first)
        };
        let rows = inside(tile.1 as isize + self.origin[0], self.size[0]);
        let cols = inside(tile.2 as isize + self.origin[1], self.size[1]);
        let ptr = images.wrapping_add(self.start(tile));
        let row = |i: usize| {
            if rows.contains(&i) { ptr.wrapping_add(i * self.size[1] * self.channels) } else { zeros }
        };
        let rows = std::array::from_fn(row);
        Window { rows, first: cols.start, end: cols.end, pixel: self.channels, channels: self.channels, channel: 0 }
    }

    /// The memory that the windows of some tiles lie in, as far as it lies ahead.
    fn run(&self, images: *const f32, first: (usize, usize, usize), last: (usize, usize, usize)) -> Ahead {
        let len = self.start(last).wrapping_sub(self.start(first));
        let len = if len > MAX_AHEAD { 0 } else { len + (self.window - 1) * (self.size[1] + 1) * self.channels };
        Ahead::new(images.wrapping_add(self.start(first)), len)
    }
}

/// Piece `i` of `0..len` cut into pieces of `step`.
fn range(i: usize, step: usize, len: usize) -> Range<usize> {
    i * step..len.min((i + 1) * step)
}

/// Forward, or gradient to the input; made once, run often.
pub(crate) struct Winograd {
    ker: &'static Kernels,
    transforms: Transforms,
    pass: Pass,
    tiles: Tiles,
    source: Images,
    /// Tiles of a piece, and number of pieces.
    per_piece: usize,
    pieces: usize,
    /// Result channels of a task, and number of such blocks.
    block: usize,
    blocks: usize,
    /// Floats of a row and of a plane of the transformed source, of the products and of the kernel.
    source_row: usize,
    source_plane: usize,
    result_row: usize,
    result_plane: usize,
    kernel_plane: usize,
}

impl Winograd {
    /// Prepares a pass that [`pays`].
    pub(super) fn new(level: Level, pass: Pass) -> Winograd {
        let ker = kernels(level);
        let (tiles, source) = (Tiles::new(&pass), Images::source(&pass));
        let (inner, outer) = (pass.channels, pass.out_channels);
        let source_row = inner.next_multiple_of(ker.w);
        // As many tiles as stay in the cache; with many channels, so many that reading the kernel does not dominate.
        let wanted = (PIECE / (PLANES * (inner + outer))).max(inner * outer / (2 * (inner + outer)));
        // Few tiles are shared out by blocks of channels first, each of which transforms the source for itself.
        let least = (2 * ker.mr).max(8);
        let most_blocks = (outer / (2 * ker.nr()).max(64)).max(1);
        let most = even(tiles.all, wanted.min(tiles.all.div_ceil(TASKS.div_ceil(most_blocks))).max(least));
        let per_piece = most.next_multiple_of(even(most, ker.mr)).min(tiles.all);
        let pieces = tiles.all.div_ceil(per_piece);
        let blocks = TASKS.div_ceil(pieces).min(most_blocks);
        let block = outer.div_ceil(blocks).next_multiple_of(ker.nr());
        let result_row = block.min(outer.next_multiple_of(ker.w));
        Winograd {
            ker,
            transforms: Transforms::new(level),
            per_piece,
            pieces,
            block,
            blocks: outer.div_ceil(block),
            source_row,
            source_plane: plane(per_piece * source_row),
            result_row,
            result_plane: plane(per_piece * result_row),
            kernel_plane: plane(outer.next_multiple_of(ker.nr()) * inner),
            pass,
            tiles,
            source,
        }
    }

    /// Floats of the copy of a tap of some inner indices.
    fn tap_len(&self) -> usize {
        INNER * self.ker.nr() + SLACK
    }

    /// Floats of scratch memory that all workers share, and floats for each.
    pub(super) fn workspace(&self) -> (usize, usize) {
        let piece = PLANES * (self.source_plane + self.result_plane) + self.source.zeros_len();
        (SLACK + PLANES * self.kernel_plane, piece.max(KERNEL * self.tap_len()).next_multiple_of(16))
    }

    /// See [`crate::cpu::LibKernel::packing`].
    pub(super) fn packing(&self) -> Option<Packing> {
        let Pass { channels, out_channels, exchange, .. } = self.pass;
        let layout = PackLayout::Winograd([channels, out_channels, usize::from(exchange)]);
        let floats = PLANES * self.kernel_plane;
        (self.tiles.all <= FEW_TILES).then_some(Packing { operand: 1, floats, layout })
    }

    /// Transforms the kernel.
    ///
    /// # Safety
    /// As [`crate::cpu::LibKernel::pack`].
    pub(super) unsafe fn pack(&self, par: &Par<'_>, kernel: *const f32, workspace: *mut f32, planes: *mut f32) {
        let (inner, local) = (self.pass.channels.div_ceil(INNER), self.workspace().1);
        let pointers = Shared((kernel, planes, self.private(workspace)));
        run_tasks(par, inner * self.pass.out_channels.div_ceil(self.ker.nr()), &|task, worker| {
            let (kernel, planes, private) = pointers.get();
            let inner_indices = range(task % inner, INNER, self.pass.channels);
            // SAFETY: each part of each panel has its own place, and workers have their own memory.
            unsafe {
                let taps = private.add(worker * local);
                self.transform(kernel, task / inner * self.ker.nr(), inner_indices, taps, planes);
            }
        });
    }

    /// The memory of the first worker, behind the shared planes of the kernel.
    fn private(&self, workspace: *mut f32) -> *mut f32 {
        align(workspace).wrapping_add(PLANES * self.kernel_plane)
    }

    /// Runs the pass. Without a kernel that is transformed (`packed`) already, it does that.
    ///
    /// # Safety
    /// As [`crate::cpu::LibKernel::run`].
    #[expect(clippy::too_many_arguments, reason = "three operands and where to run")]
    pub(super) unsafe fn run(
        &self,
        par: &Par<'_>,
        epilogue: &Epilogue,
        source: *const f32,
        kernel: *const f32,
        result: *mut f32,
        workspace: *mut f32,
        packed: *const f32,
    ) {
        let (private, local) = (self.private(workspace), self.workspace().1);
        let bias = epilogue.bias.unwrap_or(std::ptr::null());
        let planes = if packed.is_null() {
            let own = align(workspace);
            // SAFETY: the shared scratch memory begins with the planes.
            unsafe { self.pack(par, kernel, workspace, own) };
            own.cast_const()
        } else {
            packed
        };
        let pointers = Shared((source, result, planes, private, bias));
        let relu = epilogue.relu;
        run_tasks(par, self.pieces * self.blocks, &|task, worker| {
            let (source, result, planes, private, bias) = pointers.get();
            let tiles = range(task / self.blocks, self.per_piece, self.tiles.all);
            let channels = range(task % self.blocks, self.block, self.pass.out_channels);
            // SAFETY: tasks write different pixels or channels, and workers have their own memory.
            unsafe {
                let private = private.add(worker * local);
                self.piece(tiles, channels, source, planes, result, private, bias, relu);
            }
        });
    }

    /// Transforms some inner indices of panel `j` of the kernel.
    unsafe fn transform(&self, kernel: *const f32, j: usize, inner: Range<usize>, taps: *mut f32, planes: *mut f32) {
        let (ker, pass) = (self.ker, &self.pass);
        let (channels, outer) = (pass.channels, pass.out_channels);
        let cols = ker.nr().min(outer - j);
        let len = inner.len() * ker.nr();
        // SAFETY: the caller gives the whole kernel, room for the copies of nine taps, and all planes.
        unsafe {
            for t in 0..KERNEL {
                let ptr = kernel.add(pass.kernel_tap([0, t / 3, t % 3]) * channels * outer);
                let stride = if pass.exchange { channels } else { outer };
                let source = Source { ptr, stride, trans: pass.exchange };
                pack_panel(ker, &source, inner.clone(), j, cols, taps.add(t * self.tap_len()));
            }
            let to = planes.add(j * channels + inner.start * ker.nr());
            (self.transforms.kernel)(taps, self.tap_len(), to, self.kernel_plane, len);
        }
    }

    /// Some tiles, some channels of the result.
    #[expect(clippy::too_many_arguments, reason = "one call site")]
    unsafe fn piece(
        &self,
        tiles: Range<usize>,
        channels: Range<usize>,
        source: *const f32,
        kernel: *const f32,
        result: *mut f32,
        private: *mut f32,
        bias: *const f32,
        relu: bool,
    ) {
        let (ker, pass) = (self.ker, &self.pass);
        let products = private.wrapping_add(PLANES * self.source_plane);
        let zeros = products.wrapping_add(PLANES * self.result_plane);
        let next = tiles.end..self.tiles.all.min(tiles.end + self.per_piece);
        let mut ahead = self.source.run(source, self.tiles.at(next.start), self.tiles.at(next.end.max(1) - 1));
        // SAFETY: planes, rows and channels are within the private memory, tiles and channels within the result.
        unsafe {
            zeros.write_bytes(0, self.source.zeros_len());
            for (i, tile) in tiles.clone().enumerate() {
                let window = self.source.window(source, self.tiles.at(tile), zeros);
                (self.transforms.source)(&window, private.add(i * self.source_row), self.source_plane);
            }
            let height = even(tiles.len(), ker.mr);
            for p in 0..PLANES {
                for j in channels.clone().step_by(ker.nr()) {
                    let nv = ker.nr().min(channels.end - j).div_ceil(ker.w);
                    let panel = kernel.add(p * self.kernel_plane + j * pass.channels);
                    for i in (0..tiles.len()).step_by(height) {
                        let rows = height.min(tiles.len() - i);
                        ker.tile(rows, nv, true)(&Tile {
                            a: private.add(p * self.source_plane + i * self.source_row),
                            segs: ONE_SEGMENT.as_ptr(),
                            nseg: 1,
                            seg_len: pass.channels,
                            a_step: self.source_row,
                            b: panel,
                            b_step: ker.nr(),
                            b_skip: 0,
                            c: products.add(p * self.result_plane + i * self.result_row + j - channels.start),
                            c_step: self.result_row,
                            tail: ker.w,
                            accumulate: false,
                            bias: std::ptr::null(),
                            relu: false,
                            // The source of the piece that follows, then the panel that follows.
                            ahead: ahead.take(1, pass.channels).unwrap_or(panel.wrapping_add(pass.channels * ker.nr())),
                        });
                    }
                }
            }
            let [height, width] = [pass.grid[1], pass.grid[2]];
            let outer = pass.out_channels;
            for (i, tile) in tiles.enumerate() {
                let (image, y, x) = self.tiles.at(tile);
                let target = Target {
                    ptr: result.add(((image * height + y) * width + x) * outer + channels.start),
                    row: width * outer,
                    pixel: outer,
                    channels: channels.len(),
                    rows: height - y,
                    cols: width - x,
                    bias: if bias.is_null() { bias } else { bias.add(channels.start) },
                    relu,
                };
                (self.transforms.result)(products.add(i * self.result_row), self.result_plane, &target);
            }
        }
    }
}

/// Gradient to the kernel; made once, run often.
pub(crate) struct WinogradWeights {
    ker: &'static Kernels,
    transforms: Transforms,
    pass: Pass,
    tiles: Tiles,
    source: Images,
    gradient: Images,
    /// Tiles of a piece, of a chunk (which has a partial result); number of chunks.
    per_piece: usize,
    per_chunk: usize,
    chunks: usize,
    /// Output channels of a task, and number of such blocks.
    block: usize,
    blocks: usize,
    source_row: usize,
    source_plane: usize,
    gradient_plane: usize,
    /// Floats of a plane of a partial result, whose rows are as long as a block.
    partial_plane: usize,
}

impl WinogradWeights {
    /// Prepares the gradient of a convolution whose forward pass [`pays`].
    pub(super) fn new(level: Level, d: &Conv) -> WinogradWeights {
        let (ker, pass) = (kernels(level), Pass::forward(d));
        let (tiles, source) = (Tiles::new(&pass), Images::source(&pass));
        let gradient = Images { size: [pass.grid[1], pass.grid[2]], channels: d.cout, window: TILE, origin: [0; 2] };
        let wanted = (PIECE * 3 / 2 / (PLANES * (d.cin + d.cout))).clamp(24, MAX_CHAIN);
        let result = PLANES * d.cin * d.cout;
        let tasks = (result.saturating_mul(tiles.all) / TASK).clamp(1, TASKS);
        let chunks = tasks.min(tiles.all / wanted).min(MAX_PARTIAL / result).max(1);
        let per_chunk = tiles.all.div_ceil(chunks);
        let per_piece = even(per_chunk, wanted);
        let blocks = tasks.div_ceil(chunks).min(d.cout / (2 * ker.nr()).max(32)).max(1);
        let block = d.cout.div_ceil(blocks).next_multiple_of(ker.nr()).min(d.cout.next_multiple_of(ker.w));
        let source_row = d.cin.next_multiple_of(ker.w);
        WinogradWeights {
            ker,
            transforms: Transforms::new(level),
            per_piece,
            per_chunk,
            chunks: tiles.all.div_ceil(per_chunk),
            block,
            blocks: d.cout.div_ceil(block),
            source_row,
            source_plane: plane(per_piece * source_row),
            gradient_plane: plane(per_piece * block),
            partial_plane: plane(d.cin * block),
            pass,
            tiles,
            source,
            gradient,
        }
    }

    /// Floats of scratch memory that all workers share, and floats for each.
    pub(super) fn workspace(&self) -> (usize, usize) {
        let zeros = self.source.zeros_len().max(self.gradient.zeros_len());
        let partial = self.chunks * self.blocks * PLANES * self.partial_plane;
        (SLACK + partial, PLANES * (self.source_plane + self.gradient_plane) + zeros)
    }

    /// gw from x and gy.
    ///
    /// # Safety
    /// As [`crate::cpu::LibKernel::run`].
    pub(super) unsafe fn run(&self, par: &Par<'_>, x: *const f32, gy: *const f32, gw: *mut f32, workspace: *mut f32) {
        let partial = align(workspace);
        let part = PLANES * self.partial_plane;
        let private = partial.wrapping_add(self.chunks * self.blocks * part);
        let local = self.workspace().1;
        let pointers = Shared((x, gy, gw, partial, private));
        run_tasks(par, self.chunks * self.blocks, &|task, worker| {
            let (x, gy, _, partial, private) = pointers.get();
            let (block, chunk) = (task % self.blocks, task / self.blocks);
            // SAFETY: tasks have their own partial results, workers their own memory.
            unsafe {
                let out = partial.add((block * self.chunks + chunk) * part);
                let channels = range(block, self.block, self.pass.out_channels);
                self.chunk(chunk, channels, x, gy, out, private.add(worker * local));
            }
        });
        let (inner, outer) = (self.pass.channels, self.pass.out_channels);
        let rows = even(inner, ((1 << 16) / (PLANES * self.chunks * self.block)).max(1));
        let pieces = inner.div_ceil(rows);
        run_tasks(par, pieces * self.blocks, &|task, _| {
            let (_, _, gw, partial, _) = pointers.get();
            let (piece, block) = (task % pieces, task / pieces);
            let channels = range(block, self.block, outer);
            for i in range(piece, rows, inner) {
                // SAFETY: tasks write disjoint rows of blocks.
                unsafe {
                    (self.transforms.taps)(&Parts {
                        ptr: partial.add(block * self.chunks * part + i * self.block),
                        plane: self.partial_plane,
                        part,
                        parts: self.chunks,
                        out: gw.add(i * outer + channels.start),
                        tap: inner * outer,
                        channels: channels.len(),
                    });
                }
            }
        });
    }

    /// Adds up the tiles of a chunk for some output channels.
    unsafe fn chunk(
        &self,
        chunk: usize,
        channels: Range<usize>,
        x: *const f32,
        gy: *const f32,
        out: *mut f32,
        private: *mut f32,
    ) {
        let (ker, inner) = (self.ker, self.pass.channels);
        let gradients = private.wrapping_add(PLANES * self.source_plane);
        let zeros = gradients.wrapping_add(PLANES * self.gradient_plane);
        // SAFETY: the private memory ends with as many floats.
        unsafe { zeros.write_bytes(0, self.source.zeros_len().max(self.gradient.zeros_len())) };
        let all = range(chunk, self.per_chunk, self.tiles.all);
        let height = even(inner, ker.mr);
        for first in all.clone().step_by(self.per_piece) {
            let tiles = first..all.end.min(first + self.per_piece);
            let next = tiles.end..all.end.min(tiles.end + self.per_piece);
            let (from, to) = (self.tiles.at(next.start), self.tiles.at(next.end.max(1) - 1));
            let (mut ahead, mut more) = (self.source.run(x, from, to), self.gradient.run(gy, from, to));
            // SAFETY: planes and rows are within the private memory and the partial result.
            unsafe {
                for (i, tile) in tiles.clone().enumerate() {
                    let at = self.tiles.at(tile);
                    let window = self.source.window(x, at, zeros);
                    (self.transforms.source)(&window, private.add(i * self.source_row), self.source_plane);
                    let window = Window {
                        channels: channels.len(),
                        channel: channels.start,
                        ..self.gradient.window(gy, at, zeros)
                    };
                    (self.transforms.gradient)(&window, gradients.add(i * self.block), self.gradient_plane);
                }
                for p in 0..PLANES {
                    for j in (0..channels.len()).step_by(ker.nr()) {
                        let nv = ker.nr().min(channels.len() - j).div_ceil(ker.w);
                        for i in (0..inner).step_by(height) {
                            let c = out.add(p * self.partial_plane + i * self.block + j);
                            ker.tile(height.min(inner - i), nv, false)(&Tile {
                                a: private.add(p * self.source_plane + i),
                                segs: ONE_SEGMENT.as_ptr(),
                                nseg: 1,
                                seg_len: tiles.len(),
                                a_step: self.source_row,
                                b: gradients.add(p * self.gradient_plane + j),
                                b_step: self.block,
                                b_skip: 0,
                                c,
                                c_step: self.block,
                                tail: ker.w,
                                accumulate: first > all.start,
                                bias: std::ptr::null(),
                                relu: false,
                                ahead: ahead.take(1, tiles.len()).or_else(|| more.take(1, tiles.len())).unwrap_or(c),
                            });
                        }
                    }
                }
            }
        }
    }
}
