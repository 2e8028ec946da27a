//! Runs: sessions, rounds, and the nodes' states.

mod block_size;
mod clock;
pub mod discovery;
pub mod go;
pub mod hub;
pub mod lease;
mod level;
mod logs;
mod net;
mod node;
pub mod nodes;
pub mod order;
pub mod produce;
pub mod registry;
pub mod select;
pub mod session;
mod slow;
pub mod source;
pub mod status;
mod stream;
