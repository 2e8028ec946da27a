//! Checks that the confirmed disk is the one that is erased, in every round, and that a hung writer does not
//! hold up other nodes for ever.

use crate::chain::Offset;
use crate::disk::choice::DiskChoice;
use crate::disk::description::Description;
use crate::inventory::identity::DiskIdentity;
use crate::inventory::{Card, Disk, Inventory};
use crate::plan::{ConfirmedPlan, DiskPlan};
use crate::seal::StreamKey;
use crate::step::Step;
use crate::wire::control::{Hello, Progress, ToController};

use super::{COMPLETE, mac, session, target};
use crate::session::plans::Plans;
use crate::session::status::Phase;
use crate::session::*;

const GB: u64 = 1_000_000_000;

fn disk(name: &str, serial: &str, boot: &str) -> Disk {
    let identity = DiskIdentity {
        size: GB,
        sector_size: 512,
        serial: serial.into(),
        boot: boot.into(),
        sequence: Some(u64::from(name.as_bytes()[2])),
        ..DiskIdentity::default()
    };
    let (size, sector_size) = (GB, 512);
    Disk { name: name.into(), bus: "ata".into(), size, sector_size, identity, ..Disk::default() }
}

fn arrive(session: &mut Session, id: u32, last: u8, disks: &[Disk]) -> Result<NodeId, String> {
    let card = Card { name: "eth0".into(), mac: mac(last).to_string(), ..Card::default() };
    let hello = Hello {
        session: "kainstall".into(),
        version: String::new(),
        key: crate::keys::KeyPair::generate().unwrap().public,
        data_port: 1,
        window: 1 << 23,
        inventory: Inventory { cards: vec![card], disks: disks.to_vec(), ..Inventory::default() },
        erasable: true,
        place: 0,
        resume: None,
    };
    super::join(session, id, [10, 0, 0, last], hello)
}

/// A run that erases `sda`, and asks again if `ask`.
fn run(ask: bool) -> Session {
    let mut session = session(3);
    let plan = DiskPlan::new("sda".into(), Description::parse("linux fill\n", "desc").unwrap());
    session.spec.plans = Some(Plans { ask, ..Plans::new(target(vec![plan])) });
    session
}

/// The operator confirms machine 1 with these disks, of which the first is `sda`.
fn confirm(session: &mut Session, shown: &[Disk]) {
    session.admit(Admission {
        named: [mac(1)].into(),
        confirmed: [(mac(1), vec![shown[0].identity.clone()])].into(),
        ..Admission::default()
    });
    session.gather();
}

fn plans(session: &mut Session) -> Vec<ConfirmedPlan> {
    let messages = session.take_outbox().into_iter();
    messages
        .filter_map(|(_, m)| if let ToAgent::Plan(plan) = m { Some(*plan.open().unwrap()) } else { None })
        .collect()
}

fn one_plan(session: &mut Session) -> (String, String) {
    let plans = plans(session);
    let [ConfirmedPlan { plan, disks }] = plans.as_slice() else { panic!("{plans:?}") };
    let DiskChoice::Name { name, .. } = &plan.storage.disks[0].disk else { panic!("{plan:?}") };
    (name.clone(), disks[0].serial.clone())
}

/// Node 1 dies in its first round.
fn die(session: &mut Session) {
    session.fail(NodeId(1), failure(Step::Chain, "it is dead".into(), true, None), event::Judge::Dead);
    session.live_of(1).connection = None;
    session.leave();
}

fn in_a_further_round(ask: bool, before: &[Disk], after: &[Disk]) -> (Session, Result<NodeId, String>) {
    let mut session = run(ask);
    arrive(&mut session, 1, 1, before).unwrap();
    confirm(&mut session, before);
    assert_eq!(plans(&mut session).len(), 1);
    die(&mut session);
    let came = arrive(&mut session, 2, 1, after);
    session.go_on();
    (session, came)
}

#[test]
fn a_confirmed_disk_is_followed_to_its_new_name() {
    let before = [disk("sda", "SYSTEM", "1"), disk("sdb", "DATA", "1")];
    let after = [disk("sda", "DATA", "2"), disk("sdb", "SYSTEM", "2")];
    let (mut session, came) = in_a_further_round(false, &before, &after);
    came.unwrap();
    assert_eq!(one_plan(&mut session), ("sdb".into(), "SYSTEM".into()));
}

#[test]
fn a_machine_without_its_confirmed_disk_is_refused() {
    let before = [disk("sda", "SYSTEM", "1"), disk("sdb", "DATA", "1")];
    let (mut session, came) = in_a_further_round(true, &before, &[disk("sda", "DATA", "2")]);
    let reason = came.unwrap_err();
    assert!(reason.contains("not the disk that was confirmed") && reason.contains("`SYSTEM`"), "{reason}");
    assert_eq!(plans(&mut session), []);
    assert_eq!(session.ending(), Some(&Ending::Served));
}

#[test]
fn a_machine_that_nothing_pins_is_asked_about_again() {
    let (before, after) = ([disk("sda", "", "1")], [disk("sda", "", "2")]);
    let (_, came) = in_a_further_round(false, &before, &after);
    let reason = came.unwrap_err();
    assert!(
        reason.contains("it cannot be recognised") && reason.contains("there is no operator to ask"),
        "{reason}"
    );

    for yes in [true, false] {
        let (mut session, came) = in_a_further_round(true, &before, &after);
        came.unwrap();
        assert_eq!(session.ending(), None, "it waits for the answer");
        assert_eq!(plans(&mut session), []);
        let questions = session.questions();
        let [question] = questions.as_slice() else { panic!("{questions:?}") };
        assert!(question.reason.contains("it cannot be recognised"), "{}", question.reason);
        session.answer(question.node, yes.then(|| vec![after[0].identity.clone()]));
        session.go_on();
        assert_eq!(plans(&mut session).len(), usize::from(yes));
        assert_eq!(session.ending().is_some(), !yes);
    }
    // The question gets no answer.
    let (mut session, _) = in_a_further_round(true, &before, &after);
    session.pass(Duration::from_secs(601));
    session.live_of(2).heard_at = session.now;
    session.judge_questions();
    session.go_on();
    assert_eq!(session.ending(), Some(&Ending::Served));
}

/// The disks that were shown count, not those that the machine reports at the time of the answer.
#[test]
fn a_machine_that_boots_while_somebody_is_asked_is_compared_with_what_was_shown() {
    let shown = [disk("sda", "SYSTEM", "1")];
    for (now, is_served) in [
        (disk("sda", "SYSTEM", "2"), true),
        (disk("sda", "DATA", "2"), false),
        (disk("sda", "DATA", "1"), false),
    ] {
        let mut session = run(false);
        arrive(&mut session, 1, 1, &shown).unwrap();
        // A reset machine does not return within the time in which its old connection would still be heard.
        session.pass(session.spec.dead_after * 3);
        arrive(&mut session, 2, 1, std::slice::from_ref(&now)).unwrap();
        confirm(&mut session, &shown);
        assert_eq!(plans(&mut session).len(), usize::from(is_served), "{now:?}");
        assert_eq!(session.ending().is_some(), !is_served);
    }
}

/// Nodes 1 and 2 have everything; the first is still writing.
fn released() -> Session {
    let mut session = session(1);
    session.spec.step_limit = Duration::from_secs(60);
    let stream = StreamKey::generate(crate::seal::Cipher::preferred()).unwrap().stream;
    for id in [1, 2] {
        arrive(&mut session, id, u8::try_from(id).unwrap(), &[]).unwrap();
        let node = session.book.nodes.get_mut(&NodeId(id)).unwrap();
        node.begin_round(1, false);
        node.begin_stream(stream, id as usize);
        session.book.chosen.push(NodeId(id));
    }
    session.book.round = 1;
    session.leave();
    session.released_at = Some(session.now);
    session.set(2, COMPLETE);
    session
}

/// Seconds until the session gives the node up, if its writer takes `step` bytes every second.
fn given_up_after(session: &mut Session, written: impl Fn(u64) -> u64) -> u64 {
    for second in 1..2000 {
        session.pass(Duration::from_secs(1));
        let progress =
            Progress { verified: Offset(8 << 20), written: Offset(written(second)), ..Progress::default() };
        session.on_message(NodeId(1), ToController::Heartbeat(progress));
        session.judge_absence();
        session.judge_writers();
        if session.of(1).is_failed() {
            return second;
        }
    }
    panic!("it is waited for without a limit");
}

#[test]
fn a_last_flush_that_never_returns_holds_up_nobody_for_ever() {
    let mut session = released();
    let after = given_up_after(&mut session, |_| 8 << 20);
    assert!((60..65).contains(&after), "{after}");
    let (status, _) = session.status();
    let of = |last| status.nodes.iter().find(|node| node.mac == Some(mac(last))).unwrap();
    let failure = of(1).failure.clone().unwrap();
    assert_eq!(failure.step, Step::WriteOut, "{failure:?}");
    assert_eq!(of(2).phase, Phase::Complete);
    // Its goodbye is not awaited either.
    session.pass(Duration::from_secs(11));
    session.go_on();
    assert_eq!(session.ending(), Some(&Ending::Served));
}

#[test]
fn a_writer_that_takes_nothing_has_a_limit_and_a_slow_one_too() {
    let mut session = released();
    let after = given_up_after(&mut session, |_| 0);
    assert!((60..65).contains(&after), "{after}");
    assert_eq!(session.failure_of(1).step, Step::Receive);
    // A disk that answers once every 30 seconds.
    let mut session = released();
    let after = given_up_after(&mut session, |second| second / 30 * 4096);
    assert!((60..120).contains(&after), "{after}");
}

fn says_that_it_passes(session: &mut Session) {
    let stream = session.of(1).stream();
    let failed = failure(Step::Receive, "the stream was aborted".into(), true, stream);
    session.on_message(NodeId(1), ToController::Failed(failed));
    session.on_message(NodeId(1), ToController::Done);
    session.dismiss();
    session.go_on();
}

/// When its stream is taken away, it reports that this was not its own fault.
#[test]
fn a_writer_that_hung_is_not_served_again() {
    let mut session = released();
    session.spec.rounds = 5;
    given_up_after(&mut session, |_| 8 << 20);
    says_that_it_passes(&mut session);
    assert_eq!((session.book.round, session.ending()), (1, Some(&Ending::Served)));
    let (status, _) = session.status();
    let failed = status.nodes.iter().find(|node| node.mac == Some(mac(1))).unwrap();
    assert_eq!(failed.failure.as_ref().unwrap().step, Step::WriteOut);
    assert!(!failed.may_come_again);
}

/// Whether a silent node hung is unknown: it is served again when it returns.
#[test]
fn a_node_that_was_not_heard_is_served_again() {
    let mut session = released();
    session.spec.rounds = 5;
    // Nobody else is heard, so the controller itself may have been cut off.
    session.pass(Duration::from_secs(61));
    session.judge_absence();
    let failure = session.failure_of(1);
    assert_eq!(failure.kind.name(), "silent", "{failure:?}");
    says_that_it_passes(&mut session);
    assert_eq!((session.book.round, session.book.chosen.clone()), (2, vec![NodeId(1)]));
}

#[test]
fn a_node_that_hangs_before_its_first_step_of_the_end_is_said_to_finish() {
    let mut session = released();
    session.on_message(NodeId(1), ToController::Step(Step::ReceiveSystem.into()));
    let stream = session.of(1).stream().unwrap();
    let total = crate::seal::Total { length: 1, hash: [0; 32], sha256: None };
    session.book.totals.push((stream, total));
    session.on_message(NodeId(1), ToController::Complete { stream, total });
    for _ in 0..61 {
        session.pass(Duration::from_secs(1));
        session.on_message(NodeId(1), ToController::Heartbeat(Progress::default()));
        session.judge_absence();
    }
    assert_eq!(session.failure_of(1).step, Step::Finish);
}

/// A receiver said that it had 10,240 bytes of a stream of 4,608.
#[test]
fn a_copy_of_another_length_or_hash_is_a_failure() {
    let total = crate::seal::Total { length: 4608, hash: [1; 32], sha256: None };
    for said in
        [crate::seal::Total { length: 10_240, ..total }, crate::seal::Total { hash: [2; 32], ..total }, total]
    {
        let mut session = released();
        let stream = session.of(1).stream().unwrap();
        session.book.totals.push((stream, total));
        session.on_message(NodeId(1), ToController::Complete { stream, total: said });
        if said == total {
            assert!(!session.of(1).is_failed());
        } else {
            assert_eq!(session.failure_of(1).kind.name(), "wrong_total", "{said:?}");
        }
    }
}
