//! Blocks and chunks.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock};
use std::{io::Read, time::Duration};

use ka::chain::{Member, NodeId, Offset, Plain};
use ka::seal::chunk::{Chunk, Kind, MAX_CHUNK};
use ka::seal::{Block, Cipher, Opener, Sealer, StreamKey, Total};
use ka_net::relay::{Feed, Relay, StreamReader};
use sha2::{Digest, Sha256};

use super::input::Input;

struct Stream {
    blocks: Vec<Block>,
    plain: Vec<Vec<u8>>,
    opener: Opener,
}

static STREAM: LazyLock<Stream> = LazyLock::new(|| {
    let key = StreamKey::generate(Cipher::ChaCha20Poly1305).expect("randomness");
    let mut sealer = Sealer::new(&key);
    let plain: Vec<Vec<u8>> = (0..4_u8).map(|i| vec![i; usize::from(i) * 100]).collect();
    let mut blocks: Vec<Block> = plain.iter().map(|p| sealer.seal(p).expect("short")).collect();
    blocks.push(sealer.finish(&Total { length: 600, hash: [9; 32], sha256: None }).expect("short"));
    Stream { blocks, plain, opener: Opener::new(&key) }
});

/// Any bytes as a block, and good blocks with changes: only what was sealed opens, in its own place.
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
            if let Some(plain) = STREAM.plain.get(number) {
                assert_eq!(opened, [before, plain].concat());
            }
        }
        Err(_) => assert_eq!(opened, before, "nothing of a block that is not proven"),
    }
}

/// A relay that only listens: a reader must have one to talk to.
static RELAY: LazyLock<Relay> = LazyLock::new(|| {
    let key = StreamKey::generate(Cipher::ChaCha20Poly1305).expect("randomness");
    let member = Member::node(NodeId(1), &key, 1 << 23, Duration::from_secs(1));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let (feed, _) = sync_channel(1);
    Relay::start(member, listener, Feed::Node(feed), |_| {}).expect("a relay")
});

/// The plain bytes of blocks that an admitted node has forged: chunks of any kind, cut anywhere. What is read is
/// never taken for whole unless its sum is right.
pub(super) fn chunks(data: &[u8]) {
    let mut input = Input::new(data);
    let total =
        (input.below(4) != 0).then(|| Total { length: input.byte().into(), hash: [0; 32], sha256: None });
    let cut = usize::from(input.byte()) + 1;
    let summed = input.byte() & 1 == 0;
    let mut stream = Vec::new();
    let mut plain: Option<Vec<u8>> = Some(Vec::new());
    while !input.is_empty() {
        match input.below(4) {
            0 => {
                plain = None;
                stream.extend_from_slice(input.piece());
            }
            1 => {
                plain = None;
                let bytes = input.piece().to_vec();
                let plain_length = usize::from(input.u16()) * (MAX_CHUNK >> 15);
                Chunk { kind: Kind::Zstd, plain_length, bytes }.append_to(&mut stream);
            }
            2 => {
                let bytes = input.piece().to_vec();
                plain.iter_mut().for_each(|plain| plain.extend_from_slice(&bytes));
                Chunk { kind: Kind::Plain, plain_length: bytes.len(), bytes }.append_to(&mut stream);
            }
            _ => {
                let bytes = vec![input.byte(); usize::from(input.u16())];
                plain.iter_mut().for_each(|plain| plain.extend_from_slice(&bytes));
                let stored = zstd::bulk::compress(&bytes, 1).expect("zstd");
                Chunk { kind: Kind::Zstd, plain_length: bytes.len(), bytes: stored }.append_to(&mut stream);
            }
        }
    }
    let total = match (&plain, total) {
        // Sometimes it is all as it should be.
        (Some(plain), Some(total)) if total.length == 7 => Some(total_of(plain)),
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
    if let Some(plain) = &plain {
        assert!(!whole || read == *plain);
    }
    match reader.finish() {
        Ok(sum) => {
            assert_eq!((Some(sum), sum.length), (total, read.len() as u64));
            assert!(!summed || sum == total_of(&read));
        }
        Err(_) => {
            assert!(plain.is_none() || total != plain.as_deref().map(total_of), "what is whole is refused")
        }
    }
}

fn total_of(plain: &[u8]) -> Total {
    Total { length: plain.len() as u64, hash: [0; 32], sha256: Some(Sha256::digest(plain).into()) }
}

/// What the relay would hand to the reader, all at once.
fn handed_out(stream: &[u8], cut: usize, total: Option<Total>) -> Receiver<Plain> {
    let (sender, receiver) = sync_channel(stream.len() / cut + 2);
    let mut end = Offset(0);
    for piece in stream.chunks(cut) {
        end = end.plus(piece.len() as u64);
        sender
            .send(Plain { bytes: piece.to_vec().into(), total: None, end, from: None })
            .expect("there is room");
    }
    if total.is_some() {
        // The final block has a place of its own.
        end = end.plus(1);
        sender.send(Plain { bytes: Vec::new().into(), total, end, from: None }).expect("there is room");
    }
    receiver
}
