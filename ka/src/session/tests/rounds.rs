//! Which nodes a further round serves. No machine is erased a second time that has its copy.

use super::*;

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

/// The nodes that are sent a plan, with their names.
fn named(session: &mut Session) -> Vec<(ConnectionId, String)> {
    let plans = session.take_outbox().into_iter().filter_map(|(to, message)| match message {
        ToAgent::Plan(plan) => Some((to, plan.open().unwrap().plan.finish.name?.hostname)),
        _ => None,
    });
    plans.collect()
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
