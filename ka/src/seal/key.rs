//! The key of one attempt at a stream, and the values derived from it.

use std::fmt;

use ring::{aead, hmac};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::keys::{Key, KeyError, random};

/// The id of one attempt at a stream. Random, so that no two attempts share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamId(pub [u8; 16]);

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The AEAD that seals a stream's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-256-GCM, if the golden node's processor has AES instructions.
    Aes256Gcm,
    /// ChaCha20-Poly1305 otherwise.
    ChaCha20Poly1305,
}

impl Cipher {
    /// The faster one on this processor.
    #[must_use]
    pub fn preferred() -> Self {
        if crate::arch::has_aes() { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    pub(super) fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// Everything that is needed to seal and open one attempt at a stream. Only admitted nodes get it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamKey {
    /// The attempt's id.
    pub stream: StreamId,
    /// The blocks' algorithm.
    pub cipher: Cipher,
    secret: Key,
}

impl StreamKey {
    /// Generates a fresh key under a fresh stream id.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`] when the system has none.
    pub fn generate(cipher: Cipher) -> Result<Self, KeyError> {
        Ok(Self { stream: StreamId(random()?), cipher, secret: random()? })
    }

    pub(super) fn aead(&self) -> aead::LessSafeKey {
        let secret = Zeroizing::new(self.derive(b"ka block"));
        // A 32-byte key fits both algorithms, so this cannot fail; a panic here would be a bug in ka.
        #[allow(clippy::expect_used)]
        let key = aead::UnboundKey::new(self.cipher.algorithm(), &secret[..]).expect("32-byte key");
        aead::LessSafeKey::new(key)
    }

    fn derive(&self, label: &[u8]) -> Key {
        let mut key = Key::default();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        key.copy_from_slice(hmac::sign(&secret, label).as_ref());
        key
    }
}

impl Drop for StreamKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamKey").field("stream", &self.stream).finish_non_exhaustive()
    }
}
