//! The data pipeline.
