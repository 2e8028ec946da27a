//! The KA method as a library without I/O.
//!
//! Nothing here knows a socket, a clock or a device: state machines take events and bytes, and
//! return actions and bytes. The agent and the controller are shells around it, and the tests drive
//! the same code with generated faults.
#![forbid(unsafe_code)]

pub mod archive;
pub mod boot;
pub mod chain;
pub mod cmdline;
pub mod disk;
pub mod first_boot;
pub mod glob;
pub mod hostname;
pub mod inventory;
pub mod ipv4;
pub mod keys;
pub mod log_server;
pub mod mac;
pub mod notes;
pub mod plan;
pub mod proof;
pub mod seal;
pub mod wire;
