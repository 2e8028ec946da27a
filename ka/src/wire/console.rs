//! The messages between a viewer on the golden node and a node's console.
//!
//! The viewer opens with one [`Open`], and the node answers with its state. A log, a command or a shell
//! follows. The node sends until it has nothing more to send, and both sides send [`ToNode::Alive`] and
//! [`ToViewer::Alive`] when idle. A node reads the log file at the viewer's pace, and a command's output only
//! as fast as it is taken, so it never buffers more than a few pieces for a viewer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of these messages. [`Open`] keeps its shape, so that each side can report the other's version.
pub const VERSION: u16 = 1;
/// The longest message from a viewer in bytes.
pub const MAX_REQUEST: usize = 160 << 10;
/// The longest command in bytes.
pub const MAX_COMMAND: usize = 128 << 10;
/// The longest of the other texts in bytes: the viewer's name and the terminal type.
pub const MAX_TEXT: usize = 256;
/// The most bytes of output, log or input in one message.
pub const MAX_PIECE: usize = 32 << 10;
/// The longest message from a node in bytes.
pub const MAX_ANSWER: usize = MAX_PIECE + 4096;
/// How often each side sends a sign of life.
pub const BEAT: Duration = Duration::from_secs(10);
/// How long a side may be silent.
pub const SILENCE: Duration = Duration::from_secs(60);

/// A message from a viewer to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// The first message, and only the first.
    Open(Open),
    /// Typed input.
    Input(Vec<u8>),
    /// The terminal's size has changed.
    Resize(Size),
    /// A sign of life from the viewer.
    Alive,
}

/// A viewer's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// [`VERSION`].
    pub version: u16,
    /// The viewer's name, for the node's log: `root@golden`.
    pub who: String,
    /// The purpose.
    pub request: Request,
}

/// The purpose of a console connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The node's current activity.
    State,
    /// The node's log.
    Log {
        /// How many bytes from its end; all of it if `None`.
        last: Option<u64>,
        /// Also follow it until the node reboots.
        follow: bool,
    },
    /// A shell command, run as root. Its output and exit status are returned; it has no input.
    Exec {
        /// The command.
        command: Vec<u8>,
    },
    /// A shell with a terminal.
    Shell {
        /// The terminal type, for `TERM`.
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

/// A message from a node to a viewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToViewer {
    /// The first answer.
    State(State),
    /// Part of the log, or of a shell's output.
    Bytes(Vec<u8>),
    /// Part of a command's standard error.
    Errors(Vec<u8>),
    /// The last message: everything requested has been sent.
    Ended(End),
    /// The last message: the request was refused.
    Refused {
        /// The reason.
        reason: String,
    },
    /// A sign of life from the node.
    Alive,
}

/// A node's current activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u16,
    /// The agent's version.
    pub agent: String,
    /// Milliseconds since the machine booted.
    pub uptime: u64,
    /// The node's current step; empty before the first one.
    pub step: String,
}

/// How a request ended.
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
    /// The exit status that a shell would show for this.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Exited(status) => status,
            Self::Killed(signal) => signal.saturating_add(128),
        }
    }
}

/// An [`Open`] that a node rejects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another version of ka.
    #[error(
        "the viewer speaks version {0} of the console's messages, this node {VERSION}: rebuild the nodes' image with kactl image"
    )]
    Version(u16),
    /// A value is too long.
    #[error("its {what} has {length} bytes, and at most {most} are allowed")]
    Long {
        /// Which one.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        most: usize,
    },
    /// A command that cannot be passed to a program.
    #[error("its command has a zero byte")]
    Zero,
}

impl Open {
    /// Creates an opening message of this version.
    #[must_use]
    pub fn new(who: String, request: Request) -> Self {
        Self { version: VERSION, who, request }
    }

    /// Checks whether a node may accept this message.
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

    /// Whether this may be asked of a node whose key is not known: the other end is not proven to be a
    /// certain machine.
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
