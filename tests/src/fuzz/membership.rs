//! The controller's side of a chain under any sequence of heartbeats, complaints and outages.

use std::collections::BTreeSet;
use std::time::Duration;

use ka::chain::{Decision, Epoch, Membership, NodeId, Report, Trouble};

use super::input::Input;

const TROUBLES: [Trouble; 4] = [Trouble::Reset, Trouble::Silent, Trouble::Damaged, Trouble::Impossible];

pub(super) fn any_events(data: &[u8]) {
    let mut input = Input::new(data);
    let order: Vec<NodeId> = (1..=u32::from(input.below(10))).map(NodeId).collect();
    let mut now = Duration::ZERO;
    let mut membership = Membership::new(&order, Duration::from_millis(1500), now);
    let mut out = BTreeSet::new();
    while !input.is_empty() {
        let node = NodeId(input.below(11).into());
        let (epoch, chain) = (membership.epoch(), membership.chain().to_vec());
        let decisions = match input.below(8) {
            0 => {
                now += input.millis();
                membership.judge(now)
            }
            1 => {
                membership.on_disconnect(node);
                Vec::new()
            }
            2 => membership.expel(node, "it has failed".into(), input.byte() & 1 == 0),
            3 | 4 => {
                let epoch = Epoch((epoch.0 + u64::from(input.below(3))).saturating_sub(1));
                let report =
                    Report { epoch, about: NodeId(input.below(11).into()), trouble: input.one_of(&TROUBLES) };
                membership.on_complaint(node, report, now)
            }
            5 => {
                membership.chain().to_vec().into_iter().for_each(|id| membership.on_heartbeat(id, now));
                Vec::new()
            }
            _ => {
                membership.on_heartbeat(node, now);
                Vec::new()
            }
        };
        let mut gone = Vec::new();
        let mut announced = None;
        for decision in &decisions {
            match decision {
                Decision::Probe(node) => assert!(membership.chain().contains(node), "{node} is asked"),
                Decision::Expelled { node, reason, .. } => {
                    assert!(
                        chain.contains(node) && out.insert(*node) && !reason.to_string().is_empty(),
                        "{decision:?}"
                    );
                    gone.push(*node);
                }
                Decision::NewEpoch(epoch) => announced = Some(*epoch),
            }
        }
        let rest: Vec<NodeId> = chain.iter().copied().filter(|id| !gone.contains(id)).collect();
        assert_eq!(membership.chain(), rest, "nobody goes in silence");
        assert_eq!(membership.chain().first(), Some(&NodeId::GOLDEN));
        assert_eq!(announced, (membership.epoch() != epoch).then_some(membership.epoch()));
        assert!(membership.epoch() >= epoch && (gone.is_empty() || membership.epoch() > epoch));
        check_views(&membership);
    }
}

/// Neighbours agree on each other's identity.
fn check_views(membership: &Membership) {
    let mut before = None;
    for id in membership.chain() {
        let view = membership.view(*id, |_| Some(())).expect("a member has a place");
        assert_eq!((view.predecessor_id(), view.epoch), (before.map(|(id, _)| id), membership.epoch()));
        if let Some((_, successor)) = before {
            assert_eq!(successor, Some(*id));
        }
        before = Some((*id, view.successor));
    }
    assert_eq!(before.and_then(|(_, successor)| successor), None, "the tail has no successor");
}
