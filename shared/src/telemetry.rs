//! Logging: one place that sets up `tracing` for every process.
