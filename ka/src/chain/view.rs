//! What the controller tells a member of its place, and what a member reports of its neighbours.

use serde::{Deserialize, Serialize};

use super::ids::{Epoch, NodeId};
use super::link_keys::Secrets;

/// A member's place in the chain during one epoch. `A` is what reaches a neighbour: an address, or
/// nothing at all in a simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View<A> {
    /// The epoch.
    pub epoch: Epoch,
    /// Whom to ask for the stream; none for the golden node.
    pub predecessor: Option<Neighbour<A>>,
    /// Who will ask; none for the chain's tail.
    pub successor: Option<NodeId>,
    /// What proves the member to its neighbours, and them to it.
    pub secrets: Secrets,
}

impl<A> View<A> {
    /// Who the predecessor is.
    #[must_use]
    pub fn predecessor_id(&self) -> Option<NodeId> {
        self.predecessor.as_ref().map(|predecessor| predecessor.id)
    }
}

/// A neighbour that is to be dialled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour<A> {
    /// Who it is.
    pub id: NodeId,
    /// Where it is.
    pub address: A,
}

/// A member's complaint about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The epoch in which it was seen; the controller ignores older ones.
    pub epoch: Epoch,
    /// The neighbour.
    pub about: NodeId,
    /// What was seen.
    pub trouble: Trouble,
}

/// What is wrong with a neighbour, as far as a member can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The connection was refused, reset or closed.
    Reset,
    /// Nothing has come for the time that counts as death.
    Silent,
    /// What came did not verify.
    Damaged,
    /// It has forgotten what it must keep, or claims what cannot be.
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
