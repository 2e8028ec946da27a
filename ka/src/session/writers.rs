//! Nodes whose writer makes no progress: a disk that never answers, a pipe without a reader, a tool that
//! hangs.
//!
//! Their session thread continues to report that they are alive, so no other check finds them.

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

/// The slowest accepted rate, in bytes per second, of a node that has the whole stream in memory.
const MIN_RATE: u64 = 256 * 1024;

impl Session {
    /// Gives up nodes whose writer has taken nothing for the time limit of a step.
    pub(super) fn judge_writers(&mut self) {
        let (now, limit) = (self.now, self.spec.step_limit);
        let released = self.released_at.filter(|_| matches!(self.book.stage, Stage::Leaving));
        let (mut steps, mut stuck) = (Vec::new(), Vec::new());
        for known in self.nodes().filter(|known| matches!(known.node.state, State::Receiving)) {
            let Known { node, live } = known;
            // The activity of a node that has taken the whole stream and has not reported completion yet.
            let is_last = released.is_some() && live.has_taken_all();
            let step = if is_last { Step::WriteOut } else { Step::Receive };
            if is_last && node.step() != Step::WriteOut {
                steps.push(Event::Step { node: node.id(), doing: Step::WriteOut.into() });
            }
            let Some(kind) = overdue(known, released, limit, self.spec.window, now) else { continue };
            // The activity of a silent node is unknown.
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

    /// Removes a node that was given up from the chain, which continues without it.
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

/// Why a receiving node is no longer waited for, if that is the case.
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
    // A disk that answers once per minute makes progress, but too slowly to wait for.
    let time = now.saturating_sub(released);
    let most = limit + Duration::from_secs(window / MIN_RATE);
    (time > most).then(|| stuck(StuckAt::WritingSlowly, time))
}
