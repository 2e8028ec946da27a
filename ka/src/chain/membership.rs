//! The controller's view of the chain: its members and their order.
//!
//! Members complain; they never decide. A neighbour is dead when a member complains about it *and* its own
//! heartbeats have stopped. A lost control connection alone proves nothing. If both ends of a link are alive,
//! the link itself is bad: it is reopened, and bypassed if that does not help ([`super::blame`]).

use std::collections::BTreeMap;
use std::time::Duration;

use super::blame::{Blame, Charge};
use super::ids::{Epoch, NodeId, Offset};
use super::link_keys::Secrets;
use super::reason::Reason;
use super::view::{Neighbour, Report, Trouble, View};

/// After this many detection times without a heartbeat, the neighbour of a dead node is removed with it.
const LONG: u32 = 2;
/// After this many detection times without a heartbeat from any node, the controller believes that a suspect
/// is dead, rather than that it is cut off itself.
const OUTAGE: u32 = 10;
/// While the golden node's T rises, all members are alive, whatever any of them reports. T must have stood
/// still for this fraction of the detection time: acks may still be in flight.
const STILL: u32 = 4;

/// An action for the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask a node for a heartbeat at once.
    Probe(NodeId),
    /// A node has been removed from the chain; notify it if it is still reachable.
    Expelled {
        /// The node.
        node: NodeId,
        /// Why.
        reason: Reason,
        /// The node itself is alive: another attempt may succeed.
        alive: bool,
    },
    /// All members get a new view.
    NewEpoch(Epoch),
}

struct MemberState {
    heartbeat: Duration,
    connected: bool,
    /// The position that the node reports.
    verified: Offset,
}

struct Suspicion {
    reporter: NodeId,
    about: NodeId,
    trouble: Trouble,
    since: Duration,
    /// The link that it was about is gone since, with its epoch. The complaint may still prove a death, but
    /// no longer a bad link.
    outdated: bool,
}

/// The chain of one stream, from the golden node.
pub struct Membership {
    dead_after: Duration,
    epoch: Epoch,
    chain: Vec<NodeId>,
    nodes: BTreeMap<NodeId, MemberState>,
    suspicions: Vec<Suspicion>,
    /// When the controller last heard any node, and since when it has heard nodes without an outage.
    heard: Duration,
    hears_since: Duration,
    /// The golden node's position, the lowest position of all members behind it, and when the latter last
    /// rose.
    sent: Offset,
    tail: Offset,
    rose_at: Duration,
    blame: Blame,
}

impl Membership {
    /// Creates a chain of the golden node followed by `order`, in its first epoch.
    #[must_use]
    pub fn new(order: &[NodeId], dead_after: Duration, now: Duration) -> Self {
        let mut chain = vec![NodeId::GOLDEN];
        chain.extend_from_slice(order);
        let nodes = order
            .iter()
            .map(|id| (*id, MemberState { heartbeat: now, connected: true, verified: Offset(0) }));
        Self {
            dead_after,
            epoch: Epoch(1),
            chain,
            nodes: nodes.collect(),
            suspicions: Vec::new(),
            heard: now,
            hears_since: now,
            sent: Offset(0),
            tail: Offset(0),
            rose_at: now,
            blame: Blame::new(dead_after),
        }
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The chain, from the golden node.
    #[must_use]
    pub fn chain(&self) -> &[NodeId] {
        &self.chain
    }

    /// The place of `node`; `address` resolves a predecessor. The links' secrets are not known here.
    pub fn view<A>(&self, node: NodeId, address: impl FnOnce(NodeId) -> Option<A>) -> Option<View<A>> {
        let place = self.chain.iter().position(|member| *member == node)?;
        let predecessor = match place.checked_sub(1).and_then(|before| self.chain.get(before)) {
            Some(id) => Some(Neighbour { id: *id, address: address(*id)? }),
            None => None,
        };
        let successor = self.chain.get(place + 1).copied();
        Some(View { epoch: self.epoch, predecessor, successor, secrets: Secrets::default() })
    }

    /// Records that a node is alive.
    pub fn on_heartbeat(&mut self, node: NodeId, now: Duration) {
        // If all connections are gone, the trouble is the controller's own, however short it was.
        let bereft = self.nodes.values().all(|node| !node.connected);
        if let Some(known) = self.nodes.get_mut(&node) {
            (known.heartbeat, known.connected) = (now, true);
            if bereft || !self.hears(now) {
                // Every node gets the same time again to come back.
                self.hears_since = now;
                self.nodes.values_mut().for_each(|node| node.connected = true);
            }
            self.heard = self.heard.max(now);
        }
    }

    /// Records the position that a node reports.
    pub fn on_position(&mut self, node: NodeId, verified: Offset) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.verified = verified;
        }
    }

    /// Records the golden node's position and the lowest position of all members: what the controller knows
    /// first-hand.
    pub fn on_golden(&mut self, sent: Offset, tail: Offset, now: Duration) {
        self.sent = sent;
        if tail > self.tail {
            (self.tail, self.rose_at) = (tail, now);
        }
    }

    /// Records that a node's control connection has ended. Alone, that proves nothing.
    pub fn on_disconnect(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.connected = false;
        }
    }

    /// Handles a complaint of `reporter` about a neighbour.
    #[must_use]
    pub fn on_complaint(&mut self, reporter: NodeId, report: Report, now: Duration) -> Vec<Decision> {
        // A node that was silent before the epoch and has sent no heartbeat since stays suspect.
        let outdated = report.epoch < self.epoch && report.trouble == Trouble::Silent;
        if (report.epoch != self.epoch && !outdated) || !self.are_neighbours(reporter, report.about) {
            return Vec::new();
        }
        let known =
            |s: &Suspicion| s.reporter == reporter && s.about == report.about && (outdated || !s.outdated);
        if self.suspicions.iter().any(known) {
            return Vec::new();
        }
        let Report { about, trouble, .. } = report;
        self.suspicions.push(Suspicion { reporter, about, trouble, since: now, outdated });
        [about, reporter].into_iter().filter(|id| *id != NodeId::GOLDEN).map(Decision::Probe).collect()
    }

    /// Removes a node that leaves the chain for a reason of its own.
    #[must_use]
    pub fn expel(&mut self, node: NodeId, reason: Reason, alive: bool) -> Vec<Decision> {
        if node == NodeId::GOLDEN || !self.chain.contains(&node) {
            return Vec::new();
        }
        self.rearrange(vec![(node, reason, alive)])
    }

    /// Judges the suspects. Call it after every message, and a few times per `dead_after`.
    #[must_use]
    pub fn judge(&mut self, now: Duration) -> Vec<Decision> {
        let mut expelled: Vec<(NodeId, Reason, bool)> = Vec::new();
        let mut reopened = false;
        let mut open = Vec::new();
        let mut blamed = Vec::new();
        let verdicts: Vec<Verdict> = self.suspicions.iter().map(|s| self.verdict(s, now)).collect();
        for (suspicion, verdict) in std::mem::take(&mut self.suspicions).into_iter().zip(verdicts) {
            match verdict {
                Verdict::Open => open.push(suspicion),
                Verdict::Unfounded => {}
                Verdict::Dead(reason) => {
                    if expelled.iter().all(|(node, ..)| *node != suspicion.about) {
                        expelled.push((suspicion.about, reason, false));
                    }
                }
                Verdict::BadLink => {
                    reopened = true;
                    // Both ends may complain about the same trouble.
                    let link =
                        [suspicion.reporter.min(suspicion.about), suspicion.reporter.max(suspicion.about)];
                    if blamed.contains(&link) {
                        continue;
                    }
                    blamed.push(link);
                    if let Some((node, reason)) = self.blame(&suspicion, now)
                        && expelled.iter().all(|(other, ..)| *other != node)
                    {
                        expelled.push((node, reason, true));
                    }
                }
            }
        }
        self.suspicions = open;
        if expelled.is_empty() && !reopened {
            return Vec::new();
        }
        self.add_silent_neighbours(&mut expelled, now);
        self.rearrange(expelled)
    }

    /// Adds silent nodes between dead ones, about which no member is left to complain. If such a node has
    /// been silent for long, it is removed with them. Otherwise a rack that loses power would take one
    /// detection time per node.
    fn add_silent_neighbours(&self, expelled: &mut Vec<(NodeId, Reason, bool)>, now: Duration) {
        let is_out = |expelled: &[(NodeId, Reason, bool)], id: NodeId| {
            expelled.iter().any(|(node, _, alive)| *node == id && !alive)
        };
        let silent = |id: NodeId| {
            self.nodes.get(&id).is_some_and(|node| self.silence(node, now) >= self.dead_after * LONG)
        };
        let forward = self.chain.iter().zip(self.chain.iter().skip(1));
        let backward = self.chain.iter().skip(1).zip(&self.chain).rev();
        for (beside, node) in forward.chain(backward) {
            let known = expelled.iter().any(|(other, ..)| other == node);
            if is_out(expelled, *beside) && !known && silent(*node) {
                let parts =
                    ["its heartbeats have ended, as those of ".into(), (*beside).into(), " beside it".into()];
                expelled.push((*node, Reason::new(parts), false));
            }
        }
    }

    /// How long a node has been silent. A controller that hears no node is more likely cut off than left with
    /// only dead nodes. So that time does not count, until it is too long for an outage.
    fn silence(&self, node: &MemberState, now: Duration) -> Duration {
        let silence = now.saturating_sub(node.heartbeat);
        if silence >= self.dead_after * OUTAGE {
            // Otherwise, with a single survivor whose own heartbeats come late, every moment would look like
            // the end of an outage.
            silence
        } else if self.hears(now) {
            silence.min(now.saturating_sub(self.hears_since))
        } else {
            Duration::ZERO
        }
    }

    /// Whether any node is heard at all. Heartbeats come three times per `dead_after`: an outage must show
    /// before the first node looks dead because of it.
    fn hears(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard) < self.dead_after / 2
    }

    fn verdict(&self, suspicion: &Suspicion, now: Duration) -> Verdict {
        let lives = |id: NodeId| match self.nodes.get(&id) {
            Some(node) => node.heartbeat > suspicion.since,
            None => true,
        };
        if let Some(node) = self.nodes.get(&suspicion.about) {
            let silence = self.silence(node, now);
            let gone = !node.connected && suspicion.trouble == Trouble::Reset;
            let quiet = silence >= self.dead_after && !self.gets_on(suspicion, self.rose_at, now);
            if gone && self.is_witnessed(suspicion, now) || quiet || silence >= self.dead_after * OUTAGE {
                return Verdict::Dead(Reason::new([
                    format!("{} (", suspicion.trouble).into(),
                    suspicion.reporter.into(),
                    " says so), and its heartbeats have ended".into(),
                ]));
            }
        }
        let on_trial = || {
            let link = self.link(suspicion.reporter, suspicion.about);
            link.is_some_and(|(from, to)| self.blame.is_on_trial(from, to, now))
        };
        match (lives(suspicion.about), lives(suspicion.reporter)) {
            (true, _) if suspicion.outdated => Verdict::Unfounded,
            (true, true) if !on_trial() => Verdict::BadLink,
            _ => Verdict::Open,
        }
    }

    /// Whether the controller's own observations refute a node's claim about another: the stream advanced
    /// through the whole chain after `since`. The golden node's own claim needs no proof.
    fn gets_on(&self, suspicion: &Suspicion, since: Duration, now: Duration) -> bool {
        suspicion.reporter != NodeId::GOLDEN && now.saturating_sub(since) < self.dead_after / STILL
    }

    /// Whether both neighbours complain, or the stream has not advanced since one did: a control connection
    /// that is lost for a moment must not turn one neighbour's lie into a death.
    fn is_witnessed(&self, suspicion: &Suspicion, now: Duration) -> bool {
        let Suspicion { reporter, about, since, .. } = *suspicion;
        let another = |s: &Suspicion| s.about == about && s.reporter != reporter;
        self.suspicions.iter().any(another) || !self.gets_on(suspicion, self.rose_at.max(since), now)
    }

    /// Counts a bad link. Returns the node to bypass if the link is beyond repair.
    fn blame(&mut self, suspicion: &Suspicion, now: Duration) -> Option<(NodeId, Reason)> {
        let Suspicion { reporter, about, trouble, .. } = *suspicion;
        let (from, to) = self.link(reporter, about)?;
        let charge = Charge { from, to, reporter, about, reached: self.reached(to) };
        let node = self.blame.charge(&charge, now)?;
        let parts = [
            "the link from ".into(),
            from.into(),
            " to ".into(),
            to.into(),
            " is bad: ".into(),
            about.into(),
            format!(" {trouble} (").into(),
            reporter.into(),
            " says so)".into(),
        ];
        Some((node, Reason::new(parts)))
    }

    /// A node's position: what it reports, as far as that is possible, and at least what the golden node
    /// knows of all members.
    fn reached(&self, node: NodeId) -> Offset {
        self.nodes.get(&node).map_or(self.sent, |node| node.verified.min(self.sent).max(self.tail))
    }

    /// Two neighbours in chain order.
    fn link(&self, a: NodeId, b: NodeId) -> Option<(NodeId, NodeId)> {
        Some(if self.place(a)? < self.place(b)? { (a, b) } else { (b, a) })
    }

    fn place(&self, node: NodeId) -> Option<usize> {
        self.chain.iter().position(|member| *member == node)
    }

    fn are_neighbours(&self, a: NodeId, b: NodeId) -> bool {
        self.chain.windows(2).any(|pair| pair == [a, b] || pair == [b, a])
    }

    /// Starts a new epoch without the expelled nodes.
    fn rearrange(&mut self, expelled: Vec<(NodeId, Reason, bool)>) -> Vec<Decision> {
        self.epoch = self.epoch.next();
        let mut decisions = Vec::new();
        for (node, reason, alive) in expelled {
            self.chain.retain(|member| *member != node);
            self.nodes.remove(&node);
            decisions.push(Decision::Expelled { node, reason, alive });
        }
        let mut suspicions = std::mem::take(&mut self.suspicions);
        suspicions.retain(|s| s.trouble == Trouble::Silent && self.are_neighbours(s.reporter, s.about));
        suspicions.iter_mut().for_each(|suspicion| suspicion.outdated = true);
        self.suspicions = suspicions;
        decisions.push(Decision::NewEpoch(self.epoch));
        decisions
    }
}

enum Verdict {
    /// Undecided.
    Open,
    Dead(Reason),
    /// The link is gone, but the suspect is alive.
    Unfounded,
    /// Both ends are alive.
    BadLink,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD_AFTER: Duration = Duration::from_millis(1500);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn chain(n: u32) -> Membership {
        let order: Vec<NodeId> = (1..=n).map(NodeId).collect();
        Membership::new(&order, DEAD_AFTER, ms(0))
    }

    /// Heartbeats of some nodes, at the usual rate.
    fn beat(members: &mut Membership, nodes: &[u32], from: u64, to: u64) {
        for now in (from..=to).step_by(500) {
            nodes.iter().for_each(|id| members.on_heartbeat(NodeId(*id), ms(now)));
        }
    }

    fn report(about: u32, trouble: Trouble) -> Report {
        Report { epoch: Epoch(1), about: NodeId(about), trouble }
    }

    fn expelled(decisions: &[Decision]) -> Vec<u32> {
        decisions
            .iter()
            .filter_map(|d| match d {
                Decision::Expelled { node, .. } => Some(node.0),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_killed_process_is_out_at_once() {
        let mut members = chain(3);
        members.on_disconnect(NodeId(2));
        let _ = members.on_complaint(NodeId(1), report(2, Trouble::Reset), ms(10));
        let _ = members.on_complaint(NodeId(3), report(2, Trouble::Reset), ms(11));
        assert_eq!(expelled(&members.judge(ms(11))), [2]);
        assert_eq!(members.chain(), [NodeId(0), NodeId(1), NodeId(3)]);
        let view = members.view(NodeId(3), |_| Some(())).unwrap();
        assert_eq!((view.epoch, view.predecessor.unwrap().id, view.successor), (Epoch(2), NodeId(1), None));
    }

    #[test]
    fn silence_counts_only_with_a_complaint_and_no_heartbeat() {
        let mut members = chain(2);
        assert_eq!(members.judge(ms(60_000)), []);
        beat(&mut members, &[1], 60_000, 60_000);
        beat(&mut members, &[2], 60_000, 61_500);
        let probes = members.on_complaint(NodeId(2), report(1, Trouble::Silent), ms(60_600));
        assert_eq!(probes, [Decision::Probe(NodeId(1)), Decision::Probe(NodeId(2))]);
        assert_eq!(members.judge(ms(61_400)), []);
        assert_eq!(expelled(&members.judge(ms(61_500))), [1]);
    }

    #[test]
    fn who_comes_back_after_the_controllers_outage_is_not_dead() {
        let mut members = chain(4);
        let _ = members.on_complaint(NodeId::GOLDEN, report(1, Trouble::Silent), ms(2000));
        assert_eq!(members.judge(ms(8000)), [], "the controller is cut off");
        members.on_disconnect(NodeId(3));
        members.on_heartbeat(NodeId(4), ms(8000));
        let _ = members.on_complaint(NodeId(4), report(3, Trouble::Reset), ms(8000));
        assert_eq!(members.judge(ms(8000)), [], "node 3 needs its time, too");
        beat(&mut members, &[2, 4], 8500, 9500);
        assert_eq!(expelled(&members.judge(ms(9500))), [1, 3]);
    }

    #[test]
    fn the_last_nodes_death_is_believed_in_the_end() {
        let mut members = chain(1);
        let _ = members.on_complaint(NodeId::GOLDEN, report(1, Trouble::Silent), ms(2000));
        assert_eq!(members.judge(DEAD_AFTER * OUTAGE - ms(1)), []);
        assert_eq!(expelled(&members.judge(DEAD_AFTER * OUTAGE)), [1]);
    }

    /// Complaints of one node about another for this many seconds, with all nodes alive and `rate` bytes per
    /// second passing through all of them. Returns the removed node, and after how many milliseconds.
    fn accuse(
        members: &mut Membership,
        (reporter, about): (u32, u32),
        trouble: Trouble,
        (from, seconds): (u64, u64),
        rate: u64,
    ) -> Vec<(u64, u32)> {
        let mut out = Vec::new();
        for now in (from..from + seconds * 1000).step_by(100) {
            let reached = Offset(now * rate / 1000);
            members.on_golden(reached.plus(100), reached, ms(now));
            let report = Report { epoch: members.epoch(), about: NodeId(about), trouble };
            let _ = members.on_complaint(NodeId(reporter), report, ms(now));
            for id in 1..=4 {
                members.on_heartbeat(NodeId(id), ms(now + 10));
                // Each node has a little that its successor lacks.
                members.on_position(NodeId(id), reached.plus(u64::from(10 - id)));
            }
            out.extend(expelled(&members.judge(ms(now + 20))).into_iter().map(|node| (now - from, node)));
        }
        out
    }

    #[test]
    fn one_word_removes_nobody_and_a_second_accusation_removes_the_accuser() {
        let mut members = chain(4);
        // The link is reopened first, and gets its time to show what it carries, whatever is claimed about
        // it.
        assert_eq!(accuse(&mut members, (2, 3), Trouble::Impossible, (1000, 5), 0), [(1000, 3)]);
        assert_eq!(accuse(&mut members, (2, 1), Trouble::Impossible, (10_000, 5), 0), [(1000, 2)]);
        assert_eq!(members.chain(), [NodeId(0), NodeId(1), NodeId(4)]);
    }

    #[test]
    fn whoever_complains_of_a_link_that_works_goes_itself() {
        for (reporter, about) in [(2, 3), (2, 1), (3, 2)] {
            for trouble in [Trouble::Reset, Trouble::Silent, Trouble::Damaged, Trouble::Impossible] {
                let mut members = chain(4);
                let out = accuse(&mut members, (reporter, about), trouble, (1000, 60), 1000);
                assert_eq!(out, [(3500, reporter)], "{about} {trouble}");
            }
        }
    }

    #[test]
    fn a_liar_cannot_have_its_neighbours_removed_one_after_the_other_by_provoking_them() {
        let mut members = chain(4);
        // Node 3 gives its predecessor cause to complain, and yet takes what it sends.
        let first = accuse(&mut members, (2, 3), Trouble::Reset, (1000, 12), 1000);
        let second = accuse(&mut members, (1, 3), Trouble::Reset, (20_000, 12), 1000);
        assert_eq!((first, second), (vec![(3500, 2)], vec![(3500, 3)]));
    }

    #[test]
    fn a_position_counts_only_as_far_as_the_golden_node_has_sent() {
        let mut members = chain(2);
        let mut out = Vec::new();
        for now in (1000..9000).step_by(100) {
            members.on_golden(Offset(1000), Offset(0), ms(now));
            let report = Report { epoch: members.epoch(), about: NodeId(2), trouble: Trouble::Reset };
            let _ = members.on_complaint(NodeId(1), report, ms(now));
            for id in 1..=2 {
                members.on_heartbeat(NodeId(id), ms(now + 10));
                // It claims endless progress.
                let claim = if id == 2 { 900 + now.min(100) } else { 1000 };
                members.on_position(NodeId(id), Offset(claim.min(999) + u64::from(id == 1)));
            }
            out.extend(expelled(&members.judge(ms(now + 20))));
        }
        assert_eq!(out, [2]);
    }

    #[test]
    fn who_the_stream_passes_through_is_not_dead_for_one_neighbours_word() {
        // Its control connection is lost for a moment, and its neighbour reports that the link was reset.
        let mut members = chain(3);
        members.on_disconnect(NodeId(2));
        let _ = members.on_complaint(NodeId(1), report(2, Trouble::Reset), ms(1000));
        for now in (1000..3000).step_by(50) {
            beat(&mut members, &[1, 3], now, now);
            members.on_golden(Offset(now), Offset(now), ms(now));
            assert_eq!(expelled(&members.judge(ms(now))), [0; 0], "at {now} ms");
        }
        members.on_golden(Offset(9000), Offset(2950), ms(3400));
        beat(&mut members, &[1, 3], 3400, 3400);
        assert_eq!(expelled(&members.judge(ms(3400))), [2], "nothing gets through it any more");
        // With both neighbours, no time is needed.
        let mut members = chain(3);
        members.on_disconnect(NodeId(2));
        members.on_golden(Offset(1), Offset(1), ms(990));
        for reporter in [1, 3] {
            let _ = members.on_complaint(NodeId(reporter), report(2, Trouble::Reset), ms(1000));
        }
        assert_eq!(expelled(&members.judge(ms(1000))), [2]);
    }

    #[test]
    fn a_lost_control_connection_alone_stops_nothing() {
        let mut members = chain(2);
        members.on_disconnect(NodeId(1));
        assert_eq!(members.judge(ms(600_000)), []);
    }

    #[test]
    fn adjacent_deaths_are_one_epoch() {
        let mut members = chain(4);
        beat(&mut members, &[1, 4], 500, 2000);
        let _ = members.on_complaint(NodeId(1), report(2, Trouble::Silent), ms(2000));
        let _ = members.on_complaint(NodeId(4), report(3, Trouble::Silent), ms(2000));
        let decisions = members.judge(ms(2000));
        assert_eq!(expelled(&decisions), [2, 3]);
        assert_eq!(decisions.last(), Some(&Decision::NewEpoch(Epoch(2))));
        assert_eq!(members.chain(), [NodeId(0), NodeId(1), NodeId(4)]);
    }

    #[test]
    fn a_complaint_of_silence_outlives_its_epoch() {
        let mut members = chain(6);
        members.on_heartbeat(NodeId(3), ms(600));
        beat(&mut members, &[1, 4, 6], 500, 3500);
        members.on_heartbeat(NodeId(5), ms(2000));
        // Node 2 is certainly dead, node 3 not yet.
        let _ = members.on_complaint(NodeId(4), report(3, Trouble::Silent), ms(1990));
        let _ = members.on_complaint(NodeId(1), report(2, Trouble::Silent), ms(2000));
        assert_eq!(expelled(&members.judge(ms(2000))), [2]);
        assert_eq!(members.judge(ms(2050)), []);
        assert_eq!(expelled(&members.judge(ms(2100))), [3]);
        // This is too late for the epoch, but node 5 is still silent.
        let _ = members.on_complaint(NodeId(4), report(5, Trouble::Silent), ms(3400));
        assert_eq!(expelled(&members.judge(ms(3500))), [5]);
    }

    #[test]
    fn an_outdated_complaint_is_no_bad_link() {
        let mut members = chain(4);
        let _ = members.on_complaint(NodeId(2), report(1, Trouble::Silent), ms(1000));
        members.on_disconnect(NodeId(4));
        let _ = members.on_complaint(NodeId(3), report(4, Trouble::Reset), ms(1010));
        assert_eq!(expelled(&members.judge(ms(1010) + DEAD_AFTER / STILL)), [4]);
        for id in [1, 2] {
            members.on_heartbeat(NodeId(id), ms(1400));
        }
        assert_eq!(members.judge(ms(1400)), []);
        assert_eq!(members.epoch(), Epoch(2));
    }

    #[test]
    fn a_dead_rack_goes_at_once_but_not_while_the_controller_is_deaf() {
        for (deaf, out) in [(false, vec![2, 1, 3, 4]), (true, vec![])] {
            let mut members = chain(6);
            let late = DEAD_AFTER * LONG;
            for step in 1..=8_u32 {
                let now = late * step / 8;
                for id in [5, 6] {
                    if !deaf || step == 8 {
                        members.on_heartbeat(NodeId(id), now);
                    }
                }
            }
            let _ = members.on_complaint(NodeId(3), report(2, Trouble::Silent), late);
            let mut found = expelled(&members.judge(late));
            found.sort_unstable_by_key(|id| (*id != 2, *id));
            assert_eq!(found, out, "deaf: {deaf}");
        }
    }

    #[test]
    fn a_bad_link_is_healed_then_bypassed() {
        let mut members = chain(3);
        members.on_golden(Offset(9), Offset(0), ms(0));
        members.on_position(NodeId(1), Offset(9));
        for round in 1..=3_u32 {
            let now = ms(u64::from(round) * 1500);
            let report = Report { epoch: members.epoch(), ..report(1, Trouble::Damaged) };
            let _ = members.on_complaint(NodeId(2), report, now);
            assert_eq!(members.judge(now), [], "nobody has answered the probe");
            members.on_heartbeat(NodeId(1), now + ms(1));
            members.on_heartbeat(NodeId(2), now + ms(1));
            let out = expelled(&members.judge(now + ms(1)));
            assert_eq!(out, if round == 3 { vec![2] } else { vec![] }, "round {round}");
        }
    }

    #[test]
    fn one_survivor_with_late_heartbeats_does_not_wait_for_ever() {
        let mut members = chain(2);
        let mut out = Vec::new();
        // Each one comes after the controller has started to believe that it is cut off.
        for beat in 1..=16 {
            let now = ms(1000 * beat);
            members.on_heartbeat(NodeId(1), now);
            let _ = members.on_complaint(NodeId(1), report(2, Trouble::Silent), now);
            out.extend(expelled(&members.judge(now)));
        }
        assert_eq!(out, [2]);
    }

    #[test]
    fn what_was_bad_long_ago_is_forgiven() {
        let mut members = chain(3);
        let long = DEAD_AFTER * super::super::blame::FORGIVEN;
        for time in 1..=10 {
            let now = long * time;
            let report = Report { epoch: members.epoch(), ..report(1, Trouble::Damaged) };
            let _ = members.on_complaint(NodeId(2), report, now);
            [1, 2, 3].into_iter().for_each(|id| members.on_heartbeat(NodeId(id), now + ms(1)));
            assert_eq!(expelled(&members.judge(now + ms(1))), [0; 0], "time {time}");
        }
    }

    #[test]
    fn when_all_are_dead_they_go_together() {
        let mut members = chain(50);
        let _ = members.on_complaint(NodeId::GOLDEN, report(1, Trouble::Silent), ms(1700));
        let out = expelled(&members.judge(DEAD_AFTER * OUTAGE));
        assert_eq!(out, (1..=50).collect::<Vec<_>>());
    }

    #[test]
    fn complaints_of_other_epochs_and_strangers_are_ignored() {
        let mut members = chain(3);
        let old = Report { epoch: Epoch(0), ..report(2, Trouble::Reset) };
        assert_eq!(members.on_complaint(NodeId(1), old, ms(0)), []);
        assert_eq!(members.on_complaint(NodeId(1), report(3, Trouble::Reset), ms(0)), []);
        assert_eq!(members.on_complaint(NodeId(9), report(1, Trouble::Reset), ms(0)), []);
    }
}
