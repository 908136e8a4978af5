//! Forward convolution and gradient to the input: passes run as tiles whose rows are neighbouring cells of a grid row.
//!
//! In: [`Pass`]es, source, kernel. Out: the result, every cell written once.

use super::pass::{Cut, Layout, Pass};
use super::short::{Row, RowFn, row_kernel};
use crate::cpu::gemm::{Ahead, Epilogue, Kernels, SLACK, Source, Tile, align, even, kernels, pack_panel};
use crate::cpu::par::{Par, Shared, run_tasks};
use crate::cpu::{Level, PackLayout, Packing};

/// Multiply-adds of a piece of work that is handed to a thread (some 30 microseconds at full speed).
pub(super) const TASK: usize = 2_000_000;
/// Number of pieces that is enough for any number of threads; below it rows are cut as well.
const PIECES: usize = 32;
/// Cells of a result up to which its kernel is worth keeping packed: with more, packing costs less than 1 %.
const FEW_CELLS: usize = 1024;
/// Packing of this many floats is not worth a second thread.
const SMALL_KERNEL: usize = 1 << 15;

/// Passes over one source that together write one result; made once, run often.
pub(crate) struct Passes {
    ker: &'static Kernels,
    all: Vec<Prepared>,
    /// Floats of the packed kernels of all passes, and of the slab of a worker.
    packed_len: usize,
    slab_len: usize,
    /// Number of tasks of all passes.
    tasks: usize,
}

/// A pass with everything about it that does not depend on the piece.
struct Prepared {
    pass: Pass,
    cut: Cut,
    layout: Layout,
    /// Offsets of the runs of taps from the first one.
    segments: Vec<usize>,
    /// Floats of a run.
    segment_len: usize,
    /// Sums of few products have a kernel of their own, and the offsets of all factors.
    short: Option<RowFn>,
    offsets: Vec<usize>,
    /// Where its packed kernel starts.
    packed: usize,
    /// Pieces that a task takes, and the number of the first task.
    per_task: usize,
    first_task: usize,
}

fn cut(ker: &Kernels, pass: &Pass) -> Cut {
    let row_work = (pass.grid[2] * pass.out_channels).saturating_mul(pass.depth().max(1));
    let rows = even(pass.grid[1], (TASK / row_work).max(1));
    let rows_cut = Cut::new(pass, rows, pass.grid[2]);
    if rows > 1 || rows_cut.pieces >= PIECES || row_work < 2 * TASK {
        return rows_cut;
    }
    // Long rows of few samples: at least four tiles each, lest the kernel be read too often.
    let tile = even(pass.grid[2], ker.mr);
    let parts = PIECES.div_ceil(rows_cut.pieces).min(pass.grid[2].div_ceil(4 * tile)).max(1);
    Cut::new(pass, rows, pass.grid[2].div_ceil(parts).next_multiple_of(tile).min(pass.grid[2]))
}

fn packed_len(ker: &Kernels, pass: &Pass) -> usize {
    (pass.out_channels.next_multiple_of(ker.nr()) * pass.depth() + SLACK).next_multiple_of(16)
}

impl Passes {
    /// Prepares passes (at least one). No size may be 0, save numbers of taps.
    pub(super) fn new(level: Level, passes: Vec<Pass>) -> Passes {
        let ker = kernels(level);
        let (mut packed, mut slab, mut tasks) = (0, 0, 0);
        let mut all = Vec::with_capacity(passes.len());
        for pass in passes {
            let cut = cut(ker, &pass);
            let layout = Layout::new(&pass, &cut);
            let joined = pass.tap_step[2] == 1;
            let mut segments = Vec::new();
            for d in 0..pass.taps[0] {
                for h in 0..pass.taps[1] {
                    let row = d * layout.plane + h * pass.tap_step[1] * layout.pitch;
                    let runs = if joined { pass.taps[2].min(1) } else { pass.taps[2] };
                    segments.extend((0..runs).map(|w| row + w * pass.tap_step[2] * pass.channels));
                }
            }
            let segment_len = if joined { pass.taps[2] * pass.channels } else { pass.channels };
            let short = row_kernel(level, pass.depth(), segment_len, pass.out_channels);
            let offsets = match short {
                Some(_) => segments.iter().flat_map(|s| *s..s + segment_len).collect(),
                None => Vec::new(),
            };
            let work = (cut.rows * cut.cols * pass.out_channels).saturating_mul(pass.depth().max(1));
            let per_task = (TASK / work.max(1)).clamp(1, cut.pieces.div_ceil(PIECES));
            let (first_task, at) = (tasks, packed);
            tasks += cut.pieces.div_ceil(per_task);
            packed += packed_len(ker, &pass);
            slab = slab.max(layout.slab_len(&pass).next_multiple_of(16));
            all.push(Prepared {
                pass,
                cut,
                layout,
                segments,
                segment_len,
                short,
                offsets,
                packed: at,
                per_task,
                first_task,
            });
        }
        Passes { ker, all, packed_len: packed, slab_len: slab, tasks }
    }

    /// Floats of scratch memory that all workers share, and floats for each.
    pub(super) fn workspace(&self) -> (usize, usize) {
        (SLACK + self.packed_len, self.slab_len)
    }

    /// See [`crate::cpu::LibKernel::packing`]; for a forward pass.
    pub(super) fn packing(&self) -> Option<Packing> {
        let [Prepared { pass, .. }] = &self.all[..] else { return None };
        let cells = pass.batch * pass.grid.iter().product::<usize>();
        let layout = PackLayout::Taps([pass.depth(), pass.out_channels]);
        (!pass.exchange && cells <= FEW_CELLS).then_some(Packing { operand: 1, floats: self.packed_len, layout })
    }

    /// Packs the kernels of all passes.
    ///
    /// # Safety
    /// `kernel` is the convolution's, and `packed` has as many floats as all of them take.
    pub(super) unsafe fn pack(&self, par: &Par<'_>, kernel: *const f32, packed: *mut f32) {
        let (ker, all) = (self.ker, &self.all[..]);
        // All passes of a call have the same number of panels.
        let panels = all[0].pass.out_channels.div_ceil(ker.nr());
        let pointers = Shared((kernel, packed));
        let one = |pass: &Prepared, panel: usize| {
            let (kernel, packed) = pointers.get();
            // SAFETY: each panel of each pass has its own place.
            unsafe { pack(ker, &pass.pass, kernel, panel * ker.nr(), packed.add(pass.packed)) };
        };
        if self.packed_len < SMALL_KERNEL {
            all.iter().for_each(|p| (0..panels).for_each(|j| one(p, j)));
        } else {
            run_tasks(par, all.len() * panels, &|task, _| one(&all[task / panels], task % panels));
        }
    }

    /// Runs all passes, which together write the whole result. Without a kernel that is `packed` already, they pack it.
    ///
    /// # Safety
    /// As [`crate::cpu::LibKernel::run`], the pointers being those of the convolution that the passes are made from.
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
        let (ker, all, slab_len) = (self.ker, &self.all[..], self.slab_len);
        let own = align(workspace);
        let slabs = own.wrapping_add(self.packed_len);
        let bias = epilogue.bias.unwrap_or(std::ptr::null());
        let relu = epilogue.relu;
        let packed = if packed.is_null() {
            // SAFETY: the shared scratch memory begins with the packed kernels.
            unsafe { self.pack(par, kernel, own) };
            own.cast_const()
        } else {
            packed
        };
        let pointers = Shared((source, result, packed, slabs, bias));
        run_tasks(par, self.tasks, &|task, worker| {
            let (source, result, packed, slabs, bias) = pointers.get();
            let p = &all[all.partition_point(|p| p.first_task <= task) - 1];
            let first = (task - p.first_task) * p.per_task;
            for i in first..p.cut.pieces.min(first + p.per_task) {
                // SAFETY: pieces are disjoint, and each worker has its own slab.
                unsafe {
                    let slab = slabs.add(worker * slab_len);
                    piece(ker, p, i, source, packed.add(p.packed), result, slab, bias, relu);
                }
            }
        });
    }
}

/// Packs panel `j` of the kernel of a pass: `depth` rows of `nr` floats, in the order in which tiles read them.
unsafe fn pack(ker: &Kernels, pass: &Pass, kernel: *const f32, j: usize, dst: *mut f32) {
    let (inner, outer) = (pass.channels, pass.out_channels);
    let cols = ker.nr().min(outer - j);
    let panel = dst.wrapping_add(j * pass.depth());
    // SAFETY: the caller gives the whole kernel and `packed_len` floats.
    unsafe {
        if !pass.exchange {
            let source = Source { ptr: kernel, stride: outer, trans: false };
            pack_panel(ker, &source, 0..pass.depth(), j, cols, panel);
            return;
        }
        let mut at = 0;
        for d in 0..pass.taps[0] {
            for h in 0..pass.taps[1] {
                for w in 0..pass.taps[2] {
                    let tap = pass.kernel_tap([d, h, w]);
                    let source = Source { ptr: kernel.add(tap * inner * outer), stride: inner, trans: true };
                    pack_panel(ker, &source, 0..inner, j, cols, panel.add(at * inner * ker.nr()));
                    at += 1;
                }
            }
        }
    }
}

/// One piece of a pass.
#[expect(clippy::too_many_arguments, reason = "one call site")]
unsafe fn piece(
    ker: &Kernels,
    p: &Prepared,
    index: usize,
    source: *const f32,
    packed: *const f32,
    result: *mut f32,
    slab: *mut f32,
    bias: *const f32,
    relu: bool,
) {
    let pass = &p.pass;
    let piece = p.cut.piece(pass, index);
    let width = even(piece.cols.len(), ker.mr);
    let c_step = pass.out_stride[2];
    // SAFETY: the view covers what the cells of the piece see; the result covers the grid.
    unsafe {
        let view = p.layout.view(pass, &piece, source, slab);
        // The pieces that follow are mostly run by the same worker.
        let next = (index + 1 < p.cut.pieces).then(|| p.cut.piece(pass, index + 1));
        let mut ahead = next.map_or(Ahead::new(source, 0), |next| p.layout.source_run(pass, &next, source));
        let plane = result.add(pass.out_origin + piece.sample * pass.out_sample + piece.plane * pass.out_stride[0]);
        if let Some(kernel) = p.short {
            for row in piece.rows.clone() {
                kernel(&Row {
                    source: view.wrapping_add((row - piece.rows.start) * pass.step[1] * p.layout.pitch),
                    step: pass.step[2] * pass.channels,
                    offsets: &p.offsets,
                    kernel: packed,
                    result: plane.add(row * pass.out_stride[1] + piece.cols.start * c_step),
                    result_step: c_step,
                    cells: piece.cols.len(),
                    channels: pass.out_channels,
                    bias,
                    relu,
                });
            }
            return;
        }
        for j in (0..pass.out_channels).step_by(ker.nr()) {
            let cols = ker.nr().min(pass.out_channels - j);
            let nv = cols.div_ceil(ker.w);
            for row in piece.rows.clone() {
                let a = view.wrapping_add((row - piece.rows.start) * pass.step[1] * p.layout.pitch);
                // Taps above and below the source add nothing (with several planes of taps they are not one run).
                let taps = if pass.taps[0] == 1 { pass.taps_inside(1, row) } else { 0..pass.taps[1] };
                let runs = p.segments.len() / (pass.taps[0] * pass.taps[1]).max(1);
                let segments =
                    if pass.taps[0] == 1 { &p.segments[taps.start * runs..taps.end * runs] } else { &p.segments };
                for col in piece.cols.clone().step_by(width) {
                    let h = width.min(piece.cols.end - col);
                    ker.tile(h, nv, true)(&Tile {
                        a: a.wrapping_add((col - piece.cols.start) * pass.step[2] * pass.channels),
                        segs: segments.as_ptr(),
                        nseg: segments.len(),
                        seg_len: p.segment_len,
                        a_step: pass.step[2] * pass.channels,
                        b: packed.add(j * pass.depth() + taps.start * runs * p.segment_len * ker.nr()),
                        b_step: ker.nr(),
                        b_skip: 0,
                        c: plane.add(row * pass.out_stride[1] + col * c_step + j),
                        c_step,
                        tail: cols - (nv - 1) * ker.w,
                        accumulate: false,
                        bias: if bias.is_null() { bias } else { bias.add(j) },
                        relu,
                        ahead: ahead.take(segments.len(), p.segment_len).unwrap_or(packed),
                    });
                }
            }
        }
    }
}
