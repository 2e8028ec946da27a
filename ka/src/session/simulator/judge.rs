//! What must hold.

use super::*;

impl World {
    pub(super) fn check(&mut self) {
        assert!(self.book == self.session.book, "the session is not the fold of its events");
        // A round whose stream was forged for most nodes is held once more.
        assert!(self.book.round <= self.spec.rounds + self.book.takeovers + 1);
        for agent in self.agents.iter().filter(|agent| agent.alive && agent.at == At::Preparing) {
            let whole = self.copies.contains(&agent.machine);
            assert!(!whole, "machine {} has a copy and is erased", agent.machine);
        }
        let (status, _) = self.session.status();
        for node in status.nodes.iter().filter(|node| node.is_complete()) {
            let said = |a: &Agent| {
                node.mac.is_some_and(|mac| mac.0[5] == a.machine) && matches!(a.at, At::Has(_) | At::Gone)
            };
            assert!(self.agents.iter().any(said), "{node:?} is complete and does not know");
        }
    }

    /// Whether a living agent does not know its result yet. An agent that missed a whole stream waits for it
    /// until the hub closes its connection.
    pub(super) fn hears_more(&self) -> bool {
        self.agents.iter().filter(|agent| agent.speaks() && agent.at != At::Gone).any(|agent| {
            let node = agent.ticket.and_then(|ticket| self.book.nodes.get(&ticket.node));
            !node.is_some_and(Node::is_failed)
        })
    }

    /// At the end every machine has one result, and the right one.
    pub(super) fn judge(&self) {
        let (status, _) = self.session.status();
        let mut fates = BTreeMap::new();
        for node in status.nodes {
            let fate = (node.phase, node.failure.is_some());
            assert!(matches!(fate, (Phase::Complete, false) | (Phase::Failed, true)), "{node:?}");
            // With `kactl send`, a machine may take several copies.
            if let Some(mac) = node.mac.filter(|_| self.planned) {
                assert_eq!(fates.insert(mac.0[5], node.phase), None, "{mac} has two fates");
            }
        }
        for machine in self.copies.iter().filter(|_| self.planned) {
            assert_eq!(fates.get(machine), Some(&Phase::Complete), "machine {machine} has a copy");
        }
    }
}
