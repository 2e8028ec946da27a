//! Everything that talks to a person or reads the golden node.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod config;
pub mod golden;
pub mod pxe;
pub mod run;
pub mod view;
