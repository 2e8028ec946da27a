//! Nodes whose writer does not go on: a disk that never answers, a pipe that nobody reads, a tool that hangs.
//!
//! Their session's thread goes on saying that they live, so nothing else finds them.

use std::time::Duration;

use super::book::Stage;
use super::event::{Event, Judge};
use super::live::Known;
use super::node::State;
use super::{Session, failure};
use crate::chain::{NodeId, Reason};
use crate::wire::control::ToAgent;

/// What a node does that has taken all of the stream and does not say yet that it is complete.
const LAST_STEP: &str = "write everything out";
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
            let is_last = released.is_some() && live.has_taken_all();
            let step = if is_last { LAST_STEP } else { "receive" };
            if is_last && node.step != LAST_STEP {
                steps.push(Event::Step { node: node.id(), name: LAST_STEP.to_owned() });
            }
            let Some(reason) = overdue(known, released, limit, self.spec.window, now) else { continue };
            // What a node that is not heard does, nobody knows.
            let silent = now.saturating_sub(live.heard_at);
            let (reason, judge) = if silent >= self.spec.dead_after * 2 {
                (format!("nothing was heard of it for {} s", silent.as_secs()), Judge::Controller)
            } else {
                (reason, Judge::Stuck)
            };
            let passing = judge == Judge::Controller;
            stuck.push((node.id(), failure(step, reason, passing, node.stream()), judge));
        }
        steps.into_iter().for_each(|step| self.record(step));
        for (id, failure, judge) in stuck {
            let reason = failure.reason.clone();
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
) -> Option<String> {
    let time = known.live.takes_nothing(released, now);
    let Some(released) = released else {
        return (time > limit)
            .then(|| format!("it has taken nothing of the stream for {} s", time.as_secs()));
    };
    if time > limit {
        return Some(format!("it has all data, and has written nothing for {} s", time.as_secs()));
    }
    // A disk that answers once per minute makes progress, and nobody can wait for it.
    let time = now.saturating_sub(released);
    let most = limit + Duration::from_secs(window / MIN_RATE);
    (time > most).then(|| format!("it has all data, and has not written it within {} s", time.as_secs()))
}
