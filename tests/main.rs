//! Journeys through the whole program: real processes, real bytes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a journey that cannot go on ends in a panic")]

mod answers;
mod backup;
mod bad_input;
mod broker;
mod chaos;
mod connections;
mod corpora;
mod crash;
mod deltas;
mod docsets;
mod files;
mod fleet;
mod forward;
mod full_disk;
mod import;
mod journey;
mod layouts;
mod lazy;
mod links;
mod logs;
mod outages;
mod pipes;
mod proof;
mod quotas;
mod reindex;
mod restore;
mod resume;
mod rights;
mod serving;
mod several;
mod shapes;
mod storage;
mod support;
mod sweep;
mod terminal;
mod verbs;
mod watches;
