//! What the two ends of a data link say to each other, beside the stream's blocks.
//!
//! The successor dials and says [`LinkMessage::Hello`]; from then on blocks and pings run down, acks
//! and pings run up, so a silent link is a dead one and never just a full one.

use serde::{Deserialize, Serialize};

use super::{Epoch, NodeId, Offset};
use crate::seal::StreamId;

/// Which link a connection is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkName {
    /// The stream.
    pub stream: StreamId,
    /// The epoch in which the link is to be.
    pub epoch: Epoch,
    /// The predecessor, which is asked.
    pub from: NodeId,
    /// The successor, which asks.
    pub to: NodeId,
}

/// A message on a data link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkMessage {
    /// The successor's first words: where it is, and where the last one behind it is.
    Hello {
        /// Up to here the successor has verified the stream: the next block it needs starts here.
        verified: Offset,
        /// The lowest verified position of the successor and all members behind it.
        tail: Offset,
    },
    /// The lowest verified position of the successor and all members behind it.
    Ack {
        /// The epoch in which it was said.
        epoch: Epoch,
        /// The successor.
        from: NodeId,
        /// The position.
        tail: Offset,
    },
    /// I am here.
    Ping,
    /// Orderly goodbye: the controller has released me.
    End,
}
