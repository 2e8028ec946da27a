//! The purpose of a connection: the only cleartext. It precedes the handshake and is bound into it.
//!
//! The answering side must know which secret to use, and for a data link that depends on stream, epoch and
//! the two ends. Nothing here is acted on before the handshake has proved it.

use super::PROTOCOL;
use crate::chain::{Epoch, LinkName, NodeId};
use crate::seal::StreamId;

const MAGIC: [u8; 2] = *b"KA";
const COMMON: usize = 5;
const LINK: usize = COMMON + 16 + 8 + 4 + 4;

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// An agent connects to the controller.
    Control,
    /// A member asks its predecessor for the stream.
    Link(LinkName),
    /// The controller wants a node's console.
    Console,
    /// The controller wants the log of a node whose key it does not know.
    ConsoleLog,
}

/// A first frame that does not begin like ka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PreambleError {
    /// Another protocol, or damage.
    #[error("not a ka connection")]
    Foreign,
    /// Another version of ka.
    #[error(
        "the other side speaks version {0} of ka's protocol, this side {PROTOCOL}: rebuild the nodes' images \
         with kactl image"
    )]
    Version(u16),
}

impl Preamble {
    /// The bytes that open the first frame.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&PROTOCOL.to_le_bytes());
        match self {
            Self::Control => bytes.push(0),
            Self::Console => bytes.push(2),
            Self::ConsoleLog => bytes.push(3),
            Self::Link(link) => {
                bytes.push(1);
                bytes.extend_from_slice(&link.stream.0);
                bytes.extend_from_slice(&link.epoch.0.to_le_bytes());
                bytes.extend_from_slice(&link.from.0.to_le_bytes());
                bytes.extend_from_slice(&link.to.0.to_le_bytes());
            }
        }
        bytes
    }

    /// The answer to a first frame of another version, before the connection is closed: without it, that side
    /// could only guess the cause. It contains only this side's version.
    #[must_use]
    pub fn other_version() -> Vec<u8> {
        [&MAGIC[..], &PROTOCOL.to_le_bytes()].concat()
    }

    /// The version of the side that sent this answer in place of a handshake, if it differs.
    #[must_use]
    pub fn refused_by(frame: &[u8]) -> Option<u16> {
        let &[m0, m1, v0, v1] = frame else { return None };
        let version = u16::from_le_bytes([v0, v1]);
        ([m0, m1] == MAGIC && version != PROTOCOL).then_some(version)
    }

    /// Splits the first frame into its preamble and the handshake message that follows.
    ///
    /// # Errors
    /// [`PreambleError`].
    pub fn split(frame: &[u8]) -> Result<(Self, &[u8]), PreambleError> {
        let (&[m0, m1, v0, v1, kind], _) =
            frame.split_first_chunk::<COMMON>().ok_or(PreambleError::Foreign)?;
        if [m0, m1] != MAGIC {
            return Err(PreambleError::Foreign);
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != PROTOCOL {
            return Err(PreambleError::Version(version));
        }
        match kind {
            0 => Ok((Self::Control, &frame[COMMON..])),
            1 => {
                let (link, rest) = frame.split_first_chunk::<LINK>().ok_or(PreambleError::Foreign)?;
                Ok((Self::Link(link_name(link)), rest))
            }
            2 => Ok((Self::Console, &frame[COMMON..])),
            3 => Ok((Self::ConsoleLog, &frame[COMMON..])),
            _ => Err(PreambleError::Foreign),
        }
    }
}

fn link_name(bytes: &[u8; LINK]) -> LinkName {
    fn field<const N: usize>(bytes: &[u8; LINK], at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&bytes[at..at + N]);
        field
    }
    LinkName {
        stream: StreamId(field(bytes, 5)),
        epoch: Epoch(u64::from_le_bytes(field(bytes, 21))),
        from: NodeId(u32::from_le_bytes(field(bytes, 29))),
        to: NodeId(u32::from_le_bytes(field(bytes, 33))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preamble_reads_back_with_what_follows() {
        let link =
            LinkName { stream: StreamId([3; 16]), epoch: Epoch(1 << 40), from: NodeId(0), to: NodeId(77) };
        for preamble in [Preamble::Control, Preamble::Link(link), Preamble::Console, Preamble::ConsoleLog] {
            let mut frame = preamble.to_bytes();
            frame.extend_from_slice(b"noise");
            assert_eq!(Preamble::split(&frame), Ok((preamble, &b"noise"[..])));
            for cut in 0..preamble.to_bytes().len() {
                assert_eq!(Preamble::split(&frame[..cut]), Err(PreambleError::Foreign), "{cut}");
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut frame = Preamble::Control.to_bytes();
        frame[2] = 9;
        assert_eq!(Preamble::split(&frame), Err(PreambleError::Version(9)));
        assert_eq!(Preamble::split(b"GET / HTTP/1.1"), Err(PreambleError::Foreign));
    }
}
