//! Which nodes are admitted to which round, and how they leave. Above all, no machine may be erased that must
//! not be.

mod admission;
mod confirm;
mod leaving;
mod rounds;
mod stream;
mod takeover;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::node::State;
use super::plans::Plans;
use super::status::{NodeStatus, Phase};
use super::*;
use crate::chain::Decision;
use crate::failure::{Failure, FailureKind, StuckAt};
use crate::inventory::{Card, Inventory};
use crate::keys::Key;
use crate::mac::Mac;
use crate::seal::Total;
use crate::step::Step;
use crate::wire::control::{Hello, Progress, ToController};

const STEP_LIMIT: Duration = Duration::from_secs(35 * 60);
/// Far enough from time zero that anything may have happened before.
pub(super) const START: Duration = Duration::from_secs(1_000_000);
/// A node that has its copy.
pub(super) const FINISHES: State = State::Finishing { length: 7, done: false };
pub(super) const COMPLETE: State = State::Complete { length: 7 };

pub(super) fn mac(last: u8) -> Mac {
    format!("52:54:00:00:00:{last:02x}").parse().unwrap()
}

/// A run's session for two machines.
pub(super) fn session(rounds: u32) -> Session {
    let spec = SessionSpec {
        admission: AdmissionPolicy::Named,
        window: 1 << 23,
        dead_after: Duration::from_secs(2),
        step_limit: STEP_LIMIT,
        rounds,
        ..SessionSpec::new("kainstall", 2)
    };
    Session::new(spec, START)
}

impl Session {
    pub(super) fn take_outbox(&mut self) -> Vec<(ConnectionId, ToAgent)> {
        let effects = std::mem::take(&mut self.effects).into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Send { connection, message } => Some((connection, *message)),
                _ => None,
            })
            .collect()
    }

    pub(super) fn set(&mut self, id: u32, state: State) {
        self.book.nodes.get_mut(&NodeId(id)).unwrap().state = state;
    }

    pub(super) fn of(&self, id: u32) -> &Node {
        &self.book.nodes[&NodeId(id)]
    }

    pub(super) fn live_of(&mut self, id: u32) -> &mut Live {
        self.live.get_mut(&NodeId(id)).unwrap()
    }

    pub(super) fn failure_of(&self, id: u32) -> Failure {
        self.of(id).failed().unwrap().failure.clone()
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// A node was last heard this many detection times ago.
    fn silence(&mut self, id: u32, times: u32) {
        let time = self.spec.dead_after * times;
        self.live_of(id).heard_at -= time;
    }

    pub(super) fn leave(&mut self) {
        self.book.stage = Stage::Leaving;
    }

    /// A node has failed for a transient cause, or is dead.
    pub(super) fn lose(&mut self, id: u32, transient: bool) {
        let failure = failure(Step::Chain, "it is gone".into(), transient, None);
        self.fail(NodeId(id), failure, event::Judge::Controller);
        if !transient {
            self.record(Event::Lost { node: NodeId(id) });
        }
    }

    fn streams(&mut self, id: u32, stream: StreamId) {
        self.book.nodes.get_mut(&NodeId(id)).unwrap().begin_stream(stream, id as usize);
    }

    fn round_and_chosen(&self) -> (u32, Vec<NodeId>) {
        (self.book.round, self.book.chosen.clone())
    }
}

/// The machine with the card `last` joins as the node `id`.
fn arrive(session: &mut Session, id: u32, last: u8) -> Result<NodeId, String> {
    let key = crate::keys::KeyPair::generate().unwrap().public;
    arrive_from(session, id, last, [10, 0, 0, last], key)
}

/// A machine that claims to have this card joins from this address, with this key.
fn arrive_from(session: &mut Session, id: u32, last: u8, from: [u8; 4], key: Key) -> Result<NodeId, String> {
    let card = Card { name: "eth0".into(), mac: mac(last).to_string(), ..Card::default() };
    join(session, id, from, Hello { inventory: with(vec![card]), key, ..hello() })
}

fn with(cards: Vec<Card>) -> Inventory {
    Inventory { cards, ..Inventory::default() }
}

fn hello() -> Hello {
    Hello {
        session: "kainstall".into(),
        version: String::new(),
        key: [0; 32],
        data_port: 1,
        window: 1 << 23,
        inventory: Inventory::default(),
        erasable: true,
        place: 0,
        resume: None,
    }
}

pub(super) fn join(session: &mut Session, id: u32, from: [u8; 4], hello: Hello) -> Result<NodeId, String> {
    let (peer, local) = (IpAddr::from(from), IpAddr::from([10, 0, 0, 254]));
    let connection = ConnectionId(id as usize);
    session.on_hello(Arriving {
        id: NodeId(id),
        hello,
        connection,
        peer,
        local,
        token: [9; 16],
        time: 0,
        tpm: None,
    });
    let place = session.effects.iter().position(|e| matches!(e, Effect::Refused { .. }));
    match place.map(|place| session.effects.remove(place)) {
        Some(Effect::Refused { reason, .. }) => Err(reason),
        _ => {
            session.on_message(NodeId(id), ToController::Heartbeat(Progress::default()));
            Ok(NodeId(id))
        }
    }
}

/// Machines 1 and 2 are in the first round, and its stream is over.
fn after_the_first_stream(rounds: u32, others: &[u8]) -> Session {
    let mut session = session(rounds);
    for id in [1, 2, 3] {
        arrive(&mut session, id, u8::try_from(id).unwrap()).unwrap();
    }
    let others = others.iter().map(|last| mac(*last)).collect();
    session.admit(Admission { named: [mac(1), mac(2)].into(), others, ..Admission::default() });
    session.gather();
    assert_eq!(session.book.chosen, [NodeId(1), NodeId(2)]);
    for id in [1, 2] {
        session.set(id, FINISHES);
    }
    session.leave();
    session.take_outbox();
    session
}

fn fails(session: &mut Session, id: u32, transient: bool) {
    let failed = failure(Step::Receive, "it was cut off".into(), transient, None);
    session.on_message(NodeId(id), ToController::Failed(failed));
    session.on_message(NodeId(id), ToController::Done);
}

pub(super) fn target(disks: Vec<crate::plan::DiskPlan>) -> Target {
    let plan = crate::plan::Plan {
        run: "kainstall".into(),
        storage: crate::plan::Storage { disks, ..crate::plan::Storage::default() },
        boot: crate::plan::BootPlan::new(crate::plan::Loader::None, crate::inventory::Firmware::Bios),
        finish: crate::plan::FinishPlan::default(),
        after: crate::plan::FinalAction::Reboot,
    };
    Target { plan, left_out: Vec::new(), other_firmware: None }
}

/// The requested chain is running.
fn start(session: &mut Session) -> StreamId {
    session.prepare();
    let key = crate::seal::StreamKey::generate(crate::seal::Cipher::ChaCha20Poly1305).unwrap();
    let started = Started {
        start: crate::wire::control::StreamStart { key, window: 1 << 23 },
        golden: (IpAddr::from([10, 0, 0, 254]), 1).into(),
        links: crate::chain::LinkKeys::generate().unwrap(),
    };
    session.on_started(started);
    session.stream_id().unwrap()
}
