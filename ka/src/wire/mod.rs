//! What travels between machines: control messages, link frames, handshakes, versions and limits.

pub mod discovery;
pub mod keys;
