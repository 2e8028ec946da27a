//! The interface to serve on: only one that a person has named.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ka::ipv4::AddressRange;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::config::pxe::{Pxe, Subnet};
use crate::config::read::Located;

/// An interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's name.
    pub name: String,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// Its IPv4 addresses with their netmasks.
    pub addresses: Vec<Network>,
}

/// An address of an interface, and its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address.
    pub address: Ipv4Addr,
    /// The network's mask.
    pub netmask: Ipv4Addr,
}

/// The addresses to assign on one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The range.
    pub range: AddressRange,
    /// The network's mask.
    pub netmask: Ipv4Addr,
    /// The router to announce.
    pub router: Option<Ipv4Addr>,
}

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// None was named, and none is ever guessed: a second DHCP server can stop a whole site.
    #[error(
        "no interface was given: name one with --interface, or in the configuration's [pxe]; there are {}",
        list(found)
    )]
    None {
        /// The existing interfaces.
        found: Vec<Interface>,
    },
    /// The interface does not exist.
    #[error("there is no interface {name}; there are {}", list(found))]
    Unknown {
        /// The requested name.
        name: String,
        /// The existing interfaces.
        found: Vec<Interface>,
    },
    /// It is the loopback interface.
    #[error("{name} is the loopback interface: no other machine is on it")]
    Loopback {
        /// The requested name.
        name: String,
    },
    /// It has no IPv4 address.
    #[error("interface {name} has no IPv4 address: give it one with `ip addr add ADDRESS/PREFIX dev {name}`")]
    NoAddress {
        /// The requested name.
        name: String,
    },
    /// It does not have this address.
    #[error("interface {name} does not have the address {address}; it has {}", addresses(has))]
    NotItsAddress {
        /// The interface.
        name: String,
        /// The requested address.
        address: Ipv4Addr,
        /// Its addresses.
        has: Vec<Network>,
    },
    /// The range belongs to another network.
    #[error("the range {range} is not within the network of {name}, {}", addresses(&[*network]))]
    Range {
        /// The interface.
        name: String,
        /// The requested range.
        range: AddressRange,
        /// The interface's network.
        network: Network,
    },
    /// The network has no room for nodes.
    #[error("the network of {name}, {}, has no address for a node", addresses(&[*network]))]
    Full {
        /// The interface.
        name: String,
        /// The interface's network.
        network: Network,
    },
    /// The router is not a host of the network.
    #[error("the router {router} is not another host in the network of {name}, {}", addresses(&[*network]))]
    Router {
        /// The interface.
        name: String,
        /// The requested router.
        router: Ipv4Addr,
        /// The interface's network.
        network: Network,
    },
    /// The router's address is within the range.
    #[error("the router {router} is within the range {range}: DHCP would give its address to a machine")]
    RouterGivenAway {
        /// The router.
        router: Ipv4Addr,
        /// The range, given or chosen.
        range: AddressRange,
    },
    /// The network is not behind a relay.
    #[error("the network {} is not behind a relay: {name} is in it, with {}", subnet.network(), addresses(&[*network]))]
    OwnNetwork {
        /// The interface.
        name: String,
        /// The requested network.
        subnet: Subnet,
        /// The interface's network.
        network: Network,
    },
    /// The networks in the settings do not fit the interface.
    #[error("{}", faults.join("\n"))]
    Settings {
        /// All problems.
        faults: Vec<String>,
    },
    /// The system cannot list the interfaces.
    #[error("cannot list the interfaces")]
    System(#[from] nix::Error),
}

/// Lists the interfaces of this machine.
///
/// # Errors
/// [`InterfaceError::System`].
pub fn all() -> Result<Vec<Interface>, InterfaceError> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        let position = found.iter().position(|i| i.name == entry.interface_name).unwrap_or_else(|| {
            found.push(Interface {
                name: entry.interface_name.clone(),
                loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                addresses: Vec::new(),
            });
            found.len() - 1
        });
        let address = |a: Option<nix::sys::socket::SockaddrStorage>| Some(a?.as_sockaddr_in()?.ip());
        if let (Some(address), Some(netmask)) = (address(entry.address), address(entry.netmask)) {
            found[position].addresses.push(Network { address, netmask });
        }
    }
    Ok(found)
}

/// Selects the interface `name` and the address to serve at.
///
/// # Errors
/// [`InterfaceError`] with the available interfaces.
pub fn pick(
    found: Vec<Interface>,
    name: Option<&str>,
    address: Option<Ipv4Addr>,
) -> Result<(Interface, Network), InterfaceError> {
    let Some(name) = name else { return Err(InterfaceError::None { found }) };
    let name = name.to_owned();
    let Some(interface) = found.iter().find(|i| i.name == name).cloned() else {
        return Err(InterfaceError::Unknown { name, found });
    };
    if interface.loopback {
        return Err(InterfaceError::Loopback { name });
    }
    let mut has = interface.addresses.iter();
    match address {
        None => match has.next() {
            Some(&network) => Ok((interface, network)),
            None => Err(InterfaceError::NoAddress { name }),
        },
        Some(address) => match has.find(|n| n.address == address) {
            Some(&network) => Ok((interface, network)),
            None => Err(InterfaceError::NotItsAddress { name, address, has: interface.addresses }),
        },
    }
}

/// The addresses to assign: `range` if it belongs to this network, else the larger part of the network next
/// to our own address.
///
/// # Errors
/// [`InterfaceError::Range`] or [`InterfaceError::Full`].
pub fn pick_range(
    name: &str,
    network: Network,
    range: Option<AddressRange>,
) -> Result<AddressRange, InterfaceError> {
    let name = name.to_owned();
    let (own, mask) = (network.address.to_bits(), network.netmask.to_bits());
    let (lowest, highest) = ((own & mask).saturating_add(1), (own | !mask).saturating_sub(1));
    if let Some(range) = range {
        let inside = |a: Ipv4Addr| (lowest..=highest).contains(&a.to_bits());
        return if inside(range.first) && inside(range.last) {
            Ok(range)
        } else {
            Err(InterfaceError::Range { name, range, network })
        };
    }
    let (below, above) = (own.saturating_sub(lowest), highest.saturating_sub(own));
    let (first, last) = match (below, above) {
        (0, 0) => return Err(InterfaceError::Full { name, network }),
        _ if below > above => (lowest, own - 1),
        _ => (own + 1, highest),
    };
    Ok(AddressRange { first: Ipv4Addr::from_bits(first), last: Ipv4Addr::from_bits(last) })
}

/// The addresses to assign on the interface's own network, then those behind relays.
///
/// # Errors
/// [`InterfaceError::Settings`] with everything that does not fit the interface, and its location.
pub fn networks(
    name: &str,
    network: Network,
    range: Option<&Located<AddressRange>>,
    pxe: &Pxe,
) -> Result<Vec<Addresses>, InterfaceError> {
    let mut faults = Vec::new();
    let picked = pick_range(name, network, range.map(|range| range.value));
    let fault = |error: InterfaceError| match range {
        Some(range) => range.fault(error),
        None => error.to_string(),
    };
    let picked = picked.map_err(|error| faults.push(fault(error))).ok();
    if let Some(router) = &pxe.router
        && let Err(error) = check_router(name, network, picked, router.value)
    {
        faults.push(router.fault(error));
    }
    faults.extend(before_no_relay(name, network, pxe));
    let (Some(range), true) = (picked, faults.is_empty()) else {
        return Err(InterfaceError::Settings { faults });
    };
    let router = pxe.router.as_ref().map(|router| router.value);
    let own = Addresses { range, netmask: network.netmask, router };
    let relayed = pxe.subnets.iter().map(|subnet| {
        let Subnet { range, netmask, router } = subnet.value;
        Addresses { range, netmask, router: Some(router) }
    });
    Ok(std::iter::once(own).chain(relayed).collect())
}

/// The networks behind relays, each with its router, for a server that assigns no addresses.
///
/// # Errors
/// [`InterfaceError::Settings`] as of [`networks`].
pub fn relayed(name: &str, network: Network, pxe: &Pxe) -> Result<Vec<Network>, InterfaceError> {
    let faults = before_no_relay(name, network, pxe);
    if !faults.is_empty() {
        return Err(InterfaceError::Settings { faults });
    }
    let behind =
        |subnet: &Located<Subnet>| Network { address: subnet.value.router, netmask: subnet.value.netmask };
    Ok(pxe.subnets.iter().map(behind).collect())
}

fn before_no_relay(name: &str, network: Network, pxe: &Pxe) -> Vec<String> {
    let own = |subnet: &&Located<Subnet>| subnet.value.overlaps(network.address, network.netmask);
    let fault = |subnet: &Located<Subnet>| {
        subnet.fault(InterfaceError::OwnNetwork { name: name.to_owned(), subnet: subnet.value, network })
    };
    pxe.subnets.iter().filter(own).map(fault).collect()
}

fn check_router(
    name: &str,
    network: Network,
    range: Option<AddressRange>,
    router: Ipv4Addr,
) -> Result<(), InterfaceError> {
    let mask = network.netmask.to_bits();
    if router.to_bits() & mask != network.address.to_bits() & mask || router == network.address {
        return Err(InterfaceError::Router { name: name.to_owned(), router, network });
    }
    match range {
        Some(range) if range.has(router) => Err(InterfaceError::RouterGivenAway { router, range }),
        _ => Ok(()),
    }
}

fn list(found: &[Interface]) -> String {
    let mut text = String::new();
    for interface in found.iter().filter(|i| !i.loopback) {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a String never fails.
        let _ = write!(text, "{separator}{} ({})", interface.name, addresses(&interface.addresses));
    }
    if text.is_empty() { "none".into() } else { text }
}

fn addresses(networks: &[Network]) -> String {
    let texts: Vec<_> =
        networks.iter().map(|n| format!("{}/{}", n.address, n.netmask.to_bits().count_ones())).collect();
    if texts.is_empty() { "no IPv4 address".into() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    fn network(address: &str, prefix: u32) -> Network {
        let netmask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - prefix).unwrap_or(0));
        Network { address: address.parse().unwrap(), netmask }
    }

    fn found() -> Vec<Interface> {
        let interface =
            |name: &str, addresses| Interface { name: name.into(), loopback: name == "lo", addresses };
        vec![
            interface("lo", vec![network("127.0.0.1", 8)]),
            interface("eth0", vec![network("192.0.2.7", 24), network("10.0.0.1", 8)]),
            interface("eth1", vec![]),
        ]
    }

    #[test]
    fn only_a_named_interface_with_an_address_is_taken() {
        let pick = |name, address: Option<&str>| {
            pick(found(), name, address.map(|a| a.parse().unwrap()))
                .map(|(_, network)| network.address.to_string())
                .map_err(|e| e.to_string())
        };
        assert_eq!(pick(Some("eth0"), None).as_deref(), Ok("192.0.2.7"));
        assert_eq!(pick(Some("eth0"), Some("10.0.0.1")).as_deref(), Ok("10.0.0.1"));
        let there = "there are eth0 (192.0.2.7/24, 10.0.0.1/8), eth1 (no IPv4 address)";
        for (name, address, message) in [
            (None, None, there),
            (Some("eth2"), None, there),
            (Some("eth"), None, "there is no interface eth;"),
            (Some("lo"), None, "loopback"),
            (Some("eth1"), None, "ip addr add"),
            (
                Some("eth0"),
                Some("10.0.0.2"),
                "does not have the address 10.0.0.2; it has 192.0.2.7/24, 10.0.0.1/8",
            ),
        ] {
            let error = pick(name, address).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn ranges_are_of_the_interfaces_network() {
        let pick = |address, prefix, asked: Option<&str>| {
            pick_range("eth0", network(address, prefix), asked.map(range))
                .map(|r| format!("{},{}", r.first, r.last))
                .map_err(|e| e.to_string())
        };
        for (address, prefix, asked, result) in [
            ("10.0.0.1", 24, None, "10.0.0.2,10.0.0.254"),
            ("10.0.0.254", 24, None, "10.0.0.1,10.0.0.253"),
            ("10.0.0.50", 24, None, "10.0.0.51,10.0.0.254"),
            ("10.0.0.1", 30, None, "10.0.0.2,10.0.0.2"),
            ("10.0.0.1", 24, Some("10.0.0.9,10.0.0.9"), "10.0.0.9,10.0.0.9"),
        ] {
            assert_eq!(pick(address, prefix, asked).as_deref(), Ok(result), "{address}/{prefix} {asked:?}");
        }
        for (prefix, asked, message) in [
            (24, Some("10.0.0.9,10.0.1.9"), "not within the network of eth0, 10.0.0.1/24"),
            (24, Some("10.0.0.0,10.0.0.9"), "not within"),
            (32, None, "has no address for a node"),
        ] {
            let error = pick("10.0.0.1", prefix, asked).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn all_that_does_not_fit_the_interface_is_told_at_once() {
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let subnet = Subnet {
            range: range("10.0.0.128,10.0.0.130"),
            netmask: address("255.255.255.128"),
            router: address("10.0.0.129"),
        };
        let pxe = Pxe {
            router: Some(Located::nowhere(address("10.0.1.1"))),
            subnets: vec![Located::nowhere(subnet)],
            ..Pxe::default()
        };
        let range = |text| Located::nowhere(range(text));
        let asked = range("10.0.0.9,10.0.1.9");
        let error = networks("eth0", network("10.0.0.1", 24), Some(&asked), &pxe).unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        for (line, part) in lines.iter().zip([
            "the range 10.0.0.9,10.0.1.9 is not within the network of eth0, 10.0.0.1/24",
            "the router 10.0.1.1 is not another host in the network of eth0, 10.0.0.1/24",
            "the network 10.0.0.128/25 is not behind a relay: eth0 is in it, with 10.0.0.1/24",
        ]) {
            assert_eq!(*line, part);
        }
        assert_eq!(lines.len(), 3, "{error}");

        for (router, part) in
            [("10.0.0.1", "not another host"), ("10.0.0.200", "within the range 10.0.0.2,10.0.0.254")]
        {
            let pxe = Pxe { router: Some(Located::nowhere(address(router))), ..Pxe::default() };
            let error = networks("eth0", network("10.0.0.1", 24), None, &pxe).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn this_machine_has_a_loop() {
        assert!(all().unwrap().iter().any(|i| i.name == "lo" && i.loopback));
    }
}
