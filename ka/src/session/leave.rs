//! How nodes leave, which ones are waited for, and when another round or the end comes.

use std::time::Duration;

use super::book::Stage;
use super::event::{Ending, Event, Judge};
use super::join::ALIVE;
use super::node::State;
use super::{AdmissionPolicy, Session};
use crate::chain::NodeId;
use crate::failure::{Failure, FailureKind, StuckAt};
use crate::step::Step;
use crate::wire::control::ToAgent;

/// How long a node may be disconnected while no chain judges it.
pub(super) const ABSENCE: Duration = Duration::from_secs(60);
/// A node that has its data and only finishes is given up sooner: after this many silent detection times if
/// its connection is lost, and if it is not.
const SILENCE_CUT: u32 = 5;
pub(super) const SILENCE_HELD: u32 = 10;
/// How long a node may prepare or finish in total, however many steps it reports, in multiples of the limit
/// for one step.
const WORK_LIMIT: u32 = 7;

impl Session {
    pub(super) fn judge_absence(&mut self) {
        if self.is_reassembling() {
            return;
        }
        let (now, members, dead_after) = (self.now, self.members(), self.spec.dead_after);
        // The default is longer than the 30 minutes that a node's own limits give any tool. A disk that never
        // answers blocks more than a tool, while the node continues to report that it is alive.
        let step_limit = self.spec.step_limit;
        let is_leaving = matches!(self.book.stage, Stage::Leaving);
        // A controller that hears no node is cut off itself.
        let hears = self.nodes().any(|known| now.saturating_sub(known.live.heard_at) < dead_after * ALIVE);
        let is_gone = |silent, limit| silent > if hears { limit } else { ABSENCE.max(limit) };
        let mut events = Vec::new();
        let mut failures = Vec::new();
        for known in self.nodes() {
            let (node, live, id) = (known.node, known.live, known.node.id());
            let absent = live.lost_at.is_some_and(|since| now.saturating_sub(since) > ABSENCE);
            if node.is_waiting() && absent {
                events.push(Event::Left { node: id, reason: "it has not come back".to_owned() });
                continue;
            }
            let silent = now.saturating_sub(live.heard_at);
            match &node.state {
                _ if members.contains(&id) => continue,
                State::Finishing { done: true, .. } | State::Complete { .. } => continue,
                State::Failed(failed) => {
                    // Neither its wait nor its remaining messages hold up another node.
                    if !failed.dead && is_gone(silent, dead_after * SILENCE_HELD) {
                        events.push(Event::Lost { node: id });
                    }
                    continue;
                }
                _ => {}
            }
            let limit = if live.connection.is_none() { SILENCE_CUT } else { SILENCE_HELD };
            // No chain judges a node that is still writing a stream which all have received.
            let ends = matches!(node.state, State::Finishing { .. })
                || is_leaving && matches!(node.state, State::Receiving);
            let (step, stream) = (node.step(), node.stream());
            let stuck = |at, time| Failure::own(step, FailureKind::Stuck { at, time }).with(stream);
            if absent || ends && is_gone(silent, dead_after * limit) {
                let kind = FailureKind::Silent { time: silent };
                let failure = Failure::transient(Step::Connection, kind).with(stream);
                failures.push((id, failure, Judge::Controller));
            } else if let Some(time) = known.at_one_step(now).filter(|time| *time > step_limit) {
                failures.push((id, stuck(StuckAt::Step, time), Judge::Stuck));
            } else if let Some(time) = known.at_work(now).filter(|time| *time > step_limit * WORK_LIMIT) {
                failures.push((id, stuck(StuckAt::Work, time), Judge::Stuck));
            }
        }
        events.into_iter().for_each(|event| self.record(event));
        failures.into_iter().for_each(|(id, failure, by)| self.fail(id, failure, by));
    }

    /// Dismisses the nodes that have nothing left to do here. Reboots are staggered if requested.
    pub(super) fn dismiss(&mut self) {
        // The window of a chain member is needed until all are released.
        let members = self.members();
        let has_rounds = self.has_rounds();
        let is_reassembling = self.is_reassembling();
        let delay = self.spec.delay;
        let mut ready: Vec<(Option<usize>, NodeId, bool)> = self
            .nodes()
            .filter(|known| !(is_reassembling && known.live.connection.is_none()))
            .map(|known| known.node)
            .filter(|node| {
                let needed = members.contains(&node.id()) || has_rounds && node.may_wait_again();
                node.is_done() && !node.is_dismissed() && !needed
            })
            .map(|node| (node.position(), node.id(), node.is_failed()))
            .collect();
        ready.sort_unstable_by_key(|(position, id, _)| (*position, *id));
        for (_, id, is_failed) in ready {
            if !is_failed && !delay.is_zero() {
                if self.let_go_at.is_some_and(|last| self.now.saturating_sub(last) < delay) {
                    continue;
                }
                self.let_go_at = Some(self.now);
            }
            self.record(Event::Dismissed { node: id });
            self.tell(id, ToAgent::Bye);
            // No further message is sent on it.
            if let Some(live) = self.live.get_mut(&id) {
                live.connection = None;
            }
        }
    }

    /// Whether a node that joined before the stream's end, and not longer ago than `within`, has not answered
    /// yet. No node is waited for twice, so a host that joins again and again holds up no other.
    fn expects_an_answer(&self, within: Duration) -> bool {
        let now = self.now;
        let Some(end) = self.released_at else { return false };
        self.nodes().any(|known| {
            let live = known.live;
            let waits = known.node.is_waiting() && live.connection.is_some() && !live.spoke;
            waits && live.joined_at <= end && now.saturating_sub(live.joined_at) <= within
        })
    }

    /// After a stream: starts another round as soon as no failure is open, or ends the session when all nodes
    /// have left.
    pub(super) fn go_on(&mut self) {
        if self.is_reassembling() {
            return;
        }
        let now = self.now;
        let all_left = self.nodes().filter(|known| known.node.is_chosen()).all(|known| known.has_left(now));
        if let Some(ending) = &self.book.given_up {
            if all_left {
                self.end(ending.clone());
            }
            return;
        }
        if self.has_rounds() {
            let candidates = self.candidates();
            if !candidates.is_empty() {
                let are_settled = self.nodes().filter(|known| known.node.is_chosen()).all(|known| {
                    let finishes = matches!(known.node.state, State::Finishing { .. });
                    known.has_left(now) || known.waits_again() || finishes
                });
                // The round may be the last one, so a node that joined with these should not miss it.
                if are_settled && !self.expects_an_answer(self.spec.dead_after) {
                    self.begin_round(candidates);
                }
                return;
            }
            if self.is_asking() || self.expects_an_answer(self.spec.dead_after * SILENCE_CUT) {
                return;
            }
        }
        if all_left {
            self.end(Ending::Served);
        }
    }

    pub(super) fn end(&mut self, ending: Ending) {
        if let AdmissionPolicy::Lasting(_) = self.spec.admission {
            self.record(Event::Gathering);
            return;
        }
        let waiting: Vec<NodeId> = self.waiting().map(super::node::Node::id).collect();
        self.record(Event::Over { ending });
        for id in waiting {
            let reason = "it has ended without this node".to_owned();
            self.tell(id, ToAgent::Refused { reason });
        }
    }
}
