//! Which kernels a product uses and how it is cut into tasks.
//!
//! In: the sizes. Out: a [`Plan`]. Invariant: a plan depends on the sizes and the kernels only, never on the number of
//! threads.
//!
//! - **Blocks**: the general case. A grid of blocks of c, each of which packs what it reads often. With few inner
//!   indices they are made of long strips instead of tiles; see `shallow.rs`.
//! - **Flat**: one matrix has so few rows that the other is read just once; it is streamed in place. If the few rows
//!   are those of b, the transposed product is computed and its tiles are transposed when they are stored.
//! - **Dots**: both matrices run along the inner index and one has very few rows; vectors run along the inner index too.
//!
//! A long inner index with a small result is cut into chunks whose partial results are added in order afterwards.

use super::block::{self, SLACK, Streamed, even};
use super::kernels::{Kernels, MAX_MR};
use super::shallow::{SHALLOW, STRIP_ROWS, shallow_len};
use super::tile::DOT_COLS;
use super::{PackLayout, Problem};

/// Work of a task, in multiply-adds, that is worth waking another thread for (some 10 microseconds).
pub(super) const TASK: usize = 400_000;
/// Multiply-adds of a product in a batch from which it is cut up itself.
const LARGE: usize = 8_000_000;
/// Tasks beyond this number serve nobody.
const MAX_TASKS: usize = 64;
/// Most rows of a block whose left matrix is read in place.
const MAX_ROWS: usize = 168;
/// Most columns of a block.
const MAX_COLS: usize = 1024;
/// Workers for which a grid of blocks is made.
const ENOUGH: usize = 8;
/// Panels of rows up to which the right matrix is read in place: packing it costs about one such reading.
const FEW_PANELS: usize = 4;
/// Most floats of the packed rows of a block for one run of inner indices (half of a 512 KB second-level cache), and for
/// all of them, which are kept for the next block (all of it: they are read in order).
const PACKED: usize = 1 << 16;
const KEPT: usize = 1 << 17;
/// Least rows for which rows are packed, and least panels of columns: for a left matrix that the second-level cache does
/// not hold, and for one that it does.
const MIN_PACKED_ROWS: usize = 16;
const MIN_PACKED_PANELS: usize = 4;
const MIN_NEAR_PANELS: usize = 8;
/// Most inner indices for which the streamed matrix of a flat product is copied.
const FLAT_PACKED: usize = 128;
/// Rows up to which a right matrix that stays the same is worth keeping packed: with more, packing costs less than 3 %.
const FEW_ROWS: usize = 128;
/// Floats of a matrix that is not expected in the second-level cache.
const FAR: usize = 1 << 18;
/// Least inner indices in a chunk of a cut inner index.
const MIN_CHUNK: usize = 512;
/// Most partial results, and the number of tasks below which they are worth their price.
pub(super) const MAX_CHUNKS: usize = 16;

/// Most rows on the side of few rows of dot products.
const DOT_FEW: usize = 12;
/// Inner indices after which dot products go on to the next rows: few enough for the first-level cache.
const DOT_STEP: usize = 512;
/// Rows whose dot products are computed together, and those of them that stay in the first-level cache; a multiple of
/// each of [`super::tile::DOT_ROWS`].
pub(super) const DOT_PANEL: usize = 10 * DOT_NEAR;
pub(super) const DOT_NEAR: usize = 12;
/// Least rows of a task of dot products.
const DOT_LEAST: usize = 32;

/// Inner indices that dot products over `k` of them work on at a time.
pub(super) fn dot_block(k: usize) -> usize {
    even(k, DOT_STEP).next_multiple_of(16)
}

/// Whether vectors that hold `few` columns leave a quarter of their lanes empty or more.
fn wasteful(ker: &Kernels, few: usize) -> bool {
    4 * few <= 3 * few.next_multiple_of(ker.w)
}

/// How one product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A grid of blocks.
    Blocks,
    /// The few rows are those of a, or (`swap`) the columns of b.
    Flat { swap: bool },
    /// The few vectors are the columns of b, or (`swap`) the rows of a.
    Dots { swap: bool },
}

/// How one product is cut up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// Rows and columns of a block (of the streamed side for the flat and dot kinds).
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Inner indices per chunk.
    pub(super) chunk: usize,
    pub(super) pack_left: bool,
    /// Rows are packed for all inner indices at once, and serve several blocks.
    pub(super) keep_left: bool,
    pub(super) pack_right: bool,
}

impl Plan {
    /// The plan for `p`, whose sizes are not 0.
    pub(super) fn new(ker: &Kernels, p: &Problem) -> Plan {
        let (m, n, k) = (p.m, p.n, p.k);
        let work = m.saturating_mul(n).saturating_mul(k);
        let tasks = if work < 4 * TASK { 1 } else { (work / TASK).min(MAX_TASKS) };
        let mut plan = Plan {
            kind: Kind::Blocks,
            rows: m,
            cols: n,
            chunk: k,
            pack_left: false,
            keep_left: false,
            pack_right: false,
        };
        let swap = p.tb && Self::dots(ker, m, n, k);
        if swap || (!p.ta && Self::dots(ker, n, m, k) && (m > 1 || p.tb)) {
            plan.kind = Kind::Dots { swap };
            let many = if swap { n } else { m };
            // Fewer rows than this would not be worth turning the few columns.
            let piece = even(many, many.div_ceil(tasks).max(DOT_LEAST)).next_multiple_of(DOT_NEAR).min(many);
            if swap {
                plan.cols = piece;
            } else {
                plan.rows = piece;
            }
            plan.chunk = Self::chunk(k, tasks, many.div_ceil(piece));
            return plan;
        }
        let plain = m <= ker.mr && !p.tb;
        if plain || (p.ta && (n <= ker.mr || (n <= MAX_MR.min(2 * ker.mr) && wasteful(ker, n))) && m >= 2 * ker.w) {
            let swap = !plain;
            plan.kind = Kind::Flat { swap };
            let (len, unit) = (if swap { m } else { n }, 8 * ker.w);
            let piece = len.div_ceil(tasks).next_multiple_of(unit);
            if swap {
                plan.rows = piece;
            } else {
                plan.cols = piece;
            }
            plan.chunk = Self::chunk(k, tasks, len.div_ceil(piece));
            plan.pack_right = swap && k <= FLAT_PACKED && k * m >= FAR;
            return plan;
        }
        // Each inner index of a transposed matrix is a cache line of its own, and often a page.
        let panels = if m * k <= KEPT { MIN_NEAR_PANELS } else { MIN_PACKED_PANELS };
        plan.pack_left = p.ta && m >= MIN_PACKED_ROWS && n >= panels * ker.nr() && k > SHALLOW;
        plan.pack_right = p.tb || (m > FEW_PANELS * ker.mr && n > ker.nr());
        (plan.rows, plan.cols) = Self::grid(ker, p, tasks, plan.pack_left, plan.pack_right);
        plan.keep_left = plan.pack_left && Self::kept(p, plan.rows);
        let blocks = m.div_ceil(plan.rows) * n.div_ceil(plan.cols);
        if blocks < ENOUGH {
            plan.chunk = Self::chunk(k, tasks, blocks);
        }
        plan
    }

    /// Whether a worker keeps its packed rows, if it packs them, for other blocks.
    fn kept(p: &Problem, rows: usize) -> bool {
        rows.min(p.m) * p.k <= KEPT
    }

    /// Rows and columns of a block. Rows of blocks pack the same columns, and columns of blocks the same rows unless
    /// they are kept: of all grids the one that would be done first by as many workers as there are blocks, up to
    /// [`ENOUGH`].
    fn grid(ker: &Kernels, p: &Problem, tasks: usize, pack_left: bool, pack_right: bool) -> (usize, usize) {
        let (m, n) = (p.m, p.n);
        let (row_unit, col_unit) = if p.k <= SHALLOW {
            (STRIP_ROWS, ker.strip_width())
        } else {
            (block::panel_rows(ker, m, !p.ta, p.k), ker.nr())
        };
        // In units of a sixteenth of a multiply-add of all lanes, for one inner index.
        let (left_cost, right_cost) = (if pack_left { 4 * m } else { 0 }, if p.tb { 5 * n } else { 3 * n });
        let max_rows = if pack_left { PACKED / p.k.min(ker.kc) / row_unit * row_unit } else { MAX_ROWS };
        let mut best = (f64::INFINITY, 0, 0);
        for row_blocks in m.div_ceil(max_rows)..=m.div_ceil(max_rows).max(tasks) {
            let rows = m.div_ceil(row_unit).div_ceil(row_blocks) * row_unit;
            let row_blocks = m.div_ceil(rows);
            let least = n.div_ceil(MAX_COLS);
            for col_blocks in least..=least.max(tasks.div_ceil(row_blocks)) {
                let cols = n.div_ceil(col_unit).div_ceil(col_blocks) * col_unit;
                let col_blocks = n.div_ceil(cols);
                let left_packed = if Self::kept(p, rows) { 1 } else { col_blocks };
                let packing = left_packed * left_cost + if pack_right { row_blocks * right_cost } else { 0 };
                let workers = (row_blocks * col_blocks).min(tasks).min(ENOUGH);
                let time = (m as f64 * n as f64 + packing as f64) / workers as f64;
                if time < best.0 {
                    best = (time, rows, cols);
                }
            }
        }
        (best.1, best.2)
    }

    /// Whether products with `few` rows or columns and a long inner index have vectors along the inner index.
    /// They save arithmetic, but jump between the rows more often, so that a matrix far away is better read by tiles.
    fn dots(ker: &Kernels, few: usize, many: usize, k: usize) -> bool {
        let very_few = few < DOT_COLS && k >= ker.w;
        very_few || (few <= DOT_FEW && wasteful(ker, few) && k >= 16 * ker.w && many * k <= FAR)
    }

    /// Inner indices per chunk when there are `have` tasks where `want` are wanted.
    fn chunk(k: usize, want: usize, have: usize) -> usize {
        let chunks = (want.min(MAX_CHUNKS) / have.max(1)).min(k / MIN_CHUNK);
        if chunks > 1 { k.div_ceil(chunks).next_multiple_of(16) } else { k }
    }

    /// Inner indices that blocks work on at a time.
    pub(super) fn run(&self, ker: &Kernels, p: &Problem) -> usize {
        block::run_len(ker, self.cols.min(p.n), self.chunk.min(p.k))
    }

    /// How the right matrix lies in memory if it is packed before; `None` if the product reads it so often that packing
    /// hardly counts, or in order anyway.
    pub(super) fn layout(&self, ker: &Kernels, p: &Problem) -> Option<PackLayout> {
        let Problem { n, k, tb, .. } = *p;
        let wide = p.batch == 1 && n > ker.nr();
        match self.kind {
            Kind::Blocks if wide && k > SHALLOW && p.m <= FEW_ROWS => {
                Some(PackLayout::Product([k, n, usize::from(tb), self.chunk, self.run(ker, p)]))
            }
            Kind::Flat { swap: false } if wide => {
                Some(PackLayout::Panels([k, n, self.panels(ker, p, std::ptr::null()).panel]))
            }
            _ => None,
        }
    }

    /// The right matrix of a flat product, packed at `ptr`: panels are as wide as tiles.
    pub(super) fn panels(&self, ker: &Kernels, p: &Problem, ptr: *const f32) -> Streamed {
        let panel = ker.flat(even(p.m, ker.mr), !p.ta).1 * ker.w;
        Streamed { ptr, k: p.k, n: p.n, panel, unit: ker.w }
    }

    /// Number of chunks of the inner index.
    pub(super) fn chunks(&self, p: &Problem) -> usize {
        p.k.div_ceil(self.chunk.max(1)).max(1)
    }

    /// Floats of the partial results.
    pub(super) fn partial_len(&self, p: &Problem) -> usize {
        if self.chunks(p) > 1 { (p.m * p.n * self.chunks(p)).next_multiple_of(16) } else { 0 }
    }

    /// Floats for each worker.
    pub(super) fn private_len(&self, ker: &Kernels, p: &Problem) -> usize {
        match self.kind {
            Kind::Blocks if p.k <= SHALLOW => shallow_len(ker, self.cols.min(p.n), p.k).next_multiple_of(16),
            Kind::Blocks => {
                let k = self.chunk.min(p.k);
                let run = self.run(ker, p);
                let runs = if self.keep_left { k.div_ceil(run) } else { usize::from(self.pack_left) };
                block::block_len(ker, self.rows.min(p.m), run, runs).next_multiple_of(16)
            }
            Kind::Dots { swap } => {
                let (few, rows) = if swap { (p.m, self.cols) } else { (p.n, self.rows) };
                let step = dot_block(self.chunk.min(p.k));
                (few * step + rows.min(DOT_PANEL) * few * ker.w + 2 * SLACK).next_multiple_of(16)
            }
            Kind::Flat { .. } if self.pack_right => (block::flat_cols(ker, p.k) * p.k + SLACK).next_multiple_of(16),
            Kind::Flat { .. } => 0,
        }
    }

    /// Floats in all, on one worker.
    pub(super) fn len(&self, ker: &Kernels, p: &Problem) -> usize {
        (SLACK + self.partial_len(p) + self.private_len(ker, p)).next_multiple_of(16)
    }
}

/// Products of a batch that one task computes; 0 if each is cut up itself.
pub(super) fn group(p: &Problem) -> usize {
    let work = p.m.saturating_mul(p.n).saturating_mul(p.k);
    if p.batch == 1 || work >= LARGE { 0 } else { (TASK / work.max(1)).max(1).max(p.batch.div_ceil(MAX_TASKS)) }
}

/// Floats that all workers share (first), and floats for each (second); the workspace is the former followed by the
/// latter as often as there are workers.
pub(super) fn workspace(ker: &Kernels, p: &Problem, plan: &Plan) -> (usize, usize) {
    if group(p) > 0 {
        return (0, plan.len(ker, p));
    }
    (SLACK + plan.partial_len(p), plan.private_len(ker, p))
}
