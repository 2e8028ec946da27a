//! Decides which end of a bad link is removed, by weighing the members' complaints against the stream's
//! progress.
//!
//! A complaint is only a claim, and an admitted node may lie. So a link is first reopened, and has time to
//! show what it carries before the next complaint counts. A receiver that makes progress is not removed on
//! the word of one neighbour: a node that keeps complaining about a working link is removed itself. If
//! nothing moves, one of the two ends must go. A node whose complaint already removed one neighbour is
//! removed itself the next time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ids::{NodeId, Offset};

/// How often a link is reopened without success before one of its ends is removed.
const CHANCES: u32 = 3;
/// How often a link is reopened if it works in between.
const MAX_COMPLAINTS: u32 = 8;
/// A reopened link has this fraction of the detection time to show what it carries.
const TRIAL: u32 = 3;
/// A link that was good for this many detection times gets its chances back: a stream may take hours, and
/// three resets in a day do not make a bad link.
pub(super) const FORGIVEN: u32 = 40;

/// A complaint about a link, and the known facts.
pub(super) struct Charge {
    /// The ends, in chain order.
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) reporter: NodeId,
    pub(super) about: NodeId,
    /// The receiver's position.
    pub(super) reached: Offset,
}

/// A link's recent trouble.
struct Record {
    /// How often it was bad, and how many of those times in a row without a byte in between.
    count: u32,
    in_vain: u32,
    last: Duration,
    reached: Offset,
}

/// The record of all links.
pub(super) struct Blame {
    dead_after: Duration,
    bad: BTreeMap<(NodeId, NodeId), Record>,
    /// The neighbours that each member has complained about until their removal.
    accused: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl Blame {
    pub(super) fn new(dead_after: Duration) -> Self {
        Self { dead_after, bad: BTreeMap::new(), accused: BTreeMap::new() }
    }

    /// Whether the link was reopened so recently that it has not yet shown what it carries.
    pub(super) fn is_on_trial(&self, from: NodeId, to: NodeId, now: Duration) -> bool {
        let recent = |record: &Record| now.saturating_sub(record.last) < self.dead_after / TRIAL;
        self.bad.get(&(from, to)).is_some_and(recent)
    }

    /// Counts a bad link. Returns the node to remove if the link is beyond repair.
    pub(super) fn charge(&mut self, charge: &Charge, now: Duration) -> Option<NodeId> {
        let Charge { from, to, reporter, about, reached } = *charge;
        let forgiven = self.dead_after * FORGIVEN;
        self.bad.retain(|_, record| now.saturating_sub(record.last) < forgiven);
        let record =
            self.bad.entry((from, to)).or_insert(Record { count: 0, in_vain: 0, last: now, reached });
        record.count += 1;
        record.in_vain = if reached > record.reached { 1 } else { record.in_vain + 1 };
        (record.last, record.reached) = (now, reached.max(record.reached));
        let stands_still = record.in_vain >= CHANCES;
        if !stands_still && record.count < MAX_COMPLAINTS {
            return None;
        }
        let said_by_another =
            self.accused.iter().any(|(other, accused)| *other != reporter && accused.contains(&about));
        let before = self.accused.entry(reporter).or_default();
        let repeats = reporter != NodeId::GOLDEN && before.iter().any(|other| *other != about);
        before.insert(about);
        let may_go = |node: NodeId| node != NodeId::GOLDEN;
        Some(if repeats {
            reporter
        } else if stands_still {
            if may_go(from) && self.receives_badly(from) { from } else { to }
        } else if may_go(about) && (said_by_another || !may_go(reporter)) {
            about
        } else {
            reporter
        })
    }

    /// Whether the link to this member is equally bad.
    fn receives_badly(&self, member: NodeId) -> bool {
        self.bad.iter().any(|((_, to), record)| *to == member && record.in_vain >= CHANCES)
    }
}
