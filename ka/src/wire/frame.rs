//! Frames: the pieces into which a TCP stream is cut.
//!
//! ```text
//! kind u8 | length u24, little-endian | body
//! ```

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use crate::seal::{Arrival, Block, MAX_BLOCK, Pool};

pub(super) const HEADER: usize = 4;
/// The largest body: one Noise message.
const MAX_BODY: usize = 65_535;
/// The memory for frames other than blocks: a few small ones, or one large one.
const BUFFER: usize = 4096 + MAX_BODY;
/// The bytes after a block that are read with it: messages, and the next block's header, so that the block
/// can go to its own memory.
const BEHIND: usize = 4096;
/// How many pieces one write passes to the system.
const SLICES: usize = 32;

/// The content of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of the handshake.
    Handshake = 0,
    /// The last, or only, piece of a sealed message.
    Message = 1,
    /// A piece of a sealed message that continues.
    Piece = 2,
    /// A block of the stream.
    Block = 3,
}

/// An invalid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of kind {kind} with {length} bytes")]
pub struct FrameError {
    kind: u8,
    length: usize,
}

/// A complete frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A handshake, a message or a piece of one.
    Bytes(Kind, &'a [u8]),
    /// A block, in memory of its own.
    Block(Block),
}

/// Splits incoming bytes into frames. Blocks, nearly all of the traffic, are read directly to their final
/// place.
#[derive(Default)]
pub(super) struct Incoming {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The largest block allowed. Memory is allocated for a block as soon as its header arrives, so no block
    /// is allowed before the other side has authenticated itself.
    largest: usize,
    /// A block that has been received in part; until it is complete, the buffer is empty.
    block: Option<Arrival>,
    /// The pool for blocks.
    pool: Pool,
    /// The length of the last frame if it was a block: the next one probably has the same length.
    likely: Option<usize>,
    drained: bool,
}

impl Incoming {
    /// Reads once from `from`. Returns the number of bytes read, or 0 when the other side has closed.
    pub(super) fn read_from(&mut self, from: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER, 0);
        }
        if let Some(block) = self.block.as_mut().filter(|block| block.missing() > 0) {
            let missing = block.missing();
            let mut slices = [IoSliceMut::new(block.room()), IoSliceMut::new(&mut self.buffer[..BEHIND])];
            let length = from.read_vectored(&mut slices)?;
            block.fill(length.min(missing));
            self.end = length.saturating_sub(missing);
            self.drained = length < missing + BEHIND;
            return Ok(length);
        }
        if let Some(length) = self.likely.filter(|_| self.start == self.end)
            && let Ok(block) = Arrival::new(length, &self.pool)
        {
            return self.read_likely(block, from);
        }
        // There must be room for at least one whole frame, or a frame at the buffer's end would never be
        // complete.
        if self.buffer.len() - self.end < HEADER + MAX_BODY {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() == self.end {
            // The earlier frames have not been taken.
            self.buffer.resize(self.end + BUFFER, 0);
        }
        let all = self.buffer.len() - self.end;
        let room = if self.likely.is_some() { BEHIND.min(all) } else { all };
        let length = from.read(&mut self.buffer[self.end..self.end + room])?;
        self.end += length;
        self.drained = length < room;
        Ok(length)
    }

    /// Reads once, header included, into the memory for a block like the last one. Anything else takes the
    /// usual path.
    fn read_likely(&mut self, mut block: Arrival, from: &mut impl Read) -> io::Result<usize> {
        let (mut head, expected) = ([0; HEADER], block.missing());
        let mut slices = [
            IoSliceMut::new(&mut head),
            IoSliceMut::new(block.room()),
            IoSliceMut::new(&mut self.buffer[..BEHIND]),
        ];
        let length = from.read_vectored(&mut slices)?;
        self.drained = length < HEADER + expected + BEHIND;
        let of_head = length.min(HEADER);
        let of_block = (length - of_head).min(expected);
        let behind = length - of_head - of_block;
        if head == header(Kind::Block, expected) && of_head == HEADER {
            block.fill(of_block);
            self.block = Some(block);
            (self.start, self.end) = (0, behind);
            return Ok(length);
        }
        self.likely = None;
        let mut bytes = Vec::with_capacity(BUFFER.max(length));
        bytes.extend_from_slice(&head[..of_head]);
        bytes.extend_from_slice(&block.room()[..of_block]);
        bytes.extend_from_slice(&self.buffer[..behind]);
        bytes.resize(bytes.capacity(), 0);
        self.buffer = bytes;
        (self.start, self.end) = (0, length);
        Ok(length)
    }

    /// Allows blocks from now on.
    pub(super) fn take_blocks(&mut self) {
        self.largest = MAX_BLOCK;
    }

    /// Frees the buffer if it is empty.
    pub(super) fn rest(&mut self) {
        if self.start == self.end && self.block.is_none() {
            (self.buffer, self.start, self.end) = (Vec::new(), 0, 0);
        }
    }

    /// Whether the last read has taken all available bytes.
    pub(super) fn drained(&self) -> bool {
        self.drained
    }

    /// The number of missing bytes of a partly received block.
    #[cfg(test)]
    fn missing(&self) -> usize {
        self.block.as_ref().map_or(0, Arrival::missing)
    }

    /// The next complete frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if self.block.is_some() {
            return Ok(self.whole_block());
        }
        let bytes = &self.buffer[self.start..self.end];
        let Some((&[kind, a, b, c], rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let error = FrameError { kind, length };
        let (kind, most) = match kind {
            0 => (Kind::Handshake, 1024),
            1 => (Kind::Message, MAX_BODY),
            2 => (Kind::Piece, MAX_BODY),
            3 => (Kind::Block, self.largest),
            _ => return Err(error),
        };
        if length > most {
            return Err(error);
        }
        self.likely = (kind == Kind::Block).then_some(length);
        let here = length.min(rest.len());
        if kind == Kind::Block {
            let mut block = Arrival::new(length, &self.pool).map_err(|_| error)?;
            block.room()[..here].copy_from_slice(&rest[..here]);
            block.fill(here);
            self.start += HEADER + here;
            self.block = Some(block);
            return Ok(self.whole_block());
        }
        if here < length {
            return Ok(None);
        }
        let body = self.start + HEADER..self.start + HEADER + length;
        self.start = body.end;
        Ok(Some(Frame::Bytes(kind, &self.buffer[body])))
    }

    fn whole_block(&mut self) -> Option<Frame<'static>> {
        match self.block.take()?.finish() {
            Ok(block) => Some(Frame::Block(block)),
            Err(arrival) => {
                self.block = Some(arrival);
                None
            }
        }
    }
}

/// Outgoing frames.
#[derive(Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are already written.
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
    /// Queues a frame; `body` has at most [`MAX_BODY`] bytes.
    pub(super) fn push(&mut self, kind: Kind, body: &[u8]) {
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(&header(kind, body.len()));
        bytes.extend_from_slice(body);
        self.push_piece(Piece::Bytes(bytes));
    }

    /// Queues a block without copying its bytes.
    pub(super) fn push_block(&mut self, block: Block) {
        self.push_piece(Piece::Block(header(Kind::Block, block.bytes().len()), block));
    }

    fn push_piece(&mut self, piece: Piece) {
        self.queued += piece.len();
        self.pieces.push_back(piece);
    }

    /// The number of waiting bytes.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Writes what `to` takes. Returns the number of bytes written.
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
                let offered: usize = slices.iter().map(|slice| slice.len()).sum();
                match to.write_vectored(&slices) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    // A connection that takes only a part is full.
                    Ok(taken) if taken < offered => {
                        self.advance(taken);
                        return Ok(total + taken);
                    }
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
            // Runs of blocks of equal length, as in a stream, with messages between them.
            frames in proptest::collection::vec(
                (0..3u8, any::<u8>(), prop_oneof![Just(100usize), Just(1000), 32..2000usize]), 1..40),
            width in 1usize..4000,
        ) {
            let mut outgoing = Outgoing::default();
            let mut sent = Vec::new();
            for (kind, byte, length) in frames {
                let body = vec![byte; length];
                match kind {
                    0 => outgoing.push(Kind::Message, &body),
                    _ => outgoing.push_block(Block::from_wire(&body).unwrap()),
                }
                sent.push((kind == 0, body));
            }
            let mut wire = Narrow(Vec::new(), width);
            while outgoing.queued() > 0 {
                outgoing.write_to(&mut wire).unwrap();
            }

            let mut incoming = Incoming::default();
            incoming.take_blocks();
            let mut found = Vec::new();
            for mut piece in wire.0.chunks(width) {
                while !piece.is_empty() {
                    incoming.read_from(&mut piece).unwrap();
                    while let Some(frame) = incoming.next_frame().unwrap() {
                        match frame {
                            Frame::Bytes(Kind::Message, body) => found.push((true, body.to_vec())),
                            Frame::Block(block) => found.push((false, block.bytes().to_vec())),
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                }
                prop_assert!(incoming.drained());
            }
            prop_assert_eq!((found, incoming.missing()), (sent, 0));
        }
    }

    #[test]
    fn no_memory_is_taken_for_the_block_of_a_stranger() {
        let mut incoming = Incoming::default();
        incoming.read_from(&mut &[3, 0, 0, 1][..]).unwrap();
        assert_eq!(incoming.next_frame(), Err(FrameError { kind: 3, length: 1 << 16 }));
    }

    #[test]
    fn impossible_frames_are_refused() {
        for (bytes, kind, length) in
            [([4, 0, 0, 0], 4, 0), ([0, 1, 4, 0], 0, 1025), ([3, 1, 0, 16], 3, MAX_BLOCK + 1)]
        {
            let mut incoming = Incoming::default();
            incoming.take_blocks();
            incoming.read_from(&mut &bytes[..]).unwrap();
            assert_eq!(incoming.next_frame(), Err(FrameError { kind, length }));
        }
    }
}
