//! The options of a DHCP message, as bytes (RFC 2131, 4.1; RFC 2132; RFC 3396).
//!
//! Servers send all kinds of options, and a malformed one must not invalidate the whole answer. So each is
//! parsed separately, and only when it is needed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ka::ipv4::{prefix_mask, prefix_of};
use ka_host::rtnetlink::Route;

/// The length of everything before the options: the fixed fields and the magic cookie.
pub(super) const HEADER: usize = 240;
/// The fixed fields `sname` and `file`, which may hold options too.
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

const PAD: u8 = 0;
const END: u8 = 255;
const OVERLOAD: u8 = 52;

/// Options by code. An option in several pieces is joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Reads the options of a datagram. Truncated ones are skipped.
    pub(super) fn read(datagram: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        options.take(datagram.get(HEADER..)?);
        let overload = options.get(OVERLOAD).and_then(<[u8]>::first).copied().unwrap_or(0);
        // In this order: a value may continue in the next place.
        for (bit, place) in [(1, FILE), (2, SNAME)] {
            if overload & bit != 0 {
                options.take(datagram.get(place)?);
            }
        }
        Some(options)
    }

    fn take(&mut self, mut rest: &[u8]) {
        while let Some((&code, after)) = rest.split_first() {
            match code {
                PAD => {
                    rest = after;
                    continue;
                }
                END => return,
                _ => {}
            }
            let Some((&length, after)) = after.split_first() else { return };
            let Some((value, after)) = after.split_at_checked(length.into()) else { return };
            self.0.entry(code).or_default().extend_from_slice(value);
            rest = after;
        }
    }

    pub(super) fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// A single byte.
    pub(super) fn byte(&self, code: u8) -> Option<u8> {
        <[u8; 1]>::try_from(self.get(code)?).ok().map(|[byte]| byte)
    }

    pub(super) fn short(&self, code: u8) -> Option<u16> {
        self.get(code)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub(super) fn number(&self, code: u8) -> Option<u32> {
        self.get(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.number(code).map(Ipv4Addr::from_bits)
    }

    /// The first of a list of addresses.
    pub(super) fn first_address(&self, code: u8) -> Option<Ipv4Addr> {
        let value = self.get(code).filter(|value| value.len() % 4 == 0)?;
        Some(Ipv4Addr::from(*value.first_chunk::<4>()?))
    }

    /// Text without the trailing zeros that some servers add.
    pub(super) fn text(&self, code: u8) -> Option<&str> {
        str::from_utf8(self.get(code)?).ok().map(|text| text.trim_end_matches('\0'))
    }

    /// Classless routes (RFC 3442); an error if the option is present but malformed.
    pub(super) fn routes(&self, code: u8) -> Result<Option<Vec<Route>>, &'static str> {
        let Some(mut rest) = self.get(code) else { return Ok(None) };
        let mut routes = Vec::new();
        while let Some((&prefix, after)) = rest.split_first() {
            if prefix > 32 {
                return Err("a prefix is longer than 32");
            }
            let known = usize::from(prefix).div_ceil(8);
            let (to, after) = after.split_at_checked(known).ok_or("it ends in the middle of a route")?;
            let (via, after) = after.split_first_chunk::<4>().ok_or("it ends in the middle of a route")?;
            let mut network = [0; 4];
            network[..known].copy_from_slice(to);
            let to = Ipv4Addr::from_bits(u32::from_be_bytes(network) & prefix_mask(prefix).to_bits());
            let via = Some(Ipv4Addr::from(*via)).filter(|via| !via.is_unspecified());
            routes.push(Route { to, prefix, via });
            rest = after;
        }
        if routes.is_empty() { Err("it is empty") } else { Ok(Some(routes)) }
    }
}

/// The prefix length of the address class, for servers that send no mask (RFC 2132, 3.3; RFC 791, 3.2).
pub(super) fn classful_prefix(address: Ipv4Addr) -> Option<u8> {
    match address.octets()[0] {
        1..=127 => prefix_of(Ipv4Addr::new(255, 0, 0, 0)),
        128..=191 => prefix_of(Ipv4Addr::new(255, 255, 0, 0)),
        192..=223 => prefix_of(Ipv4Addr::new(255, 255, 255, 0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(options: &[u8]) -> Vec<u8> {
        [&[0; HEADER], options].concat()
    }

    #[test]
    fn options_may_be_split_and_lie_in_other_fields() {
        // A mask in two pieces, then "file and sname hold options too".
        let mut bytes = datagram(&[1, 2, 255, 255, 0, 52, 1, 3, 1, 2, 255, 0, 255, 12, 1, b'x']);
        bytes[108..115].copy_from_slice(&[3, 4, 10, 0, 0, 1, 255]);
        bytes[44..50].copy_from_slice(&[26, 2, 5, 120, 0, 255]);
        let options = Options::read(&bytes).unwrap();
        assert_eq!(options.address(1), Some(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!(options.first_address(3), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(options.short(26), Some(1400));
        assert_eq!(options.get(12), None, "behind the end");
        // Without option overload, the fields are names.
        bytes[HEADER + 5..HEADER + 8].copy_from_slice(&[0; 3]);
        assert_eq!(Options::read(&bytes).unwrap().first_address(3), None);
        assert_eq!(Options::read(&bytes[..100]), None);
    }

    #[test]
    fn classless_routes_are_read_as_rfc_3442_writes_them() {
        let via = Some(Ipv4Addr::new(10, 0, 0, 1));
        let route = |to: [u8; 4], prefix, via| Route { to: to.into(), prefix, via };
        type Case<'a> = (&'a [u8], Result<Option<Vec<Route>>, ()>);
        let cases: [Case; 8] = [
            (&[0, 10, 0, 0, 1], Ok(Some(vec![route([0; 4], 0, via)]))),
            (&[8, 10, 10, 0, 0, 1], Ok(Some(vec![route([10, 0, 0, 0], 8, via)]))),
            (&[25, 10, 229, 0, 128, 10, 0, 0, 1], Ok(Some(vec![route([10, 229, 0, 128], 25, via)]))),
            // Host bits in a prefix, an on-link route, and a second one.
            (
                &[20, 10, 17, 255, 0, 0, 0, 0, 32, 1, 2, 3, 4, 10, 0, 0, 1],
                Ok(Some(vec![route([10, 17, 240, 0], 20, None), route([1, 2, 3, 4], 32, via)])),
            ),
            (&[33, 1, 2, 3, 4, 5, 10, 0, 0, 1], Err(())),
            (&[24, 10, 0], Err(())),
            (&[24, 10, 0, 0, 10, 0, 0], Err(())),
            (&[], Err(())),
        ];
        for (value, expected) in cases {
            let length = u8::try_from(value.len()).unwrap();
            let options = Options::read(&datagram(&[&[121, length], value].concat())).unwrap();
            assert_eq!(options.routes(121).map_err(|_| ()), expected, "{value:?}");
        }
        assert_eq!(Options::default().routes(121), Ok(None));
    }

    #[test]
    fn a_network_without_a_mask_has_that_of_its_class() {
        for (address, prefix) in [
            ([10, 1, 2, 3], Some(8)),
            ([172, 16, 0, 1], Some(16)),
            ([192, 168, 7, 9], Some(24)),
            ([224, 0, 0, 1], None),
            ([0, 0, 0, 1], None),
        ] {
            assert_eq!(classful_prefix(address.into()), prefix);
        }
    }
}
