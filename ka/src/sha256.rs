//! SHA-256 as ring computes it, which is in every program of ka anyway.

use ring::digest::{Context, SHA256};

/// A sum that grows with what is read.
#[derive(Clone)]
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl Sha256 {
    /// The sum of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds what comes next.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes.as_ref());
    }

    /// The sum of all.
    #[must_use]
    pub fn finalize(self) -> [u8; 32] {
        let mut sum = [0; 32];
        // SHA-256 has as many bytes.
        sum.copy_from_slice(self.0.finish().as_ref());
        sum
    }

    /// The sum of these bytes alone.
    #[must_use]
    pub fn digest(bytes: impl AsRef<[u8]>) -> [u8; 32] {
        let mut sum = Self::new();
        sum.update(bytes);
        sum.finalize()
    }
}
