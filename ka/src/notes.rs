//! Notes: events that are not failures, but that the operator must know, counted by kind.
//!
//! A log line per file is too much to read. So code that leaves something out, or cannot vouch for it, also
//! counts it: the golden node while it reads, each node while it writes and finishes. The controller receives
//! the counts with an example of each kind, and the summary, the JSON object and the journal show them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The kind of a note. To add one, add it here and its words below; no other code depends on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NoteKind {
    /// A file changed while the golden node read it.
    Changed,
    /// The golden node left something out: a socket, another device, a file that vanished.
    LeftOut,
    /// A file system could not hold an attribute.
    AttributeLost,
    /// An inode flag or project id could not be set.
    InodeFlagLost,
    /// Another mount or subvolume was left out.
    MountLeftOut,
    /// A file system could not store a time exactly.
    TimeLost,
    /// An entry could not be created in its place.
    EntryLost,
    /// An immutable file (`chattr +i`, `+a`) was replaced nevertheless.
    ImmutableReplaced,
    /// Files under fscrypt or fs-verity arrived without that protection.
    ProtectionLost,
    /// A partition is not at the position in the description.
    Placement,
    /// A setting of a golden file system was not reproduced.
    Setting,
    /// A step of the finish was skipped, or ended with a warning.
    Finish,
    /// A file still names the golden machine.
    GoldenName,
    /// Another program's identity of the golden machine was kept.
    Identity,
    /// The firmware's menu has no entry for the node.
    FirmwareMenu,
}

impl NoteKind {
    /// Its name in JSON. Scripts may rely on it.
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

    /// The text that follows a number.
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

/// The count of one kind of note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The number.
    pub count: u64,
    /// The first one, as text for display.
    pub example: String,
}

/// The notes, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally(BTreeMap<NoteKind, Counted>);

impl Tally {
    /// The longest example, in bytes: one per kind travels, however many files there are.
    pub const MAX_EXAMPLE: usize = 300;

    /// Counts one note.
    pub fn add(&mut self, kind: NoteKind, example: &str) {
        self.add_many(kind, 1, example);
    }

    /// Adds the counts of another tally.
    pub fn merge(&mut self, other: &Self) {
        for (kind, counted) in &other.0 {
            self.add_many(*kind, counted.count, &counted.example);
        }
    }

    fn add_many(&mut self, kind: NoteKind, count: u64, example: &str) {
        let counted = self.0.entry(kind).or_insert_with(|| Counted { count: 0, example: shortened(example) });
        counted.count = counted.count.saturating_add(count);
    }

    /// The same tally, cut to the limits: one from another host may exceed them.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let mut bounded = Self::default();
        bounded.merge(self);
        bounded
    }

    /// The noted kinds with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (NoteKind, &Counted)> {
        self.0.iter().map(|(kind, counted)| (*kind, counted))
    }

    /// The count of this kind.
    #[must_use]
    pub fn count(&self, kind: NoteKind) -> u64 {
        self.0.get(&kind).map_or(0, |counted| counted.count)
    }

    /// Whether nothing was noted.
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
