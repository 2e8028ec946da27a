//! Packs a directory as `kactl send --dir` does, as fast as it can, for `make bench` to time beside `tar |
//! zstd`.
//!
//! `pack_cost DIR FILE` walks, hashes, compresses and seals as for a chain that never waits, and stores the
//! sealed blocks in `FILE`, each after its length. The key is in front of them: `unpack_cost` reads that.

use std::error::Error;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::thread;

use ka::seal::{Cipher, StreamKey};
use ka_net::relay::QUEUE;
use kactl::stream::produce::{Account, produce};
use kactl::stream::settings::Settings;
use kactl::stream::source::DirectorySource;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(directory), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pack_cost DIR FILE".into());
    };
    let key = StreamKey::generate(Cipher::preferred())?;
    let mut out = BufWriter::with_capacity(1 << 18, std::fs::File::create(file)?);
    out.write_all(&serde_json::to_vec(&key)?)?;
    out.write_all(b"\n")?;
    let (blocks, produced) = sync_channel(QUEUE);
    thread::scope(|scope| {
        let source = DirectorySource(directory);
        let producer = scope.spawn(move || {
            produce(&source, &key, &blocks, &|| (), (&Account::default(), Settings::default()))
        });
        for (block, _) in produced {
            out.write_all(&u32::try_from(block.bytes().len())?.to_le_bytes())?;
            out.write_all(block.bytes())?;
        }
        producer.join().map_err(|_| "the producer has panicked")??;
        Ok(out.flush()?)
    })
}
