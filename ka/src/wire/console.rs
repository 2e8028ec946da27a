//! What a viewer on the golden node and a node's console say to each other.
//!
//! The viewer opens with one [`Open`], and the node answers with its state. A log, a command or a shell follows; the node
//! sends until it has nothing more to say, and both sides send [`ToNode::Alive`] and [`ToViewer::Alive`] while they have
//! nothing else. A node reads the log's file at the viewer's pace and a command's output as far as it is taken, so it
//! never keeps more than a few pieces for a viewer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of these messages. [`Open`] keeps its shape, so that both sides can name the other's version.
pub const VERSION: u16 = 1;
/// The longest message of a viewer in bytes.
pub const MAX_REQUEST: usize = 160 << 10;
/// The longest command in bytes.
pub const MAX_COMMAND: usize = 128 << 10;
/// The longest text besides in bytes: who is at the other end, the terminal's kind.
pub const MAX_TEXT: usize = 256;
/// The most bytes of output, log or input in one message.
pub const MAX_PIECE: usize = 32 << 10;
/// The longest message of a node in bytes.
pub const MAX_ANSWER: usize = MAX_PIECE + 4096;
/// How often each side says that it is there.
pub const BEAT: Duration = Duration::from_secs(10);
/// How long a side may be silent.
pub const SILENCE: Duration = Duration::from_secs(60);

/// From a viewer to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// The first message, and only then.
    Open(Open),
    /// What was typed.
    Input(Vec<u8>),
    /// The terminal has another size.
    Resize(Size),
    /// The viewer is there.
    Alive,
}

/// What a viewer wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// [`VERSION`].
    pub version: u16,
    /// Who is at the other end, for the node's log: `root@golden`.
    pub who: String,
    /// What for.
    pub request: Request,
}

/// What a console is opened for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// What the node does now.
    State,
    /// The node's log.
    Log {
        /// How much of its end in bytes; all of it if none.
        last: Option<u64>,
        /// And what comes from now on, until the node reboots.
        follow: bool,
    },
    /// A shell command, run as root. Its output and exit status come back; it reads nothing.
    Exec {
        /// The command.
        command: Vec<u8>,
    },
    /// A shell with a terminal.
    Shell {
        /// The terminal's kind, for `TERM`.
        term: String,
        /// Its size.
        size: Size,
    },
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// From a node to a viewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToViewer {
    /// The first answer.
    State(State),
    /// Some of the log, or of what a shell shows.
    Bytes(Vec<u8>),
    /// Some of a command's standard error.
    Errors(Vec<u8>),
    /// The last word: all that was asked for has been sent.
    Ended(End),
    /// The last word: why not.
    Refused {
        /// Why.
        reason: String,
    },
    /// The node is there.
    Alive,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u16,
    /// The agent's version.
    pub agent: String,
    /// Milliseconds since the machine booted.
    pub uptime: u64,
    /// The step that the node is at; empty before the first one.
    pub step: String,
}

/// How what was asked for has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The log, or the state, is complete.
    Whole,
    /// The command or shell has exited with this status.
    Exited(u8),
    /// A signal ended it.
    Killed(u8),
}

impl End {
    /// The exit status that a shell would show.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Exited(status) => status,
            Self::Killed(signal) => signal.saturating_add(128),
        }
    }
}

/// An [`Open`] that a node does not follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another version of ka.
    #[error(
        "the viewer speaks version {0} of the console's messages, this node {VERSION}: rebuild the nodes' image with kactl image"
    )]
    Version(u16),
    /// Something is too long.
    #[error("its {what} has {length} bytes, and at most {most} are allowed")]
    Long {
        /// What.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        most: usize,
    },
    /// A command that no program can take.
    #[error("its command has a zero byte")]
    Zero,
}

impl Open {
    /// An opening of this version.
    #[must_use]
    pub fn new(who: String, request: Request) -> Self {
        Self { version: VERSION, who, request }
    }

    /// Whether a node may follow it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn check(&self) -> Result<(), OpenError> {
        if self.version != VERSION {
            return Err(OpenError::Version(self.version));
        }
        let short = |what, length, most| {
            if length > most { Err(OpenError::Long { what, length, most }) } else { Ok(()) }
        };
        short("name", self.who.len(), MAX_TEXT)?;
        match &self.request {
            Request::State | Request::Log { .. } => Ok(()),
            Request::Exec { command } => {
                short("command", command.len(), MAX_COMMAND)?;
                if command.contains(&0) { Err(OpenError::Zero) } else { Ok(()) }
            }
            Request::Shell { term, .. } => {
                short("terminal's kind", term.len(), MAX_TEXT)?;
                if term.contains('\0') { Err(OpenError::Zero) } else { Ok(()) }
            }
        }
    }

    /// Whether a node whose key is not known may be asked this: the other end is not proven to be a certain machine.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        matches!(self.request, Request::State | Request::Log { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_does_not_follow_is_named() {
        let open = |request| Open::new("root@golden".into(), request);
        let shell =
            |term: &str| open(Request::Shell { term: term.into(), size: Size { rows: 24, columns: 80 } });
        let exec = |command: &[u8]| open(Request::Exec { command: command.to_vec() });
        for good in [open(Request::State), shell("linux"), exec(b"uname -a"), exec(&[0xff; MAX_COMMAND])] {
            assert_eq!(good.check(), Ok(()));
        }
        for (bad, words) in [
            (Open { version: 9, ..open(Request::State) }, "version 9"),
            (Open { who: "x".repeat(257), ..open(Request::State) }, "its name has 257 bytes"),
            (exec(&[b'a'; MAX_COMMAND + 1]), "its command has"),
            (exec(b"a\0b"), "zero byte"),
            (shell("a\0"), "zero byte"),
            (shell(&"x".repeat(999)), "terminal's kind"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn every_message_fits_its_limit() {
        let open = Open::new("x".repeat(MAX_TEXT), Request::Exec { command: vec![b'x'; MAX_COMMAND] });
        let longest = postcard::to_stdvec(&ToNode::Open(open)).unwrap().len();
        assert!(longest <= MAX_REQUEST, "{longest}");
        let longest = postcard::to_stdvec(&ToViewer::Bytes(vec![0; MAX_PIECE])).unwrap().len();
        assert!(longest <= MAX_ANSWER, "{longest}");
    }

    #[test]
    fn a_signal_shows_as_in_a_shell() {
        assert_eq!([End::Whole, End::Exited(3), End::Killed(9)].map(End::status), [0, 3, 137]);
    }
}
