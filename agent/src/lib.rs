//! What a node does: boot, join, write its disk, unpack, finish.
//!
//! It is a library as well as a binary so that the tests can drive its parts. [`init`] is PID 1, which never
//! does the work. [`node`] is its child, which does. [`console`] is its other child, which shows the node to
//! a person. The other modules are the steps of the work, in their order: [`boot`], [`session`], [`disk`],
//! [`receive`], [`unpack`], [`finish`], [`kexec`].
//!
//! ```
//! use std::path::Path;
//!
//! // What would the system below a directory start? One that is not there starts nothing.
//! assert!(ka_agent::kexec::default_entry(Path::new("/nonexistent"), &mut Vec::new()).is_err());
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod boot;
pub mod booted;
pub mod cli;
pub mod console;
pub mod disk;
pub mod finish;
pub mod init;
pub mod kexec;
pub mod node;
pub mod notes;
mod read_back;
pub mod receive;
pub mod session;
pub mod step;
pub mod store_log;
pub mod unpack;
