//! The messages between the two ends of a data link, besides the stream's blocks.
//!
//! The successor dials and sends [`LinkMessage::Hello`]. From then on blocks and pings flow down, and acks
//! and pings flow up. So a silent link is dead and never just full.

use serde::{Deserialize, Serialize};

use super::{Epoch, NodeId, Offset};
use crate::seal::StreamId;

/// The link that a connection is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkName {
    /// The stream.
    pub stream: StreamId,
    /// The link's epoch.
    pub epoch: Epoch,
    /// The predecessor, which answers.
    pub from: NodeId,
    /// The successor, which dials.
    pub to: NodeId,
}

/// A message on a data link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkMessage {
    /// The successor's first message: its own position and the tail position.
    Hello {
        /// The successor has verified the stream up to here: the next block it needs starts here.
        verified: Offset,
        /// The lowest verified position of the successor and all members behind it.
        tail: Offset,
    },
    /// The lowest verified position of the successor and all members behind it.
    Ack {
        /// The epoch in which it was sent.
        epoch: Epoch,
        /// The successor.
        from: NodeId,
        /// The position.
        tail: Offset,
    },
    /// A sign of life.
    Ping,
    /// Orderly close: the controller has released the sender.
    End,
}
