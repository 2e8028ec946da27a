//! Everything that talks to a person or reads the golden node.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod atomic;
pub mod cli;
pub mod commands;
pub mod config;
pub mod golden;
pub mod guarded;
pub mod http;
pub mod ports;
pub mod pxe;
pub mod run;
pub mod view;
