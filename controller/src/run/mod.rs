//! Runs: sessions, rounds, and the nodes' states.
