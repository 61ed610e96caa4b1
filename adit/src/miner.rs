//! The miner's verbs: search, docset, package, verify, hydrate and apply. They are clients of the API like any other.

mod addresses;
mod answers;
mod apply;
mod bag;
mod client;
mod docset;
mod download;
mod files;
mod hydrate;
mod limits;
mod package;
mod part;
mod patience;
mod proof;
mod search;
#[cfg(test)]
mod testing;
mod unpack;
mod verify;

pub(crate) use self::apply::apply;
pub(crate) use self::client::Client;
pub(crate) use self::docset::docset;
pub(crate) use self::hydrate::hydrate;
pub(crate) use self::package::{PackageState, fetch, package, watch};
pub(crate) use self::search::search;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::verify::fuzzing;
pub(crate) use self::verify::{examine, verify};
