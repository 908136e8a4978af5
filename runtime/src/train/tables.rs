//! Tables for people: the summary before the first step and the results after a test. Text only.

use super::engine::Engine;
use super::metrics::{Metric, show};
use crate::error::count;
use crate::exec::StepKind;
use crate::plan::{LayerInfo, Program};

/// The table of layers with a line of totals.
#[must_use]
pub fn layers(program: &Program) -> String {
    let mut rows = vec![["layer".to_owned(), "type".to_owned(), "output".to_owned(), "parameters".to_owned()]];
    let row = |l: &LayerInfo| [l.name.clone(), l.kind.clone(), l.shape.clone(), thousands(l.params)];
    rows.extend(program.layers.iter().map(row));
    let total: u64 = program.layers.iter().map(|l| l.params).sum();
    rows.push(["total".to_owned(), String::new(), String::new(), thousands(total)]);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let line = format!(
            "{:<w0$}  {:<w1$}  {:<w2$}  {:>w3$}",
            row[0],
            row[1],
            row[2],
            row[3],
            w0 = widths[0],
            w1 = widths[1],
            w2 = widths[2],
            w3 = widths[3]
        );
        text.push_str(line.trim_end());
        text.push('\n');
        if i == 0 || i + 2 == rows.len() {
            text.push_str(&"─".repeat(widths.iter().sum::<usize>() + 6));
            text.push('\n');
        }
    }
    text
}

/// The summary of a run, without a final newline.
#[must_use]
pub fn summary<E: Engine>(engine: &E, step: StepKind, batch: u64, seed: u64, rows: &str) -> String {
    let program = engine.program();
    let threads = engine.threads();
    format!(
        "model `{}`\n{}device: {}, {}\nmemory: {} of state, {} of arena at batch size {batch}\ndata:   {rows}\nseed:   {seed}",
        program.run.name,
        layers(program),
        engine.cpu_name(),
        count(threads as u64, "thread"),
        bytes(program.state_bytes),
        bytes(engine.arena_bytes(step, batch)),
    )
}

/// The result table of a test.
#[must_use]
pub fn results(samples: u64, metrics: &[Metric]) -> String {
    let width = metrics.iter().map(|(n, _)| n.chars().count()).max().unwrap_or(0).max("samples".len());
    let mut text = format!("{:<width$}  {samples:>10}\n", "samples");
    for (name, value) in metrics {
        text.push_str(&format!("{name:<width$}  {:>10}\n", show(*value)));
    }
    text
}

/// A count with thin groups of three digits: `1_234_567`.
#[must_use]
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in binary units.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return count(n, "byte");
    }
    let mut value = n as f64;
    let mut unit = units[0];
    for u in units {
        value /= 1024.0;
        unit = u;
        if value < 1024.0 {
            break;
        }
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sizes_are_readable() {
        assert_eq!(thousands(1_234_567), "1_234_567");
        assert_eq!(thousands(12), "12");
        assert_eq!(bytes(100), "100 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }

    #[test]
    fn results_are_aligned() {
        let text = results(30, &[("loss".into(), 0.25), ("accuracy".into(), 1.0)]);
        assert_eq!(text, "samples           30\nloss          0.2500\naccuracy      1.0000\n");
    }
}
