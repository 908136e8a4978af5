//! The live bar in Kur's look:
//! `Epoch 3/10, loss=0.412: 45%|███      | 675/1500 [00:01<00:02, 560samples/s]`.
//!
//! It appears only on a terminal and only for work that lasts, and it leaves nothing behind: the line that stays is
//! printed by the caller. `NO_COLOR` needs no care, the bar has no colours.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work shorter than this shows no bar.
const DELAY: Duration = Duration::from_millis(150);
/// Time between two looks at the bar.
const PERIOD: Duration = Duration::from_millis(60);
/// Draws per second.
const HERTZ: u8 = 15;

/// Progress through one pass over data.
pub struct Bar {
    live: bool,
    title: String,
    total: u64,
    start: Instant,
    next: Instant,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// A pass over `total` samples; `title` reads like `Epoch 3/10`.
    #[must_use]
    pub fn new(live: bool, title: String, total: u64) -> Bar {
        let start = Instant::now();
        Bar { live, title, total, start, next: start + DELAY, bar: None }
    }

    /// Time since the pass began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tells how far the pass is; `loss` is the running mean.
    pub fn update(&mut self, done: u64, loss: Option<f64>) {
        if !self.live {
            return;
        }
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + PERIOD;
        let elapsed = self.start.elapsed();
        let bar = self.bar.get_or_insert_with(|| draw(self.total));
        let loss = loss.map_or_else(String::new, |x| format!(", loss={x:.3}"));
        bar.set_message(format!("{}{loss}", self.title));
        bar.set_prefix(times(done, self.total, elapsed));
        bar.set_position(done);
    }

    /// Takes the bar off the screen.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The bar; its prefix holds the text in brackets, since rates come from the whole pass and not from a moment.
fn draw(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}: {percent}%|{wide_bar}| {pos}/{len} [{prefix}]")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ");
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(HERTZ)).with_style(style)
}

/// `00:01<00:02, 560samples/s`: time taken, time left, rate.
#[expect(clippy::cast_precision_loss, reason = "sample counts are far below 2^52")]
fn times(done: u64, total: u64, elapsed: Duration) -> String {
    let per_second = done as f64 / elapsed.as_secs_f64().max(1e-9);
    let left = total.saturating_sub(done) as f64 / per_second.max(1e-9);
    let left = Duration::try_from_secs_f64(left).map_or_else(|_| "?".to_owned(), clock);
    format!("{}<{left}, {}samples/s", clock(elapsed), rate(per_second))
}

/// `MM:SS`, with hours when there are any.
#[must_use]
pub fn clock(time: Duration) -> String {
    let s = time.as_secs();
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m:02}:{s:02}") }
}

/// A rate with three meaningful digits and no exponent.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.2}") } else { format!("{per_second:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_read_like_kur() {
        assert_eq!(clock(Duration::from_secs(61)), "01:01");
        assert_eq!(clock(Duration::from_secs(3600 * 2 + 5)), "2:00:05");
        assert_eq!(rate(560.4), "560");
        assert_eq!(rate(1.234), "1.23");
    }

    #[derive(Debug, Default, Clone)]
    struct Recorder(std::sync::Arc<std::sync::Mutex<String>>);

    impl indicatif::TermLike for Recorder {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.lock().expect("lock").push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            self.0.lock().expect("lock").clear();
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bar_looks_like_kurs() {
        let screen = Recorder::default();
        let bar = draw(1500);
        bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        bar.set_message("Epoch 3/10, loss=0.412");
        bar.set_prefix(times(675, 1500, Duration::from_millis(1205)));
        bar.set_position(675);
        bar.force_draw();
        let text = screen.0.lock().expect("lock").clone();
        assert!(text.starts_with("Epoch 3/10, loss=0.412: 45%|█"), "{text}");
        assert!(text.trim_end().ends_with("| 675/1500 [00:01<00:01, 560samples/s]"), "{text}");
    }
}
