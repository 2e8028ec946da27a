//! The golden node: its layout, and its files as a stream.

pub mod cards;
pub mod chosen;
pub mod describe;
pub mod devices;
pub mod hooks;
pub mod pack;
pub mod plan;
mod private_mount;
pub mod quiet;
pub mod scan;
pub mod shape;
pub mod tree;
pub mod view;
