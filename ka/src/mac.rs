//! Hardware addresses, in every notation that administrators, kernels and boot loaders use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address: a machine's identifier before it has any other name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not a machine's hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MacError {
    /// The format is wrong.
    #[error("expected a hardware address such as 52:54:00:12:34:56, found '{0}'")]
    Shape(String),
    /// It is a group address or all zeros.
    #[error("'{0}' is not a single machine's address")]
    NoMachine(String),
}

impl FromStr for Mac {
    type Err = MacError;

    /// Parses `aa:bb:cc:dd:ee:ff`, `aa-bb-cc-dd-ee-ff`, `aabb.ccdd.eeff`, `aabbccddeeff`, and pxelinux's
    /// `01-aa-bb-cc-dd-ee-ff`, in either case.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let shape = || MacError::Shape(text.to_owned());
        let digits = digits(text).ok_or_else(shape)?;
        let value = u64::from_str_radix(&digits, 16).map_err(|_| shape())?;
        let [_, _, bytes @ ..] = value.to_be_bytes();
        // The lowest bit of the first byte marks group addresses, including the broadcast address (IEEE 802).
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(MacError::NoMachine(text.to_owned()));
        }
        Ok(Self(bytes))
    }
}

/// The twelve digits of an address in one of the known notations.
fn digits(text: &str) -> Option<String> {
    const PXELINUX_ETHERNET: &str = "01-";
    let groups = |text: &str, separator: char, count: usize| {
        let width = 12 / count;
        let parts: Vec<_> = text.split(separator).collect();
        (parts.len() == count && parts.iter().all(|p| p.len() == width)).then(|| parts.concat())
    };
    let bare = text.strip_prefix(PXELINUX_ETHERNET).filter(|rest| rest.len() == 17).unwrap_or(text);
    let digits = groups(bare, ':', 6)
        .or_else(|| groups(bare, '-', 6))
        .or_else(|| groups(bare, '.', 3))
        .or_else(|| groups(bare, ':', 1))?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then_some(digits)
}

impl Mac {
    /// The name of the file that pxelinux requests first: `01-aa-bb-cc-dd-ee-ff`.
    #[must_use]
    pub fn pxelinux_name(&self) -> String {
        format!("01-{}", self.join('-'))
    }

    fn join(&self, separator: char) -> String {
        self.0.map(|b| format!("{b:02x}")).join(&separator.to_string())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.join(':'))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}
