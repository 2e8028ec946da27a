//! One member of a chain, and neighbours or strangers that do what they should not.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use ka::chain::LinkMessage;
use ka::chain::LinkName;
use ka::chain::{Action, Epoch, LinkId, Member, Neighbour, NodeId, Offset, Rules, Secrets, Trouble, View};
use ka::seal::{Block, Cipher, Sealer, StreamKey, Total};

const NOW: Duration = Duration::ZERO;

fn golden() -> (Member<()>, StreamKey) {
    let key = StreamKey::generate(Cipher::preferred()).unwrap();
    (Member::golden(&key, 1 << 20, Duration::from_secs(1)), key)
}

fn knock(member: &mut Member<()>, key: &StreamKey, epoch: u64, to: u32) -> LinkId {
    let link = member.new_link();
    let name = LinkName { stream: key.stream, epoch: Epoch(epoch), from: NodeId::GOLDEN, to: NodeId(to) };
    member.on_knock(link, name);
    link
}

fn place(member: &mut Member<()>, epoch: u64, successor: u32) {
    let view = View {
        epoch: Epoch(epoch),
        predecessor: None,
        successor: Some(NodeId(successor)),
        secrets: Secrets::default(),
    };
    member.on_view(view, NOW);
}

fn accepted(member: &mut Member<()>) -> Vec<LinkId> {
    let accepted = |action: &Action<()>| match action {
        Action::Accept { link, .. } => Some(*link),
        _ => None,
    };
    member.take_actions().iter().filter_map(accepted).collect()
}

#[test]
fn strangers_at_the_door_do_not_keep_the_next_successor_out() {
    let (mut member, key) = golden();
    place(&mut member, 1, 1);
    for _ in 0..1000 {
        knock(&mut member, &key, u64::MAX, 9);
    }
    let closed = member.take_actions().iter().filter(|a| matches!(a, Action::Close { .. })).count();
    assert!(closed >= 900, "{closed}");
    let link = knock(&mut member, &key, 2, 2);
    place(&mut member, 2, 2);
    assert_eq!(accepted(&mut member), [link]);
}

#[test]
fn a_second_hello_is_told_of_and_the_link_is_lost() {
    let (mut member, key) = golden();
    place(&mut member, 1, 1);
    let link = knock(&mut member, &key, 1, 1);
    assert_eq!(accepted(&mut member), [link]);
    let hello = LinkMessage::Hello { verified: Offset(0), tail: Offset(0) };
    member.on_message(link, hello.clone(), NOW);
    assert_eq!(member.successor_link(), Some(link));
    member.on_message(link, hello, NOW);
    assert_eq!(member.successor_link(), None);
    let complaints: Vec<_> = member
        .take_actions()
        .into_iter()
        .filter_map(|action| if let Action::Complain(report) = action { Some(report.trouble) } else { None })
        .collect();
    assert_eq!(complaints, [Trouble::Impossible]);
}

#[test]
fn a_block_that_spoils_in_memory_is_told_and_not_skipped() {
    let key = StreamKey::generate(Cipher::preferred()).unwrap();
    // Without the check at its coming, a bad block is where one would be that has become bad.
    let rules = Rules { verified_positions: false, ..Rules::default() };
    let mut member = Member::node(NodeId(1), &key, 1 << 20, Duration::from_secs(1)).with_rules(rules);
    let predecessor = Some(Neighbour { id: NodeId::GOLDEN, address: () });
    member.on_view(View { epoch: Epoch(1), predecessor, successor: None, secrets: Secrets::default() }, NOW);
    let Some(Action::Dial { link, .. }) = member.take_actions().into_iter().next() else { panic!("no dial") };
    member.on_open(link, NOW);
    let mut bytes = Sealer::new(&key).seal(b"content").unwrap().bytes().to_vec();
    bytes[20] ^= 1;
    member.on_block(link, Block::from_wire(&bytes).unwrap(), NOW);
    member.on_tick(Duration::from_millis(100));
    assert_eq!(member.spoiled(), None);
    assert_eq!(member.next_plaintext(), None);
    assert_eq!(member.spoiled(), Some(0));
}

/// A short stream may be complete before the golden node knows who follows it. It must not take that for the
/// end of the chain: the controller would release a stream that no node has.
#[test]
fn what_is_produced_before_the_first_view_has_reached_nobody() {
    let (mut member, key) = golden();
    let total = Total { length: 0, hash: [0; 32], sha256: None };
    member.push(Sealer::new(&key).finish(&total).unwrap(), Some(total));
    assert!(member.verified() > Offset(0));
    assert_eq!(member.tail_position(), Offset(0));
    place(&mut member, 1, 1);
    assert_eq!(member.tail_position(), Offset(0), "its successor has nothing yet");
}
