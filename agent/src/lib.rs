//! Everything that touches a node: boot, relay, disk, unpacking, finishing.
//!
//! A library beside its binary because the golden node is the first member of every chain, and so
//! `kactl` runs the same [`relay`] as every node.

pub mod boot;
pub mod booted;
pub mod disk;
pub mod finish;
pub mod hardware;
pub mod health;
pub mod http;
pub mod init;
pub mod kexec;
pub mod node;
pub mod notes;
mod read_back;
pub mod receive;
pub mod relay;
pub mod secrets;
pub mod session;
pub mod step;
pub mod store_log;
pub mod sys;
pub mod tool;
pub mod unpack;
pub mod words;
