//! Execution of a [`Plan`].
//!
//! In: the buffers. Out: the product. Invariant: tasks that run at the same time write disjoint memory: parts of c or
//! of the partial results by their task number, scratch memory by their worker number.

use super::block::{self, Left, Out, Right, Source, align};
use super::kernels::Kernels;
use super::plan::{Kind, MAX_CHUNKS, Plan, TASK, group};
use super::tile::DOT;
use super::{Epilogue, Problem};
use crate::cpu::par::{Par, Shared, run_tasks, serial};
use std::ops::Range;

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
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    workspace: *mut f32,
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
    let first = Job { ker, p: *p, plan, chunks, a, b, c, bias, relu: epilogue.relu, workspace: align(workspace) };
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
}

// SAFETY: tasks that share a job keep to the invariant at the top of the file.
unsafe impl Sync for Job {}

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

    /// Memory for what the tasks share besides partial results.
    fn shared(&self) -> *mut f32 {
        self.workspace.wrapping_add(self.plan.partial_len(&self.p))
    }

    /// Memory of a worker.
    fn private(&self, worker: usize) -> *mut f32 {
        let (ker, p) = (self.ker, &self.p);
        self.workspace.wrapping_add(self.plan.shared_len(ker, p) + worker * self.plan.private_len(ker, p))
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
        let panels = p.n.next_multiple_of(ker.nr());
        let source = || Source { ptr: self.b, stride: if p.tb { p.k } else { p.n }, trans: p.tb };
        let packed = || self.shared();
        if plan.share_right {
            let per_task = (TASK / (4 * ker.nr() * p.k)).max(1) * ker.nr();
            run_tasks(par, p.n.div_ceil(per_task), &|task, _| {
                for j in range(task, per_task, p.n).step_by(ker.nr()) {
                    for k in (0..self.chunks).map(|i| range(i, plan.chunk, p.k)) {
                        // SAFETY: panels and chunks have their own places in the packed matrix.
                        unsafe {
                            block::pack_right(ker, &source(), &k, p.n, j, panels, packed().add(k.start * panels))
                        };
                    }
                }
            });
        }
        let (row_blocks, col_blocks) = (p.m.div_ceil(plan.rows), p.n.div_ceil(plan.cols));
        run_tasks(par, row_blocks * col_blocks * self.chunks, &|task, worker| {
            let (i, rest) = (task % row_blocks, task / row_blocks);
            let (j, chunk) = (rest % col_blocks, rest / col_blocks);
            let (m, n) = (range(i, plan.rows, p.m), range(j, plan.cols, p.n));
            let k = range(chunk, plan.chunk, p.k);
            let (rs, ks) = if p.ta { (1, p.m) } else { (p.k, 1) };
            let left = Left { ptr: self.a, rs, ks, rows: !p.ta, pack: plan.pack_left };
            let right = if plan.share_right {
                Right::Packed { ptr: packed().wrapping_add(k.start * panels), cols: panels }
            } else if plan.pack_right {
                Right::Private(source())
            } else {
                Right::Direct { ptr: self.b, ks: p.n }
            };
            // SAFETY: blocks of a chunk are disjoint, chunks have their own results, workers their own scratch.
            unsafe { block::block(ker, &left, &right, &self.out(chunk), m, n, k, self.private(worker)) };
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
        run_tasks(par, pieces * self.chunks, &|task, _| {
            let (left, right) = if swap { (self.b, self.a) } else { (self.a, self.b) };
            let left = Left { ptr: left, rs, ks, rows, pack: false };
            let (n, chunk) = (range(task % pieces, piece, many), task / pieces);
            let k = range(chunk, plan.chunk, p.k);
            // SAFETY: pieces of a chunk are disjoint, and chunks have their own results.
            unsafe { block::flat(self.ker, &left, (right, many), &self.out(chunk), few, n, k, transposed) };
        });
    }

    unsafe fn dots(&self, par: &Par<'_>, swap: bool) {
        let (p, plan) = (&self.p, &self.plan);
        let (few, many, piece) = if swap { (p.m, p.n, plan.cols) } else { (p.n, p.m, plan.rows) };
        let (x, y) = if swap { (self.b, self.a) } else { (self.a, self.b) };
        let along = if swap { !p.ta } else { p.tb };
        if !along {
            // SAFETY: the workspace has room for the few rows.
            unsafe { (self.ker.transpose)(y, few, p.k, few, self.shared(), p.k, true) };
        }
        let rows = Shared((x, if along { y } else { self.shared() }));
        run_tasks(par, many.div_ceil(piece), &|task, _| {
            let (x, y) = rows.get();
            // SAFETY: the ranges of tasks are disjoint.
            unsafe { self.dot_rows(x, y, range(task, piece, many), few, swap) };
        });
    }

    /// Products of the rows of `x` in `range` with the `few` rows of `y`, which are columns of c, or rows if `swap`.
    unsafe fn dot_rows(&self, x: *const f32, y: *const f32, range: Range<usize>, few: usize, swap: bool) {
        let (n, k) = (self.p.n, self.p.k);
        let mut i = range.start;
        while i < range.end {
            let r = if range.end - i >= DOT { DOT } else { 1 };
            // SAFETY: all rows are inside the matrices, and `few` is at most `DOT`.
            unsafe {
                let sums = self.ker.dot[usize::from(r == DOT)][few - 1](x.add(i * k), k, y, k, k);
                for (d, sums) in sums.iter().enumerate().take(r) {
                    for (q, sum) in sums.iter().enumerate().take(few) {
                        let (row, col) = if swap { (q, i + d) } else { (i + d, q) };
                        let sum = if self.bias.is_null() { *sum } else { *sum + *self.bias.add(col) };
                        *self.c.add(row * n + col) = if self.relu && sum < 0.0 { 0.0 } else { sum };
                    }
                }
            }
            i += r;
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
