//! Reads and decompresses the uncompressed stream in a separate thread while the writer works.
//!
//! Unpacking a tree costs the writer about as much time as decompression, so two threads take half the time.
//! The chunks' memory is recycled: there are never more than [`CHUNKS`] of them, and the kernel provides
//! their pages only once.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::StreamReader;

/// One chunk being filled, one waiting, one being written.
const CHUNKS: usize = 3;

/// The bytes of a stream that another thread reads.
pub struct Ahead {
    full: Receiver<io::Result<Vec<u8>>>,
    spare: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    left: Arc<AtomicBool>,
}

impl StreamReader {
    /// Passes the stream to `work` while another thread reads ahead. Afterwards the stream is at that
    /// thread's position: at its end, unless `work` returned earlier.
    pub fn ahead<T>(&mut self, work: impl FnOnce(&mut Ahead) -> T) -> T {
        let (to_writer, full) = channel();
        let (spare, empty) = channel();
        for _ in 0..CHUNKS {
            // The receiving end is in this function.
            let _ = spare.send(Vec::new());
        }
        let left = self.leaver();
        let done = thread::scope(|scope| {
            let reader = &mut *self;
            scope.spawn(move || read_all(reader, &empty, &to_writer));
            // Dropped before the scope ends; otherwise the thread would wait for it.
            let mut ahead = Ahead { full, spare, current: Vec::new(), position: 0, left: Arc::clone(&left) };
            work(&mut ahead)
        });
        left.store(false, Ordering::Release);
        done
    }
}

fn read_all(stream: &mut StreamReader, empty: &Receiver<Vec<u8>>, to_writer: &Sender<io::Result<Vec<u8>>>) {
    while let Ok(mut chunk) = empty.recv() {
        let read = stream.next_chunk(&mut chunk);
        let ended = read.is_err() || chunk.is_empty();
        if to_writer.send(read.map(|()| chunk)).is_err() || ended {
            return;
        }
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            self.position = 0;
            let used = std::mem::take(&mut self.current);
            // The thread may have reached the end, and then needs no more memory.
            let _ = self.spare.send(used);
            if let Ok(chunk) = self.full.recv() {
                self.current = chunk?;
            }
        }
        Ok(self.current.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.current.len());
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
    }
}
