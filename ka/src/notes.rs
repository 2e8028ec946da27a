//! What is no failure, and what a person must hear of all the same: counted by kind.
//!
//! A log line per file is read by nobody. So whoever leaves something out, or cannot vouch for it, counts it as well:
//! the golden node while it reads, each node while it writes and finishes. The counts travel to the controller with an
//! example of each kind, and the summary, the JSON object and the journal show them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was noted. Add a kind here and its words below; nothing else has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NoteKind {
    /// A file changed while the golden node read it.
    Changed,
    /// The golden node left something out: a socket, another device, what vanished.
    LeftOut,
    /// A file system could not hold an attribute.
    AttributeLost,
    /// A flag or project id of an inode could not be set.
    InodeFlagLost,
    /// Another mount or subvolume was left out.
    MountLeftOut,
    /// A file system could not hold a time as it is.
    TimeLost,
    /// An entry could not be made where it should be.
    EntryLost,
    /// A file that nobody could change (`chattr +i`, `+a`) was replaced all the same.
    ImmutableReplaced,
    /// Files under fscrypt or fs-verity came without it.
    ProtectionLost,
    /// A partition is not where the description puts it.
    Placement,
    /// A setting of a golden file system was not made again.
    Setting,
    /// A step of the finish was left out, or ended with a warning.
    Finish,
    /// Something still names the golden machine.
    GoldenName,
    /// Other software's identity of the golden machine was kept.
    Identity,
    /// The firmware's menu has no entry for the node.
    FirmwareMenu,
}

impl NoteKind {
    /// Its name in JSON, which scripts may rely on.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::LeftOut => "left_out",
            Self::AttributeLost => "attribute_lost",
            Self::InodeFlagLost => "inode_flag_lost",
            Self::MountLeftOut => "mount_left_out",
            Self::TimeLost => "time_lost",
            Self::EntryLost => "entry_lost",
            Self::ImmutableReplaced => "immutable_replaced",
            Self::ProtectionLost => "protection_lost",
            Self::Placement => "placement",
            Self::Setting => "setting",
            Self::Finish => "finish",
            Self::GoldenName => "golden_name",
            Self::Identity => "identity",
            Self::FirmwareMenu => "firmware_menu",
        }
    }

    /// What happened, after a number.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Changed => "changed while read",
            Self::LeftOut => "left out of the stream",
            Self::AttributeLost => "attributes lost",
            Self::InodeFlagLost => "inode flags lost",
            Self::MountLeftOut => "mounts and subvolumes left out",
            Self::TimeLost => "times lost",
            Self::EntryLost => "entries NOT delivered",
            Self::ImmutableReplaced => "immutable files replaced",
            Self::ProtectionLost => "files without their encryption or verity",
            Self::Placement => "partitions placed elsewhere",
            Self::Setting => "file system settings not kept",
            Self::Finish => "warnings of the finish",
            Self::GoldenName => "places name the golden node",
            Self::Identity => "lists of other software's identities kept",
            Self::FirmwareMenu => "without an entry in the firmware's menu",
        }
    }
}

/// How often something was noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How often.
    pub count: u64,
    /// The first one, as a person reads it.
    pub example: String,
}

/// What was noted, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally(BTreeMap<NoteKind, Counted>);

impl Tally {
    /// The longest example, in bytes: one for each kind travels, however many files there are.
    pub const MAX_EXAMPLE: usize = 300;

    /// Counts one.
    pub fn add(&mut self, kind: NoteKind, example: &str) {
        self.add_many(kind, 1, example);
    }

    /// Counts what was counted elsewhere as well.
    pub fn merge(&mut self, other: &Self) {
        for (kind, counted) in &other.0 {
            self.add_many(*kind, counted.count, &counted.example);
        }
    }

    fn add_many(&mut self, kind: NoteKind, count: u64, example: &str) {
        let counted = self.0.entry(kind).or_insert_with(|| Counted { count: 0, example: shortened(example) });
        counted.count = counted.count.saturating_add(count);
    }

    /// The same within the limits: what another host sends may have none.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let mut bounded = Self::default();
        bounded.merge(self);
        bounded
    }

    /// The kinds that were noted, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (NoteKind, &Counted)> {
        self.0.iter().map(|(kind, counted)| (*kind, counted))
    }

    /// How often this kind was noted.
    #[must_use]
    pub fn count(&self, kind: NoteKind) -> u64 {
        self.0.get(&kind).map_or(0, |counted| counted.count)
    }

    /// Nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn shortened(example: &str) -> String {
    let mut end = example.len().min(Tally::MAX_EXAMPLE);
    while !example.is_char_boundary(end) {
        end -= 1;
    }
    example.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_counted_with_a_short_example() {
        let mut tally = Tally::default();
        assert!(tally.is_empty());
        tally.add(NoteKind::Changed, &"ä".repeat(200));
        tally.add(NoteKind::Changed, "b");
        let mut other = Tally::default();
        other.add(NoteKind::AttributeLost, "c");
        tally.merge(&other);
        tally.merge(&other);
        let seen: Vec<_> = tally.iter().map(|(kind, n)| (kind.name(), n.count, n.example.len())).collect();
        assert_eq!(seen, [("changed", 2, 300), ("attribute_lost", 2, 1)]);
    }

    #[test]
    fn what_another_host_sends_is_cut() {
        let long = Counted { count: 3, example: "x".repeat(1 << 20) };
        let sent = Tally(BTreeMap::from([(NoteKind::Finish, long)]));
        let seen = sent.bounded();
        let (_, counted) = seen.iter().next().unwrap();
        assert_eq!((counted.count, counted.example.len()), (3, Tally::MAX_EXAMPLE));
    }
}
