//! What travels between machines: control messages, link frames, handshakes, versions and limits.
//!
//! Every TCP connection is a [`channel`]: frames, a Noise handshake, then sealed messages. On the
//! control connection they are [`control`] messages; on a data link they are [`crate::chain::LinkMessage`]s, with
//! the stream's blocks between them, which are sealed already.

pub mod channel;
pub mod console;
pub mod control;
pub mod discovery;
mod frame;
pub mod hello;
mod noise;
pub mod preamble;
pub mod session_names;

/// What a block takes on a link beyond its own bytes.
pub const BLOCK_OVERHEAD: usize = frame::HEADER;

/// The version of everything on the wire. Both sides must have the same.
pub const PROTOCOL: u16 = 5;

/// TCP port of the golden node's control connections.
pub const CONTROL_PORT: u16 = 30765;
/// TCP port of data links.
pub const DATA_PORT: u16 = 30764;
/// TCP port of a node's console.
pub const CONSOLE_PORT: u16 = 12345;
/// UDP port on which the golden node is found.
pub const DISCOVERY_PORT: u16 = 4957;
