//! Error rates of sequences of labels (`cer`, `wer` of a `ctc` loss), counted row by row over a whole data set. A
//! prediction is read along its best path: the likeliest class of each real frame, runs of one class taken once, blanks
//! left out (Graves et al. 2006, section 3.2). A rate is the edit distance (Levenshtein 1966) to the truth, summed over
//! all rows, per label or word of the truth.

use super::engine::Engine;
use super::metrics::Metric;
use crate::exec::StepKind;
use crate::plan::{InputRole, Plan, ResultRole};
use crate::spec::{Measured, MetricSpec, OutputSpec, RunSpec};

/// One output whose labels are measured, and what is known of it so far.
#[derive(Debug)]
pub(super) struct Labels {
    /// Places of labels and their lengths among the step's inputs.
    labels: usize,
    lengths: usize,
    /// Places of the scores and of the numbers of real frames among the step's results.
    scores: usize,
    frames: usize,
    /// Classes with the blank.
    classes: usize,
    blank_first: bool,
    /// Behind the names of the measures.
    suffix: String,
    rates: Vec<Rate>,
    /// Memory of one row.
    found: Vec<usize>,
    truth: Vec<usize>,
    distances: Vec<usize>,
}

/// A measure and its counts.
#[derive(Clone, Copy, Debug)]
struct Rate {
    metric: MetricSpec,
    edits: u64,
    all: u64,
}

impl Labels {
    /// The measured outputs of a plan, nothing counted yet.
    pub(super) fn all(plan: &Plan, run: &RunSpec) -> Vec<Labels> {
        let alone = run.outputs.iter().filter(|o| o.loss.is_some()).count() < 2;
        let input = |name: &str| {
            let mut slots = plan.inputs.iter().filter(|s| s.role != InputRole::Control);
            slots.position(|s| s.role == InputRole::Target && s.name == name)
        };
        let result = |name: &str| plan.results.iter().position(|r| r.role == ResultRole::Output && r.name == name);
        let one = |spec: &OutputSpec| {
            let metrics: Vec<MetricSpec> =
                spec.metrics.iter().copied().filter(|m| m.measures() == Measured::Labels).collect();
            let [labels, _, lengths] = spec.loss_reads.as_slice() else { return None };
            let classes = spec.shape.last().and_then(|c| usize::try_from(*c).ok()).filter(|c| *c > 0)?;
            (!metrics.is_empty()).then_some(())?;
            Some(Labels {
                labels: input(labels)?,
                lengths: input(lengths)?,
                scores: result(&spec.name)?,
                frames: result(&OutputSpec::frames(&spec.name))?,
                classes,
                blank_first: spec.blank_first,
                suffix: if alone { String::new() } else { format!(":{}", spec.name) },
                rates: metrics.into_iter().map(|metric| Rate { metric, edits: 0, all: 0 }).collect(),
                found: Vec::new(),
                truth: Vec::new(),
                distances: Vec::new(),
            })
        };
        run.outputs.iter().filter_map(one).collect()
    }

    /// Adds the step just run.
    pub(super) fn add<E: Engine>(&mut self, engine: &E, step: StepKind, inputs: &[&[f32]]) {
        let (Some(labels), Some(lengths)) = (inputs.get(self.labels), inputs.get(self.lengths)) else { return };
        self.rows(labels, lengths, engine.result(step, self.scores), engine.result(step, self.frames));
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the step has checked labels and lengths"
    )]
    fn rows(&mut self, labels: &[f32], lengths: &[f32], scores: &[f32], frames: &[f32]) {
        let rows = lengths.len().max(1);
        let (most, steps) = (labels.len() / rows, scores.len() / rows);
        for (row, (length, real)) in lengths.iter().zip(frames).enumerate() {
            self.truth.clear();
            self.truth.extend(labels[row * most..][..most].iter().take(*length as usize).map(|l| *l as usize));
            best_path(&mut self.found, &scores[row * steps..][..steps], self.classes, *real as usize, self.blank_first);
            for rate in &mut self.rates {
                let (edits, all) = match rate.metric {
                    MetricSpec::Wer(Some(separator)) => {
                        let separator = usize::try_from(separator).unwrap_or(usize::MAX);
                        let [found, truth] = [&self.found, &self.truth].map(|x| words(x, separator));
                        (distance(&mut self.distances, &found, &truth), truth.len())
                    }
                    _ => (distance(&mut self.distances, &self.found, &self.truth), self.truth.len()),
                };
                rate.edits += edits as u64;
                rate.all += all as u64;
            }
        }
    }

    /// The measures; NaN where no truth has a label.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn values(&self) -> impl Iterator<Item = Metric> {
        self.rates.iter().map(|r| (format!("{}{}", r.metric.name(), self.suffix), r.edits as f64 / r.all as f64))
    }
}

/// The labels along the likeliest classes of the first `frames` frames; of equally likely classes the first counts.
fn best_path(found: &mut Vec<usize>, scores: &[f32], classes: usize, frames: usize, blank_first: bool) {
    found.clear();
    let blank = if blank_first { 0 } else { classes - 1 };
    let mut before = blank;
    for frame in scores.chunks_exact(classes).take(frames) {
        let class = super::scores::largest(frame);
        if class != before && class != blank {
            found.push(class - usize::from(blank_first));
        }
        before = class;
    }
}

/// What stands between separators; nothing between two of them is no word.
fn words(labels: &[usize], separator: usize) -> Vec<&[usize]> {
    labels.split(|l| *l == separator).filter(|w| !w.is_empty()).collect()
}

/// Items to be inserted, removed and replaced to make one sequence of the other (Wagner & Fischer 1974, one row at a
/// time).
fn distance<T: PartialEq>(row: &mut Vec<usize>, a: &[T], b: &[T]) -> usize {
    row.clear();
    row.extend(0..=b.len());
    for (i, x) in a.iter().enumerate() {
        // The value left of and above the next one.
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(classes: usize, blank_first: bool, metrics: &[MetricSpec]) -> Labels {
        Labels {
            labels: 0,
            lengths: 1,
            scores: 0,
            frames: 1,
            classes,
            blank_first,
            suffix: String::new(),
            rates: metrics.iter().map(|m| Rate { metric: *m, edits: 0, all: 0 }).collect(),
            found: Vec::new(),
            truth: Vec::new(),
            distances: Vec::new(),
        }
    }

    /// Scores whose largest is the class of each frame.
    fn frames(path: &[usize], classes: usize) -> Vec<f32> {
        path.iter().flat_map(|c| (0..classes).map(|k| if k == *c { 0.6 } else { 0.1 })).collect()
    }

    fn values(l: &Labels) -> Vec<f64> {
        l.values().map(|(_, v)| v).collect()
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        let of = |a: &str, b: &str| distance(&mut Vec::new(), a.as_bytes(), b.as_bytes());
        assert_eq!(of("kitten", "sitting"), 3);
        assert_eq!(of("intention", "execution"), 5);
        assert_eq!((of("", "abc"), of("abc", ""), of("", "")), (3, 3, 0));
        assert_eq!((of("ab", "ba"), of("abcd", "bcd"), of("same", "same")), (2, 1, 0));
    }

    #[test]
    fn the_best_path_takes_runs_once_and_leaves_blanks_out() {
        let of = |path: &[usize], frames_used: usize, blank_first: bool| {
            let mut found = Vec::new();
            best_path(&mut found, &frames(path, 4), 4, frames_used, blank_first);
            found
        };
        assert_eq!(of(&[3, 0, 0, 3, 0, 1, 1, 2, 3], 9, false), [0, 0, 1, 2]);
        // Frames behind the last real one are filled up.
        assert_eq!(of(&[3, 0, 0, 3, 0, 1, 1, 2, 3], 4, false), [0]);
        // Class 0 is the blank, label 0 is class 1.
        assert_eq!(of(&[0, 1, 1, 0, 1, 3, 3, 2], 8, true), [0, 0, 2, 1]);
        assert_eq!(of(&[3, 3], 2, false), [0; 0]);
    }

    #[test]
    fn rates_are_edits_per_label_over_all_rows() {
        // Labels a b c and the separator 3; the blank is 4.
        let metrics = [MetricSpec::Cer, MetricSpec::Wer(Some(3)), MetricSpec::Wer(None)];
        let mut l = labels(5, false, &metrics);
        // `ab c` is read as `a cc`: one label removed, one inserted; of its two words none is right.
        let truth = [0.0, 1.0, 3.0, 2.0, 0.0];
        let path = [0, 4, 3, 3, 2, 4, 2, 4];
        l.rows(&truth, &[4.0], &frames(&path, 5), &[8.0]);
        assert_eq!(values(&l), [0.5, 1.0, 0.5]);
        // `a b` and `c` are read as they are: 2 edits of 8 labels, 2 of 5 words.
        let truth = [0.0, 3.0, 1.0, 2.0, 9.0, 9.0];
        let path = [[0, 3, 1, 4], [2, 2, 4, 0]].concat();
        l.rows(&truth, &[3.0, 1.0], &frames(&path, 5), &[4.0, 3.0]);
        assert_eq!(values(&l), [2.0 / 8.0, 2.0 / 5.0, 2.0 / 8.0]);
    }

    #[test]
    fn separators_at_the_ends_and_in_a_row_make_no_words() {
        let of = |x: &[usize]| words(x, 0).iter().map(|w| w.to_vec()).collect::<Vec<_>>();
        assert_eq!(of(&[0, 1, 2, 0, 0, 3, 0]), [vec![1, 2], vec![3]]);
        assert_eq!(of(&[0, 0]), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn no_labels_have_no_rate() {
        let mut l = labels(3, false, &[MetricSpec::Cer]);
        l.rows(&[0.0], &[0.0], &frames(&[2, 2], 3), &[2.0]);
        assert!(values(&l)[0].is_nan());
        l.rows(&[1.0], &[1.0], &frames(&[0, 1], 3), &[2.0]);
        assert_eq!(values(&l), [1.0], "one label too many");
    }
}
