//! Checks by ARP whether an address is in use before it is taken (RFC 2131, 2.2; RFC 5227).
//!
//! A server may have lost its leases, or a machine may have a manual address: two machines with one address
//! would both drop out of the chain without a visible reason.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};

use ka::mac::Mac;
use ka_host::rtnetlink::{Link, Netlink};
use ka_host::sys::packet::{arp_socket, send_arp};

/// How long to listen after each probe. A neighbour answers within a millisecond; a packet may get lost.
const LISTEN: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(300)];

/// The length of an ARP packet for IPv4 on Ethernet (RFC 826).
const LENGTH: usize = 28;
/// Ethernet, IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];

/// The machine that uses `address` on the network of `link`, if any answers. Without a packet socket the
/// address counts as free.
pub(super) fn user_of(address: Ipv4Addr, link: &Link, mac: Mac) -> Option<Mac> {
    look_for(address, link, mac)
        .inspect_err(|e| log::debug!("{}: cannot ask who uses {address}: {e}", link.name))
        .ok()
        .flatten()
}

fn look_for(address: Ipv4Addr, link: &Link, mac: Mac) -> io::Result<Option<Mac>> {
    // A second card of this machine on the same wire may answer for all of its addresses.
    let own: Vec<Mac> = Netlink::open()?.links()?.into_iter().filter_map(|link| link.mac).collect();
    let socket = arp_socket(link.index)?;
    for listen in LISTEN {
        send_arp(&socket, link.index, &question(address, mac))?;
        let end = Instant::now() + listen;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
            let mut buffer = [0; 64];
            match read(&socket, &mut buffer) {
                Ok(length) => {
                    let heard = buffer.get(..length).unwrap_or_default();
                    if let Some(other) = claim(heard, address).filter(|other| !own.contains(other)) {
                        return Ok(Some(other));
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(None)
}

/// An ARP probe for `address`, from a machine without an address.
fn question(address: Ipv4Addr, mac: Mac) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[..6].copy_from_slice(&KIND);
    packet[6..8].copy_from_slice(&REQUEST);
    packet[8..14].copy_from_slice(&mac.0);
    packet[24..].copy_from_slice(&address.octets());
    packet
}

/// The machine that claims `address` in this packet. Probes from 0.0.0.0 are ignored, although RFC 5227
/// counts them: switches that track addresses per port send such probes for the address that our own network
/// ROM had.
fn claim(packet: &[u8], address: Ipv4Addr) -> Option<Mac> {
    let packet = packet.get(..LENGTH).filter(|packet| packet[..6] == KIND)?;
    let sender = Mac(*packet[8..].first_chunk()?);
    (packet[14..18] == address.octets()).then_some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    const THEM: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    #[test]
    fn the_question_is_a_probe() {
        let mut expected = vec![0, 1, 8, 0, 6, 4, 0, 1];
        expected.extend(US.0);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 7]);
        assert_eq!(question(ADDRESS, US)[..], expected);
    }

    #[test]
    fn who_has_the_address_claims_it_and_nobody_else() {
        let packet = |kind: u8, from: [u8; 4], asked: [u8; 4]| {
            let mut packet = question(Ipv4Addr::from(asked), THEM);
            packet[7] = kind;
            packet[14..18].copy_from_slice(&from);
            packet
        };
        for (kind, from, asked, claims) in [
            // An answer; a request by its owner; the same for another address.
            (2, [10, 0, 0, 7], [0; 4], true),
            (1, [10, 0, 0, 7], [10, 0, 0, 9], true),
            (2, [10, 0, 0, 9], [0; 4], false),
            (1, [10, 0, 0, 9], [10, 0, 0, 7], false),
            // A switch that tracks addresses per port.
            (1, [0; 4], [10, 0, 0, 7], false),
        ] {
            let packet = packet(kind, from, asked);
            assert_eq!(claim(&packet, ADDRESS), claims.then_some(THEM), "{packet:?}");
            assert_eq!(claim(&packet[..27], ADDRESS), None);
            let mut other = packet;
            other[5] = 6;
            assert_eq!(claim(&other, ADDRESS), None, "no IPv4 on Ethernet");
        }
    }
}
