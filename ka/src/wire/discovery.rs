//! How a node finds a controller by broadcast, without either side revealing anything to a stranger.
//!
//! The request is a nonce, a keyed hash of the session's name, and a MAC. The reply is the nonce, the control
//! port, and a MAC. Both MACs need the join secret. A host without it gets no answer and learns no name. If
//! it replays a recorded request, it gets no answer either, because one process of a controller answers a
//! nonce once. Discovery only reports where to try: the handshake on the control port proves that a
//! controller is the right one.
//!
//! | bytes of a request | | bytes of a reply | |
//! | --- | --- | --- | --- |
//! | 0..4 | `KAd?` | 0..4 | `KAd!` |
//! | 4 | version, 1 | 4 | version, 1 |
//! | 5..21 | nonce | 5..21 | the request's nonce |
//! | 21..53 | HMAC-SHA256 of nonce and session name | 21..23 | control port, big endian |
//! | 53..85 | HMAC-SHA256 of bytes 0..53 | 23..55 | HMAC-SHA256 of bytes 0..23 and the session name |
//!
//! The key is HMAC-SHA256 of a label under the join secret, and each use has its own label. A reply is
//! shorter than its request, so a responder amplifies nothing.

use std::collections::{BTreeMap, HashSet, VecDeque};

use ring::hmac;

use crate::keys::JoinKey;

/// Length of a request in bytes.
pub const REQUEST_LENGTH: usize = 85;

/// Length of a reply in bytes.
pub const REPLY_LENGTH: usize = 55;

const REQUEST_MAGIC: &[u8; 4] = b"KAd?";
const REPLY_MAGIC: &[u8; 4] = b"KAd!";
const VERSION: u8 = 1;
const HEADER: usize = 5;
const MAC: usize = 32;

/// How many answered nonces a controller remembers. Only holders of the secret can fill this, and it is
/// enough for a thousand nodes that try five times with three broadcasts each.
const REMEMBERED: usize = 16_384;

/// A fresh random value that ties a reply to its request.
pub type Nonce = [u8; 16];

/// The keys of discovery, derived from the join secret.
#[derive(Clone)]
pub struct DiscoveryKey {
    session: hmac::Key,
    request: hmac::Key,
    reply: hmac::Key,
}

/// A node's request.
pub struct Request {
    nonce: Nonce,
    session: String,
    packet: [u8; REQUEST_LENGTH],
}

/// The controller's side: the sessions that it serves, and the nonces that it has answered.
pub struct Answerer {
    key: DiscoveryKey,
    sessions: BTreeMap<String, u16>,
    answered: HashSet<Nonce>,
    order: VecDeque<Nonce>,
}

impl DiscoveryKey {
    /// Derives the keys.
    #[must_use]
    pub fn new(join: &JoinKey) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &join.secret);
        let derive = |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, label).as_ref());
        Self {
            session: derive(b"ka discovery 1 session"),
            request: derive(b"ka discovery 1 request"),
            reply: derive(b"ka discovery 1 reply"),
        }
    }

    fn session_tag(&self, nonce: &Nonce, session: &str) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.session);
        context.update(nonce);
        context.update(session.as_bytes());
        context
    }
}

impl Request {
    /// Creates a request for `session`. The nonce must be random and never used again.
    #[must_use]
    pub fn new(key: &DiscoveryKey, session: &str, nonce: Nonce) -> Self {
        let mut packet = Vec::with_capacity(REQUEST_LENGTH);
        packet.extend_from_slice(REQUEST_MAGIC);
        packet.push(VERSION);
        packet.extend_from_slice(&nonce);
        packet.extend_from_slice(key.session_tag(&nonce, session).sign().as_ref());
        let mac = hmac::sign(&key.request, &packet);
        packet.extend_from_slice(mac.as_ref());
        Self { nonce, session: session.to_owned(), packet: exact(&packet) }
    }

    /// The datagram to broadcast.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// The control port, if `datagram` is the reply to this request by a holder of the secret.
    #[must_use]
    pub fn answered_by(&self, key: &DiscoveryKey, datagram: &[u8]) -> Option<u16> {
        let datagram: &[u8; REPLY_LENGTH] = datagram.try_into().ok()?;
        let (body, mac) = datagram.split_at(REPLY_LENGTH - MAC);
        let (header, rest) = body.split_at(HEADER);
        let (nonce, port) = rest.split_at(self.nonce.len());
        if header != header_of(REPLY_MAGIC) || nonce != self.nonce {
            return None;
        }
        let mut signed = body.to_vec();
        signed.extend_from_slice(self.session.as_bytes());
        hmac::verify(&key.reply, &signed, mac).ok()?;
        Some(u16::from_be_bytes(port.try_into().ok()?)).filter(|port| *port != 0)
    }
}

impl Answerer {
    /// Creates a responder that serves no session yet.
    #[must_use]
    pub fn new(key: DiscoveryKey) -> Self {
        Self { key, sessions: BTreeMap::new(), answered: HashSet::new(), order: VecDeque::new() }
    }

    /// Starts to answer requests for `session` with this control port.
    pub fn announce(&mut self, session: &str, control_port: u16) {
        self.sessions.insert(session.to_owned(), control_port);
    }

    /// Stops answering requests for `session`.
    pub fn withdraw(&mut self, session: &str) {
        self.sessions.remove(session);
    }

    /// The reply to a datagram. `None` if it is damaged, forged, for an unknown session, or already answered.
    pub fn answer(&mut self, datagram: &[u8]) -> Option<[u8; REPLY_LENGTH]> {
        let datagram: &[u8; REQUEST_LENGTH] = datagram.try_into().ok()?;
        let (body, mac) = datagram.split_at(REQUEST_LENGTH - MAC);
        let (header, rest) = body.split_at(HEADER);
        let (nonce, tag) = rest.split_at(size_of::<Nonce>());
        if header != header_of(REQUEST_MAGIC) {
            return None;
        }
        hmac::verify(&self.key.request, body, mac).ok()?;
        let nonce: Nonce = nonce.try_into().ok()?;
        if self.answered.contains(&nonce) {
            return None;
        }
        let (session, port) = self
            .sessions
            .iter()
            .find(|(session, _)| self.key.session_tag(&nonce, session).sign().as_ref() == tag)?;
        let mut reply = header_of(REPLY_MAGIC).to_vec();
        reply.extend_from_slice(&nonce);
        reply.extend_from_slice(&port.to_be_bytes());
        let mut signed = reply.clone();
        signed.extend_from_slice(session.as_bytes());
        reply.extend_from_slice(hmac::sign(&self.key.reply, &signed).as_ref());
        self.remember(nonce);
        Some(exact(&reply))
    }

    fn remember(&mut self, nonce: Nonce) {
        self.answered.insert(nonce);
        self.order.push_back(nonce);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.answered.remove(&oldest);
        }
    }
}

fn header_of(magic: &[u8; 4]) -> [u8; HEADER] {
    let [a, b, c, d] = *magic;
    [a, b, c, d, VERSION]
}

/// The lengths of all parts are fixed, so this copies all of them.
fn exact<const N: usize>(parts: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    debug_assert_eq!(parts.len(), N);
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: u8) -> DiscoveryKey {
        DiscoveryKey::new(&JoinKey { controller: [1; 32], secret: [secret; 32] })
    }

    fn answerer() -> Answerer {
        let mut answerer = Answerer::new(key(7));
        answerer.announce("getstage2", 30765);
        answerer.announce("kainstall", 4000);
        answerer
    }

    #[test]
    fn a_request_is_answered_with_the_sessions_port() {
        let mut answerer = answerer();
        for (i, (session, port)) in
            [("getstage2", Some(30765)), ("kainstall", Some(4000)), ("lab", None)].into_iter().enumerate()
        {
            let request = Request::new(&key(7), session, [u8::try_from(i).unwrap(); 16]);
            let reply = answerer.answer(request.packet());
            assert_eq!(reply.and_then(|reply| request.answered_by(&key(7), &reply)), port, "{session}");
        }
        answerer.withdraw("kainstall");
        assert_eq!(answerer.answer(Request::new(&key(7), "kainstall", [9; 16]).packet()), None);
    }

    #[test]
    fn a_stranger_gets_no_answer() {
        assert_eq!(answerer().answer(Request::new(&key(8), "getstage2", [1; 16]).packet()), None);
    }

    #[test]
    fn a_nonce_is_answered_once() {
        let mut answerer = answerer();
        let request = Request::new(&key(7), "getstage2", [1; 16]);
        assert!(answerer.answer(request.packet()).is_some());
        assert_eq!(answerer.answer(request.packet()), None);
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut answerer = answerer();
        for i in 0..REMEMBERED + 10 {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&i.to_be_bytes());
            assert!(answerer.answer(Request::new(&key(7), "getstage2", nonce).packet()).is_some());
        }
        assert_eq!((answerer.answered.len(), answerer.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn a_changed_bit_or_length_is_noticed_on_both_sides() {
        let request = Request::new(&key(7), "getstage2", [1; 16]);
        let reply = answerer().answer(request.packet()).unwrap();
        for bit in 0..REQUEST_LENGTH * 8 {
            let mut packet = request.packet().to_vec();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(answerer().answer(&packet), None, "bit {bit}");
        }
        for bit in 0..REPLY_LENGTH * 8 {
            let mut packet = reply;
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(request.answered_by(&key(7), &packet), None, "bit {bit}");
        }
        for length in 0..REQUEST_LENGTH {
            assert_eq!(answerer().answer(&request.packet()[..length]), None);
            assert_eq!(
                request.answered_by(&key(7), reply.get(..length).unwrap_or(&[0; 200])),
                (length == REPLY_LENGTH).then_some(30765)
            );
        }
    }

    #[test]
    fn a_reply_fits_its_request_only() {
        let asked = Request::new(&key(7), "getstage2", [1; 16]);
        let reply = answerer().answer(asked.packet()).unwrap();
        for other in
            [Request::new(&key(7), "getstage2", [2; 16]), Request::new(&key(7), "kainstall", [1; 16])]
        {
            assert_eq!(other.answered_by(&key(7), &reply), None);
        }
        assert_eq!(asked.answered_by(&key(8), &reply), None);
        assert_eq!(asked.answered_by(&key(7), asked.packet()), None);
    }

    #[test]
    fn the_name_of_the_session_is_not_on_the_wire() {
        let (a, b) =
            (Request::new(&key(7), "getstage2", [1; 16]), Request::new(&key(7), "getstage2", [2; 16]));
        assert!(!a.packet().windows(9).any(|window| window == b"getstage2"));
        assert_ne!(a.packet()[21..53], b.packet()[21..53]);
    }
}
