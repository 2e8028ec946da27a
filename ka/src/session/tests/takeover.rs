//! What a process that takes over a session decides, and when; and what no process decides after the end.

use super::*;
use crate::wire::control::Ticket;

const PATIENCE: Duration = Duration::from_secs(600);

/// Machines 1 and 2 were receiving when the process ended, and another one has taken over.
fn taken_over_while_both_receive() -> (Session, StreamId) {
    let mut session = session(2);
    session.spec.patience = PATIENCE;
    for id in [1, 2] {
        arrive(&mut session, id, u8::try_from(id).unwrap()).unwrap();
    }
    session.admit(Admission { named: [mac(1), mac(2)].into(), ..Admission::default() });
    session.gather();
    let stream = start(&mut session);
    let events: Vec<Event> = std::mem::take(&mut session.effects)
        .into_iter()
        .filter_map(|effect| if let Effect::Record(event) = effect { Some(*event) } else { None })
        .collect();
    (Session::resume(session.spec.clone(), &events, START).0, stream)
}

/// A node is back, hears that its stream is lost, and waits for another one.
fn returns(session: &mut Session, id: u32, stream: StreamId) -> Result<(), String> {
    let ticket = Ticket { node: NodeId(id), token: [9; 16] };
    let hello = Hello { resume: Some(ticket), ..hello() };
    join(session, 100 + id, [10, 0, 0, u8::try_from(id).unwrap()], hello)?;
    let failed = failure(Step::Receive, "it was given up".into(), true, Some(stream));
    session.on_message(NodeId(id), ToController::Failed(failed));
    session.on_message(NodeId(id), ToController::Done);
    Ok(())
}

/// Time passes, and the nodes that are back say that they live.
fn wait(session: &mut Session, time: Duration) {
    for _ in 0..time.as_secs() {
        session.pass(Duration::from_secs(1));
        let back: Vec<NodeId> =
            session.nodes().filter(|n| n.live.connection.is_some()).map(|n| n.node.id()).collect();
        for id in back {
            session.on_message(id, ToController::Heartbeat(Progress::default()));
        }
        session.advance();
    }
}

#[test]
fn who_returns_late_after_a_takeover_is_served_with_the_others() {
    let (mut session, stream) = taken_over_while_both_receive();
    returns(&mut session, 1, stream).unwrap();
    // A switch still blocks the other one's port.
    wait(&mut session, Duration::from_secs(50));
    assert_eq!(session.round_and_chosen().0, 1, "one may still come");
    returns(&mut session, 2, stream).unwrap();
    wait(&mut session, Duration::from_secs(1));
    assert_eq!(session.round_and_chosen(), (2, vec![NodeId(1), NodeId(2)]));
}

#[test]
fn who_never_returns_after_a_takeover_holds_up_the_others_for_a_minute() {
    let (mut session, stream) = taken_over_while_both_receive();
    wait(&mut session, Duration::from_secs(5));
    returns(&mut session, 1, stream).unwrap();
    wait(&mut session, Duration::from_secs(62));
    assert_eq!(session.round_and_chosen(), (2, vec![NodeId(1)]));
}

/// The golden node's own network was not ready: its nodes are as patient as it asked them to be.
#[test]
fn a_process_that_hears_nobody_waits_as_long_as_the_nodes_do() {
    let (mut session, stream) = taken_over_while_both_receive();
    wait(&mut session, Duration::from_secs(550));
    assert_eq!((session.ending(), session.round_and_chosen().0), (None, 1));
    for id in [1, 2] {
        returns(&mut session, id, stream).unwrap();
    }
    wait(&mut session, Duration::from_secs(1));
    assert_eq!(session.round_and_chosen(), (2, vec![NodeId(1), NodeId(2)]));

    let (mut session, _) = taken_over_while_both_receive();
    wait(&mut session, PATIENCE + Duration::from_secs(70));
    assert_eq!(session.ending(), Some(&Ending::Served), "all are gone");
}

/// The result has been reported: a node that turns up now must not change it, and must not take itself for
/// served.
#[test]
fn nothing_that_is_said_after_the_end_changes_the_result() {
    let mut session = after_the_first_stream(1, &[]);
    session.set(1, COMPLETE);
    let stream = StreamId([7; 16]);
    session.streams(2, stream);
    session.lose(2, false);
    session.advance();
    assert_eq!(session.ending(), Some(&Ending::Served));
    let before = session.book.clone();
    session.take_outbox();
    let total = Total { length: 7, hash: [0; 32], sha256: None };
    let messages = [
        ToController::Step(Step::Initrd.of("linux")),
        ToController::Complete { stream, total },
        ToController::Failed(failure(Step::Receive, "late".into(), true, Some(stream))),
        ToController::Done,
    ];
    let mut answers = Vec::new();
    for id in [1, 2] {
        session.live_of(id).connection = Some(ConnectionId(id as usize));
        for message in messages.clone() {
            let effects = session.on(Input::Message { node: NodeId(id), message }, START);
            answers.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Send { connection, message } => Some((connection.0, *message)),
                Effect::Record(event) => panic!("{event:?} after the end"),
                _ => None,
            }));
        }
    }
    for input in [Input::Admit(Admission::default()), Input::StartFailed("late".into()), Input::Tick] {
        assert_eq!(session.on(input, START).len(), 0);
    }
    assert!(session.book == before, "the result has changed");
    let refused = ToAgent::Refused { reason: "it is gone".into() };
    assert_eq!(answers, [(1, ToAgent::Bye), (2, refused.clone()), (2, refused)]);
    assert!(returns(&mut session, 2, stream).is_err());
}
