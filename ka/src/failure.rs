//! Why a node has no good copy, with the facts. It keeps its type from the place where it happens to the place where a
//! person or a program reads it; the words are made there, by `Display`.

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
    /// The verdict: another attempt may well succeed, because the cause was not the node's own.
    pub transient: bool,
    /// The stream with which it happened, if one had begun: a later round is another stream, and what was
    /// said of an earlier one, and is said again after an outage, must not count there.
    pub stream: Option<StreamId>,
}

/// What went wrong. What an operating system or a tool has said is text already; all else is a fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum FailureKind {
    /// The machine cannot become what the plan says, and nothing was written.
    #[error("{reason}")]
    Unfit {
        /// Why.
        reason: String,
    },
    /// A person, a list or the run's state did not let it in, and nothing was written.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A disk, a partition or a file system could not be made, written or read.
    #[error("{reason}")]
    Disk {
        /// Which and why.
        reason: String,
    },
    /// A medium gives back something else than was written.
    #[error("{reason}")]
    NotKept {
        /// Which, and where.
        reason: String,
    },
    /// A program failed or is missing.
    #[error("{reason}")]
    Tool {
        /// The program, how it ended and what it printed.
        reason: String,
    },
    /// The node's system refused something else.
    #[error("{reason}")]
    System {
        /// What.
        reason: String,
    },
    /// The stream is whole and could not be taken: not as the golden node made it, or too large for here.
    #[error("{reason}")]
    Stream {
        /// What is wrong.
        reason: String,
    },
    /// The stream was given up.
    #[error("{reason}")]
    Aborted {
        /// By whom, and why.
        reason: String,
    },
    /// What arrived is not what the golden node sent.
    #[error("{0}")]
    Forged(Forged),
    /// The stream failed because of what a neighbour handed over.
    #[error("{reason}{}", By(by.as_deref()))]
    Deceived {
        /// What the node said of it.
        reason: String,
        /// Which node it came from; none for the golden node, which is not to blame.
        by: Option<String>,
    },
    /// The node says that it is complete, with another stream than was sent.
    #[error("it says that it has {length} bytes of the stream, and that is not what the golden node sent")]
    WrongTotal {
        /// What it says.
        length: u64,
    },
    /// The session ended on one of its sides.
    #[error("{reason}")]
    Session {
        /// Why.
        reason: String,
    },
    /// Nothing was heard of it.
    #[error("nothing was heard of it for {} s", time.as_secs())]
    Silent {
        /// For this long.
        time: Duration,
    },
    /// It lives and makes no progress.
    #[error("{}", Stuck { at: *at, time: *time })]
    Stuck {
        /// With what.
        at: StuckAt,
        /// For this long.
        time: Duration,
    },
    /// The chain goes on without it.
    #[error("{reason}")]
    Removed {
        /// Why.
        reason: String,
    },
    /// It was let in, and was gone when the session began.
    #[error("disconnected before the session started")]
    Vanished,
    /// All steps are done, and some entries could not be here.
    #[error("{count} {}, such as {example}", NoteKind::EntryLost.words())]
    EntriesLost {
        /// How many.
        count: u64,
        /// The first, and why.
        example: String,
    },
    /// It has not reported that it runs from its own disk.
    #[error("it has not reported within {} s that it runs from its own disk", within.as_secs())]
    NotBooted {
        /// How long it had.
        within: Duration,
    },
}

/// With what a node makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StuckAt {
    /// One step.
    Step,
    /// Its work as a whole, with ever new steps.
    Work,
    /// Taking the stream that is there.
    Taking,
    /// Writing what it has taken.
    Writing,
    /// Writing it in time.
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

    /// The kind's name in every output that programs read. It never changes.
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

    /// The text of a node or a tool in it, which may be as long as the sender likes.
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
    /// A failure with a cause on the node itself.
    #[must_use]
    pub fn own(step: Step, kind: FailureKind) -> Self {
        Self { step, kind, transient: false, stream: None }
    }

    /// A failure whose cause was not the node's own.
    #[must_use]
    pub fn transient(step: Step, kind: FailureKind) -> Self {
        Self { step, kind, transient: true, stream: None }
    }

    /// The same, with this stream.
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
