//! Recurrent kernels.
