//! Connections: attacks by a stranger that has proved nothing, and by an attacker on the wire between two
//! peers that have.

use std::sync::LazyLock;

use ka::chain::LinkName;
use ka::chain::{Epoch, NodeId};
use ka::keys::{JoinKey, KeyPair};
use ka::seal::StreamId;
use ka::wire::channel::{Channel, Received};
use ka::wire::preamble::Preamble;
use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::input::Input;

static KEYS: LazyLock<(KeyPair, JoinKey)> = LazyLock::new(|| {
    let pair = KeyPair::generate().expect("randomness");
    let join = JoinKey::generate(&pair).expect("randomness");
    (pair, join)
});

fn link() -> Preamble {
    Preamble::Link(LinkName { stream: StreamId([3; 16]), epoch: Epoch(1), from: NodeId(0), to: NodeId(1) })
}

/// Sends any bytes to either side, before and during the handshake. None of them is authenticated.
pub(super) fn stranger(data: &[u8]) {
    let mut input = Input::new(data);
    let mut channel = match input.below(5) {
        3 => Channel::dial_console(&KEYS.0, &KEYS.0.public).expect("a good key"),
        4 => Channel::dial_console_log(&KEYS.0, &KEYS.1).expect("a good key"),
        0 => Channel::dial_control(&KEYS.1, &KEYS.0).expect("a good key"),
        1 => Channel::dial_link(&[5; 32], link()).expect("a good key"),
        _ => Channel::answer(),
    };
    let mut unsent = Vec::new();
    channel.write_to(&mut unsent).expect("memory takes all");
    while !input.is_empty() {
        let wire = match input.below(3) {
            0 => input.piece().to_vec(),
            1 => frame(input.byte(), input.piece()),
            // A frame with the length in its header, which may exceed the limit.
            _ => {
                let (kind, length) = (input.byte(), u32::from(input.u16()) + u32::from(input.byte()));
                let mut bytes = vec![kind];
                bytes.extend_from_slice(&length.to_le_bytes()[..3]);
                bytes.resize(4 + length as usize, input.byte());
                bytes
            }
        };
        let mut from = wire.as_slice();
        while channel.read_from(&mut from).expect("memory") > 0 {
            match channel.receive::<String>() {
                Ok(Some(Received::Opening(preamble))) => {
                    let opened = match preamble {
                        Preamble::Control => channel.accept_control(&KEYS.0, &KEYS.1),
                        Preamble::Link(_) => channel.accept_link(&[5; 32]),
                        Preamble::Console => channel.accept_console(&KEYS.0, &KEYS.0.public),
                        Preamble::ConsoleLog => channel.accept_console_log(&KEYS.1),
                    };
                    assert!(opened.is_err(), "a stranger is in");
                    return;
                }
                Ok(Some(_)) => panic!("a stranger is heard"),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }
    assert!(!channel.is_open());
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_le_bytes();
    [&[kind, length[0], length[1], length[2]], body].concat()
}

/// Two peers that know the secret exchange messages, while an attacker between them changes, drops,
/// duplicates and truncates them. What arrives is always a prefix of what was sent.
pub(super) fn tampered(data: &[u8]) {
    let mut input = Input::new(data);
    let Some((mut from, mut to)) = pair() else { panic!("no handshake") };
    let (mut sent, mut heard) = (Vec::new(), 0);
    let mut wire = Vec::new();
    while !input.is_empty() {
        let message = match input.below(8) {
            // A message of several pieces.
            0 => vec![input.byte(); 3 * usize::from(input.u16())],
            _ => input.piece().to_vec(),
        };
        from.send(&Raw(&message)).expect("not too long");
        sent.push(message);
        let start = wire.len();
        from.write_to(&mut wire).expect("memory takes all");
        match input.below(16) {
            0 => flip(&mut wire, usize::from(input.u16()), input.byte()),
            1 => wire.truncate(start),
            2 => wire.extend_from_within(start..),
            3 => wire.truncate(start + usize::from(input.u16())),
            4 => wire.splice(start..start, frame(input.byte(), input.piece())).for_each(drop),
            5 => wire.extend_from_slice(input.piece()),
            6 => continue,
            _ => {}
        }
        let mut bytes = wire.as_slice();
        while to.read_from(&mut bytes).expect("memory") > 0 {
            loop {
                match to.receive::<Text>() {
                    Ok(Some(Received::Message(text))) => {
                        assert_eq!(Some(&text.0), sent.get(heard).and_then(|m| text_of(m)).as_ref());
                        heard += 1;
                    }
                    // Blocks are sealed separately: on this layer they are just bytes.
                    Ok(Some(Received::Block(_))) => {}
                    Ok(Some(_)) => panic!("a second handshake"),
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
        wire.clear();
    }
}

fn flip(wire: &mut [u8], at: usize, with: u8) {
    let length = wire.len();
    if let Some(byte) = wire.get_mut(at % length.max(1)) {
        *byte ^= with;
    }
}

fn pair() -> Option<(Channel, Channel)> {
    let (mut dialler, mut answerer) = (Channel::dial_link(&[5; 32], link()).ok()?, Channel::answer());
    pass::<String>(&mut dialler, &mut answerer)?;
    answerer.accept_link(&[5; 32]).ok()?;
    pass::<String>(&mut answerer, &mut dialler)?;
    Some((dialler, answerer))
}

fn pass<M: serde::de::DeserializeOwned>(from: &mut Channel, to: &mut Channel) -> Option<Received<M>> {
    let mut wire = Vec::new();
    from.write_to(&mut wire).ok()?;
    to.read_from(&mut wire.as_slice()).ok()?;
    to.receive().ok()?
}

/// Bytes that become a message unchanged, whether they are a valid one or not.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

#[derive(serde::Deserialize)]
struct Text(Vec<u8>);

fn text_of(message: &[u8]) -> Option<Vec<u8>> {
    postcard::from_bytes(message).ok()
}
