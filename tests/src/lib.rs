//! Helpers of the tests across crates.
#![forbid(unsafe_code)]

pub mod loop_device;
pub mod sim;
pub mod stale;
pub mod tool;
