//! Journeys through the whole program: real processes, real bytes.
