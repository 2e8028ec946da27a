//! Unpacks a stored stream as `ka-agent receive --dir` does, as fast as it can, for `make bench` to time
//! beside `zstd -d | tar x`.
//!
//! `unpack_cost FILE DIR` opens the sealed blocks that `pack_cost` stored in `FILE`, decompresses and
//! unpacks them into `DIR`. The same allocator as in the agent: it is part of the speed.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use ka::chain::{Offset, Plaintext};
use ka::seal::{Block, Opener, StreamKey};
use ka_agent::receive::Sink;
use ka_net::relay::{BATCHES, StreamReader};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// What the relay hands out at once.
const BATCH: usize = 256 << 10;

type BoxError = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: unpack_cost FILE DIR".into());
    };
    let file = BufReader::with_capacity(1 << 18, std::fs::File::open(file)?);
    let (to_reader, plaintext) = sync_channel(BATCHES);
    let opened = thread::spawn(move || open_all(file, &to_reader));
    let mut reader = StreamReader::without_relay(plaintext, |_| (), Arc::default())?;
    Sink::Dir(directory.into()).receive(&mut reader)?;
    reader.finish()?;
    opened.join().map_err(|_| "the reading thread has panicked")?
}

fn open_all(mut file: impl BufRead, to_reader: &SyncSender<Plaintext>) -> Result<(), BoxError> {
    let mut line = String::new();
    file.read_line(&mut line)?;
    let opener = Opener::new(&serde_json::from_str::<StreamKey>(&line)?);
    let (mut number, mut end) = (0, 0);
    while !file.fill_buf()?.is_empty() {
        let (mut bytes, mut total) = (Vec::with_capacity(BATCH), None);
        while bytes.len() < BATCH && !file.fill_buf()?.is_empty() {
            let mut length = [0; 4];
            file.read_exact(&mut length)?;
            let mut sealed = vec![0; u32::from_le_bytes(length) as usize];
            file.read_exact(&mut sealed)?;
            end += sealed.len() as u64;
            total = opener.open(&Block::from_wire(&sealed)?, number, &mut bytes)?;
            number += 1;
        }
        to_reader
            .send(Plaintext { bytes: bytes.into(), total, end: Offset(end), from: None })
            .map_err(|_| "the reader has ended")?;
    }
    Ok(())
}
