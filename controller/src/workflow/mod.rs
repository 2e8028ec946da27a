//! Implements `kactl run` and `kactl send`, each as a sequence of named steps.
//!
//! [`clone`] and [`distribute`] are the outlines; the other modules are the longer steps. Nothing here
//! depends on the command line: the operator's options arrive as a request, and the outcome is returned for
//! printing.

pub mod clone;
pub mod distribute;
mod faults;
mod memory;
pub mod notify;
mod reach;
pub mod select;
pub mod streaming;
pub mod wake;
mod watch;
