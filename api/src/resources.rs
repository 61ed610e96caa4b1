//! One file for each resource: its routes, its handlers, its shapes.

pub mod assets;
pub mod collections;
pub mod docsets;
pub mod documents;
pub mod dump;
pub mod estimate;
pub mod events;
pub mod manifest;
pub mod me;
pub mod members;
pub mod packages;
pub mod search;
pub mod service;
pub mod usage;
pub mod watches;
pub mod withdrawals;
