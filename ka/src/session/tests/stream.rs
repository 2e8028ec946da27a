//! The order of a chain, and what its nodes say about the stream that they have received.

use super::*;

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
