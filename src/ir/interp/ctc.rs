//! CTC by its definition (Graves et al. 2006, kur-reference 5.2): the sum of the probabilities of all paths that give the
//! labels, and for the gradient the probability of each class at each step on such paths.

use ndarray::{ArrayD, ArrayView2, Axis, IxDyn};

/// One sample.
struct Sample<'a> {
    scores: ArrayView2<'a, f64>,
    /// Class at every place of the labels with blanks between and around them.
    path: Vec<usize>,
    steps: usize,
}

/// The samples of the operands scores, labels, numbers of frames, numbers of labels.
fn samples<'a>(blank_first: bool, args: [&'a ArrayD<f64>; 4]) -> Result<Vec<Sample<'a>>, String> {
    let [scores, labels, frames, lengths] = args;
    let classes = scores.shape()[2];
    let whole = |x: f64, most: usize| -> Option<usize> { (0..=most).find(|k| (*k as f64 - x).abs() == 0.0) };
    let mut out = Vec::new();
    for i in 0..scores.shape()[0] {
        let fault = |what: &str| format!("sample {i} has no CTC loss: {what}");
        let steps = whole(frames[[i]], scores.shape()[1]).ok_or_else(|| fault("number of frames"))?;
        let length = whole(lengths[[i]], labels.shape()[1]).ok_or_else(|| fault("number of labels"))?;
        let (blank, first) = if blank_first { (0, 1) } else { (classes - 1, 0) };
        let mut path = vec![blank];
        for l in 0..length {
            let label = classes.checked_sub(2).and_then(|most| whole(labels[[i, l]], most));
            path.extend([label.ok_or_else(|| fault("a label"))? + first, blank]);
        }
        let repeats = (3..path.len()).step_by(2).filter(|s| path[*s] == path[s - 2]).count();
        if steps < length + repeats {
            return Err(fault("fewer frames than labels"));
        }
        let scores = scores.index_axis(Axis(0), i).into_dimensionality().map_err(|e| e.to_string())?;
        out.push(Sample { scores, path, steps });
    }
    Ok(out)
}

/// ln(eᵃ + eᵇ).
fn add(a: f64, b: f64) -> f64 {
    let max = a.max(b);
    if max == f64::NEG_INFINITY { max } else { max + ((a - max).exp() + (b - max).exp()).ln() }
}

impl Sample<'_> {
    /// Places from which a path may come to place `s`: itself, the one before, and over a blank another label.
    fn sources(&self, s: usize) -> Vec<usize> {
        let skip = s >= 2 && s % 2 == 1 && self.path[s] != self.path[s - 2];
        (0..3).filter(|d| *d <= s && (*d < 2 || skip)).map(|d| s - d).collect()
    }

    fn score(&self, t: usize, s: usize) -> f64 {
        self.scores[[t, self.path[s]]]
    }

    /// ln of the summed probabilities of the paths up to every step and place, that step included.
    fn before(&self) -> Vec<Vec<f64>> {
        let mut rows: Vec<Vec<f64>> = Vec::new();
        for t in 0..self.steps {
            let row = (0..self.path.len()).map(|s| {
                let from = match rows.last() {
                    None if s < 2 => 0.0,
                    None => f64::NEG_INFINITY,
                    Some(row) => self.sources(s).into_iter().map(|k| row[k]).fold(f64::NEG_INFINITY, add),
                };
                from + self.score(t, s)
            });
            rows.push(row.collect());
        }
        rows
    }

    /// ln of the summed probabilities of the paths after every step and place.
    fn after(&self) -> Vec<Vec<f64>> {
        let places = self.path.len();
        let end = |s: usize| if s + 2 >= places { 0.0 } else { f64::NEG_INFINITY };
        let mut rows = vec![(0..places).map(end).collect::<Vec<f64>>()];
        for t in (1..self.steps).rev() {
            let next = &rows[rows.len() - 1];
            let mut row = vec![f64::NEG_INFINITY; places];
            for (s, next) in next.iter().enumerate() {
                for k in self.sources(s) {
                    row[k] = add(row[k], next + self.score(t, s));
                }
            }
            rows.push(row);
        }
        rows.reverse();
        rows
    }

    /// ln p(labels).
    fn log_probability(&self, before: &[Vec<f64>]) -> f64 {
        match before.last() {
            None => 0.0,
            Some(last) => last[last.len().saturating_sub(2)..].iter().copied().fold(f64::NEG_INFINITY, add),
        }
    }
}

/// −ln p(labels) of each sample.
pub(super) fn losses(blank_first: bool, args: [&ArrayD<f64>; 4]) -> Result<ArrayD<f64>, String> {
    let all: Vec<f64> = samples(blank_first, args)?.iter().map(|s| -s.log_probability(&s.before())).collect();
    Ok(ndarray::Array1::from(all).into_dyn())
}

/// The gradient to the scores, given that to the losses.
pub(super) fn grad(blank_first: bool, args: [&ArrayD<f64>; 4], g: &ArrayD<f64>) -> Result<ArrayD<f64>, String> {
    let mut out = ArrayD::zeros(IxDyn(args[0].shape()));
    for (i, sample) in samples(blank_first, args)?.iter().enumerate() {
        let (before, after) = (sample.before(), sample.after());
        let total = sample.log_probability(&before);
        for t in 0..sample.steps {
            for (s, class) in sample.path.iter().enumerate() {
                out[[i, t, *class]] -= g[[i]] * (before[t][s] + after[t][s] - total).exp();
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every path by itself: collapse repeats, drop blanks, compare.
    fn by_paths(scores: &ArrayD<f64>, labels: &[usize], blank: usize) -> f64 {
        let (steps, classes) = (scores.shape()[1], scores.shape()[2]);
        let mut total = 0.0;
        for number in 0..classes.pow(u32::try_from(steps).expect("few")) {
            let path: Vec<usize> =
                (0..steps).map(|t| number / classes.pow(u32::try_from(t).expect("few")) % classes).collect();
            let mut read = path.clone();
            read.dedup();
            read.retain(|k| *k != blank);
            if read == labels {
                total += (0..steps).map(|t| scores[[0, t, path[t]]]).sum::<f64>().exp();
            }
        }
        -total.ln()
    }

    #[test]
    fn losses_are_sums_over_paths() {
        let scores = ArrayD::from_shape_fn(IxDyn(&[1, 5, 4]), |ix| {
            let k = (ix[1] * 4 + ix[2]) as f64;
            (k * 1.7).sin() - 1.0
        });
        let of = |values: &[f64]| ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.to_vec()).expect("a vector");
        let cases: [&[usize]; 6] = [&[], &[0], &[1, 2], &[1, 1], &[0, 0, 2], &[2, 1, 0, 1, 2]];
        for labels in cases {
            let row: Vec<f64> = (0..6).map(|i| labels.get(i).map_or(0.0, |l| *l as f64)).collect();
            let row = ArrayD::from_shape_vec(IxDyn(&[1, 6]), row).expect("a row");
            let lengths = of(&[labels.len() as f64]);
            for blank_first in [false, true] {
                let got = losses(blank_first, [&scores, &row, &of(&[5.0]), &lengths]).expect("feasible")[[0]];
                let shifted: Vec<usize> = labels.iter().map(|l| l + usize::from(blank_first)).collect();
                let want = by_paths(&scores, &shifted, if blank_first { 0 } else { 3 });
                assert!((got - want).abs() < 1e-12, "{labels:?}: {got} against {want}");
            }
        }
        let row = ArrayD::from_shape_vec(IxDyn(&[1, 2]), vec![1.0, 1.0]).expect("a row");
        let e = losses(false, [&scores, &row, &of(&[2.0]), &of(&[2.0])]).expect_err("two frames are too few");
        assert!(e.contains("sample 0"), "{e}");
    }
}
