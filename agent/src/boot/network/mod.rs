//! From a machine with cards to a machine with an address.

mod dhcp;
pub(crate) mod rtnetlink;
pub mod socket;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use super::cmdline::{Addressing, CommandLine, Interface};
use dhcp::{Client, DhcpError, Renewal};
use ka::mac::Mac;
use rtnetlink::{Link, Netlink};

/// How long a card may take to appear and to see a carrier. Autonegotiation takes 2 to 4 s; a switch that
/// reboots with the rack takes a minute.
const CARRIER_PATIENCE: Duration = Duration::from_secs(60);

const TCP_TIMESTAMPS: &str = "/proc/sys/net/ipv4/tcp_timestamps";

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Reads a datagram as an answer to the exchange `xid`, for a fuzzer.
#[doc(hidden)]
pub fn try_dhcp_answer(datagram: &[u8], mac: Mac, xid: u32) {
    dhcp::try_answer(datagram, mac, xid);
}

/// The network as the node uses it. As long as one clone of it lives, its DHCP lease is renewed.
#[derive(Clone, Debug)]
pub struct Network {
    /// The kernel's name of the interface.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// The default route's gateway, if there is one.
    pub gateway: Option<Ipv4Addr>,
    /// The name that the DHCP server has for this machine.
    pub hostname: Option<String>,
    /// The server that the DHCP server names for the next step of the boot.
    pub next_server: Option<Ipv4Addr>,
    _renewal: Option<Arc<Renewal>>,
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No interface fits what the command line asks for.
    #[error("no network interface {wanted} within {} s; there are: {present}", CARRIER_PATIENCE.as_secs())]
    NoInterface {
        /// What was asked for.
        wanted: String,
        /// What there is.
        present: String,
    },
    /// An interface fits, but its cable is dead.
    #[error("no carrier on {interfaces} within {} s: check cable and switch", CARRIER_PATIENCE.as_secs())]
    NoCarrier {
        /// The interfaces that were tried.
        interfaces: String,
    },
    /// DHCP gave no address.
    #[error(transparent)]
    Dhcp(#[from] DhcpError),
    /// The kernel refused.
    #[error("{what}: {error}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Chooses the interface, waits for its carrier, and gives it an address as the command line says. `look_again` is
/// called while there is no fitting interface: a chance to load drivers for devices that came late.
///
/// # Errors
/// [`NetworkError`] says which of these did not work.
pub fn bring_up(line: &CommandLine, mut look_again: impl FnMut()) -> Result<Network, NetworkError> {
    let mut netlink = Netlink::open().map_err(kernel("rtnetlink"))?;
    loopback_up(&mut netlink)?;
    let wanted = Wanted::from(line);
    let link = wait_for_link(&mut netlink, &wanted, &mut look_again)?;
    let Some(mac) = link.mac else { return Err(wanted.nobody(&[link])) };
    log::info!("network interface {} ({mac})", link.name);
    match line.addressing {
        Addressing::Static(fixed) => {
            let setting = Setting { address: fixed.address, prefix: fixed.prefix, gateway: fixed.gateway };
            setting.apply(&mut netlink, &link).map_err(kernel(format!("address of {}", link.name)))?;
            Ok(Network {
                interface: link.name,
                mac,
                address: fixed.address,
                prefix: fixed.prefix,
                gateway: fixed.gateway,
                hostname: None,
                next_server: None,
                _renewal: None,
            })
        }
        Addressing::Dhcp => {
            let client = Client::new(link.name.clone(), mac);
            let (lease, since) = client.acquire()?;
            lease.setting.apply(&mut netlink, &link).map_err(kernel(format!("address of {}", link.name)))?;
            Ok(Network {
                interface: link.name.clone(),
                mac,
                address: lease.setting.address,
                prefix: lease.setting.prefix,
                gateway: lease.setting.gateway,
                hostname: lease.hostname.clone(),
                next_server: lease.next_server,
                _renewal: Renewal::start(client, link, lease, since)
                    .map_err(kernel("thread that renews the lease"))?
                    .map(Arc::new),
            })
        }
    }
}

/// Takes the timestamps out of this system's TCP (RFC 7323): 12 bytes in each segment of 1460, so that a line carries
/// 0.8 % more. They protect connections of more than 4 GiB from segments that come seconds late, and blocks are sealed.
pub fn without_timestamps() {
    if let Err(error) = fs::write(TCP_TIMESTAMPS, "0") {
        log::warn!("{TCP_TIMESTAMPS}: {error}: data comes 0.8 % slower than the line could carry it");
    }
}

/// What an interface is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
}

impl Setting {
    fn apply(&self, netlink: &mut Netlink, link: &Link) -> io::Result<()> {
        netlink.add_address(link.index, self.address, self.prefix)?;
        if let Some(gateway) = self.gateway {
            let mask = prefix_mask(self.prefix).to_bits();
            let on_link = gateway.to_bits() & mask != self.address.to_bits() & mask;
            netlink.set_gateway(link.index, gateway, on_link)?;
        }
        let gateway = self.gateway.map_or_else(|| "no gateway".to_owned(), |g| format!("gateway {g}"));
        log::info!("{}: address {}/{}, {gateway}", link.name, self.address, self.prefix);
        Ok(())
    }
}

/// Which links may be used.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Mac(Mac),
    Name(String),
    Any,
}

impl From<&CommandLine> for Wanted {
    fn from(line: &CommandLine) -> Self {
        match (line.bootif, &line.interface) {
            (Some(mac), _) => Self::Mac(mac),
            (None, Interface::Name(name)) => Self::Name(name.clone()),
            (None, Interface::Auto) => Self::Any,
        }
    }
}

impl Wanted {
    fn fits(&self, link: &Link) -> bool {
        match self {
            _ if link.mac.is_none() => false,
            Self::Mac(mac) => link.mac == Some(*mac),
            Self::Name(name) => link.name == *name,
            Self::Any => true,
        }
    }

    fn nobody(&self, links: &[Link]) -> NetworkError {
        let wanted = match self {
            Self::Mac(mac) => format!("with the address {mac} (BOOTIF)"),
            Self::Name(name) => format!("of the name {name}"),
            Self::Any => "for Ethernet".to_owned(),
        };
        let present: Vec<String> =
            links.iter().filter_map(|link| Some(format!("{} ({})", link.name, link.mac?))).collect();
        let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
        NetworkError::NoInterface { wanted, present }
    }
}

fn wait_for_link(
    netlink: &mut Netlink,
    wanted: &Wanted,
    look_again: &mut impl FnMut(),
) -> Result<Link, NetworkError> {
    let deadline = Instant::now() + CARRIER_PATIENCE;
    let mut raised: Vec<u32> = Vec::new();
    loop {
        let links = netlink.links().map_err(kernel("list of network interfaces"))?;
        let fitting: Vec<&Link> = links.iter().filter(|link| wanted.fits(link)).collect();
        if let Some(link) = fitting.iter().find(|link| link.carrier) {
            return Ok((*link).clone());
        }
        for link in &fitting {
            if raised.contains(&link.index) {
                continue;
            }
            raised.push(link.index);
            // A card without firmware, say. Others may do.
            if let Err(e) = netlink.set_up(link.index) {
                log::warn!("{}: can't be switched on: {e}", link.name);
            }
        }
        if Instant::now() >= deadline {
            let names: Vec<&str> = fitting.iter().map(|link| link.name.as_str()).collect();
            return Err(match names.as_slice() {
                [] => wanted.nobody(&links),
                names => NetworkError::NoCarrier { interfaces: names.join(", ") },
            });
        }
        if fitting.is_empty() {
            look_again();
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn loopback_up(netlink: &mut Netlink) -> Result<(), NetworkError> {
    let links = netlink.links().map_err(kernel("list of network interfaces"))?;
    match links.iter().find(|link| link.name == "lo") {
        Some(lo) => netlink.set_up(lo.index).map_err(kernel("interface lo")),
        None => Ok(()),
    }
}

fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
    move |error| NetworkError::Kernel { what: what.into(), error }
}

/// The mask of a prefix length; lengths above 32 count as 32.
pub(super) fn prefix_mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0))
}

/// The prefix length of a mask, if it is ones followed by zeros.
pub(super) fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    let prefix = u8::try_from(ones).ok()?;
    (prefix_mask(prefix) == mask).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, mac: Option<u8>) -> Link {
        Link { index, name: name.to_owned(), mac: mac.map(|b| Mac([b; 6])), permanent: None, carrier: false }
    }

    #[test]
    fn bootif_wins_over_the_name() {
        let mut line = super::super::cmdline::parse("automatic=interface:eth0").unwrap();
        let (lo, eth0, eth1) = (link(1, "lo", None), link(2, "eth0", Some(1)), link(3, "eth1", Some(2)));
        let fitting = |line: &CommandLine| {
            let wanted = Wanted::from(line);
            [&lo, &eth0, &eth1]
                .into_iter()
                .filter(|link| wanted.fits(link))
                .map(|l| l.index)
                .collect::<Vec<_>>()
        };
        assert_eq!(fitting(&line), [2]);
        line.bootif = Some(Mac([2; 6]));
        assert_eq!(fitting(&line), [3]);
        line.bootif = Some(Mac([3; 6]));
        assert_eq!(fitting(&line), Vec::<u32>::new());
        let error = Wanted::from(&line).nobody(&[lo.clone(), eth0.clone()]).to_string();
        assert!(error.contains("03:03:03:03:03:03") && error.contains("eth0 (01:"), "{error}");
        line = super::super::cmdline::parse("").unwrap();
        assert_eq!(fitting(&line), [2, 3]);
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
