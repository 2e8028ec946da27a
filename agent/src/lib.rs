//! What a node does: boot, join, write its disk, unpack, finish.
//!
//! A library beside its binary so that the tests can drive its parts.
#![forbid(unsafe_code)]

pub mod boot;
pub mod booted;
pub mod disk;
pub mod finish;
pub mod init;
pub mod kexec;
pub mod node;
pub mod notes;
pub mod receive;
pub mod session;
pub mod step;
pub mod store_log;
pub mod unpack;
