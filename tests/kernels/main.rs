//! Conformance suite of the code generator: every kernel runs through the interpreter and through compiled code at
//! both CPU levels. Results agree within a tolerance, and are the same bits however the range is cut into chunks.

mod cases;
mod harness;
mod maths;
mod random;

use harness::{check, check_sizes};

#[test]
fn elementwise_kernels() {
    for text in cases::ELEMENTWISE {
        check_sizes(text, 1e-6);
    }
}

#[test]
fn broadcasts_transposes_and_nests() {
    for text in cases::NESTS {
        check_sizes(text, 1e-6);
    }
}

#[test]
fn row_reductions() {
    for text in cases::ROW_REDUCTIONS {
        check_sizes(text, 2e-5);
    }
}

#[test]
fn column_reductions() {
    for text in cases::COLUMN_REDUCTIONS {
        check_sizes(text, 2e-5);
    }
}

#[test]
fn scalar_and_control_kernels() {
    for text in cases::SCALARS {
        check_sizes(text, 1e-6);
    }
}

#[test]
fn every_constant_extent_up_to_forty() {
    for extent in 0..40 {
        for text in cases::CONSTANT_EXTENTS {
            check(&text.replace("EXT", &extent.to_string()).replace("LEN", &(extent + 1).to_string()), 3, 2e-5);
        }
    }
}
