//! Copies operands into the order in which tiles read them. In: strided matrices. Out: A as `[depth][rows]`, B as panels
//! `[depth][width]` padded with zeros to whole vectors. Invariant: only the elements asked for are read, only the panel
//! is written.

use std::arch::x86_64::{_mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_storeu_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};

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

/// One panel of B: `[depth][width]` from columns `0..columns` of op(b), `columns ≤ width`. With `transposed`, element
/// (d, c) lies at `c · stride + d`, else at `d · stride + c`.
///
/// # Safety
/// The part of b is valid, and so are `depth · width` elements of the panel.
pub(crate) unsafe fn panel(
    b: *const f32,
    stride: usize,
    transposed: bool,
    depth: usize,
    columns: usize,
    to: *mut f32,
    width: usize,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        if transposed {
            transpose(b, stride, columns, depth, to, width);
        } else {
            copy(b, stride, depth, columns, to, width);
        }
        if columns < width {
            for d in 0..depth {
                std::ptr::write_bytes(to.add(d * width + columns), 0, width - columns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_hold_the_operand_and_zeros() {
        for (depth, columns, width) in [(1, 1, 4), (7, 5, 8), (9, 8, 8), (33, 13, 16), (4, 80, 96)] {
            let b: Vec<f32> = (0..depth * columns).map(|i| i as f32 + 1.0).collect();
            for transposed in [false, true] {
                let stride = if transposed { depth } else { columns };
                let mut to = vec![f32::NAN; depth * width];
                // SAFETY: the slices have the sizes given.
                unsafe { panel(b.as_ptr(), stride, transposed, depth, columns, to.as_mut_ptr(), width) };
                for d in 0..depth {
                    for c in 0..width {
                        let at = if transposed { c * stride + d } else { d * stride + c };
                        let want = if c < columns { b[at] } else { 0.0 };
                        assert_eq!(to[d * width + c], want);
                    }
                }
            }
        }
    }
}
