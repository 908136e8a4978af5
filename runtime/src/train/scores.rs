//! Measures of a whole data set that are no mean of measures of its batches: counts of hits and misses, ranks, sums over
//! all rows. Everything is counted in integers or f64, so that the size of a batch does not show in the result.

use super::engine::Engine;
use super::labels::Labels;
use super::metrics::Metric;
use crate::data::{Encoding, Learned};
use crate::dim::Dim;
use crate::exec::StepKind;
use crate::plan::{InputRole, Plan, ResultRole};
use crate::spec::{MetricSpec, RunSpec};

/// The measures that the Kurfile asks for.
#[derive(Debug)]
pub struct Scores {
    outputs: Vec<Scored>,
    /// Outputs whose labels are measured.
    labels: Vec<Labels>,
}

/// One output and what is known of it so far.
#[derive(Debug)]
struct Scored {
    /// Place among the step's inputs.
    input: usize,
    /// Place among the step's results.
    result: usize,
    /// Where samples differ in length: the place of their lengths among the inputs, and the axis of steps.
    lengths: Option<(usize, Dim)>,
    /// Behind the names of the measures: `:OUTPUT` when several outputs are measured.
    suffix: String,
    metrics: Vec<MetricSpec>,
    truth: Truth,
    /// Numbers on the last axis of the output.
    width: usize,
    classes: Vec<Class>,
    /// Rows, and those whose likeliest class is the truth.
    rows: u64,
    right: u64,
    /// Rows whose class is among the k likeliest, for each `top_k` in order.
    hits: Vec<u64>,
    columns: Vec<Column>,
}

/// How a target is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    /// A share for each class.
    Shares,
    /// The number of a class.
    Number,
    /// Yes or no for each unit.
    Yes,
    /// Numbers to be met.
    Regression,
}

/// Hits and misses of a class, or of a unit that says yes or no.
#[derive(Clone, Debug, Default)]
struct Class {
    found: u64,
    found_wrongly: u64,
    missed: u64,
    /// Scores, and whether the row is of this class; kept only for ranks.
    scores: Vec<(f32, bool)>,
}

/// Sums of one column of a regression.
#[derive(Clone, Debug, Default)]
struct Column {
    /// Units of the data per unit of the target.
    unit: f64,
    rows: u64,
    sizes: f64,
    squares: f64,
    /// Mean of the truths so far and the sum of squares around it (Welford 1962).
    mean: f64,
    spread: f64,
}

impl Scores {
    /// Nothing yet for a plan.
    #[must_use]
    pub fn new(plan: &Plan, run: &RunSpec, learned: &Learned) -> Scores {
        let slots = || plan.inputs.iter().filter(|s| s.role != InputRole::Control);
        let mut outputs = Vec::new();
        for spec in run.outputs.iter().filter(|o| !o.metrics.is_empty()) {
            let input = slots().position(|s| s.role == InputRole::Target && s.name == spec.name);
            let result = plan.results.iter().position(|r| r.role == ResultRole::Output && r.name == spec.name);
            let (Some(input), Some(result)) = (input, result) else { continue };
            let lengths = slots().position(|s| s.role == InputRole::Lengths && s.name == spec.name);
            let steps = plan.results[result].shape.get(1).copied();
            let last = slots().nth(input).and_then(|s| s.shape.last().copied()).unwrap_or(Dim::ONE);
            let width = spec.shape.last().and_then(|w| usize::try_from(*w).ok()).unwrap_or(1).max(1);
            let truth = match spec.loss.as_deref() {
                Some("binary_crossentropy") => Truth::Yes,
                Some("categorical_crossentropy") if width > 1 && last == Dim::ONE => Truth::Number,
                Some("categorical_crossentropy") => Truth::Shares,
                _ => Truth::Regression,
            };
            let units = units(learned, &spec.name, width);
            outputs.push(Scored {
                input,
                result,
                lengths: lengths.zip(steps),
                suffix: format!(":{}", spec.name),
                metrics: spec.metrics.clone(),
                truth,
                width,
                classes: vec![Class::default(); width],
                rows: 0,
                right: 0,
                hits: vec![0; spec.metrics.iter().filter(|m| matches!(m, MetricSpec::TopK(_))).count()],
                columns: units.into_iter().map(|unit| Column { unit, ..Column::default() }).collect(),
            });
        }
        if run.outputs.iter().filter(|o| o.loss.is_some()).count() < 2 {
            outputs.iter_mut().for_each(|o| o.suffix.clear());
        }
        Scores { outputs, labels: Labels::all(plan, run) }
    }

    /// Adds the step just run, whose sizes are `values`.
    pub fn add<E: Engine>(&mut self, engine: &E, step: StepKind, inputs: &[&[f32]], values: &[u64]) {
        for output in &mut self.outputs {
            let (Some(truth), found) = (inputs.get(output.input), engine.result(step, output.result)) else { continue };
            match output.lengths.and_then(|(at, steps)| Some((inputs.get(at)?, steps.eval(values)))) {
                Some((lengths, steps)) => output.add_real(truth, found, lengths, steps),
                None => output.add(truth, found),
            }
        }
        self.labels.iter_mut().for_each(|l| l.add(engine, step, inputs));
    }

    /// The measures, in the order of the Kurfile.
    #[must_use]
    pub fn all(&self) -> Vec<Metric> {
        self.outputs.iter().flat_map(Scored::all).chain(self.labels.iter().flat_map(Labels::values)).collect()
    }
}

/// Units of the data per unit of each column of a target.
fn units(learned: &Learned, name: &str, width: usize) -> Vec<f64> {
    let source = learned.sources.iter().find(|s| s.target && s.name == name);
    let mut units: Vec<f64> = source
        .iter()
        .flat_map(|s| &s.columns)
        .map(|c| match c.encoding {
            Encoding::Number { divide, .. } => divide,
            Encoding::Classes { .. } => 1.0,
        })
        .collect();
    if units.len() != width {
        units = vec![1.0; width];
    }
    units
}

impl Scored {
    /// Adds the real steps of each sample.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of steps are whole and small")]
    fn add_real(&mut self, truth: &[f32], found: &[f32], lengths: &[f32], steps: u64) {
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let unit = |all: &[f32]| (all.len() / lengths.len().saturating_mul(steps).max(1)).max(1);
        let (t, y) = (unit(truth), unit(found));
        let samples =
            truth.chunks_exact(t.saturating_mul(steps).max(1)).zip(found.chunks_exact(y.saturating_mul(steps).max(1)));
        for ((truth, found), length) in samples.zip(lengths) {
            let real = (*length as usize).min(steps);
            self.add(&truth[..real * t], &found[..real * y]);
        }
    }

    fn add(&mut self, truth: &[f32], found: &[f32]) {
        let width = self.width;
        let wide = if self.truth == Truth::Number { 1 } else { width };
        let keeps_scores = self.metrics.contains(&MetricSpec::Auroc);
        for (t, y) in truth.chunks_exact(wide).zip(found.chunks_exact(width)) {
            match self.truth {
                Truth::Regression => {
                    for ((column, t), y) in self.columns.iter_mut().zip(t).zip(y) {
                        column.add(f64::from(*t), f64::from(*y));
                    }
                }
                Truth::Yes => {
                    for ((class, t), y) in self.classes.iter_mut().zip(t).zip(y) {
                        let (is, says) = (*t > 0.5, *y > 0.5);
                        class.count(is, says);
                        self.rows += 1;
                        self.right += u64::from(is == says);
                        if keeps_scores {
                            class.scores.push((*y, is));
                        }
                    }
                }
                Truth::Shares | Truth::Number => {
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "classes were checked")]
                    let is = if self.truth == Truth::Number { t[0] as usize } else { largest(t) };
                    let says = largest(y);
                    self.rows += 1;
                    self.right += u64::from(is == says);
                    for (c, class) in self.classes.iter_mut().enumerate() {
                        class.count(c == is, c == says);
                        if keeps_scores {
                            class.scores.push((y[c], c == is));
                        }
                    }
                    let Some(own) = y.get(is).filter(|x| !x.is_nan()) else { continue };
                    let before = y.iter().enumerate().filter(|(c, x)| *x > own || *x == own && *c < is).count() as u64;
                    let ks = self.metrics.iter().filter_map(|m| match m {
                        MetricSpec::TopK(k) => Some(*k),
                        _ => None,
                    });
                    for (hits, k) in self.hits.iter_mut().zip(ks) {
                        *hits += u64::from(before < k);
                    }
                }
            }
        }
    }

    fn all(&self) -> Vec<Metric> {
        let mut hits = self.hits.iter();
        let mut all = Vec::new();
        for metric in &self.metrics {
            let value = match metric {
                MetricSpec::Accuracy => ratio(self.right, self.rows),
                MetricSpec::TopK(_) => ratio(hits.next().copied().unwrap_or(0), self.rows),
                MetricSpec::Precision => self.mean(Class::precision),
                MetricSpec::Recall => self.mean(Class::recall),
                MetricSpec::F1 => self.mean(Class::f1),
                MetricSpec::Auroc => self.mean(Class::auroc),
                MetricSpec::Mae => mean(self.columns.iter().map(Column::mae)),
                MetricSpec::R2 => mean(self.columns.iter().map(Column::r2)),
                // Of labels: `super::labels`.
                MetricSpec::Cer | MetricSpec::Wer(_) => continue,
            };
            all.push((format!("{}{}", metric.name(), self.suffix), value));
        }
        all
    }

    /// The measure of the second of two classes, else its mean over the classes that were seen.
    fn mean(&self, of: impl Fn(&Class) -> f64) -> f64 {
        if self.truth != Truth::Yes
            && let [_, yes] = self.classes.as_slice()
        {
            return of(yes);
        }
        let seen = |c: &&Class| self.truth == Truth::Yes || c.found + c.found_wrongly + c.missed > 0;
        mean(self.classes.iter().filter(seen).map(of).filter(|x| !x.is_nan()))
    }
}

/// Position of the first largest number.
pub(super) fn largest(x: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if *v > x[best] {
            best = i;
        }
    }
    best
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all as f64
}

/// The mean; NaN of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
    sum / count
}

impl Class {
    fn count(&mut self, is: bool, says: bool) {
        match (is, says) {
            (true, true) => self.found += 1,
            (false, true) => self.found_wrongly += 1,
            (true, false) => self.missed += 1,
            (false, false) => {}
        }
    }

    /// 0 when nothing was found.
    fn precision(&self) -> f64 {
        if self.found == 0 { 0.0 } else { ratio(self.found, self.found + self.found_wrongly) }
    }

    /// 0 when there was nothing to find.
    fn recall(&self) -> f64 {
        if self.found == 0 { 0.0 } else { ratio(self.found, self.found + self.missed) }
    }

    fn f1(&self) -> f64 {
        if self.found == 0 { 0.0 } else { ratio(2 * self.found, 2 * self.found + self.found_wrongly + self.missed) }
    }

    /// The share of pairs of a row of this class and one of another in which the first has the higher score; equal
    /// scores count half (Hanley & McNeil 1982). NaN without both kinds of rows.
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
    fn auroc(&self) -> f64 {
        let mut sorted = self.scores.clone();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut lower, mut pairs) = (0_u64, 0.0);
        let mut i = 0;
        while i < sorted.len() {
            let same = sorted[i..].iter().take_while(|s| s.0.total_cmp(&sorted[i].0).is_eq()).count();
            let own = sorted[i..i + same].iter().filter(|s| s.1).count() as u64;
            let others = same as u64 - own;
            pairs += own as f64 * (lower as f64 + 0.5 * others as f64);
            lower += others;
            i += same;
        }
        let own = sorted.len() as u64 - lower;
        pairs / (own as f64 * lower as f64)
    }
}

impl Column {
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
    fn add(&mut self, truth: f64, found: f64) {
        let error = (found - truth) * self.unit;
        self.sizes += error.abs();
        self.squares += error * error;
        self.rows += 1;
        let truth = truth * self.unit;
        let away = truth - self.mean;
        self.mean += away / self.rows as f64;
        self.spread += away * (truth - self.mean);
    }

    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
    fn mae(&self) -> f64 {
        self.sizes / self.rows as f64
    }

    /// NaN where all truths are the same.
    fn r2(&self) -> f64 {
        if self.spread > 0.0 { 1.0 - self.squares / self.spread } else { f64::NAN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(truth: Truth, width: usize, metrics: &[MetricSpec]) -> Scored {
        Scored {
            input: 0,
            result: 0,
            lengths: None,
            suffix: String::new(),
            metrics: metrics.to_vec(),
            truth,
            width,
            classes: vec![Class::default(); width],
            rows: 0,
            right: 0,
            hits: vec![0; metrics.iter().filter(|m| matches!(m, MetricSpec::TopK(_))).count()],
            columns: vec![Column { unit: 2.0, ..Column::default() }; width],
        }
    }

    fn values(s: &Scored) -> Vec<f64> {
        s.all().into_iter().map(|(_, v)| v).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{found:?} {expected:?}");
        }
    }

    use MetricSpec::{Accuracy, Auroc, F1, Mae, Precision, R2, Recall, TopK};

    #[test]
    fn yes_and_no() {
        let truth = [1.0, 0.0, 1.0, 1.0, 0.0];
        let found = [0.9, 0.6, 0.4, 0.6, 0.1];
        let mut whole = scored(Truth::Yes, 1, &[Accuracy, Precision, Recall, F1, Auroc]);
        whole.add(&truth, &found);
        // Pairs: 0.9 above both, 0.4 above one of two, 0.6 level with one and above the other.
        close(&values(&whole), &[0.6, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, (2.0 + 1.0 + 1.5) / 6.0]);
        let mut parts = scored(Truth::Yes, 1, &[Accuracy, Precision, Recall, F1, Auroc]);
        for at in [0..2, 2..3, 3..5] {
            parts.add(&truth[at.clone()], &found[at]);
        }
        assert_eq!(values(&parts), values(&whole));
    }

    #[test]
    fn classes_by_share_or_number() {
        let found = [0.5, 0.3, 0.2, 0.1, 0.2, 0.7, 0.4, 0.4, 0.2, 0.6, 0.3, 0.1];
        let metrics = [Accuracy, TopK(1), TopK(2), Precision, Recall, F1];
        let mut by_number = scored(Truth::Number, 3, &metrics);
        by_number.add(&[0.0, 2.0, 1.0, 1.0], &found);
        let mut by_share = scored(Truth::Shares, 3, &metrics);
        by_share.add(&[1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0], &found);
        assert_eq!(values(&by_number), values(&by_share));
        // Class 0: 1 of 3 found; class 1: never; class 2: perfect. A tie counts for the class before.
        close(&values(&by_share), &[0.5, 0.5, 1.0, (1.0 / 3.0 + 1.0) / 3.0, 2.0 / 3.0, (0.5 + 1.0) / 3.0]);
    }

    #[test]
    fn two_classes_count_the_second() {
        let mut s = scored(Truth::Shares, 2, &[Precision, Recall, Auroc]);
        s.add(&[1.0, 0.0, 0.0, 1.0, 0.0, 1.0], &[0.2, 0.8, 0.1, 0.9, 0.7, 0.3]);
        close(&values(&s), &[0.5, 0.5, 0.5]);
    }

    #[test]
    fn numbers_in_units_of_the_data() {
        let mut s = scored(Truth::Regression, 1, &[Mae, R2]);
        s.add(&[1.0, 2.0], &[1.5, 2.0]);
        s.add(&[3.0], &[2.0]);
        close(&values(&s), &[2.0 * 1.5 / 3.0, 1.0 - 1.25 / 2.0]);
        let mut flat = scored(Truth::Regression, 1, &[R2]);
        flat.add(&[1.0, 1.0], &[1.0, 0.0]);
        assert!(values(&flat)[0].is_nan());
    }

    #[test]
    fn padding_does_not_count() {
        let mut s = scored(Truth::Number, 2, &[Accuracy]);
        // Three samples of two steps, of which the second has one and the third none.
        let truth = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        let found = [0.9, 0.1, 0.8, 0.2, 0.3, 0.7, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1];
        s.add_real(&truth, &found, &[2.0, 1.0, 0.0], 2);
        close(&values(&s), &[2.0 / 3.0]);
        assert_eq!(s.rows, 3);
    }

    #[test]
    fn one_kind_of_rows_has_no_curve() {
        let mut s = scored(Truth::Yes, 1, &[Auroc]);
        s.add(&[1.0, 1.0], &[0.2, 0.8]);
        assert!(values(&s)[0].is_nan());
    }
}
