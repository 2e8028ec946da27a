//! Stage1: from the kernel command line to a controller that answers.

pub mod clock;
pub mod find;
pub mod modules;
pub mod network;
pub mod randomness;
pub mod reach;
mod stage1;

pub use stage1::{BootError, Stage1, stage1};
