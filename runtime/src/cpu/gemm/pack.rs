//! Copies operands into the order in which tiles read them. In: strided matrices. Out: A as `[depth][rows]`, B as panels
//! `[depth][width]` padded with zeros to whole vectors. Invariant: only the elements asked for are read, only the panel
//! is written.

use std::arch::x86_64::{_mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_storeu_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};

use super::super::simd::{Simd, multiversion};

/// `to[c][r] = from[r][c]` for `rows` × `columns`; strides in elements.
///
/// # Safety
/// Both matrices are valid and do not overlap.
pub(crate) unsafe fn transpose(
    from: *const f32,
    from_row: usize,
    rows: usize,
    columns: usize,
    to: *mut f32,
    to_row: usize,
) {
    let (whole_rows, whole_columns) = (rows & !3, columns & !3);
    // SAFETY: blocks and edges stay within the matrices; SSE is part of x86-64.
    unsafe {
        let mut r = 0;
        while r < whole_rows {
            let f = from.add(r * from_row);
            let mut c = 0;
            while c < whole_columns {
                let x0 = _mm_loadu_ps(f.add(c));
                let x1 = _mm_loadu_ps(f.add(from_row + c));
                let x2 = _mm_loadu_ps(f.add(2 * from_row + c));
                let x3 = _mm_loadu_ps(f.add(3 * from_row + c));
                let (l01, h01) = (_mm_unpacklo_ps(x0, x1), _mm_unpackhi_ps(x0, x1));
                let (l23, h23) = (_mm_unpacklo_ps(x2, x3), _mm_unpackhi_ps(x2, x3));
                let t = to.add(c * to_row + r);
                _mm_storeu_ps(t, _mm_movelh_ps(l01, l23));
                _mm_storeu_ps(t.add(to_row), _mm_movehl_ps(l23, l01));
                _mm_storeu_ps(t.add(2 * to_row), _mm_movelh_ps(h01, h23));
                _mm_storeu_ps(t.add(3 * to_row), _mm_movehl_ps(h23, h01));
                c += 4;
            }
            while c < columns {
                for i in 0..4 {
                    *to.add(c * to_row + r + i) = *f.add(i * from_row + c);
                }
                c += 1;
            }
            r += 4;
        }
        while r < rows {
            for c in 0..columns {
                *to.add(c * to_row + r) = *from.add(r * from_row + c);
            }
            r += 1;
        }
    }
}

/// `to[r][c] = from[r][c]`.
///
/// # Safety
/// Both matrices are valid and do not overlap.
pub(crate) unsafe fn copy(from: *const f32, from_row: usize, rows: usize, columns: usize, to: *mut f32, to_row: usize) {
    for r in 0..rows {
        // SAFETY: a row of each matrix; for short rows a plain loop beats a call of memcpy.
        unsafe {
            let (f, t) = (from.add(r * from_row), to.add(r * to_row));
            if columns > 64 {
                std::ptr::copy_nonoverlapping(f, t, columns);
                continue;
            }
            let mut c = 0;
            while c + 4 <= columns {
                _mm_storeu_ps(t.add(c), _mm_loadu_ps(f.add(c)));
                c += 4;
            }
            while c < columns {
                *t.add(c) = *f.add(c);
                c += 1;
            }
        }
    }
}

/// One panel of B, `[depth][width]` from the columns `0..columns` of op(b): element (d, c) lies at `c · stride + d`.
///
/// # Safety
/// The part of b is valid, and so are `depth · width` elements of the panel; `columns ≤ width`.
pub(crate) unsafe fn panel_transposed(
    b: *const f32,
    stride: usize,
    depth: usize,
    columns: usize,
    to: *mut f32,
    width: usize,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        transpose(b, stride, columns, depth, to, width);
        if columns < width {
            for d in 0..depth {
                std::ptr::write_bytes(to.add(d * width + columns), 0, width - columns);
            }
        }
    }
}

/// As [`panel_transposed`] where element (d, c) lies at `d · stride + c`.
///
/// # Safety
/// As there.
pub(crate) unsafe fn panel(b: *const f32, stride: usize, depth: usize, columns: usize, to: *mut f32, width: usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        copy(b, stride, depth, columns, to, width);
        if columns < width {
            for d in 0..depth {
                std::ptr::write_bytes(to.add(d * width + columns), 0, width - columns);
            }
        }
    }
}

/// Several panels of B from whole rows of it.
pub(crate) struct Panels {
    /// Depth 0, first column.
    pub(crate) from: *const f32,
    /// From depth to depth.
    pub(crate) stride: usize,
    pub(crate) depth: usize,
    /// Columns of all panels.
    pub(crate) columns: usize,
    /// Columns of a panel, a multiple of the vector.
    pub(crate) width: usize,
    /// Where the panels go, one after the other; the last is padded to whole vectors.
    pub(crate) to: *mut f32,
}

multiversion! {
    /// Copies rows into panels.
    pub(crate) fn rows_for = rows(p: &Panels)
}

#[inline(always)]
unsafe fn rows<S: Simd>(p: &Panels) {
    // SAFETY: columns beyond the last are masked, and panels are as long as the caller promises.
    unsafe {
        let whole = p.columns / p.width * p.width;
        let rest = p.columns - whole;
        for d in 0..p.depth {
            let from = p.from.add(d * p.stride);
            let mut column = 0;
            // Row by row, as memory is read fastest in order; the panels are that many streams of writes.
            while column < whole {
                let to = p.to.add(column * p.depth + d * p.width);
                let mut c = 0;
                while c < p.width {
                    S::store(to.add(c), S::load(from.add(column + c)));
                    c += S::LANES;
                }
                column += p.width;
            }
            if rest > 0 {
                let padded = rest.next_multiple_of(S::LANES);
                let to = p.to.add(whole * p.depth + d * padded);
                let mut c = 0;
                while c < rest {
                    let v = S::load_masked(from.add(whole + c), S::mask(S::LANES.min(rest - c)));
                    S::store(to.add(c), v);
                    c += S::LANES;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Level;
    use super::*;

    #[test]
    fn panels_hold_the_operand_and_zeros() {
        for (depth, columns, width) in [(1, 1, 32), (7, 5, 32), (9, 32, 32), (33, 45, 32), (4, 80, 32)] {
            let b: Vec<f32> = (0..depth * columns).map(|i| i as f32 + 1.0).collect();
            let mut bt = vec![0.0; b.len()];
            // SAFETY: the slices have the sizes given, and 16 lanes are the most.
            unsafe { transpose(b.as_ptr(), columns, depth, columns, bt.as_mut_ptr(), depth) };
            for level in Level::available() {
                let lanes = 16;
                let mut to = vec![f32::NAN; depth * (columns + lanes)];
                let p = Panels { from: b.as_ptr(), stride: columns, depth, columns, width, to: to.as_mut_ptr() };
                // SAFETY: as above; the level is available.
                unsafe { rows_for(level)(&p) };
                for c in 0..columns {
                    let first = c / width * width;
                    let lanes = [4, 8, 16][Level::ALL.iter().position(|l| *l == level).expect("a level")];
                    let padded = width.min(columns - first).next_multiple_of(lanes);
                    for d in 0..depth {
                        assert_eq!(to[first * depth + d * padded + c - first], b[d * columns + c]);
                        assert_eq!(bt[c * depth + d], b[d * columns + c]);
                    }
                }
            }
        }
    }
}
