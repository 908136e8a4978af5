//! Distances between numbers, and Kur's weight folders made of archives of arrays.

use std::fs;
use std::path::Path;

use kur_runtime::data::arrays::NamedArray;

/// Elements of a shape.
pub(crate) fn elements(shape: &[u64]) -> u64 {
    shape.iter().product()
}

/// How far a number lies from the expected one, relative to the larger of 1 and that.
pub(crate) fn apart(ours: f64, expected: f64) -> f64 {
    let distance = (ours - expected).abs() / expected.abs().max(1.0);
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// The largest distance, and where it is.
pub(crate) fn worst(ours: &[f32], expected: &[f32]) -> (f64, String) {
    if ours.len() != expected.len() {
        return (f64::INFINITY, format!("{} numbers for {}", ours.len(), expected.len()));
    }
    let mut worst = (0.0, String::new());
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        let distance = apart(f64::from(*a), f64::from(*b));
        if distance > worst.0 {
            worst = (distance, format!("at {i}: {a} for {b}"));
        }
    }
    worst
}

/// Writes arrays, whose names are those of weight files, as a weight folder.
pub(crate) fn weight_folder(folder: &Path, arrays: &[NamedArray]) {
    fs::create_dir(folder).expect("a folder");
    for array in arrays {
        let mut bytes = vec![0, 0, 0x0d, u8::try_from(array.shape.len()).expect("few axes")];
        for size in &array.shape {
            bytes.extend(u32::try_from(*size).expect("small").to_be_bytes());
        }
        bytes.extend(array.values.iter().flat_map(|v| v.to_be_bytes()));
        fs::write(folder.join(&array.name), bytes).expect("writes");
    }
}
