//! Everything that talks to a person or reads the golden node.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
pub mod golden;
pub mod hub;
pub mod lists;
pub mod log_server;
pub mod logging;
pub mod pxe;
pub mod rendezvous;
pub mod status;
pub mod stream;
pub mod values;
pub mod view;
