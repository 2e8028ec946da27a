//! The controller's message to a member about its place, and a member's reports about its neighbours.

use serde::{Deserialize, Serialize};

use super::ids::{Epoch, NodeId};
use super::link_keys::Secrets;

/// A member's place in the chain during one epoch. `A` is how a neighbour is reached: an address, or nothing
/// at all in a simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View<A> {
    /// The epoch.
    pub epoch: Epoch,
    /// The node to dial for the stream; `None` for the golden node.
    pub predecessor: Option<Neighbour<A>>,
    /// The node that will dial; `None` for the chain's tail.
    pub successor: Option<NodeId>,
    /// The secrets by which the member and its neighbours authenticate each other.
    pub secrets: Secrets,
}

impl<A> View<A> {
    /// The predecessor's number.
    #[must_use]
    pub fn predecessor_id(&self) -> Option<NodeId> {
        self.predecessor.as_ref().map(|predecessor| predecessor.id)
    }
}

/// A neighbour to dial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour<A> {
    /// Its number.
    pub id: NodeId,
    /// Its address.
    pub address: A,
}

/// A member's complaint about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The epoch in which the trouble was seen; the controller ignores older ones.
    pub epoch: Epoch,
    /// The neighbour.
    pub about: NodeId,
    /// The trouble.
    pub trouble: Trouble,
}

/// What is wrong with a neighbour, as far as a member can judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The connection was refused, reset or closed.
    Reset,
    /// Nothing has arrived for the time that counts as death.
    Silent,
    /// It sent something that did not verify.
    Damaged,
    /// It has forgotten blocks that it must keep, or claims something impossible.
    Impossible,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reset => "closed the connection",
            Self::Silent => "has gone silent",
            Self::Damaged => "sent damaged data",
            Self::Impossible => "broke the chain's rules",
        })
    }
}
