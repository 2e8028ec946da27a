//! The stream on its way down the chain, and the complaints of members about their neighbours.

use ka::chain::{NodeId, Report, Trouble};
use ka::proof::{Proof, Root};
use ka::session::{Input, StreamNotice};
use ka::wire::control::ToController;

use super::machine::{RATE, TOTAL};
use super::world::{BEAT, DEAD_AFTER, END, WINDOW, World};

impl World {
    /// A second's worth of the stream, from member to member as far as the links of this epoch are up.
    pub(super) fn flow(&mut self) {
        let Some(source) = &mut self.source else { return };
        let (stream, Some(view)) = (source.stream, source.view.clone()) else { return };
        source.position =
            TOTAL.min(source.position + RATE).min(source.tail + WINDOW + RATE).max(source.position);
        let (mut before, mut next, mut reached) = ((NodeId::GOLDEN, source.position), view.successor, false);
        let mut tail = source.position;
        while let Some(id) = next {
            let life = self.by_node.get(&id).and_then(|i| self.machines[*i].life.as_mut());
            let member =
                life.filter(|life| !life.is_hung && life.ticket.is_some_and(|ticket| ticket.node == id));
            let Some((life, own)) = member.and_then(|life| {
                let own = life.view.clone().filter(|(of, own)| *of == stream && own.epoch == view.epoch)?.1;
                (own.predecessor_id() == Some(before.0)).then_some((life, own))
            }) else {
                break;
            };
            life.verified = life.verified.max(before.1.min(life.verified + 2 * RATE));
            tail = tail.min(life.verified);
            (before, next) = ((id, life.verified), own.successor);
            reached = next.is_none();
        }
        source.tail = if reached { tail } else { source.tail };
        let (is_read, is_through) = (source.position == TOTAL, reached && tail == TOTAL);
        let produced = is_read && !std::mem::replace(&mut source.is_produced, is_read);
        let complete = is_through && !std::mem::replace(&mut source.tail_is_complete, is_through);
        if produced {
            let proof = Proof { root: Root { length: TOTAL, hash: [0; 32] }, last: Some(END) };
            self.input(Input::Stream(StreamNotice::Produced(proof)));
        }
        if complete {
            self.input(Input::Stream(StreamNotice::TailComplete));
        }
    }

    /// Members complain about a neighbour that they no longer hear.
    pub(super) fn complain(&mut self) {
        if !self.now.is_multiple_of(BEAT) {
            return;
        }
        let quiet = |world: &Self, id: NodeId| {
            let machine = world.by_node.get(&id).map(|i| &world.machines[*i]);
            machine.is_some_and(|machine| {
                let same =
                    machine.life.as_ref().is_some_and(|life| life.ticket.is_some_and(|t| t.node == id));
                (!same || !machine.speaks()) && world.now - machine.quiet_since >= DEAD_AFTER
            })
        };
        if let Some(view) = self.source.as_ref().and_then(|source| source.view.clone())
            && let Some(about) = view.successor.filter(|id| quiet(self, *id))
        {
            let report = Report { epoch: view.epoch, about, trouble: Trouble::Silent };
            self.input(Input::Stream(StreamNotice::Complaint(report)));
        }
        for i in 0..self.machines.len() {
            let Some(life) = self.machines[i].life.as_ref().filter(|life| !life.is_hung && !life.is_released)
            else {
                continue;
            };
            let Some((stream, view)) = life.view.clone() else { continue };
            for about in view.predecessor_id().into_iter().chain(view.successor) {
                if about != NodeId::GOLDEN && quiet(self, about) {
                    let report = Report { epoch: view.epoch, about, trouble: Trouble::Silent };
                    self.say(i, ToController::Complaint { stream, report });
                }
            }
        }
    }
}
