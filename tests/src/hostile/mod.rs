//! Hosts that do harm, over real sockets: with a key or without, before they are admitted and after.

pub mod agent;
pub mod floods;
pub mod relay;
