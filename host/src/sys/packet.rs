//! A packet socket that hears what servers send to a DHCP client (packet(7), `linux/filter.h`).

// The kernel's constants are ints in libc, and its structures take them in fewer bits.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

/// The UDP port of a DHCP client.
const CLIENT_PORT: u32 = 68;

/// UDP to the client's port, whole, and not for another machine. Offsets count from the IP header. The kernel counts a
/// frame with the tag of a VLAN that is not set up here as another machine's.
const FILTER: [libc::sock_filter; 11] = [
    load(libc::BPF_B, (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32),
    jump(libc::BPF_JEQ, libc::PACKET_OTHERHOST as u32, 8, 0),
    load(libc::BPF_B, 9),
    jump(libc::BPF_JEQ, libc::IPPROTO_UDP as u32, 0, 6),
    // More fragments follow, or this is not the first one.
    load(libc::BPF_H, 6),
    jump(libc::BPF_JSET, 0x3fff, 4, 0),
    // The index register takes the length of the IP header.
    code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0),
    code(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 2),
    jump(libc::BPF_JEQ, CLIENT_PORT, 0, 1),
    code(libc::BPF_RET | libc::BPF_K, 0xffff),
    code(libc::BPF_RET | libc::BPF_K, 0),
];

/// A socket that hears the datagrams to a DHCP client on the interface of that index, whatever address they are for:
/// a server may send its offer to the address that it offers, which the interface does not have yet. A read gives an
/// IP packet, or EAGAIN.
///
/// # Errors
/// The kernel's: EPERM without CAP_NET_RAW, EAFNOSUPPORT if it has no packet sockets.
pub fn dhcp_listener(index: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0 hears nothing until the socket is bound, so that nothing comes in before the filter.
    // SAFETY: no pointers; the outcome is checked before it is used as a descriptor.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is fresh and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    attach(&socket)?;
    bind(&socket, index)?;
    Ok(socket)
}

fn attach(socket: &OwnedFd) -> io::Result<()> {
    let mut filter = FILTER;
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to `filter`, and both live until the call returns; the kernel copies the filter, only
    // reads it, and checks it.
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

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: `address` is a sockaddr_ll of the length given, and lives until the call returns.
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
