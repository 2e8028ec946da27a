//! The plain stream, read and decompressed in a thread of its own while what came before is written.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::relay::{StreamError, StreamReader};

/// Chunks that go round: one is filled while another is read. Each is of up to 2 MiB.
const CHUNKS: usize = 2;

/// What is read ahead.
pub(super) struct Ahead {
    full: Receiver<Result<Vec<u8>, StreamError>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
}

/// Does `work` with the plain stream, while another thread fetches it.
///
/// # Errors
/// The system's, when it has no thread left.
pub(super) fn read_ahead<T>(stream: &mut StreamReader, work: impl FnOnce(&mut Ahead) -> T) -> io::Result<T> {
    let (to_reader, full) = channel();
    let (empty, to_fill) = channel();
    for _ in 0..CHUNKS {
        give(Vec::new(), &empty);
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("inflate".into());
        thread.spawn_scoped(scope, move || fetch(stream, &to_fill, &to_reader))?;
        let mut ahead = Ahead { full, empty, chunk: Vec::new(), position: 0 };
        // When it returns early, the thread ends with the next chunk, which nobody takes.
        Ok(work(&mut ahead))
    })
}

fn fetch(stream: &mut StreamReader, empty: &Receiver<Vec<u8>>, full: &Sender<Result<Vec<u8>, StreamError>>) {
    while let Ok(mut chunk) = empty.recv() {
        let next = match stream.take_into(&mut chunk) {
            Ok(false) => return,
            Ok(true) => Ok(chunk),
            Err(error) => Err(error),
        };
        let ended = next.is_err();
        if full.send(next).is_err() || ended {
            return;
        }
    }
}

/// Who fetches may have come to the end.
fn give(chunk: Vec<u8>, empty: &Sender<Vec<u8>>) {
    let _ = empty.send(chunk);
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.chunk.len() {
            self.position = 0;
            let read = std::mem::take(&mut self.chunk);
            if read.capacity() > 0 {
                give(read, &self.empty);
            }
            if let Ok(next) = self.full.recv() {
                self.chunk = next.map_err(io::Error::other)?;
            }
        }
        Ok(self.chunk.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut there = self.fill_buf()?;
        let length = there.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
