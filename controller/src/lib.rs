//! Everything that talks to a person or reads the golden node.
//!
//! [`cli`] reads the command line, [`commands`] turn it into requests, and [`workflow`] carries these out, step by step.
//! [`golden`] looks at this machine and makes the plan; [`hub`] holds the nodes' connections, sessions and rounds;
//! [`stream`] sends; [`pxe`] serves what machines boot; [`view`] shows.
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
