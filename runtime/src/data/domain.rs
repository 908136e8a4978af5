//! Whether targets are truths that their loss is defined for: shares that sum to 1, numbers of classes, answers between
//! 0 and 1. A loaded section goes in; looked at once, when it is loaded, and never inside a step.

use super::sizes::row_of;
use super::{Dataset, Role, Source, Store};
use crate::error::{Error, Result};
use crate::spec::{OutputSpec, RunSpec};

/// How far the shares of all classes may be from 1 together: rounding of a few shares written with two decimals.
const SLACK: f64 = 2e-2;

/// Checks the target of every cross-entropy.
///
/// # Errors
/// `unseen-class`, `not-a-share`.
pub fn check(run: &RunSpec, data: &Dataset) -> Result<()> {
    for output in &run.outputs {
        let Some(source) = data.get(&output.name).filter(|s| s.role == Role::Target) else { continue };
        if matches!(source.store, Store::Classes(..)) {
            // Made here, of names or numbers that were checked one by one.
            continue;
        }
        let classes = output.shape.last().copied().unwrap_or(1);
        let judge: &dyn Fn(&[f32]) -> Option<Error> = match output.loss.as_deref() {
            Some("binary_crossentropy") => &|sample| between(output, sample),
            Some("categorical_crossentropy") if classes > 1 && numbers(source, output) => {
                &|sample| classes_of(output, classes, sample)
            }
            Some("categorical_crossentropy") if classes > 1 => &|sample| shares(output, classes, sample),
            _ => continue,
        };
        let mut sample = Vec::new();
        for row in 0..data.rows {
            source.sample(row, &mut sample);
            if let Some(error) = judge(&sample) {
                return Err(error.at(row_of(data, row)));
            }
        }
    }
    Ok(())
}

/// Whether a target has the number of a class where the output has a share for each.
fn numbers(source: &Source, output: &OutputSpec) -> bool {
    let places = &output.shape[..output.shape.len() - 1];
    // Columns count by their number alone; a size of 0 is one that varies.
    if source.reshapes && !places.contains(&0) {
        return source.width() as u64 == places.iter().product::<u64>();
    }
    let same = |own: &[u64]| {
        own.len() == places.len()
            && own.iter().zip(places).enumerate().all(|(axis, (a, b))| a == b || *b == 0 || axis == 0)
    };
    let own = source.shape.as_slice();
    match own.split_last() {
        // A single place is `[1]` in the data.
        Some((1, rest)) => same(rest) || same(own),
        _ => same(own),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a layer has far fewer than 2^24 units")]
fn classes_of(output: &OutputSpec, classes: u64, sample: &[f32]) -> Option<Error> {
    let wrong = sample.iter().find(|x| x.fract() != 0.0 || !(0.0..classes as f32).contains(*x))?;
    let message = format!("the target `{}` is {wrong}, which is no class", output.name);
    let error = Error::data("unseen-class", message);
    Some(error.help(format!("the output has {classes} classes: whole numbers from 0 to {}", classes - 1)))
}

fn shares(output: &OutputSpec, classes: u64, sample: &[f32]) -> Option<Error> {
    let name = &output.name;
    sample.chunks_exact(usize::try_from(classes).ok()?).find_map(|shares| {
        let message = match shares.iter().find(|x| !x.is_finite() || **x < 0.0) {
            Some(x) => format!("the target `{name}` is {x}, which is no share of a class"),
            // A place without any share is not labelled: its terms are 0.
            None if shares.iter().all(|x| x.abs() == 0.0) => return None,
            None => {
                let sum: f64 = shares.iter().map(|x| f64::from(*x)).sum();
                if (sum - 1.0).abs() <= SLACK {
                    return None;
                }
                format!("the shares of the {classes} classes of the target `{name}` sum to {}, not to 1", short(sum))
            }
        };
        let error = Error::data("not-a-share", message);
        Some(
            error.help(
                "categorical_crossentropy compares shares: numbers from 0 that sum to 1, or the number of a class",
            ),
        )
    })
}

fn between(output: &OutputSpec, sample: &[f32]) -> Option<Error> {
    let x = sample.iter().find(|x| !(0.0..=1.0).contains(*x))?;
    let message = format!("the target `{}` is {x}, which is not between 0 and 1", output.name);
    let error = Error::data("not-a-share", message);
    Some(
        error
            .help("binary_crossentropy compares answers: 0 is no, 1 is yes; for other numbers take mean_squared_error"),
    )
}

/// At most six significant decimals.
fn short(x: f64) -> String {
    let text = format!("{x:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
