//! What `kactl run` and `kactl send` do, each as a sequence of named steps.
//!
//! [`clone`] and [`distribute`] tell the story; the other modules are its longer steps. Nothing here knows the command
//! line: what a person wants comes as a request, and what became of it goes back to be printed.

pub mod clone;
pub mod distribute;
mod memory;
pub mod notify;
pub mod select;
pub mod streaming;
pub mod wake;
mod watch;
