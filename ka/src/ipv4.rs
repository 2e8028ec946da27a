//! Masks of IPv4 networks.

use std::net::Ipv4Addr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
