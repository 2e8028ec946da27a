//! Chooses the nodes of a round, and begins it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::book::Stage;
use super::event::{Admission, Ending, Event};
use super::input::{Effect, Started};
use super::live::Known;
use super::node::{Node, State};
use super::order::{Candidate, slow_cards};
use super::stream::Stream;
use super::{AdmissionPolicy, Session};
use crate::chain::NodeId;
use crate::mac::Mac;
use crate::wire::control::ToAgent;

/// At most this many late nodes of one address are served in a further round: each one that is alive but does
/// nothing there costs the others several `--dead-after` periods.
const MAX_LATE_OF_AN_ADDRESS: usize = 8;
/// How long a node waits for later ones, in multiples of the linger time of a lasting session.
const MAX_LINGERING: u32 = 5;

impl Session {
    /// Admits the machines: the session begins with the waiting nodes of `named`. A later round takes any of
    /// them that returns, and as many of `others` as are missing from the wanted number. With no machine
    /// named, the session ends.
    pub(super) fn admit(&mut self, admission: Admission) {
        for (mac, reason) in &admission.refused {
            self.send_away(*mac, reason);
        }
        // The others only take places that become free.
        let is_nobody = admission.named.is_empty();
        self.record(Event::Admitted(Box::new(admission)));
        if is_nobody {
            self.end(Ending::Served);
        }
    }

    /// Begins with the nodes present.
    ///
    /// # Errors
    /// Why it cannot begin, for the operator.
    pub(super) fn go(&mut self) -> Result<(), String> {
        let name = &self.spec.name;
        if !matches!(self.book.stage, Stage::Gathering) || !self.book.named.is_empty() {
            return Err(format!("the session '{name}' has already started"));
        }
        let may = |node: &Node| {
            self.spec.only.as_ref().is_none_or(|only| node.mac().is_some_and(|mac| only.contains(&mac)))
        };
        if !self.waiting().any(may) {
            return Err(format!("no node that the session '{name}' may take is waiting yet"));
        }
        if !self.book.go {
            self.record(Event::Go);
        }
        Ok(())
    }

    /// Machines that were admitted and are gone count as failed.
    fn find_vanished(&self, chosen: &[NodeId]) -> BTreeSet<Mac> {
        let there: BTreeSet<Mac> =
            chosen.iter().filter_map(|id| self.book.nodes.get(id)).filter_map(Node::mac).collect();
        let vanished: BTreeSet<Mac> = self.book.named.difference(&there).copied().collect();
        for mac in &vanished {
            log::error!("{}: {mac} disconnected before the session started", self.spec.name);
        }
        vanished
    }

    pub(super) fn allows(&self, node: &Node) -> bool {
        node.mac().is_some_and(|mac| {
            self.book.allowed.contains(&mac) && (!self.book.only_keys || self.is_who_was_seen(node))
        })
    }

    /// Whether this is the machine that was seen, and not one that has claimed its hardware address since.
    fn is_who_was_seen(&self, node: &Node) -> bool {
        let seen = node.mac().and_then(|mac| self.book.keys.get(&mac));
        seen.map_or(!self.book.only_keys, |key| *key == node.joined.key)
    }

    pub(super) fn gather(&mut self) {
        if let AdmissionPolicy::Lasting(_) = self.spec.admission {
            // By now the last round's dismissals have been sent.
            let gone = self.book.nodes.values().filter(|node| node.is_dismissed() || node.is_failed());
            let gone: Vec<NodeId> = gone.map(Node::id).collect();
            for node in gone {
                self.record(Event::Left { node, reason: "it was served".to_owned() });
            }
        }
        let waiting: Vec<NodeId> = self.answering().map(|known| known.node.id()).collect();
        let since = |then| self.now.saturating_sub(then);
        let late = self.spec.timeout.is_some_and(|timeout| since(self.began) >= timeout);
        let enough = waiting.len() >= self.spec.wanted;
        match self.spec.admission {
            AdmissionPolicy::First if enough || (late || self.book.go) && !waiting.is_empty() => {
                self.begin_round(waiting.into_iter().take(self.spec.wanted).collect());
            }
            AdmissionPolicy::First if late => self.end(Ending::Nobody),
            AdmissionPolicy::Named if !self.book.named.is_empty() => self.begin_with_the_named(),
            AdmissionPolicy::Lasting(linger) if enough || self.has_lingered(linger) => {
                self.begin_round(waiting);
            }
            AdmissionPolicy::First | AdmissionPolicy::Named | AdmissionPolicy::Lasting(_) => {}
        }
    }

    /// Begins with the admitted machines, unless the operator is being asked about one of them again.
    fn begin_with_the_named(&mut self) {
        // Includes nodes whose connection is lost at this moment: they return, or fail with a reason.
        let named = |node: &&Node| {
            let named = node.mac().is_some_and(|mac| self.book.named.contains(&mac));
            node.is_waiting() && named && self.is_who_was_seen(node)
        };
        let mut chosen: Vec<NodeId> = self.book.nodes.values().filter(named).map(Node::id).collect();
        if !self.settle_all(&chosen) {
            return;
        }
        chosen.retain(|id| self.book.nodes.contains_key(id));
        if chosen.is_empty() {
            let vanished = self.find_vanished(&chosen);
            self.record(Event::Vanished { machines: vanished });
            self.end(Ending::Served);
            return;
        }
        self.begin_round(chosen);
    }

    /// Whether no node has joined for this time, or one has waited many times as long while others kept
    /// joining.
    fn has_lingered(&self, linger: Duration) -> bool {
        let since = |then| self.now.saturating_sub(then);
        let longest = self.answering().map(|known| since(known.live.joined_at)).max();
        since(self.last_join) >= linger || longest.is_some_and(|waited| waited >= linger * MAX_LINGERING)
    }

    /// The nodes that another round can serve: they came late, or wait after a transient failure.
    pub(super) fn candidates(&self) -> Vec<NodeId> {
        let again = self.nodes().filter(Known::waits_again).map(|known| known.node.id());
        let mut candidates: Vec<NodeId> = again.collect();
        let chosen = || self.book.nodes.values().filter(|node| node.is_chosen());
        let mut places = match self.spec.admission {
            AdmissionPolicy::Named => self.spec.wanted.saturating_sub(chosen().count()),
            AdmissionPolicy::First | AdmissionPolicy::Lasting(_) => usize::MAX,
        };
        let mut beside: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for Known { node, .. } in self.answering() {
            if node.unsure().is_some() {
                continue;
            }
            if self.spec.admission == AdmissionPolicy::Named && (!self.allows(node) || self.is_served(node)) {
                continue;
            }
            if self.former_life(node.id()).is_none() {
                if places == 0 {
                    continue;
                }
                let peer = node.joined.peer;
                let of_address = beside.entry(peer).or_default();
                if *of_address >= MAX_LATE_OF_AN_ADDRESS && !peer.is_loopback() {
                    continue;
                }
                *of_address += 1;
                places -= 1;
            }
            candidates.push(node.id());
        }
        candidates
    }

    /// Whether this machine already takes part: a copy that is complete, or will be, must not be erased
    /// again.
    fn is_served(&self, newcomer: &Node) -> bool {
        self.nodes()
            .filter(|known| known.node.id() != newcomer.id() && known.node.is_same_machine(newcomer))
            .any(|known| known.node.is_chosen() && !known.is_lost())
    }

    /// Begins a round with these nodes, if there are any.
    pub(super) fn begin_round(&mut self, ids: Vec<NodeId>) {
        if ids.is_empty() {
            return;
        }
        let round = self.book.round + 1;
        self.released_at = None;
        self.earlier_limits = self.earlier_limits.and(&std::mem::take(&mut self.limits));
        if round > 1 && !matches!(self.spec.admission, AdmissionPolicy::Lasting(_)) {
            log::info!("{}: round {round} serves {} nodes", self.spec.name, ids.len());
        }
        let begins = round == 1 && self.spec.admission == AdmissionPolicy::Named;
        let vanished = if begins { self.find_vanished(&ids) } else { BTreeSet::new() };
        self.give_names(&ids);
        let mut replaced = Vec::new();
        for id in &ids {
            // A machine that died and has returned is another node, and that node's result counts. No other
            // failure is forgotten.
            let former = self.former_life(*id).filter(|f| replaced.iter().all(|(known, _)| known != f));
            if let Some(former) = former {
                log::info!(
                    "{}: {} has joined again and replaces \
                    {former}",
                    self.spec.name,
                    self.label_of(*id)
                );
                replaced.push((former, *id));
            }
        }
        for id in &ids {
            let is_new = self.book.nodes.get(id).is_some_and(|node| !node.is_chosen());
            let is_known = replaced.iter().any(|(_, node)| node == id);
            if let Some(live) = self.live.get_mut(id).filter(|_| round > 1 && is_new && !is_known) {
                live.late = !matches!(self.spec.admission, AdmissionPolicy::Lasting(_));
            }
        }
        self.record(Event::Round { round, nodes: ids.clone(), replaced, vanished });
        ids.into_iter().for_each(|id| self.send_plan(id));
    }

    /// Sends a node its plan, if there is one.
    pub(super) fn send_plan(&mut self, id: NodeId) {
        let (Some(plans), Some(node)) = (&self.spec.plans, self.book.nodes.get(&id)) else { return };
        let mac = node.mac();
        let name = mac.and_then(|mac| self.book.names.get(&mac)?.as_ref());
        let own = node.own.clone().unwrap_or_default();
        let plan = plans.of(mac, name, node.joined.local, &own);
        if let Some((boots, mac)) = plans.first_boots.as_ref().zip(mac) {
            self.effects.push(Effect::AwaitBoot { mac, token: boots.token(mac) });
        }
        self.tell(id, ToAgent::Plan(plan.into()));
    }

    /// Names the nodes without a name, in chain order.
    fn give_names(&mut self, ids: &[NodeId]) {
        let Some(plans) = &self.spec.plans else { return };
        let nodes: Vec<&Node> = ids.iter().filter_map(|id| self.book.nodes.get(id)).collect();
        let order = self.arrange(&nodes);
        let names =
            order.iter().filter_map(|node| Some((node.mac()?, node.joined.inventory.hostname.as_str())));
        let names = plans.names.give(&self.book.names, names);
        if !names.is_empty() {
            self.record(Event::Named { names });
        }
    }

    /// The nodes in the requested order.
    fn arrange<'a>(&self, nodes: &[&'a Node]) -> Vec<&'a Node> {
        let candidates = nodes.iter().map(|node| Candidate { mac: node.mac(), address: node.data_address() });
        let order = self.spec.order.arrange(&candidates.collect::<Vec<_>>());
        order.into_iter().filter_map(|index| nodes.get(index).copied()).collect()
    }

    /// The node under which this machine took part before, if that one is gone.
    fn former_life(&self, id: NodeId) -> Option<NodeId> {
        let node = self.node(id)?;
        self.nodes().find(|former| node.takes_the_place_of(former)).map(|former| former.node.id())
    }

    /// Requests the stream when all nodes are ready or have failed.
    pub(super) fn prepare(&mut self) {
        if !self.starting.is_empty() || self.is_reassembling() {
            return;
        }
        let nodes = || self.book.chosen.iter().filter_map(|id| self.book.nodes.get(id));
        if !nodes().all(|node| matches!(node.state, State::Ready) || node.is_failed()) {
            return;
        }
        let mut ready: Vec<&Node> =
            self.arrange(&nodes().filter(|node| !node.is_failed()).collect::<Vec<_>>());
        let slow = slow_cards(ready.iter().map(|node| node.joined.inventory.cards.first()));
        let slow: BTreeSet<NodeId> =
            ready.iter().zip(slow).filter(|(_, slow)| *slow).map(|(n, _)| n.id()).collect();
        // A node whose card or link was too bad for one chain has no successor in the next. The same holds
        // for a node on this machine whose address leads no other node to it, and for a node whose card is
        // known to be slow. Above all, a node that may be a liar has no honest node behind it. A node that
        // came late has none behind it that took part from the start.
        ready.sort_by_key(|node| {
            let id = node.id();
            let is_here = node.joined.peer.is_loopback();
            let is_late = self.live.get(&id).is_some_and(|live| live.late);
            (self.book.findings.of(id), is_late, node.bypassed, slow.contains(&id), is_here)
        });
        let order: Vec<(NodeId, SocketAddr)> = ready.iter().map(|n| (n.id(), n.data_address())).collect();
        let Some(first) = ready.first() else {
            let (transfer, notes) = (self.book.transfer, self.book.notes.clone());
            self.record(Event::Ended { transfer, notes });
            return;
        };
        let golden = first.joined.local;
        let window = ready.iter().map(|node| node.joined.window).fold(self.spec.window, u64::min);
        self.starting = order;
        self.effects.push(Effect::StartStream { golden, window });
    }

    /// Sends the nodes the running stream and their places in its chain.
    pub(super) fn on_started(&mut self, started: Started) {
        let mut order = std::mem::take(&mut self.starting);
        // A node may have failed while the stream was being started.
        let nodes = &self.book.nodes;
        order.retain(|(id, _)| nodes.get(id).is_some_and(|node| matches!(node.state, State::Ready)));
        if order.is_empty() || !matches!(self.book.stage, Stage::Preparing) {
            self.effects.push(Effect::GiveUpStream);
            return;
        }
        let (dead_after, slow) = (self.spec.dead_after, self.spec.slow);
        let stream = Box::new(Stream::new(started, &order, dead_after, slow, self.now));
        let (id, start) = (stream.id(), stream.start.clone());
        for (place, (node, _)) in order.iter().enumerate() {
            log::debug!("{}: {}. in the chain: {}", self.spec.name, place + 1, self.label_of(*node));
        }
        self.stream = Some(stream);
        let chain: Vec<NodeId> = order.into_iter().map(|(node, _)| node).collect();
        self.record(Event::Streaming { stream: id, chain: chain.clone() });
        for node in chain {
            self.tell(node, ToAgent::Stream(Box::new(start.clone())));
        }
        self.send_views();
    }
}
