//! A site's table of its nodes: the name and address of each machine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ka::hostname;
use ka::mac::Mac;
use ka::plan::{NodeAddress, NodeName};

use crate::lists::list::{self, Line, ListError, Once};

/// Names, and the addresses to configure on the nodes, by hardware address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(BTreeMap<Mac, NodeName>);

impl Hosts {
    /// Reads a table of lines `MAC NAME [ADDRESS[/PREFIX] [GATEWAY]] [GOLDEN-INTERFACE=MAC …]`; `#` begins a
    /// comment.
    ///
    /// # Errors
    /// [`ListError`] with file, line and column.
    pub fn read(path: &Path) -> Result<Self, ListError> {
        Self::parse(path, &list::read(path, "the table of hosts")?)
    }

    /// Parses such a table; `path` is for errors.
    ///
    /// # Errors
    /// [`ListError`] with file, line and column.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ListError> {
        let mut hosts = BTreeMap::new();
        let (mut macs, mut names, mut addresses) = (Once::new(), Once::new(), Once::new());
        for mut line in list::lines(path, text) {
            let mac = line.mac()?;
            macs.add(mac, &line, line.first)?;
            let name = line.need("the name")?;
            if !hostname::is_valid(name) {
                return Err(line.wrong(name, "a host name: letters, digits and '-'"));
            }
            names.add(name.to_ascii_lowercase(), &line, name)?;
            let mut next = line.next();
            let mut place = None;
            if let Some(word) = next.filter(|word| !word.contains('=')) {
                let own = self::address(&line, word)?;
                addresses.add(own.address, &line, word)?;
                next = line.next();
                let gateway = next.filter(|word| !word.contains('='));
                if gateway.is_some() {
                    next = line.next();
                }
                let gateway = gateway.map(|word| self::gateway(&line, word, own.address)).transpose()?;
                place = Some(NodeAddress { gateway, ..own });
            }
            let mut cards = Vec::new();
            while let Some(word) = next {
                let (interface, card) = card(&line, word)?;
                macs.add(card, &line, word)?;
                if cards.iter().any(|(other, _)| *other == interface) {
                    return Err(line.wrong(word, "each interface once"));
                }
                cards.push((interface, card));
                next = line.next();
            }
            line.end()?;
            hosts.insert(mac, NodeName { hostname: name.to_owned(), address: place, cards });
        }
        if hosts.is_empty() {
            return Err(ListError::Empty { path: path.to_owned() });
        }
        Ok(Self(hosts))
    }

    /// A table of names alone.
    ///
    /// # Errors
    /// The first machine whose name another one has.
    pub fn of<'a>(names: impl IntoIterator<Item = (Mac, &'a str)>) -> Result<Self, (Mac, &'a str)> {
        let mut hosts: BTreeMap<Mac, NodeName> = BTreeMap::new();
        for (mac, name) in names {
            if hosts.values().any(|known| known.hostname.eq_ignore_ascii_case(name)) {
                return Err((mac, name));
            }
            hosts.insert(mac, NodeName { hostname: name.to_owned(), address: None, cards: Vec::new() });
        }
        Ok(Self(hosts))
    }

    /// All machines in it.
    pub fn iter(&self) -> impl Iterator<Item = (Mac, &NodeName)> {
        self.0.iter().map(|(mac, name)| (*mac, name))
    }

    /// The table's entry for a machine.
    #[must_use]
    pub fn get(&self, mac: Mac) -> Option<&NodeName> {
        self.0.get(&mac)
    }

    /// All names, by hardware address.
    #[must_use]
    pub fn into_names(self) -> BTreeMap<Mac, NodeName> {
        self.0
    }
}

fn address(line: &Line<'_>, word: &str) -> Result<NodeAddress, ListError> {
    const EXPECTED: &str = "an IP address, alone or with its prefix's length (10.0.0.7/24)";
    let (text, prefix) = word.split_once('/').map_or((word, None), |(text, prefix)| (text, Some(prefix)));
    let address = of_a_machine(text).ok_or_else(|| line.wrong(word, EXPECTED))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix.map(str::parse::<u8>) {
        None => None,
        Some(Ok(prefix)) if (1..=most).contains(&prefix) => Some(prefix),
        Some(_) => return Err(line.wrong(word, EXPECTED)),
    };
    Ok(NodeAddress { address, prefix, gateway: None })
}

fn gateway(line: &Line<'_>, word: &str, address: IpAddr) -> Result<IpAddr, ListError> {
    let gateway = of_a_machine(word).filter(|gateway| gateway.is_ipv4() == address.is_ipv4());
    gateway.ok_or_else(|| line.wrong(word, "the default gateway's IP address, of the same family"))
}

/// `ens4=52:54:00:12:34:56`: the node's card that takes the place of the golden node's `ens4`.
fn card(line: &Line<'_>, word: &str) -> Result<(String, Mac), ListError> {
    const EXPECTED: &str = "the golden node's interface and this node's card for it: ens4=52:54:00:12:34:56";
    let parts = word.split_once('=').filter(|(interface, _)| {
        !interface.is_empty() && interface.len() <= 15 && !interface.contains(['/', ':'])
    });
    let (interface, card) = parts.ok_or_else(|| line.wrong(word, EXPECTED))?;
    Ok((interface.to_owned(), card.parse().map_err(|_| line.wrong(word, EXPECTED))?))
}

/// An address that a single machine can have.
fn of_a_machine(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let broadcast = address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    let nobody = address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast;
    (!nobody).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Hosts, String> {
        Hosts::parse(Path::new("hosts"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_table() {
        let text = "# rack 1\n525400000001 node1\n52-54-00-00-00-02 n2.example.org 10.0.0.2 # second\n\
                    525400000003 n3 10.0.0.3/24 10.0.0.254\n\
                    525400000005 n5 10.0.0.5 ens4=5254000000f5 ens5=52:54:00:00:01:f5\n525400000006 n6 ens4=5254000000f6\n";
        let hosts = parse(text).unwrap();
        let of = |mac: &str| hosts.get(mac.parse().unwrap()).cloned();
        let name = |hostname: &str, address| {
            Some(NodeName { hostname: hostname.into(), address, cards: Vec::new() })
        };
        let address = |address: &str, prefix, gateway: Option<&str>| {
            let gateway = gateway.map(|gateway| gateway.parse().unwrap());
            Some(NodeAddress { address: address.parse().unwrap(), prefix, gateway })
        };
        assert_eq!(of("525400000001"), name("node1", None));
        assert_eq!(of("525400000002"), name("n2.example.org", address("10.0.0.2", None, None)));
        assert_eq!(of("525400000003"), name("n3", address("10.0.0.3", Some(24), Some("10.0.0.254"))));
        assert_eq!(of("525400000004"), None);
        let cards = |mac: &str| of(mac).unwrap().cards;
        let card = |interface: &str, mac: &str| (interface.to_owned(), mac.parse().unwrap());
        assert_eq!(cards("525400000005"), [card("ens4", "5254000000f5"), card("ens5", "5254000001f5")]);
        assert_eq!(of("525400000005").unwrap().address, address("10.0.0.5", None, None));
        assert_eq!(cards("525400000006"), [card("ens4", "5254000000f6")]);
    }

    #[test]
    fn an_error_has_its_place() {
        const ADDRESS: &str = "expected an IP address, alone or with its prefix's length (10.0.0.7/24)";
        for (text, message) in [
            ("", "hosts names no machine".to_owned()),
            (
                "node1 525400000001",
                "hosts:1:1: expected a hardware address such as 52:54:00:12:34:56, found 'node1'".into(),
            ),
            ("525400000001", "hosts:1:1: expected the name of '525400000001' behind it".into()),
            (
                "525400000001 a_b/c",
                "hosts:1:14: expected a host name: letters, digits and '-', found 'a_b/c'".into(),
            ),
            ("525400000001 a 10.0.0", format!("hosts:1:16: {ADDRESS}, found '10.0.0'")),
            ("525400000001 a 10.0.0.1/33", format!("hosts:1:16: {ADDRESS}, found '10.0.0.1/33'")),
            ("525400000001 a 127.0.0.1", format!("hosts:1:16: {ADDRESS}, found '127.0.0.1'")),
            (
                "525400000001 a 10.0.0.1 fd00::1",
                "hosts:1:25: expected the default gateway's IP address, of the same family, found 'fd00::1'"
                    .into(),
            ),
            (
                "525400000001 a 10.0.0.1 10.0.0.2 x",
                "hosts:1:34: expected the golden node's interface and this node's card for it: \
                 ens4=52:54:00:12:34:56, found 'x'"
                    .into(),
            ),
            (
                "525400000001 a ens4=525400000001",
                "hosts:1:16: 'ens4=525400000001' is already in line 1".into(),
            ),
            (
                "525400000001 a ens4=525400000002 ens4=525400000003",
                "hosts:1:34: expected each interface once, found 'ens4=525400000003'".into(),
            ),
            ("525400000001 a\n525400000001 b", "hosts:2:1: '525400000001' is already in line 1".into()),
            ("525400000001 a\n\n525400000002 A", "hosts:3:14: 'A' is already in line 1".into()),
            (
                "525400000001 a 10.0.0.1\n525400000002 b 10.0.0.1/8",
                "hosts:2:16: '10.0.0.1/8' is already in line 1".into(),
            ),
        ] {
            assert_eq!(parse(text), Err(message), "{text}");
        }
        let missing = Hosts::read(Path::new("/nonexistent/hosts")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the table of hosts /nonexistent/hosts");
    }
}
