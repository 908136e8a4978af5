//! Connectionist temporal classification: Graves et al. 2006, the forward-backward algorithm. In: scores that are used as
//! log-probabilities `[n,t,c]`, labels `[n,l]`, lengths of both `[n]`. Out: −ln p(labels) for each sample, or its gradient
//! to the scores. Invariants: all sums are in f64 with an exponent of their own (`wide`), so long sequences lose neither
//! digits nor paths; a task computes one sample; frames beyond a sample's length neither count nor get a gradient; lengths
//! and labels that make no sense are found before anything is computed.
//!
//! Labels stand with blanks between and around them; place 2i + 1 is label i. The backward variable of a place is the
//! forward variable of its mirror image in the reversed sample, with the score of its own frame in it.

mod wide;

use super::par::{Par, Shared, run_tasks};
use super::{Io, KernelFault, Level, LibKernel, Scratch};
use crate::dim::Dim;
use crate::error::count;
use crate::plan::CtcGeometry;
use wide::{Row, ZERO};

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
    level: Level,
}

/// A sample that has a loss: its scores, its labels without padding, its frames.
struct Sample<'a> {
    scores: &'a [f32],
    labels: &'a [f32],
    steps: usize,
}

impl Ctc {
    pub(crate) fn new(g: &CtcGeometry, gradient: bool, syms: &[u64], level: Level) -> Ctc {
        let size = |d: Dim| d.eval(syms) as usize;
        Ctc {
            n: size(g.batch),
            t: size(g.steps),
            classes: size(g.classes),
            labels: size(g.labels),
            blank_first: g.blank_first,
            gradient,
            level,
        }
    }

    /// f64 values of each worker; see [`Ctc::generic`].
    fn cells(&self) -> usize {
        let (places, rows) = (2 * self.labels + 1, if self.gradient { self.t + 3 } else { 2 });
        let gradient = if self.gradient { self.classes + places } else { 0 };
        rows * row_len(places) + (places + 2) + 2 * self.classes + 2 * places + gradient
    }

    fn blank(&self) -> usize {
        if self.blank_first { 0 } else { self.classes.saturating_sub(1) }
    }

    /// The class of a label.
    fn class(&self, label: f32) -> usize {
        label as usize + usize::from(self.blank_first)
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

    /// ln p(labels), and the gradient −g · p(place | labels) of every frame if there is a place for it.
    ///
    /// # Safety
    /// `memory` has [`Ctc::cells`] values, and the processor has the level.
    unsafe fn compute(&self, x: &Sample<'_>, memory: *mut f64, gradient: Option<(f64, &mut [f32])>) -> f64 {
        // SAFETY: handed on to the caller; all levels but the lowest have AVX2.
        unsafe {
            let memory = std::slice::from_raw_parts_mut(memory, self.cells());
            if self.level == Level::Baseline {
                self.generic(x, memory, gradient)
            } else {
                self.avx2(x, memory, gradient)
            }
        }
    }

    /// See [`Ctc::compute`].
    #[target_feature(enable = "avx2")]
    fn avx2(&self, x: &Sample<'_>, memory: &mut [f64], gradient: Option<(f64, &mut [f32])>) -> f64 {
        self.generic(x, memory, gradient)
    }

    #[inline(always)]
    fn generic(&self, x: &Sample<'_>, memory: &mut [f64], gradient: Option<(f64, &mut [f32])>) -> f64 {
        if x.steps == 0 {
            return 0.0;
        }
        let places = 2 * x.labels.len() + 1;
        let len = row_len(places);
        let (skip, memory) = memory.split_at_mut(places + 2);
        let (exps, memory) = memory.split_at_mut(2 * self.classes);
        let (factor, memory) = memory.split_at_mut(2 * places);
        let (mut exps, mut factor) = (Row::new(exps), Row::new(factor));
        // A path may come to a place from two places before: over a blank between different labels.
        skip.fill(ZERO);
        for i in (1..x.labels.len()).filter(|i| x.labels[*i] != x.labels[i - 1]) {
            skip[2 * i + 1] = 0.0;
        }
        // Row t + 1 belongs to frame t, and row 0 stands for the start of every path. Only the gradient needs them again.
        let kept = if gradient.is_some() { x.steps + 1 } else { 2 };
        let (rows, memory) = memory.split_at_mut(kept * len);
        Row::new(&mut rows[..len]).start_at(2);
        let mut usable = true;
        for t in 0..x.steps {
            usable &= self.set_factor(x, t, &mut exps, &mut factor);
            let (before, mut this) = two(rows, len, t % kept, (t + 1) % kept);
            this.set_sums::<2>(&before, &skip[..places], &factor);
        }
        let last = x.steps % kept;
        let p = wide::last_two(&Row::new(&mut rows[last * len..(last + 1) * len]));
        let log_p = if usable { wide::ln(p) } else { f64::NAN };
        let Some((g, out)) = gradient else { return log_p };
        let (back, memory) = memory.split_at_mut(2 * len);
        let (sums, memory) = memory.split_at_mut(self.classes);
        let share = &mut memory[..places];
        Row::new(&mut back[..len]).start_at(places - 1);
        for (i, t) in (0..x.steps).rev().enumerate() {
            self.set_factor(x, t, &mut exps, &mut factor);
            let (after, mut this) = two(back, len, i % 2, (i + 1) % 2);
            this.set_sums::<0>(&after, &skip[2..], &factor);
            let forward = Row::new(&mut rows[(t + 1) * len..(t + 2) * len]);
            wide::shares(&forward, &this, &factor, p, share);
            if !log_p.is_finite() {
                share.fill(f64::NAN);
            }
            // Several places may have one class, so their sum comes before the rounding.
            sums.fill(0.0);
            for (s, share) in share.iter().enumerate() {
                let class = if s.is_multiple_of(2) { self.blank() } else { self.class(x.labels[s / 2]) };
                sums[class] += share;
            }
            for (out, sum) in out[t * self.classes..].iter_mut().zip(&*sums) {
                *out = (-g * sum) as f32;
            }
        }
        log_p
    }

    /// Sets the probability of each place at frame `t`; says whether all of them are below ∞ and none is NaN.
    #[inline(always)]
    fn set_factor(&self, x: &Sample<'_>, t: usize, exps: &mut Row<'_>, factor: &mut Row<'_>) -> bool {
        let scores = &x.scores[t * self.classes..(t + 1) * self.classes];
        exps.set_exp(scores);
        let blank = self.blank();
        let mut usable = scores[blank] < f32::INFINITY;
        factor.m.fill(exps.m[blank]);
        factor.e.fill(exps.e[blank]);
        for (i, label) in x.labels.iter().enumerate() {
            let class = self.class(*label);
            usable &= scores[class] < f32::INFINITY;
            (factor.m[2 * i + 1], factor.e[2 * i + 1]) = (exps.m[class], exps.e[class]);
        }
        usable
    }
}

/// f64 values of a row: a number for each place, and two that stay 0 before the first or behind the last.
fn row_len(places: usize) -> usize {
    2 * (places + 2)
}

/// Two different rows of `len` values.
#[inline(always)]
fn two(rows: &mut [f64], len: usize, a: usize, b: usize) -> (Row<'_>, Row<'_>) {
    let (low, high) = rows.split_at_mut(a.max(b) * len);
    let low = Row::new(&mut low[a.min(b) * len..][..len]);
    let high = Row::new(&mut high[..len]);
    if a < b { (low, high) } else { (high, low) }
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
                let memory = work.add(worker * self.cells());
                let scores = std::slice::from_raw_parts(scores.add(i * t * c), t * c);
                let labels = std::slice::from_raw_parts(labels.add(i * l), l);
                let sample = self.sample(scores, labels, *steps.add(i), *lengths.add(i));
                if self.gradient {
                    let out = std::slice::from_raw_parts_mut(out.add(i * t * c), t * c);
                    out.fill(0.0);
                    if let Ok(x) = sample {
                        self.compute(&x, memory, Some((f64::from(*g.add(i)), out)));
                    }
                } else {
                    *out.add(i) = sample.map_or(f32::NAN, |x| -self.compute(&x, memory, None) as f32);
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
    fn scores_that_are_no_probabilities() {
        let (t, c) = (3, 3);
        let (loss, gradient) = (LibCall::Ctc(call(t, c, 1, false)), LibCall::CtcGrad(call(t, c, 1, false)));
        // A path of the label 0 needs class 0 and may use the blank, class 2; class 1 is not used.
        let with = |changes: &[(usize, f32)]| {
            let mut scores = vec![-1.0_f32; t * c];
            changes.iter().for_each(|(i, x)| scores[*i] = *x);
            scores
        };
        let all_of = |class: usize, x: f32| with(&[(class, x), (class + c, x), (class + 2 * c, x)]);
        let finite = [with(&[(1, f32::NAN)]), with(&[(4, f32::INFINITY)]), all_of(1, f32::NEG_INFINITY)];
        for scores in &finite {
            let inputs: Vec<&[f32]> = vec![scores, &[0.0], &[3.0], &[1.0]];
            // Six of the 27 paths.
            check(&loss, &[1], &inputs, &[3.0 - 6.0_f64.ln()], &[1.0], 1e-7);
        }
        // Without the blank there is one path left.
        let scores = all_of(2, f32::NEG_INFINITY);
        let inputs: Vec<&[f32]> = vec![&scores, &[0.0], &[3.0], &[1.0]];
        check(&loss, &[1], &inputs, &[3.0], &[1.0], 1e-7);
        let inputs: Vec<&[f32]> = vec![&scores, &[0.0], &[3.0], &[1.0], &[1.0]];
        check(&gradient, &[1], &inputs, &[-1.0, 0.0, 0.0].repeat(3), &[1.0; 9], 1e-7);
        let unusable = [(with(&[(3, f32::NAN)]), f64::NAN), (with(&[(8, f32::INFINITY)]), f64::NAN)];
        for (scores, want) in unusable.into_iter().chain([(all_of(0, f32::NEG_INFINITY), f64::INFINITY)]) {
            let inputs: Vec<&[f32]> = vec![&scores, &[0.0], &[3.0], &[1.0]];
            check(&loss, &[1], &inputs, &[want], &[1.0], 0.0);
            let inputs: Vec<&[f32]> = vec![&scores, &[0.0], &[3.0], &[1.0], &[1.0]];
            check(&gradient, &[1], &inputs, &[f64::NAN, 0.0, f64::NAN].repeat(3), &[1.0; 9], 0.0);
        }
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
            let found = unsafe {
                kernel.check(&Io { bufs: &bufs, scratch: std::ptr::null_mut(), threads: 1, packed: std::ptr::null() })
            };
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
