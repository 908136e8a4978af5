//! From the layouts of Kur's back ends to that of the program (kur-reference 8.2): kernels `(k…, in, out)` and
//! `(in, out)`, gates side by side along the last axis.

use super::files::Tensor;
use super::names::{Dialect, split};
use crate::plan::StateSpec;

/// The values of a state from the tensors that make it; else how they differ.
pub(super) fn convert(state: &StateSpec, parts: &[&Tensor], dialect: Dialect) -> Result<Vec<f32>, String> {
    let (shape, values) = match parts {
        [one] => (one.shape.clone(), one.values.clone()),
        several => side_by_side(several)
            .ok_or_else(|| format!("the gates of `{}` have different shapes in the folder", state.name))?,
    };
    let is_kernel = split(state).1.ends_with("kernel");
    let rank = state.shape.len();
    let (shape, values) = match dialect {
        // (out, in, k…)
        Dialect::PyTorch if is_kernel && shape.len() >= 2 && rank == shape.len() => {
            let order: Vec<usize> = (2..rank).chain([1, 0]).collect();
            permute(&shape, &values, &order)
        }
        // Keras 1 has a second axis of size 1 in one-dimensional convolutions.
        Dialect::TensorFlow | Dialect::Theano if is_kernel && rank == 3 && shape.len() == 4 && shape[1] == 1 => {
            (vec![shape[0], shape[2], shape[3]], values)
        }
        _ => (shape, values),
    };
    if shape != state.shape {
        let text = |s: &[u64]| {
            let text = s.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
            if text.is_empty() { "a single number".to_owned() } else { text }
        };
        return Err(format!(
            "`{}` is {} in the folder (`{}`), {} in the model",
            state.name,
            text(&shape),
            parts[0].file(),
            text(&state.shape)
        ));
    }
    // Theano computes true convolutions, which flip the kernel along its spatial axes.
    if dialect == Dialect::Theano && is_kernel && rank >= 3 {
        return Ok(flip(&shape, &values));
    }
    Ok(values)
}

/// Joins tensors of one shape along their last axis.
fn side_by_side(parts: &[&Tensor]) -> Option<(Vec<u64>, Vec<f32>)> {
    let first = parts.first()?;
    if parts.iter().any(|p| p.shape != first.shape) {
        return None;
    }
    let mut shape = first.shape.clone();
    let last = shape.last_mut()?;
    let width = usize::try_from(*last).ok()?;
    *last *= parts.len() as u64;
    let mut values = Vec::with_capacity(first.values.len() * parts.len());
    for row in 0..first.values.len() / width.max(1) {
        for part in parts {
            values.extend_from_slice(&part.values[row * width..(row + 1) * width]);
        }
    }
    Some((shape, values))
}

/// Reorders axes: axis `i` of the result is axis `order[i]` of the input.
fn permute(shape: &[u64], values: &[f32], order: &[usize]) -> (Vec<u64>, Vec<f32>) {
    let dims: Vec<usize> = shape.iter().map(|d| usize::try_from(*d).unwrap_or(usize::MAX)).collect();
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    let new: Vec<usize> = order.iter().map(|i| dims[*i]).collect();
    let steps: Vec<usize> = order.iter().map(|i| strides[*i]).collect();
    let mut index = vec![0usize; new.len()];
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[index.iter().zip(&steps).map(|(i, s)| i * s).sum::<usize>()]);
        for axis in (0..new.len()).rev() {
            index[axis] += 1;
            if index[axis] < new[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    (order.iter().map(|i| shape[*i]).collect(), out)
}

/// Reverses all axes but the last two.
fn flip(shape: &[u64], values: &[f32]) -> Vec<f32> {
    let block: u64 = shape[shape.len() - 2..].iter().product();
    let block = usize::try_from(block).unwrap_or(usize::MAX).max(1);
    // Reversing every spatial axis reverses the order of the blocks.
    values.chunks(block).rev().flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_move_and_turn() {
        // (out 2, in 1, k 3) → (k, in, out)
        let (shape, values) = permute(&[2, 1, 3], &[0.0, 1.0, 2.0, 10.0, 11.0, 12.0], &[2, 1, 0]);
        assert_eq!((shape, values), (vec![3, 1, 2], vec![0.0, 10.0, 1.0, 11.0, 2.0, 12.0]));
        assert_eq!(flip(&[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]), [4.0, 3.0, 2.0, 1.0]);
        assert_eq!(flip(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]), [3.0, 4.0, 1.0, 2.0]);
    }

    #[test]
    fn gates_stand_side_by_side() {
        let part = |first: f32| Tensor {
            layer: "r".into(),
            name: String::new(),
            path: String::new(),
            shape: vec![2, 1],
            values: vec![first, first + 1.0],
        };
        let (a, b) = (part(0.0), part(10.0));
        assert_eq!(side_by_side(&[&a, &b]), Some((vec![2, 2], vec![0.0, 10.0, 1.0, 11.0])));
    }
}
