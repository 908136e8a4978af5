//! Connectionist temporal classification: Graves et al. 2006, the forward-backward algorithm in log space. In: scores that
//! are used as log-probabilities `[n,t,c]`, labels `[n,l]`, lengths of both `[n]`. Out: −ln p(labels) for each sample, or its
//! gradient to the scores. Invariants: all sums are in f64, so long sequences lose no digits; a task computes one sample;
//! frames beyond a sample's length neither count nor get a gradient; lengths and labels that make no sense are found before
//! anything is computed.

use super::par::{Par, Shared, run_tasks};
use super::{Io, KernelFault, LibKernel, Scratch};
use crate::dim::Dim;
use crate::error::count;
use crate::plan::CtcGeometry;

/// The kernel.
pub(crate) struct Ctc {
    n: usize,
    t: usize,
    classes: usize,
    labels: usize,
    /// The blank is class 0 and label k is class k + 1; otherwise the blank is the last class.
    blank_first: bool,
    /// Whether to give the gradient; there is one more operand then, the gradient to the losses.
    gradient: bool,
}

/// A sample that has a loss: its scores, its labels without padding, its frames.
struct Sample<'a> {
    scores: &'a [f32],
    labels: &'a [f32],
    steps: usize,
}

impl Ctc {
    pub(crate) fn new(g: &CtcGeometry, gradient: bool, syms: &[u64]) -> Ctc {
        let size = |d: Dim| d.eval(syms) as usize;
        Ctc {
            n: size(g.batch),
            t: size(g.steps),
            classes: size(g.classes),
            labels: size(g.labels),
            blank_first: g.blank_first,
            gradient,
        }
    }

    /// f64 values of each worker: the forward variables of all steps, two rows of backward ones, a sum for each class.
    fn cells(&self) -> usize {
        (self.t + 2) * (2 * self.labels + 1) + self.classes
    }

    fn blank(&self) -> usize {
        if self.blank_first { 0 } else { self.classes.saturating_sub(1) }
    }

    /// The class at place `s` of the labels with blanks between and around them.
    fn class(&self, labels: &[f32], s: usize) -> usize {
        if s.is_multiple_of(2) { self.blank() } else { labels[s / 2] as usize + usize::from(self.blank_first) }
    }

    /// The frames and labels of a sample.
    ///
    /// # Errors
    /// They make no sense, or no path of so many frames gives the labels.
    fn sample<'a>(&self, scores: &'a [f32], labels: &'a [f32], steps: f32, length: f32) -> Result<Sample<'a>, String> {
        let whole = |x: f32, most: usize| (x.fract() == 0.0 && x >= 0.0 && x <= most as f32).then_some(x as usize);
        let Some(length) = whole(length, self.labels) else {
            return Err(format!("its number of labels is {length}, but there are up to {}", self.labels));
        };
        let Some(steps) = whole(steps, self.t) else {
            return Err(format!("its number of frames is {steps}, but there are up to {}", self.t));
        };
        let labels = &labels[..length];
        let Some(most) = self.classes.checked_sub(2) else {
            return Err("CTC needs a class beside the blank".to_owned());
        };
        if let Some(bad) = labels.iter().find(|l| whole(**l, most).is_none()) {
            return Err(format!("the label {bad} is none of the {} labels, which are 0 to {most}", most + 1));
        }
        let repeats = labels.windows(2).filter(|w| w[0] == w[1]).count();
        if steps < length + repeats {
            let why = if repeats == 0 { String::new() } else { format!(", {repeats} of them repeated,") };
            return Err(format!(
                "{}{why} {} at least {}, but the output has {steps}",
                count(length as u64, "label"),
                if length == 1 { "needs" } else { "need" },
                count((length + repeats) as u64, "frame"),
            ));
        }
        Ok(Sample { scores, labels, steps })
    }

    /// Fills the forward variables, row by row, and gives ln p(labels).
    fn forward(&self, x: &Sample<'_>, alpha: &mut [f64]) -> f64 {
        let places = 2 * x.labels.len() + 1;
        if x.steps == 0 {
            return 0.0;
        }
        for t in 0..x.steps {
            let (done, rest) = alpha.split_at_mut(t * places);
            let before = done.len().checked_sub(places).map(|i| &done[i..]);
            for s in 0..places {
                let from = match before {
                    None if s < 2 => 0.0,
                    None => f64::NEG_INFINITY,
                    Some(a) => log_sum([a[s], at(a, s, 1), if self.skips(x, s) { at(a, s, 2) } else { LOG_ZERO }]),
                };
                rest[s] = from + self.score(x, t, s);
            }
        }
        let last = &alpha[(x.steps - 1) * places..x.steps * places];
        log_sum([last[places - 1], at(last, places - 1, 1), LOG_ZERO])
    }

    /// Whether a path may come to place `s` from two places before: over a blank between different labels.
    fn skips(&self, x: &Sample<'_>, s: usize) -> bool {
        s >= 2 && !s.is_multiple_of(2) && x.labels[s / 2] != x.labels[s / 2 - 1]
    }

    fn score(&self, x: &Sample<'_>, t: usize, s: usize) -> f64 {
        f64::from(x.scores[t * self.classes + self.class(x.labels, s)])
    }

    /// Adds the gradient −g · p(place | labels) of every step to `out`.
    fn backward(&self, x: &Sample<'_>, g: f64, memory: &mut [f64], out: &mut [f32]) {
        let places = 2 * x.labels.len() + 1;
        let log_p = self.forward(x, memory);
        let (alpha, rows) = memory.split_at_mut(x.steps * places);
        let (rows, sums) = rows.split_at_mut(2 * places);
        let (mut beta, mut after) = rows.split_at_mut(places);
        let sums = &mut sums[..self.classes];
        for t in (0..x.steps).rev() {
            for (s, beta) in beta.iter_mut().enumerate() {
                *beta = if t + 1 == x.steps {
                    if s + 2 >= places { 0.0 } else { LOG_ZERO }
                } else {
                    let to = |d: usize| after.get(s + d).map_or(LOG_ZERO, |b| b + self.score(x, t + 1, s + d));
                    let skip = s + 2 < places && self.skips(x, s + 2);
                    log_sum([to(0), to(1), if skip { to(2) } else { LOG_ZERO }])
                };
            }
            // Several places may have one class, so their sum comes before the rounding.
            sums.fill(0.0);
            for s in 0..places {
                sums[self.class(x.labels, s)] += (alpha[t * places + s] + beta[s] - log_p).exp();
            }
            for (out, sum) in out[t * self.classes..].iter_mut().zip(&*sums) {
                *out = (-g * sum) as f32;
            }
            std::mem::swap(&mut beta, &mut after);
        }
    }
}

const LOG_ZERO: f64 = f64::NEG_INFINITY;

/// The element `d` places before `s`.
fn at(row: &[f64], s: usize, d: usize) -> f64 {
    s.checked_sub(d).map_or(LOG_ZERO, |i| row[i])
}

/// ln Σ eˣ; NaN if there is one. The largest term is 1, so it needs no exponential, nor do places that no path reaches.
fn log_sum(x: [f64; 3]) -> f64 {
    let plain = x[0] + x[1] + x[2];
    let (high, low) = (x[0].max(x[1]), x[0].min(x[1]));
    let (max, middle) = (high.max(x[2]), high.min(x[2]));
    if max == LOG_ZERO || plain.is_nan() {
        return plain;
    }
    let term = |x: f64| if x == LOG_ZERO { 0.0 } else { (x - max).exp() };
    max + (1.0 + term(middle) + term(low)).ln()
}

impl LibKernel for Ctc {
    fn scratch(&self) -> Scratch {
        // One more, for the alignment of f64.
        Scratch { shared: 8, local: self.cells() * 8 }
    }

    unsafe fn check(&self, io: &Io<'_>) -> Result<(), KernelFault> {
        for i in 0..self.n {
            // SAFETY: sample `i` of each buffer.
            let sample = unsafe {
                let labels = std::slice::from_raw_parts(io.bufs[1].add(i * self.labels), self.labels);
                self.sample(&[], labels, *io.bufs[2].add(i), *io.bufs[3].add(i))
            };
            sample.map_err(|message| KernelFault { sample: i as u64, message })?;
        }
        Ok(())
    }

    unsafe fn run(&self, par: &Par<'_>, io: &Io<'_>) {
        let (t, c, l) = (self.t, self.classes, self.labels);
        let out = io.bufs[io.bufs.len() - 1];
        let work = io.scratch.cast::<u8>();
        let work = work.wrapping_add(work.align_offset(8)).cast::<f64>();
        let pointers = Shared((io.bufs[0], io.bufs[1], io.bufs[2], io.bufs[3], io.bufs[4], out, work));
        run_tasks(par, self.n, &|i, worker| {
            let (scores, labels, steps, lengths, g, out, work) = pointers.get();
            // SAFETY: sample `i` of each buffer and this worker's memory; tasks have different samples.
            unsafe {
                let memory = std::slice::from_raw_parts_mut(work.add(worker * self.cells()), self.cells());
                let scores = std::slice::from_raw_parts(scores.add(i * t * c), t * c);
                let labels = std::slice::from_raw_parts(labels.add(i * l), l);
                let sample = self.sample(scores, labels, *steps.add(i), *lengths.add(i));
                if self.gradient {
                    let out = std::slice::from_raw_parts_mut(out.add(i * t * c), t * c);
                    out.fill(0.0);
                    if let Ok(x) = sample {
                        self.backward(&x, f64::from(*g.add(i)), memory, out);
                    }
                } else {
                    *out.add(i) = sample.map_or(f32::NAN, |x| -self.forward(&x, memory) as f32);
                }
            }
        });
    }
}

/// Sequence lengths behind windows: `(x − window) / stride + 1`, rounded down, one window after the other; 0 where no
/// window fits.
pub(crate) struct Lengths {
    pub(crate) len: usize,
    /// Windows and strides.
    pub(crate) windows: Vec<(u32, u32)>,
}

impl LibKernel for Lengths {
    unsafe fn run(&self, _: &Par<'_>, io: &Io<'_>) {
        for i in 0..self.len {
            // SAFETY: both buffers have `len` elements.
            unsafe {
                let mut x = f64::from(*io.bufs[0].add(i));
                for (window, stride) in &self.windows {
                    let free = x - f64::from(*window);
                    x = if free < 0.0 { 0.0 } else { (free / f64::from(*stride)).floor() + 1.0 };
                }
                *io.bufs[1].add(i) = x as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, values};
    use super::super::{Io, Level, prepare};
    use crate::dim::Dim;
    use crate::plan::{CtcGeometry, LibCall};

    /// Every path by itself: collapse repeats, drop blanks, compare. Gives −ln p and its gradient to the scores.
    fn by_paths(scores: &[f32], classes: usize, frames: usize, labels: &[usize], blank: usize) -> (f64, Vec<f64>) {
        let score = |t: usize, k: usize| f64::from(scores[t * classes + k]);
        let mut total = 0.0;
        let mut through = vec![0.0; scores.len()];
        for number in 0..classes.pow(frames as u32) {
            let path: Vec<usize> = (0..frames).map(|t| number / classes.pow(t as u32) % classes).collect();
            let mut read = path.clone();
            read.dedup();
            read.retain(|k| *k != blank);
            if read == labels {
                let p = (0..frames).map(|t| score(t, path[t])).sum::<f64>().exp();
                total += p;
                (0..frames).for_each(|t| through[t * classes + path[t]] += p);
            }
        }
        through.iter_mut().for_each(|x| *x /= -total);
        (-total.ln(), through)
    }

    fn call(steps: usize, classes: usize, labels: usize, blank_first: bool) -> CtcGeometry {
        let [steps, classes, labels] = [steps, classes, labels].map(Dim::from);
        CtcGeometry { batch: Dim::batch(), steps, classes, labels, blank_first }
    }

    #[test]
    fn losses_and_gradients_are_sums_over_paths() {
        // Labels, with repeats, none, and as many as fit; frames fewer than there are.
        let samples: [(&[usize], usize); 8] =
            [(&[0], 5), (&[], 5), (&[1, 2], 4), (&[1, 1], 3), (&[2, 0, 1], 3), (&[], 1), (&[2], 1), (&[0, 0, 0], 5)];
        let (n, t, c, l) = (samples.len(), 5, 4, 3);
        for blank_first in [false, true] {
            let scores: Vec<f32> = values(n * t * c, 1).iter().map(|x| 3.0 * x - 1.0).collect();
            let mut labels = vec![0.0; n * l];
            let (mut frames, mut lengths) = (vec![0.0; n], vec![0.0; n]);
            let g: Vec<f32> = (0..n).map(|i| 0.5 + i as f32).collect();
            let (mut want, mut gradient) = (Vec::new(), Vec::new());
            for (i, (own, steps)) in samples.iter().enumerate() {
                own.iter().enumerate().for_each(|(k, label)| labels[i * l + k] = *label as f32);
                (frames[i], lengths[i]) = (*steps as f32, own.len() as f32);
                let shifted: Vec<usize> = own.iter().map(|k| k + usize::from(blank_first)).collect();
                let blank = if blank_first { 0 } else { c - 1 };
                let (loss, grad) = by_paths(&scores[i * t * c..][..t * c], c, *steps, &shifted, blank);
                want.push(loss);
                gradient.extend(grad.iter().map(|x| x * f64::from(g[i])));
            }
            let geometry = call(t, c, l, blank_first);
            let inputs: Vec<&[f32]> = vec![&scores, &labels, &frames, &lengths];
            check(&LibCall::Ctc(geometry), &[n as u64], &inputs, &want, &vec![10.0; n], 1e-7);
            let inputs: Vec<&[f32]> = vec![&scores, &labels, &frames, &lengths, &g];
            check(&LibCall::CtcGrad(geometry), &[n as u64], &inputs, &gradient, &vec![10.0; n * t * c], 1e-7);
        }
    }

    #[test]
    fn scores_of_any_size_and_long_sequences_stay_exact() {
        // All the weight on one path, however far below it the others are.
        let mut scores = vec![-1e4_f32; 6 * 3];
        for (t, k) in [0, 0, 2, 0, 1, 2].into_iter().enumerate() {
            scores[t * 3 + k] = 1e4;
        }
        let labels = [0.0, 0.0, 1.0];
        let inputs: Vec<&[f32]> = vec![&scores, &labels, &[6.0], &[3.0]];
        check(&LibCall::Ctc(call(6, 3, 3, false)), &[1], &inputs, &[-6e4], &[1.0], 0.0);
        let want: Vec<f64> = scores.iter().map(|s| if *s > 0.0 { -1.0 } else { 0.0 }).collect();
        let inputs: Vec<&[f32]> = vec![&scores, &labels, &[6.0], &[3.0], &[1.0]];
        check(&LibCall::CtcGrad(call(6, 3, 3, false)), &[1], &inputs, &want, &[1.0; 18], 1e-9);
        // Equal classes: the number of paths is a binomial coefficient. 2000 frames, one label: t (t + 1) / 2 paths.
        let scores = vec![-(2.0_f32.ln()); 2000 * 2];
        let inputs: Vec<&[f32]> = vec![&scores, &[0.0], &[2000.0], &[1.0]];
        let want = 2000.0 * f64::from(2.0_f32.ln()) - (2000.0_f64 * 2001.0 / 2.0).ln();
        check(&LibCall::Ctc(call(2000, 2, 1, false)), &[1], &inputs, &[want], &[want], 1e-6);
    }

    #[test]
    fn samples_without_a_path_are_faults() {
        let (n, t, c, l) = (3_usize, 4_usize, 3_usize, 3_usize);
        let fault = |labels: [f32; 3], frames: f32, length: f32| {
            let mut all = [0.0; 9];
            all[3..6].copy_from_slice(&labels);
            let (mut frames, mut lengths) = ([1.0, frames, 1.0], [0.0, length, 0.0]);
            let (mut scores, mut out) = (vec![0.0; n * t * c], [0.0; 3]);
            let bufs =
                [scores.as_mut_ptr(), all.as_mut_ptr(), frames.as_mut_ptr(), lengths.as_mut_ptr(), out.as_mut_ptr()];
            let kernel = prepare(&LibCall::Ctc(call(t, c, l, false)), &[n as u64], Level::Baseline).expect("valid");
            // SAFETY: the buffers are as long as the call says.
            let found = unsafe { kernel.check(&Io { bufs: &bufs, scratch: std::ptr::null_mut(), threads: 1 }) };
            found.map_err(|f| (f.sample, f.message))
        };
        assert_eq!(fault([0.0, 1.0, 0.0], 3.0, 3.0), Ok(()));
        let cases = [
            (
                fault([0.0, 0.0, 1.0], 3.0, 3.0),
                "3 labels, 1 of them repeated, need at least 4 frames, but the output has 3",
            ),
            (fault([0.0, 1.0, 1.0], 1.0, 2.0), "2 labels need at least 2 frames, but the output has 1"),
            (fault([2.0, 0.0, 0.0], 4.0, 1.0), "the label 2 is none of the 2 labels, which are 0 to 1"),
            (fault([0.5, 0.0, 0.0], 4.0, 1.0), "the label 0.5 is none of the 2 labels, which are 0 to 1"),
            (fault([0.0; 3], 5.0, 1.0), "its number of frames is 5, but there are up to 4"),
            (fault([0.0; 3], 4.0, f32::NAN), "its number of labels is NaN, but there are up to 3"),
        ];
        for (found, want) in cases {
            assert_eq!(found, Err((1, want.to_owned())));
        }
    }

    #[test]
    fn lengths_shrink_with_the_windows() {
        let x = [0.0, 1.0, 2.0, 9.0, 10.0, 100.0];
        let windows = vec![(3, 2), (1, 2)];
        let want = [0.0, 0.0, 0.0, 2.0, 2.0, 25.0];
        let call = LibCall::Lengths { len: Dim::batch(), windows };
        check(&call, &[6], &[&x], &want, &[0.0; 6], 0.0);
    }
}
