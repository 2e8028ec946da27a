//! A DHCP client: obtains an address for an interface, and keeps it while the node works.
//!
//! [`acquire`] obtains an address through a packet socket, since servers may send to the offered address.
//! [`renew`] keeps it through an ordinary UDP socket. Nothing is released at the end: the clone that boots
//! next is the same machine.

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

/// A card and its DHCP server; `None` for a fixed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The index of its interface.
    pub(super) card: u32,
    pub(super) server: Option<Ipv4Addr>,
}

impl Lease {
    /// The network that this lease belongs to.
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
        /// How long it waited.
        seconds: u64,
    },
    /// Servers offered, but granted nothing.
    #[error("DHCP on {interface}: {server} offered {address} and then {reason}")]
    Refused {
        /// The interface, or all of them.
        interface: String,
        /// The server.
        server: Ipv4Addr,
        /// The offered address.
        address: Ipv4Addr,
        /// What it did then.
        reason: String,
    },
    /// The socket failed.
    #[error("DHCP on {interface}: {error}")]
    Socket {
        /// The interface.
        interface: String,
        /// The kernel's error.
        error: io::Error,
    },
}

/// Parses a datagram and evaluates its timers.
pub(super) fn try_answer(datagram: &[u8], mac: Mac, xid: u32) {
    if let Some(Answer::Offer(lease) | Answer::Ack(lease)) = message::answer(datagram, mac, xid)
        && let Some(timers) = lease.timers
    {
        timers.due(Duration::from_secs(1), None);
    }
}
