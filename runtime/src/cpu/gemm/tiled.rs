//! Products by register tiles. In: a shape. Out: C, through up to three phases: pack b, multiply, combine the parts of a
//! split depth. Invariant: cuts of rows, columns and depth depend on the shape and the level only.

use super::super::{Io, Level, LibKernel, Phase, Scratch};
use super::pack::{self, Panels};
use super::tile::{Tile, Tiles, WHOLE};
use super::{FLOPS_PER_CHUNK, Shape, part};

/// Most depth of a block: a panel of A of 14 rows then takes 21 KiB of L1.
const MAX_DEPTH: usize = 384;
/// Most bytes of a block of B: what L2 holds beside the rest.
const BLOCK_B: usize = 512 << 10;
/// Operands of so many elements stay in L2 and are read where they lie.
const SMALL: usize = 64 << 10;
/// Most chunks that rows and columns are cut into.
const MAX_CHUNKS: usize = 32;
/// Most bytes of the partial products of a split depth.
const MAX_PARTS: usize = 4 << 20;

/// A tiled product.
pub(super) struct Tiled {
    shape: Shape,
    tiles: Tiles,
    /// C is computed as its transpose, `n` × `m`, because b has few columns and a is contiguous along rows of c.
    swapped: bool,
    /// Rows and columns of what is computed.
    rows: usize,
    columns: usize,
    /// Panels of rows, and how many chunks they are dealt to.
    row_panels: usize,
    row_chunks: usize,
    /// Columns of a chunk, a multiple of the panel width, and how many chunks there are.
    chunk_columns: usize,
    column_chunks: usize,
    /// Parts of the depth, each summed on its own.
    depth_chunks: usize,
    /// Columns of a tile.
    width: usize,
    pack_a: bool,
    pack_b: bool,
    pack_rows: unsafe fn(&Panels),
    phases: Vec<Phase>,
    /// Packing chunks per batch element.
    pack_chunks: usize,
}

impl Tiled {
    pub(super) fn new(shape: Shape, level: Level) -> Tiled {
        let Shape { batch, m, n, k, ta, tb } = shape;
        let tiles = Tiles::new(level);
        let lanes = tiles.lanes();
        let swapped = ta && !tb && n < lanes && m >= 2 * lanes;
        let (rows, columns) = if swapped { (n, m) } else { (m, n) };
        let narrow = columns.min(2 * lanes);
        let mut row_panels = rows.div_ceil(tiles.max_rows(narrow)).max(1);
        let single = row_panels == 1;
        // A B that is read once, or whose rows are hardly longer than a panel, is best read where it lies.
        let masked = !columns.is_multiple_of(lanes) && level != Level::Avx512;
        let small = k * columns <= SMALL;
        let pack_b = !swapped && (tb || (!single && ((columns > 4 * lanes && !small) || masked)));
        let width = if single { tiles.columns_for(rows) } else { 2 * lanes };
        // Rows a power of two apart compete for the same lines of L1.
        let spread = rows * k <= SMALL && !k.is_multiple_of(512);
        let pack_a = !swapped && !single && (ta || (columns > 2 * width && !spread));

        let flops = 2.0 * (batch * m * n) as f64 * k as f64;
        let wanted = ((flops / FLOPS_PER_CHUNK / batch.max(1) as f64) as usize).clamp(1, MAX_CHUNKS);
        let column_tiles = columns.div_ceil(width).max(1);
        // Columns are cut so that a block of B fits its cache, evenly; then rows, then columns again, until there are
        // enough chunks.
        let fitting = (BLOCK_B / 4 / block_depth(k) / width).max(1);
        let mut column_chunks = column_tiles.div_ceil(fitting);
        let mut row_chunks = wanted.div_ceil(column_chunks).min(row_panels);
        column_chunks = column_chunks.max((wanted / row_chunks).min(column_tiles));
        let mut depth_chunks = 1;
        if row_chunks * column_chunks * 2 <= wanted {
            // Too small a C for that much work: cut the depth instead.
            let room = MAX_PARTS / (batch * m * n * 4).max(1);
            depth_chunks = wanted.min(k / 512).min(room).max(1);
            if depth_chunks > 1 {
                (row_chunks, column_chunks) = (1, 1);
            }
        }
        let chunk_columns = column_tiles.div_ceil(column_chunks) * width;
        let column_chunks = columns.div_ceil(chunk_columns).max(1);
        if rows == 0 {
            row_panels = 0;
        }

        let parallel = flops > 2.0 * FLOPS_PER_CHUNK;
        let pack_chunks = (k * columns).div_ceil(64 << 10).clamp(1, columns.div_ceil(width).max(1));
        let mut phases = Vec::new();
        if pack_b {
            phases.push(Phase { chunks: batch * pack_chunks, parallel: parallel && pack_chunks > 2 });
        }
        let empty = rows == 0 || columns == 0;
        let chunks = if empty { 0 } else { batch * row_chunks * column_chunks * depth_chunks };
        phases.push(Phase { chunks, parallel });
        if depth_chunks > 1 {
            phases.push(Phase { chunks: batch, parallel: false });
        }
        Tiled {
            shape,
            tiles,
            swapped,
            rows,
            columns,
            row_panels,
            row_chunks,
            chunk_columns,
            column_chunks,
            depth_chunks,
            width,
            pack_a,
            pack_b,
            pack_rows: pack::rows_for(level),
            phases,
            pack_chunks,
        }
    }

    /// Columns of B rounded up to whole vectors.
    fn padded(&self) -> usize {
        self.columns.next_multiple_of(self.tiles.lanes())
    }

    /// Most rows of a panel.
    fn panel_rows(&self) -> usize {
        self.rows.div_ceil(self.row_panels.max(1))
    }

    fn floats_b(&self) -> usize {
        if self.pack_b { self.shape.batch * self.shape.k * self.padded() } else { 0 }
    }

    fn floats_parts(&self) -> usize {
        let Shape { batch, m, n, .. } = self.shape;
        if self.depth_chunks > 1 { batch * self.depth_chunks * m * n } else { 0 }
    }

    /// Packs some panels of b.
    unsafe fn pack(&self, chunk: usize, io: &Io<'_>) {
        let Shape { n, k, tb, .. } = self.shape;
        let (g, i) = (chunk / self.pack_chunks, chunk % self.pack_chunks);
        // SAFETY: panels lie within b and the shared scratch; chunks take different ones.
        unsafe {
            let b = io.bufs[1].add(g * k * n);
            let to = io.shared.add(g * k * self.padded());
            let panels = part(self.columns.div_ceil(self.width), self.pack_chunks, i);
            let first = panels.start * self.width;
            let columns = (panels.end * self.width).min(self.columns) - first;
            let to = to.add(first * k);
            if tb {
                for column in (0..columns).step_by(self.width) {
                    let width = self.width.min(columns - column);
                    let padded = width.next_multiple_of(self.tiles.lanes());
                    pack::panel_transposed(b.add((first + column) * k), k, k, width, to.add(column * k), padded);
                }
            } else {
                let from = b.add(first);
                (self.pack_rows)(&Panels { from, stride: n, depth: k, columns, width: self.width, to });
            }
        }
    }

    /// Multiplies one chunk.
    unsafe fn multiply(&self, chunk: usize, io: &Io<'_>) {
        let Shape { m, n, k, ta, .. } = self.shape;
        let (rest, row_chunk) = (chunk / self.row_chunks, chunk % self.row_chunks);
        let (rest, column_chunk) = (rest / self.column_chunks, rest % self.column_chunks);
        let (g, depth_chunk) = (rest / self.depth_chunks, rest % self.depth_chunks);
        let first_column = column_chunk * self.chunk_columns;
        let columns = first_column..(first_column + self.chunk_columns).min(self.columns);
        // SAFETY: row panels, columns and depths stay within the shape; packed operands within the scratch memory
        // that `scratch` asks for; chunks write different parts of c or of the partial products.
        unsafe {
            let (a, b) = (io.bufs[0].add(g * m * k), io.bufs[1].add(g * k * n));
            let c = if self.depth_chunks > 1 {
                io.shared.add(self.floats_b() + (g * self.depth_chunks + depth_chunk) * m * n)
            } else {
                io.bufs[2].add(g * m * n)
            };
            // A: pointer, row stride, depth stride. B: pointer and stride where it is not packed.
            let (a, a_row, a_depth, b, b_stride) = match (self.swapped, ta) {
                (true, _) => (b, 1, n, a, m),
                (false, true) => (a, 1, m, b, n),
                (false, false) => (a, k, 1, b, n),
            };
            let packed_b = io.shared.add(g * k * self.padded());
            let all = part(k, self.depth_chunks, depth_chunk);
            let blocks = all.len().div_ceil(block_depth(all.len())).max(1);
            for block in 0..blocks {
                let part_depth = part(all.len(), blocks, block);
                let (d0, depth) = (all.start + part_depth.start, part_depth.len());
                for panel in part(self.row_panels, self.row_chunks, row_chunk) {
                    let rows = part(self.rows, self.row_panels, panel);
                    let mut t = Tile {
                        a: a.add(rows.start * a_row + d0 * a_depth),
                        a_row,
                        a_depth,
                        offsets: WHOLE.as_ptr(),
                        segments: 1,
                        depth,
                        b: std::ptr::null(),
                        b_depth: b_stride,
                        c: std::ptr::null_mut(),
                        c_row: n,
                        last: 0,
                        add: block > 0,
                    };
                    let height = rows.len();
                    if self.pack_a {
                        if a_row == 1 {
                            pack::copy(t.a, a_depth, depth, height, io.local, height);
                        } else {
                            pack::transpose(t.a, a_row, height, depth, io.local, height);
                        }
                        (t.a, t.a_row, t.a_depth) = (io.local, 1, height);
                    }
                    let packed = t.a_row == 1;
                    let mut column = columns.start;
                    while column < columns.end {
                        let width = self.width.min(columns.end - column);
                        if self.pack_b {
                            let padded = width.next_multiple_of(self.tiles.lanes());
                            t.b = packed_b.add(column * k + d0 * padded);
                            t.b_depth = padded;
                        } else {
                            t.b = b.add(d0 * b_stride + column);
                        }
                        if self.swapped {
                            self.swapped_tile(&mut t, c.add(column * n + rows.start), io.local, height, width);
                        } else {
                            t.c = c.add(rows.start * n + column);
                            self.tiles.run(&mut t, height, width, packed);
                        }
                        column += width;
                    }
                }
            }
        }
    }

    /// A tile of the transpose of c, stored as c: `rows` columns of c times `width` rows of it.
    unsafe fn swapped_tile(&self, t: &mut Tile, c: *mut f32, local: *mut f32, rows: usize, width: usize) {
        let n = self.shape.n;
        // SAFETY: the local scratch holds a tile; c holds `width` rows, of which `rows` columns are touched.
        unsafe {
            (t.c, t.c_row) = (local, width);
            if t.add {
                pack::transpose(c, n, width, rows, local, width);
            }
            self.tiles.run(t, rows, width, true);
            pack::transpose(local, width, rows, width, c, n);
        }
    }

    /// Adds the parts of a split depth in order.
    unsafe fn combine(&self, g: usize, io: &Io<'_>) {
        let Shape { m, n, .. } = self.shape;
        // SAFETY: as in `multiply`.
        unsafe {
            let parts = io.shared.add(self.floats_b() + g * self.depth_chunks * m * n);
            let c = io.bufs[2].add(g * m * n);
            for i in 0..m * n {
                let mut sum = *parts.add(i);
                for p in 1..self.depth_chunks {
                    sum += *parts.add(p * m * n + i);
                }
                *c.add(i) = sum;
            }
        }
    }
}

/// Depth of the blocks that a depth is cut into, evenly.
fn block_depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(MAX_DEPTH).max(1)).max(1)
}

impl LibKernel for Tiled {
    fn phases(&self) -> &[Phase] {
        &self.phases
    }

    fn scratch(&self) -> Scratch {
        let tile = if self.swapped { self.rows * self.width } else { 0 };
        let a = if self.pack_a { self.panel_rows() * self.shape.k.min(MAX_DEPTH) } else { 0 };
        Scratch { shared: (self.floats_b() + self.floats_parts()) * 4, local: a.max(tile) * 4 }
    }

    unsafe fn run(&self, phase: usize, chunk: usize, io: &Io<'_>) {
        // SAFETY: passed on to the caller.
        unsafe {
            match (phase, self.pack_b) {
                (0, true) => self.pack(chunk, io),
                (0, false) | (1, true) => self.multiply(chunk, io),
                _ => self.combine(chunk, io),
            }
        }
    }
}
