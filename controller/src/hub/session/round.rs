//! Who takes part in a round, and how it begins.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ka::chain::NodeId;
use ka::wire::control::ToAgent;
use std::time::Duration;

use super::{Admission, Ending, Gate, Session, State};
use crate::hub::clock;
use crate::hub::node::Node;
use crate::lists::order::{Place, slow_cards};
use crate::status::{Failure, NodeStatus, Phase};
use crate::stream::{Bell, Setup, Stream};
use ka::mac::Mac;
use ka_net::listen::DataPlace;

impl Session {
    /// The session begins with those of `named` that wait. In a later round it takes any of them that comes
    /// again, and of `others` as many as are missing to the number that was wanted. With nobody it ends.
    pub fn admit(&mut self, admission: Admission) {
        let Admission { named, others, keys, only_keys, refused, confirmed } = admission;
        if let Some(plans) = &mut self.spec.plans {
            plans.confirmed.extend(confirmed);
        }
        for (mac, reason) in refused {
            self.send_away(mac, &reason);
        }
        if named.is_empty() {
            // The others only take places that become free.
            self.end(Ending::Served);
            return;
        }
        self.allowed = named.union(&others).copied().collect();
        self.named = named;
        (self.keys, self.only_keys) = (keys, only_keys);
    }

    /// A machine that waits is told to go, and why. Its end is shown.
    pub(super) fn send_away(&mut self, mac: Mac, reason: &str) {
        let ids: Vec<NodeId> = self.waiting().filter(|n| n.mac() == Some(mac)).map(Node::id).collect();
        let mut gone = None;
        for id in ids {
            self.tell(id, ToAgent::Refused { reason: reason.to_owned() });
            gone = self.nodes.remove(&id);
        }
        self.show_refused(mac, gone.as_ref(), reason);
    }

    /// A machine that the plan cannot serve is among those that have failed.
    pub(super) fn show_refused(&mut self, mac: Mac, node: Option<&Node>, reason: &str) {
        log::warn!("{}: {mac} is sent away: {reason}", self.spec.name);
        let mut shown = NodeStatus::vanished(mac);
        if let Some(node) = node {
            shown.address = node.peer;
            shown.hostname.clone_from(&node.inventory.hostname);
        }
        shown.failure = Some(Failure { step: "check the disks".to_owned(), reason: reason.to_owned() });
        self.refused.push(shown);
    }

    /// Begins with those who are there.
    ///
    /// # Errors
    /// Why it cannot, for a person.
    pub(in crate::hub) fn go(&mut self) -> Result<(), String> {
        let name = &self.spec.name;
        if !matches!(self.state, State::Gathering) || !self.named.is_empty() {
            return Err(format!("the session '{name}' has begun already"));
        }
        let may = |node: &Node| {
            self.spec.only.as_ref().is_none_or(|only| node.mac().is_some_and(|mac| only.contains(&mac)))
        };
        if !self.waiting().any(may) {
            return Err(format!("no node waits in the session '{name}' yet that it may take"));
        }
        self.go = true;
        Ok(())
    }

    /// Machines that were let in and are not there any more count as failed.
    fn note_vanished(&mut self, chosen: &[NodeId]) {
        let there: BTreeSet<Mac> =
            chosen.iter().filter_map(|id| self.nodes.get(id)).filter_map(Node::mac).collect();
        self.vanished = self.named.difference(&there).copied().collect();
        for mac in &self.vanished {
            log::error!("{}: {mac} has gone before the session began", self.spec.name);
        }
        if chosen.is_empty() {
            self.end(Ending::Served);
        }
    }

    pub(super) fn allows(&self, node: &Node) -> bool {
        node.mac()
            .is_some_and(|mac| self.allowed.contains(&mac) && (!self.only_keys || self.is_who_was_seen(node)))
    }

    /// Whether it is the machine that was seen, and not one that claims its hardware address since.
    fn is_who_was_seen(&self, node: &Node) -> bool {
        let seen = node.mac().and_then(|mac| self.keys.get(&mac));
        seen.map_or(!self.only_keys, |key| *key == node.key)
    }

    pub(super) fn gather(&mut self) {
        if let Gate::Lasting(_) = self.spec.gate {
            // By now the last round's goodbyes are on their way.
            self.nodes.retain(|_, node| !node.dismissed && !node.is_failed());
        }
        let waiting: Vec<NodeId> = self.waiting().map(Node::id).collect();
        let late = self.spec.timeout.is_some_and(|timeout| clock::now() - self.began >= timeout);
        let enough = waiting.len() >= self.spec.wanted;
        match self.spec.gate {
            Gate::First if enough || (late || self.go) && !waiting.is_empty() => {
                self.begin_round(waiting.into_iter().take(self.spec.wanted).collect());
            }
            Gate::First if late => self.state = State::Over(Ending::Nobody),
            Gate::Named => {
                // Also those whose connection is lost at this moment: they come back, or fail with a reason.
                let named = |node: &&Node| {
                    let named = node.mac().is_some_and(|mac| self.named.contains(&mac));
                    node.phase == Phase::Joined && named && self.is_who_was_seen(node)
                };
                let mut chosen: Vec<NodeId> = self.nodes.values().filter(named).map(Node::id).collect();
                let begins = !self.named.is_empty();
                if !self.settle_all(&chosen) {
                    return;
                }
                chosen.retain(|id| self.nodes.contains_key(id));
                if begins {
                    self.note_vanished(&chosen);
                }
                self.begin_round(chosen);
            }
            Gate::Lasting(linger) if enough || clock::now() - self.last_join >= linger => {
                self.begin_round(waiting);
            }
            Gate::First | Gate::Lasting(_) => {}
        }
    }

    /// Those whom another round can serve: they have come late, or wait after a failure with a passing cause.
    pub(super) fn candidates(&self) -> Vec<NodeId> {
        let mut candidates: Vec<NodeId> =
            self.nodes.values().filter(|node| node.waits_again()).map(Node::id).collect();
        let mut places = match self.spec.gate {
            Gate::Named => self.spec.wanted.saturating_sub(self.nodes.values().filter(|n| n.chosen).count()),
            Gate::First | Gate::Lasting(_) => usize::MAX,
        };
        for node in self.waiting() {
            if node.unsure.is_some() {
                continue;
            }
            if self.spec.gate == Gate::Named && (!self.allows(node) || self.is_served(node)) {
                continue;
            }
            if self.former_life(node).is_none() {
                if places == 0 {
                    continue;
                }
                places -= 1;
            }
            candidates.push(node.id());
        }
        candidates
    }

    /// Whether this machine takes part already: what is whole, or becomes so, must not be erased again.
    fn is_served(&self, newcomer: &Node) -> bool {
        let same = |node: &&Node| node.id() != newcomer.id() && node.is_same_machine(newcomer);
        self.nodes.values().filter(same).any(|node| node.chosen && !node.is_lost())
    }

    /// Begins a round with these nodes, if there are any.
    pub(super) fn begin_round(&mut self, ids: Vec<NodeId>) {
        if ids.is_empty() {
            return;
        }
        self.round += 1;
        self.released_at = None;
        self.earlier = self.earlier.and(std::mem::take(&mut self.transfer));
        self.earlier_limits = self.earlier_limits.and(&std::mem::take(&mut self.limits));
        if self.round > 1 && !matches!(self.spec.gate, Gate::Lasting(_)) {
            log::info!("{}: round {} serves {} nodes", self.spec.name, self.round, ids.len());
        }
        self.give_names(&ids);
        for id in &ids {
            self.forget_former_life(*id);
            let Some(node) = self.nodes.get_mut(id) else { continue };
            node.begin_round(self.round, self.spec.plans.is_some());
            let (mac, own) = (node.mac(), node.own.clone().unwrap_or_default());
            if let Some((plans, mac)) = self.spec.plans.as_mut().zip(mac) {
                plans.pin(mac, &own);
            }
            if let Some(plan) = self.spec.plans.as_ref().map(|plans| plans.of(mac, node.local, &own)) {
                self.tell(*id, ToAgent::Plan(plan.into()));
            }
        }
        self.chosen = ids;
        self.state = State::Preparing;
    }

    /// Names those of the nodes that have no name yet, in the chain's order.
    fn give_names(&mut self, ids: &[NodeId]) {
        let Some(plans) = &mut self.spec.plans else { return };
        let nodes: Vec<&Node> = ids.iter().filter_map(|id| self.nodes.get(id)).collect();
        let places = nodes.iter().map(|node| Place { mac: node.mac(), address: node.data_address() });
        let order = self.spec.order.arrange(&places.collect::<Vec<_>>());
        let in_order = order.into_iter().filter_map(|index| nodes.get(index));
        plans.names.give(in_order.filter_map(|node| Some((node.mac()?, node.inventory.hostname.as_str()))));
    }

    /// A machine that died and has come back is another node; its end is what counts. Nobody else's failure is forgotten.
    fn forget_former_life(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        if let Some(former) = self.former_life(node) {
            log::info!("{}: {} comes again, in place of {former}", self.spec.name, node.label());
            self.nodes.remove(&former);
            self.trust.on_return(former, id);
        }
    }

    fn former_life(&self, node: &Node) -> Option<NodeId> {
        self.nodes.values().find(|former| node.takes_the_place_of(former)).map(Node::id)
    }

    /// Starts the stream when everybody is ready or has failed.
    pub(super) fn prepare(&mut self, now: Duration, data: &DataPlace, bell: &Bell) {
        let nodes = || self.chosen.iter().filter_map(|id| self.nodes.get(id));
        if !nodes().all(|node| node.phase == Phase::Ready || node.is_failed()) {
            return;
        }
        let ready: Vec<&Node> = nodes().filter(|node| !node.is_failed()).collect();
        let places = ready.iter().map(|node| Place { mac: node.mac(), address: node.data_address() });
        let mut ready: Vec<&Node> =
            self.spec.order.arrange(&places.collect::<Vec<_>>()).into_iter().map(|i| ready[i]).collect();
        let slow = slow_cards(ready.iter().map(|node| node.inventory.cards.first()));
        let slow: BTreeSet<NodeId> =
            ready.iter().zip(slow).filter(|(_, slow)| *slow).map(|(n, _)| n.id()).collect();
        // Whose card or link was too bad for a chain has no successor in the next. Nor has who sits on this machine
        // and came by an address that leads nobody else there.
        // Nor has whose card is known to be slow.
        // Before all: who may be a liar has no honest node behind it.
        ready.sort_by_key(|node| {
            let id = node.id();
            (self.trust.of(id), node.bypassed, slow.contains(&id), node.peer.is_loopback())
        });
        let order: Vec<(NodeId, SocketAddr)> = ready.iter().map(|n| (n.id(), n.data_address())).collect();
        let Some(first) = ready.first() else {
            self.state = State::Leaving;
            return;
        };
        let window = ready.iter().map(|node| node.window).fold(self.spec.window, u64::min);
        let setup = Setup {
            source: Arc::clone(&self.spec.source),
            order: &order,
            golden: first.local,
            data,
            window,
            dead_after: self.spec.dead_after,
            slow: self.spec.slow,
            now,
        };
        match Stream::start(&setup, bell) {
            Ok(stream) => {
                for (place, (id, _)) in order.iter().enumerate() {
                    if let Some(node) = self.nodes.get_mut(id) {
                        log::debug!("{}: {}. in the chain: {}", self.spec.name, place + 1, node.label());
                        node.phase = Phase::Receiving;
                        node.stream = Some(stream.id());
                        node.position = Some(place + 1);
                    }
                    self.tell(*id, ToAgent::Stream(Box::new(stream.start.clone())));
                }
                self.state = State::Streaming(Box::new(stream));
                self.send_views();
            }
            Err(error) => self.abort("start", &error.to_string(), Ending::SourceFailed(error.to_string())),
        }
    }
}
