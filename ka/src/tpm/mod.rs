//! A machine's TPM as its identity: the proof that a node holds a certain endorsement key.
//!
//! A hardware address is only a claim. The private endorsement key never leaves the TPM, so a proof of it identifies
//! the machine. The public key alone proves nothing, because anybody may have seen it.
//!
//! The controller starts a *salted session* with the TPM: it encrypts a fresh salt for the endorsement key, and from
//! the salt both derive the key that authenticates the session's commands (TPM 2.0 Library, part 1, "Session-Based
//! Authorizations"). Only that TPM can decrypt the salt, so only it can answer the controller's command. The agent
//! carries the messages and learns no key. TPM2_ActivateCredential would prove the same, but it takes AES-CFB on the
//! controller, and ring, ka's only implementation of ciphers, does not have it.
//!
//! The agent's key of this boot is in the session's first nonce. An agent takes part in no session for another agent's
//! key, so a host cannot pass on the controller's challenge to the machine that it claims to be.
//!
//! ```text
//! node                                     controller
//!  Key(endorsement key)                  →
//!                                        ←  Challenge(Q): the salt is the secret of Q and the key
//!  StartAuthSession(Q, H(agent's key, Q))
//!  Nonce(the TPM's nonce)                →
//!                                        ←  Command: nonce and HMAC of a GetRandom
//!  GetRandom, with this HMAC
//!  Answer: bytes, nonce, HMAC            →  the HMAC is right: the machine has the key
//! ```

pub mod command;
pub mod proof;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::keys::Key;
use crate::sha256::Sha256;

/// A coordinate, a nonce, a hash or an HMAC.
pub type Word = [u8; 32];

/// A point of the curve P-256, as a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The x coordinate, big-endian.
    pub x: Word,
    /// The y coordinate.
    pub y: Word,
}

/// A message from a node about its TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromNode {
    /// The public endorsement key.
    Key(Point),
    /// The TPM's nonce of the new session.
    Nonce(Word),
    /// The TPM's answer to the command.
    Answer(Answer),
}

/// A message from the controller for a node's TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// Start a session with this encrypted salt.
    Challenge(Point),
    /// Carry out the session's command.
    Command {
        /// The caller's nonce.
        nonce: Word,
        /// The HMAC that authorizes the command.
        mac: Word,
    },
}

/// The TPM's answer to the session's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The random bytes.
    pub random: [u8; command::RANDOM as usize],
    /// The TPM's next nonce.
    pub nonce: Word,
    /// The session's attributes after the command.
    pub attributes: u8,
    /// The HMAC of all this.
    pub mac: Word,
}

/// The first nonce of a session with the salt in `challenge`, for the agent with this key.
#[must_use]
pub fn first_nonce(agent: &Key, challenge: &Point) -> Word {
    let mut hash = Sha256::new();
    hash.update("ka endorsement 1");
    hash.update(agent);
    hash.update(challenge.x);
    hash.update(challenge.y);
    hash.finalize()
}

/// The hash of an endorsement key: a machine's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(Word);

/// A text that is not a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the fingerprint of an endorsement key: 64 hexadecimal digits")]
pub struct NoFingerprint;

impl Fingerprint {
    /// The fingerprint of a key.
    #[must_use]
    pub fn of(key: &Point) -> Self {
        let mut hash = Sha256::new();
        hash.update(key.x);
        hash.update(key.y);
        Self(hash.finalize())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NoFingerprint;

    fn try_from(text: String) -> Result<Self, NoFingerprint> {
        let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut word = Word::default();
        for (byte, at) in word.iter_mut().zip((0..64).step_by(2)) {
            let digits = text.get(at..at + 2).filter(|_| is_hex).ok_or(NoFingerprint)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NoFingerprint)?;
        }
        Ok(Self(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_back_and_nothing_else_is_one() {
        let fingerprint = Fingerprint::of(&Point { x: [1; 32], y: [0xfe; 32] });
        let text = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), fingerprint);
        for bad in ["", "ab", &"zz".repeat(32), &"é".repeat(32), &"+1".repeat(32), &"0".repeat(65)] {
            assert_eq!(Fingerprint::try_from(bad.to_owned()), Err(NoFingerprint), "{bad}");
        }
    }

    #[test]
    fn the_nonce_is_for_one_agent_and_one_challenge() {
        let point = |byte| Point { x: [byte; 32], y: [9; 32] };
        let nonce = first_nonce(&[1; 32], &point(1));
        assert_ne!(nonce, first_nonce(&[2; 32], &point(1)));
        assert_ne!(nonce, first_nonce(&[1; 32], &point(2)));
    }
}
