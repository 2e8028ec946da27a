//! Nodes whose writer does not go on: a disk that never answers, a pipe that nobody reads, a tool that hangs.
//!
//! Their session's thread goes on saying that they live, so nothing else finds them.

use std::time::Duration;

use super::Session;
use super::book::Stage;
use super::event::{Event, Judge};
use super::live::Known;
use super::node::State;
use crate::chain::{NodeId, Reason};
use crate::failure::{Failure, FailureKind, StuckAt};
use crate::step::Step;
use crate::wire::control::ToAgent;

/// A node that has all of the stream in its memory may write as slowly as this.
const MIN_RATE: u64 = 256 * 1024;

impl Session {
    /// Gives up nodes that have taken nothing for as long as a step may last.
    pub(super) fn judge_writers(&mut self) {
        let (now, limit) = (self.now, self.spec.step_limit);
        let released = self.released_at.filter(|_| matches!(self.book.stage, Stage::Leaving));
        let (mut steps, mut stuck) = (Vec::new(), Vec::new());
        for known in self.nodes().filter(|known| matches!(known.node.state, State::Receiving)) {
            let Known { node, live } = known;
            // What a node does that has taken all of the stream and does not say yet that it is complete.
            let is_last = released.is_some() && live.has_taken_all();
            let step = if is_last { Step::WriteOut } else { Step::Receive };
            if is_last && node.step() != Step::WriteOut {
                steps.push(Event::Step { node: node.id(), doing: Step::WriteOut.into() });
            }
            let Some(kind) = overdue(known, released, limit, self.spec.window, now) else { continue };
            // What a node that is not heard does, nobody knows.
            let silent = now.saturating_sub(live.heard_at);
            let (kind, judge) = if silent >= self.spec.dead_after * 2 {
                (FailureKind::Silent { time: silent }, Judge::Controller)
            } else {
                (kind, Judge::Stuck)
            };
            let (transient, stream) = (judge == Judge::Controller, node.stream());
            stuck.push((node.id(), Failure { step, kind, transient, stream }, judge));
        }
        steps.into_iter().for_each(|step| self.record(step));
        for (id, failure, judge) in stuck {
            let reason = failure.kind.to_string();
            self.fail(id, failure, judge);
            self.leave_behind(id, reason);
        }
    }

    /// The chain goes on without a node that was given up.
    pub(super) fn leave_behind(&mut self, id: NodeId, reason: String) {
        let Some(stream) = self.book.nodes.get(&id).map(|node| node.stream()) else { return };
        let decisions = self
            .stream
            .as_mut()
            .map(|running| running.membership.expel(id, Reason::new([reason.clone().into()]), true));
        self.decide(decisions.unwrap_or_default());
        if let Some(stream) = stream {
            self.tell(id, ToAgent::Abort { stream, reason });
        }
    }
}

/// Why a node that receives is not waited for any longer, if it is not.
fn overdue(
    known: Known<'_>,
    released: Option<Duration>,
    limit: Duration,
    window: u64,
    now: Duration,
) -> Option<FailureKind> {
    let stuck = |at, time| FailureKind::Stuck { at, time };
    let time = known.live.takes_nothing(released, now);
    let Some(released) = released else {
        return (time > limit).then(|| stuck(StuckAt::Taking, time));
    };
    if time > limit {
        return Some(stuck(StuckAt::Writing, time));
    }
    // A disk that answers once per minute makes progress, and nobody can wait for it.
    let time = now.saturating_sub(released);
    let most = limit + Duration::from_secs(window / MIN_RATE);
    (time > most).then(|| stuck(StuckAt::WritingSlowly, time))
}
