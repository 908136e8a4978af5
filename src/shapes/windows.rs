//! Geometry of convolution and pooling (kur-reference 3.3 and 3.6): input shape, window, stride -> output shape.

use super::infer::{Cx, Seen};
use super::{Size, shape_text};
use crate::diag::Diagnostic;
use crate::model::types::{Border, Layer, Spanned};

/// Largest window and stride.
const MAX_WINDOW: u64 = u16::MAX as u64;

/// Output size and padding before the first cell of one spatial axis (TensorFlow's `same`); `None` when the window is
/// larger than the input.
#[must_use]
pub fn window(n: u64, k: u64, s: u64, border: Border) -> Option<(u64, u64)> {
    match border {
        Border::Same => {
            let out = n.div_ceil(s.max(1));
            let total = (out.saturating_sub(1) * s + k).saturating_sub(n);
            Some((out, total / 2))
        }
        Border::Valid => (k <= n).then(|| ((n - k) / s.max(1) + 1, 0)),
    }
}

/// Cells that a window of `k` cells reaches over when they are `dilation` apart.
#[must_use]
pub fn reach(k: u64, dilation: u64) -> u64 {
    k.saturating_sub(1).saturating_mul(dilation).saturating_add(1)
}

/// The window of a layer.
pub(super) struct Window<'w> {
    pub(super) size: &'w Spanned<Vec<u64>>,
    pub(super) strides: &'w [u64],
    /// Distance between the cells of the window.
    pub(super) dilation: &'w [u64],
    pub(super) border: Border,
}

/// Spatial output sizes and the input's channels.
pub(super) fn windows<'a>(
    cx: &mut Cx<'a, '_>,
    layer: &Layer,
    word: &str,
    x: &Seen<'_, 'a>,
    w: &Window<'_>,
) -> Option<(Vec<Size>, Size)> {
    let d = w.size.value.len();
    let Some((channels, spatial)) = x.shape.split_last().filter(|(_, spatial)| spatial.len() == d) else {
        return wrong_rank(cx, layer, word, x, w);
    };
    let mut output = Vec::with_capacity(d + 1);
    for (axis, (((&n, &k), &s), &spread)) in
        spatial.iter().zip(&w.size.value).zip(w.strides).zip(w.dilation).enumerate()
    {
        let k = reach(k, spread);
        if !(1..=MAX_WINDOW).contains(&k) || !(1..=MAX_WINDOW).contains(&s) {
            let text = format!("size and strides of `{word}` must be from 1 to {MAX_WINDOW}");
            let d = Diagnostic::error("invalid-value", text).at(w.size.span, format!("size {k}, stride {s}"));
            cx.push(layer, d);
            return None;
        }
        output.push(match n {
            Size::Known(n) => match window(n, k, s, w.border) {
                Some((out, _)) => Size::Known(out),
                None => {
                    let text = format!("the {word} window is larger than its input: {k} > {n} along axis {axis}");
                    let help = "use a smaller `size`, `border: same`, or fewer pooling layers before";
                    return cx.mismatch(layer, text, (w.size.span, format!("size {k}")), x, help);
                }
            },
            unknown => unknown,
        });
    }
    Some((output, *channels))
}

fn wrong_rank<'a, T>(cx: &mut Cx<'a, '_>, layer: &Layer, word: &str, x: &Seen<'_, 'a>, w: &Window<'_>) -> Option<T> {
    let d = w.size.value.len();
    let want = ["[width, channels]", "[height, width, channels]", "[depth, height, width, channels]"];
    let want = want.get(d.wrapping_sub(1)).copied().unwrap_or("one to three spatial sizes and channels");
    let found = shape_text(Some(&x.shape));
    let text = format!("a {d}-D {word} needs an input of shape {want}, found {found}");
    let help = if x.shape.len() == d {
        "add the missing channel axis with `expand: -1` before this layer, or change `size`".to_owned()
    } else {
        match x.shape.len().saturating_sub(1) {
            0 => {
                format!("a {word} needs a picture or a sequence: put it before `flatten` and `dense`, or leave it out")
            }
            1 => "give `size` one number, since its input has one spatial axis".to_owned(),
            axes @ 2..=3 => format!("give `size` {axes} numbers, one per spatial axis of its input"),
            axes => format!("its input has {axes} spatial axes; at most 3 are possible: flatten or merge some of them"),
        }
    };
    let label = format!("{d} {} {d}-D", if d == 1 { "size makes it" } else { "sizes make it" });
    cx.mismatch(layer, text, (w.size.span, label), x, help)
}
