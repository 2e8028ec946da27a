//! Why a node has no good copy, with the facts. The error keeps its type from its origin to the place where a
//! person or a program reads it. Only there does `Display` create the text.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::notes::NoteKind;
use crate::proof::Forged;
use crate::seal::StreamId;
use crate::step::Step;

/// Why a node has no good copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// What went wrong.
    pub kind: FailureKind,
    /// The verdict: another attempt may succeed, because the cause was not the node's own.
    pub transient: bool,
    /// The stream in which it happened, if one had begun. A later round is another stream, and a report about
    /// an earlier one that is repeated after an outage must not count there.
    pub stream: Option<StreamId>,
}

/// What went wrong. Messages of the operating system or of a tool are already text; everything else is a
/// fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum FailureKind {
    /// The plan does not suit the machine, and nothing was written.
    #[error("{reason}")]
    Unfit {
        /// The reason.
        reason: String,
    },
    /// The operator, a list or the run's state did not admit it, and nothing was written.
    #[error("{reason}")]
    Refused {
        /// The reason.
        reason: String,
    },
    /// A disk, a partition or a file system could not be created, written or read.
    #[error("{reason}")]
    Disk {
        /// The object and the reason.
        reason: String,
    },
    /// A medium returns other data than was written.
    #[error("{reason}")]
    NotKept {
        /// The medium and the position.
        reason: String,
    },
    /// A program failed or is missing.
    #[error("{reason}")]
    Tool {
        /// The program, its exit status and its output.
        reason: String,
    },
    /// The node's system refused another operation.
    #[error("{reason}")]
    System {
        /// The operation and the error.
        reason: String,
    },
    /// The stream is complete and could not be unpacked: it is not as the golden node made it, or too large
    /// for this node.
    #[error("{reason}")]
    Stream {
        /// The problem.
        reason: String,
    },
    /// The stream was given up.
    #[error("{reason}")]
    Aborted {
        /// Which side gave it up, and why.
        reason: String,
    },
    /// The received data differs from what the golden node sent.
    #[error("{0}")]
    Forged(Forged),
    /// The stream failed because of the data that a neighbour sent.
    #[error("{reason}{}", By(by.as_deref()))]
    Deceived {
        /// The node's own report.
        reason: String,
        /// The node that sent the data; `None` for the golden node, which is not to blame.
        by: Option<String>,
    },
    /// The node reports a complete copy of a stream other than the one sent.
    #[error("it says that it has {length} bytes of the stream, and that is not what the golden node sent")]
    WrongTotal {
        /// The length that it reports.
        length: u64,
    },
    /// One side ended the session.
    #[error("{reason}")]
    Session {
        /// The reason.
        reason: String,
    },
    /// The node was silent.
    #[error("it has been silent for {} s", time.as_secs())]
    Silent {
        /// For this long.
        time: Duration,
    },
    /// The node is alive and makes no progress.
    #[error("{}", Stuck { at: *at, time: *time })]
    Stuck {
        /// The stuck activity.
        at: StuckAt,
        /// For this long.
        time: Duration,
    },
    /// The chain continues without it.
    #[error("{reason}")]
    Removed {
        /// The reason.
        reason: String,
    },
    /// The machine was admitted, but gone when the session began.
    #[error("disconnected before the session started")]
    Vanished,
    /// All steps are done, but some entries could not be stored here.
    #[error("{count} {}, such as {example}", NoteKind::EntryLost.words())]
    EntriesLost {
        /// Their number.
        count: u64,
        /// The first one, with the reason.
        example: String,
    },
    /// The node has not reported that it runs from its own disk.
    #[error("it has not reported within {} s that it runs from its own disk", within.as_secs())]
    NotBooted {
        /// The time limit.
        within: Duration,
    },
}

/// An activity in which a node makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StuckAt {
    /// One step.
    Step,
    /// Its work as a whole, with new steps all the time.
    Work,
    /// Taking the available data of the stream.
    Taking,
    /// Writing the data that it has taken.
    Writing,
    /// Writing the data in time.
    WritingSlowly,
}

struct Stuck {
    at: StuckAt,
    time: Duration,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs();
        match self.at {
            StuckAt::Step => write!(f, "it has been at this step for {seconds} s"),
            StuckAt::Work => write!(f, "it has been at work for {seconds} s, and never came to its end"),
            StuckAt::Taking => write!(f, "it has taken nothing of the stream for {seconds} s"),
            StuckAt::Writing => write!(f, "it has all data, and has written nothing for {seconds} s"),
            StuckAt::WritingSlowly => write!(f, "it has all data, and has not written it within {seconds} s"),
        }
    }
}

struct By<'a>(Option<&'a str>);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(node) => write!(f, ": it came from {node}"),
            None => write!(f, ", though it came from the golden node itself"),
        }
    }
}

impl FailureKind {
    /// The names of all kinds.
    pub const NAMES: [&str; 17] = [
        "unfit",
        "refused",
        "vanished",
        "disk",
        "not_kept",
        "tool",
        "system",
        "stream",
        "aborted",
        "forged",
        "wrong_total",
        "session",
        "silent",
        "stuck",
        "removed",
        "entries_lost",
        "not_booted",
    ];

    /// The kind's name in every output for programs. It never changes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unfit { .. } => "unfit",
            Self::Refused { .. } => "refused",
            Self::Disk { .. } => "disk",
            Self::NotKept { .. } => "not_kept",
            Self::Tool { .. } => "tool",
            Self::System { .. } => "system",
            Self::Stream { .. } => "stream",
            Self::Aborted { .. } => "aborted",
            Self::Forged(_) | Self::Deceived { .. } => "forged",
            Self::WrongTotal { .. } => "wrong_total",
            Self::Session { .. } => "session",
            Self::Silent { .. } => "silent",
            Self::Stuck { .. } => "stuck",
            Self::Removed { .. } => "removed",
            Self::Vanished => "vanished",
            Self::EntriesLost { .. } => "entries_lost",
            Self::NotBooted { .. } => "not_booted",
        }
    }

    /// A node's or tool's text in it, which may be as long as the sender likes.
    pub fn text_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Unfit { reason }
            | Self::Refused { reason }
            | Self::Disk { reason }
            | Self::NotKept { reason }
            | Self::Tool { reason }
            | Self::System { reason }
            | Self::Stream { reason }
            | Self::Aborted { reason }
            | Self::Deceived { reason, .. }
            | Self::Session { reason }
            | Self::Removed { reason } => Some(reason),
            Self::EntriesLost { example, .. } => Some(example),
            Self::Forged(_)
            | Self::WrongTotal { .. }
            | Self::Silent { .. }
            | Self::Stuck { .. }
            | Self::Vanished
            | Self::NotBooted { .. } => None,
        }
    }
}

impl Failure {
    /// Creates a failure with a cause on the node itself.
    #[must_use]
    pub fn own(step: Step, kind: FailureKind) -> Self {
        Self { step, kind, transient: false, stream: None }
    }

    /// Creates a failure with a cause outside the node.
    #[must_use]
    pub fn transient(step: Step, kind: FailureKind) -> Self {
        Self { step, kind, transient: true, stream: None }
    }

    /// The same failure, in this stream.
    #[must_use]
    pub fn with(self, stream: impl Into<Option<StreamId>>) -> Self {
        Self { stream: stream.into(), ..self }
    }
}

/// The step and the reason.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_made_of_the_facts() {
        let stuck = FailureKind::Stuck { at: StuckAt::Writing, time: Duration::from_millis(61_900) };
        let failure = Failure::own(Step::WriteOut, stuck);
        assert_eq!(
            failure.to_string(),
            "write everything out: it has all data, and has written nothing for 61 s"
        );
        assert_eq!((failure.kind.name(), failure.transient), ("stuck", false));
        assert!(FailureKind::NAMES.contains(&failure.kind.name()));
        let by = |by: Option<&str>| {
            FailureKind::Deceived { reason: "it is not it".into(), by: by.map(Into::into) }.to_string()
        };
        assert_eq!(by(Some("pc7")), "it is not it: it came from pc7");
        assert_eq!(by(None), "it is not it, though it came from the golden node itself");
    }
}
