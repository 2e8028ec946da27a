//! Rewrites one network configuration file line by line, in any syntax: `key value`, `key=value`, `key:
//! value`.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use ka::mac::Mac;
use ka::plan::NodeAddress;

/// The configuration syntax of a system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// One file configures several interfaces, each in an ifupdown stanza.
    pub(super) stanzas: bool,
    /// The keys of the default gateway.
    pub(super) gateways: &'static [&'static str],
    /// The keys of the prefix length, if it does not follow the address: a mask or a number.
    pub(super) masks: &'static [&'static str],
    /// The keys of values derived from address and prefix, which would be wrong in another network.
    pub(super) derived: &'static [&'static str],
    /// The keys of one address end with its number: `IPADDR0`, `IPADDR_1`.
    pub(super) numbered: bool,
    /// A route is an item of a YAML list, not a section.
    pub(super) lists: bool,
}

impl Format {
    /// Replaces the golden node's address in `text` with the node's.
    pub(super) fn rewrite(&self, text: &str, golden: IpAddr, own: &NodeAddress) -> String {
        let blocks = if self.stanzas { stanzas(text) } else { vec![text] };
        blocks.into_iter().map(|block| self.rewrite_block(block, golden, own)).collect()
    }

    fn rewrite_block(&self, block: &str, golden: IpAddr, own: &NodeAddress) -> String {
        let has_it = |line: &str| !is_comment(line) && addresses(line).any(|(_, address)| address == golden);
        if !block.lines().any(has_it) {
            return block.to_owned();
        }
        let number = self.number(block, golden);
        let prefix = self.prefix(block, golden, number);
        let same_network = prefix.is_some_and(|prefix| {
            own.prefix.is_none_or(|new| new == prefix)
                && network(golden, prefix) == network(own.address, prefix)
        });
        // Other cards, and routes through other machines, have gateways too. A network of one address has no
        // gateway.
        let alone = if golden.is_ipv4() { 32 } else { 128 };
        let is_near = |gateway: IpAddr| {
            prefix.is_none_or(|prefix| prefix >= alone || network(golden, prefix) == network(gateway, prefix))
        };
        let mut new = String::with_capacity(block.len());
        let sections = if self.lists { items(block) } else { split_at(block, |line| line.starts_with('[')) };
        for section in sections {
            let is_default = leads_everywhere(section);
            for line in section.split_inclusive('\n') {
                if is_comment(line) {
                    new.push_str(line);
                    continue;
                }
                let (key, numbered) = self.key_of(line);
                let is_its = !self.numbered || numbered == number;
                if self.derived.contains(&key) && is_its && !same_network {
                    continue;
                }
                let is_gateway =
                    self.gateways.contains(&key) && is_default || self.lists && is_flow_default(line);
                let mut line = with_address(line, golden, own, is_gateway, is_near);
                if let Some(prefix) = own.prefix
                    && is_its
                    && self.masks.contains(&key)
                {
                    line = with_mask(&line, prefix);
                }
                new.push_str(&line);
            }
        }
        new
    }

    /// The part before the value, and the number at the key's end.
    fn key_of<'a>(&self, line: &'a str) -> (&'a str, &'a str) {
        let key = key_of(line).unwrap_or_default();
        if !self.numbered {
            return (key, "");
        }
        let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let stem = if stem.len() < key.len() { stem.strip_suffix('_').unwrap_or(stem) } else { stem };
        key.split_at(stem.len())
    }

    /// The number at the end of the key with the golden address.
    fn number<'a>(&self, block: &'a str, golden: IpAddr) -> &'a str {
        let mut lines = block.lines().filter(|line| !is_comment(line));
        let line = lines.find(|line| addresses(line).any(|(_, address)| address == golden));
        line.map_or("", |line| self.key_of(line).1)
    }

    /// The prefix of the golden address in this block.
    fn prefix(&self, block: &str, golden: IpAddr, number: &str) -> Option<u8> {
        block.lines().filter(|line| !is_comment(line)).find_map(|line| {
            let behind = addresses(line).find(|(_, address)| *address == golden).and_then(|(range, _)| {
                let digits = line.get(range.end..)?.strip_prefix('/')?;
                digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
            });
            let masked = || {
                let (key, numbered) = self.key_of(line);
                let value = value_of(line).filter(|_| self.masks.contains(&key) && numbered == number)?;
                match value.parse::<Ipv4Addr>() {
                    Ok(mask) => u8::try_from(u32::from(mask).leading_ones()).ok(),
                    Err(_) => value.parse().ok(),
                }
            };
            behind.or_else(masked)
        })
    }
}

/// Stanzas of interfaces(5): from one keyword that starts a stanza to the next.
fn stanzas(text: &str) -> Vec<&str> {
    let begins = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        matches!(word, "iface" | "auto" | "mapping" | "source" | "source-directory")
            || word.starts_with("allow-")
    };
    split_at(text, begins)
}

/// The parts of a text, each from one starting line to the next.
fn split_at(text: &str, mut begins: impl FnMut(&str) -> bool) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if begins(line) && at > start {
            found.extend(text.get(start..at));
            start = at;
        }
        at += line.len();
    }
    found.extend(text.get(start..));
    found
}

/// The items of YAML lists, each from its dash to the end of the indented lines that follow, and the text
/// between them.
fn items(text: &str) -> Vec<&str> {
    let mut dash = None;
    split_at(text, |line| {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("- ") {
            dash = Some(indent);
            return true;
        }
        let left = !line.trim().is_empty() && dash.is_some_and(|dash| indent <= dash);
        if left {
            dash = None;
        }
        left
    })
}

/// Whether the line is a complete default route in braces: `- {to: default, via: 10.0.0.254}`.
fn is_flow_default(line: &str) -> bool {
    let bare: String = line.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect();
    let Some((_, route)) = bare.split_once('{') else { return false };
    let words = || route.split([',', '{', '}']);
    let one = |key: &str| words().filter(|word| word.starts_with(key)).count() == 1;
    one("to:") && one("via:") && words().filter_map(|word| word.strip_prefix("to:")).all(is_everywhere)
}

fn is_everywhere(to: &str) -> bool {
    matches!(to, "default" | "0.0.0.0/0" | "::/0" | "0/0")
}

/// Whether the gateway of a section is the default one: the section has at most one route, and the route's
/// destination, if there is one (`Destination=` of networkd, `to:` of netplan), is everywhere.
fn leads_everywhere(section: &str) -> bool {
    let values = |wanted: &'static str| {
        let lines = section.lines().filter(move |line| !is_comment(line) && key_of(line) == Some(wanted));
        lines.filter_map(value_of)
    };
    values("Destination").chain(values("to")).all(is_everywhere) && values("via").count() <= 1
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with(['#', ';'])
}

/// The part before the value, without the dash of a YAML list.
fn key_of(line: &str) -> Option<&str> {
    let line = line.trim().trim_start_matches("- ");
    match line.find(['=', ':']) {
        Some(at) => line.get(..at).map(str::trim).filter(|key| !key.is_empty()),
        None => line.split_whitespace().next(),
    }
}

/// The rest of the line, without quotes.
fn value_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let at = line.find(['=', ':']).or_else(|| line.find(char::is_whitespace))?;
    Some(line.get(at + 1..)?.trim().trim_matches(['"', '\'']))
}

/// The addresses in a line, with their positions.
fn addresses(line: &str) -> impl Iterator<Item = (Range<usize>, IpAddr)> {
    let inside = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = line.get(at..).and_then(|rest| rest.find(inside)).map(|offset| at + offset) {
        let rest = line.get(start..).unwrap_or_default();
        let end = start + rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let free = !line.get(..start).is_some_and(|before| before.ends_with(word))
            && !line.get(end..).is_some_and(|behind| behind.starts_with(word));
        if free && let Some(Ok(address)) = line.get(start..end).map(str::parse) {
            found.push((start..end, address));
        }
        at = end;
    }
    found.into_iter()
}

/// Replaces the golden address and its prefix. Also replaces the gateway if the line has its key, or if it
/// follows the address and a comma and is on the same network.
fn with_address(
    line: &str,
    golden: IpAddr,
    own: &NodeAddress,
    is_gateway: bool,
    is_near: impl Fn(IpAddr) -> bool,
) -> String {
    let mut new = String::with_capacity(line.len());
    let mut done = 0;
    let mut behind_own = false;
    for (range, address) in addresses(line) {
        let between = line.get(done..range.start).unwrap_or_default();
        new.push_str(between);
        done = range.end;
        let listed = behind_own && between.ends_with(',');
        match own.gateway {
            _ if address == golden && !is_gateway => {
                new.push_str(&own.address.to_string());
                behind_own = true;
                let rest = line.get(done..).unwrap_or_default();
                let digits = rest
                    .strip_prefix('/')
                    .map(|rest| rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
                if let (Some(prefix), Some(digits @ 1..)) = (own.prefix, digits) {
                    new.push_str(&format!("/{prefix}"));
                    done += 1 + digits;
                }
            }
            Some(gateway)
                if (is_gateway || listed) && gateway.is_ipv4() == address.is_ipv4() && is_near(address) =>
            {
                new.push_str(&gateway.to_string());
            }
            _ => new.push_str(line.get(range).unwrap_or_default()),
        }
    }
    new + line.get(done..).unwrap_or_default()
}

/// Formats the value as a mask or as a number, like the old value.
fn with_mask(line: &str, prefix: u8) -> String {
    let Some(value) = value_of(line) else { return line.to_owned() };
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    let new = if value.contains('.') { Ipv4Addr::from(mask).to_string() } else { prefix.to_string() };
    line.replacen(value, &new, 1)
}

/// The network of an address.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            std::net::Ipv6Addr::from(u128::from(v6) & mask).into()
        }
    }
}

/// `text` with the first hardware address of each of the `pairs` replaced by the second, with colons or
/// dashes, in either case. All are replaced at once, because a node's card may be another's golden one.
pub(super) fn hardware_addresses(text: &str, pairs: &[(Mac, Mac)]) -> String {
    const LENGTH: usize = 17;
    let mut new = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_');
        let found = rest.get(..LENGTH).filter(|_| first.is_ascii_hexdigit()).and_then(|word| {
            let separator = word.get(2..3).filter(|separator| matches!(*separator, ":" | "-"))?;
            let goes_on =
                rest.get(LENGTH..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
            // The prefixes of PXELINUX and NetworkManager.
            let begins = !new.ends_with(inner) || new.ends_with("01-") || new.ends_with("mac:");
            let golden: Mac = word.parse().ok().filter(|_| !goes_on && begins)?;
            let (_, own) = pairs.iter().find(|(old, _)| *old == golden)?;
            Some(own.to_string().replace(':', separator))
        });
        let taken = match &found {
            Some(own) => {
                new.push_str(own);
                LENGTH
            }
            None => {
                new.push(first);
                first.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    new
}

#[cfg(test)]
mod tests {
    use super::super::{IFCFG, IFUPDOWN, KEYFILE, NETPLAN, NETWORKD};
    use super::*;

    const GOLDEN: &str = "10.0.0.1";

    fn own(address: &str, prefix: Option<u8>, gateway: Option<&str>) -> NodeAddress {
        NodeAddress {
            address: address.parse().unwrap(),
            prefix,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }
    }

    #[test]
    fn an_address_takes_the_golden_ones_place() {
        let same = own("10.0.0.7", None, None);
        let other = own("10.1.0.7", Some(16), Some("10.1.0.254"));
        for (format, old, with_same, with_other) in [
            (
                IFUPDOWN,
                "auto eth0\niface eth0 inet static\n  address 10.0.0.1/24\n  broadcast 10.0.0.255\n  gateway 10.0.0.254\niface eth1 inet static\n  address 10.0.0.10\n  gateway 10.9.0.1\n",
                "auto eth0\niface eth0 inet static\n  address 10.0.0.7/24\n  broadcast 10.0.0.255\n  gateway 10.0.0.254\niface eth1 inet static\n  address 10.0.0.10\n  gateway 10.9.0.1\n",
                "auto eth0\niface eth0 inet static\n  address 10.1.0.7/16\n  gateway 10.1.0.254\niface eth1 inet static\n  address 10.0.0.10\n  gateway 10.9.0.1\n",
            ),
            (
                IFUPDOWN,
                "iface eth0 inet static\n\taddress 10.0.0.1\n\tnetmask 255.255.255.0\n\tnetwork 10.0.0.0\n",
                "iface eth0 inet static\n\taddress 10.0.0.7\n\tnetmask 255.255.255.0\n\tnetwork 10.0.0.0\n",
                "iface eth0 inet static\n\taddress 10.1.0.7\n\tnetmask 255.255.0.0\n",
            ),
            (
                NETWORKD,
                "[Network]\n# Address=10.0.0.1/24\nAddress=10.0.0.1/24\nGateway=10.0.0.254\nGateway=fe80::1\nDNS=10.0.0.2\n",
                "[Network]\n# Address=10.0.0.1/24\nAddress=10.0.0.7/24\nGateway=10.0.0.254\nGateway=fe80::1\nDNS=10.0.0.2\n",
                "[Network]\n# Address=10.0.0.1/24\nAddress=10.1.0.7/16\nGateway=10.1.0.254\nGateway=fe80::1\nDNS=10.0.0.2\n",
            ),
            (
                KEYFILE,
                "[ipv4]\naddress1=10.0.0.1/24,10.0.0.254\ndns=10.0.0.2;\n",
                "[ipv4]\naddress1=10.0.0.7/24,10.0.0.254\ndns=10.0.0.2;\n",
                "[ipv4]\naddress1=10.1.0.7/16,10.1.0.254\ndns=10.0.0.2;\n",
            ),
            (
                NETPLAN,
                "  addresses:\n    - \"10.0.0.1/24\"\n  routes:\n    - to: default\n      via: 10.0.0.254\n",
                "  addresses:\n    - \"10.0.0.7/24\"\n  routes:\n    - to: default\n      via: 10.0.0.254\n",
                "  addresses:\n    - \"10.1.0.7/16\"\n  routes:\n    - to: default\n      via: 10.1.0.254\n",
            ),
            (
                IFCFG,
                "IPADDR=\"10.0.0.1\"\nPREFIX=24\nGATEWAY=10.0.0.254\nBROADCAST=10.0.0.255\n",
                "IPADDR=\"10.0.0.7\"\nPREFIX=24\nGATEWAY=10.0.0.254\nBROADCAST=10.0.0.255\n",
                "IPADDR=\"10.1.0.7\"\nPREFIX=16\nGATEWAY=10.1.0.254\n",
            ),
        ] {
            let golden = GOLDEN.parse().unwrap();
            assert_eq!(format.rewrite(old, golden, &same), with_same);
            assert_eq!(format.rewrite(old, golden, &other), with_other);
        }
    }

    #[test]
    fn gateways_of_other_cards_and_routes_stay() {
        let own = own("10.1.0.7", Some(16), Some("10.1.0.254"));
        for (format, old, new) in [
            (
                NETPLAN,
                "    ens3:\n      addresses: [10.0.0.1/24]\n      gateway4: 10.0.0.254\n    ens4:\n      addresses: [192.168.5.9/24]\n      gateway4: 192.168.5.1\n",
                "    ens3:\n      addresses: [10.1.0.7/16]\n      gateway4: 10.1.0.254\n    ens4:\n      addresses: [192.168.5.9/24]\n      gateway4: 192.168.5.1\n",
            ),
            (
                NETPLAN,
                "      addresses: [10.0.0.1/24]\n      routes:\n      - to: 172.16.0.0/12\n        via: 10.0.0.253\n",
                "      addresses: [10.1.0.7/16]\n      routes:\n      - to: 172.16.0.0/12\n        via: 10.0.0.253\n",
            ),
            (
                NETWORKD,
                "[Network]\nAddress=10.0.0.1/24\nGateway=10.0.0.254\n[Route]\nDestination=172.16.0.0/12\nGateway=10.0.0.253\n[Route]\nGateway=10.0.0.252\nDestination=0.0.0.0/0\n",
                "[Network]\nAddress=10.1.0.7/16\nGateway=10.1.0.254\n[Route]\nDestination=172.16.0.0/12\nGateway=10.0.0.253\n[Route]\nGateway=10.1.0.254\nDestination=0.0.0.0/0\n",
            ),
            (
                IFCFG,
                "IPADDR0=10.0.0.1\nPREFIX0=24\nGATEWAY0=10.0.0.254\nIPADDR1=192.168.5.9\nPREFIX1=26\n",
                "IPADDR0=10.1.0.7\nPREFIX0=16\nGATEWAY0=10.1.0.254\nIPADDR1=192.168.5.9\nPREFIX1=26\n",
            ),
            (
                IFCFG,
                "IPADDR='192.168.5.9'\nNETMASK='255.255.255.192'\nIPADDR_1='10.0.0.1'\nNETMASK_1='255.255.255.0'\nGATEWAY='192.168.5.1'\n",
                "IPADDR='192.168.5.9'\nNETMASK='255.255.255.192'\nIPADDR_1='10.1.0.7'\nNETMASK_1='255.255.0.0'\nGATEWAY='192.168.5.1'\n",
            ),
            (
                NETPLAN,
                "    ens3:\n      addresses: [10.0.0.1/24]\n      routes:\n        - to: 192.168.0.0/16\n          via: 10.0.0.253\n        - to: \"default\"\n          via: 10.0.0.254\n    ens4:\n      routes:\n      - via: 192.168.5.1\n        to: 0.0.0.0/0\n",
                "    ens3:\n      addresses: [10.1.0.7/16]\n      routes:\n        - to: 192.168.0.0/16\n          via: 10.0.0.253\n        - to: \"default\"\n          via: 10.1.0.254\n    ens4:\n      routes:\n      - via: 192.168.5.1\n        to: 0.0.0.0/0\n",
            ),
            (
                NETPLAN,
                "      addresses: [10.0.0.1/24]\n      routes:\n      - {to: default, via: 10.0.0.254}\n      - {to: 172.16.0.0/12, via: 10.0.0.253}\n      gateway6: fe80::1\n",
                "      addresses: [10.1.0.7/16]\n      routes:\n      - {to: default, via: 10.1.0.254}\n      - {to: 172.16.0.0/12, via: 10.0.0.253}\n      gateway6: fe80::1\n",
            ),
            // A single host with prefix 32, as some providers have it: the second address can only be its
            // gateway.
            (KEYFILE, "address1=10.0.0.1/32,10.9.9.9\n", "address1=10.1.0.7/16,10.1.0.254\n"),
        ] {
            assert_eq!(format.rewrite(old, GOLDEN.parse().unwrap(), &own), new);
        }
    }

    #[test]
    fn nothing_else_changes() {
        let golden = GOLDEN.parse().unwrap();
        let other = own("10.1.0.7", Some(16), Some("10.1.0.254"));
        for text in [
            "iface eth0 inet dhcp\n",
            "  addresses: [10.0.0.10/24, 110.0.0.1/24]\n  gateway4: 10.0.0.254\n",
            "address 10.0.0.1x\n",
            "name=x10.0.0.1\n",
            "#address 10.0.0.1\n",
            "",
        ] {
            for format in [IFUPDOWN, NETPLAN, IFCFG] {
                assert_eq!(format.rewrite(text, golden, &other), text);
            }
        }
    }

    #[test]
    fn addresses_of_the_other_family_are_known_however_they_are_written() {
        let own = own("fd00::7", None, None);
        let golden = "fd00::1".parse().unwrap();
        let text = "[Network]\nAddress=fd00:0:0::0001/64\nAddress=10.0.0.1/24\n";
        assert_eq!(
            NETWORKD.rewrite(text, golden, &own),
            "[Network]\nAddress=fd00::7/64\nAddress=10.0.0.1/24\n"
        );
    }

    #[test]
    fn hardware_addresses_are_replaced_in_every_form() {
        let (golden, own) = ("52:54:00:ab:cd:01".parse().unwrap(), "52:54:00:ab:cd:07".parse().unwrap());
        assert_eq!(
            hardware_addresses(
                "HWADDR=52:54:00:AB:CD:01\nx=52-54-00-ab-cd-01 52:54:00:ab:cd:02 52:54:00:ab:cd:01:05 é",
                &[(golden, own), (own, golden)]
            ),
            "HWADDR=52:54:00:ab:cd:07\nx=52-54-00-ab-cd-07 52:54:00:ab:cd:02 52:54:00:ab:cd:07:05 é"
        );
    }
}
