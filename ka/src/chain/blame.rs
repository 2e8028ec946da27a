//! Which end of a bad link goes: what members say of each other, weighed against how far the stream gets.
//!
//! A complaint is a word, and an admitted node may lie. So a link is remade first, and has time to show what it carries
//! before the next complaint counts. A receiver that gets on is not taken out for what one neighbour says: whoever goes
//! on complaining of a link that works pays for it itself. Where nothing moves, one of the two ends must go, and whoever
//! has had that of one neighbour already goes itself the next time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ids::{NodeId, Offset};

/// How often a link is remade without success before one of its ends goes.
const CHANCES: u32 = 3;
/// How often a link is remade that works in between.
const MAX_COMPLAINTS: u32 = 8;
/// A link that was remade has this part of the detection time to show what it carries.
const TRIAL: u32 = 3;
/// A link that was good for so many detection times gets its chances again: a stream may take hours, and three resets
/// in a day are not a bad link.
pub(super) const FORGIVEN: u32 = 40;

/// What somebody says of a link, and what is known of it.
pub(super) struct Charge {
    /// The ends, in the order of the chain.
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) reporter: NodeId,
    pub(super) about: NodeId,
    /// How far the receiver has got.
    pub(super) reached: Offset,
}

/// A link's trouble of late.
struct Record {
    /// How often it was bad, and how often of that in a row without a byte in between.
    count: u32,
    in_vain: u32,
    last: Duration,
    reached: Offset,
}

/// What has been said of all links.
pub(super) struct Blame {
    dead_after: Duration,
    bad: BTreeMap<(NodeId, NodeId), Record>,
    /// Of whom each member has complained to the end.
    accused: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl Blame {
    pub(super) fn new(dead_after: Duration) -> Self {
        Self { dead_after, bad: BTreeMap::new(), accused: BTreeMap::new() }
    }

    /// Whether the link was remade so lately that it has not shown yet what it carries.
    pub(super) fn is_on_trial(&self, from: NodeId, to: NodeId, now: Duration) -> bool {
        let recent = |record: &Record| now.saturating_sub(record.last) < self.dead_after / TRIAL;
        self.bad.get(&(from, to)).is_some_and(recent)
    }

    /// Counts a bad link; returns who goes, if it is beyond healing.
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

    /// Whether the link to this member is as bad.
    fn receives_badly(&self, member: NodeId) -> bool {
        self.bad.iter().any(|((_, to), record)| *to == member && record.in_vain >= CHANCES)
    }
}
