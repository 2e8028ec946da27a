//! SHA-256 from ring, which is in every ka program anyway.

use ring::digest::{Context, SHA256};

/// A running hash.
#[derive(Clone)]
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl Sha256 {
    /// The hash of no data.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds data.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes.as_ref());
    }

    /// The hash of all data.
    #[must_use]
    pub fn finalize(self) -> [u8; 32] {
        let mut sum = [0; 32];
        // SHA-256 has exactly this many bytes.
        sum.copy_from_slice(self.0.finish().as_ref());
        sum
    }

    /// The hash of these bytes.
    #[must_use]
    pub fn digest(bytes: impl AsRef<[u8]>) -> [u8; 32] {
        let mut sum = Self::new();
        sum.update(bytes);
        sum.finalize()
    }
}
