//! Turns stored chunks into the content of blocks: cut without regard to chunk borders, and copied once, to
//! where they are sealed.

use std::collections::VecDeque;

use ka::proof::{Root, Roots};
use ka::seal::chunk::{HEADER, header};

use super::compress::Stored;

/// Content that is not in a block yet.
#[derive(Default)]
pub(super) struct Content {
    pieces: VecDeque<Piece>,
    /// The number of bytes of the first piece that are already in a block.
    taken: usize,
    length: usize,
    roots: Roots,
}

enum Piece {
    Header([u8; HEADER]),
    Chunk(Stored),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Header(header) => header,
            Self::Chunk(chunk) => chunk.bytes(),
        }
    }
}

impl Content {
    /// Adds a chunk and updates the hash of all content, which is emitted at the end of each segment.
    pub(super) fn push(&mut self, chunk: Stored, mut segment: impl FnMut(Root)) {
        let header = header(chunk.kind(), chunk.uncompressed_length(), chunk.bytes().len());
        for piece in [Piece::Header(header), Piece::Chunk(chunk)] {
            self.roots.update(piece.bytes(), &mut segment);
            self.length += piece.bytes().len();
            self.pieces.push_back(piece);
        }
    }

    /// The number of bytes that are not in a block yet.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The root hash of everything added.
    pub(super) fn root(&self) -> Root {
        self.roots.root()
    }

    /// Takes the next `count` bytes, or all if there are fewer, as the pieces that hold them.
    pub(super) fn take<T>(&mut self, count: usize, seal: impl FnOnce(&[&[u8]]) -> T) -> T {
        let mut missing = count.min(self.length);
        let (mut start, mut whole) = (self.taken, 0);
        let mut slices = Vec::new();
        for piece in &self.pieces {
            if missing == 0 {
                break;
            }
            let bytes = &piece.bytes()[start..];
            let here = bytes.len().min(missing);
            slices.push(&bytes[..here]);
            missing -= here;
            if here < bytes.len() {
                start += here;
            } else {
                (start, whole) = (0, whole + 1);
            }
        }
        let sealed = seal(&slices);
        drop(slices);
        self.pieces.drain(..whole);
        (self.taken, self.length) = (start, self.length - count.min(self.length));
        sealed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ka::seal::chunk::{Chunk, Kind};

    use super::super::compress::Uncompressed;
    use super::*;

    #[test]
    fn content_is_the_chunks_in_their_order_however_it_is_cut() {
        for cut in [1, 2, 9, 10, 64, 1000, 5000] {
            let (mut content, mut expected, mut found) = (Content::default(), Vec::new(), Vec::new());
            let mut roots = Roots::default();
            for length in [1, 0, 300, 7, 1000] {
                let bytes = vec![b'0' + u8::try_from(length % 10).unwrap(); length];
                let kind = if length == 300 { Kind::Zstd } else { Kind::Uncompressed };
                Chunk { kind, uncompressed_length: length, bytes: bytes.clone() }.append_to(&mut expected);
                let bytes = bytes.into();
                content.push(
                    match kind {
                        Kind::Zstd => Stored::Packed(bytes, length),
                        Kind::Uncompressed => Stored::Uncompressed(Arc::new(Uncompressed { bytes, length })),
                    },
                    |_| (),
                );
                while content.length() >= cut {
                    found.extend(content.take(cut, |pieces| pieces.concat()));
                }
            }
            found.extend(content.take(cut, |pieces| pieces.concat()));
            assert_eq!((content.length(), &found), (0, &expected), "{cut}");
            roots.update(&expected, |_| ());
            assert_eq!(content.root(), roots.root());
        }
    }
}
