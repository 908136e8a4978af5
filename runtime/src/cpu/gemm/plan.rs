//! Which kernels a product uses and how it is cut into tasks.
//!
//! In: the sizes. Out: a [`Plan`]. Invariant: a plan depends on the sizes and the kernels only, never on the number of
//! threads.
//!
//! - **Blocks**: the general case. A grid of blocks of c; the right matrix is packed by all tasks before if several
//!   rows of blocks need it, else by each block for itself.
//! - **Flat**: one matrix has so few rows that the other is read just once; it is streamed in place. If the few rows
//!   are those of b, the transposed product is computed and its tiles are transposed when they are stored.
//! - **Dots**: both matrices run along the inner index and one has very few rows; vectors run along the inner index too.
//!
//! A long inner index with a small result is cut into chunks whose partial results are added in order afterwards.

use super::Problem;
use super::block::{self, PAGE, SLACK, even};
use super::kernels::Kernels;
use super::tile::DOT;

/// Work of a task, in multiply-adds, that is worth waking another thread for (some 10 microseconds).
pub(super) const TASK: usize = 400_000;
/// Multiply-adds of a product in a batch from which it is cut up itself.
const LARGE: usize = 8_000_000;
/// Tasks beyond this number serve nobody.
const MAX_TASKS: usize = 64;
/// Most rows of a block: its packed left matrix then fills an eighth to a quarter of a 1 MB second-level cache.
const MAX_ROWS: usize = 168;
/// Most columns of a block.
const MAX_COLS: usize = 1024;
/// Least panels of rows in a block of a large product.
const MIN_PANELS: usize = 8;
/// Panels of rows up to which the right matrix is read in place: packing it costs about one such reading.
const FEW_PANELS: usize = 4;
/// Least columns of a block that packs its rows.
const MIN_PACKED_COLS: usize = 768;
/// Least inner indices in a chunk of a cut inner index.
const MIN_CHUNK: usize = 512;
/// Most partial results, and the number of tasks below which they are worth their price.
pub(super) const MAX_CHUNKS: usize = 16;

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
    pub(super) pack_right: bool,
    /// The packed right matrix is shared by all blocks.
    pub(super) share_right: bool,
}

impl Plan {
    /// The plan for `p`, whose sizes are not 0.
    pub(super) fn new(ker: &Kernels, p: &Problem) -> Plan {
        let (m, n, k) = (p.m, p.n, p.k);
        let work = m.saturating_mul(n).saturating_mul(k);
        let tasks = (work.saturating_add(TASK / 2) / TASK).clamp(1, MAX_TASKS);
        let mut plan = Plan {
            kind: Kind::Blocks,
            rows: m,
            cols: n,
            chunk: k,
            pack_left: false,
            pack_right: false,
            share_right: false,
        };
        if p.tb && m <= DOT && k >= ker.w {
            plan.kind = Kind::Dots { swap: true };
            plan.cols = even(n, n.div_ceil(tasks)).next_multiple_of(DOT);
            return plan;
        }
        if !p.ta && n <= DOT && k >= ker.w && (m > 1 || p.tb) {
            plan.kind = Kind::Dots { swap: false };
            plan.rows = m.div_ceil(tasks).next_multiple_of(DOT);
            return plan;
        }
        let plain = m <= ker.mr && !p.tb;
        if plain || (p.ta && n <= ker.mr && m >= 2 * ker.w) {
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
            return plan;
        }
        // Rows of a transposed matrix that are a multiple of a page apart fall into few cache sets.
        plan.pack_left = p.ta && n >= MIN_PACKED_COLS && m.is_multiple_of(PAGE);
        let pr = block::panel_rows(ker, m, !p.ta, k);
        let panels = m.div_ceil(pr);
        // A block needs a few panels of rows, lest the right matrix be read too often; more columns after that.
        let most = if plan.pack_left { MAX_ROWS / 2 } else { MAX_ROWS };
        let row_blocks = tasks.min((m / (MIN_PANELS * ker.mr)).max(1)).max(m.div_ceil(most));
        plan.rows = panels.div_ceil(row_blocks) * pr;
        let least = if plan.pack_left { MIN_PACKED_COLS } else { 4 * ker.nr() };
        let col_blocks = tasks.div_ceil(m.div_ceil(plan.rows)).min(n / least).max(n.div_ceil(MAX_COLS)).max(1);
        plan.cols = n.div_ceil(col_blocks).next_multiple_of(ker.nr());
        let (row_blocks, col_blocks) = (m.div_ceil(plan.rows), n.div_ceil(plan.cols));
        plan.chunk = Self::chunk(k, tasks, row_blocks * col_blocks);
        let few_rows = m <= FEW_PANELS * ker.mr;
        plan.pack_right = p.tb || !(few_rows || n <= ker.nr());
        plan.share_right = plan.pack_right && row_blocks > 1;
        plan
    }

    /// Inner indices per chunk when there are `have` tasks where `want` are wanted.
    fn chunk(k: usize, want: usize, have: usize) -> usize {
        let chunks = (want.min(MAX_CHUNKS) / have.max(1)).min(k / MIN_CHUNK);
        if chunks > 1 { k.div_ceil(chunks) } else { k }
    }

    /// Number of chunks of the inner index.
    pub(super) fn chunks(&self, p: &Problem) -> usize {
        p.k.div_ceil(self.chunk.max(1)).max(1)
    }

    /// Floats of the partial results.
    pub(super) fn partial_len(&self, p: &Problem) -> usize {
        if self.chunks(p) > 1 { (p.m * p.n * self.chunks(p)).next_multiple_of(16) } else { 0 }
    }

    /// Floats that all tasks share: partial results, then the packed right matrix or the transposed few rows.
    pub(super) fn shared_len(&self, ker: &Kernels, p: &Problem) -> usize {
        let packed = match self.kind {
            Kind::Blocks if self.share_right => p.n.next_multiple_of(ker.nr()) * p.k + SLACK,
            Kind::Dots { swap: false } if !p.tb => p.n * p.k + SLACK,
            Kind::Dots { swap: true } if p.ta => p.m * p.k + SLACK,
            _ => 0,
        };
        self.partial_len(p) + packed.next_multiple_of(16)
    }

    /// Floats for each worker.
    pub(super) fn private_len(&self, ker: &Kernels, p: &Problem) -> usize {
        match self.kind {
            Kind::Blocks => {
                block::block_len(ker, self.rows.min(p.m), self.cols.min(p.n), self.chunk.min(p.k)).next_multiple_of(16)
            }
            _ => 0,
        }
    }

    /// Floats in all, on one worker.
    pub(super) fn len(&self, ker: &Kernels, p: &Problem) -> usize {
        (SLACK + self.shared_len(ker, p) + self.private_len(ker, p)).next_multiple_of(16)
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
    (SLACK + plan.shared_len(ker, p), plan.private_len(ker, p))
}
