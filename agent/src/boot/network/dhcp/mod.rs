//! A DHCP client: an address for an interface that has none, kept for as long as the node works.
//!
//! [`acquire`] gets an address: it hears by a packet socket, as servers may send to the address that they offer.
//! [`renew`] keeps it: then a plain UDP socket will do. Nothing is released at the end: the clone that boots next is the
//! same machine.

mod acquire;
mod machine;
mod message;
mod options;
mod renew;
mod timers;
mod wire;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) use acquire::{Asker, Granted};
use ka::mac::Mac;
use message::Answer;
pub(super) use message::Lease;
pub(super) use renew::Renewal;

/// A card, and the server that it gets its address from; none for a fixed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The index of its interface.
    pub(super) card: u32,
    pub(super) server: Option<Ipv4Addr>,
}

impl Lease {
    /// The way to the network that this lease is.
    pub(super) fn way(&self, card: u32) -> Way {
        Way { card, server: Some(self.server) }
    }
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DhcpError {
    /// No server offered anything.
    #[error(
        "no DHCP server answered on {interface} within {seconds} s: is there one in this network, and does the switch \
         port pass traffic?"
    )]
    NoAnswer {
        /// The interface, or all of them.
        interface: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Servers offered, but granted nothing.
    #[error("DHCP on {interface}: {server} offered {address} and then {reason}")]
    Refused {
        /// The interface, or all of them.
        interface: String,
        /// The server.
        server: Ipv4Addr,
        /// What it had offered.
        address: Ipv4Addr,
        /// What it did then.
        reason: String,
    },
    /// The socket failed.
    #[error("DHCP on {interface}: {error}")]
    Socket {
        /// The interface.
        interface: String,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Reads a datagram, and reckons with the times that it gives.
pub(super) fn try_answer(datagram: &[u8], mac: Mac, xid: u32) {
    if let Some(Answer::Offer(lease) | Answer::Ack(lease)) = message::answer(datagram, mac, xid)
        && let Some(timers) = lease.timers
    {
        timers.due(Duration::from_secs(1), None);
    }
}
