//! Restarts a round when forged data has reached most of its nodes.
//!
//! A forgery spoils all nodes behind its origin, and they detect it within a segment ([`crate::proof`]). They
//! are served in the next round. If the other nodes are fewer, the round is given up at once, and all are
//! served in the next one, in which a node that may be the liar has no other node behind it.
//!
//! More than half of a chain must complain before a round is given up, so a single liar among honest nodes
//! can cause this only by forging, and not by false claims. The first restart does not count against the
//! run's number of rounds.

use super::Session;
use super::event::{Event, Judge};
use super::input::Effect;
use super::live::Known;
use crate::failure::{Failure, FailureKind};
use crate::seal::StreamId;
use crate::step::Step;
use crate::wire::control::ToAgent;

impl Session {
    /// Gives up the round of this stream if most of its receivers were deceived.
    pub(super) fn restart_if_most_are_deceived(&mut self, stream: StreamId) {
        if self.stream_id() != Some(stream) || !self.has_rounds() {
            return;
        }
        let is_deceived =
            |known: &Known<'_>| known.node.deceived.as_ref().is_some_and(|(known, _)| *known == stream);
        let takes_part = |known: &Known<'_>| known.node.stream() == Some(stream) && !known.is_lost();
        let deceived = self.nodes().filter(|known| takes_part(known) && is_deceived(known)).count();
        let is_well = |known: &Known<'_>| !is_deceived(known) && !known.node.is_failed();
        let others = self.nodes().filter(|known| takes_part(known) && is_well(known)).count();
        if deceived > others {
            log::warn!(
                "{}: {deceived} of {} nodes have received forged data: the round begins again",
                self.spec.name,
                deceived + others
            );
            self.give_up_round(stream);
        }
    }

    fn give_up_round(&mut self, stream: StreamId) {
        self.record(Event::Restarted { stream });
        if let Some(running) = self.stream.take() {
            self.effects.push(Effect::GiveUpStream);
            self.account(&running);
        }
        let reason = "most nodes of this round have received forged data";
        let suspect = self.book.findings.suspect(stream);
        for id in self.book.chosen.clone() {
            let Some(node) = self.book.nodes.get(&id).filter(|node| node.stream() == Some(stream)) else {
                continue;
            };
            // A complete copy stays complete.
            if !node.has_copy() {
                // The run does not wait for a liar to become ready. A falsely accused node becomes ready, and
                // is served.
                let judge = if suspect == Some(id) { Judge::Dead } else { Judge::Controller };
                let kind = FailureKind::Removed { reason: reason.to_owned() };
                self.fail(id, Failure::transient(Step::Chain, kind).with(stream), judge);
            }
            self.tell(id, ToAgent::Abort { stream, reason: reason.to_owned() });
        }
    }
}
