//! Runs: sessions, rounds, and the nodes' states.

mod block_size;
pub mod booted;
mod clock;
pub mod discovery;
pub mod go;
pub mod hooks;
pub mod hosts;
pub mod hub;
pub mod lease;
mod level;
pub mod list;
mod logs;
pub mod names;
mod net;
mod node;
pub mod nodes;
pub mod order;
pub mod plans;
pub mod produce;
pub mod registry;
pub mod select;
pub mod session;
mod slow;
pub mod source;
pub mod status;
mod stream;
