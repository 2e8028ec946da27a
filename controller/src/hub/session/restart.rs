//! A round begins again when forged data has reached most of its nodes.
//!
//! A forgery spoils all nodes behind its origin, and they find it within a segment ([`ka::proof`]). They are served in the
//! next round. If the others are fewer, nobody waits for them: the round is given up at once, and all are served in the
//! next, in which whoever may be the liar has no other node behind it.
//!
//! It takes more than half of a chain to have a round given up, so a single liar among honest nodes can only bring it about
//! by forging, and not by words. The first time it costs none of the rounds that the run may hold.

use ka::seal::StreamId;
use ka::wire::control::ToAgent;

use super::{Session, State, failure};
use crate::hub::node::Node;
use crate::status::Phase;

impl Session {
    /// Gives the round of this stream up if most of those who receive it were deceived.
    pub(super) fn restart_if_most_are_deceived(&mut self, stream: StreamId) {
        if self.stream_id() != Some(stream) || !self.has_rounds() {
            return;
        }
        let takes_part = |node: &&Node| node.stream == Some(stream) && node.chosen && !node.is_lost();
        let (deceived, others): (Vec<&Node>, Vec<&Node>) = self
            .nodes
            .values()
            .filter(takes_part)
            .filter(|node| node.deceived_in == Some(stream) || !node.is_failed())
            .partition(|node| node.deceived_in == Some(stream));
        if deceived.len() <= others.len() {
            return;
        }
        log::warn!(
            "{}: {} of {} nodes have received forged data: the round begins again",
            self.spec.name,
            deceived.len(),
            deceived.len() + others.len()
        );
        self.give_up_round(stream);
    }

    fn give_up_round(&mut self, stream: StreamId) {
        if let State::Streaming(running) = &mut self.state {
            running.give_up();
        }
        self.account();
        let reason = "most nodes of this round have received forged data";
        let suspect = self.trust.suspect(stream);
        for id in self.chosen.clone() {
            let Some(node) = self.nodes.get_mut(&id).filter(|node| node.stream == Some(stream)) else {
                continue;
            };
            // A copy that is complete stays so.
            if !matches!(node.phase, Phase::Finishing | Phase::Complete) {
                node.fail(failure("chain", reason.to_owned(), true, Some(stream)));
                // Nobody waits for a liar to say that it is ready. Who was slandered says so, and is served.
                node.dead |= suspect == Some(id);
            }
            self.tell(id, ToAgent::Abort { stream, reason: reason.to_owned() });
        }
        if !std::mem::replace(&mut self.restarted, true) {
            self.spec.rounds = self.spec.rounds.saturating_add(1);
        }
        self.state = State::Leaving;
    }
}
