//! After the end of a session nothing that is recorded about it changes: its result has been reported.
//!
//! Its nodes may still speak. A node whose goodbye was lost gets another one, and hands over the rest of its
//! log. A node that was given up, and returns with a copy, learns that it counts as failed.

use super::Session;
use super::input::{Effect, Input};
use crate::chain::NodeId;
use crate::wire::control::{ToAgent, ToController};

impl Session {
    /// Handles an input after the end.
    pub(super) fn after_the_end(&mut self, input: Input) {
        match input {
            Input::Hello(arriving) => self.on_hello(*arriving),
            Input::Message { node, message } => self.answer_late(node, message),
            Input::Closed { node, connection, reason } => self.on_closed(node, connection, &reason),
            // No node is left for it.
            Input::Started(_) => self.effects.push(Effect::GiveUpStream),
            Input::Go => {
                let answer = self.go();
                self.effects.push(Effect::Went(answer));
            }
            Input::StartFailed(_)
            | Input::Golden(_)
            | Input::Stream(_)
            | Input::Admit(_)
            | Input::Answer { .. }
            | Input::Stop { .. }
            | Input::Tick => {}
        }
    }

    /// Handles a node's message after the end.
    fn answer_late(&mut self, id: NodeId, message: ToController) {
        match message {
            ToController::Log { offset, bytes } => self.store_log(id, offset, bytes),
            ToController::Done | ToController::Complete { .. } => self.repeat_result(id, &message),
            _ => {}
        }
    }

    /// Repeats a node's result: it has not received it, or does not know that it was given up.
    fn repeat_result(&mut self, id: NodeId, message: &ToController) {
        let Some(node) = self.book.nodes.get(&id) else { return };
        match node.failed().map(|failed| failed.failure.kind.to_string()) {
            Some(reason) => self.tell(id, ToAgent::Refused { reason }),
            None if node.is_dismissed() && matches!(message, ToController::Done) => {
                self.tell(id, ToAgent::Bye);
            }
            None => {}
        }
    }
}
