//! The packager: takes requests off the broker, lays archives out, builds them into the object store and reports.
//!
//! ```text
//! worker    requests, statuses, attempts, deletes        (broker)
//!   api       manifest and "is it still wanted?"         (HTTP)
//!   planning  manifest::Reader → plan                    (pure, but for the spool's temporary file)
//!   build     draft → read → verify, sha → upload        (object store)
//!             stream → sha → upload                      (what is compressed on the way)
//! ```
//!
//! It has no database: what it must know it asks the server, what it must remember lies beside the archive.

mod api;
mod bag;
mod build;
mod describe;
mod error;
pub mod manifest;
mod names;
mod plan;
mod planning;
mod read;
mod sha;
mod stream;
#[cfg(test)]
mod testing;
mod verify;
mod worker;
mod zip;

pub use api::ApiError;
pub use bag::bag_folder;
pub use error::{BuildError, Fate};
pub use names::archive_name;
pub use plan::{Estimate, MAX_ARCHIVE, MAX_PARTS, MAX_SHARDS, PART_SIZE, PlanError, SizeEstimator};
pub use worker::{PackagerConfig, PackagerError, run};
