//! Journeys through the whole program: real processes, real bytes.

mod bad_input;
mod crash;
mod import;
mod journey;
mod lazy;
mod serving;
mod support;
mod verbs;
