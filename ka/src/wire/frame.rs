//! Frames: the pieces into which a TCP stream is cut.
//!
//! ```text
//! kind u8 | length u24, little-endian | body
//! ```

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};

use crate::seal::{Block, MAX_BLOCK};

const HEADER: usize = 4;
/// The largest body: a Noise message.
const MAX_BODY: usize = 65_535;
/// How much is taken from a connection at once.
const READ_SIZE: usize = 256 * 1024;
/// How many pieces one write hands to the system.
const SLICES: usize = 32;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of the handshake.
    Handshake = 0,
    /// The last, or only, piece of a sealed message.
    Message = 1,
    /// A piece of a sealed message that goes on.
    Piece = 2,
    /// A block of the stream.
    Block = 3,
}

/// A frame that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of kind {kind} with {length} bytes")]
pub struct FrameError {
    kind: u8,
    length: usize,
}

/// Cuts incoming bytes into frames.
#[derive(Default)]
pub(super) struct Incoming {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    /// Reads once from `from`; returns how many bytes came, 0 when the other side has closed.
    pub(super) fn read_from(&mut self, from: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        // Room for one whole frame at the least, or a frame at the buffer's end would never be whole.
        if self.buffer.len() - self.end < HEADER + MAX_BODY {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.buffer.len() < READ_SIZE {
                self.buffer.resize(if self.buffer.is_empty() { 4096 + MAX_BODY } else { READ_SIZE }, 0);
            }
        }
        let length = from.read(&mut self.buffer[self.end..])?;
        self.end += length;
        Ok(length)
    }

    /// The next whole frame's kind and body.
    pub(super) fn next_frame(&mut self) -> Result<Option<(Kind, &[u8])>, FrameError> {
        let bytes = &self.buffer[self.start..self.end];
        let Some((&[kind, a, b, c], rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let error = FrameError { kind, length };
        let (kind, most) = match kind {
            0 => (Kind::Handshake, 1024),
            1 => (Kind::Message, MAX_BODY),
            2 => (Kind::Piece, MAX_BODY),
            3 => (Kind::Block, MAX_BLOCK),
            _ => return Err(error),
        };
        if length > most {
            return Err(error);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let body = self.start + HEADER..self.start + HEADER + length;
        self.start = body.end;
        Ok(Some((kind, &self.buffer[body])))
    }
}

/// Frames on their way out.
#[derive(Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written already.
    written: usize,
    queued: usize,
}

enum Piece {
    Bytes(Vec<u8>),
    Block([u8; HEADER], Block),
}

impl Piece {
    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Bytes(bytes) => [bytes, &[]],
            Self::Block(header, block) => [header, block.bytes()],
        }
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

impl Outgoing {
    /// Queues a frame; `body` is at most [`MAX_BODY`] long.
    pub(super) fn push(&mut self, kind: Kind, body: &[u8]) {
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(&header(kind, body.len()));
        bytes.extend_from_slice(body);
        self.push_piece(Piece::Bytes(bytes));
    }

    /// Queues a block without a copy of its bytes.
    pub(super) fn push_block(&mut self, block: Block) {
        self.push_piece(Piece::Block(header(Kind::Block, block.bytes().len()), block));
    }

    fn push_piece(&mut self, piece: Piece) {
        self.queued += piece.len();
        self.pieces.push_back(piece);
    }

    /// Bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Writes what `to` takes; returns how many bytes it took.
    pub(super) fn write_to(&mut self, to: &mut impl Write) -> io::Result<usize> {
        let mut total = 0;
        while self.queued > 0 {
            let taken = {
                let mut skip = self.written;
                let mut slices = Vec::with_capacity(SLICES);
                for part in self.pieces.iter().take(SLICES / 2).flat_map(|piece| piece.parts()) {
                    let skipped = skip.min(part.len());
                    skip -= skipped;
                    if skipped < part.len() {
                        slices.push(IoSlice::new(&part[skipped..]));
                    }
                }
                match to.write_vectored(&slices) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(taken) => taken,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(total),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(e),
                }
            };
            total += taken;
            self.advance(taken);
        }
        Ok(total)
    }

    fn advance(&mut self, taken: usize) {
        self.queued -= taken;
        self.written += taken;
        while let Some(length) = self.pieces.front().map(Piece::len) {
            if self.written < length {
                break;
            }
            self.written -= length;
            self.pieces.pop_front();
        }
    }
}

fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    let [a, b, c, ..] = length.to_le_bytes();
    [kind as u8, a, b, c]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes only a few bytes at a time, as a full socket does.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 32..2000), 1..40),
            width in 1usize..4000,
        ) {
            let mut outgoing = Outgoing::default();
            for (i, body) in bodies.iter().enumerate() {
                match i % 2 {
                    0 => outgoing.push(Kind::Message, body),
                    _ => outgoing.push_block(Block::from_wire(body).unwrap()),
                }
            }
            let mut wire = Narrow(Vec::new(), width);
            outgoing.write_to(&mut wire).unwrap();
            prop_assert_eq!(outgoing.queued(), 0);

            let mut incoming = Incoming::default();
            let mut found = Vec::new();
            for mut piece in wire.0.chunks(width) {
                while incoming.read_from(&mut piece).unwrap() > 0 {}
                while let Some((_, body)) = incoming.next_frame().unwrap() {
                    found.push(body.to_vec());
                }
            }
            prop_assert_eq!(found, bodies);
        }
    }

    #[test]
    fn impossible_frames_are_refused() {
        for (bytes, kind, length) in [([4, 0, 0, 0], 4, 0), ([0, 1, 4, 0], 0, 1025), ([3, 1, 0, 1], 3, 65537)]
        {
            let mut incoming = Incoming::default();
            incoming.read_from(&mut &bytes[..]).unwrap();
            assert_eq!(incoming.next_frame(), Err(FrameError { kind, length }));
        }
    }
}
