//! Which nodes are admitted to which round. Above all, no machine may be erased that must not be.

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
    session.on_hello(Arriving { id: NodeId(id), hello, connection, peer, local, token: [9; 16], time: 0 });
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

#[test]
fn who_was_cut_off_waits_and_is_served_again() {
    let mut session = after_the_first_stream(2, &[]);
    fails(&mut session, 2, true);
    session.dismiss();
    session.go_on();
    assert_eq!(session.round_and_chosen(), (2, vec![NodeId(2)]));
    assert!(!session.of(2).is_failed());
    // A repeated report about the previous round is no news, and does not make the node complete.
    session.on_message(NodeId(2), ToController::Done);
    assert!(!session.of(2).is_done());
}

#[test]
fn who_fell_silent_after_its_failure_holds_up_nobody() {
    let mut session = after_the_first_stream(2, &[]);
    session.set(1, COMPLETE);
    session.lose(2, true);
    session.judge_absence();
    session.go_on();
    assert_eq!(session.ending(), None, "it has not dropped its half copy yet");
    session.silence(2, 11);
    session.judge_absence();
    session.go_on();
    assert_eq!(session.ending(), Some(&Ending::Served));
}

#[test]
fn rounds_come_to_an_end() {
    for (rounds, transient) in [(1, true), (2, false)] {
        let mut session = after_the_first_stream(rounds, &[]);
        fails(&mut session, 2, transient);
        session.dismiss();
        session.go_on();
        assert_eq!(session.take_outbox(), [(ConnectionId(2), ToAgent::Bye)]);
        assert_eq!(session.book.round, 1);
    }
}

#[test]
fn a_machine_that_died_takes_its_own_place_only() {
    let mut session = after_the_first_stream(2, &[]);
    // It boots again before its death was noticed.
    arrive(&mut session, 4, 2).unwrap();
    assert!(arrive(&mut session, 5, 7).is_err(), "a stranger");
    assert_eq!(session.candidates(), []);
    session.lose(2, false);
    session.go_on();
    assert_eq!(session.book.chosen, [NodeId(4)]);
    let served: Vec<NodeId> = session.book.nodes.values().filter(|n| n.is_chosen()).map(Node::id).collect();
    assert_eq!(served, [NodeId(1), NodeId(4)]);
}

#[test]
fn what_is_whole_is_not_erased_again() {
    let mut session = after_the_first_stream(2, &[]);
    for id in [1, 2] {
        session.set(id, COMPLETE);
    }
    arrive(&mut session, 4, 1).unwrap();
    session.take_outbox();
    session.go_on();
    assert_eq!(session.ending(), Some(&Ending::Served));
    let refused: Vec<ConnectionId> = session.take_outbox().into_iter().map(|(to, _)| to).collect();
    assert_eq!(refused, [ConnectionId(3), ConnectionId(4)], "and the one that was not named");
}

#[test]
fn a_late_machine_needs_a_free_place_and_a_name() {
    let mut session = after_the_first_stream(2, &[8, 9]);
    arrive(&mut session, 4, 8).unwrap();
    assert_eq!(session.candidates(), [], "both places are taken");
    session.spec.wanted = 3;
    arrive(&mut session, 5, 9).unwrap();
    assert_eq!(session.candidates(), [NodeId(4)]);
}

#[test]
fn who_dies_while_it_finishes_is_not_waited_for_long() {
    let mut session = after_the_first_stream(2, &[]);
    session.set(2, COMPLETE);
    session.on_closed(NodeId(1), ConnectionId(1), "cut");
    session.judge_absence();
    session.go_on();
    assert_eq!(session.ending(), None, "it may come back");
    session.silence(1, 6);
    session.judge_absence();
    session.go_on();
    assert_eq!(session.ending(), Some(&Ending::Served));
    assert!(session.of(1).is_failed());
}

/// A disk that never answers: the node reports that it is alive, and nothing else.
#[test]
fn who_hangs_in_one_step_is_not_waited_for_for_ever() {
    let mut session = session(2);
    for id in [1, 2] {
        arrive(&mut session, id, u8::try_from(id).unwrap()).unwrap();
    }
    session.admit(Admission { named: [mac(1), mac(2)].into(), ..Admission::default() });
    session.gather();
    session.set(2, State::Preparing { begun: false });
    let minutes = |session: &mut Session, minutes| {
        for _ in 0..minutes {
            session.pass(Duration::from_secs(60));
            for id in [1, 2] {
                session.on_message(NodeId(id), ToController::Heartbeat(Progress::default()));
            }
            session.judge_absence();
        }
    };
    let failed = |session: &Session, id| session.of(id).is_failed();
    for doing in [Step::WriteTable.of("sda"), Step::MakeFileSystem.of("ext4 on sda1")] {
        minutes(&mut session, 34);
        assert!(!failed(&session, 2), "each step has its time");
        session.on_message(NodeId(2), ToController::Step(doing));
    }
    minutes(&mut session, 36);
    assert!(!failed(&session, 1), "it is ready, and waits for the other");
    let failure = session.failure_of(2);
    assert_eq!(failure.step, Step::MakeFileSystem);
    assert!(matches!(failure.kind, FailureKind::Stuck { at: StuckAt::Step, .. }), "{failure:?}");
    assert!(!failure.transient, "{failure:?}");

    // The same after it has its copy.
    session.set(1, FINISHES);
    session.leave();
    minutes(&mut session, 1);
    assert!(failed(&session, 1));
    minutes(&mut session, 2);
    session.go_on();
    assert_eq!(session.ending(), Some(&Ending::Served));
}

#[test]
fn who_is_refused_is_told_why_and_shown_and_the_others_begin() {
    let mut session = session(1);
    for id in [1, 2] {
        arrive(&mut session, id, u8::try_from(id).unwrap()).unwrap();
    }
    session.take_outbox();
    let refused = BTreeMap::from([(mac(2), "its disk is too small".to_owned())]);
    session.admit(Admission { named: [mac(1)].into(), refused, ..Admission::default() });
    session.gather();
    assert_eq!(session.book.chosen, [NodeId(1)]);
    let told = ToAgent::Refused { reason: "its disk is too small".into() };
    assert_eq!(session.take_outbox(), [(ConnectionId(2), told)]);
    let (status, _) = session.status();
    let failed: Vec<_> =
        status.nodes.iter().filter_map(|n| Some((n.mac?, n.failure.clone()?.kind.to_string()))).collect();
    assert_eq!(failed, [(mac(2), "its disk is too small".to_owned())]);
}

#[test]
fn a_session_whose_nodes_are_all_refused_ends() {
    let mut session = session(2);
    arrive(&mut session, 1, 1).unwrap();
    let refused = BTreeMap::from([(mac(1), "no such disk".to_owned())]);
    session.admit(Admission { refused, ..Admission::default() });
    assert_eq!(session.ending(), Some(&Ending::Served));
    assert_eq!(session.status().0.nodes.len(), 1);
    assert!(arrive(&mut session, 2, 2).is_err());
}

#[test]
fn nodes_are_let_go_one_after_the_other() {
    let mut session = after_the_first_stream(1, &[]);
    session.spec.delay = Duration::from_secs(30);
    for (id, position) in [(1, 2), (2, 1)] {
        session.streams(id, StreamId([7; 16]));
        session.book.nodes.get_mut(&NodeId(id)).unwrap().part.as_mut().unwrap().stream =
            Some((StreamId([7; 16]), position));
        session.set(id, State::Finishing { length: 7, done: true });
    }
    session.dismiss();
    session.dismiss();
    assert_eq!(session.take_outbox(), [(ConnectionId(2), ToAgent::Bye)], "the first of the chain");
    session.go_on();
    assert_eq!(session.ending(), None);
    session.let_go_at = session.let_go_at.map(|at| at - Duration::from_secs(30));
    session.dismiss();
    assert_eq!(session.take_outbox(), [(ConnectionId(1), ToAgent::Bye)]);
    session.go_on();
    assert_eq!(session.ending(), Some(&Ending::Served));
}

/// The nodes that are sent a plan, with their names.
fn named(session: &mut Session) -> Vec<(ConnectionId, String)> {
    let plans = session.take_outbox().into_iter().filter_map(|(to, message)| match message {
        ToAgent::Plan(plan) => Some((to, plan.open().unwrap().plan.finish.name?.hostname)),
        _ => None,
    });
    plans.collect()
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

/// It would be refused again at each boot.
#[test]
fn a_latecomer_that_the_plan_cannot_serve_is_refused_once_and_shown() {
    let mut session = after_the_first_stream(2, &[8]);
    let desc = crate::disk::description::Description::parse("linux fill\n", "desc").unwrap();
    let disk = crate::plan::DiskPlan::new("sda".parse().unwrap(), desc);
    session.spec.plans = Some(Plans::new(target(vec![disk])));
    let reason = arrive(&mut session, 4, 8).unwrap_err();
    assert!(reason.contains("no such disk"), "{reason}");
    assert_eq!(arrive(&mut session, 5, 8).unwrap_err(), "it has begun without this node");
    let shown: Vec<NodeStatus> =
        session.status().0.nodes.into_iter().filter(|node| node.mac == Some(mac(8))).collect();
    let [shown] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((shown.phase, shown.may_come_again), (Phase::Failed, false), "it boots from its disk");
    assert_eq!(shown.failure.as_ref().unwrap().kind.to_string(), reason);
}

/// An assigned name stays, whatever the order of a further round.
#[test]
fn a_node_keeps_its_name_in_a_further_round() {
    use super::names::{Names, Naming, Pattern};
    let mut session = session(2);
    let naming = Naming::Pattern(Pattern::parse("node%02d").unwrap());
    let names = Names::new(BTreeMap::new(), naming, "golden");
    session.spec.plans = Some(Plans { names, ..Plans::new(target(Vec::new())) });
    for id in [2, 1] {
        arrive(&mut session, id, u8::try_from(id).unwrap()).unwrap();
    }
    session.admit(Admission { named: [mac(1), mac(2)].into(), ..Admission::default() });
    session.gather();
    assert_eq!(named(&mut session), [(ConnectionId(1), "node01".into()), (ConnectionId(2), "node02".into())]);
    // The first of them died, and is back as another node; the second was disconnected.
    for id in [1, 2] {
        session.lose(id, true);
    }
    session.live_of(1).connection = None;
    arrive(&mut session, 9, 1).unwrap();
    session.begin_round(vec![NodeId(2), NodeId(9)]);
    assert_eq!(named(&mut session), [(ConnectionId(2), "node02".into()), (ConnectionId(9), "node01".into())]);
    let shown: Vec<String> = session.status().0.nodes.into_iter().map(|node| node.hostname).collect();
    assert_eq!(shown, ["node02", "node01"]);
}

#[test]
fn a_run_whose_machines_are_all_refused_ends() {
    let mut session = session(2);
    arrive(&mut session, 1, 1).unwrap();
    let refused = [(mac(1), "its disk is too small".to_owned())].into();
    session.admit(Admission { others: [mac(8)].into(), refused, ..Admission::default() });
    assert_eq!(session.ending(), Some(&Ending::Served));
}

#[test]
fn go_counts_only_machines_that_may_be_taken() {
    let mut session = session(1);
    session.spec.only = Some([mac(8)].into());
    arrive(&mut session, 1, 1).unwrap();
    assert!(session.go().is_err() && !session.was_told_to_go());
    arrive(&mut session, 2, 8).unwrap();
    session.go().unwrap();
}

#[test]
fn a_second_host_that_claims_a_waiting_machine_does_not_take_its_place() {
    let mut session = session(1);
    arrive_from(&mut session, 1, 1, [10, 0, 0, 1], [1; 32]).unwrap();
    let refused = arrive_from(&mut session, 2, 1, [10, 0, 0, 66], [2; 32]).unwrap_err();
    assert!(refused.contains("another machine waits"), "{refused}");
    assert!(
        session.take_outbox().contains(&(ConnectionId(1), ToAgent::Probe)),
        "the first is asked whether it lives"
    );
    let arrivals = session.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert_eq!((arrivals[0].key, arrivals[0].claimed_by.len()), ([1; 32], 1));
    // A silent node was reset: then the newcomer waits in its place.
    session.silence(1, 3);
    arrive_from(&mut session, 3, 1, [10, 0, 0, 1], [3; 32]).unwrap();
    assert_eq!(session.arrivals()[0].key, [3; 32]);
    // The same agent joining again is not another machine.
    arrive_from(&mut session, 4, 1, [10, 0, 0, 1], [3; 32]).unwrap();
    assert_eq!(session.arrivals().len(), 1);
}

#[test]
fn a_yes_is_for_the_machine_that_was_seen() {
    let mut session = session(2);
    arrive_from(&mut session, 1, 1, [10, 0, 0, 1], [1; 32]).unwrap();
    arrive_from(&mut session, 2, 2, [10, 0, 0, 2], [2; 32]).unwrap();
    // While the operator reads the question, machine 1 leaves, and another one claims to be it.
    session.silence(1, 3);
    arrive_from(&mut session, 3, 1, [10, 0, 0, 66], [66; 32]).unwrap();
    let keys = BTreeMap::from([(mac(1), [1; 32]), (mac(2), [2; 32])]);
    session.admit(Admission { named: [mac(1), mac(2)].into(), keys, ..Admission::default() });
    session.gather();
    assert_eq!(session.book.chosen, [NodeId(2)]);
    assert!(session.book.vanished.contains(&mac(1)));
}

#[test]
fn with_codes_nobody_comes_later_whose_code_was_not_typed() {
    for (only_keys, key, allowed) in [(false, 9, true), (true, 9, false), (true, 1, true)] {
        let mut session = after_the_first_stream(2, &[]);
        session.book.keys = BTreeMap::from([(mac(1), [1; 32])]);
        session.book.only_keys = only_keys;
        assert_eq!(
            arrive_from(&mut session, 9, 1, [10, 0, 0, 1], [key; 32]).is_ok(),
            allowed,
            "{only_keys} {key}"
        );
    }
}

#[test]
fn nodes_that_only_join_have_a_limit() {
    let mut session = session(1);
    session.spec.per_address = 64;
    let mut from = |address: [u8; 4], ids: std::ops::Range<u32>| {
        ids.filter(|id| arrive_from(&mut session, *id, (id % 200) as u8, address, [7; 32]).is_ok()).count()
    };
    // One agent that joins repeatedly replaces itself.
    assert_eq!(from([10, 0, 0, 1], 1..150), 64);
    assert_eq!(from([10, 0, 0, 2], 150..160), 10, "other machines have their own places");
}

/// Machines behind a router that translates addresses share one. The size of their reports counts for all of
/// them together.
#[test]
fn many_nodes_of_one_address_may_join() {
    let mut session = session(1);
    session.spec.per_address = 256;
    let mut from = |hello: &Hello, ids: std::ops::Range<u32>| {
        ids.filter(|id| join(&mut session, *id, [10, 0, 0, 1], hello.clone()).is_ok()).count()
    };
    let mut usual = hello();
    usual.inventory.cards.clear();
    assert_eq!(from(&usual, 1..201), 200);
    let mut large = usual.clone();
    large.inventory.hostname = "x".repeat(60 << 10);
    let more = from(&large, 201..301);
    assert!((40..=68).contains(&more), "{more} of 60 kB each, where 4 MiB may be reported");
}

#[test]
fn only_a_new_step_counts_and_all_of_them_have_an_end() {
    let mut session = session(1);
    arrive(&mut session, 1, 1).unwrap();
    session.admit(Admission { named: [mac(1)].into(), ..Admission::default() });
    session.gather();
    session.set(1, State::Preparing { begun: true });
    let step = |session: &mut Session, name: &str| {
        session.on_message(NodeId(1), ToController::Step(Step::Initrd.of(name)));
    };
    let age = |session: &mut Session, time: Duration| {
        let live = session.live_of(1);
        live.step_since -= time;
        live.works_since -= time;
    };
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    step(&mut session, &"x".repeat(70_000));
    assert!(session.of(1).doing.as_ref().unwrap().what.len() < 300);
    step(&mut session, "partition");
    age(&mut session, minutes(34));
    step(&mut session, "partition");
    session.judge_absence();
    assert!(!session.of(1).is_failed());
    age(&mut session, minutes(2));
    step(&mut session, "partition");
    session.judge_absence();
    assert!(session.of(1).is_failed(), "it said the same again and again");

    let mut session = self::session(1);
    arrive(&mut session, 1, 1).unwrap();
    session.admit(Admission { named: [mac(1)].into(), ..Admission::default() });
    session.gather();
    session.set(1, State::Preparing { begun: true });
    for turn in 0..30 {
        step(&mut session, &format!("step {}", turn % 2));
        age(&mut session, minutes(10));
        session.judge_absence();
    }
    let failure = session.failure_of(1);
    assert!(matches!(failure.kind, FailureKind::Stuck { at: StuckAt::Work, .. }), "{failure:?}");
}

#[test]
fn a_copy_of_something_else_is_no_success_however_late_it_is_told() {
    let (stream, sent) = (StreamId([7; 16]), Total { length: 4608, hash: [1; 32], sha256: None });
    for (told, whole) in
        [(sent, true), (Total { length: 10_240, ..sent }, false), (Total { hash: [2; 32], ..sent }, false)]
    {
        // The chain is released, and the stream is over: then nodes report when they have unpacked
        // everything.
        let mut session = after_the_first_stream(1, &[]);
        session.book.totals.push((stream, sent));
        session.streams(1, stream);
        session.on_message(NodeId(1), ToController::Complete { stream, total: told });
        assert_eq!(session.of(1).is_failed(), !whole, "{told:?}");
    }
}

#[test]
fn who_finds_a_forgery_after_the_release_names_its_predecessor_too() {
    let stream = StreamId([7; 16]);
    let mut session = after_the_first_stream(2, &[]);
    for id in [1, 2] {
        session.streams(id, stream);
    }
    let forged = crate::proof::Forged { from: 0, to: 1, sender: None };
    session.on_message(NodeId(2), ToController::Forged { stream, forged });
    assert!(session.of(2).deceived.as_ref().is_some_and(|(_, from)| from.contains("10.0.0.1")));
    session.on_message(NodeId(1), ToController::Forged { stream, forged });
    assert_eq!(session.of(1).deceived, Some((stream, "the golden node".into())));
}

/// A node that reported a forgery was placed right behind the golden node in the next round, before all
/// others.
#[test]
fn who_cries_forgery_stands_behind_all_others_in_the_next_round() {
    let stream = StreamId([7; 16]);
    let mut session = after_the_first_stream(2, &[]);
    session.spec.wanted = 3;
    for id in [1, 2] {
        session.streams(id, stream);
    }
    session.links.on_chain(stream, &[NodeId(0), NodeId(1), NodeId(2)]);
    // It may blame its predecessor, but no other node.
    for (sender, doubt) in [(7, trust::Doubt::Sender), (0, trust::Doubt::Sender)] {
        let forged = crate::proof::Forged { from: 0, to: 1, sender: Some(NodeId(sender)) };
        session.on_message(NodeId(2), ToController::Forged { stream, forged });
        assert_eq!(session.book.findings.of(NodeId(1)), doubt);
    }
    for id in [1, 2, 3] {
        session.set(id, State::Ready);
    }
    session.book.chosen = vec![NodeId(1), NodeId(2), NodeId(3)];
    session.book.stage = Stage::Preparing;
    session.prepare();
    let order: Vec<NodeId> = session.starting.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [3, 2, 1].map(NodeId));
}

/// 100 Mbit/s among gigabit cards: no node has to wait for it, because it has no successor from the start.
#[test]
fn a_slow_card_stands_at_the_end_of_the_first_chain() {
    let mut session = session(1);
    session.spec.wanted = 3;
    for (id, speed) in [(1, 100), (2, 1000), (3, 1000)] {
        let last = u8::try_from(id).unwrap();
        let card =
            Card { name: "eth0".into(), mac: mac(last).to_string(), speed: Some(speed), ..Card::default() };
        join(&mut session, id, [10, 0, 0, last], Hello { inventory: with(vec![card]), ..hello() }).unwrap();
        session.set(id, State::Ready);
    }
    session.book.chosen = vec![NodeId(1), NodeId(2), NodeId(3)];
    session.book.stage = Stage::Preparing;
    session.prepare();
    let order: Vec<NodeId> = session.starting.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [2, 3, 1].map(NodeId));
}

/// Hosts that joined while others received, and never sent a message, prevented a session from ending.
#[test]
fn who_only_says_hello_is_not_waited_for() {
    let mut session = after_the_first_stream(3, &[]);
    session.spec.admission = AdmissionPolicy::First;
    (1..=3).for_each(|id| session.set(id, COMPLETE));
    let silent = |session: &mut Session, id: u32| {
        arrive(session, id, u8::try_from(id).unwrap()).unwrap();
        session.live_of(id).spoke = false;
    };
    silent(&mut session, 10);
    session.released_at = Some(session.now);
    assert!(session.take_outbox().contains(&(ConnectionId(10), ToAgent::Probe)), "it is not asked");
    session.go_on();
    assert_eq!(session.ending(), None, "its answer may be under way");
    // Another one joins all the time.
    session.pass(session.spec.dead_after * 4);
    silent(&mut session, 11);
    session.go_on();
    assert_eq!(session.ending(), None);
    session.pass(session.spec.dead_after * 2);
    session.go_on();
    assert_eq!((session.ending(), session.book.round), (Some(&Ending::Served), 1));
}

/// Of two that came late, one had answered when the stream ended: the last round began without the other.
#[test]
fn a_further_round_waits_for_the_answer_of_who_came_in_time() {
    let mut session = after_the_first_stream(3, &[]);
    session.spec.admission = AdmissionPolicy::First;
    (1..=3).for_each(|id| session.set(id, COMPLETE));
    for id in [10, 11] {
        arrive(&mut session, id, u8::try_from(id).unwrap()).unwrap();
    }
    session.live_of(11).spoke = false;
    session.released_at = Some(session.now);
    session.go_on();
    assert_eq!(session.book.round, 1, "one has not answered yet");
    session.live_of(11).spoke = true;
    session.go_on();
    assert_eq!((session.book.round, session.book.chosen.len()), (2, 2));
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

/// One host with many identities must not take all of a further round's time, nor precede nodes that were
/// admitted.
#[test]
fn who_comes_late_is_behind_the_others_and_few_of_one_address() {
    let mut session = after_the_first_stream(3, &[]);
    session.spec.admission = AdmissionPolicy::First;
    fails(&mut session, 2, true);
    session.set(1, COMPLETE);
    let key = crate::keys::KeyPair::generate().unwrap().public;
    for id in 10..40 {
        arrive_from(&mut session, id, u8::try_from(id).unwrap(), [10, 0, 0, 1], key).unwrap();
    }
    arrive(&mut session, 50, 50).unwrap();
    session.go_on();
    // One that waits again, one that joined at the first moment and was not admitted, eight of one address,
    // and another.
    assert_eq!((session.book.round, session.book.chosen.len()), (2, 11));
    start(&mut session);
    assert_eq!(session.of(2).position(), Some(1));
    let takes_part = |session: &Session, id| session.of(id).position().is_some();
    assert!(takes_part(&session, 50) && takes_part(&session, 10) && !takes_part(&session, 39));

    // With the first one that takes no part, the others of its address are removed, and their final messages
    // are not awaited.
    let reason = crate::chain::Reason::new(["it lets nothing through".to_owned().into()]);
    let out = Decision::Expelled { node: NodeId(10), reason, alive: true };
    session.decide(vec![out]);
    let failed: Vec<u32> =
        session.book.chosen.iter().map(|id| id.0).filter(|id| session.of(*id).is_failed()).collect();
    assert_eq!(failed, (10..18).collect::<Vec<_>>());
    session.pass(Duration::from_secs(6));
    assert!((10..18).all(|id| session.node(NodeId(id)).unwrap().has_left(session.now)));
}

#[test]
fn who_comes_and_comes_does_not_keep_a_lasting_session_from_its_chain() {
    let mut session = session(1);
    let linger = Duration::from_secs(3);
    (session.spec.admission, session.spec.wanted) = (AdmissionPolicy::Lasting(linger), 100);
    for id in 1..20 {
        arrive(&mut session, id, u8::try_from(id).unwrap()).unwrap();
        session.gather();
        if session.book.round > 0 {
            break;
        }
        session.pass(linger / 2);
    }
    assert_eq!(session.book.round, 1, "it has not begun");
    assert!((5..15).contains(&session.book.chosen.len()), "{:?}", session.book.chosen);
}

/// The end of a stream that is forged for most nodes is not awaited; but a single node's claim ends nothing.
#[test]
fn a_round_begins_again_when_most_of_it_was_deceived() {
    for (accusers, restarts) in [(vec![3], false), (vec![3, 2], true), (vec![2, 2], false)] {
        let mut session = after_the_first_stream(2, &[3]);
        session.spec.wanted = 3;
        for id in [1, 2, 3] {
            session.book.nodes.get_mut(&NodeId(id)).unwrap().begin_round(1, false);
        }
        session.book.chosen = vec![NodeId(1), NodeId(2), NodeId(3)];
        session.book.stage = Stage::Preparing;
        let stream = start(&mut session);
        let forged = crate::proof::Forged { from: 0, to: 1, sender: None };
        for id in &accusers {
            session.on_message(NodeId(*id), ToController::Forged { stream, forged });
        }
        assert_eq!(session.stream_id().is_none(), restarts, "{accusers:?}");
        if restarts {
            fails(&mut session, 2, true);
            fails(&mut session, 3, true);
            session.go_on();
            // The node before them is silent, and is not waited for.
            assert_eq!(session.round_and_chosen(), (2, vec![NodeId(2), NodeId(3)]));
            assert!(session.of(1).is_failed() && session.has_rounds());
        }
    }
}

/// A host that joined and left repeatedly was remembered for a minute each time, with its whole report.
#[test]
fn who_comes_and_goes_takes_no_more_room_than_who_stays() {
    let mut session = session(1);
    session.spec.per_address = 64;
    let come_and_go = |session: &mut Session, id: u32| {
        let joined = arrive_from(session, id, u8::try_from(id).unwrap(), [10, 0, 0, 9], [0; 32])?;
        session.on_closed(joined, ConnectionId(id as usize), "it left");
        Ok::<_, String>(())
    };
    let taken = (1..=200).filter(|id| come_and_go(&mut session, *id).is_ok()).count();
    assert!(taken <= 64 && session.book.nodes.len() == taken, "{taken} of 200");
}

#[test]
fn who_has_left_a_lasting_session_leaves_little_behind() {
    let mut session = session(1);
    session.spec.admission = AdmissionPolicy::Lasting(Duration::ZERO);
    let id = arrive(&mut session, 1, 1).unwrap();
    let node = session.book.nodes.get_mut(&id).unwrap();
    let disks = vec![crate::inventory::Disk::default(); 200];
    node.joined.inventory = Arc::new(Inventory { disks, ..(*node.joined.inventory).clone() });
    node.begin_round(1, false);
    session.set(1, COMPLETE);
    session.end(Ending::Served);
    let node = session.of(1);
    assert!(node.joined.inventory.disks.is_empty() && node.mac() == Some(mac(1)));
}

#[test]
fn a_position_that_goes_to_and_fro_is_no_work() {
    let mut session = after_the_first_stream(1, &[]);
    session.set(1, State::Receiving);
    let at = |written| Progress {
        verified: crate::chain::Offset(100),
        written: crate::chain::Offset(written),
        ..Default::default()
    };
    session.live_of(1).on_progress(at(20), START);
    let now = START + Duration::from_secs(60);
    for written in [10, 20, 5, 20] {
        session.live_of(1).on_progress(at(written), now);
    }
    assert!(session.live_of(1).takes_nothing(None, now) >= Duration::from_secs(60));
    session.live_of(1).on_progress(at(21), now);
    assert!(session.live_of(1).takes_nothing(None, now) < Duration::from_secs(60));
}

#[test]
fn logs_of_machines_that_no_run_chose_are_not_kept() {
    let mut session = session(1);
    arrive(&mut session, 1, 1).unwrap();
    arrive(&mut session, 2, 2).unwrap();
    session.admit(Admission { named: [mac(1)].into(), ..Admission::default() });
    session.gather();
    for id in [1, 2] {
        session.on_message(NodeId(id), ToController::Log { offset: 0, bytes: b"log".to_vec() });
    }
    let kept = session.effects.iter().filter_map(|effect| match effect {
        Effect::StoreLog(piece) => Some(piece.name.as_str()),
        _ => None,
    });
    assert_eq!(kept.collect::<Vec<_>>(), ["52-54-00-00-00-01"]);
}

/// Several receivers on one host are one machine, whether identified by their card or without one.
#[test]
fn what_one_receiver_of_a_host_could_not_get_is_not_forgotten_for_another() {
    let card = Card { name: "eth0".into(), mac: mac(1).to_string(), ..Card::default() };
    for cards in [vec![], vec![card]] {
        let mut session = session(3);
        (session.spec.admission, session.spec.wanted) = (AdmissionPolicy::First, 3);
        let arrive = |session: &mut Session, id: u32, place: u64| {
            let hello = Hello { inventory: with(cards.clone()), place, erasable: false, ..hello() };
            join(session, id, [10, 0, 0, 1], hello).unwrap();
        };
        for id in [1, 2, 3] {
            arrive(&mut session, id, u64::from(id));
        }
        session.gather();
        session.leave();
        session.set(1, FINISHES);
        fails(&mut session, 2, false);
        fails(&mut session, 3, true);
        session.dismiss();
        session.on_closed(NodeId(2), ConnectionId(2), "it left");
        // Its own second attempt, and a newcomer in another place.
        arrive(&mut session, 4, 4);
        session.go_on();
        assert_eq!(session.round_and_chosen(), (2, vec![NodeId(3), NodeId(4)]));
        let (status, _) = session.status();
        let failed = status.nodes.iter().filter(|node| node.failure.is_some()).count();
        assert_eq!((status.nodes.len(), failed), (4, 1), "{cards:?}");
        assert!(!status.is_whole());

        // The same place again is the same copy: its result counts.
        session.leave();
        for id in [3, 4] {
            session.set(id, COMPLETE);
        }
        arrive(&mut session, 5, 2);
        session.go_on();
        assert_eq!(session.round_and_chosen(), (3, vec![NodeId(5)]));
        let (status, _) = session.status();
        assert_eq!((status.nodes.len(), status.nodes.iter().filter(|n| n.failure.is_some()).count()), (4, 0));
    }
}
