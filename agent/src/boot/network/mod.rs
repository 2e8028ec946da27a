//! From a machine with cards to a machine with an address.

mod dhcp;
mod links;
mod networks;
mod probe;
mod setting;
pub mod socket;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

pub use dhcp::DhcpError;
use dhcp::{Renewal, Way};
use ka::cmdline::CommandLine;
use ka::mac::Mac;
use ka_host::hardware::Uplink;
use ka_host::rtnetlink::{Link, Netlink};
pub use networks::Networks;
use setting::Setting;

/// How long a card may take to appear and to see a carrier. Autonegotiation takes 2 to 4 s; a switch that
/// reboots with the rack takes a minute.
const CARRIER_PATIENCE: Duration = Duration::from_secs(60);

const TCP_TIMESTAMPS: &str = "/proc/sys/net/ipv4/tcp_timestamps";

/// How long a network may pass nothing after its carrier is there: a switch port with spanning tree takes 30 to 50 s.
/// Nothing that needs the network gives up before.
pub(super) const SILENT_PORT: Duration = Duration::from_secs(60);

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
    link: Link,
    setting: Setting,
    way: Way,
    _renewal: Option<Arc<Renewal>>,
}

impl Network {
    /// The card that it uses.
    #[must_use]
    pub fn uplink(&self) -> Uplink {
        Uplink {
            interface: self.interface.clone(),
            mac: self.mac,
            address: self.address,
            hostname: self.hostname.clone(),
        }
    }

    /// What a person calls it: the address with its interface, and who gave it.
    #[must_use]
    pub fn name(&self) -> String {
        let from = self.way.server.map(|server| format!(" from {server}")).unwrap_or_default();
        format!("{} on {}{from}", self.address, self.interface)
    }
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
    /// Every interface and every server has been tried.
    #[error("there is no other network interface with a carrier, and no other DHCP server")]
    NoOther,
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
    Networks::open(line)?.next(&mut look_again)
}

/// Takes the timestamps out of this system's TCP (RFC 7323): 12 bytes in each segment of 1460, so that a line carries
/// 0.8 % more. They protect connections of more than 4 GiB from segments that come seconds late, and blocks are sealed.
pub fn without_timestamps() {
    if let Err(error) = fs::write(TCP_TIMESTAMPS, "0") {
        log::warn!("{TCP_TIMESTAMPS}: {error}: data comes 0.8 % slower than the line could carry it");
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
