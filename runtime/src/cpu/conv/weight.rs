//! Gradient to the weights: for every tap and pair of channels the sum over samples and cells. In: a geometry. Out: gw, in
//! two phases: groups of samples are summed each into a buffer of its own, then the buffers in order. Invariant: the groups
//! depend on the geometry only, so the sum is the same whoever computes it.

use super::super::gemm::tile::{Tile, Tiles};
use super::super::gemm::{FLOPS_PER_CHUNK, part};
use super::super::{Conv, Io, Level, LibKernel, Phase, Scratch};
use super::axis::Axis;
use super::band::{Class, Source};
use super::flops;

/// Elements of the rows of gy that a band covers: 16 KiB, half of L1.
const BAND: usize = 4 << 10;
/// Most groups of samples, and most bytes of their sums.
const MAX_GROUPS: usize = 16;
const MAX_BYTES: usize = 8 << 20;
/// Elements that one chunk of the second phase adds.
const COMBINED: usize = 32 << 10;

/// A gradient to the weights.
pub(super) struct WeightConv {
    conv: Conv,
    source: Source,
    class: Class,
    tiles: Tiles,
    /// Rows of gw that are computed at once: (tap, first row within its segment, number).
    panels: Vec<Panel>,
    groups: usize,
    /// Parts that the panels of a group are dealt to.
    parts: usize,
    phases: Vec<Phase>,
}

/// A panel of rows of gw: neighbouring input cells' channels under one tap.
struct Panel {
    /// Numbers of the tap on each axis.
    tap: [usize; 3],
    /// First element from the tap's cell.
    first: usize,
    rows: usize,
}

impl WeightConv {
    pub(super) fn new(c: &Conv, level: Level) -> WeightConv {
        let tiles = Tiles::new(level);
        let axes = [0, 1, 2].map(|a| Axis::forward(c, a));
        let source = Source { size: c.input, channels: c.cin };
        let row = (c.output[2] * c.cout).max(1);
        let mut class = Class::new(axes, source, usize::MAX >> 8);
        let most = (BAND / row).max(1);
        class.rows = class.rows.div_ceil(class.rows.div_ceil(most).max(1)).max(1);

        let merged = class.axes[2].is_dense();
        let (along, segment) = if merged { (1, c.kernel[2] * c.cin) } else { (c.kernel[2], c.cin) };
        let height = tiles.max_rows((2 * tiles.lanes()).min(c.cout));
        let count = segment.div_ceil(height);
        let mut panels = Vec::new();
        for d in 0..c.kernel[0] {
            for h in 0..c.kernel[1] {
                for w in 0..along {
                    for p in 0..count {
                        let rows = part(segment, count, p);
                        panels.push(Panel { tap: [d, h, w], first: rows.start, rows: rows.len() });
                    }
                }
            }
        }
        let work = flops(c);
        let wanted = ((work / FLOPS_PER_CHUNK) as usize).clamp(1, 64);
        let bytes = c.kernel.iter().product::<usize>() * c.cin * c.cout * 4;
        let groups = wanted.min(MAX_GROUPS).min(c.batch).min((MAX_BYTES / bytes.max(1)).max(1)).max(1);
        let parts = (wanted / groups).clamp(1, (panels.len() / 8).max(1));
        let mut phases = vec![Phase { chunks: groups * parts, parallel: work > 2.0 * FLOPS_PER_CHUNK }];
        if groups > 1 {
            let chunks = (bytes / 4).div_ceil(COMBINED);
            phases.push(Phase { chunks, parallel: chunks > 2 });
        }
        WeightConv { conv: *c, source, class, tiles, panels, groups, parts, phases }
    }

    fn weights(&self) -> usize {
        self.conv.kernel.iter().product::<usize>() * self.conv.cin * self.conv.cout
    }

    fn copy_len(&self) -> usize {
        self.class.copy_len(self.source).next_multiple_of(32)
    }

    /// Sums a group of samples into its buffer, for some of the panels.
    unsafe fn group(&self, group: usize, which: usize, io: &Io<'_>) {
        let c = &self.conv;
        let panels = &self.panels[part(self.panels.len(), self.parts, which)];
        let (inputs, outputs) = (c.input.iter().product::<usize>(), c.output.iter().product::<usize>());
        let mut add = false;
        // SAFETY: samples, bands and panels stay within the geometry; each (group, part) writes its own sums.
        unsafe {
            let sums = if self.groups > 1 { io.shared.add(group * self.weights()) } else { io.bufs[2] };
            for sample in part(c.batch, self.groups, group) {
                let x = io.bufs[0].add(sample * inputs * c.cin);
                let gy = io.bufs[1].add(sample * outputs * c.cout);
                for slice in 0..c.output[0] {
                    for band in 0..self.class.bands() {
                        let rows = self.class.rows_of(band);
                        let first = (slice * c.output[1] + rows.start) * c.output[2];
                        self.band(x, gy.add(first * c.cout), slice, rows, panels, sums, add, io.local);
                        add = true;
                    }
                }
            }
            if !add {
                self.clear(panels, sums);
            }
        }
    }

    /// Adds one band to the sums.
    #[expect(clippy::too_many_arguments, reason = "the operands of one product, used in one place")]
    unsafe fn band(
        &self,
        x: *const f32,
        gy: *const f32,
        slice: usize,
        rows: std::ops::Range<usize>,
        panels: &[Panel],
        sums: *mut f32,
        add: bool,
        local: *mut f32,
    ) {
        let c = &self.conv;
        let [d, h, w] = &self.class.axes;
        // SAFETY: the local scratch holds a copy and an offset per row; tiles stay within the band and the sums.
        unsafe {
            let at = self.class.band(x, self.source, slice, rows.clone(), local);
            let offsets = local.add(self.copy_len()).cast::<usize>();
            for i in 0..rows.len() {
                *offsets.add(i) = i * h.step * at.row;
            }
            for panel in panels {
                let [kd, kh, kw] = panel.tap;
                let cell = d.relative(kd) * at.slice + h.relative(kh) * at.row + w.relative(kw) * c.cin;
                let row = ((kd * c.kernel[1] + kh) * c.kernel[2] + kw) * c.cin + panel.first;
                let width = self.tiles.columns_for(panel.rows);
                let mut t = Tile {
                    a: at.start.wrapping_add(cell + panel.first),
                    a_row: 1,
                    a_depth: w.step * c.cin,
                    offsets,
                    segments: rows.len(),
                    depth: c.output[2],
                    b: gy,
                    b_depth: c.cout,
                    c: sums,
                    c_row: c.cout,
                    last: 0,
                    add,
                };
                for first in (0..c.cout).step_by(width) {
                    t.b = gy.add(first);
                    t.c = sums.add(row * c.cout + first);
                    self.tiles.run(&mut t, panel.rows, width.min(c.cout - first), true);
                }
            }
        }
    }

    /// Zeros, when there is nothing to sum.
    unsafe fn clear(&self, panels: &[Panel], sums: *mut f32) {
        let c = &self.conv;
        for panel in panels {
            let [kd, kh, kw] = panel.tap;
            let row = ((kd * c.kernel[1] + kh) * c.kernel[2] + kw) * c.cin + panel.first;
            // SAFETY: rows of gw.
            unsafe { std::ptr::write_bytes(sums.add(row * c.cout), 0, panel.rows * c.cout) };
        }
    }

    /// Adds the groups' buffers, in order, for some elements.
    unsafe fn combine(&self, chunk: usize, io: &Io<'_>) {
        let len = self.weights();
        for i in chunk * COMBINED..((chunk + 1) * COMBINED).min(len) {
            // SAFETY: all buffers have `len` elements.
            unsafe {
                let mut sum = *io.shared.add(i);
                for g in 1..self.groups {
                    sum += *io.shared.add(g * len + i);
                }
                *io.bufs[2].add(i) = sum;
            }
        }
    }
}

impl LibKernel for WeightConv {
    fn phases(&self) -> &[Phase] {
        &self.phases
    }

    fn scratch(&self) -> Scratch {
        let shared = if self.groups > 1 { self.groups * self.weights() * 4 } else { 0 };
        Scratch { shared, local: self.copy_len() * 4 + self.class.rows * size_of::<usize>() }
    }

    unsafe fn run(&self, phase: usize, chunk: usize, io: &Io<'_>) {
        // SAFETY: passed on to the caller.
        unsafe {
            if phase == 0 {
                self.group(chunk / self.parts, chunk % self.parts, io);
            } else {
                self.combine(chunk, io);
            }
        }
    }
}
