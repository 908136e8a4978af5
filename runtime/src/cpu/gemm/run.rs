//! Execution of a [`Plan`].
//!
//! In: the buffers. Out: the product. Invariant: tasks that run at the same time write disjoint memory: parts of c or
//! of the partial results by their task number, scratch memory by their worker number.

use super::block::{self, Left, Out, PAGE, Pack, Right, Source, Streamed, align, even, pack_panel};
use super::kernels::Kernels;
use super::plan::{DOT_NEAR, DOT_PANEL, Kind, MAX_CHUNKS, Plan, TASK, dot_block, group};
use super::shallow::{SHALLOW, shallow};
use super::tile::{DOT_COLS, DOT_MOST, DOT_ROWS, Dots};
use super::{Epilogue, Problem};
use crate::cpu::par::{Par, Shared, run_tasks, serial};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Workers that remember which rows they packed; others pack them for each block.
const REMEMBERING: usize = 64;

/// See [`super::Product::run_fused`]; there is no plan if a size is 0.
///
/// # Safety
/// As there.
#[expect(clippy::too_many_arguments, reason = "a product, its operands and where to run it")]
pub(super) unsafe fn product(
    ker: &'static Kernels,
    par: &Par<'_>,
    p: &Problem,
    plan: Option<Plan>,
    epilogue: &Epilogue,
    (a, b, c): (*const f32, *const f32, *mut f32),
    workspace: *mut f32,
    packed: *const f32,
) {
    if p.batch == 0 || p.m == 0 || p.n == 0 {
        return;
    }
    let bias = epilogue.bias.unwrap_or(std::ptr::null());
    let Some(plan) = plan else {
        // SAFETY: c and bias have the sizes of the problem.
        unsafe { finish(c, &[], p.batch * p.m, p.n, bias, epilogue.relu) };
        return;
    };
    let chunks = plan.chunks(p);
    let first =
        Job { ker, p: *p, plan, chunks, a, b, c, bias, relu: epilogue.relu, workspace: align(workspace), packed };
    // SAFETY: item `i` of the batch lies at these offsets.
    let item = |i: usize| unsafe {
        let Job { a, b, c, .. } = first;
        Job { a: a.add(i * p.m * p.k), b: b.add(i * p.k * p.n), c: c.add(i * p.m * p.n), ..first }
    };
    let per_task = group(p);
    if per_task == 0 {
        // SAFETY: handed on to the caller.
        (0..p.batch).for_each(|i| unsafe { item(i).run(par) });
        return;
    }
    let len = plan.len(ker, p);
    let item = Shared(&item);
    run_tasks(par, p.batch.div_ceil(per_task), &|task, worker| {
        for i in task * per_task..p.batch.min((task + 1) * per_task) {
            let job = (item.get())(i);
            // SAFETY: items have their own c, and workers their own part of the workspace.
            unsafe { Job { workspace: job.workspace.add(worker * len), ..job }.run(&serial) };
        }
    });
}

/// One product.
#[derive(Clone, Copy)]
struct Job {
    ker: &'static Kernels,
    p: Problem,
    plan: Plan,
    /// Number of chunks of the inner index.
    chunks: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    /// Null for none.
    bias: *const f32,
    relu: bool,
    /// On a cache line: partial results, then other shared memory, then that of each worker.
    workspace: *mut f32,
    /// What [`pack`] has written; null for none.
    packed: *const f32,
}

// SAFETY: tasks that share a job keep to the invariant at the top of the file.
unsafe impl Sync for Job {}

/// Packs the right matrix of a single product as it is read: flat products panel by panel, blocks by runs of inner indices
/// one after the other, each of them panel by panel.
///
/// # Safety
/// `b` is the matrix, and `to` has room for whole panels of all its columns.
pub(super) unsafe fn pack(ker: &'static Kernels, par: &Par<'_>, p: &Problem, plan: &Plan, b: *const f32, to: *mut f32) {
    if plan.kind != Kind::Blocks {
        let pointers = Shared((b, plan.panels(ker, p, to)));
        run_tasks(par, p.n.div_ceil(pointers.get().1.panel), &|panel, _| {
            let (b, panels) = pointers.get();
            // SAFETY: panels have their own places.
            unsafe { panels.fill_panel(panel, b) };
        });
        return;
    }
    let (nr, run) = (ker.nr(), plan.run(ker, p));
    let padded = p.n.next_multiple_of(nr);
    let pointers = Shared((b, to));
    run_tasks(par, p.n.div_ceil(nr), &|panel, _| {
        let (b, to) = pointers.get();
        let source = Source { ptr: b, stride: if p.tb { p.k } else { p.n }, trans: p.tb };
        let cols = nr.min(p.n - panel * nr);
        for chunk in (0..p.k).step_by(plan.chunk) {
            let end = p.k.min(chunk + plan.chunk);
            for start in (chunk..end).step_by(run) {
                let k = start..end.min(start + run);
                // SAFETY: runs and panels have their own places.
                unsafe {
                    pack_panel(ker, &source, k.clone(), panel * nr, cols, to.add(start * padded + panel * nr * k.len()))
                };
            }
        }
    });
}

/// Piece `i` of `0..len` cut into pieces of `step`.
fn range(i: usize, step: usize, len: usize) -> Range<usize> {
    i * step..len.min((i + 1) * step)
}

impl Job {
    /// # Safety
    /// The buffers must be as [`super::Product::run_fused`] asks, without a batch.
    unsafe fn run(&self, par: &Par<'_>) {
        // SAFETY: handed on to the caller.
        unsafe {
            match self.plan.kind {
                Kind::Blocks => self.blocks(par),
                Kind::Flat { swap } => self.flat(par, swap),
                Kind::Dots { swap } => self.dots(par, swap),
            }
            if self.chunks > 1 {
                self.add_chunks(par);
            }
        }
    }

    /// Memory of a worker.
    fn private(&self, worker: usize) -> *mut f32 {
        let (ker, p) = (self.ker, &self.p);
        self.workspace.wrapping_add(self.plan.partial_len(p) + worker * self.plan.private_len(ker, p))
    }

    /// The result of a chunk: partial if there are several, else c itself with the epilogue.
    fn out(&self, chunk: usize) -> Out {
        let rs = self.p.n;
        if self.chunks > 1 {
            let ptr = self.workspace.wrapping_add(chunk * self.p.m * self.p.n);
            Out { ptr, rs, bias: std::ptr::null(), relu: false }
        } else {
            Out { ptr: self.c, rs, bias: self.bias, relu: self.relu }
        }
    }

    unsafe fn blocks(&self, par: &Par<'_>) {
        let (ker, p, plan) = (self.ker, &self.p, &self.plan);
        let (row_blocks, col_blocks) = (p.m.div_ceil(plan.rows), p.n.div_ceil(plan.cols));
        let run = plan.run(ker, p);
        // What rows, of which chunk, lie packed in a worker's memory.
        let packed = [const { AtomicUsize::new(usize::MAX) }; REMEMBERING];
        run_tasks(par, row_blocks * col_blocks * self.chunks, &|task, worker| {
            // Blocks of the same rows follow each other if their rows are kept.
            let (i, j, chunk) = if plan.keep_left {
                (task / col_blocks % row_blocks, task % col_blocks, task / col_blocks / row_blocks)
            } else {
                (task % row_blocks, task / row_blocks % col_blocks, task / row_blocks / col_blocks)
            };
            let rows = task / col_blocks;
            let pack = match (plan.pack_left, plan.keep_left) {
                (false, _) => Pack::Nothing,
                (true, false) => Pack::Run,
                _ if packed.get(worker).is_some_and(|p| p.swap(rows, Ordering::Relaxed) == rows) => Pack::Done,
                _ => Pack::All,
            };
            let (m, n) = (range(i, plan.rows, p.m), range(j, plan.cols, p.n));
            let k = range(chunk, plan.chunk, p.k);
            let (rs, ks) = if p.ta { (1, p.m) } else { (p.k, 1) };
            let left = Left { ptr: self.a, rs, ks, rows: !p.ta, pack };
            let right = if !self.packed.is_null() {
                Right::Packed { ptr: self.packed, cols: p.n.next_multiple_of(ker.nr()) }
            } else if plan.pack_right {
                Right::Private(Source { ptr: self.b, stride: if p.tb { p.k } else { p.n }, trans: p.tb })
            } else {
                Right::Direct { ptr: self.b, ks: p.n }
            };
            // SAFETY: blocks of a chunk are disjoint, chunks have their own results, workers their own scratch.
            unsafe {
                if p.k <= SHALLOW {
                    shallow(ker, &left, &right, &self.out(chunk), m, n, p.k, self.private(worker));
                } else {
                    block::block(ker, &left, &right, &self.out(chunk), m, n, k, run, self.private(worker));
                }
            };
        });
    }

    unsafe fn flat(&self, par: &Par<'_>, swap: bool) {
        let (p, plan) = (&self.p, &self.plan);
        let (few, many, piece) = if swap { (p.n, p.m, plan.rows) } else { (p.m, p.n, plan.cols) };
        // The few rows run along the inner index (`rows`) or lie across it.
        let rows = if swap { p.tb } else { !p.ta };
        let (rs, ks) = if rows { (p.k, 1) } else { (1, few) };
        let pieces = many.div_ceil(piece);
        // With a single column the transposed result is the same floats as the plain one, but its bias is not.
        let transposed = swap && (few > 1 || !self.bias.is_null());
        run_tasks(par, pieces * self.chunks, &|task, worker| {
            let (left, right) = if swap { (self.b, self.a) } else { (self.a, self.b) };
            let left = Left { ptr: left, rs, ks, rows, pack: Pack::Nothing };
            let (n, chunk) = (range(task % pieces, piece, many), task / pieces);
            let k = range(chunk, plan.chunk, p.k);
            // SAFETY: pieces of a chunk are disjoint, and chunks have their own results.
            unsafe {
                let out = self.out(chunk);
                if !self.packed.is_null() {
                    let right = plan.panels(self.ker, p, self.packed);
                    block::flat(self.ker, &left, &right, &out, few, n, k, transposed);
                } else if plan.pack_right {
                    let packed = self.private(worker);
                    block::flat_packed(self.ker, &left, (right, many), &out, few, n, k, transposed, packed);
                } else {
                    let right = Streamed::rows(right, p.k, many);
                    block::flat(self.ker, &left, &right, &out, few, n, k, transposed);
                }
            }
        });
    }

    unsafe fn dots(&self, par: &Par<'_>, swap: bool) {
        let (p, plan) = (&self.p, &self.plan);
        let (many, piece) = if swap { (p.n, plan.cols) } else { (p.m, plan.rows) };
        let pieces = many.div_ceil(piece);
        run_tasks(par, pieces * self.chunks, &|task, worker| {
            let (rows, chunk) = (range(task % pieces, piece, many), task / pieces);
            let k = range(chunk, plan.chunk, p.k);
            // SAFETY: the ranges of a chunk are disjoint, chunks have their own results, workers their own scratch.
            unsafe { self.dot_rows(rows, k, swap, &self.out(chunk), self.private(worker)) };
        });
    }

    /// Products of the `rows` of one matrix with the few rows of the other, which are columns of c, or rows if `swap`.
    /// The few rows are turned to run along the inner index first, if they do not.
    unsafe fn dot_rows(&self, rows: Range<usize>, k: Range<usize>, swap: bool, out: &Out, scratch: *mut f32) {
        let p = &self.p;
        let (x, y, few) = if swap { (self.b, self.a, p.m) } else { (self.a, self.b, p.n) };
        let along = if swap { !p.ta } else { p.tb };
        let (step, group) = (dot_block(k.len()), even(few, DOT_COLS));
        // Rows a multiple of a page apart share a cache set.
        let near = if p.k.is_multiple_of(PAGE) { DOT_ROWS[group - 1] } else { DOT_NEAR };
        let turned = align(scratch);
        let carry = turned.wrapping_add(if along { 0 } else { few * step });
        for some in rows.clone().step_by(DOT_PANEL).map(|i| i..rows.end.min(i + DOT_PANEL)) {
            for p0 in k.clone().step_by(step) {
                let len = step.min(k.end - p0);
                let (begin, end) = (p0 == k.start, p0 + len == k.end);
                // SAFETY: all rows are inside the matrices, and the scratch memory has room for what `dot_len` counts.
                unsafe {
                    if !along && (some.start == rows.start || !(begin && end)) {
                        (self.ker.transpose)(y.add(p0 * few), few, len, few, turned, step, true);
                    }
                    let (y, y_rs) = if along { (y.add(p0), p.k) } else { (turned.cast_const(), step) };
                    // A few rows at a time stay in the first-level cache for all columns.
                    for near in some.clone().step_by(near).map(|i| i..some.end.min(i + near)) {
                        for q0 in (0..few).step_by(group) {
                            let cols = group.min(few - q0);
                            let mut i = near.start;
                            while i < near.end {
                                let full = near.end - i >= DOT_ROWS[cols - 1];
                                let h = if full { DOT_ROWS[cols - 1] } else { 1 };
                                let sums = self.ker.dot[usize::from(full)][cols - 1](&Dots {
                                    x: x.add(i * p.k + p0),
                                    x_rs: p.k,
                                    y: y.add(q0 * y_rs),
                                    y_rs,
                                    k: len,
                                    carry: carry.wrapping_add((q0 * some.len() + (i - some.start) * cols) * self.ker.w),
                                    begin,
                                    end,
                                });
                                if end {
                                    self.store_dots(&sums, i, h, q0, cols, swap, out);
                                }
                                i += h;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Stores a block of dot products, rows from `i` and columns from `q0`, with the epilogue.
    #[expect(clippy::too_many_arguments, reason = "two ranges")]
    unsafe fn store_dots(
        &self,
        sums: &[[f32; DOT_COLS]; DOT_MOST],
        i: usize,
        rows: usize,
        q0: usize,
        cols: usize,
        swap: bool,
        out: &Out,
    ) {
        for (d, sums) in sums.iter().enumerate().take(rows) {
            for (q, sum) in sums.iter().enumerate().take(cols) {
                let (row, col) = if swap { (q0 + q, i + d) } else { (i + d, q0 + q) };
                // SAFETY: the caller gives a block inside the result, whose columns the bias has.
                unsafe {
                    let sum = if out.bias.is_null() { *sum } else { *sum + *out.bias.add(col) };
                    *out.ptr.add(row * out.rs + col) = if out.relu && sum < 0.0 { 0.0 } else { sum };
                }
            }
        }
    }

    /// Adds up the partial results.
    unsafe fn add_chunks(&self, par: &Par<'_>) {
        let p = &self.p;
        let rows = (TASK / 8 / (p.n * self.chunks)).max(1);
        run_tasks(par, p.m.div_ceil(rows), &|task, _| {
            let r = range(task, rows, p.m);
            let mut parts = [std::ptr::null::<f32>(); MAX_CHUNKS];
            for (i, part) in parts.iter_mut().enumerate().take(self.chunks) {
                *part = self.workspace.wrapping_add((i * p.m + r.start) * p.n);
            }
            // SAFETY: tasks have disjoint rows.
            unsafe {
                let c = self.c.add(r.start * p.n);
                finish(c, &parts[..self.chunks], r.len(), p.n, self.bias, self.relu);
            }
        });
    }
}

/// Sets `c` to the sum of the parts, then applies the epilogue.
unsafe fn finish(c: *mut f32, parts: &[*const f32], rows: usize, cols: usize, bias: *const f32, relu: bool) {
    // SAFETY: the caller gives `rows * cols` floats in c and in each part, and `cols` in the bias.
    unsafe {
        let c = std::slice::from_raw_parts_mut(c, rows * cols);
        add_parts(c.as_mut_ptr(), parts, c.len());
        if !bias.is_null() {
            let bias = std::slice::from_raw_parts(bias, cols);
            c.chunks_exact_mut(cols).for_each(|row| row.iter_mut().zip(bias).for_each(|(c, b)| *c += b));
        }
        if relu {
            c.iter_mut().for_each(|c| *c = if *c < 0.0 { 0.0 } else { *c });
        }
    }
}

/// Sets `c` to the sum of the parts, added in order.
///
/// # Safety
/// `c` and all parts must have `len` floats.
pub(crate) unsafe fn add_parts(c: *mut f32, parts: &[*const f32], len: usize) {
    // SAFETY: as promised by the caller.
    unsafe {
        let c = std::slice::from_raw_parts_mut(c, len);
        let Some((first, rest)) = parts.split_first() else {
            c.fill(0.0);
            return;
        };
        c.copy_from_slice(std::slice::from_raw_parts(*first, len));
        for part in rest {
            c.iter_mut().zip(std::slice::from_raw_parts(*part, len)).for_each(|(c, x)| *c += x);
        }
    }
}
