//! The wire formats: control messages, link frames, handshakes, versions and limits.
//!
//! Every TCP connection is a [`channel`]: frames, a Noise handshake, then sealed messages. On the control
//! connection these are [`control`] messages. On a data link they are [`crate::chain::LinkMessage`]s, with
//! the stream's blocks, which are already sealed, between them.

pub mod channel;
pub mod console;
pub mod control;
pub mod discovery;
mod frame;
pub mod hello;
mod noise;
pub mod preamble;
pub mod session_names;

/// The overhead of a block on a link in bytes.
pub const BLOCK_OVERHEAD: usize = frame::HEADER;

/// The version of the whole wire protocol. Both sides must have the same.
pub const PROTOCOL: u16 = 6;

/// TCP port of the golden node's control connections.
pub const CONTROL_PORT: u16 = 30765;
/// TCP port of data links.
pub const DATA_PORT: u16 = 30764;
/// TCP port of a node's console.
pub const CONSOLE_PORT: u16 = 12345;
/// UDP port of the golden node for discovery.
pub const DISCOVERY_PORT: u16 = 4957;
