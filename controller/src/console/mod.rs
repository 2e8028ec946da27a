//! The golden node's side of a node's console (port 12345): its log, commands, a shell.

pub mod dial;
pub mod exec;
pub mod log;
pub mod shell;
