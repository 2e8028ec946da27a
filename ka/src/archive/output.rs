//! What an archive is written to.

use std::io::{self, BufWriter, Write};

/// Takes bytes, and shows where the next ones are to be: what is read to there needs no copy.
pub trait Output: Write {
    /// Room for at least one byte.
    fn room(&mut self) -> &mut [u8];

    /// So many bytes of the room come next.
    ///
    /// # Errors
    /// Nobody takes them any more.
    fn fill(&mut self, count: usize) -> io::Result<()>;
}

impl<T: Output + ?Sized> Output for &mut T {
    fn room(&mut self) -> &mut [u8] {
        (**self).room()
    }

    fn fill(&mut self, count: usize) -> io::Result<()> {
        (**self).fill(count)
    }
}

/// Any writer, with room of its own before it.
#[derive(Debug)]
pub struct Roomy<W: Write> {
    out: BufWriter<W>,
    room: Vec<u8>,
}

impl<W: Write> Roomy<W> {
    /// `out` with `size` bytes of room.
    pub fn new(out: W, size: usize) -> Self {
        Self { out: BufWriter::with_capacity(size, out), room: vec![0; size.max(1)] }
    }
}

impl<W: Write> Write for Roomy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Output for Roomy<W> {
    fn room(&mut self) -> &mut [u8] {
        &mut self.room
    }

    fn fill(&mut self, count: usize) -> io::Result<()> {
        self.out.write_all(&self.room[..count])
    }
}
