//! How long nodes are waited for, and how they leave.

use super::*;

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
