//! Runs: sessions, rounds, and the nodes' states.

pub mod discovery;
