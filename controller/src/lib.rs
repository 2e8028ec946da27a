//! The part of ka that interacts with people and reads the golden node.
//!
//! [`cli`] parses the command line, [`commands`] turn it into requests, and [`workflow`] carries these out,
//! step by step. [`golden`] examines this machine and makes the plan; [`hub`] holds the nodes' connections,
//! sessions and rounds; [`stream`] sends; [`pxe`] serves the machines' boot files; [`view`] formats the
//! output.
//!
//! ```
//! use kactl::lists::order::OrderSource;
//!
//! assert_eq!("address".parse(), Ok(OrderSource::Address));
//! assert!("port".parse::<OrderSource>().is_err());
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod commands;
pub mod config;
pub mod console;
pub mod doctor;
pub mod exit;
pub mod golden;
pub mod hub;
pub mod journal;
pub mod lists;
pub mod log_server;
pub mod logging;
pub mod machines;
pub mod power;
pub mod pxe;
pub mod rendezvous;
pub use ka::session::status;
pub mod stream;
pub mod values;
pub mod view;
pub mod workflow;
