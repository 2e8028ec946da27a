//! Packet sockets: one that receives what servers send to a DHCP client, and one for ARP (packet(7),
//! `linux/filter.h`).

// The kernel's constants are ints in libc, and its structs store them in fewer bits.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

/// The size of a UDP header.
const UDP_HEADER: usize = 8;

/// The UDP port of a DHCP client.
const CLIENT_PORT: u32 = 68;

/// Accepts whole UDP datagrams to the client's port, addressed to this machine. Offsets count from the IP
/// header. The kernel marks a frame with a VLAN tag that is not configured here as addressed to another
/// machine.
const FILTER: [libc::sock_filter; 11] = [
    load(libc::BPF_B, (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32),
    jump(libc::BPF_JEQ, libc::PACKET_OTHERHOST as u32, 8, 0),
    load(libc::BPF_B, 9),
    jump(libc::BPF_JEQ, libc::IPPROTO_UDP as u32, 0, 6),
    // More fragments follow, or this is not the first one.
    load(libc::BPF_H, 6),
    jump(libc::BPF_JSET, 0x3fff, 4, 0),
    // Loads the length of the IP header into the index register.
    code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0),
    code(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 2),
    jump(libc::BPF_JEQ, CLIENT_PORT, 0, 1),
    code(libc::BPF_RET | libc::BPF_K, 0xffff),
    code(libc::BPF_RET | libc::BPF_K, 0),
];

/// A socket that receives datagrams for a DHCP client on the interface with this index, whatever their
/// destination address: a server may send its offer to the offered address, which the interface does not have
/// yet. A read returns an IP packet, or EAGAIN.
///
/// # Errors
/// The kernel's error: EPERM without CAP_NET_RAW, EAFNOSUPPORT without packet sockets.
pub fn dhcp_listener(index: u32) -> io::Result<OwnedFd> {
    let socket = packet_socket()?;
    attach(&socket)?;
    bind(&socket, index, libc::ETH_P_IP)?;
    Ok(socket)
}

/// A socket for ARP on the interface with this index. A read returns an ARP packet, or EAGAIN.
///
/// # Errors
/// As for [`dhcp_listener`].
pub fn arp_socket(index: u32) -> io::Result<OwnedFd> {
    let socket = packet_socket()?;
    bind(&socket, index, libc::ETH_P_ARP)?;
    Ok(socket)
}

/// Broadcasts an ARP packet on the network of this interface.
///
/// # Errors
/// The kernel's error.
pub fn send_arp(socket: &OwnedFd, index: u32, packet: &[u8]) -> io::Result<()> {
    let mut to = address(index, libc::ETH_P_ARP)?;
    (to.sll_halen, to.sll_addr) = (6, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    // SAFETY: `packet` and `to`, a sockaddr_ll of the given length, live until the call returns, and are only
    // read.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0 receives nothing until the socket is bound, so no packet arrives before the filter is set.
    // SAFETY: no pointers; the result is checked before it is used as a descriptor.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The payload of an IP packet with a UDP datagram; `None` if it is truncated. Padding of a short Ethernet
/// frame is not part of it. Checksums are not verified: a packet from this machine has none yet, since its
/// card would compute it.
#[must_use]
pub fn udp_data(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let udp = packet.get(header..)?;
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    udp.get(UDP_HEADER..length)
}

fn attach(socket: &OwnedFd) -> io::Result<()> {
    let mut filter = FILTER;
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to `filter`, and both live until the call returns; the kernel only reads,
    // checks and copies the filter.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    checked(outcome)
}

fn address(index: u32, protocol: i32) -> io::Result<libc::sockaddr_ll> {
    Ok(libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    })
}

fn bind(socket: &OwnedFd, index: u32, protocol: i32) -> io::Result<()> {
    let address = address(index, protocol)?;
    // SAFETY: `address` is a sockaddr_ll of the given length, and lives until the call returns.
    let outcome = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    checked(outcome)
}

fn checked(outcome: i32) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const fn load(size: u32, offset: u32) -> libc::sock_filter {
    code(libc::BPF_LD | size | libc::BPF_ABS, offset)
}

const fn code(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(test: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_a_datagram_is_found() {
        let mut packet = vec![0; 24];
        packet[0] = 0x46;
        packet.extend_from_slice(&[0, 67, 0, 68, 0, 11, 0, 0, 1, 2, 3, 0, 0]);
        assert_eq!(udp_data(&packet), Some(&[1, 2, 3][..]));
        for length in 0..35 {
            assert_eq!(udp_data(&packet[..length]), None, "{length}");
        }
        packet[24 + 5] = 7;
        assert_eq!(udp_data(&packet), None, "shorter than its header");
    }
}
