//! The HTTP API: miners search, make docsets, ask for packages and fetch them.
//!
//! Handlers translate between HTTP and the ports of `adit-shared`; no archive is written here (see `adit-packager`).

pub mod accept;
pub mod anonymous_allowance;
pub mod auth;
pub mod body_budget;
mod checked_files;
pub mod client;
pub mod contract;
mod deletes;
mod delta;
pub mod dispatch;
pub mod extract;
pub mod fair_pool;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod layers;
mod links;
pub mod listener;
mod long_answers;
pub mod metrics;
pub mod origin;
pub mod paging;
mod permissions;
pub mod problem;
pub mod quota;
mod readiness;
pub mod recipe;
pub mod resources;
pub mod rights;
pub mod router;
mod search_turn;
pub mod serve;
pub mod state;
#[cfg(test)]
mod testing;
mod usage;
pub mod wire;

pub use links::rotate_link_secret;
pub use router::{openapi, openapi_yaml, router};
pub use state::{App, Limits, Parts, Settings};
