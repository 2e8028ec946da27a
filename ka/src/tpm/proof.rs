//! The controller's part of the proof.

use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::command::{AUDIT, GET_RANDOM, RANDOM};
use super::{Answer, Fingerprint, FromNode, Point, ToNode, Word, first_nonce};
use crate::keys::{self, Key, KeyError};
use crate::sha256::Sha256;

/// Why a node has not proven its TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The point is not on the curve.
    #[error("its TPM's endorsement key is no point of P-256")]
    Key,
    /// The TPM does not have the key's private half.
    #[error("its TPM does not have the endorsement key that it names")]
    Wrong,
    /// A message at the wrong time.
    #[error("it speaks of its TPM out of turn")]
    OutOfTurn,
    /// There is no randomness here.
    #[error("the controller has no randomness")]
    Randomness,
}

impl From<KeyError> for ProofError {
    /// A fresh key can fail in no other way.
    fn from(_: KeyError) -> Self {
        Self::Randomness
    }
}

/// A node's proof, as far as it has got.
pub struct Proof {
    /// The key that it names.
    named: Fingerprint,
    state: State,
}

enum State {
    /// The node must start a session with this salt and first nonce.
    Challenged { salt: Zeroizing<Word>, first: Word },
    /// The TPM must answer a command with this nonce under this key.
    Commanded { key: hmac::Key, nonce: Word },
    /// The node has the key.
    Proven,
}

impl Proof {
    /// Begins the proof of the agent with this key. The first message must name the endorsement key.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn begin(agent: &Key, message: FromNode) -> Result<(Self, ToNode), ProofError> {
        let FromNode::Key(key) = message else { return Err(ProofError::OutOfTurn) };
        let (challenge, salt) = salt(&key)?;
        let first = first_nonce(agent, &challenge);
        let proof = Self { named: Fingerprint::of(&key), state: State::Challenged { salt, first } };
        Ok((proof, ToNode::Challenge(challenge)))
    }

    /// Handles the node's next message; returns the answer, or `None` once the proof is complete.
    ///
    /// # Errors
    /// [`ProofError`]; the proof has failed then.
    pub fn on(&mut self, message: FromNode) -> Result<Option<ToNode>, ProofError> {
        match (&self.state, message) {
            (State::Challenged { salt, first }, FromNode::Nonce(tpm)) => {
                let key = hmac::Key::new(HMAC_SHA256, &*session_key(salt, &tpm, first));
                let nonce: Word = keys::random()?;
                let mac = mac(&key, &command_hash(), &nonce, &tpm, AUDIT);
                self.state = State::Commanded { key, nonce };
                Ok(Some(ToNode::Command { nonce, mac }))
            }
            (State::Commanded { key, nonce }, FromNode::Answer(answer)) => {
                let signed = signed(&response_hash(&answer), &answer.nonce, nonce, answer.attributes);
                hmac::verify(key, &signed, &answer.mac).map_err(|_| ProofError::Wrong)?;
                self.state = State::Proven;
                Ok(None)
            }
            _ => Err(ProofError::OutOfTurn),
        }
    }

    /// The endorsement key, once it is proven.
    #[must_use]
    pub fn proven(&self) -> Option<Fingerprint> {
        matches!(self.state, State::Proven).then_some(self.named)
    }
}

/// A fresh salt for an endorsement key, and its encrypted form (TPM 2.0 Library, part 1, C.6.1 and C.6.4).
fn salt(key: &Point) -> Result<(Point, Zeroizing<Word>), ProofError> {
    let random = SystemRandom::new();
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(|_| ProofError::Randomness)?;
    let public = own.compute_public_key().map_err(|_| ProofError::Randomness)?;
    let challenge = point(public.as_ref()).ok_or(ProofError::Key)?;
    let encoded = [&[4], key.x.as_slice(), key.y.as_slice()].concat();
    let salt = agree_ephemeral(own, &UnparsedPublicKey::new(&ECDH_P256, encoded), |shared| {
        // KDFe with one round of SHA-256.
        let mut hash = Sha256::new();
        hash.update(1_u32.to_be_bytes());
        hash.update(shared);
        hash.update("SECRET\0");
        hash.update(challenge.x);
        hash.update(key.x);
        Zeroizing::new(hash.finalize())
    });
    Ok((challenge, salt.map_err(|_| ProofError::Key)?))
}

/// An uncompressed point (SEC 1, 2.3.3).
fn point(bytes: &[u8]) -> Option<Point> {
    let (x, y) = bytes.strip_prefix(&[4])?.split_at_checked(32)?;
    Some(Point { x: x.try_into().ok()?, y: y.try_into().ok()? })
}

/// KDFa with one round of SHA-256.
fn session_key(salt: &Word, tpm: &Word, caller: &Word) -> Zeroizing<Word> {
    let mut derive = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, salt));
    derive.update(&1_u32.to_be_bytes());
    derive.update(b"ATH\0");
    derive.update(tpm);
    derive.update(caller);
    derive.update(&256_u32.to_be_bytes());
    Zeroizing::new(word(derive.sign().as_ref()))
}

fn command_hash() -> Word {
    let mut hash = Sha256::new();
    hash.update(GET_RANDOM.to_be_bytes());
    hash.update(RANDOM.to_be_bytes());
    hash.finalize()
}

fn response_hash(answer: &Answer) -> Word {
    let mut hash = Sha256::new();
    // The response code.
    hash.update(0_u32.to_be_bytes());
    hash.update(GET_RANDOM.to_be_bytes());
    hash.update(RANDOM.to_be_bytes());
    hash.update(answer.random);
    hash.finalize()
}

/// The bytes below a session's HMAC (TPM 2.0 Library, part 1, "HMAC Computation").
fn signed(parameters: &Word, newer: &Word, older: &Word, attributes: u8) -> Vec<u8> {
    [parameters.as_slice(), newer, older, &[attributes]].concat()
}

fn mac(key: &hmac::Key, parameters: &Word, newer: &Word, older: &Word, attributes: u8) -> Word {
    word(hmac::sign(key, &signed(parameters, newer, older, attributes)).as_ref())
}

/// An HMAC-SHA-256, which has exactly this many bytes.
fn word(tag: &[u8]) -> Word {
    let mut word = Word::default();
    word.copy_from_slice(tag);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A point whose private key this test does not have.
    fn key() -> Point {
        let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        point(own.compute_public_key().unwrap().as_ref()).unwrap()
    }

    #[test]
    fn who_has_only_seen_the_key_proves_nothing() {
        let (mut proof, _) = Proof::begin(&[7; 32], FromNode::Key(key())).unwrap();
        let Ok(Some(ToNode::Command { .. })) = proof.on(FromNode::Nonce([1; 32])) else {
            panic!("no command");
        };
        let answer = Answer { random: [0; 16], nonce: [0; 32], attributes: AUDIT, mac: [0; 32] };
        assert_eq!(proof.on(FromNode::Answer(answer)), Err(ProofError::Wrong));
        assert_eq!(proof.proven(), None);
    }

    #[test]
    fn out_of_turn_nothing_is_proven() {
        let answer = Answer { random: [0; 16], nonce: [0; 32], attributes: AUDIT, mac: [0; 32] };
        assert!(matches!(Proof::begin(&[7; 32], FromNode::Nonce([0; 32])), Err(ProofError::OutOfTurn)));
        let (mut proof, _) = Proof::begin(&[7; 32], FromNode::Key(key())).unwrap();
        assert_eq!(proof.on(FromNode::Answer(answer)), Err(ProofError::OutOfTurn));
        assert_eq!(proof.on(FromNode::Key(key())), Err(ProofError::OutOfTurn));
        assert_eq!(proof.proven(), None);
    }

    #[test]
    fn a_key_off_the_curve_is_refused() {
        for (x, y) in [([0; 32], [0; 32]), ([1; 32], [1; 32]), ([0xff; 32], [0xff; 32])] {
            let begun = Proof::begin(&[7; 32], FromNode::Key(Point { x, y }));
            assert!(matches!(begun, Err(ProofError::Key)));
        }
    }
}
