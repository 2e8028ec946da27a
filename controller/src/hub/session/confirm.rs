//! That the disks of a node are those that were confirmed, also after it has booted again.
//!
//! A machine that comes again may have other disks under the old names. Its disks must be recognised; if nothing tells
//! whether they are the same, somebody is asked once more, or the machine is refused if there is nobody to ask.

use std::time::Duration;

use ka::chain::NodeId;
use ka::inventory::identity::DiskIdentity;

use super::Session;
use crate::hub::Arrival;
use crate::hub::clock;
use crate::hub::node::Node;
use crate::hub::plans::Unsettled;
use crate::status::Phase;

/// How long a question may stay open while others wait for the end of the run.
const ANSWER_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A machine about which somebody must be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Which node.
    pub node: NodeId,
    /// The machine, and what is on its disks.
    pub arrival: Arrival,
    /// Why it is not sure that its disks are those that were confirmed.
    pub reason: String,
}

impl Session {
    /// Finds out which disks of a newcomer are meant; it waits unsure if somebody is to be asked.
    ///
    /// # Errors
    /// Why it is not served.
    pub(super) fn settle(&self, node: &mut Node) -> Result<(), String> {
        let Some(plans) = &self.spec.plans else { return Ok(()) };
        match plans.settle(node.mac(), &node.inventory) {
            Ok(own) => {
                node.own = Some(own);
                node.unsure = None;
                Ok(())
            }
            Err(Unsettled::Unsure(reason)) if plans.ask => {
                log::warn!("{}: {}: {reason}; somebody must confirm it again", self.spec.name, node.label());
                node.unsure = Some((reason, clock::now()));
                Ok(())
            }
            Err(Unsettled::Unsure(reason)) => {
                Err(format!("{reason}; it has booted again, and nobody can be asked about it"))
            }
            Err(Unsettled::Refused(reason)) => Err(reason),
        }
    }

    /// Settles those with whom the session begins. False while somebody is asked about one of them.
    pub(super) fn settle_all(&mut self, ids: &[NodeId]) -> bool {
        for id in ids {
            let Some(mut node) = self.nodes.remove(id) else { continue };
            let settled =
                if node.own.is_none() && node.unsure.is_none() { self.settle(&mut node) } else { Ok(()) };
            let mac = node.mac();
            self.nodes.insert(*id, node);
            if let (Err(reason), Some(mac)) = (settled, mac) {
                self.turn_away(mac, &reason);
            }
        }
        !self.is_asking()
    }

    /// Whether somebody is asked about a node that waits.
    pub(super) fn is_asking(&self) -> bool {
        self.waiting().any(|node| node.unsure.is_some())
    }

    /// What is asked now.
    pub fn questions(&self) -> Vec<Question> {
        let question = |node: &Node| {
            let (reason, _) = node.unsure.clone()?;
            Some(Question { node: node.id(), arrival: node.arrival()?, reason })
        };
        self.waiting().filter_map(question).collect()
    }

    /// Somebody has confirmed these disks of a node, or none.
    pub fn answer(&mut self, id: NodeId, confirmed: Option<Vec<DiskIdentity>>) {
        let open = |node: &&Node| node.phase == Phase::Joined && node.unsure.is_some();
        let Some(mac) = self.nodes.get(&id).filter(open).and_then(Node::mac) else { return };
        let Some((identities, plans)) = confirmed.zip(self.spec.plans.as_mut()) else {
            self.turn_away(mac, "nobody said yes when it was asked about again");
            return;
        };
        plans.confirmed.insert(mac, identities);
        let Some(mut node) = self.nodes.remove(&id) else { return };
        // The same words of the same node: if they tell nothing, nobody can do more than to confirm them.
        node.unsure = None;
        node.own = plans.as_shown(mac, &node.inventory);
        let is_settled = node.own.is_some();
        self.nodes.insert(id, node);
        if !is_settled {
            self.turn_away(mac, "its disks are not as the plan wants them");
        }
    }

    /// Questions that nobody answers don't hold up a run for ever.
    pub(super) fn judge_questions(&mut self) {
        let late = |node: &&Node| {
            node.unsure.as_ref().is_some_and(|(_, since)| clock::now() - *since > ANSWER_LIMIT)
        };
        let late: Vec<_> = self.waiting().filter(late).filter_map(Node::mac).collect();
        for mac in late {
            let reason =
                format!("nobody answered within {} s when it was asked about again", ANSWER_LIMIT.as_secs());
            self.turn_away(mac, &reason);
        }
    }

    /// A machine that waits is refused for the rest of the session.
    fn turn_away(&mut self, mac: ka::mac::Mac, reason: &str) {
        self.allowed.remove(&mac);
        self.named.remove(&mac);
        self.send_away(mac, reason);
    }
}
