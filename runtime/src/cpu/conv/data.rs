//! Forward pass and gradient to the input: both take weighted sums of source cells for every target cell. In: a geometry.
//! Out: the target tensor, in one phase after the weights are brought into order. Invariant: every target cell is one chain
//! over taps and channels in a fixed order.

use super::super::gemm::tile::{Tile, Tiles};
use super::super::gemm::{FLOPS_PER_CHUNK, pack, part};
use super::super::{Conv, Io, Level, LibKernel, Phase, Scratch};
use super::axis::Axis;
use super::band::{Band, Class, Source};
use super::flops;

/// Elements of a band: 128 KiB, so that it stays in L2 beside the weights.
const BAND: usize = 32 << 10;

/// A convolution of data.
pub(super) struct DataConv {
    source: Source,
    /// Target size and channels.
    target: Source,
    batch: usize,
    tiles: Tiles,
    classes: Vec<DataClass>,
    /// Weights are packed into panels of this width.
    pack: bool,
    width: usize,
    /// Kernel cells, in the order of memory.
    kernel: [usize; 3],
    /// The weights lie `[tap][target][source]`: the gradient's direction.
    transposed: bool,
    /// Bands of one sample, over all classes and slices: (class, slice, band).
    units: Vec<(usize, usize, usize)>,
    chunks: usize,
    phases: Vec<Phase>,
}

struct DataClass {
    class: Class,
    /// Taps in the order of the depth, as indices into the kernel.
    taps: Vec<usize>,
    /// Taps side by side along the width are one segment of the depth.
    merged: bool,
    /// Depth at which the class's weights start among the packed ones.
    first_depth: usize,
}

impl DataConv {
    pub(super) fn forward(c: &Conv, level: Level) -> DataConv {
        let axes = [0, 1, 2].map(|a| Axis::forward(c, a));
        let source = Source { size: c.input, channels: c.cin };
        let target = Source { size: c.output, channels: c.cout };
        DataConv::new(c, level, vec![axes], source, target, false)
    }

    pub(super) fn grad_input(c: &Conv, level: Level) -> DataConv {
        let [ds, hs, ws] = [0, 1, 2].map(|a| Axis::backward(c, a));
        let mut classes = Vec::with_capacity(ds.len() * hs.len() * ws.len());
        for d in &ds {
            for h in &hs {
                for w in &ws {
                    classes.push([d.clone(), h.clone(), w.clone()]);
                }
            }
        }
        let source = Source { size: c.output, channels: c.cout };
        let target = Source { size: c.input, channels: c.cin };
        DataConv::new(c, level, classes, source, target, true)
    }

    fn new(c: &Conv, level: Level, all: Vec<[Axis; 3]>, source: Source, target: Source, transposed: bool) -> DataConv {
        let tiles = Tiles::new(level);
        let lanes = tiles.lanes();
        let columns = target.channels;
        let widest = all.iter().map(|a| a[2].count).max().unwrap_or(0);
        let width = tiles.columns_for(widest);
        let masked = !columns.is_multiple_of(lanes) && level != Level::Avx512;
        let pack = transposed || columns > 4 * lanes || masked;
        let mut classes = Vec::with_capacity(all.len());
        let mut first_depth = 0;
        for axes in all {
            let [d, h, w] = &axes;
            let mut taps = Vec::new();
            for (kd, _) in &d.taps {
                for (kh, _) in &h.taps {
                    for (kw, _) in &w.taps {
                        taps.push((kd * c.kernel[1] + kh) * c.kernel[2] + kw);
                    }
                }
            }
            let depth = taps.len() * source.channels;
            let merged = w.is_dense();
            let class = Class::new(axes, source, BAND);
            classes.push(DataClass { class, taps, merged, first_depth });
            first_depth += depth;
        }
        let mut units = Vec::new();
        for (i, class) in classes.iter().enumerate() {
            for slice in 0..class.class.axes[0].count {
                units.extend((0..class.class.bands()).map(|band| (i, slice, band)));
            }
        }
        let work = flops(c);
        let total = c.batch * units.len();
        // Small samples share a chunk; a chunk of one band is as small as it gets.
        let chunks = ((work / FLOPS_PER_CHUNK) as usize).clamp(1, 256).min(total.max(1));
        let mut phases = Vec::new();
        if pack {
            phases.push(Phase { chunks: 1, parallel: false });
        }
        let parallel = work > 2.0 * FLOPS_PER_CHUNK;
        phases.push(Phase { chunks: if total == 0 { 0 } else { chunks }, parallel });
        DataConv {
            source,
            target,
            batch: c.batch,
            tiles,
            classes,
            pack,
            width,
            kernel: c.kernel,
            transposed,
            units,
            chunks,
            phases,
        }
    }

    fn depth(&self) -> usize {
        self.kernel.iter().product::<usize>() * self.source.channels
    }

    fn padded(&self) -> usize {
        self.target.channels.next_multiple_of(self.tiles.lanes())
    }

    /// Floats of the packed weights.
    fn packed_len(&self) -> usize {
        if self.pack { self.depth() * self.padded() } else { 0 }
    }

    fn segments(&self) -> usize {
        self.classes.iter().map(|c| c.taps.len()).max().unwrap_or(0)
    }

    fn copy_len(&self) -> usize {
        let longest = self.classes.iter().map(|c| c.class.copy_len(self.source)).max().unwrap_or(0);
        longest.next_multiple_of(32)
    }

    /// Brings the weights into panels `[depth][width]`, the depth in the order of each class's taps.
    unsafe fn pack(&self, w: *const f32, to: *mut f32) {
        let (from_channels, columns) = (self.source.channels, self.target.channels);
        let depth = self.depth();
        for first in (0..columns).step_by(self.width) {
            let width = self.width.min(columns - first);
            let padded = width.next_multiple_of(self.tiles.lanes());
            for class in &self.classes {
                for (i, tap) in class.taps.iter().enumerate() {
                    // SAFETY: the tap's weights lie in w, the panel in the shared scratch.
                    unsafe {
                        let w = w.add(tap * from_channels * columns);
                        let at = class.first_depth + i * from_channels;
                        let to = to.add(first * depth + at * padded);
                        if self.transposed {
                            let w = w.add(first * from_channels);
                            pack::panel_transposed(w, from_channels, from_channels, width, to, padded);
                        } else {
                            pack::panel(w.add(first), columns, from_channels, width, to, padded);
                        }
                    }
                }
            }
        }
    }

    /// Computes one band of one sample.
    unsafe fn unit(&self, io: &Io<'_>, sample: usize, (class, slice, band): (usize, usize, usize)) {
        let class = &self.classes[class];
        let [_, h, w] = &class.class.axes;
        let rows = class.class.rows_of(band);
        let (from_channels, columns) = (self.source.channels, self.target.channels);
        // SAFETY: the sample lies in the source, the copy in the local scratch.
        unsafe {
            let x = io.bufs[0].add(sample * self.source.size.iter().product::<usize>() * from_channels);
            let y = io.bufs[2].add(sample * self.target.size.iter().product::<usize>() * columns);
            let offsets = io.local.add(self.copy_len()).cast::<usize>();
            let at = class.class.band(x, self.source, slice, rows.clone(), io.local);
            let (segments, depth) = class.offsets(at, from_channels, offsets);
            let target = |row: usize, cell: usize| {
                let d = class.class.axes[0].first + slice * class.class.axes[0].stride;
                let r = (d * self.target.size[1] + h.first + row * h.stride) * self.target.size[2];
                (r + w.first + cell * w.stride) * columns
            };
            let height = self.tiles.max_rows(self.width.min(columns)).min(w.count.max(1));
            let panels = w.count.div_ceil(height);
            let packed = w.step * from_channels == 1;
            for row in rows.clone() {
                let line = at.start.wrapping_add((row - rows.start) * h.step * at.row);
                for p in 0..panels {
                    let cells = part(w.count, panels, p);
                    let mut t = Tile {
                        a: line.wrapping_add(cells.start * w.step * from_channels),
                        a_row: w.step * from_channels,
                        a_depth: 1,
                        offsets,
                        segments,
                        depth,
                        b: std::ptr::null(),
                        b_depth: columns,
                        c: std::ptr::null_mut(),
                        c_row: w.stride * columns,
                        last: 0,
                        add: false,
                    };
                    for first in (0..columns).step_by(self.width) {
                        let width = self.width.min(columns - first);
                        if self.pack {
                            let padded = width.next_multiple_of(self.tiles.lanes());
                            t.b = io.shared.add(first * self.depth() + class.first_depth * padded);
                            t.b_depth = padded;
                        } else {
                            t.b = io.bufs[1].add(class.first_depth * columns + first);
                        }
                        t.c = y.add(target(row, cells.start) + first);
                        self.tiles.run(&mut t, cells.len(), width, packed);
                    }
                }
            }
        }
    }
}

impl DataClass {
    /// Writes where the segments start in a band; their number and depth.
    ///
    /// # Safety
    /// `offsets` has room for every tap.
    unsafe fn offsets(&self, band: Band, channels: usize, offsets: *mut usize) -> (usize, usize) {
        let [d, h, w] = &self.class.axes;
        let mut count = 0;
        let along = if self.merged { w.taps.len().min(1) } else { w.taps.len() };
        for i in 0..d.taps.len() {
            for j in 0..h.taps.len() {
                for l in 0..along {
                    let at = d.relative(i) * band.slice + h.relative(j) * band.row + w.relative(l) * channels;
                    // SAFETY: one per tap at most.
                    unsafe { *offsets.add(count) = at };
                    count += 1;
                }
            }
        }
        (count, if self.merged { w.taps.len() * channels } else { channels })
    }
}

impl LibKernel for DataConv {
    fn phases(&self) -> &[Phase] {
        &self.phases
    }

    fn scratch(&self) -> Scratch {
        let local = self.copy_len() * 4 + self.segments() * size_of::<usize>();
        Scratch { shared: self.packed_len() * 4, local }
    }

    unsafe fn run(&self, phase: usize, chunk: usize, io: &Io<'_>) {
        // SAFETY: passed on to the caller.
        unsafe {
            if self.pack && phase == 0 {
                self.pack(io.bufs[1], io.shared);
                return;
            }
            for unit in part(self.batch * self.units.len(), self.chunks, chunk) {
                self.unit(io, unit / self.units.len(), self.units[unit % self.units.len()]);
            }
        }
    }
}
