//! Brings up the network: from a machine with cards to a machine with an address.

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

/// How long a card may take to appear and to get a carrier. Autonegotiation takes 2 to 4 s; a switch that
/// reboots with the rack takes a minute.
const CARRIER_PATIENCE: Duration = Duration::from_secs(60);

const TCP_TIMESTAMPS: &str = "/proc/sys/net/ipv4/tcp_timestamps";

/// How long a network may block traffic after its carrier appears: a switch port with spanning tree takes 30
/// to 50 s. Nothing that needs the network gives up earlier.
pub(super) const SILENT_PORT: Duration = Duration::from_secs(60);

/// Parses a datagram as an answer to the exchange `xid`, for a fuzzer.
#[doc(hidden)]
pub fn try_dhcp_answer(datagram: &[u8], mac: Mac, xid: u32) {
    dhcp::try_answer(datagram, mac, xid);
}

/// The node's network. Its DHCP lease is renewed until the last clone of this value is dropped.
#[derive(Clone, Debug)]
pub struct Network {
    /// The kernel's name of the interface.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// The prefix length.
    pub prefix: u8,
    /// The default gateway, if any.
    pub gateway: Option<Ipv4Addr>,
    /// The host name that the DHCP server assigns to this machine.
    pub hostname: Option<String>,
    /// The DHCP server's next-server address.
    pub next_server: Option<Ipv4Addr>,
    link: Link,
    setting: Setting,
    way: Way,
    _renewal: Option<Arc<Renewal>>,
}

impl Network {
    /// Its card.
    #[must_use]
    pub fn uplink(&self) -> Uplink {
        Uplink {
            interface: self.interface.clone(),
            mac: self.mac,
            address: self.address,
            hostname: self.hostname.clone(),
        }
    }

    /// For messages: the address with its interface and its source.
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
    /// No interface matches the command line.
    #[error("no network interface {wanted} appeared within {} s; present: {present}", CARRIER_PATIENCE.as_secs())]
    NoInterface {
        /// What was requested.
        wanted: String,
        /// What exists.
        present: String,
    },
    /// An interface matches, but has no carrier.
    #[error("no carrier on {interfaces} within {} s: check cable and switch", CARRIER_PATIENCE.as_secs())]
    NoCarrier {
        /// The interfaces that were tried.
        interfaces: String,
    },
    /// DHCP granted no address.
    #[error(transparent)]
    Dhcp(#[from] DhcpError),
    /// Every interface and every server has been tried.
    #[error("no other network interface has a carrier, and no other DHCP server answers")]
    NoOther,
    /// A kernel call failed.
    #[error("{what}: {error}")]
    Kernel {
        /// The operation.
        what: String,
        /// The kernel's error.
        error: io::Error,
    },
}

/// Selects the interface, waits for its carrier, and configures its address as the command line says.
/// `look_again` is called while no interface matches: a chance to load drivers for devices that appear late.
///
/// # Errors
/// [`NetworkError`] says which step failed.
pub fn bring_up(line: &CommandLine, mut look_again: impl FnMut()) -> Result<Network, NetworkError> {
    Networks::open(line)?.next(&mut look_again)
}

/// Disables TCP timestamps on this system (RFC 7323): they take 12 of 1460 bytes per segment, so the line
/// carries 0.8 % more data without them. They protect connections of more than 4 GiB from segments that
/// arrive seconds late, but our blocks are sealed.
pub fn without_timestamps() {
    if let Err(error) = fs::write(TCP_TIMESTAMPS, "0") {
        log::warn!("{TCP_TIMESTAMPS}: {error}: the transfer will be 0.8 % slower than the line allows");
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
