//! The ends of links that delivered forged data, by the receivers' claims.
//!
//! A forgery shows on every node behind it, so all of these complain, and only the first of them in the chain
//! is next to the origin: either the node before it lies, or it lies itself. Nothing shows which of the two
//! it is. So neither gains anything: in the next round both are behind all others, and the one that
//! complained comes first of the two. If it told the truth, it has an honest node before it. If not, only the
//! node that it slandered is behind it.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::chain::NodeId;
use crate::seal::StreamId;

/// A node's involvement in forgeries: the more, the further back its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Nothing.
    None,
    /// It claimed to have received a forgery.
    Receiver,
    /// Its successor claimed so.
    Sender,
    /// It was at an end of two such links, with a different node at the other end of each.
    Both,
}

/// A node's claim that it received forged data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The receiver's place in the chain.
    pub place: usize,
    /// The accused sender.
    pub sender: NodeId,
    /// The node that made the claim.
    pub receiver: NodeId,
}

/// The claims of all rounds: for each stream, the one closest to the head of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Findings(Vec<(StreamId, Finding)>);

/// All predecessor and successor pairs so far.
#[derive(Debug, Default)]
pub(super) struct Links(HashSet<(StreamId, NodeId, NodeId)>);

impl Links {
    /// Records the current chain, from the golden node.
    pub(super) fn on_chain(&mut self, stream: StreamId, chain: &[NodeId]) {
        let links = chain.windows(2).filter_map(|pair| Some((stream, *pair.first()?, *pair.last()?)));
        self.0.extend(links);
    }

    /// Whether the receiver ever had this predecessor: it must not blame any other node.
    pub(super) fn were_linked(&self, stream: StreamId, sender: NodeId, receiver: NodeId) -> bool {
        self.0.contains(&(stream, sender, receiver))
    }
}

impl Findings {
    /// Adds a node's claim that it received forged data.
    pub(super) fn add(&mut self, stream: StreamId, finding: Finding) {
        match self.0.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, known)) if known.place <= finding.place => {}
            Some((_, known)) => *known = finding,
            None => self.0.push((stream, finding)),
        }
    }

    /// The accused sender of a stream's forged data.
    pub(super) fn suspect(&self, stream: StreamId) -> Option<NodeId> {
        self.0.iter().find(|(known, _)| *known == stream).map(|(_, finding)| finding.sender)
    }

    /// The doubt about a node.
    pub(super) fn of(&self, node: NodeId) -> Doubt {
        let others: BTreeSet<NodeId> =
            self.0.iter().filter_map(|(_, finding)| finding.other_end(node)).collect();
        let receives = self.0.iter().any(|(_, finding)| finding.receiver == node);
        match (others.len(), receives) {
            (0, _) => Doubt::None,
            (1, true) => Doubt::Receiver,
            (1, false) => Doubt::Sender,
            _ => Doubt::Both,
        }
    }

    /// Records that a machine has returned, as another node.
    pub(super) fn on_return(&mut self, former: NodeId, node: NodeId) {
        for (_, finding) in &mut self.0 {
            for end in [&mut finding.sender, &mut finding.receiver] {
                if *end == former {
                    *end = node;
                }
            }
        }
    }
}

impl Finding {
    fn other_end(&self, node: NodeId) -> Option<NodeId> {
        match node {
            _ if node == self.sender => Some(self.receiver),
            _ if node == self.receiver => Some(self.sender),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: u8) -> StreamId {
        StreamId([number; 16])
    }

    fn finding(place: usize, sender: u32, receiver: u32) -> Finding {
        Finding { place, sender: NodeId(sender), receiver: NodeId(receiver) }
    }

    fn order(trust: &Findings, nodes: &[u32]) -> Vec<u32> {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|id| trust.of(NodeId(*id)));
        nodes
    }

    #[test]
    fn whoever_accuses_gains_no_place_and_its_accused_has_nobody_behind_it() {
        let mut trust = Findings::default();
        // Node 3 forges, or node 4 falsely claims so: all nodes behind complain too, in any order.
        for (place, receiver) in [(6, 6), (4, 4), (5, 5)] {
            trust.add(stream(1), finding(place, receiver - 1, receiver));
        }
        assert_eq!(order(&trust, &[1, 2, 3, 4, 5, 6]), [1, 2, 5, 6, 4, 3]);
        // Node 4 has complained about another node again: no node is behind it any more.
        trust.add(stream(2), finding(4, 6, 4));
        assert_eq!(order(&trust, &[1, 2, 3, 4, 5, 6]), [1, 2, 5, 3, 6, 4]);
        // A reboot changes nothing.
        trust.on_return(NodeId(4), NodeId(9));
        assert_eq!((trust.of(NodeId(4)), trust.of(NodeId(9))), (Doubt::None, Doubt::Both));
    }

    #[test]
    fn only_a_predecessor_can_be_blamed() {
        let mut trust = Links::default();
        trust.on_chain(stream(1), &[NodeId(0), NodeId(1), NodeId(2), NodeId(3)]);
        trust.on_chain(stream(1), &[NodeId(0), NodeId(1), NodeId(3)]);
        let linked = |sender, receiver| trust.were_linked(stream(1), NodeId(sender), NodeId(receiver));
        assert!(linked(0, 1) && linked(2, 3) && linked(1, 3));
        assert!(!linked(0, 3) && !linked(3, 2) && !trust.were_linked(stream(2), NodeId(0), NodeId(1)));
    }
}
