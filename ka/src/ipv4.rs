//! IPv4 network masks and address ranges.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The mask of a prefix length; lengths above 32 count as 32.
#[must_use]
pub fn prefix_mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0))
}

/// The prefix length of a mask, if it is ones followed by zeros.
#[must_use]
pub fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    let prefix = u8::try_from(ones).ok()?;
    (prefix_mask(prefix) == mask).then_some(prefix)
}

/// An address range, such as DHCP may assign: `FIRST,LAST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address.
    pub last: Ipv4Addr,
}

/// Why a text is not an address range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressRangeError {
    /// It has no comma.
    #[error("expected FIRST,LAST, such as 10.0.0.10,10.0.0.99")]
    Form,
    /// One of the two is not an address.
    #[error("'{0}' is not an IPv4 address")]
    Address(String),
    /// The two are in the wrong order.
    #[error("{0} is above {1}")]
    Order(Ipv4Addr, Ipv4Addr),
}

impl AddressRange {
    /// The number of addresses.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::from(self.last.to_bits()) - u64::from(self.first.to_bits()) + 1
    }

    /// Whether the range contains this address.
    #[must_use]
    pub fn has(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.first, self.last)
    }
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once(',').ok_or(AddressRangeError::Form)?;
        let address =
            |t: &str| t.trim().parse::<Ipv4Addr>().map_err(|_| AddressRangeError::Address(t.to_owned()));
        let range = Self { first: address(first)?, last: address(last)? };
        if range.first > range.last {
            return Err(AddressRangeError::Order(range.first, range.last));
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let good = AddressRange { first: Ipv4Addr::new(10, 0, 0, 2), last: Ipv4Addr::new(10, 0, 0, 9) };
        assert_eq!("10.0.0.2,10.0.0.9".parse(), Ok(good));
        assert_eq!("10.0.0.2, 10.0.0.9".parse(), Ok(good));
        assert_eq!(
            (good.count(), good.has(good.last), good.has(Ipv4Addr::new(10, 0, 0, 10))),
            (8, true, false)
        );
        for bad in ["", "10.0.0.2", "10.0.0.9,10.0.0.2", "a,b", "10.0.0.2,10.0.0.9,24"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn masks_and_prefixes_agree() {
        for (prefix, mask) in
            [(0, "0.0.0.0"), (8, "255.0.0.0"), (20, "255.255.240.0"), (32, "255.255.255.255")]
        {
            let mask: Ipv4Addr = mask.parse().unwrap();
            assert_eq!(prefix_mask(prefix), mask);
            assert_eq!(prefix_of(mask), Some(prefix));
        }
        assert_eq!(prefix_of(Ipv4Addr::new(255, 0, 255, 0)), None);
    }
}
