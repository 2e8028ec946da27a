//! Which machines may wait, and which of them are admitted.

use super::*;

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

/// It would be refused again at each boot.
#[test]
fn a_latecomer_that_the_plan_cannot_serve_is_refused_once_and_shown() {
    let mut session = after_the_first_stream(2, &[8]);
    let desc = crate::disk::description::Description::parse("linux fill\n", "desc").unwrap();
    let disk = crate::plan::DiskPlan::new("sda".parse().unwrap(), desc);
    session.spec.plans = Some(Plans::new(target(vec![disk])));
    let reason = arrive(&mut session, 4, 8).unwrap_err();
    assert!(reason.contains("no such disk"), "{reason}");
    assert_eq!(arrive(&mut session, 5, 8).unwrap_err(), "it has started without this node");
    let shown: Vec<NodeStatus> =
        session.status().0.nodes.into_iter().filter(|node| node.mac == Some(mac(8))).collect();
    let [shown] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((shown.phase, shown.may_come_again), (Phase::Failed, false), "it boots from its disk");
    assert_eq!(shown.failure.as_ref().unwrap().kind.to_string(), reason);
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
    assert!(refused.contains("another machine with the same hardware address"), "{refused}");
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
