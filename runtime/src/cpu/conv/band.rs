//! Bands: the source cells that some target rows reach, as tiles want them. In: a source tensor `[n, d, h, w, c]` and a
//! range of targets. Out: a pointer and pitches; either into the source itself or to a zero-padded copy. Invariant: every
//! tap of every target of the band lies inside it.

use super::axis::Axis;

/// A source tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Depth, height, width.
    pub(super) size: [usize; 3],
    pub(super) channels: usize,
}

/// Where a band lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    /// The cell of the first tap of the first target.
    pub(super) start: *const f32,
    /// Elements from row to row of source cells.
    pub(super) row: usize,
    /// Elements from one source slice (depth) to the next.
    pub(super) slice: usize,
}

/// The axes of one class of targets, and how it is cut into bands of rows.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) axes: [Axis; 3],
    /// Target rows of a band.
    pub(super) rows: usize,
}

impl Class {
    /// Cuts into bands whose copies have at most about `limit` elements.
    pub(super) fn new(axes: [Axis; 3], source: Source, limit: usize) -> Class {
        let [d, h, w] = &axes;
        let slice = d.reach(0, 1.min(d.count)).1 * w.reach(0, w.count).1 * source.channels;
        let halo = h.reach(0, 1.min(h.count)).1;
        let source_rows = (limit / slice.max(1)).max(halo + 1);
        let most = (source_rows - halo) / h.step.max(1) + 1;
        let bands = h.count.div_ceil(most).max(1);
        let rows = h.count.div_ceil(bands).max(1);
        Class { axes, rows }
    }

    /// Bands of a slice of targets.
    pub(super) fn bands(&self) -> usize {
        self.axes[1].count.div_ceil(self.rows)
    }

    /// Target rows of a band.
    pub(super) fn rows_of(&self, band: usize) -> std::ops::Range<usize> {
        let first = band * self.rows;
        first..(first + self.rows).min(self.axes[1].count)
    }

    /// Elements of the largest band's copy.
    pub(super) fn copy_len(&self, source: Source) -> usize {
        let [d, h, w] = &self.axes;
        let rows = h.reach(0, self.rows).1;
        d.reach(0, 1).1 * rows * w.reach(0, w.count).1 * source.channels
    }

    /// Whether no target reaches beyond the width, so that a band may lie in the source.
    fn fits_width(&self, source: Source) -> bool {
        let (from, len) = self.axes[2].reach(0, self.axes[2].count);
        from >= 0 && from as usize + len <= source.size[2]
    }

    /// The band of target slice `d`, rows `h`: in sample `x` itself if nothing of it is padding, else copied to `to`.
    ///
    /// # Safety
    /// `x` is a whole sample of the source, and `to` holds [`Class::copy_len`] elements.
    pub(super) unsafe fn band(
        &self,
        x: *const f32,
        source: Source,
        d: usize,
        h: std::ops::Range<usize>,
        to: *mut f32,
    ) -> Band {
        let [sd, sh, sw] = source.size;
        let c = source.channels;
        let (d0, dn) = self.axes[0].reach(d, d + 1);
        let (h0, hn) = self.axes[1].reach(h.start, h.end);
        let (w0, wn) = self.axes[2].reach(0, self.axes[2].count);
        let within = |from: isize, len: usize, size: usize| from >= 0 && from as usize + len <= size;
        if self.fits_width(source) && within(d0, dn, sd) && within(h0, hn, sh) {
            let cell = (d0 as usize * sh + h0 as usize) * sw + w0 as usize;
            return Band { start: x.wrapping_add(cell * c), row: sw * c, slice: sh * sw * c };
        }
        let row = wn * c;
        // Real cells of a row: from `left` on, `real` of them.
        let left = (-w0).clamp(0, wn as isize) as usize;
        let end = (sw as isize - w0).clamp(left as isize, wn as isize) as usize;
        let (left, real, right) = (left * c, (end - left) * c, (wn - end) * c);
        for i in 0..dn {
            let di = d0 + i as isize;
            for j in 0..hn {
                let hj = h0 + j as isize;
                // SAFETY: the row lies in the copy, and the cells that are read lie in the sample.
                unsafe {
                    let t = to.add((i * hn + j) * row);
                    if di < 0 || di >= sd as isize || hj < 0 || hj >= sh as isize {
                        std::ptr::write_bytes(t, 0, row);
                        continue;
                    }
                    std::ptr::write_bytes(t, 0, left);
                    if real > 0 {
                        let cell = (di as usize * sh + hj as usize) * sw + (w0 + (left / c) as isize) as usize;
                        std::ptr::copy_nonoverlapping(x.add(cell * c), t.add(left), real);
                    }
                    std::ptr::write_bytes(t.add(left + real), 0, right);
                }
            }
        }
        Band { start: to, row, slice: hn * row }
    }
}
