//! Where the time of a step goes, and how much of it the machine would need at most. In: times, work and peaks. Out: a
//! table, or one JSON object for each launch and one for the step.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::exec::{LaunchTime, Limit, Memory, Peaks, StepWork, Work};
use crate::plan::{LayerInfo, Program};

/// What a step needs at least on a machine.
pub(super) struct Roofline<'a> {
    /// What the step does.
    pub(super) work: &'a StepWork,
    /// What the machine can.
    pub(super) peaks: Peaks,
}

impl Roofline<'_> {
    /// The memory that holds all that the step touches; its speed counts for every launch.
    pub(super) fn memory(&self) -> Memory {
        self.peaks.memory(self.work.working_set)
    }

    fn least(&self, launch: usize) -> (f64, Limit) {
        let work = self.work.launches.get(launch).copied().unwrap_or_default();
        self.peaks.least(work, self.memory())
    }

    /// Seconds that the launches take at least, one after the other.
    pub(super) fn seconds(&self) -> f64 {
        (0..self.work.launches.len()).map(|i| self.least(i).0).sum()
    }

    /// Fields of a JSON object.
    pub(super) fn json(&self, step_seconds: f64) -> Value {
        let [l2, l3, dram] = self.peaks.bytes;
        let total = self.work.total();
        json!({
            "roofline": self.seconds() / step_seconds,
            "roofline_memory": self.memory().to_string(),
            "arithmetic": total.flops / self.peaks.flops / step_seconds,
            "flops_per_step": total.flops, "bytes_per_step": total.bytes(),
            "working_set_bytes": self.work.working_set,
            "peak_flops_per_s": self.peaks.flops,
            "peak_bytes_per_s": {"L2": l2, "L3": l3, "DRAM": dram},
        })
    }

    /// Two lines for people.
    pub(super) fn text(&self, step_seconds: f64) -> String {
        let [l2, l3, dram] = self.peaks.bytes.map(|b| b / 1e9);
        format!(
            "roofline    {:.1} % of {:.1} us; the step touches {:.1} MB, which {} holds\n\
             peaks       {:.1} GFLOP/s; read and written GB/s: L2 {l2:.1}, L3 {l3:.1}, DRAM {dram:.1}\n",
            100.0 * self.seconds() / step_seconds,
            step_seconds * 1e6,
            self.work.working_set as f64 / 1e6,
            self.memory(),
            self.peaks.flops / 1e9,
        )
    }
}

/// The layer that a launch came from.
fn layer<'a>(program: &'a Program, row: &LaunchTime) -> Option<&'a LayerInfo> {
    program.layers.get(row.layer? as usize)
}

/// One line per launch, the slowest first, with its share, its rates, and how much of its own roofline it reaches.
pub(super) fn table(program: &Program, rows: &[LaunchTime], roofline: &Roofline<'_>) -> String {
    let total: f64 = rows.iter().map(|r| r.seconds).sum();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows[*b].seconds.total_cmp(&rows[*a].seconds));
    let mut text = format!(
        "{:>10} {:>6} {:>9} {:>9} {:>9} {:>8} {:>6} {:<5}  {:>4}  launch @ layer\n",
        "us", "share", "MFLOP", "MB", "GFLOP/s", "GB/s", "roof", "by", "line"
    );
    let mut line = |seconds: f64, work: Work, (least, limit): (f64, String), end: &str| {
        let per = |x: f64| x / seconds.max(1e-9) / 1e9;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>10.1} {:>5.1}% {:>9.3} {:>9.3} {:>9.2} {:>8.2} {:>5.0}% {limit:<5}  {end}",
            seconds * 1e6,
            100.0 * seconds / total.max(1e-12),
            work.flops / 1e6,
            work.bytes() / 1e6,
            per(work.flops),
            per(work.bytes()),
            100.0 * least / seconds.max(1e-9),
        );
    };
    for i in order {
        let row = &rows[i];
        let end = match layer(program, row) {
            Some(l) => format!("{:>4}  {} @ {}", l.line, row.name, l.name),
            None => format!("{:>4}  {}", "", row.name),
        };
        let (least, limit) = roofline.least(i);
        let work = roofline.work.launches.get(i).copied().unwrap_or_default();
        line(row.seconds, work, (least, limit.to_string()), &end);
    }
    line(total, roofline.work.total(), (roofline.seconds(), String::new()), "      total");
    text + &roofline.text(total)
}

/// One object for each launch, in the order of the step.
pub(super) fn events(program: &Program, rows: &[LaunchTime], roofline: &Roofline<'_>) -> Vec<Vec<(String, Value)>> {
    let event = |(i, row): (usize, &LaunchTime)| {
        let (least, limit) = roofline.least(i);
        let work = roofline.work.launches.get(i).copied().unwrap_or_default();
        let place = layer(program, row);
        fields(json!({
            "name": row.name, "seconds": row.seconds, "flops": work.flops, "read": work.read, "written": work.written,
            "roofline": least / row.seconds.max(1e-9), "limit": limit.to_string(),
            "layer": place.map(|l| &l.name), "line": place.map(|l| l.line),
        }))
    };
    rows.iter().enumerate().map(event).collect()
}

/// The fields of a JSON object.
pub(super) fn fields(value: Value) -> Vec<(String, Value)> {
    value.as_object().cloned().unwrap_or_default().into_iter().collect()
}
