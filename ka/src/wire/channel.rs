//! A connection without its socket: bytes in, events out; messages in, bytes out.
//!
//! The dialling side sends its [`Preamble`] and the handshake. The answering side reads the preamble and
//! chooses the secret for the handshake. Both sides are open after one round trip. The answering side has
//! proof only with the first message: until then it must not act on anything.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use snow::{HandshakeState, TransportState};

use super::frame::{Frame, FrameError, Incoming, Kind, Outgoing};
use super::noise::{self, Unproven};
use super::preamble::{Preamble, PreambleError};
use crate::keys::{JoinKey, Key, KeyPair};
use crate::seal::Block;

const TAG: usize = 16;
/// Each piece begins, under its seal, with its frame's kind: an attacker who could change the kind could join
/// two messages, and so remove one without a trace.
const KIND: usize = 1;
const MAX_PIECE: usize = 65_535 - TAG - KIND;
/// The longest message in bytes: even a plan for a machine with many disks is far shorter.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// An event of the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<M> {
    /// The other side wants to open the channel for this purpose; answer with an `accept_…` function or drop
    /// it.
    Opening(Preamble),
    /// The handshake is complete.
    Open,
    /// A message, authenticated as coming from the other side.
    Message(M),
    /// A block. Only its [`crate::seal::Opener`] can tell whether it is valid.
    Block(Block),
}

/// Why a connection is unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// An impossible frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The first frame is not ka's.
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    /// A handshake or message did not verify.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// A frame that is not allowed at this point.
    #[error("a frame out of turn")]
    OutOfTurn,
    /// A message longer than any that ka sends.
    #[error("a message that is too long")]
    TooLong,
    /// An authenticated message that cannot be parsed.
    #[error("a message that is not understood: {0}")]
    NotUnderstood(postcard::Error),
}

enum State {
    /// Dialled: waiting for the answer.
    Dialled(Box<HandshakeState>),
    /// Answering: waiting for the first frame.
    Waiting,
    /// Answering: the first frame has been received, and the decision is pending.
    Opening(Vec<u8>),
    Open(Box<TransportState>),
    Failed,
}

/// The state of one connection.
pub struct Channel {
    /// The maximum length of an incoming message.
    most: usize,
    /// The agent's public key, on an answered control connection.
    peer: Option<Key>,
    state: State,
    /// Whether this side dialled to receive blocks.
    is_link: bool,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Pieces of a message that is not complete yet.
    message: Vec<u8>,
}

impl Channel {
    /// Dials a controller, and proves possession of `own` to it.
    ///
    /// # Errors
    /// [`ChannelError::Unproven`] when the key is unusable.
    pub fn dial_control(key: &JoinKey, own: &KeyPair) -> Result<Self, ChannelError> {
        let preamble = Preamble::Control.to_bytes();
        Self::dial(noise::control_initiator(key, own, &preamble)?, preamble)
    }

    /// Dials a predecessor for the link that `preamble` names.
    ///
    /// # Errors
    /// [`ChannelError::Unproven`] when the secret is unusable.
    pub fn dial_link(secret: &Key, preamble: Preamble) -> Result<Self, ChannelError> {
        let preamble = preamble.to_bytes();
        let mut channel = Self::dial(noise::link_initiator(secret, &preamble)?, preamble)?;
        channel.is_link = true;
        Ok(channel)
    }

    /// Dials the console of the node with the key `node`; `own` is the controller's pair.
    ///
    /// # Errors
    /// [`ChannelError::Unproven`] when a key is unusable.
    pub fn dial_console(own: &KeyPair, node: &Key) -> Result<Self, ChannelError> {
        let preamble = Preamble::Console.to_bytes();
        Self::dial(noise::console_initiator(own, node, &preamble)?, preamble)
    }

    /// Dials the log of a node that booted with `key` and whose own key is not known.
    ///
    /// # Errors
    /// [`ChannelError::Unproven`] when a key is unusable.
    pub fn dial_console_log(own: &KeyPair, key: &JoinKey) -> Result<Self, ChannelError> {
        let preamble = Preamble::ConsoleLog.to_bytes();
        Self::dial(noise::log_initiator(own, key, &preamble)?, preamble)
    }

    /// Answers an incoming connection.
    #[must_use]
    pub fn answer() -> Self {
        Self::new(State::Waiting)
    }

    fn dial(mut handshake: HandshakeState, mut frame: Vec<u8>) -> Result<Self, ChannelError> {
        let mut message = [0; 256];
        let length = handshake.write_message(&[], &mut message).map_err(Unproven::from)?;
        frame.extend_from_slice(&message[..length]);
        let mut channel = Self::new(State::Dialled(Box::new(handshake)));
        channel.outgoing.push(Kind::Handshake, &frame);
        Ok(channel)
    }

    fn new(state: State) -> Self {
        Self {
            most: MAX_MESSAGE,
            peer: None,
            state,
            is_link: false,
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            message: Vec::new(),
        }
    }

    /// The public key of the agent that opened this control connection. Its first message proves that it has
    /// the private key.
    #[must_use]
    pub fn peer(&self) -> Option<Key> {
        self.peer
    }

    /// Frees memory if no frame is partly received: for connections with little traffic.
    pub fn rest(&mut self) {
        self.incoming.rest();
    }

    /// The bytes received so far of an incomplete message.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.message.len()
    }

    /// Limits incoming messages to this many bytes from now on.
    pub fn limit(&mut self, most: usize) {
        self.most = most.min(MAX_MESSAGE);
    }

    /// Accepts an agent that wants to open a control connection.
    ///
    /// # Errors
    /// [`ChannelError`] when the agent does not have the join secret.
    pub fn accept_control(&mut self, pair: &KeyPair, key: &JoinKey) -> Result<(), ChannelError> {
        self.accept(|prologue| noise::control_responder(pair, key, prologue))
    }

    /// Like [`Self::accept_control`], with several valid join keys. Returns the index of the agent's key.
    ///
    /// # Errors
    /// [`ChannelError`] when the agent has none of the secrets.
    pub fn accept_control_by_any(
        &mut self,
        pair: &KeyPair,
        keys: &[&JoinKey],
    ) -> Result<usize, ChannelError> {
        let mut outcome = Err(ChannelError::OutOfTurn);
        for (index, key) in keys.iter().enumerate() {
            outcome = self.accept_control(pair, key).map(|()| index);
            if !matches!(outcome, Err(ChannelError::Unproven(_))) {
                break;
            }
        }
        outcome
    }

    /// Accepts a successor that wants to open a link.
    ///
    /// # Errors
    /// [`ChannelError`] when the successor does not have the link's secret.
    pub fn accept_link(&mut self, secret: &Key) -> Result<(), ChannelError> {
        self.accept(|prologue| noise::link_responder(secret, prologue))?;
        self.incoming.take_blocks();
        Ok(())
    }

    /// Accepts a controller that wants this node's console; `own` is the node's pair of this boot.
    ///
    /// # Errors
    /// [`ChannelError`] when the other side does not have the controller's key, or means another node.
    pub fn accept_console(&mut self, own: &KeyPair, controller: &Key) -> Result<(), ChannelError> {
        self.accept(|prologue| noise::console_responder(own, controller, prologue))
    }

    /// Accepts a controller that wants this node's log.
    ///
    /// # Errors
    /// [`ChannelError`] when the other side does not have the join secret. Its first message proves that it
    /// has the controller's key.
    pub fn accept_console_log(&mut self, key: &JoinKey) -> Result<(), ChannelError> {
        self.accept(|prologue| noise::log_responder(key, prologue))
    }

    fn accept(
        &mut self,
        responder: impl FnOnce(&[u8]) -> Result<HandshakeState, Unproven>,
    ) -> Result<(), ChannelError> {
        let State::Opening(frame) = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(ChannelError::OutOfTurn);
        };
        let (preamble, handshake) = Preamble::split(&frame)?;
        let mut responder = responder(&preamble.to_bytes())?;
        let mut message = [0; 256];
        if let Err(error) = responder.read_message(handshake, &mut message) {
            // Another key may fit.
            self.state = State::Opening(frame);
            return Err(Unproven::from(error).into());
        }
        let length = responder.write_message(&[], &mut message).map_err(Unproven::from)?;
        self.outgoing.push(Kind::Handshake, &message[..length]);
        self.peer = responder.get_remote_static().and_then(|key| key.try_into().ok());
        self.state = State::Open(Box::new(responder.into_transport_mode().map_err(Unproven::from)?));
        Ok(())
    }

    /// Reads once from the connection. Returns 0 when the other side has closed it.
    ///
    /// # Errors
    /// The connection's errors.
    pub fn read_from(&mut self, from: &mut impl Read) -> io::Result<usize> {
        self.incoming.read_from(from)
    }

    /// Whether the last read has taken all available bytes.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.incoming.drained()
    }

    /// The next event, if one is complete.
    ///
    /// # Errors
    /// [`ChannelError`]; the connection must be dropped.
    pub fn receive<M: DeserializeOwned>(&mut self) -> Result<Option<Received<M>>, ChannelError> {
        while let Some(frame) = self.incoming.next_frame()? {
            let (kind, body) = match (frame, &self.state) {
                (Frame::Block(block), State::Open(_)) => {
                    return Ok(Some(Received::Block(block)));
                }
                (Frame::Block(_), _) => return Err(ChannelError::OutOfTurn),
                (Frame::Bytes(kind, body), _) => (kind, body),
            };
            match (kind, &mut self.state) {
                (Kind::Handshake, State::Waiting) => {
                    let preamble = match Preamble::split(body) {
                        Ok((preamble, _)) => preamble,
                        Err(error) => {
                            self.state = State::Failed;
                            if let PreambleError::Version(_) = error {
                                self.outgoing.push(Kind::Handshake, &Preamble::other_version());
                            }
                            return Err(error.into());
                        }
                    };
                    self.state = State::Opening(body.to_vec());
                    return Ok(Some(Received::Opening(preamble)));
                }
                (Kind::Handshake, State::Dialled(handshake)) => {
                    if let Some(version) = Preamble::refused_by(body) {
                        return Err(PreambleError::Version(version).into());
                    }
                    handshake.read_message(body, &mut [0; 256]).map_err(Unproven::from)?;
                    let State::Dialled(done) = std::mem::replace(&mut self.state, State::Failed) else {
                        return Err(ChannelError::OutOfTurn);
                    };
                    self.state = State::Open(Box::new(done.into_transport_mode().map_err(Unproven::from)?));
                    if self.is_link {
                        self.incoming.take_blocks();
                    }
                    return Ok(Some(Received::Open));
                }
                (Kind::Message | Kind::Piece, State::Open(transport)) => {
                    let start = self.message.len();
                    if start + body.len() > self.most {
                        return Err(ChannelError::TooLong);
                    }
                    self.message.resize(start + body.len(), 0);
                    let length =
                        transport.read_message(body, &mut self.message[start..]).map_err(Unproven::from)?;
                    self.message.truncate(start + length);
                    if length == 0 || self.message.remove(start) != kind as u8 {
                        return Err(ChannelError::OutOfTurn);
                    }
                    if kind == Kind::Message {
                        let message = std::mem::take(&mut self.message);
                        return understand(&message).map(|message| Some(Received::Message(message)));
                    }
                }
                _ => return Err(ChannelError::OutOfTurn),
            }
        }
        Ok(None)
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`ChannelError::OutOfTurn`] before the channel is open, [`ChannelError::TooLong`].
    pub fn send<M: Serialize>(&mut self, message: &M) -> Result<(), ChannelError> {
        let State::Open(transport) = &mut self.state else { return Err(ChannelError::OutOfTurn) };
        let bytes = postcard::to_stdvec(message).map_err(ChannelError::NotUnderstood)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(ChannelError::TooLong);
        }
        let pieces = bytes.len().div_ceil(MAX_PIECE).max(1);
        let mut sealed = vec![0; KIND + bytes.len().min(MAX_PIECE) + TAG];
        for i in 0..pieces {
            let kind = if i + 1 == pieces { Kind::Message } else { Kind::Piece };
            let piece = &bytes[i * MAX_PIECE..bytes.len().min((i + 1) * MAX_PIECE)];
            let piece = [&[kind as u8], piece].concat();
            let length = transport.write_message(&piece, &mut sealed).map_err(Unproven::from)?;
            self.outgoing.push(kind, &sealed[..length]);
        }
        Ok(())
    }

    /// Queues a block.
    pub fn send_block(&mut self, block: Block) {
        self.outgoing.push_block(block);
    }

    /// Whether the handshake is complete.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The number of bytes waiting to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.outgoing.queued()
    }

    /// Writes what the connection takes now. Returns the number of bytes written.
    ///
    /// # Errors
    /// The connection's errors.
    pub fn write_to(&mut self, to: &mut impl Write) -> io::Result<usize> {
        self.outgoing.write_to(to)
    }
}

/// Parses a message, which must use all of its bytes.
fn understand<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, ChannelError> {
    match postcard::take_from_bytes(bytes).map_err(ChannelError::NotUnderstood)? {
        (message, []) => Ok(message),
        _ => Err(ChannelError::NotUnderstood(postcard::Error::DeserializeBadEncoding)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Event = Received<String>;

    fn pump(from: &mut Channel, to: &mut Channel) -> Result<Vec<Event>, ChannelError> {
        let mut wire = Vec::new();
        from.write_to(&mut wire).unwrap();
        deliver(&wire, to)
    }

    fn deliver(mut wire: &[u8], to: &mut Channel) -> Result<Vec<Event>, ChannelError> {
        let mut events = Vec::new();
        while to.read_from(&mut wire).unwrap() > 0 {}
        while let Some(event) = to.receive()? {
            events.push(event);
        }
        Ok(events)
    }

    #[test]
    fn one_of_several_join_keys_will_do() {
        let (pair, own) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let keys = [(); 3].map(|()| JoinKey::generate(&pair).unwrap());
        for (index, key) in keys.iter().enumerate() {
            let (mut agent, mut controller) = (Channel::dial_control(key, &own).unwrap(), Channel::answer());
            pump(&mut agent, &mut controller).unwrap();
            let accepted = controller.accept_control_by_any(&pair, &[&keys[0], &keys[1]]).ok();
            assert_eq!(accepted, (index < 2).then_some(index));
            assert_eq!(
                pump(&mut controller, &mut agent).is_ok_and(|events| events == [Received::Open]),
                index < 2
            );
        }
    }

    fn control() -> (Channel, Channel) {
        let pair = KeyPair::generate().unwrap();
        let join = JoinKey::generate(&pair).unwrap();
        let own = KeyPair::generate().unwrap();
        let (mut agent, mut controller) = (Channel::dial_control(&join, &own).unwrap(), Channel::answer());
        assert_eq!(pump(&mut agent, &mut controller).unwrap(), [Received::Opening(Preamble::Control)]);
        controller.accept_control(&pair, &join).unwrap();
        assert_eq!(controller.peer(), Some(own.public));
        assert_eq!(pump(&mut controller, &mut agent).unwrap(), [Received::Open]);
        (agent, controller)
    }

    #[test]
    fn messages_of_all_lengths_arrive() {
        let (mut agent, mut controller) = control();
        for length in [0, 1, MAX_PIECE - 3, MAX_PIECE - 2, MAX_PIECE, 3 * MAX_PIECE] {
            let text = "x".repeat(length);
            agent.send(&text).unwrap();
            assert_eq!(pump(&mut agent, &mut controller).unwrap(), [Received::Message(text.clone())]);
            controller.send(&text).unwrap();
            assert_eq!(pump(&mut controller, &mut agent).unwrap(), [Received::Message(text)]);
        }
        assert!(matches!(agent.send(&"x".repeat(MAX_MESSAGE + 1)), Err(ChannelError::TooLong)));
    }

    #[test]
    fn without_the_secret_nobody_gets_in() {
        let pair = KeyPair::generate().unwrap();
        let join = JoinKey::generate(&pair).unwrap();
        let stranger = JoinKey { secret: [0; 32], ..join.clone() };
        let (mut agent, mut controller) =
            (Channel::dial_control(&stranger, &pair).unwrap(), Channel::answer());
        pump(&mut agent, &mut controller).unwrap();
        assert!(controller.accept_control(&pair, &join).is_err());
        assert_eq!(controller.queued(), 0, "a stranger gets no answer");
    }

    #[test]
    fn a_key_that_an_agent_only_knows_of_is_not_its_own() {
        let (pair, own, other) =
            (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let join = JoinKey::generate(&pair).unwrap();
        // It presents another node's public key, without the private half.
        let claimed = KeyPair { public: other.public, private: own.private };
        let (mut agent, mut controller) =
            (Channel::dial_control(&join, &claimed).unwrap(), Channel::answer());
        pump(&mut agent, &mut controller).unwrap();
        controller.accept_control(&pair, &join).unwrap();
        assert_eq!(controller.peer(), Some(own.public));
    }

    /// Whether the handshake succeeds: the answering side reads the dialling side's first message.
    fn understand_each_other(mut dials: Channel, accept: impl FnOnce(&mut Channel) -> bool) -> bool {
        let mut answers = Channel::answer();
        pump(&mut dials, &mut answers).unwrap();
        if !accept(&mut answers) || pump(&mut answers, &mut dials).is_err() {
            return false;
        }
        let said = "log".to_owned();
        dials.send(&said).is_ok()
            && pump(&mut dials, &mut answers).is_ok_and(|events| events == [Received::Message(said)])
    }

    #[test]
    fn a_console_opens_for_the_controller_and_the_node_that_it_means() {
        let [controller, node, other] = [(); 3].map(|()| KeyPair::generate().unwrap());
        for (own, means, open) in [
            (&controller, &node, true),
            (&other, &node, false),
            (&controller, &other, false),
            (&node, &node, false),
        ] {
            let dials = Channel::dial_console(own, &means.public).unwrap();
            let accept = |channel: &mut Channel| channel.accept_console(&node, &controller.public).is_ok();
            assert_eq!(understand_each_other(dials, accept), open);
        }
    }

    #[test]
    fn a_log_is_for_the_controller_alone() {
        let [controller, other] = [(); 2].map(|()| KeyPair::generate().unwrap());
        let join = JoinKey::generate(&controller).unwrap();
        let stranger = JoinKey { secret: [9; 32], ..join.clone() };
        for (own, key, open) in
            [(&controller, &join, true), (&other, &join, false), (&controller, &stranger, false)]
        {
            let dials = Channel::dial_console_log(own, key).unwrap();
            let accept = |channel: &mut Channel| channel.accept_console_log(&join).is_ok();
            assert_eq!(understand_each_other(dials, accept), open);
        }
        // The key that opens a log does not open a console, and vice versa.
        let dials = Channel::dial_console_log(&controller, &join).unwrap();
        assert!(!understand_each_other(dials, |channel| channel
            .accept_console(&other, &controller.public)
            .is_ok()));
    }

    #[test]
    fn a_connection_that_rests_goes_on_where_it_was() {
        let (mut agent, mut controller) = control();
        for text in ["one", "two"] {
            agent.send(&text.to_owned()).unwrap();
            let mut wire = Vec::new();
            agent.write_to(&mut wire).unwrap();
            let (first, rest) = wire.split_at(5);
            assert_eq!(deliver(first, &mut controller).unwrap(), []);
            controller.rest();
            assert_eq!(deliver(rest, &mut controller).unwrap(), [Received::Message(text.to_owned())]);
            controller.rest();
        }
    }

    #[test]
    fn any_altered_byte_ends_the_channel() {
        let (mut agent, mut controller) = control();
        agent.send(&"hello".to_owned()).unwrap();
        let mut wire = Vec::new();
        agent.write_to(&mut wire).unwrap();
        let last = wire.len() - 1;
        wire[last] ^= 1;
        assert!(matches!(deliver(&wire, &mut controller), Err(ChannelError::Unproven(_))));
    }

    #[test]
    fn no_message_can_be_joined_to_the_next() {
        let (mut agent, mut controller) = control();
        agent.send(&"one".to_owned()).unwrap();
        agent.send(&"two".to_owned()).unwrap();
        let mut wire = Vec::new();
        agent.write_to(&mut wire).unwrap();
        assert_eq!(wire[0], Kind::Message as u8);
        wire[0] = Kind::Piece as u8;
        assert!(matches!(deliver(&wire, &mut controller), Err(ChannelError::OutOfTurn)));
    }

    #[test]
    fn frames_out_of_turn_are_refused() {
        let mut controller = Channel::answer();
        assert!(matches!(deliver(&[1, 1, 0, 0, 9], &mut controller), Err(ChannelError::OutOfTurn)));
        let mut controller = Channel::answer();
        assert!(matches!(deliver(b"\0\x05\0\0HELLO", &mut controller), Err(ChannelError::Preamble(_))));
    }
}
