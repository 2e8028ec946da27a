//! Nodes whose writer does not go on: a disk that never answers, a pipe that nobody reads, a tool that hangs.
//!
//! Their session's thread goes on saying that they live, so nothing else finds them.

use std::time::{Duration, Instant};

use ka::chain::{NodeId, Reason};
use ka::failure::{Failure, FailureKind, StuckAt};
use ka::step::Step;
use ka::wire::control::ToAgent;

use super::{Session, State};
use crate::hub::clock;
use crate::hub::node::Node;
use crate::status::Phase;

/// A node that has all of the stream in its memory may write as slowly as this.
const MIN_RATE: u64 = 256 * 1024;

impl Session {
    /// Gives up nodes that have taken nothing for as long as a step may last.
    pub(super) fn judge_writers(&mut self) {
        let limit = self.spec.step_limit;
        let released = matches!(self.state, State::Leaving).then_some(self.released_at).flatten();
        let mut stuck = Vec::new();
        for node in self.nodes.values_mut().filter(|node| node.phase == Phase::Receiving) {
            // What a node does that has taken all of the stream and does not say yet that it is complete.
            let writes_out = released.is_some() && node.has_taken_all();
            let step = if writes_out { Step::WriteOut } else { Step::Receive };
            if writes_out && node.step() != Step::WriteOut {
                node.doing = Some(Step::WriteOut.into());
                node.step_since = clock::now();
            }
            if let Some(kind) = overdue(node, released, limit, self.spec.window) {
                // What a node that is not heard does, nobody knows.
                let silent = clock::now() - node.heard_at;
                if silent >= self.spec.dead_after * 2 {
                    let kind = FailureKind::Silent { time: silent };
                    stuck.push((node.id(), kind.to_string()));
                    node.fail(Failure::transient(step, kind).with(node.stream));
                } else {
                    stuck.push((node.id(), kind.to_string()));
                    node.give_up(Failure::own(step, kind).with(node.stream));
                }
            }
        }
        for (id, reason) in stuck {
            self.leave_behind(id, reason);
        }
    }

    /// The chain goes on without a node that was given up.
    fn leave_behind(&mut self, id: NodeId, reason: String) {
        let Some(stream) = self.nodes.get(&id).map(|node| node.stream) else { return };
        let decisions = match &mut self.state {
            State::Streaming(running) => {
                running.membership.expel(id, Reason::new([reason.clone().into()]), true)
            }
            _ => Vec::new(),
        };
        self.decide(decisions);
        if let Some(stream) = stream {
            self.tell(id, ToAgent::Abort { stream, reason });
        }
    }
}

/// Why nobody waits any longer for a node that receives, if nobody does.
fn overdue(node: &Node, released: Option<Instant>, limit: Duration, window: u64) -> Option<FailureKind> {
    let stuck = |at, time| FailureKind::Stuck { at, time };
    let Some(released) = released else {
        let time = node.takes_nothing().filter(|time| *time > limit)?;
        return Some(stuck(StuckAt::Taking, time));
    };
    if let Some(time) = node.writes_nothing(released).filter(|time| *time > limit) {
        return Some(stuck(StuckAt::Writing, time));
    }
    // A disk that answers once per minute makes progress, and nobody can wait for it.
    let time = clock::now() - released;
    let most = limit + Duration::from_secs(window / MIN_RATE);
    (time > most).then(|| stuck(StuckAt::WritingSlowly, time))
}
