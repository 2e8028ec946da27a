//! The kinds of faults, the transfers that each applies to, and the reports that are true under each.

use crate::sim::random::Random;

/// What is sent, and to which sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A file, to files.
    File,
    /// A tree, to directories.
    Tree,
    /// A file, to commands.
    Command,
    /// Nothing: a disk is prepared.
    Nothing,
}

/// The injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A part of the disk cannot be written.
    WriteErrors,
    /// A part of the disk cannot be read.
    ReadErrors,
    /// A part of the disk accepts writes and does not keep them.
    LostWrites,
    /// The medium is shorter than it reports, and the data after its end are lost.
    Truncated,
    /// The storage below the disk is full.
    NoSpaceBelow,
    /// Each write takes 30 ms longer.
    SlowDisk,
    /// The disk no longer answers.
    HungDisk,
    /// The file system is shut down.
    ShutDown,
    /// The block bitmaps are damaged.
    DamagedBitmaps,
    /// The block bitmaps cannot be read.
    UnreadableBitmaps,
    /// The file system is full.
    Full,
    /// The process reaches its limit for file sizes.
    FileLimit,
    /// The receiver is killed.
    KilledReceiver,
    /// The controller is killed.
    KilledSender,
    /// The receiver is stopped, and continued later.
    StoppedReceiver,
    /// Two receivers have one target, and one of them is stopped and then killed.
    SameTarget,
    /// The command exits successfully before it has read everything.
    LeavesEarly,
    /// The command exits successfully without the last bytes, which are in the pipe.
    MissesTheEnd,
    /// The command fails.
    Fails,
    /// The command reads no more, and does not exit.
    TakesNoMore,
    /// The command's shell exits and its child continues; then the receiver is killed.
    ChildOfKilledReceiver,
    /// The same; then the controller is killed.
    ChildOfKilledSender,
    /// The reader of a FIFO leaves before it has read everything.
    FifoReaderLeaves,
    /// The FIFO has no reader.
    FifoWithoutReader,
    /// The sent file is truncated while it is read.
    SourceTruncated,
    /// The sent file is written while it is read.
    SourceRewritten,
    /// Files of the sent tree shrink and vanish while they are read.
    SourceTreeChanges,
    /// The command whose output is sent fails.
    SourceFails,
    /// A part of the sent file cannot be read.
    SourceUnreadable,
    /// A host's link is down for less than the detection time.
    CutShortly,
    /// A host's link is down for good.
    Cut,
    /// All frames are delayed.
    Delayed,
    /// Frames are reordered.
    Reordered,
    /// Frames are duplicated.
    Doubled,
    /// Bits are flipped.
    Flipped,
    /// `ka-agent disk apply` on a disk with a part that cannot be written.
    ApplyWriteErrors,
    /// The same on a disk with a part that cannot be read.
    ApplyReadErrors,
    /// The same on a disk that does not keep what is written.
    ApplyLostWrites,
    /// The same, killed.
    ApplyKilled,
    /// The same on a disk whose storage is full.
    ApplyNoSpaceBelow,
}

/// Which nodes a fault may bring down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// None.
    Nobody,
    /// Only the victim.
    Victim,
    /// Any.
    All,
}

use Fault::{
    ApplyKilled, ApplyLostWrites, ApplyNoSpaceBelow, ApplyReadErrors, ApplyWriteErrors,
    ChildOfKilledReceiver, ChildOfKilledSender, Cut, CutShortly, DamagedBitmaps, Delayed, Doubled, Fails,
    FifoReaderLeaves, FifoWithoutReader, FileLimit, Flipped, Full, HungDisk, KilledReceiver, KilledSender,
    LeavesEarly, LostWrites, MissesTheEnd, NoSpaceBelow, ReadErrors, Reordered, SameTarget, ShutDown,
    SlowDisk, SourceFails, SourceRewritten, SourceTreeChanges, SourceTruncated, SourceUnreadable,
    StoppedReceiver, TakesNoMore, Truncated, UnreadableBitmaps, WriteErrors,
};

/// All faults, in the order that the seeds refer to: new ones are added at the end.
const ALL: [Fault; 40] = [
    WriteErrors,
    ReadErrors,
    LostWrites,
    Truncated,
    NoSpaceBelow,
    SlowDisk,
    HungDisk,
    ShutDown,
    DamagedBitmaps,
    UnreadableBitmaps,
    Full,
    FileLimit,
    KilledReceiver,
    KilledSender,
    StoppedReceiver,
    SameTarget,
    LeavesEarly,
    MissesTheEnd,
    Fails,
    TakesNoMore,
    ChildOfKilledReceiver,
    ChildOfKilledSender,
    FifoReaderLeaves,
    FifoWithoutReader,
    SourceTruncated,
    SourceRewritten,
    SourceTreeChanges,
    SourceFails,
    SourceUnreadable,
    CutShortly,
    Cut,
    Delayed,
    Reordered,
    Doubled,
    Flipped,
    ApplyWriteErrors,
    ApplyReadErrors,
    ApplyLostWrites,
    ApplyKilled,
    ApplyNoSpaceBelow,
];

impl Fault {
    /// The faults in rotation, so that a campaign has all of them equally often.
    pub(super) fn of(seed: u64) -> Self {
        ALL[usize::try_from(seed % ALL.len() as u64).unwrap_or(0)]
    }

    /// The transfers that it applies to.
    pub(super) fn draw_sent(self, random: &mut Random) -> Sent {
        let choice: &[Sent] = match self {
            ApplyWriteErrors | ApplyReadErrors | ApplyLostWrites | ApplyKilled | ApplyNoSpaceBelow => {
                &[Sent::Nothing]
            }
            LeavesEarly
            | MissesTheEnd
            | Fails
            | TakesNoMore
            | ChildOfKilledReceiver
            | ChildOfKilledSender => &[Sent::Command],
            FifoReaderLeaves | FifoWithoutReader | SourceTruncated | SourceRewritten | SourceUnreadable
            | SourceFails | FileLimit => &[Sent::File],
            SourceTreeChanges => &[Sent::Tree],
            KilledReceiver | KilledSender | StoppedReceiver | CutShortly | Cut | Delayed | Reordered
            | Doubled | Flipped => &[Sent::File, Sent::Tree, Sent::Command],
            _ => &[Sent::File, Sent::Tree],
        };
        choice[random.index(choice.len())]
    }

    pub(super) fn fewest_nodes(self) -> u64 {
        if self == SameTarget { 2 } else { 1 }
    }

    /// Whether such an injection spends much of its time waiting.
    pub(super) fn is_long(self) -> bool {
        matches!(
            self,
            KilledSender
                | ChildOfKilledSender
                | Cut
                | HungDisk
                | TakesNoMore
                | FifoWithoutReader
                | SameTarget
        )
    }

    /// Whether it is below the victim's file system.
    pub(super) fn is_of_disk(self) -> bool {
        matches!(
            self,
            WriteErrors
                | ReadErrors
                | LostWrites
                | Truncated
                | NoSpaceBelow
                | SlowDisk
                | HungDisk
                | ShutDown
                | DamagedBitmaps
                | UnreadableBitmaps
        )
    }

    /// Whether it is a fault of the network.
    pub(super) fn is_of_wire(self) -> bool {
        matches!(self, CutShortly | Cut | Delayed | Reordered | Doubled | Flipped)
    }

    /// Whether a receiver's medium accepts data that it does not keep.
    pub(super) fn loses_silently(self) -> bool {
        matches!(self, LostWrites | Truncated)
    }

    /// The nodes that may fail because of it.
    pub(super) fn reach(self) -> Reach {
        match self {
            SlowDisk | CutShortly | Delayed | Reordered | Doubled => Reach::Nobody,
            KilledSender | ChildOfKilledSender | SourceTruncated | SourceRewritten | SourceTreeChanges
            | SourceFails | SourceUnreadable => Reach::All,
            // Of two receivers, the one that is not stopped may find the other in its place. A bad link has
            // two ends.
            SameTarget | Flipped => Reach::All,
            _ => Reach::Victim,
        }
    }

    /// The texts, in lower case, one of which a true reason contains.
    pub(super) fn words(self) -> &'static [&'static str] {
        const DISK: &[&str] = &[
            "input/output error",
            "i/o error",
            "could not read or write",
            "read-only",
            "damaged",
            "os error 117",
            "structure needs cleaning",
            "bad message",
            "shut down",
            "write error",
            "errors",
            "lost",
        ];
        const SILENT: &[&str] =
            &["gone silent", "heartbeats have ended", "been silent", "connection", "is unreachable"];
        match self {
            WriteErrors | ReadErrors | ShutDown | DamagedBitmaps | UnreadableBitmaps | ApplyWriteErrors
            | ApplyReadErrors => DISK,
            NoSpaceBelow | ApplyNoSpaceBelow => &[
                "no space",
                "could not read or write",
                "input/output error",
                "i/o error",
                "read-only",
                "write error",
                "errors",
                "damaged",
            ],
            LostWrites | Truncated | ApplyLostWrites => &[
                "input/output error",
                "could not read or write",
                "read back",
                "reads back",
                "differ",
                "damaged",
                "not what",
                "structure needs",
                "kept",
                "superblock",
                "os error",
                "has lost what was written",
                "checksum",
            ],
            HungDisk => &[
                "write everything out",
                "no progress",
                "at this step",
                "too slow",
                "slow",
                "does not answer",
                "no answer",
                "written nothing",
                "taken nothing",
            ],
            Full => &["no space"],
            FileLimit => &["too large", "file size", "larger than"],
            KilledReceiver | StoppedReceiver | Cut => SILENT,
            KilledSender => &["controller", "is unreachable", "connection"],
            SameTarget => &[
                "gone silent",
                "heartbeats have ended",
                "another",
                "other",
                "lock",
                "in use",
                "been silent",
                "no such file",
                "replaced",
            ],
            LeavesEarly | MissesTheEnd | FifoReaderLeaves => &[
                "accepts no more",
                "unread",
                "not read",
                "did not take",
                "did not read",
                "broken pipe",
                "left",
                "without",
            ],
            Fails => &["exit status: 7"],
            TakesNoMore => &[
                "slow",
                "no progress",
                "writer blocked",
                "accepts no",
                "at this step",
                "reads nothing",
                "written nothing",
                "taken nothing",
            ],
            ChildOfKilledReceiver => &[
                "gone silent",
                "heartbeats have ended",
                "been silent",
                "connection",
                "unread",
                "accepts no more",
                "not read",
            ],
            ChildOfKilledSender => {
                &["controller", "is unreachable", "connection", "unread", "accepts no more", "not read"]
            }
            FifoWithoutReader => &[
                "reader",
                "nothing reads",
                "no progress",
                "slow",
                "at this step",
                "pipe",
                "writer blocked",
                "taken nothing",
            ],
            SourceTruncated | SourceRewritten | SourceTreeChanges => {
                &["shrunk", "shorter", "changed", "truncated", "while it was read", "vanished", "gone"]
            }
            SourceFails => &["exit status: 3"],
            SourceUnreadable => &["could not read or write", "input/output error", "i/o error"],
            Flipped => &[
                "link",
                "bad",
                "damaged",
                "connection",
                "gone silent",
                "heartbeats have ended",
                "been silent",
                "controller",
                "is unreachable",
            ],
            SlowDisk | CutShortly | Delayed | Reordered | Doubled | ApplyKilled => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_is_drawn_twice_as_often() {
        for (i, fault) in ALL.iter().enumerate() {
            assert!(!ALL[..i].contains(fault), "{fault:?}");
        }
    }
}
