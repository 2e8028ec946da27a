//! The boot server with the rights that it needs, whoever starts it.
//!
//! It is root's process, that talks to machines nobody knows. What it gives up here, its children cannot get either.

use std::fs;
use std::io;

use rustix::process::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// What stays: to give dnsmasq a directory (`CHOWN`, `FOWNER`), a user (`SETUID`, `SETGID`) and few rights (`SETPCAP`), and
/// to end it (`KILL`); and what dnsmasq itself has: low ports, ARP entries and the limits of TFTP, packets on one interface.
pub const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW);

/// Gives up all other rights, of this thread and of those that it starts from now on.
///
/// # Errors
/// What the system said; some may be given up already.
pub fn keep_needed() -> io::Result<()> {
    set_no_new_privs(true)?;
    if !geteuid().is_root() {
        return Ok(());
    }
    // The bounding set first: to change it is a right as well, and a program that root starts gets all that is in it.
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    let last: u32 = last.trim().parse().map_err(io::Error::other)?;
    for number in 0..=last.min(63) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if !NEEDED.contains(one) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    let now = capabilities(None)?;
    let kept = now.permitted & NEEDED;
    Ok(set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?)
}
