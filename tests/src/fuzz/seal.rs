//! Blocks and chunks.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock};
use std::{io::Read, time::Duration};

use ka::chain::{Member, NodeId, Offset, Plaintext};
use ka::seal::chunk::{Chunk, Kind, MAX_CHUNK};
use ka::seal::{Block, Cipher, Opener, Sealer, StreamKey, Total};
use ka_net::relay::{Feed, Relay, StreamReader};
use sha2::{Digest, Sha256};

use super::input::Input;

struct Stream {
    blocks: Vec<Block>,
    plaintext: Vec<Vec<u8>>,
    opener: Opener,
}

static STREAM: LazyLock<Stream> = LazyLock::new(|| {
    let key = StreamKey::generate(Cipher::ChaCha20Poly1305).expect("randomness");
    let mut sealer = Sealer::new(&key);
    let plaintext: Vec<Vec<u8>> = (0..4_u8).map(|i| vec![i; usize::from(i) * 100]).collect();
    let mut blocks: Vec<Block> = plaintext.iter().map(|p| sealer.seal(p).expect("short")).collect();
    blocks.push(sealer.finish(&Total { length: 600, hash: [9; 32], sha256: None }).expect("short"));
    Stream { blocks, plaintext, opener: Opener::new(&key) }
});

/// Opens any bytes as a block, and valid blocks with changes: only sealed data open, and only at their own
/// position.
pub(super) fn blocks(data: &[u8]) {
    let mut input = Input::new(data);
    let number = usize::from(input.below(5));
    let expected = u64::from(input.below(6));
    let good = &STREAM.blocks[number];
    let mut bytes = good.bytes().to_vec();
    match input.below(3) {
        0 => bytes = input.rest().to_vec(),
        1 => {
            while !input.is_empty() {
                let at = usize::from(input.u16()) % bytes.len();
                bytes[at] ^= input.byte();
            }
        }
        _ => {
            bytes.truncate(input.u16().into());
            bytes.extend_from_slice(input.rest());
        }
    }
    let Ok(block) = Block::from_wire(&bytes) else { return };
    let before = b"what was read before".as_slice();
    let mut opened = before.to_vec();
    match STREAM.opener.open(&block, expected, &mut opened) {
        Ok(total) => {
            assert_eq!((block.bytes(), expected), (good.bytes(), number as u64));
            assert_eq!(total.is_some(), number == 4);
            if let Some(plaintext) = STREAM.plaintext.get(number) {
                assert_eq!(opened, [before, plaintext].concat());
            }
        }
        Err(_) => assert_eq!(opened, before, "nothing of a block that is not proven"),
    }
}

/// A relay that only listens: a reader needs one to connect to.
static RELAY: LazyLock<Relay> = LazyLock::new(|| {
    let key = StreamKey::generate(Cipher::ChaCha20Poly1305).expect("randomness");
    let member = Member::node(NodeId(1), &key, 1 << 23, Duration::from_secs(1));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let (feed, _) = sync_channel(1);
    Relay::start(member, listener, Feed::Node(feed), |_| {}).expect("a relay")
});

/// The plaintext of blocks forged by an admitted node: chunks of any kind, cut anywhere. The result is
/// never accepted as complete unless its sum is correct.
pub(super) fn chunks(data: &[u8]) {
    let mut input = Input::new(data);
    let total =
        (input.below(4) != 0).then(|| Total { length: input.byte().into(), hash: [0; 32], sha256: None });
    let cut = usize::from(input.byte()) + 1;
    let summed = input.byte() & 1 == 0;
    let mut stream = Vec::new();
    let mut plaintext: Option<Vec<u8>> = Some(Vec::new());
    while !input.is_empty() {
        match input.below(4) {
            0 => {
                plaintext = None;
                stream.extend_from_slice(input.piece());
            }
            1 => {
                plaintext = None;
                let bytes = input.piece().to_vec();
                let uncompressed_length = usize::from(input.u16()) * (MAX_CHUNK >> 15);
                Chunk { kind: Kind::Zstd, uncompressed_length, bytes }.append_to(&mut stream);
            }
            2 => {
                let bytes = input.piece().to_vec();
                plaintext.iter_mut().for_each(|plaintext| plaintext.extend_from_slice(&bytes));
                Chunk { kind: Kind::Uncompressed, uncompressed_length: bytes.len(), bytes }
                    .append_to(&mut stream);
            }
            _ => {
                let bytes = vec![input.byte(); usize::from(input.u16())];
                plaintext.iter_mut().for_each(|plaintext| plaintext.extend_from_slice(&bytes));
                let stored = zstd::bulk::compress(&bytes, 1).expect("zstd");
                Chunk { kind: Kind::Zstd, uncompressed_length: bytes.len(), bytes: stored }
                    .append_to(&mut stream);
            }
        }
    }
    let total = match (&plaintext, total) {
        // Sometimes everything is correct.
        (Some(plaintext), Some(total)) if total.length == 7 => Some(total_of(plaintext)),
        (_, total) => total,
    };
    let mut reader =
        StreamReader::new(handed_out(&stream, cut, total), RELAY.handle().clone(), Arc::default())
            .expect("zstd has memory");
    if summed {
        reader.check_sum();
    }
    let mut read = Vec::new();
    let whole = reader.read_to_end(&mut read).is_ok();
    if let Some(plaintext) = &plaintext {
        assert!(!whole || read == *plaintext);
    }
    match reader.finish() {
        Ok(sum) => {
            assert_eq!((Some(sum), sum.length), (total, read.len() as u64));
            assert!(!summed || sum == total_of(&read));
        }
        Err(_) => {
            assert!(
                plaintext.is_none() || total != plaintext.as_deref().map(total_of),
                "what is whole is refused"
            )
        }
    }
}

fn total_of(plaintext: &[u8]) -> Total {
    Total { length: plaintext.len() as u64, hash: [0; 32], sha256: Some(Sha256::digest(plaintext).into()) }
}

/// The data that the relay would pass to the reader, all at once.
fn handed_out(stream: &[u8], cut: usize, total: Option<Total>) -> Receiver<Plaintext> {
    let (sender, receiver) = sync_channel(stream.len() / cut + 2);
    let mut end = Offset(0);
    for piece in stream.chunks(cut) {
        end = end.plus(piece.len() as u64);
        sender
            .send(Plaintext { bytes: piece.to_vec().into(), total: None, end, from: None })
            .expect("there is room");
    }
    if total.is_some() {
        // The final block has its own position.
        end = end.plus(1);
        sender.send(Plaintext { bytes: Vec::new().into(), total, end, from: None }).expect("there is room");
    }
    receiver
}
