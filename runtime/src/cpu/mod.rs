//! Library kernels.
