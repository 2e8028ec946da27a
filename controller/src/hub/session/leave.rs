//! How nodes leave, who is waited for, and when another round or the end comes.

use std::time::Duration;

use ka::chain::NodeId;
use ka::failure::{Failure, FailureKind, StuckAt};
use ka::step::Step;
use ka::wire::control::ToAgent;

use super::{Ending, Gate, Session, State};
use crate::hub::clock;
use crate::hub::node::Node;
use crate::status::Phase;

/// How long a node may be without a connection while no chain judges it.
const ABSENCE: Duration = Duration::from_secs(60);
/// A node that has its data and only finishes is missed sooner: after so many detection times without a
/// word when its connection is lost, and when it is not.
const SILENCE_CUT: u32 = 5;
const SILENCE_HELD: u32 = 10;
/// How long a node may prepare or finish in all, however many steps it tells of, in limits for one step.
const WORK_LIMIT: u32 = 7;

impl Session {
    pub(super) fn judge_absence(&mut self) {
        let members = self.members();
        let dead_after = self.spec.dead_after;
        // By default longer than the 30 minutes that a node's own limits give any tool. A disk that never answers holds
        // up more than a tool, and the node goes on saying that it lives.
        let step_limit = self.spec.step_limit;
        let is_leaving = matches!(self.state, State::Leaving);
        let now = clock::now();
        let absent = |node: &Node| node.lost_at.is_some_and(|since| now - since > ABSENCE);
        self.nodes.retain(|_, node| node.phase != Phase::Joined || !absent(node));
        for node in self.nodes.values_mut() {
            let whole = node.done && !node.is_failed();
            if members.contains(&node.id()) || node.dead || whole || node.phase == Phase::Complete {
                continue;
            }
            let silent = now - node.heard_at;
            if node.is_failed() {
                // What it waits for, or would still say, holds up nobody.
                node.dead = silent > dead_after * SILENCE_HELD;
                continue;
            }
            let limit = if node.connection.is_none() { SILENCE_CUT } else { SILENCE_HELD };
            // No chain judges who still writes out what everybody has.
            let ends = node.phase == Phase::Finishing || is_leaving && node.phase == Phase::Receiving;
            if absent(node) || ends && silent > dead_after * limit {
                let kind = FailureKind::Silent { time: silent };
                node.fail(Failure::transient(Step::Connection, kind).with(node.stream));
            } else if let Some(time) = node.at_one_step().filter(|time| *time > step_limit) {
                let kind = FailureKind::Stuck { at: StuckAt::Step, time };
                node.give_up(Failure::own(node.step(), kind).with(node.stream));
            } else if let Some(time) = node.at_work().filter(|time| *time > step_limit * WORK_LIMIT) {
                let kind = FailureKind::Stuck { at: StuckAt::Work, time };
                node.give_up(Failure::own(node.step(), kind).with(node.stream));
            }
        }
    }

    /// Says goodbye to those who have nothing left to do here; whoever reboots, one after the other if it is to be.
    pub(super) fn dismiss(&mut self) {
        // The window of a member of the chain is needed until everybody is released.
        let members = self.members();
        let has_rounds = self.has_rounds();
        // Whoever comes back when all is over is waited for by nobody.
        let delay = if self.ending().is_some() { Duration::ZERO } else { self.spec.delay };
        let mut ready: Vec<&mut Node> = self
            .nodes
            .values_mut()
            .filter(|node| {
                let needed = members.contains(&node.id()) || has_rounds && node.may_wait_again();
                node.done && !node.dismissed && !needed
            })
            .collect();
        ready.sort_by_key(|node| node.position);
        for node in ready {
            if !node.is_failed() && !delay.is_zero() {
                let now = clock::now();
                if self.let_go_at.is_some_and(|last| now - last < delay) {
                    continue;
                }
                self.let_go_at = Some(now);
            }
            node.dismissed = true;
            if !node.is_failed() {
                node.phase = Phase::Complete;
            }
            // Nothing more is said on it.
            self.outbox.extend(node.connection.take().map(|connection| (connection, ToAgent::Bye)));
        }
    }

    /// After a stream: another round as soon as nobody's failure is open, or the end when all have left.
    pub(super) fn go_on(&mut self) {
        let mut chosen = self.nodes.values().filter(|node| node.chosen);
        if let Some(ending) = &self.given_up {
            if chosen.all(Node::has_left) {
                let ending = ending.clone();
                self.given_up = None;
                self.end(ending);
            }
            return;
        }
        if self.has_rounds() {
            let candidates = self.candidates();
            if !candidates.is_empty() {
                if chosen.all(|node| node.has_left() || node.waits_again() || node.phase == Phase::Finishing)
                {
                    self.begin_round(candidates);
                }
                return;
            }
            if self.is_asking() {
                return;
            }
        }
        if chosen.all(Node::has_left) {
            self.end(Ending::Served);
        }
    }

    pub(super) fn end(&mut self, ending: Ending) {
        self.chosen.clear();
        if let Gate::Lasting(_) = self.spec.gate {
            // It lasts as long as its run, and others come and go all that time.
            self.nodes.values_mut().filter(|node| node.has_left()).for_each(Node::forget_details);
            self.state = State::Gathering;
            return;
        }
        let waiting: Vec<NodeId> = self.waiting().map(Node::id).collect();
        for id in waiting {
            let reason = "it has ended without this node".to_owned();
            self.tell(id, ToAgent::Refused { reason });
        }
        self.state = State::Over(ending);
    }
}
