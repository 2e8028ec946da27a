//! The keys by which controller and agents authenticate each other, and their text form.
//!
//! A key file is one line: a tag for kind and version, then 32-byte values in hexadecimal. The controller's
//! file stays on the golden node; the join key goes into the boot image.

use std::fmt;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use snow::Builder;
use zeroize::{Zeroize, Zeroizing};

use crate::primitives::Primitives;
use crate::sha256::Sha256;

/// A 32-byte secret or public value.
pub type Key = [u8; 32];

const CONTROLLER_TAG: &str = "ka-controller-key-1";
const JOIN_TAG: &str = "ka-join-key-1";

/// Noise's name for the only combination of Diffie-Hellman, cipher and hash that ka uses.
pub(crate) const SUITE: &str = "25519_ChaChaPoly_SHA256";

/// A text that is not a valid key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The line's tag or shape is wrong.
    #[error("not a {expected} line")]
    Shape {
        /// The expected tag.
        expected: &'static str,
    },
    /// A value is not 64 hexadecimal digits.
    #[error("value {index} of the {tag} line is not 64 hexadecimal digits")]
    Value {
        /// The line's tag.
        tag: &'static str,
        /// The value's position, from 1.
        index: usize,
    },
    /// The system returned no random bytes.
    #[error("the system's random number generator failed")]
    NoRandomness,
}

/// A Curve25519 key pair, the controller's or an agent's.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private half.
    pub private: Key,
    /// The public half.
    pub public: Key,
}

impl KeyPair {
    /// Generates a fresh pair.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`] when the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let params = format!("Noise_NN_{SUITE}").parse().map_err(|_| KeyError::NoRandomness)?;
        let builder = Builder::with_resolver(params, Box::<Primitives>::default());
        let pair = builder.generate_keypair().map_err(|_| KeyError::NoRandomness)?;
        let key = |bytes: Vec<u8>| Key::try_from(bytes).map_err(|_| KeyError::NoRandomness);
        Ok(Self { private: key(pair.private)?, public: key(pair.public)? })
    }

    /// The text of the controller's key file.
    #[must_use]
    pub fn to_text(&self) -> String {
        line(CONTROLLER_TAG, &[&self.private, &self.public])
    }

    /// Parses the controller's key file.
    ///
    /// # Errors
    /// [`KeyError`] when the text is not valid.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let [private, public] = values(text, CONTROLLER_TAG)?;
        Ok(Self { private, public })
    }
}

/// What an agent needs to join: the controller's public key, and the secret that all admitted nodes share.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinKey {
    /// The controller's public key.
    pub controller: Key,
    /// The join secret.
    pub secret: Key,
}

impl JoinKey {
    /// Generates a join key with a fresh secret for `controller`.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`] when the system has no randomness.
    pub fn generate(controller: &KeyPair) -> Result<Self, KeyError> {
        Ok(Self { controller: controller.public, secret: random()? })
    }

    /// The secret for control connections. Each use of the join secret has its own key: those of discovery
    /// are derived under other labels.
    pub(crate) fn handshake_secret(&self) -> Zeroizing<Key> {
        self.secret_for(b"ka control 1 handshake")
    }

    /// The secret for reading the log of a node that has not joined yet.
    pub(crate) fn log_secret(&self) -> Zeroizing<Key> {
        self.secret_for(b"ka console 1 log")
    }

    fn secret_for(&self, label: &[u8]) -> Zeroizing<Key> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let mut key = Zeroizing::new(Key::default());
        key.copy_from_slice(hmac::sign(&root, label).as_ref());
        key
    }

    /// The text of the join key file.
    #[must_use]
    pub fn to_text(&self) -> String {
        line(JOIN_TAG, &[&self.controller, &self.secret])
    }

    /// Parses a join key file.
    ///
    /// # Errors
    /// [`KeyError`] when the text is not valid.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let [controller, secret] = values(text, JOIN_TAG)?;
        Ok(Self { controller, secret })
    }
}

/// Secrets must not stay in freed memory.
impl Drop for KeyPair {
    fn drop(&mut self) {
        self.private.zeroize();
    }
}

impl Drop for JoinKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Secrets never reach a log.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinKey").finish_non_exhaustive()
    }
}

/// Generates random bytes for a key or a nonce.
///
/// # Errors
/// [`KeyError::NoRandomness`] when the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

/// A public key's short code, as shown on a node's screen and in the controller's question: 40 bits of its
/// hash, in letters and digits that cannot be confused.
#[must_use]
pub fn code(key: &Key) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let hash = Sha256::digest([b"ka code 1".as_slice(), key].concat());
    let bits = hash.iter().take(5).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digit = |place: u32| char::from(ALPHABET[(bits >> (35 - 5 * place) & 31) as usize]);
    (0..4).map(digit).chain(['-']).chain((4..8).map(digit)).collect()
}

/// Whether the typed text means this code, however it was typed.
#[must_use]
pub fn is_code(typed: &str, code: &str) -> bool {
    let plain = |c: char| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    };
    let letters = |text: &str| -> String {
        text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(plain).collect()
    };
    letters(typed) == letters(code)
}

fn line(tag: &str, values: &[&Key]) -> String {
    let mut text = String::from(tag);
    for value in values {
        text.push(' ');
        for byte in value.iter() {
            text.push_str(&format!("{byte:02x}"));
        }
    }
    text.push('\n');
    text
}

fn values<const N: usize>(text: &str, tag: &'static str) -> Result<[Key; N], KeyError> {
    let mut words = text.split_whitespace();
    if words.next() != Some(tag) {
        return Err(KeyError::Shape { expected: tag });
    }
    let mut keys = [Key::default(); N];
    for (i, key) in keys.iter_mut().enumerate() {
        let word = words.next().ok_or(KeyError::Shape { expected: tag })?;
        *key = unhex(word).ok_or(KeyError::Value { tag, index: i + 1 })?;
    }
    if words.next().is_some() {
        return Err(KeyError::Shape { expected: tag });
    }
    Ok(keys)
}

fn unhex(word: &str) -> Option<Key> {
    let digits: Vec<u8> =
        word.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let mut key = Key::default();
    if digits.len() != key.len() * 2 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_reads_back_as_it_was_written() {
        let pair = KeyPair::generate().unwrap();
        assert_eq!(KeyPair::from_text(&pair.to_text()).unwrap(), pair);
        let join = JoinKey::generate(&pair).unwrap();
        assert_eq!(JoinKey::from_text(&join.to_text()).unwrap(), join);
    }

    #[test]
    fn each_use_of_the_join_secret_has_a_key_of_its_own() {
        let join = JoinKey::generate(&KeyPair::generate().unwrap()).unwrap();
        let keys = [*join.handshake_secret(), *join.log_secret(), join.secret];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        assert_eq!(*join.handshake_secret(), keys[0]);
    }

    #[test]
    fn a_code_is_short_and_forgives_how_it_is_typed() {
        let (one, other) = (code(&[1; 32]), code(&[2; 32]));
        assert!(one.len() == 9 && one.is_ascii() && one != other, "{one} {other}");
        assert!(is_code(&one, &one) && is_code(&one.replace('-', " ").to_lowercase(), &one));
        assert!(is_code("o1i lOLI-1", "0111-0111"));
        assert!(!is_code(&other, &one) && !is_code("", &one) && !is_code(&one[..8], &one));
    }

    #[test]
    fn what_is_not_a_key_is_told_apart() {
        let shape = KeyError::Shape { expected: JOIN_TAG };
        let good = JoinKey { controller: [1; 32], secret: [2; 32] }.to_text();
        for (text, error) in [
            (String::new(), shape.clone()),
            (KeyPair::generate().unwrap().to_text(), shape.clone()),
            (format!("{good} more"), shape.clone()),
            (good.replace("02", "0g"), KeyError::Value { tag: JOIN_TAG, index: 2 }),
            (
                good.trim_end().strip_suffix("02").unwrap().to_owned(),
                KeyError::Value { tag: JOIN_TAG, index: 2 },
            ),
        ] {
            assert_eq!(JoinKey::from_text(&text), Err(error), "{text}");
        }
    }
}
