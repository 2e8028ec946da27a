//! Generates identifiers for disks and partitions from one random seed.
//!
//! This library has no source of randomness. The writer of a table supplies 32 random bytes, from which all
//! signatures and GUIDs of one disk are derived.

use super::description::DiskSignature;
use super::guid::Guid;
use crate::sha256::Sha256;

/// 32 random bytes, new for every disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// A disk signature; never 0, which means "none" to several tools.
    #[must_use]
    pub fn signature(&self) -> DiskSignature {
        let [a, b, c, d, ..] = self.derive(b"signature", 0);
        DiskSignature(u32::from_le_bytes([a, b, c, d]).max(1))
    }

    /// A GUID for the disk.
    #[must_use]
    pub fn disk(&self) -> Guid {
        Guid::random(self.derive(b"disk", 0))
    }

    /// A GUID for the partition with this number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Guid {
        Guid::random(self.derive(b"partition", number))
    }

    fn derive(&self, what: &[u8], number: u32) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(what);
        hash.update(number.to_le_bytes());
        let sum: [u8; 32] = hash.finalize();
        let (first, _) = sum.split_at(16);
        first.try_into().unwrap_or_default()
    }
}

/// A seed determines identifiers and is not shown.
impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(…)")
    }
}
