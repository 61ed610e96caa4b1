//! What every part of Adit shares: the words of the domain, configuration, and the ports to the outside
//! (database, object store, search, broker) with their implementations.
//!
//! No HTTP handlers live here (see `adit-api`) and no archive format (see `adit-packager`).

pub mod clock;
pub mod config;
pub mod digest;
pub mod display;
pub mod domain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod ids;
pub mod integrity;
pub mod messaging;
pub mod names;
pub mod objects;
pub mod search;
pub mod signing;
pub mod spreadsheet;
pub mod store;
pub mod telemetry;
pub mod webhook;
