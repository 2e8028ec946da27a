//! Ensures that a node's disks are the confirmed ones, even after the node has rebooted.
//!
//! A machine that returns may have other disks under the old names. So its disks must be recognised. If
//! nothing shows whether they are the same, the operator is asked again, or the machine is refused if no
//! operator can be asked.

use std::time::Duration;

use super::Session;
use super::arrival::Arrival;
use super::event::Event;
use super::node::Node;
use super::plans::Unsettled;
use crate::chain::NodeId;
use crate::inventory::identity::DiskIdentity;
use crate::mac::Mac;

/// How long a question may stay open while other nodes wait for the end of the run.
const ANSWER_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A machine about which the operator must be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The node.
    pub node: NodeId,
    /// The machine, and the contents of its disks.
    pub arrival: Arrival,
    /// Why its disks are not certain to be the confirmed ones.
    pub reason: String,
}

impl Session {
    /// Determines a newcomer's disks. The node stays unsettled if the operator must be asked.
    ///
    /// # Errors
    /// Why it is not served.
    pub(super) fn settle(&self, node: &Node) -> Result<Option<Event>, String> {
        let Some(plans) = &self.spec.plans else { return Ok(None) };
        match plans.settle(&self.book.confirmed, node.mac(), &node.joined.inventory) {
            Ok(disks) => Ok(Some(Event::Settled { node: node.id(), disks })),
            Err(Unsettled::Unsure(reason)) if plans.ask => {
                log::warn!("{}: {}: {reason}; it must be confirmed again", self.spec.name, node.label());
                Ok(Some(Event::Unsure { node: node.id(), reason }))
            }
            Err(Unsettled::Unsure(reason)) => {
                Err(format!("{reason}; it has booted again, and there is no operator to ask about it"))
            }
            Err(Unsettled::Refused(reason)) => Err(reason),
        }
    }

    /// Settles the disks of the nodes with which the session begins. Returns false while the operator is
    /// asked about one of them.
    pub(super) fn settle_all(&mut self, ids: &[NodeId]) -> bool {
        for id in ids {
            let Some(node) = self.book.nodes.get(id) else { continue };
            if node.own.is_some() || node.unsure().is_some() {
                continue;
            }
            let mac = node.mac();
            match (self.settle(node), mac) {
                (Ok(Some(event)), _) => self.record(event),
                (Err(reason), Some(mac)) => self.send_away(mac, &reason),
                _ => {}
            }
        }
        !self.is_asking()
    }

    /// Whether the operator is asked about a waiting node.
    pub(super) fn is_asking(&self) -> bool {
        self.waiting().any(|node| node.unsure().is_some())
    }

    /// The current questions.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        let question = |node: &Node| {
            let reason = node.unsure()?.clone();
            Some(Question { node: node.id(), arrival: node.arrival()?, reason })
        };
        self.waiting().filter_map(question).collect()
    }

    /// Handles the operator's answer: these disks of a node are confirmed, or none.
    pub(super) fn answer(&mut self, id: NodeId, confirmed: Option<Vec<DiskIdentity>>) {
        let Some(node) = self.book.nodes.get(&id).filter(|node| node.unsure().is_some()) else { return };
        let Some(mac) = node.mac() else { return };
        let Some((disks, plans)) = confirmed.zip(self.spec.plans.as_ref()) else {
            self.send_away(mac, "the operator did not confirm it again");
            return;
        };
        // The node has the same description again: if that identifies nothing, the only option left is to
        // confirm it.
        let shown = plans.as_shown(&disks, &node.joined.inventory);
        self.record(Event::Confirmed { mac, disks });
        match shown {
            Some(disks) => self.record(Event::Settled { node: id, disks }),
            None => self.send_away(mac, "its disks do not match the plan"),
        }
    }

    /// Questions without an answer do not hold up a run for ever.
    pub(super) fn judge_questions(&mut self) {
        let late = self.nodes().filter(|known| {
            let since = self.now.saturating_sub(known.live.asked_since);
            known.node.unsure().is_some() && known.live.connection.is_some() && since > ANSWER_LIMIT
        });
        let late: Vec<Mac> = late.filter_map(|known| known.node.mac()).collect();
        for mac in late {
            let reason = format!("nobody confirmed it again within {} s", ANSWER_LIMIT.as_secs());
            self.send_away(mac, &reason);
        }
    }
}
