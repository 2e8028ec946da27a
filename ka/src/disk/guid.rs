//! GUIDs, which identify GPT disks, their partitions, and partition types.
//!
//! On disk the first three of a GUID's five parts are little-endian (UEFI specification, appendix A); in text
//! they are big-endian.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A GUID; shown as the kernel and blkid do, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guid(u128);

/// Text that is not a GUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a GUID such as 0fc63daf-8483-4772-8e79-3d69d8477de4, found `{0}`")]
pub struct BadGuid(pub String);

impl Guid {
    /// The all-zero GUID: the type of an unused entry.
    pub const NIL: Self = Self(0);

    /// A GUID from its digits as one number.
    #[must_use]
    pub const fn new(digits: u128) -> Self {
        Self(digits)
    }

    /// A random GUID (version 4, RFC 9562) from 16 random bytes.
    #[must_use]
    pub fn random(random: [u8; 16]) -> Self {
        const VERSION_AND_VARIANT: u128 = 0xf000_c000_0000_0000_0000;
        Self(u128::from_be_bytes(random) & !VERSION_AND_VARIANT | 0x4000_8000_0000_0000_0000)
    }

    /// From the bytes on a disk.
    #[must_use]
    pub fn from_disk(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(swapped(bytes)))
    }

    /// The bytes on a disk.
    #[must_use]
    pub fn to_disk(self) -> [u8; 16] {
        swapped(self.0.to_be_bytes())
    }

    /// In upper case, as partitioning tools write it.
    #[must_use]
    pub fn upper(self) -> String {
        self.to_string().to_ascii_uppercase()
    }
}

/// Reverses the first three parts.
fn swapped(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, digit) in format!("{:032x}", self.0).chars().enumerate() {
            if matches!(i, 8 | 12 | 16 | 20) {
                f.write_str("-")?;
            }
            fmt::Write::write_char(f, digit)?;
        }
        Ok(())
    }
}

impl FromStr for Guid {
    type Err = BadGuid;

    fn from_str(text: &str) -> Result<Self, BadGuid> {
        let bad = || BadGuid(text.to_owned());
        let parts: Vec<_> = text.split('-').collect();
        let lengths = parts.iter().map(|part| part.len());
        let digits = parts.concat();
        if !lengths.eq([8, 4, 4, 4, 12]) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(&digits, 16).map(Self).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_read_and_written_as_everybody_does() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let guid: Guid = text.parse().unwrap();
        assert_eq!(guid.to_string(), text);
        assert_eq!(guid.to_disk()[..8], [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]);
        assert_eq!(Guid::from_disk(guid.to_disk()), guid);
        assert_eq!(guid.upper().parse(), Ok(guid));
        for bad in ["", "0", "00112233-4455-6677-8899-aabbccddeef", "+0112233-4455-6677-8899-aabbccddeeff"] {
            assert_eq!(bad.parse::<Guid>(), Err(BadGuid(bad.to_owned())));
        }
        assert_eq!(Guid::random([0xff; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
